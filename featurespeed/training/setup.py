"""From a spec and a data set to a job: the network and the batches that the trainer asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch

from featurespeed.data.augment import Augmentation
from featurespeed.data.batches import BatchStream
from featurespeed.data.reader import ImageFiles
from featurespeed.data.spec import DataSpec, TextSpec, unit_of
from featurespeed.data.store import FileData, ImageData, TextData
from featurespeed.data.streaming import FileStream
from featurespeed.data.subset import stratified_subset
from featurespeed.data.tokens import SequenceStream
from featurespeed.errors import UserError
from featurespeed.models.networks import Network, build_network
from featurespeed.randomness import derive_seed
from featurespeed.training.job import Job
from featurespeed.training.spec import TrainingSpec

DTYPES = {"float32": torch.float32, "float64": torch.float64}

Data = ImageData | FileData | TextData
Stream = BatchStream | FileStream | SequenceStream


class BatchSettings(Protocol):
    """What the batches of a job depend on."""

    data: DataSpec | TextSpec
    batch_size: int | None
    dtype: str
    seed: int


def training_set(data: ImageData | FileData, spec: DataSpec, seed: int) -> torch.Tensor | slice:
    """Which training images a spec uses: all, or a stratified subset that depends on the root seed only."""
    if spec.examples is None:
        return slice(None)
    return torch.from_numpy(stratified_subset(data.y_train, spec.examples, derive_seed(seed, "subset")))


def input_shape(data: Data, spec: DataSpec | TextSpec) -> tuple[int, ...]:
    """Channels, height and width that the network sees; of a text, the length of a sequence."""
    if isinstance(data, TextData):
        return spec.shape
    channels, height, width = data.shape
    return channels, height // spec.downscale, width // spec.downscale


def input_dim(data: Data, spec: DataSpec | TextSpec) -> int:
    """Numbers in one example of the data, as tables tell it: pixels of all channels, or tokens."""
    return spec.length if isinstance(data, TextData) else math.prod(data.shape)


def augmentation_of(spec: DataSpec) -> Augmentation:
    """What a spec does to training images."""
    side = spec.shape[1] if spec.resized_crop else 0
    return Augmentation(spec.crop, spec.flip, spec.rotation, side)


def make_stream(data: Data, spec: BatchSettings, device: torch.device) -> Stream:
    """The batches of a job, for any seeds (see :meth:`BatchStream.for_seeds`)."""
    if isinstance(data, TextData):
        return _sequence_stream(data, spec, device)
    settings, chosen = spec.data, training_set(data, spec.data, spec.seed)
    if isinstance(data, FileData):
        return _file_stream(data, spec, chosen, device)
    return BatchStream(
        torch.from_numpy(data.x_train)[chosen],
        torch.from_numpy(data.y_train)[chosen],
        seeds=[spec.seed],
        batch_size=spec.batch_size,
        pixel_maximum=data.pixel_maximum,
        augmentation=augmentation_of(settings),
        test=(data.x_test, data.y_test),
        device=device,
        dtype=DTYPES[spec.dtype],
        downscale=settings.downscale,
        pixels=settings.pixels,
    )


def _sequence_stream(data: TextData, spec: BatchSettings, device: torch.device) -> SequenceStream:
    return SequenceStream(
        data.train[: spec.data.tokens],
        data.test,
        spec.data.length,
        seeds=[spec.seed],
        batch_size=spec.batch_size,
        device=device,
    )


def _file_stream(data: FileData, spec: BatchSettings, chosen: torch.Tensor | slice, device: torch.device) -> FileStream:
    """The batches of a job whose images are read from their files."""
    if not data.root.is_dir():
        again = f"put it back, or remove resources/data/{data.name} and run the rule `data` again"
        raise ValueError(f"{data.root}, the folder of the images, is not there: {again}")
    rows = chosen if isinstance(chosen, slice) else chosen.numpy()
    return FileStream(
        ImageFiles(data.root, data.files_train, data.bytes_train, data.side).chosen(rows),
        data.y_train[rows],
        (data.sums_train[rows], data.squares_train[rows]),
        data.shape,
        seeds=[spec.seed],
        batch_size=spec.batch_size,
        augmentation=augmentation_of(spec.data),
        test=(ImageFiles(data.root, data.files_test, data.bytes_test, data.side), data.y_test),
        device=device,
        dtype=DTYPES[spec.dtype],
        pixels=spec.data.pixels,
    )


def make_network(spec: TrainingSpec, shape: tuple[int, ...], classes: int, members: int) -> Network:
    """The uninitialised network of a job, on the CPU."""
    return build_network(
        spec.model,
        spec.width,
        spec.parameterization,
        input_shape=shape,
        classes=classes,
        members=members,
        optimizer=spec.optimizer.name,
        form=spec.form,
        gamma0=spec.gamma0,
        layer_rates=spec.optimizer.layer_rates,
        depth_rates=spec.optimizer.depth_rates,
    )


def make_job(spec: TrainingSpec, data: Data, device: torch.device) -> Job:
    """The job of a spec on a data set.

    Raises:
        UserError: the data do not hold what the spec asks for (examples, a batch).
    """
    try:
        stream = make_stream(data, spec, device)
    except ValueError as error:
        raise UserError(f"run {spec.run}: {data.name}: {error}") from None
    shape = input_shape(data, spec.data)

    def network(members: int) -> Network:
        return make_network(spec, shape, data.classes, members).to(device=device, dtype=DTYPES[spec.dtype])

    def batches(seeds: Sequence[int]) -> Stream:
        return stream.for_seeds(seeds)

    return Job(spec, network, batches, spec.batch_size or len(stream), device, unit_of(spec.data))
