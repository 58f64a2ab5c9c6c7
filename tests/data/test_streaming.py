"""Batches from files are those from memory, at any step, by any number of workers, which end when they should."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from featurespeed.data import reader, streaming
from featurespeed.data.augment import Augmentation
from featurespeed.data.batches import IMAGENET_MEAN, IMAGENET_STD, BatchStream, epoch_draws, epoch_order
from featurespeed.data.content import DataError
from featurespeed.data.prepare import obtain
from featurespeed.data.reader import ImageFiles
from featurespeed.data.resized_crop import resize_boxes
from featurespeed.data.spec import DataSpec
from featurespeed.data.store import FileData
from featurespeed.data.streaming import FileStream
from featurespeed.errors import UserError
from featurespeed.training.evaluate import scores_on_test_set
from featurespeed.training.setup import make_job, make_stream
from featurespeed.training.spec import TrainingSpec
from tests.data.folder_cases import FILES, LARGE, SIDE, write_plain

BOTH = Augmentation(flip=True, rotation=20, resized_crop=SIDE)
BATCH, STEPS = 12, 10  # 120 images


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_plain(tmp_path_factory.mktemp("images"))


def read(dataset, folder: Path) -> FileData:
    arrays, facts = obtain(dataset, Path("downloads"), folder)
    return FileData(name=dataset.name, facts=facts, **arrays)


@pytest.fixture(scope="module")
def data(folder) -> FileData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURESPEED_LOADER_WORKERS", "0")
        return read(FILES, folder)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK", 5)  # a batch of several pieces


@pytest.fixture(autouse=True)
def no_worker_is_left():
    yield
    assert not workers()


def workers(seconds: float = 10) -> list:
    """Processes of loaders; those about to end are given the time."""
    deadline = time.monotonic() + seconds
    while (found := multiprocessing.active_children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def images_of(data: FileData, split: str) -> ImageFiles:
    return ImageFiles(data.root, getattr(data, f"files_{split}"), getattr(data, f"bytes_{split}"), data.side)


def stream(data: FileData, seeds=(0, 1), **options) -> FileStream:
    settings = {"batch_size": BATCH, "workers": 0, "dtype": torch.float64} | options
    test = images_of(data, "test"), data.y_test
    moments = data.sums_train, data.squares_train
    files = images_of(data, "train")
    return FileStream(files, data.y_train, moments, data.shape, seeds=seeds, test=test, **settings)


def in_memory(data: FileData, seeds=(0, 1), **options) -> BatchStream:
    """The stream of the same images as arrays."""
    x = {
        split: images_of(data, split).__getitems__(range(len(images_of(data, split))))[0] for split in ("train", "test")
    }
    settings = {"batch_size": BATCH, "dtype": torch.float64} | options
    labels = data.y_train.astype(np.int64)
    return BatchStream(x["train"], labels, seeds=seeds, test=(x["test"], data.y_test.astype(np.int64)), **settings)


def assert_same(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


# --- the same as from memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", ["standardised", "centred", "symmetric", "imagenet"])
def test_batches_are_those_of_the_images_in_memory(data, pixels):
    files, memory = (make(data, augmentation=BOTH, pixels=pixels) for make in (stream, in_memory))
    assert torch.equal(files.mean, memory.mean) and torch.equal(files.std, memory.std)
    assert (len(files), files.steps_per_epoch, files.shape) == (120, STEPS, (3, SIDE, SIDE))
    for step in (0, 1, 9, 10, 4):
        assert_same(files.batch(step), memory.batch(step))
    for augmented in (False, True):
        assert_same(files.fixed_batch(9, 3, augmented), memory.fixed_batch(9, 3, augmented))
    assert_same(files.test_set(), memory.test_set())
    for found, expected in zip(files.test_batches(5), memory.test_batches(5), strict=True):
        assert_same(found, expected)


def test_padding_and_plain_batches_are_those_of_the_images_in_memory(data):
    for augmentation in (None, Augmentation(crop=3, flip=True)):
        files, memory = (make(data, augmentation=augmentation) for make in (stream, in_memory))
        assert_same(files.batch(7), memory.batch(7))


def test_the_usual_moments_of_imagenet(data):
    x, _ = stream(data, pixels="imagenet").fixed_batch(6, 0)
    raw, _ = stream(data, pixels="symmetric").fixed_batch(6, 0)
    mean, std = (torch.tensor(values).double().reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(x, ((raw + 1) / 2 - mean) / std)
    grey = torch.randint(256, (4, 1, 2, 2), dtype=torch.uint8)
    with pytest.raises(ValueError, match="pixels = imagenet: needs images of 3 channels, found 1"):
        BatchStream(grey, torch.zeros(4), seeds=[0], batch_size=2, pixels="imagenet")


def test_a_network_sees_the_centre_unless_a_crop_takes_a_part_of_the_whole(folder):
    large = read(LARGE, folder)
    plain, flipped = stream(large), stream(large, augmentation=Augmentation(flip=True))
    assert plain.shape == (3, 12, 12) and plain.batch(0)[0].shape == (2, BATCH, 3, 12, 12)
    square, rows = images_of(large, "train").__getitems__([0, 1, 2])
    everything = stream(large, batch_size=120, seeds=[0])
    seen = torch.isclose(
        everything.batch(0)[0][0] * everything.std * 255 + everything.mean * 255,
        square[0, :, 2:14, 2:14].double(),
    )
    assert seen.flatten(1).all(1).sum() == 1 and rows.tolist() == [0, 1, 2]
    pairs = zip(plain.batch(0)[0].flatten(0, 1), flipped.batch(0)[0].flatten(0, 1), strict=True)
    assert all(torch.equal(one, other) or torch.equal(one, other.flip(-1)) for one, other in pairs)
    crop = Augmentation(resized_crop=12)
    cropped = stream(large, seeds=[0], augmentation=crop)
    boxes = epoch_draws(crop, [0], 0, 120, (SIDE, SIDE)).boxes[0, :BATCH]  # in the whole square
    squares, _ = images_of(large, "train").__getitems__(epoch_order([0], 0, 120, BATCH)[0].tolist())
    expected = resize_boxes(squares, boxes, 12).double() / 255
    torch.testing.assert_close(cropped.batch(0)[0][0] * cropped.std + cropped.mean, expected)
    assert next(plain.test_batches(4))[0].shape == (4, 3, 12, 12)


# --- steps and seeds --------------------------------------------------------------------------------------------------


def test_workers_bring_the_same_batches_also_after_a_restart_within_an_epoch(data):
    alone = stream(data, augmentation=BOTH)
    expected = [alone.batch(step) for step in range(13)]
    two = stream(data, augmentation=BOTH, workers=2)
    for step in range(13):
        assert_same(two.batch(step), expected[step])
    again = stream(data, augmentation=BOTH, workers=2)
    for step in (7, 8, 11, 2):
        assert_same(again.batch(step), expected[step])


def test_a_stream_depends_on_its_own_seed_only(data):
    together, other = stream(data, seeds=[3, 4], augmentation=BOTH), stream(data, seeds=[9, 4], augmentation=BOTH)
    for step in (0, 11):
        (x, y), (u, v) = together.batch(step), other.batch(step)
        assert torch.equal(x[1], u[1]) and torch.equal(y[1], v[1]) and not torch.equal(y[0], v[0])
        assert_same(together.for_seeds([9, 4]).batch(step), (u, v))
        assert_same(together.batch(step), (x, y))


def test_an_epoch_shows_every_image_once(data):
    one = stream(data, seeds=[0], batch_size=50)
    seen = torch.cat([one.batch(step)[0].flatten(2)[0] for step in range(2)])
    assert one.steps_per_epoch == 2 and len(seen.unique(dim=0)) == 100


def test_the_same_step_is_not_read_twice(data, monkeypatch):
    one = stream(data)
    first = one.batch(2)
    monkeypatch.setattr(reader, "read_file", lambda path: pytest.fail("read again"))
    assert one.batch(2)[0] is first[0]


def test_the_global_generator_is_left_alone(data):
    before = torch.get_rng_state()
    stream(data).batch(0)
    stream(data, workers=1).batch(0)
    assert torch.equal(torch.get_rng_state(), before)


# --- workers ----------------------------------------------------------------------------------------------------------


def test_workers_end_with_the_stream_and_when_told(data):
    two = stream(data, workers=2)
    two.batch(0)
    other = two.for_seeds([5])
    other.batch(3)
    assert len(multiprocessing.active_children()) == 4
    two.close()
    assert len(workers(1)) == 2
    two.batch(5)
    two.batch(0)  # anew: the old ones end
    assert len(multiprocessing.active_children()) == 4
    del two, other
    assert not workers()


def test_a_worker_that_is_killed_is_told_in_one_line(data, monkeypatch):
    looking = _MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(looking, "__defaults__", (0.1,))  # seconds after which it looks whether they live; usually 5
    one = stream(data, workers=1)
    one.batch(0)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(DataError, match="a process that reads images has ended.*_WORKERS below 1$") as caught:
        for step in range(1, 10):
            one.batch(step)
    assert "\n" not in str(caught.value)


# --- files that change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: path.write_bytes(b""), "0 bytes, [0-9]+ when the data were prepared"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "neither JPEG nor PNG"),
    ],
    ids=["vanished", "emptied", "overwritten"],
)
def test_a_file_that_turns_bad_is_named(folder, data, tmp_path, count, change, reason):
    mine = Path(shutil.copytree(folder, tmp_path / "mine"))
    moved = replace(data, facts=data.facts | {"root": str(mine)})
    one = stream(moved, workers=count)
    one.batch(0)
    change(mine / "train/n02/n02_5.JPEG")
    with pytest.raises(DataError, match=f"^{mine}/train/n02/n02_5.JPEG: {reason}; put it back, or remove") as caught:
        for step in range(1, 11):
            one.batch(step)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 121}, "batch_size = 121: must be 1 to 120, the number of training images"),
        ({"batch_size": 0}, "batch_size = 0: must be 1 to 120"),
        ({"batch_size": None}, "batch_size = None: images that are read from files have no full batch"),
        ({"seeds": []}, "at least one stream"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(data, options, message):
    with pytest.raises(ValueError, match=message):
        stream(data, **options)
    with pytest.raises(ValueError, match="step = -1: must be 0 or more"):
        stream(data).batch(-1)


# --- jobs -------------------------------------------------------------------------------------------------------------


def spec(**changes) -> TrainingSpec:
    settings = {
        "run": "files",
        "data": {"name": "tiny_imagenet", "pixels": "standardised", "flip": True, "examples": 60},
        "model": {"kind": "mlp", "depth": 3},
        "width": 4,
        "parameterization": "MUP",
        "learning_rates": [0.1, 0.2],
        "seeds": 2,
        "batch_size": 10,
        "steps": 3,
        "seed": 0,
    }
    return TrainingSpec.model_validate(settings | changes)


def test_a_job_trains_on_a_stratified_choice_of_the_files(data, monkeypatch):
    monkeypatch.setenv("FEATURESPEED_LOADER_WORKERS", "0")
    monkeypatch.setattr(DataSpec, "shape", property(lambda self: (3, SIDE, SIDE)))
    one = make_stream(data, spec(), torch.device("cpu"))
    assert len(one) == 60 and np.bincount(one._labels).tolist() == [20, 20, 20] and one.workers == 0
    job = make_job(spec(), data, torch.device("cpu"))
    x, y = job.make_batches([1, 2]).batch(0)
    network = job.make_network(2).initialise([1, 2])
    assert job.batch_size == 10 and network(x).shape == (2, 10, 3)
    scores = scores_on_test_set([([5, 6], network)], one, "cross_entropy")
    images, labels = one.test_set()
    outputs = network(images.expand(2, *images.shape))
    expected = (outputs.argmax(-1) == labels).double().mean(1)
    assert [scores[member]["test_accuracy"] for member in (5, 6)] == pytest.approx(expected.tolist())
    losses = [torch.nn.functional.cross_entropy(part, labels).item() for part in outputs]
    assert [scores[member]["test_loss"] for member in (5, 6)] == pytest.approx(losses)
    few = spec(data={"name": "tiny_imagenet", "examples": 121})
    with pytest.raises(UserError, match="run files: tiny_imagenet: a subset of 121 of 120 examples: must be 1 to 120"):
        make_job(few, data, torch.device("cpu"))


def test_a_folder_that_has_gone_is_named(data):
    gone = replace(data, facts=data.facts | {"root": "/nowhere/images"})
    with pytest.raises(UserError, match="/nowhere/images, the folder of the images, is not there: put it back, or rem"):
        make_job(spec(), gone, torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_sees_the_batches_of_the_cpu(data):
    here, there = (stream(data, augmentation=BOTH, workers=2, device=device) for device in ("cpu", "cuda"))
    for step in (0, 1, 6):
        (x, y), (gpu_x, gpu_y) = here.batch(step), there.batch(step)
        assert gpu_x.is_cuda and torch.equal(gpu_y.cpu(), y)
        torch.testing.assert_close(gpu_x.cpu(), x, atol=1e-3, rtol=0)
