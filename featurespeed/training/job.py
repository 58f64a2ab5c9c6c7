"""What a training job is: its spec, its networks and batches, what a probe sees, and what the job leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from featurespeed.models.networks import Network
from featurespeed.randomness import derive_seed
from featurespeed.training.spec import TrainingSpec

Row = dict[str, Any]


class Batches(Protocol):
    """Batches by step: ``x [S, B, C, H, W]`` and ``y [S, B]`` for ``S`` seeds; a pure function of seed and step.

    Of a text, tokens ``x [S, B, T]`` and answers ``y [S, B, T]``.
    """

    def batch(self, step: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Job:
    """What to train: how to make the networks and the batches of a job.

    Attributes:
        spec: the job.
        make_network: number of members -> uninitialised network, on the device and in the precision of the job.
        make_batches: seeds -> batches.
        batch_size: examples in a batch.
        device: where to compute.
        unit: what an example is called.
    """

    spec: TrainingSpec
    make_network: Callable[[int], Network]
    make_batches: Callable[[Sequence[int]], Batches]
    batch_size: int
    device: torch.device
    unit: str = "images"

    def seeds(self, members: Sequence[int]) -> list[int]:
        """Root seed of every member; members that differ in the learning rate only have the same one."""
        return [derive_seed(self.spec.seed, "member", self.spec.members[member][1]) for member in members]


@dataclass(frozen=True)
class Probe:
    """What a probe sees: some members of the job after ``step`` updates; it must not change the network.

    ``members`` are their numbers in ``job.spec.members``, in the order of the network; ``batch`` is what the
    next update would use, ``x [E, B, C, H, W], y [E, B]``; ``state`` is that of the optimizer: slot (Adam's ``first``
    and ``second`` moments, the ``momentum`` of SGD) -> layer that learns -> tensor.
    """

    job: Job
    step: int
    members: list[int]
    network: Network
    batch: tuple[Tensor, Tensor]
    state: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, dict[str, Tensor]]:
        """What of the state is kept with the weights: Adam's second moments, or all of it if the job says so."""
        everything = self.job.spec.keep_state
        return {slot: layers for slot, layers in self.state.items() if everything or slot == "second"}


@dataclass(frozen=True)
class Training:
    """What a job leaves.

    Attributes:
        losses: ``[members, steps]``, the loss on each batch before the update; NaN after a member was frozen.
        frozen: member -> (what happened, step): ``diverged`` at the first loss that is not finite, ``dead`` from the
            first step after which outputs and gradients are exactly 0.
        rows: what the probes returned.
        final: members and network of every group at the end, without the frozen ones.
    """

    losses: np.ndarray
    frozen: dict[int, tuple[str, int]]
    rows: list[Row]
    final: list[tuple[list[int], Network]]
