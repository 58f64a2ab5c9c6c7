"""Specs of training runs over widths, depths and learning rates, with what is measured along them.

A job is named by its settings, so artefacts that ask for the same one train it once, and measure it once if they also
ask for the same measurements.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from featurespeed.data.spec import AnyData
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import Parameterization
from featurespeed.training.curvature_spec import CurvatureSpec, SharpnessSpec, check_curvature
from featurespeed.training.spec import OptimizerSpec, TrainingSpec, digest, run_id
from featurespeed.values import Count, Counts, Positive, Replicates, Seed, Spec, Steps, Widths, did_you_mean, distinct

LearningRates = Annotated[list[Positive], Field(min_length=1)]
FACTOR = 2.0  # between neighbours of a grid of learning rates: shifts of the best one are counted in such steps
FEWEST_RATES = 3  # that can bracket an optimum


def _reason(error: ValidationError) -> str:
    """What the first rule that fails has to say."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")


class NetworkRuns(Spec):
    """One network of a sweep, at several sizes and learning rates.

    Attributes:
        learning_rates: base learning rates, ascending.
        measured: those at which curvature is measured; None is all of them.
        batch_size: None is the whole training set at every step.
        widths: instead of those of the sweep.
        depths: instead of the depth of the model.
        data: instead of that of the sweep.
        steps: instead of those of the sweep; probe steps beyond the last one are left out.
    """

    model: ModelSpec
    parameterization: Parameterization
    learning_rates: LearningRates
    measured: LearningRates | None = None
    batch_size: Count | None
    optimizer: OptimizerSpec = OptimizerSpec()
    widths: Widths | None = None
    depths: Counts | None = None
    data: AnyData | None = None
    steps: Count | None = None

    _distinct = field_validator("learning_rates", "measured", "widths", "depths")(
        lambda values: values and distinct(values)
    )

    @model_validator(mode="after")
    def _measured_is_trained(self) -> NetworkRuns:
        if self.learning_rates != sorted(self.learning_rates):
            raise ValueError(f"learning_rates = {self.learning_rates}: must ascend")
        unknown = [rate for rate in self.measured or [] if rate not in self.learning_rates]
        if unknown:
            raise ValueError(f"measured = {unknown[0]}: not one of learning_rates = {self.learning_rates}")
        return self

    @model_validator(mode="after")
    def _every_depth_can_be_built(self) -> NetworkRuns:
        try:
            _ = self.models
        except ValidationError as error:
            raise ValueError(f"depths = {self.depths}: {_reason(error)}") from None
        return self

    @property
    def depth_count(self) -> int:
        """How many depths there are."""
        return len(self.depths or [self.model.depth])

    @property
    def models(self) -> list[ModelSpec]:
        """The model at every depth."""
        if self.depths is None:
            return [self.model]
        return [ModelSpec.model_validate(self.model.model_dump() | {"depth": depth}) for depth in self.depths]


