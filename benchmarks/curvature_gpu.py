"""Sharpness of an ensemble on a GPU: warm and cold, in TF32 and in full precision; one product; memory.

The same code runs on a CPU, at tiny sizes, as a check; there TF32 is full precision and no memory is measured.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from curvature_networks import Finding, Target, images_of, make_network
from torch import Tensor
from torch.nn import functional

from featurespeed.curvature.lanczos import Eigenvalues, largest_eigenvalues
from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import Hessian
from featurespeed.curvature.tracking import Tracker
from featurespeed.machine.device import tf32
from featurespeed.models.networks import Network
from featurespeed.randomness import generator

BETWEEN = 5  # steps of training from one measurement to the next
FIRST = 20  # and before the first one
RATE = 0.2  # times that of the parameterization
IMAGES = 2048
REPEATS = 3  # products, and gradients, in a row while the clock runs
REFERENCE_TOL = 1e-5  # of the eigenvalues that errors are measured from; their own error is of order 1e-10
WARM, CHECKED = "warm, TF32 + Rayleigh", "warm, with its cold check"
COLD, COLD_TF32 = "cold, fp32", "cold, TF32 + Rayleigh"
KINDS = {"fp32": False, "TF32": True}


@dataclass(frozen=True)
class EnsembleCase:
    """Networks side by side: 2-layer ConvNets, 2x2 average pooling between the layers, flat readout."""

    width: int
    members: int
    batch: int = 128
    side: int = 32
    target: float | None = None  # seconds of a warm measurement

    @property
    def title(self) -> str:
        """In tables."""
        return f"{self.members} members of width {self.width}, 3x{self.side}x{self.side}, batch {self.batch}"


@dataclass(frozen=True)
class Timed:
    """What a call returned, its seconds, and the most memory that tensors took meanwhile, in GB."""

    result: Any
    seconds: float
    gigabytes: float


@dataclass(frozen=True)
class Turn:
    """Everything measured at one point of the training; names are those of the constants above, or fp32 and TF32."""

    measured: dict[str, Timed]
    products: dict[str, float]
    gradients: dict[str, float]
    reference: Tensor


def cross_entropy(outputs: Tensor, classes: Tensor) -> Tensor:
    """Mean cross-entropy of each member; ``[E, B, classes], [E, B] -> [E]``."""
    losses = functional.cross_entropy(outputs.flatten(0, 1), classes.flatten(), reduction="none")
    return losses.view(len(classes), -1).mean(1)


def timed(what: Callable[[], Any], device: torch.device) -> Timed:
    """Call once; a GPU has ended all its work whenever the clock is read."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    result = what()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return Timed(result, seconds, torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0)


