"""Subsets, augmentation and batches: pure functions of their seeds, exact where pixels only move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featurespeed.data.augment import Augmentation, AugmentationDraws, apply, draw_augmentation
from featurespeed.data.batches import BatchStream
from featurespeed.data.subset import stratified_subset
from featurespeed.randomness import generator

COUNT, SIDE = 53, 8
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIDE, SIDE), dtype=np.uint8))
LABELS = torch.arange(COUNT) % 10
BOTH = Augmentation(crop=2, flip=True)


def stream(seeds=(0, 1), batch_size: int | None = 10, **options) -> BatchStream:
    return BatchStream(IMAGES, LABELS, seeds=seeds, batch_size=batch_size, dtype=torch.float64, **options)


def raw(images: torch.Tensor, of: BatchStream) -> torch.Tensor:
    """Standardised images as pixels in 0..255 again."""
    return (images * of.std + of.mean) * 255


# --- subsets ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), share=st.floats(0.01, 1), seed=st.integers(0, 2**62)
)
def test_a_subset_is_ascending_of_the_size_asked_for_and_keeps_the_shares(labels, share, seed):
    labels = np.array(labels)
    count = max(1, int(share * len(labels)))
    chosen = stratified_subset(labels, count, seed)
    assert chosen.dtype == np.int64 and len(chosen) == count and (np.diff(chosen) > 0).all()
    exact = np.bincount(labels) * count / len(labels)
    assert (np.abs(np.bincount(labels[chosen], minlength=len(exact)) - exact) < 1).all()


def test_a_balanced_set_gives_equal_classes():
    labels = np.arange(1000) % 10
    assert np.bincount(labels[stratified_subset(labels, 200, seed=3)]).tolist() == [20] * 10


def test_subsets_differ_by_seed_only():
    labels = np.arange(1000) % 10
    one, again, other = (stratified_subset(labels, 100, seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()


def test_a_subset_is_the_same_with_every_version_of_numpy():
    assert stratified_subset(np.arange(40) % 4, 6, seed=5).tolist() == [18, 20, 21, 28, 30, 35]


@pytest.mark.parametrize("count", [0, 11, -1])
def test_a_subset_larger_than_the_data_or_empty_is_refused(count):
    with pytest.raises(ValueError, match=f"a subset of {count} of 10 examples: must be 1 to 10"):
        stratified_subset(np.zeros(10, int), count, seed=0)


# --- augmentation -----------------------------------------------------------------------------------------------------


def moved(image: torch.Tensor, pad: int, offset: tuple[int, int], flip: bool) -> torch.Tensor:
    """Crop and flip of one image [C, H, W], pixel by pixel."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            source = (width - 1 - j) if flip else j
            row, column = i + offset[0] - pad, source + offset[1] - pad
            if 0 <= row < height and 0 <= column < width:
                out[:, i, j] = image[:, row, column]
    return out


@pytest.mark.parametrize("augmentation", [Augmentation(crop=2), Augmentation(flip=True), Augmentation(3, True)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_and_flip_move_whole_pixels_and_pad_with_black(augmentation, dtype):
    images = IMAGES[:12, :, :, :6].to(dtype)  # not square
    draws = draw_augmentation(augmentation, 12, generator(0, "test"))
    result = apply(images, draws)
    assert result.dtype == dtype
    for n in range(12):
        expected = moved(images[n], augmentation.crop, tuple(draws.offsets[n].tolist()), bool(draws.flips[n]))
        assert torch.equal(result[n], expected)


def rotation(degrees: float, count: int) -> AugmentationDraws:
    zeros = torch.zeros(count, 2, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
    return AugmentationDraws(Augmentation(rotation=180), *zeros, torch.full((count,), degrees))


@pytest.mark.parametrize("turns", [1, -1, 2])
def test_positive_angles_turn_counter_clockwise_about_the_centre(turns):
    images = IMAGES[:4].double()
    torch.testing.assert_close(
        apply(images, rotation(90.0 * turns, 4)), torch.rot90(images, turns, (2, 3)), atol=1e-3, rtol=0
    )


def test_a_rotation_keeps_the_shape_of_what_it_turns():
    """In an image twice as high as wide, a disc about the centre stays where it is: no axis is stretched."""
    rows, columns = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(20) - 9.5, indexing="ij")
    disc = torch.exp(-(rows**2 + columns**2) / 18)[None, None].double()
    assert (apply(disc, rotation(35.0, 1)) - disc).abs().max() < 0.03


def test_bilinear_rotation_of_whole_numbers_gives_floating_point():
    assert apply(IMAGES[:2], rotation(10.0, 2)).dtype == torch.float32
    torch.testing.assert_close(apply(IMAGES[:2], rotation(0.0, 2)), IMAGES[:2].float(), atol=1e-3, rtol=0)


def test_draws_cover_their_ranges_evenly():
    draws = draw_augmentation(Augmentation(4, True, 10.0), 20000, generator(0, "test"))
    counts = torch.bincount(draws.offsets.flatten(), minlength=9)
    assert len(counts) == 9 and (counts / 40000 - 1 / 9).abs().max() < 0.01
    assert abs(draws.flips.float().mean() - 0.5) < 0.02
    assert draws.angles.abs().max() <= 10 and abs(draws.angles.mean()) < 0.2
    assert abs(draws.angles.std() - 10 / 3**0.5) < 0.1


@pytest.mark.parametrize(("options", "message"), [({"crop": -1}, "crop = -1"), ({"rotation": 200}, "rotation = 200")])
def test_impossible_augmentations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_have_their_shapes_and_dtypes():
    x, y = stream(seeds=[0, 1, 2]).batch(0)
    assert x.shape == (3, 10, 3, SIDE, SIDE) and x.dtype == torch.float64
    assert y.shape == (3, 10) and y.dtype == torch.int64


def test_an_epoch_shows_every_image_once_and_drops_the_incomplete_batch():
    batches = stream()
    assert batches.steps_per_epoch == 5
    for epoch in range(2):
        pixels = torch.cat([raw(batches.batch(5 * epoch + step)[0][0], batches) for step in range(5)])
        seen = {tuple(image.flatten().round().int().tolist()) for image in pixels}
        assert len(seen) == 50
        assert seen <= {tuple(image.flatten().tolist()) for image in IMAGES.int()}


def test_labels_belong_to_their_images():
    batches = stream()
    label_of = {tuple(image.flatten().tolist()): int(label) for image, label in zip(IMAGES.int(), LABELS, strict=True)}
    x, y = batches.batch(7)
    for image, label in zip(raw(x, batches).flatten(0, 1), y.flatten(), strict=True):
        assert label_of[tuple(image.flatten().round().int().tolist())] == int(label)


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(2, True, 10.0)])
def test_a_batch_depends_on_seed_and_step_only(augmentation):
    """Not on what was asked before, nor on the other streams: so a resumed run goes on with the same batches."""
    running = stream(seeds=[3, 4], augmentation=augmentation)
    sequence = [running.batch(step) for step in range(12)]
    for step in (11, 0, 4, 5):
        x, y = stream(seeds=[9, 4], augmentation=augmentation).batch(step)
        assert torch.equal(x[1], sequence[step][0][1]) and torch.equal(y[1], sequence[step][1][1])
        assert not torch.equal(y[0], sequence[step][1][0])


