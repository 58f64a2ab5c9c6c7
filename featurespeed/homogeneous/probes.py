"""What is measured at probe steps, on fixed batches of training images: curvature and soft ranks.

Every eigenvalue starts from a random vector named by step and seed, not from the one before: a measurement depends on
the weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featurespeed.curvature.lanczos import Eigenvalues, largest_eigenvalues
from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.curvature.operators import Hessian, Operator, Scaled
from featurespeed.data.batches import BatchStream
from featurespeed.homogeneous.losses import OUTPUT_LOSSES
from featurespeed.homogeneous.network import DescentNetwork
from featurespeed.homogeneous.soft_rank import gradient_soft_rank, participation_ratio, soft_ranks
from featurespeed.homogeneous.spec import DescentSpec
from featurespeed.measuring.errors import MeasurementError
from featurespeed.randomness import derive_seed
from featurespeed.training.groups import OutOfMemory, chunks
from featurespeed.training.job import Row

Batch = tuple[Tensor, Tensor]
# Weights of all networks that are measured side by side: Lanczos keeps some 20 vectors of that size, and a graph.
WEIGHTS_TOGETHER = {"cpu": 5_000_000, "cuda": 100_000_000}


@dataclass(frozen=True)
class ProbeBatches:
    """The two fixed batches, ``x [1, n, C, H, W], y [1, n]`` each."""

    curvature: Batch
    ranks: Batch

    @classmethod
    def of(cls, spec: DescentSpec, stream: BatchStream) -> ProbeBatches:
        """Batches of the sizes that a job asks for, the same ones for all of its networks."""

        def batch(name: str, images: int) -> Batch:
            x, y = stream.fixed_batch(images, derive_seed(spec.seed, name))
            return x.unsqueeze(0), y.unsqueeze(0)

        return cls(batch("curvature", spec.curvature_images), batch("ranks", spec.rank_images))


def probe_rows(
    network: DescentNetwork, spec: DescentSpec, batches: ProbeBatches, seeds: Sequence[int], step: int
) -> list[list[Row]]:
    """Rows of every member: eigenvalues of ``H`` and ``Xi^1/2 H Xi^1/2``, and soft ranks.

    A member whose derivatives overflow has no eigenvalues but a row ``overflow_step``.

    Args:
        network: the members.
        seeds: index of each member's seed.
        step: updates done.
    """
    size = sum(weight[0].numel() for weight in network.weights)
    together = max(1, WEIGHTS_TOGETHER[network.weights[0].device.type] // size)
    if network.members <= together:
        try:
            return _rows_together(network, spec, batches, seeds, step)
        except OutOfMemory:
            if network.members == 1:
                raise
            together = network.members - network.members // 2  # and once more: the exception keeps what was allocated
    found: list[list[Row]] = []
    for places in chunks(range(network.members), together):
        found += probe_rows(network.take(places), spec, batches, [seeds[place] for place in places], step)
    return found


def _rows_together(
    network: DescentNetwork, spec: DescentSpec, batches: ProbeBatches, seeds: Sequence[int], step: int
) -> list[list[Row]]:
    """The rows of members that are measured side by side."""
    curvature = _curvature_rows(network, spec, batches, seeds, step)
    ranks = _rank_rows(network, spec, batches)
    return [[{"step": step} | row for row in [*first, *second]] for first, second in zip(curvature, ranks, strict=True)]


def _curvature_rows(
    network: DescentNetwork, spec: DescentSpec, batches: ProbeBatches, seeds: Sequence[int], step: int
) -> list[list[Row]]:
    try:
        return _eigenvalues(network, spec, batches, seeds, step)
    except MeasurementError:
        if network.members == 1:
            return [[{"quantity": "overflow_step", "value": float(step)}]]
        alone = [network.take([place]) for place in range(network.members)]
        return [_curvature_rows(one, spec, batches, [seed], step)[0] for one, seed in zip(alone, seeds, strict=True)]


def _eigenvalues(
    network: DescentNetwork, spec: DescentSpec, batches: ProbeBatches, seeds: Sequence[int], step: int
) -> list[list[Row]]:
    """Rows ``sharpness`` and ``scaled_sharpness`` of every member; the second one only where the factors are finite.

    Raises:
        MeasurementError: weights, loss or derivatives of some member are not finite.
    """
    loss, (x, y) = OUTPUT_LOSSES[spec.loss], batches.curvature
    x, y = x.expand(network.members, *x.shape[1:]), y.expand(network.members, -1)
    objective = Objective(network, loss.value, (x, y), members=network.members, parameters=network.weights)
    hessian = Hessian(objective)
    sizes = [weight[0].numel() for weight in network.weights]
    factors = network.evaluate(x, y, spec.scaling, loss).factors
    if not torch.isfinite(factors).all():
        raise CurvatureError("factors: a layer has no active unit, so its scaling is not finite")
    operators = {"sharpness": network.rates, "scaled_sharpness": factors}
    rows: list[list[Row]] = [[] for _ in range(network.members)]
    for quantity, rates in operators.items():
        spread = torch.cat([rates[:, k : k + 1].expand(-1, size) for k, size in enumerate(sizes)], 1)
        starts = [derive_seed(spec.seed, quantity, step, seed) for seed in seeds]
        for place, record in enumerate(_largest(Scaled(hessian, spread), spec, starts)):
            rows[place].append(_eigenvalue_row(quantity, record))
    return rows


def _largest(operator: Operator, spec: DescentSpec, starts: list[int]) -> list[Eigenvalues]:
    return largest_eigenvalues(operator, tol=spec.tol, seed=starts)


def _eigenvalue_row(quantity: str, record: Eigenvalues) -> Row:
    return {
        "quantity": quantity, "value": record.eigenvalue, "index": 1, "estimator": "Lanczos",
        "residual": record.residual, "products": record.products, "converged": record.converged,
    }  # fmt: skip


@torch.no_grad()
def _rank_rows(network: DescentNetwork, spec: DescentSpec, batches: ProbeBatches) -> Iterator[list[Row]]:
    """Soft ranks of every member; without those that are not numbers (features or gradients of 0)."""
    x, y = (t.expand(network.members, *t.shape[1:]) for t in batches.ranks)
    features = network.hidden_features(x)
    last, found = len(features), [("participation_ratio", k, participation_ratio(a)) for k, a in enumerate(features, 1)]
    ranks = soft_ranks(torch.nan_to_num(features[-1], posinf=0.0, neginf=0.0))
    backward = OUTPUT_LOSSES[spec.loss].gradient(network(x), y)
    found += [
        ("stable_rank", last, ranks.stable_rank),
        ("entropy_rank", last, ranks.entropy_rank),
        ("gradient_soft_rank", last, gradient_soft_rank(features[-1], backward)),
    ]
    for place in range(network.members):
        numbers = ((quantity, layer, float(values[place])) for quantity, layer, values in found)
        yield [
            {"quantity": quantity, "layer": layer, "value": value}
            for quantity, layer, value in numbers
            if math.isfinite(value)
        ]