class SweepSpec(Spec):
    """Training runs of several networks over their sizes, and what is measured along them.

    Attributes:
        networks: label -> network.
        widths: of all networks that have none of their own.
        probe_steps: after how many updates curvature is measured.
        record_every: steps between two records of the loss.
        seeds: initialisations, each with its own batches.
        shown: label -> the one of its learning rates that is looked at, where a figure looks at one only.
        early_steps: how many steps count as early, where a figure looks at these.
    """

    artefact: str
    data: AnyData
    networks: Annotated[dict[str, NetworkRuns], Field(min_length=1)]
    widths: Widths
    steps: Count
    probe_steps: Annotated[list[Steps], Field(min_length=1)]
    record_every: Count = 10
    tf32: Literal["off", "train", "all"] = "train"
    curvature: CurvatureSpec
    shown: dict[str, Positive] | None = None
    early_steps: Count | None = None
    seeds: Replicates
    seed: Seed

    _distinct = field_validator("widths", "probe_steps")(distinct)

    @model_validator(mode="after")
    def _several_sizes_that_can_be_trained(self) -> SweepSpec:
        for label, network in self.networks.items():
            widths = network.widths or self.widths
            if len(widths) * network.depth_count < 2:
                key, sizes = ("depths", network.depths) if network.depths else ("widths", widths)
                raise ValueError(f"networks.{label}.{key} = {sizes}: one size shows no trend, at least 2 are needed")
            self._check_lengths(label, network)
        self._check_probe_steps()
        for _, job in self.jobs:
            check_curvature(job, self.curvature)
        self._check_what_is_shown()
        return self

    def _check_lengths(self, label: str, network: NetworkRuns) -> None:
        """Training outlasts its warm-up, and its loss is recorded on the way."""
        key, steps = self.steps_of(label)
        warmup = network.optimizer.warmup_steps
        if warmup > steps:
            raise ValueError(
                f"networks.{label}.optimizer.warmup_steps = {warmup}: at most {key} = {steps}, or the learning"
                " rate never reaches its value"
            )
        if self.record_every > self.steps:
            raise ValueError(
                f"record_every = {self.record_every}: at most steps = {self.steps}, or no loss is recorded"
            )

    def _check_probe_steps(self) -> None:
        """All are steps of the run, and every network has two of them."""
        beyond = [step for step in self.probe_steps if step > self.steps]
        if beyond:
            raise ValueError(f"probe_steps = {beyond[0]}: beyond the last step, steps = {self.steps}")
        unknown = [step for step in self.curvature.steps or [] if step not in self.probe_steps]
        if unknown:
            raise ValueError(f"curvature.steps = {unknown[0]}: not one of probe_steps = {self.probe_steps}")
        for label in self.networks:
            key, steps = self.steps_of(label)
            own = [step for step in self.curvature.at(self.probe_steps) if step <= steps]
            if len(own) < 2:
                found = f"holds {len(own)} of {self.measured_at}"
                raise ValueError(f"{key} = {steps}: {found}, at least 2 are needed")

    def steps_of(self, label: str) -> tuple[str, int]:
        """The key that says how long a network is trained, and its value."""
        own = self.networks[label].steps
        return (f"networks.{label}.steps", own) if own else ("steps", self.steps)

    @property
    def measured_at(self) -> str:
        """The key that says at which steps curvature is measured, and its value."""
        steps = self.curvature.steps
        return f"probe_steps = {self.probe_steps}" if steps is None else f"curvature.steps = {steps}"

    def _check_what_is_shown(self) -> None:
        for label, rate in (self.shown or {}).items():
            network = self.networks.get(label)
            if network is None:
                hint = did_you_mean(label, self.networks)
                raise ValueError(f"shown = {label!r}: unknown network, allowed: {', '.join(self.networks)}{hint}")
            allowed = network.measured or network.learning_rates
            if rate not in allowed:
                raise ValueError(f"shown.{label} = {rate:g}: curvature is not measured there, allowed: {allowed}")
        if self.early_steps is not None:
            if self.early_steps > self.steps:
                raise ValueError(f"early_steps = {self.early_steps}: at most steps = {self.steps}")
            early = [step for step in self.probe_steps if step <= self.early_steps]
            if len(early) < 2:
                raise ValueError(f"early_steps = {self.early_steps}: fewer than 2 of probe_steps = {self.probe_steps}")

    @cached_property
    def jobs(self) -> list[tuple[str, TrainingSpec]]:
        """``(label, training job)`` of every network, in the order of depths and widths."""
        found = []
        for label, network in self.networks.items():
            try:
                widths = network.widths or self.widths
                found += [(label, self._job(network, model, width)) for model in network.models for width in widths]
            except ValidationError as error:  # a batch, or strides, with which a network cannot be trained
                raise ValueError(f"networks.{label}: {_reason(error)}") from None
        return found

    def _job(self, network: NetworkRuns, model: ModelSpec, width: int) -> TrainingSpec:
        shared = {"record_every", "tf32", "seeds", "seed"}
        own = {"parameterization", "learning_rates", "batch_size", "optimizer"}
        steps = network.steps or self.steps
        job = TrainingSpec(
            run="unnamed",
            model=model,
            width=width,
            data=network.data or self.data,
            steps=steps,
            probe_steps=[step for step in self.probe_steps if step <= steps],
            **{name: getattr(self, name) for name in shared},
            **{name: getattr(network, name) for name in own},
        )
        settings = job.model_dump(mode="json", exclude={"run"})
        name = run_id(network.parameterization, model.kind, f"l{model.depth}", f"n{width}", digest(settings))
        return job.model_copy(update={"run": name})

    @property
    def training_runs(self) -> dict[str, TrainingSpec]:
        """Run id -> training job."""
        return {job.run: job for _, job in self.jobs}

    @cached_property
    def measurements(self) -> list[SharpnessSpec]:
        """What is measured along every training job."""
        rates: dict[str, set[float]] = {}
        for label, job in self.jobs:
            rates.setdefault(job.run, set()).update(self.networks[label].measured or job.learning_rates)
        return [
            SharpnessSpec(training=job, curvature=self.curvature, learning_rates=sorted(rates[name]))
            for name, job in self.training_runs.items()
        ]


class TransferSpec(SweepSpec):
    """A sweep whose best learning rates are compared: each grid of them must be able to bracket an optimum."""

    @model_validator(mode="after")
    def _grids_bracket_an_optimum(self) -> TransferSpec:
        for label, network in self.networks.items():
            rates = network.learning_rates
            steps = [high / low for low, high in zip(rates, rates[1:], strict=False)]
            if len(rates) < FEWEST_RATES or max(steps) > FACTOR * (1 + 1e-6):
                raise ValueError(
                    f"networks.{label}.learning_rates = {rates}: too coarse to bracket an optimum, at least"
                    f" {FEWEST_RATES} rates at most a factor {FACTOR:g} apart are needed"
                )
        return self


class EarlySpec(TransferSpec):
    """A sweep of which the first steps are looked at, at one learning rate a network."""

    shown: Annotated[dict[str, Positive], Field(min_length=1)]
    early_steps: Count
