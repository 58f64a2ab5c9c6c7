"""Curvature along training, at the weights that a job has kept: one row a network, probe step and eigenvalue.

All operators are in units of each layer's learning rate, ``D^1/2 A D^1/2`` with ``D`` the layers' factors: with SGD
``gamma^2 A`` in the parameterizations of arXiv:2402.17457, Eq. 1, and their eigenvalues compare with ``2 / eta_0``.
Adam has factors of its own; ``gamma_sharpness`` has those of SGD whatever the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from featurespeed.curvature.lanczos import Eigenvalues
from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.curvature.operators import (
    GaussNewton,
    Hessian,
    Negative,
    NeuralTangentKernel,
    Operator,
    Residual,
    Scaled,
)
from featurespeed.curvature.stochastic import directional_sharpness, trace
from featurespeed.curvature.tracking import Tracker
from featurespeed.measuring.errors import MeasurementError
from featurespeed.models.networks import Network
from featurespeed.parameterization import Parameterization
from featurespeed.randomness import derive_seed
from featurespeed.training.curvature_spec import CurvatureSpec
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.feature_speed import feature_speed_of
from featurespeed.training.groups import OutOfMemory, chunks, side_by_side
from featurespeed.training.job import Row
from featurespeed.training.optimizers import layer_epsilon, warmup_factor
from featurespeed.training.setup import DTYPES, Data, input_shape, make_network, make_stream
from featurespeed.training.spec import OptimizerSpec, TrainingSpec
from featurespeed.training.weights import load_second_moments, load_weights

#: Gradient of the loss of one image, or token, by its outputs: loss -> function of ``[E, B, ..., classes]`` and labels.
RESIDUALS = {
    "cross_entropy": lambda outputs, y: outputs.softmax(-1) - functional.one_hot(y, outputs.shape[-1]),
    "mse": lambda outputs, y: outputs - functional.one_hot(y, outputs.shape[-1]),
}

#: Matrices whose largest eigenvalues are measured as they are: quantity -> operator.
LARGEST = {"gauss_newton_eigenvalue": GaussNewton, "residual_eigenvalue": Residual}


#: Parameterizations with the gamma of muP whose rates for SGD carry the depth, or are not stated.
SAME_GAMMA = (Parameterization.COMPLETE_P, Parameterization.U_MUP)


def layer_rates(network: Network) -> list[float]:
    """Factor on the learning rate of every layer that learns, from input to readout."""
    return [layer.rule.lr_scale for layer in network.weighted.values() if layer.weight.requires_grad]


def gamma_squared(run: TrainingSpec, shape: tuple[int, ...]) -> list[float]:
    """``gamma^2`` of every layer that learns, whatever the optimizer: the factors of SGD, in the form of the job.

    ``gamma_0^2 N`` in (Depth-)muP, ``gamma_0^2`` in NTP, 1 in SP; in the form ``rescaled`` over ``s^2``, by which the
    Hessian has grown. ``shape`` is that of an image, channels, height, width, or the length of a sequence.
    """
    changes: dict[str, Any] = {"optimizer": OptimizerSpec()}
    if run.parameterization in SAME_GAMMA:
        changes["parameterization"] = Parameterization.MUP
    return layer_rates(make_network(run.model_copy(update=changes), shape, classes=1, members=1))


def objective_of(
    network: Network,
    loss: str,
    batch: tuple[Tensor, Tensor],
    parameters: Sequence[Tensor] | None = None,
    micro_batch: int | None = None,
) -> Objective:
    """The mean loss of an ensemble on one batch for all members, ``x [B, C, H, W], y [B]`` or tokens and answers
    ``[B, T]`` each, by the trained weights.
    """
    x, y = batch
    return Objective(
        network, LOSSES[loss], (x.unsqueeze(0), y.expand(network.members, *y.shape)), members=network.members,
        parameters=network.trained if parameters is None else parameters, micro_batch=micro_batch,
    )  # fmt: skip


def adam_rates(
    run: TrainingSpec, network: Network, second: dict[str, Tensor], rates: Sequence[float], step: int
) -> Tensor:
    """``lr / P_t`` of every weight after ``step`` updates by Adam, ``[E, P]``.

    ``P_t = (1 - b1^t) (sqrt(v_t / (1 - b2^t)) + eps)`` (arXiv:2402.17457, App. J; arXiv:2207.14484). A weight that has
    never had a gradient, such as the embedding of a token that has not come yet, has moved nowhere and has no
    preconditioner but epsilon: it counts as one that does not learn.
    """
    first_decay, second_decay = run.optimizer.betas
    warm = warmup_factor(step - 1, run.optimizer.warmup_steps)
    base = torch.tensor(rates, dtype=torch.float64) * warm
    parts = []
    for name, moment in second.items():
        rule = network.weighted[name].rule
        size = (moment.double() / (1 - second_decay**step)).sqrt() + layer_epsilon(run.optimizer, rule)
        preconditioner = ((1 - first_decay**step) * size).flatten(1)
        rate = base.to(size.device)[:, None] * rule.lr_scale / preconditioner
        parts.append(rate.masked_fill(moment.flatten(1) == 0, 0.0))  # never had a gradient: the word never came
    return torch.cat(parts, dim=1)


@dataclass
class Point:
    """One probe step of some members: their network, and the batch on which it is measured.

    Attributes:
        augmented: the same images, augmented as in training; None where nothing is measured on them.
    """

    run: TrainingSpec
    step: int
    members: list[int]
    network: Network
    batch: tuple[Tensor, Tensor]
    augmented: tuple[Tensor, Tensor] | None
    micro_batch: int | None
    folder: Path
    objective: Objective = field(init=False)

    def __post_init__(self) -> None:
        self.objective = self.restricted(None)
        self.rates = self.objective.fill(layer_rates(self.network))

    def restricted(self, parameters: Sequence[Tensor] | None) -> Objective:
        """The objective as a function of some weights only."""
        return objective_of(self.network, self.run.loss, self.batch, parameters, self.micro_batch)

    def scaled(self, kind: type[Hessian]) -> Operator:
        """An operator in units of the layers' learning rates."""
        return Scaled(kind(self.objective), self.rates)


