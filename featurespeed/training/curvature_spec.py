"""Specs of curvature measurements along training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from featurespeed.data.spec import check_images
from featurespeed.parameterization import OptimizerName
from featurespeed.training.spec import TrainingSpec, digest, run_id
from featurespeed.values import Count, Positive, Replicates, Spec, Steps, distinct

CurvatureQuantity = Literal[
    "sharpness",
    "augmented_sharpness",
    "smallest_eigenvalue",
    "gauss_newton_eigenvalue",
    "residual_eigenvalue",
    "layer_sharpness",
    "directional_sharpness",
    "hessian_trace",
    "ntk_eigenvalue",
    "preconditioned_sharpness",
    "gamma_sharpness",
    "residual_norm",
    "feature_speed",
]
CURVATURE_QUANTITIES: tuple[str, ...] = get_args(CurvatureQuantity)
PART = "_s_"  # in names of measurements of some seeds, before these


class CurvatureSpec(Spec):
    """What is measured at the weights that training kept.

    Attributes:
        quantities: names, as in the records; ``feature_speed`` stands for all quantities of the feature speed formula
            at every cut node, ``augmented_sharpness`` for the sharpness on the same images, augmented as in training,
            ``gamma_sharpness`` for that of ``gamma^2 H`` whatever the optimizer.
        images: size of the fixed batch, the same one throughout training.
        steps: those of the probe steps at which it is measured; None is all of them. Figures that share a training job,
            and so its probe steps, can measure at fewer.
        eigenvalues: how many of the largest ones, of the Hessian and of the NTK.
        tol: relative accuracy asked of every eigenvalue.
        cold_every: at every so many probe steps, check the warm start by a cold one.
        max_products: give up on an eigenvalue after so many products with a vector; it is then marked unconverged.
        trace_vectors: random vectors behind a trace.
    """

    quantities: Annotated[list[CurvatureQuantity], Field(min_length=1)]
    images: Count
    eigenvalues: Count = 1
    tol: Annotated[Positive, Field(lt=1)] = 1e-3
    cold_every: Count = 5
    max_products: Annotated[int, Field(ge=10, strict=True)] = 300
    trace_vectors: Replicates = 30
    steps: Annotated[list[Steps], Field(min_length=1)] | None = None

    _distinct = field_validator("quantities")(distinct)

    @field_validator("steps")
    @classmethod
    def _each_step_once(cls, steps: list[int] | None) -> list[int] | None:
        """In one order, so that one measurement has one name."""
        return steps and sorted(distinct(steps))

    @model_serializer(mode="wrap")
    def _as_it_was(self, known: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without steps that are not given: names of jobs and of criteria are those of settings without this key."""
        return {key: value for key, value in known(self).items() if key != "steps" or value is not None}

    def at(self, probe_steps: Iterable[int]) -> list[int]:
        """Those of the probe steps of a job at which it is measured, ascending."""
        return sorted(step for step in probe_steps if self.steps is None or step in self.steps)


class SharpnessSpec(Spec):
    """Curvature along one training job.

    Attributes:
        learning_rates: those of the job at which it is measured; None is all of them.
        seeds: those of the job at which it is measured, from 0 on; None is all of them.
    """

    training: TrainingSpec
    curvature: CurvatureSpec
    learning_rates: Annotated[list[Positive], Field(min_length=1)] | None = None
    seeds: Annotated[list[Steps], Field(min_length=1)] | None = None

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int] | None) -> list[int] | None:
        return seeds and sorted(distinct(seeds))

    @model_validator(mode="after")
    def _fits_the_job(self) -> SharpnessSpec:
        check_curvature(self.training, self.curvature)
        unknown = [rate for rate in self.learning_rates or [] if rate not in self.training.learning_rates]
        if unknown:
            raise ValueError(
                f"learning_rates = {unknown[0]}: not one of the job's, allowed: {self.training.learning_rates}"
            )
        beyond = [seed for seed in self.seeds or [] if seed >= self.training.seeds]
        if beyond:
            raise ValueError(f"seeds = {beyond[0]}: not one of the job's, allowed: 0 to {self.training.seeds - 1}")
        return self

    @property
    def steps(self) -> list[int]:
        """Probe steps of the job at which it is measured, ascending."""
        return self.curvature.at(self.training.probe_steps)

    @property
    def members(self) -> list[int]:
        """Places of the measured networks among the members of the job."""
        rates, members = self.learning_rates or self.training.learning_rates, enumerate(self.training.members)
        return [place for place, (rate, seed) in members if rate in rates and (not self.seeds or seed in self.seeds)]

    @property
    def name(self) -> str:
        """Name of the measurement, part of its file names: that of the job, and what tells its settings apart."""
        settings = [self.curvature.model_dump(mode="json"), self.learning_rates]
        return run_id(self.training.run, digest(settings)) + (f"{PART}{_ranges(self.seeds)}" if self.seeds else "")

    def is_named(self, name: str) -> bool:
        """Whether a name is that of this measurement, or of some seeds of it."""
        return name == self.name or name.startswith(f"{self.name}{PART}")


def _ranges(numbers: list[int]) -> str:
    """``0_to_4_7`` for 0, 1, 2, 3, 4, 7: names of files must stay short."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return "_".join(str(a) if a == b else f"{a}_to_{b}" for a, b in zip(starts, ends, strict=True))


OUTPUTS = 10  # classes of images here: the NTK of n images, and the Gauss-Newton part, have rank 10 n at most


def check_curvature(training: TrainingSpec, curvature: CurvatureSpec) -> None:
    """Raise if a job has nothing to measure, too few images, no preconditioner, or no augmentation."""
    if not training.probe_steps:
        raise ValueError(f"probe_steps = []: curvature is measured at probe steps, run {training.run} has none")
    unknown = [step for step in curvature.steps or [] if step <= training.steps and step not in training.probe_steps]
    if unknown:
        raise ValueError(f"curvature.steps = {unknown[0]}: not one of probe_steps = {training.probe_steps}")
    check_images("curvature.images", curvature.images, training.data)
    most = OUTPUTS * curvature.images
    if curvature.eigenvalues > most:
        raise ValueError(
            f"curvature.eigenvalues = {curvature.eigenvalues}: at most {OUTPUTS} curvature.images = {most}"
        )
    if "preconditioned_sharpness" in curvature.quantities and training.optimizer.name == OptimizerName.SGD:
        raise ValueError(
            "curvature.quantities = preconditioned_sharpness: sgd has no preconditioner; use adam or adamw"
        )
    if "augmented_sharpness" in curvature.quantities and not training.data.augmented:
        raise ValueError(
            "curvature.quantities = augmented_sharpness: training augments nothing; set data.crop, flip or rotation"
        )