def test_streams_for_other_seeds_are_those_of_a_stream_built_with_them():
    first = stream(seeds=[3], augmentation=BOTH)
    before = first.batch(6)
    other = first.for_seeds([4, 5])
    for step in (6, 0):
        for found, expected in zip(other.batch(step), stream(seeds=[4, 5], augmentation=BOTH).batch(step), strict=True):
            assert torch.equal(found, expected)
    assert torch.equal(first.batch(6)[0], before[0])


def test_epochs_differ_in_order_and_augmentation():
    batches = stream(seeds=[0], augmentation=BOTH)
    first, second = batches.batch(0), batches.batch(5)
    assert not torch.equal(first[1], second[1])
    whole = BatchStream(IMAGES[:1], LABELS[:1], seeds=[0], batch_size=1, augmentation=BOTH)
    assert len({tuple(whole.batch(step)[0].flatten().tolist()) for step in range(20)}) > 10


def test_streams_are_augmented_each_in_its_own_way():
    one_image = BatchStream(IMAGES[:1], LABELS[:1], seeds=[0, 1], batch_size=1, augmentation=BOTH)
    equal = [torch.equal(*one_image.batch(step)[0].unbind()) for step in range(20)]
    assert sum(equal) < 5


def test_augmentation_leaves_order_and_labels_alone():
    plain, augmented = stream(), stream(augmentation=BOTH)
    assert torch.equal(plain.batch(3)[1], augmented.batch(3)[1])
    assert not torch.equal(plain.batch(3)[0], augmented.batch(3)[0])


