"""Specs of curvature measurements along training."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from featurespeed.parameterization import OptimizerName, Parameterization
from featurespeed.specs.training import (
    DataSpec,
    ModelSpec,
    OptimizerSpec,
    Steps,
    TrainingSpec,
    check_images,
    run_id,
)
from featurespeed.specs.values import Count, Positive, Replicates, Seed, Spec, Widths, distinct

CurvatureQuantity = Literal[
    "sharpness",
    "smallest_eigenvalue",
    "gauss_newton_eigenvalue",
    "residual_eigenvalue",
    "layer_sharpness",
    "directional_sharpness",
    "hessian_trace",
    "ntk_eigenvalue",
    "preconditioned_sharpness",
]
CURVATURE_QUANTITIES: tuple[str, ...] = get_args(CurvatureQuantity)


class CurvatureSpec(Spec):
    """What is measured at the weights that training kept.

    Attributes:
        quantities: names, as in the records.
        images: size of the fixed batch, the same one throughout training.
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

    _distinct = field_validator("quantities")(distinct)


class SharpnessSpec(Spec):
    """Curvature along one training job."""

    training: TrainingSpec
    curvature: CurvatureSpec

    @model_validator(mode="after")
    def _fits_the_job(self) -> SharpnessSpec:
        check_curvature(self.training, self.curvature)
        return self


def check_curvature(training: TrainingSpec, curvature: CurvatureSpec) -> None:
    """Raise if a job has nothing to measure, too few images, or no preconditioner."""
    if not training.probe_steps:
        raise ValueError(f"probe_steps = []: curvature is measured at probe steps, run {training.run} has none")
    check_images("images", curvature.images, training.data)
    if "preconditioned_sharpness" in curvature.quantities and training.optimizer.name == OptimizerName.SGD:
        raise ValueError("quantities = preconditioned_sharpness: sgd has no preconditioner; use adam or adamw")


class SharpnessRunsSpec(Spec):
    """Training jobs of several parameterizations and widths, and what is measured along them.

    Attributes:
        learning_rates: parameterization -> base learning rates.
        widths, seeds: networks.
    """

    artefact: str
    data: DataSpec
    model: ModelSpec
    learning_rates: Annotated[
        dict[Parameterization, Annotated[list[Positive], Field(min_length=1)]], Field(min_length=1)
    ]
    widths: Widths
    optimizer: OptimizerSpec = OptimizerSpec()
    batch_size: Count
    steps: Count
    probe_steps: Annotated[list[Steps], Field(min_length=1)]
    tf32: Literal["off", "train", "all"] = "train"
    curvature: CurvatureSpec
    seeds: Replicates
    seed: Seed

    _distinct = field_validator("widths", "probe_steps")(distinct)

    @model_validator(mode="after")
    def _every_job_can_be_measured(self) -> SharpnessRunsSpec:
        for job in self.training_runs.values():
            check_curvature(job, self.curvature)
        return self

    @property
    def training_runs(self) -> dict[str, TrainingSpec]:
        """Label -> training job, in the order of parameterizations and widths."""
        shared = {"data", "model", "optimizer", "batch_size", "steps", "probe_steps", "tf32", "seeds", "seed"}
        settings = {name: getattr(self, name) for name in shared}
        return {
            f"{name}, N = {width}": TrainingSpec(
                run=run_id(self.artefact, name, width),
                parameterization=name,
                width=width,
                learning_rates=rates,
                **settings,
            )
            for name, rates in self.learning_rates.items()
            for width in self.widths
        }