class Measurement:
    """Measures some members of a job at one probe step after the other, warm-started by the step before."""

    def __init__(self, run: TrainingSpec, spec: CurvatureSpec):
        self.run, self.spec = run, spec
        self._trackers: dict[tuple[str, int], Tracker] = {}

    def rows(self, point: Point) -> Iterator[tuple[int, Row]]:
        """``(member, row)`` of everything that the spec asks for."""
        for quantity in self.spec.quantities:
            yield from MEASURES.get(quantity, Measurement._largest)(self, point, quantity)

    def _track(
        self, point: Point, quantity: str, operator: Operator, k: int = 1, layer: int = 0, sign: float = 1.0
    ) -> Iterator[tuple[int, Row]]:
        """Rows of the ``k`` largest eigenvalues, from a tracker of their own."""
        tracker = self._trackers.setdefault((quantity, layer), self._tracker(k, quantity, layer))
        found = tracker.measure(operator, point.members)
        for member, record in zip(point.members, found, strict=True):
            yield from ((member, row) for row in _eigenvalue_rows(quantity, layer, sign, record))

    def _tracker(self, k: int, quantity: str, layer: int) -> Tracker:
        spec = self.spec
        return Tracker(
            k, tol=spec.tol, cold_every=spec.cold_every, max_products=spec.max_products,
            seed=derive_seed(self.run.seed, quantity, layer), allow_tf32=self.run.tf32 == "all",
        )  # fmt: skip

    def _sharpness(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        operator = point.scaled(Hessian)
        return self._track(point, quantity, operator, min(self.spec.eigenvalues, operator.size))

    def _augmented(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        on_augmented = objective_of(point.network, self.run.loss, point.augmented, micro_batch=point.micro_batch)
        return self._track(point, quantity, Scaled(Hessian(on_augmented), point.rates))

    def _gamma(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        rates = point.objective.fill(gamma_squared(self.run, tuple(point.batch[0].shape[1:])))
        return self._track(point, quantity, Scaled(Hessian(point.objective), rates))

    def _smallest(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        return self._track(point, quantity, Negative(point.scaled(Hessian)), sign=-1.0)

    def _largest(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        return self._track(point, quantity, point.scaled(LARGEST[quantity]))

    def _layers(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        for layer, (weight, rate) in enumerate(
            zip(point.network.trained, layer_rates(point.network), strict=True), start=1
        ):
            block = Scaled(Hessian(point.restricted([weight])), rate)
            yield from self._track(point, quantity, block, layer=layer)

    def _kernel(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        answers = point.batch[1][0].numel()  # an example has: one an image, one a token
        operator = NeuralTangentKernel(point.objective, point.rates / answers)
        return self._track(point, quantity, operator, min(self.spec.eigenvalues, operator.size))

    def _preconditioned(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        if point.step == 0:  # Adam has no preconditioner before its first update
            return
        second = load_second_moments(point.folder, point.network, point.members, point.step)
        rates = [self.run.members[member][0] for member in point.members]
        diagonal = adam_rates(self.run, point.network, second, rates, point.step)
        yield from self._track(point, quantity, Scaled(Hessian(point.objective), diagonal))

    def _directional(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        gradient = point.objective.gradient() * point.rates.sqrt()
        found = directional_sharpness(point.scaled(Hessian), gradient)
        for member, value in zip(point.members, found.tolist(), strict=True):
            if value == value:  # no direction where the gradient is 0
                yield member, {"quantity": quantity, "value": value, "products": 1, "estimator": "one product"}

    def _residual(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        with torch.no_grad():
            x, y = point.batch
            residuals = RESIDUALS[self.run.loss](point.network(x.unsqueeze(0)), y)
            norms = residuals.double().square().sum(-1).flatten(1).mean(1).sqrt()  # over images, or all their tokens
        for member, value in zip(point.members, norms.tolist(), strict=True):
            yield member, {"quantity": quantity, "value": value, "estimator": "training"}

    def _feature_speed(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        for place, member in enumerate(point.members):
            try:  # in units of the base learning rate, like the curvature
                found = feature_speed_of(point.network.take([place]), self.run.loss, point.batch, 1.0)
            except FloatingPointError as error:
                raise CurvatureError(str(error)) from error
            values = {
                "bfa": found.angle,
                "feature_speed_rms": found.feature_speed / found.size.sqrt(),
                "loss_decay": found.loss_decay,
                "feature_sensitivity": found.feature_sensitivity,
            }
            for name, nodes in values.items():
                for layer, value in enumerate(nodes.tolist(), start=1):
                    if math.isfinite(value):  # features that do not move have no angle and no sensitivity
                        yield member, {"quantity": name, "layer": layer, "value": value, "estimator": "jvp"}

    def _trace(self, point: Point, quantity: str) -> Iterator[tuple[int, Row]]:
        seed = derive_seed(self.run.seed, "trace")  # the same vectors at all steps
        found = trace(point.scaled(Hessian), self.spec.trace_vectors, seed)
        for member, record in zip(point.members, found, strict=True):
            yield member, {
                "quantity": quantity, "value": record.value, "residual": record.standard_error,
                "products": record.products, "estimator": "Hutchinson",
            }  # fmt: skip


Measure = Callable[[Measurement, Point, str], Iterator[tuple[int, Row]]]
Follow = Callable[[list[int], int | None], list[Row]]  # members side by side, micro-batch -> rows of all probe steps
MEASURES: dict[str, Measure] = {
    "sharpness": Measurement._sharpness,
    "augmented_sharpness": Measurement._augmented,
    "gamma_sharpness": Measurement._gamma,
    "smallest_eigenvalue": Measurement._smallest,
    "layer_sharpness": Measurement._layers,
    "ntk_eigenvalue": Measurement._kernel,
    "preconditioned_sharpness": Measurement._preconditioned,
    "directional_sharpness": Measurement._directional,
    "hessian_trace": Measurement._trace,
    "residual_norm": Measurement._residual,
    "feature_speed": Measurement._feature_speed,
}


def _eigenvalue_rows(quantity: str, layer: int, sign: float, record: Eigenvalues) -> Iterator[Row]:
    keys = {"layer": layer, "estimator": "Lanczos"}
    evidence = {"products": record.products, "converged": record.converged}
    for index, (value, residual) in enumerate(zip(record.values.tolist(), record.residuals.tolist(), strict=True)):
        row = {"quantity": quantity, "index": index + 1, "value": sign * value, "residual": residual}
        yield keys | evidence | row
    if record.disagreement == record.disagreement:
        yield keys | {"quantity": "warm_start_disagreement", "case": quantity, "value": record.disagreement}


@dataclass(frozen=True)
class Part:
    """Members that were measured side by side, and the rows of all their probe steps."""

    members: list[int]
    rows: list[Row]


def curvature_rows(
    run: TrainingSpec,
    spec: CurvatureSpec,
    data: Data,
    records: pd.DataFrame,
    folder: Path,
    device: torch.device,
    measured: Sequence[int] | None = None,
    done: Collection[int] = (),
    told: Callable[[int], object] = lambda measured: None,
) -> Iterator[Part]:
    """Rows of the members of a job, as soon as some are measured; those of a network end where it was frozen.

    Args:
        run, spec: the job, and what to measure.
        data: its data set.
        records: its table, which says what was frozen.
        folder: its kept weights.
        device: where to measure.
        measured: places of the members to measure; None is all of them.
        done: those of them that an interrupted call has measured; the others are grouped as they would have been.
        told: called with how many more networks are measured, or past their end, at one more probe step; with less than
            none where a group starts again in halves.
    """
    stopped = records[records["quantity"].isin(["diverged_step", "dead_step"])]
    end = {(row.learning_rate, row.seed): row.step for row in stopped.itertuples()}
    last = [end.get(keys, run.steps) for keys in run.members]
    stream = make_stream(data, run, device)
    batch = stream.fixed_batch(spec.images, run.seed)
    on_augmented = "augmented_sharpness" in spec.quantities
    augmented = stream.fixed_batch(spec.images, run.seed, augmented=True) if on_augmented else None

    def load(members: list[int], step: int) -> Network:
        network = make_network(run, input_shape(data, run.data), data.classes, len(members))
        network = network.to(device=device, dtype=DTYPES[run.dtype])
        return load_weights(folder, network, members, step)

    def follow(members: list[int], micro_batch: int | None) -> list[Row]:
        measurement = Measurement(run, spec)
        with _telling(told, len(members) * len(spec.at(run.probe_steps))) as at_step:
            return _rows_of_group(measurement, members, last, (batch, augmented), load, folder, micro_batch, at_step)

    members = range(len(run.members)) if measured is None else measured
    done = frozenset(done)
    for group in side_by_side(run, spec.images, device, members):
        yield from _with_less_at_a_time(follow, group, spec.images, done)


@contextmanager
def _telling(told: Callable[[int], object], whole: int) -> Iterator[Callable[[int], None]]:
    """What counts the steps of a group: in the end it has told of the whole group, or of nothing if that failed."""
    count = 0

    def more(networks: int) -> None:
        nonlocal count
        count += networks
        told(networks)

    try:
        yield more
    except BaseException:
        told(-count)
        raise
    told(whole - count)


def _rows_of_group(
    measurement: Measurement,
    members: list[int],
    last: Sequence[int],
    batches: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None],
    load: Callable[[list[int], int], Network],
    folder: Path,
    micro_batch: int | None,
    at_step: Callable[[int], None],
) -> list[Row]:
    """All probe steps of some members. One alone ends at the step where its derivatives overflow, which is recorded."""
    run, rows = measurement.run, []
    for step in measurement.spec.at(run.probe_steps):
        alive = [member for member in members if step <= last[member]]
        if not alive:
            break
        try:
            point = Point(run, step, alive, load(alive, step), *batches, micro_batch, folder)
            found = list(measurement.rows(point))
        except MeasurementError:
            if len(members) > 1:
                raise
            found = [(alive[0], {"quantity": "overflow_step", "value": float(step), "estimator": "Lanczos"})]
        for member, row in found:
            rate, seed = run.members[member]
            rows.append({"learning_rate": rate, "seed": seed, "step": step} | row)
        if found and found[-1][1]["quantity"] == "overflow_step":
            break
        at_step(len(members))
    return rows


def _with_less_at_a_time(follow: Follow, members: list[int], images: int, done: frozenset[int]) -> Iterator[Part]:
    """A group, or its halves if it does not fit into memory or one member's derivatives overflow.

    A group of which some members are done, and others not, has gone on in halves, and does so again.
    """
    if done.issuperset(members):
        return
    rows = _at_once(follow, members, images) if done.isdisjoint(members) else None
    if rows is not None:
        yield Part(members, rows)
        return
    for half in chunks(members, -(-len(members) // 2)):
        yield from _with_less_at_a_time(follow, half, images, done)


def _at_once(follow: Follow, members: list[int], images: int) -> list[Row] | None:
    """Rows of a group, None if it must go on in halves; those of one member with ever smaller micro-batches.

    Raises OutOfMemory or MeasurementError if one member fails nevertheless.
    """
    micro_batch: int | None = None
    while True:
        try:
            return follow(members, micro_batch)
        except OutOfMemory:
            torch.cuda.empty_cache()
            if len(members) > 1:
                return None
            micro_batch = (micro_batch or images) // 2
            if micro_batch < 1:
                raise
        except MeasurementError:
            if len(members) == 1:
                raise
            return None