def test_moments_are_those_of_the_training_images_and_padding_is_black():
    batches = stream(augmentation=Augmentation(crop=SIDE))
    pixels = IMAGES.double() / 255
    torch.testing.assert_close(batches.mean.flatten(), pixels.mean(dim=(0, 2, 3)), rtol=1e-12, atol=0)
    torch.testing.assert_close(batches.std.flatten(), pixels.std(dim=(0, 2, 3), correction=0), rtol=1e-12, atol=0)
    assert float(raw(batches.batch(0)[0], batches).min()) == pytest.approx(0, abs=1e-9)
    x, _ = stream(batch_size=None).batch(0)
    torch.testing.assert_close(x[0].mean(dim=(0, 2, 3)), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(x[0].var(dim=(0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-12, rtol=0)


def test_the_full_batch_is_all_images_in_order_at_every_step():
    batches = stream(batch_size=None)
    assert batches.steps_per_epoch == 1
    x, y = batches.batch(0)
    assert x.shape == (2, COUNT, 3, SIDE, SIDE) and torch.equal(y, LABELS.expand(2, -1))
    torch.testing.assert_close(raw(x[1], batches), IMAGES.double(), atol=1e-9, rtol=0)
    assert torch.equal(batches.batch(17)[0], x)


def test_downscaling_averages_squares_of_the_pixels():
    batches = stream(batch_size=None, downscale=2)
    assert batches.shape == (3, SIDE // 2, SIDE // 2)
    expected = torch.nn.functional.avg_pool2d(IMAGES.double(), 2)
    torch.testing.assert_close(raw(batches.batch(0)[0][0], batches), expected, atol=1e-9, rtol=0)


def test_the_pixel_maximum_does_not_change_what_is_standardised():
    dim = IMAGES // 16
    full = BatchStream(dim, LABELS, seeds=[0], batch_size=5, pixel_maximum=255, dtype=torch.float64)
    sixteen = BatchStream(dim, LABELS, seeds=[0], batch_size=5, pixel_maximum=16, dtype=torch.float64)
    torch.testing.assert_close(full.batch(0)[0], sixteen.batch(0)[0])
    torch.testing.assert_close(sixteen.mean, full.mean * 255 / 16)


def test_the_probe_batch_is_stratified_fixed_and_not_augmented():
    batches = stream(augmentation=BOTH)
    x, y = batches.fixed_batch(20, seed=1)
    assert x.shape == (20, 3, SIDE, SIDE) and torch.bincount(y).tolist() == [2] * 10
    chosen = stratified_subset(LABELS.numpy(), 20, seed=1)
    torch.testing.assert_close(raw(x, batches), IMAGES[chosen].double(), atol=1e-9, rtol=0)


def test_the_augmented_probe_batch_holds_the_same_images_each_drawn_once():
    batches = stream(augmentation=Augmentation(flip=True))
    plain, labels = batches.fixed_batch(20, seed=1)
    flipped, same = batches.fixed_batch(20, seed=1, augmented=True)
    turned = [torch.equal(one, other.flip(-1)) for one, other in zip(flipped, plain, strict=True)]
    kept = [torch.equal(one, other) for one, other in zip(flipped, plain, strict=True)]
    assert torch.equal(labels, same) and 0 < sum(turned) < 20
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    batches.batch(3)  # what training draws in between does not matter
    assert torch.equal(batches.fixed_batch(20, seed=1, augmented=True)[0], flipped)
    assert not torch.equal(batches.fixed_batch(20, seed=2, augmented=True)[0], flipped)


def test_the_test_set_is_standardised_with_the_training_moments():
    batches = stream(test=(IMAGES[:7].numpy(), LABELS[:7].numpy().astype(np.uint8)), downscale=4)
    x, y = batches.test_set()
    expected = torch.nn.functional.avg_pool2d(IMAGES[:7].double(), 4)
    torch.testing.assert_close(raw(x, batches), expected, atol=1e-9, rtol=0)
    assert torch.equal(y, LABELS[:7]) and y.dtype == torch.int64
    with pytest.raises(ValueError, match="no test set"):
        stream().test_set()


def test_arrays_as_they_are_stored_are_taken():
    x, y = BatchStream(IMAGES.numpy(), LABELS.numpy().astype(np.uint8), seeds=[0], batch_size=4).batch(0)
    expected = stream(seeds=[0], batch_size=4).batch(0)
    torch.testing.assert_close(x, expected[0].float())
    assert torch.equal(y, expected[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 54}, "batch_size = 54: must be 1 to 53, the number of training images"),
        ({"batch_size": 0}, "batch_size = 0: must be 1 to 53"),
        ({"batch_size": None, "augmentation": BOTH}, "the full batch takes no augmentation"),
        ({"seeds": []}, "at least one stream"),
        ({"downscale": 3}, r"downscale = 3: must divide the image size \(8, 8\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        stream(**options)
    assert "\n" not in str(caught.value)


def test_a_constant_channel_cannot_be_standardised():
    with pytest.raises(ValueError, match="constant"):
        BatchStream(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4), seeds=[0], batch_size=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_sees_the_batches_of_the_cpu():
    augmentation = Augmentation(2, True, 10.0)
    here, there = (stream(augmentation=augmentation, device=device) for device in ("cpu", "cuda"))
    for step in (0, 6):
        (x, y), (gpu_x, gpu_y) = here.batch(step), there.batch(step)
        assert gpu_x.is_cuda and torch.equal(gpu_y.cpu(), y)
        torch.testing.assert_close(gpu_x.cpu(), x, atol=1e-6, rtol=0)


def test_centred_pixels_keep_their_variance():
    centred = stream(pixels="centred")
    x, _ = centred.fixed_batch(len(centred), 0)
    unit, _ = stream().fixed_batch(len(centred), 0)
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(x.shape[1], dtype=x.dtype), atol=1e-9)
    assert torch.allclose(x / centred.std, unit, atol=1e-9)
    assert x.abs().max() <= 1


def test_symmetric_pixels_reach_from_minus_one_to_one():
    """Black, that of added pixels too, is -1; white is 1; nothing depends on the data."""
    images, _ = stream(pixels="symmetric").fixed_batch(8, 0)
    raw, _ = stream(pixels="centred").fixed_batch(8, 0)
    spread = stream(pixels="centred").mean.to(raw)
    torch.testing.assert_close(images, 2 * (raw + spread) - 1, rtol=1e-5, atol=1e-6)
