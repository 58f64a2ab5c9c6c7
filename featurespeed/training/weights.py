"""Weights kept at probe steps: one safetensors file a member and step, so that a later stage loads what it needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from featurespeed.errors import UserError
from featurespeed.machine.files import atomic_path
from featurespeed.models.networks import Network
from featurespeed.parameterization import OptimizerName
from featurespeed.training.spec import TrainingSpec

SPARE_BYTES = 64 * 2**20  # for tables, logs and whatever else writes to the same disk


class DiskFull(UserError, OSError):
    """Not enough room for what a job will keep; one line with what is needed and what there is."""


def weights_path(folder: Path, member: int, step: int) -> Path:
    """File of one member's weights after ``step`` updates."""
    return Path(folder) / f"member_{member:04d}" / f"step_{step:07d}.safetensors"


def _key(layer: str, slot: str) -> str:
    """Name of a tensor of the optimizer's state, beside the weight of its layer."""
    return f"{layer}:{slot}"


def save_weights(
    folder: Path,
    network: Network,
    index: int,
    member: int,
    step: int,
    state: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """Keep the weights of the ``index``-th network of an ensemble as those of ``member``; atomic.

    ``state``: slot of the optimizer's state, such as Adam's ``second`` moments -> layer -> tensor of all members, kept
    beside the weights.
    """
    tensors = {name: layer.weight.detach() for name, layer in network.weighted.items()}
    tensors |= {_key(name, slot): t for slot, layers in (state or {}).items() for name, t in layers.items()}
    tensors = {name: tensor[index].contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_path(weights_path(folder, member, step)) as part:
        save_file(tensors, part)


def load_weights(folder: Path, network: Network, members: Sequence[int], step: int) -> Network:
    """Fill an ensemble, one network a member in the order given, with weights kept after ``step`` updates.

    Raises:
        FileNotFoundError: a member has no weights there (it was frozen earlier, or the step is no probe step).
    """
    for index, member in enumerate(members):
        tensors = load_file(weights_path(folder, member, step))
        for name, layer in network.weighted.items():
            layer.weight.data[index] = tensors[name].to(layer.weight)
    return network


def load_second_moments(folder: Path, network: Network, members: Sequence[int], step: int) -> dict[str, Tensor]:
    """Adam's second moments ``[E, ...]`` of every layer that learns, kept with the weights.

    Raises:
        KeyError: the job was not trained with Adam.
    """
    return load_state(folder, network, members, step, ("second",))["second"]


def load_state(
    folder: Path, network: Network, members: Sequence[int], step: int, slots: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """Slots of the optimizer's state -> layer that learns -> ``[E, ...]``, kept with the weights.

    Raises:
        KeyError: the job has not kept them.
    """
    files = [load_file(weights_path(folder, member, step)) for member in members]
    layers = {name: layer.weight for name, layer in network.weighted.items() if layer.weight.requires_grad}
    return {
        slot: {name: torch.stack([file[_key(name, slot)] for file in files]).to(w) for name, w in layers.items()}
        for slot in slots
    }


def link_weights(source: Path, target: Path) -> None:
    """Make the files of ``source`` appear under ``target`` as well, without a second copy where the disk allows it.

    The source stays until the whole job has ended: a job killed in between finds it there.
    """
    shutil.rmtree(target, ignore_errors=True)
    Path(target).mkdir(parents=True)
    if Path(source).exists():
        shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copy2(source, target)


def bytes_needed(spec: TrainingSpec, weights_per_member: int, kept_rates: int | None = None) -> int:
    """Disk that a job takes at most: weights at the probe steps of so many learning rates (None is all), and two
    checkpoints while one replaces the other.
    """
    size = {"float32": 4, "float64": 8}[spec.dtype]
    adaptive = spec.optimizer.name != OptimizerName.SGD
    copies = 3 if adaptive else 1 + bool(spec.optimizer.momentum)
    kept = copies if spec.keep_state else 1 + adaptive  # the second moments, or the whole state, beside the weights
    members = len(spec.members)
    probed = spec.seeds * (len(spec.learning_rates) if kept_rates is None else kept_rates)
    losses = 8 * spec.steps * members
    weights = weights_per_member * size * (probed * kept * len(spec.probe_steps) + members * 2 * copies)
    return weights + 2 * losses


def check_disk(spec: TrainingSpec, weights_per_member: int, folder: Path, kept_rates: int | None = None) -> None:
    """Raise :class:`DiskFull` if the disk of ``folder`` has no room for the job; before any work."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = bytes_needed(spec, weights_per_member, kept_rates) + SPARE_BYTES, shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"run {spec.run}: {needed / 2**30:.3g} GiB are needed for the weights of {len(spec.members)} networks at"
            f" {len(spec.probe_steps)} probe steps and for checkpoints, {free / 2**30:.3g} GiB are free in {folder};"
            " free some, or take fewer probe_steps, learning_rates or seeds"
        )


def weights_of(network: Network) -> int:
    """Number of weights of one member."""
    return sum(layer.weight[0].numel() for layer in network.weighted.values())
