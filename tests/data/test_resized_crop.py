"""Random boxes are drawn as torchvision draws them, and scaled as PyTorch scales images."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from featurespeed.data.augment import Augmentation, apply, draw_augmentation
from featurespeed.data.batches import BatchStream
from featurespeed.data.resized_crop import draw_boxes, resize_boxes
from featurespeed.randomness import generator

IMAGES = torch.randint(256, (6, 3, 20, 20), generator=generator(0, "images"), dtype=torch.uint8)


def boxes(count: int, size: tuple[int, int] = (200, 200), seed: int = 0) -> torch.Tensor:
    return draw_boxes(count, size, generator(seed, "boxes"))


def test_boxes_lie_within_the_image_and_differ_by_the_seed():
    top, left, height, width = boxes(5000, (40, 60)).T
    assert min(top.min(), left.min()) == 0 and min(height.min(), width.min()) >= 1
    assert (top + height).max() == 40 and (left + width).max() == 60
    assert torch.equal(boxes(9), boxes(9)) and not torch.equal(boxes(9), boxes(9, seed=1))


def by_attempts(size: tuple[int, int], stream: torch.Generator) -> tuple[int, int]:
    """Height and width as torchvision's RandomResizedCrop.get_params finds them, one number at a time."""
    height, width = size
    for _ in range(10):
        area = height * width * torch.empty(1).uniform_(0.08, 1.0, generator=stream).item()
        ratio = math.exp(torch.empty(1).uniform_(math.log(3 / 4), math.log(4 / 3), generator=stream).item())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return h, w
    return height, width


def test_areas_and_ratios_are_distributed_as_torchvision_has_them():
    count, size = 6000, (200, 200)
    _, _, height, width = boxes(count, size).double().T
    stream = generator(1, "attempts")
    reference = torch.tensor([by_attempts(size, stream) for _ in range(count)]).double()
    for found, expected in (
        (height * width / 4e4, reference.prod(1) / 4e4),
        ((width / height).log(), (reference[:, 1] / reference[:, 0]).log()),
    ):
        quantiles = torch.linspace(0.05, 0.95, 7).double()
        assert (found.quantile(quantiles) - expected.quantile(quantiles)).abs().max() < 0.03
    area = height * width / 4e4
    assert 0.075 < area.min() < 0.09 and area.max() > 0.9
    small = area[area < 0.5]  # boxes that always fit: uniform
    assert abs(small.mean() - 0.29) < 0.01 and abs(small.std() - 0.42 / 12**0.5) < 0.01
    assert (width / height).min() > 0.73 and (width / height).max() < 1.36


def test_corners_are_uniform_over_the_room_that_a_box_leaves():
    top, _, height, _ = boxes(8000).T
    some = (height > 80) & (height < 120)
    where = top[some] / (200 - height[some] + 1)
    assert abs(where.mean() - 0.5) < 0.03 and abs(where.std() - 12**-0.5) < 0.03


@pytest.mark.parametrize(
    ("size", "box"),
    [((100, 1), [49, 0, 1, 1]), ((1, 100), [0, 49, 1, 1]), ((7, 5), None)],
    ids=["tall", "wide", "usual"],
)
def test_the_central_box_stands_in_for_boxes_that_do_not_fit(size, box):
    """Of a line of pixels every box of 8% is too wide; what is left is one pixel in the middle."""
    found = boxes(50, size)
    if box is None:
        assert len({tuple(row) for row in found.tolist()}) > 10
    else:
        assert found.tolist() == [box] * 50


def test_the_full_image_at_its_own_size_is_left_as_it_is():
    whole = torch.tensor([[0, 0, 20, 20]]).expand(6, 4)
    assert torch.equal(resize_boxes(IMAGES, whole, 20), IMAGES.float())


@pytest.mark.parametrize("side", [10, 20, 31])
def test_boxes_are_scaled_as_pytorch_scales_with_antialiasing(side):
    drawn = draw_boxes(6, (20, 20), generator(3, "boxes"))
    found = resize_boxes(IMAGES.double(), drawn, side)
    for image, (top, left, height, width), one in zip(IMAGES.double(), drawn.tolist(), found, strict=True):
        part = image[None, :, top : top + height, left : left + width]
        expected = functional.interpolate(part, (side, side), mode="bilinear", antialias=True, align_corners=False)
        torch.testing.assert_close(one, expected[0], atol=1e-9, rtol=1e-9)


def test_a_ramp_stays_a_ramp():
    """Away from the edges, where the triangle of the filter lies within the box: exactly; twice as steep if halved."""
    ramp = torch.arange(40.0).double().expand(1, 1, 40, 40)
    found = resize_boxes(ramp, torch.tensor([[5, 8, 24, 24]]), 12)[0, 0]
    expected = 8 + 2 * (torch.arange(12).double() + 0.5) - 0.5
    torch.testing.assert_close(found[3, 1:-1], expected[1:-1], atol=1e-12, rtol=0)
    torch.testing.assert_close(found, found[:1].expand(12, 12))


def test_nothing_outside_of_the_box_counts():
    image = torch.full((1, 1, 20, 20), 7.0)
    image[..., :5, :] = image[..., :, 15:] = 1e6
    torch.testing.assert_close(resize_boxes(image, torch.tensor([[5, 2, 15, 13]]), 8), torch.full((1, 1, 8, 8), 7.0))


def test_the_crop_is_flipped_afterwards():
    both = Augmentation(flip=True, resized_crop=10)
    draws = draw_augmentation(both, 6, generator(0, "draws"), (20, 20))
    assert 0 < draws.flips.sum() < 6
    plain = resize_boxes(IMAGES, draws.boxes, 10)
    found = apply(IMAGES, draws)
    for flip, one, other in zip(draws.flips, found, plain, strict=True):
        assert torch.equal(one, other.flip(-1) if flip else other)


def test_streams_crop_each_in_its_own_way_and_again_the_same():
    def stream(seeds: list[int]) -> BatchStream:
        options = {"seeds": seeds, "batch_size": 3, "augmentation": Augmentation(resized_crop=20)}
        return BatchStream(IMAGES, torch.arange(6), **options)

    first, again = stream([0, 1]).batch(3)[0], stream([1]).batch(3)[0]
    assert torch.equal(first[1], again[0]) and not torch.equal(first[0], first[1])
    plain = BatchStream(IMAGES, torch.arange(6), seeds=[1], batch_size=3).batch(3)
    assert torch.equal(plain[1][0], stream([1]).batch(3)[1][0]) and not torch.equal(plain[0], again)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"resized_crop": -1}, "resized_crop = -1"), ({"resized_crop": 8, "crop": 2}, "crop = 2: must be 0 with resized")],
)
def test_impossible_crops_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_a_size_is_needed():
    with pytest.raises(ValueError, match="size = None"):
        draw_augmentation(Augmentation(resized_crop=8), 3, generator(0, "draws"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_crops_as_the_cpu_does():
    drawn = draw_boxes(6, (20, 20), generator(3, "boxes"))
    there = resize_boxes(IMAGES.cuda(), drawn.cuda(), 16).cpu()
    torch.testing.assert_close(there, resize_boxes(IMAGES, drawn, 16), atol=1e-3, rtol=0)
