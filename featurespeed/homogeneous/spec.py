"""Specs of descent with depth-wise scaled gradients: networks of a width pattern, beyond the edge of stability.

For arXiv:2502.13110, of which only the abstract is known to us: these settings are our reconstruction.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from featurespeed.data.registry import DATASETS
from featurespeed.data.spec import DataSpec, check_batch, check_images
from featurespeed.homogeneous.widths import base_width, convnet_weights, hidden_widths, mlp_weights
from featurespeed.training.spec import digest, run_id
from featurespeed.values import (
    Count,
    NonNegative,
    Number,
    Positive,
    Replicates,
    Seed,
    Spec,
    Steps,
    as_written,
    distinct,
)


class GradientScaling(StrEnum):
    """Depth-wise scalings of the gradient (ours); :mod:`featurespeed.homogeneous.scalings` has their formulas."""

    NONE = "none"
    NORM1 = "norm1"
    REL1 = "rel1"
    NORM2 = "norm2"
    REL2 = "rel2"
    GRADN = "gradn"
    FSF = "fsf"


class Schedule(StrEnum):
    """How the learning rate follows from kappa (ours).

    ``constant``: ``eta = kappa 2/lambda_Xi(0)``, kappa times the edge of stability at initialisation.
    ``geometry-aware``: ``eta_t = kappa min(-c1/c2, largest_rate)``, kappa times the edge of the minibatch's own
    quadratic model; the largest rate where that model has no edge (``c2 <= 0``).
    """

    CONSTANT = "constant"
    GEOMETRY_AWARE = "geometry-aware"


WEIGHTS = {"mlp": mlp_weights, "convnet": convnet_weights}
NetworkKind = Literal["mlp", "convnet"]
Kappas = Annotated[list[Positive], Field(min_length=1)]
Layers = Annotated[int, Field(ge=2, strict=True)]


class ActivationSpec(Spec):
    """``phi(s) = a s + b |s|``; ReLU is ``a = b = 1/2``, the absolute value ``a = 0, b = 1``."""

    a: Number = 0.5
    b: Number = 0.5

    @model_validator(mode="after")
    def _not_zero(self) -> ActivationSpec:
        if self.a == 0 and self.b == 0:
            raise ValueError("a = 0, b = 0: the activation is zero everywhere, one of them must not be 0")
        return self


class NetworkSpec(Spec):
    """Hidden widths ``m_k = round(k^r m)``, from ``m`` itself or from the number of weights.

    Attributes:
        kind: ``mlp``, or ``convnet`` for the muP ConvNets of arXiv:2402.17457 with ``m_k`` channels.
        pattern: ``r``.
        parameters: number of weights; ``m`` is the number that comes closest.
        base_width: ``m``.
        data: instead of that of the artefact.
    """

    kind: NetworkKind = "mlp"
    pattern: NonNegative
    parameters: Count | None = None
    base_width: Count | None = None
    data: DataSpec | None = None

    @model_validator(mode="after")
    def _one_size(self) -> NetworkSpec:
        if (self.parameters is None) == (self.base_width is None):
            given = f"parameters = {as_written(self.parameters)}, base_width = {as_written(self.base_width)}"
            raise ValueError(f"{given}: give one of them, leave the other out")
        return self

    def hidden(self, layers: int, data: DataSpec) -> list[int]:
        """Hidden widths of a network with so many weight matrices, the readout included."""
        if self.base_width is not None:
            return hidden_widths(self.pattern, self.base_width, layers - 1)
        shape, classes, count = data.shape, DATASETS[data.name].classes, WEIGHTS[self.kind]
        smallest = count([1] * (layers - 1), shape, classes)
        if self.parameters < smallest:
            raise ValueError(f"parameters = {self.parameters}: at least {smallest}, a network of one unit a layer")
        base = base_width(self.pattern, layers - 1, lambda widths: count(widths, shape, classes), self.parameters)
        return hidden_widths(self.pattern, base, layers - 1)


class ScalingRuns(Spec):
    """Which networks train with a scaling; kappas and seeds instead of those of the artefact."""

    networks: Annotated[list[str], Field(min_length=1)]
    kappas: Kappas | None = None
    seeds: Replicates | None = None

    _distinct = field_validator("networks", "kappas")(lambda values: values and distinct(values))


class GeometryAwareRuns(ScalingRuns):
    """Runs with the geometry-aware schedule; see :class:`Schedule`."""

    scaling: GradientScaling
    kappas: Kappas
    largest_rate: Positive


class DescentSettings(Spec):
    """What all networks of an artefact share.

    Attributes:
        layers: weight matrices ``l``, the readout included.
        activation: of an MLP; a ConvNet has ReLU.
        batch_size: images ``n`` of a minibatch.
        record_every: steps between two records, which are means over them.
        probe_steps: after how many updates curvature and soft ranks are measured; 0 is one of them.
        curvature_images, rank_images: sizes of the two fixed batches of training images for that.
        tol: relative accuracy asked of eigenvalues.
        tf32: whether training may round to TF32 on a GPU.
        dtype: of all numbers.
        seeds: initialisations, each with its own batches.
    """

    data: DataSpec
    layers: Layers
    activation: ActivationSpec = ActivationSpec()
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    batch_size: Count
    steps: Count
    record_every: Count
    probe_steps: Annotated[list[Steps], Field(min_length=2)]
    curvature_images: Count
    rank_images: Count
    tol: Annotated[Positive, Field(lt=1)] = 1e-3
    tf32: bool = False
    dtype: Literal["float32", "float64"] = "float32"
    seeds: Replicates
    seed: Seed

    @model_validator(mode="after")
    def _steps_fit(self) -> DescentSettings:
        if self.probe_steps != sorted(set(self.probe_steps)):
            raise ValueError(f"probe_steps = {self.probe_steps}: must ascend and not repeat")
        if self.probe_steps[0] != 0 or self.probe_steps[-1] != self.steps:
            raise ValueError(f"probe_steps = {self.probe_steps}: must begin with 0 and end with steps = {self.steps}")
        odd = [step for step in self.probe_steps if step % self.record_every]
        if odd:
            raise ValueError(f"record_every = {self.record_every}: must divide every one of probe_steps, not {odd[0]}")
        check_batch(self.batch_size, self.data)
        for key in ("curvature_images", "rank_images"):
            check_images(key, getattr(self, key), self.data)
        return self


class DescentSpec(DescentSettings):
    """One job: one network, scaling and schedule; all kappas x seeds side by side.

    Attributes:
        run: id of the job, part of its file names.
        hidden: widths ``m_1 .. m_{l-1}``.
    """

    run: str
    kind: NetworkKind
    hidden: Annotated[list[Count], Field(min_length=1)]
    scaling: GradientScaling
    schedule: Schedule
    kappas: Kappas
    largest_rate: Positive | None = None

    @property
    def members(self) -> list[tuple[float, int]]:
        """``(kappa, seed index)`` of every network of the job, in the order of the records."""
        return [(kappa, seed) for seed in range(self.seeds) for kappa in self.kappas]


class DescentSweepSpec(DescentSettings):
    """Runs of several networks and scalings over kappa (the stability map and what is like it, the bridge).

    Attributes:
        networks: label -> width pattern.
        scalings: scaling -> the networks that train with it.
        kappas: learning rates, in units of the edge of stability at initialisation.
        geometry_aware: runs with the other schedule, if any.
        shown: those of the kappas whose curves along training are drawn.
    """

    artefact: str
    networks: Annotated[dict[str, NetworkSpec], Field(min_length=1)]
    scalings: dict[GradientScaling, ScalingRuns]
    kappas: Kappas
    geometry_aware: GeometryAwareRuns | None = None
    shown: Kappas

    _ascending = field_validator("kappas", "shown")(lambda values: _ascending(values))

    @model_validator(mode="after")
    def _runs_can_be_made(self) -> DescentSweepSpec:
        if not self.scalings and self.geometry_aware is None:
            raise ValueError("scalings = {}: nothing to train, give a scaling or geometry_aware")
        groups = {f"scalings.{name}": runs for name, runs in self.scalings.items()}
        groups |= {"geometry_aware": self.geometry_aware} if self.geometry_aware else {}
        for key, runs in groups.items():
            unknown = [label for label in runs.networks if label not in self.networks]
            if unknown:
                known = ", ".join(self.networks)
                raise ValueError(f"{key}.networks = {unknown[0]!r}: unknown network, allowed: {known}")
        unknown = [kappa for kappa in self.shown if kappa not in self.kappas]
        if unknown:
            raise ValueError(f"shown = {unknown[0]:g}: not one of kappas = {self.kappas}")
        _ = self.jobs
        return self

    @cached_property
    def jobs(self) -> list[tuple[str, DescentSpec]]:
        """``(label of the network, job)``; a job is named by its settings, so artefacts share those they both need."""
        found = [
            (label, self._job(label, scaling, Schedule.CONSTANT, runs))
            for scaling, runs in self.scalings.items()
            for label in runs.networks
        ]
        other = self.geometry_aware
        if other is not None:
            schedule = Schedule.GEOMETRY_AWARE
            found += [(label, self._job(label, other.scaling, schedule, other)) for label in other.networks]
        return found

    def _job(self, label: str, scaling: GradientScaling, schedule: Schedule, runs: ScalingRuns) -> DescentSpec:
        network = self.networks[label]
        shared = {name: getattr(self, name) for name in DescentSettings.model_fields}
        data = network.data or self.data
        own = {
            "data": data,
            "kind": network.kind,
            "hidden": network.hidden(self.layers, data),
            "scaling": scaling,
            "schedule": schedule,
            "kappas": runs.kappas or self.kappas,
            "largest_rate": getattr(runs, "largest_rate", None),
            "seeds": runs.seeds or self.seeds,
        }
        job = DescentSpec(run="unnamed", **(shared | own))
        name = run_id(network.kind, f"r{network.pattern:g}", scaling, digest(job.model_dump(mode="json")))
        return job.model_copy(update={"run": name})

    @property
    def descents(self) -> dict[str, DescentSpec]:
        """Run id -> job."""
        return {job.run: job for _, job in self.jobs}


def _ascending(values: list[float]) -> list[float]:
    if values != sorted(set(values)):
        raise ValueError("values must ascend and not repeat")
    return values