class EnsembleBenchmark:
    """An ensemble that is trained a little before every turn, and a tracker that follows it.

    All members see the same images, as in a curvature stage; they differ in their initial weights.
    """

    def __init__(self, case: EnsembleCase, device: torch.device):
        self.case, self.device = case, device
        shape = (3, case.side, case.side)
        self.network: Network = make_network("convnet", case.width, 2, shape, case.members).to(device)
        images, classes = images_of(case.side, IMAGES)
        self.images, self.classes = images.to(device), classes.to(device)
        self.batch = self._batch(torch.arange(case.batch))
        self.tracker = Tracker(allow_tf32=True)
        self._stream, self._turns = generator(0, "batches"), 0
        self.train(FIRST)

    def train(self, steps: int) -> None:
        """SGD in TF32."""
        rates = [RATE * layer.rule.lr_scale for layer in self.network.weighted.values() if layer.weight.requires_grad]
        for _ in range(steps):
            batch = self._batch(torch.randint(len(self.images), (self.case.batch,), generator=self._stream))
            with tf32(True):
                slopes = self._gradient(batch)
            with torch.no_grad():
                for parameter, slope, rate in zip(self.network.trained, slopes, rates, strict=True):
                    parameter -= rate * slope

    def turn(self) -> Turn:
        """Train a little, then measure in every way; the order of the ways turns, too."""
        self.train(BETWEEN)
        ways: list[tuple[str, Callable[[], list[Eigenvalues]]]] = [
            (WARM, lambda: self.tracker.measure(self._operator())),
            (COLD, lambda: self._cold(False)),
            (COLD_TF32, lambda: self._cold(True)),
        ]
        start = self._turns % len(ways)
        measured = {name: timed(way, self.device) for name, way in ways[start:] + ways[:start]}
        if measured[WARM].result[0].disagreement == measured[WARM].result[0].disagreement:  # not NaN: both were made
            measured[CHECKED] = measured.pop(WARM)
        reference = largest_eigenvalues(self._operator(), tol=REFERENCE_TOL)
        self._turns += 1
        return Turn(measured, *self._single(), torch.stack([found.values[0] for found in reference]))

    def _single(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds of one product, everything that is made only once already made, and of one gradient."""
        vector = torch.randn(self.case.members, self._operator().size, generator=generator(0, "vector"))
        vector, products, gradients = vector.to(self.device), {}, {}
        for kind, allowed in KINDS.items():
            with tf32(allowed):
                operator = self._operator()
                for seconds, what in ((products, lambda o=operator: o.matvec(vector)), (gradients, self._gradient)):
                    what()
                    seconds[kind] = (
                        timed(lambda w=what: [w() for _ in range(REPEATS)][-1], self.device).seconds / REPEATS
                    )
        return products, gradients

    def _cold(self, allow_tf32: bool) -> list[Eigenvalues]:
        seeds = range(100 * self._turns, 100 * self._turns + self.case.members)
        return largest_eigenvalues(self._operator(), seed=seeds, allow_tf32=allow_tf32)

    def _operator(self) -> Hessian:
        objective = Objective(
            self.network, cross_entropy, self.batch, members=self.case.members, parameters=self.network.trained
        )  # fmt: skip
        return Hessian(objective)

    def _gradient(self, batch: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, ...]:
        inputs, classes = batch or self.batch
        return torch.autograd.grad(cross_entropy(self.network(inputs), classes).sum(), self.network.trained)

    def _batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """One input for all members ``[1, B, 3, H, W]``, and classes ``[E, B]``."""
        chosen = chosen.to(self.device)
        return self.images[chosen].unsqueeze(0), self.classes[chosen].expand(self.case.members, -1)


def compete(case: EnsembleCase, device: torch.device, deadline: float) -> list[Turn]:
    """Turns until the next one would end after the deadline, at least one; a trial before them does not count.

    In it kernels are chosen and memory is taken, and the tracker has nothing to start from.
    """
    benchmark, turns = EnsembleBenchmark(case, device), []
    benchmark.turn()
    started = time.monotonic()
    while not turns or (now := time.monotonic()) + (now - started) / len(turns) < deadline:
        turns.append(benchmark.turn())
    return turns


def findings(case: EnsembleCase, turns: list[Turn], on_gpu: bool) -> Iterator[Finding]:
    """Every way: seconds, products, error and memory; then one product in each precision, in gradient evaluations."""
    for name in (WARM, CHECKED, COLD, COLD_TF32):
        mine = [turn for turn in turns if name in turn.measured]
        if not mine:
            continue
        target = Target(case.target) if name == WARM and case.target is not None else None
        yield Finding(name, "s", [turn.measured[name].seconds for turn in mine], target)
        yield Finding(name, "products", [float(turn.measured[name].result[0].products) for turn in mine])
        yield Finding(name, "error", [error_of(turn, name) for turn in mine])
        if name != COLD:
            ratios = [turn.measured[name].seconds / turn.measured[COLD].seconds for turn in mine]
            yield Finding(name, f"/ {COLD}", ratios)
        if on_gpu:
            yield Finding(name, "GB", [turn.measured[name].gigabytes for turn in mine])
    for kind in KINDS:
        yield Finding(f"one product, {kind}", "ms", [1e3 * turn.products[kind] for turn in turns])
        ratios = [turn.products[kind] / turn.gradients[kind] for turn in turns]
        yield Finding(f"one product, {kind}", "gradients", ratios, Target(2.1))
        yield Finding(f"one gradient, {kind}", "ms", [1e3 * turn.gradients[kind] for turn in turns])


def error_of(turn: Turn, name: str) -> float:
    """Largest relative error over the members."""
    values = torch.stack([found.values[0] for found in turn.measured[name].result])
    return float(((values - turn.reference) / turn.reference).abs().max())
