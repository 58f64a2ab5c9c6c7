"""Specs of curvature measurements along training."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from featurespeed.data.spec import check_images
from featurespeed.parameterization import OptimizerName
from featurespeed.training.spec import TrainingSpec, digest, run_id
from featurespeed.values import Count, Positive, Replicates, Spec, distinct

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
    "residual_norm",
    "feature_speed",
]
CURVATURE_QUANTITIES: tuple[str, ...] = get_args(CurvatureQuantity)


class CurvatureSpec(Spec):
    """What is measured at the weights that training kept.

    Attributes:
        quantities: names, as in the records; ``feature_speed`` stands for all quantities of the feature speed formula
            at every cut node, ``augmented_sharpness`` for the sharpness on the same images, augmented as in training.
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
    """Curvature along one training job.

    Attributes:
        learning_rates: those of the job at which it is measured; None is all of them.
    """

    training: TrainingSpec
    curvature: CurvatureSpec
    learning_rates: Annotated[list[Positive], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _fits_the_job(self) -> SharpnessSpec:
        check_curvature(self.training, self.curvature)
        unknown = [rate for rate in self.learning_rates or [] if rate not in self.training.learning_rates]
        if unknown:
            raise ValueError(
                f"learning_rates = {unknown[0]}: not one of the job's, allowed: {self.training.learning_rates}"
            )
        return self

    @property
    def members(self) -> list[int]:
        """Places of the measured networks among the members of the job."""
        rates = self.learning_rates or self.training.learning_rates
        return [place for place, (rate, _) in enumerate(self.training.members) if rate in rates]

    @property
    def name(self) -> str:
        """Name of the measurement, part of its file names: that of the job, and what tells its settings apart."""
        settings = [self.curvature.model_dump(mode="json"), self.learning_rates]
        return run_id(self.training.run, digest(settings))


def check_curvature(training: TrainingSpec, curvature: CurvatureSpec) -> None:
    """Raise if a job has nothing to measure, too few images, no preconditioner, or no augmentation."""
    if not training.probe_steps:
        raise ValueError(f"probe_steps = []: curvature is measured at probe steps, run {training.run} has none")
    check_images("images", curvature.images, training.data)
    if "preconditioned_sharpness" in curvature.quantities and training.optimizer.name == OptimizerName.SGD:
        raise ValueError("quantities = preconditioned_sharpness: sgd has no preconditioner; use adam or adamw")
    if "augmented_sharpness" in curvature.quantities and not training.data.augmented:
        raise ValueError(
            "curvature.quantities = augmented_sharpness: training augments nothing; set data.crop, flip or rotation"
        )
