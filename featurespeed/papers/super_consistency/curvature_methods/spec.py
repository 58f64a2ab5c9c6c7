"""Spec of the comparison of methods that measure the sharpness."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from featurespeed.data.spec import DataSpec, check_images
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import Parameterization
from featurespeed.training.spec import TrainingSpec, run_id
from featurespeed.values import (
    Count,
    Positive,
    Replicates,
    Seed,
    Spec,
    Steps,
    Width,
    check_file_names,
    check_labels,
    distinct,
)


class MethodsRun(Spec):
    """One training run along which all methods measure.

    Attributes:
        model: architecture.
        learning_rate: base learning rate of SGD; the sharpness compares with 2 over it.
        probe_steps: after how many updates all methods measure; 0, the initialisation, is one of them.
        starts: random starts of the project's own method at every probe step.
        reference_starts: random starts of the other methods, and of the own one without its cold checks; the first ones
            of those above.
    """

    model: ModelSpec
    width: Width
    learning_rate: Positive
    probe_steps: Annotated[list[Steps], Field(min_length=1)]
    starts: Replicates
    reference_starts: Replicates

    _distinct = field_validator("probe_steps")(distinct)

    @model_validator(mode="after")
    def _initialisation_and_fewer_references(self) -> MethodsRun:
        if 0 not in self.probe_steps:
            raise ValueError(f"probe_steps = {self.probe_steps}: must hold 0, where methods differ most")
        if self.reference_starts > self.starts:
            raise ValueError(f"reference_starts = {self.reference_starts}: at most starts = {self.starts}")
        return self


class SharpnessMethodsSpec(Spec):
    """Methods of measuring the sharpness, at the weights that training kept.

    Attributes:
        runs: label -> network and training run.
        images: size of the fixed batch on which the sharpness is measured.
        cold_every: of the project's own warm-started measurement, as in the stage that measures curvature.
    """

    artefact: str
    data: DataSpec
    runs: Annotated[dict[str, MethodsRun], Field(min_length=1)]
    parameterization: Parameterization
    batch_size: Count
    steps: Count
    images: Count
    cold_every: Count
    seed: Seed

    @model_validator(mode="after")
    def _every_network_can_be_trained(self) -> SharpnessMethodsSpec:
        check_images("images", self.images, self.data)
        check_labels("runs", self.runs)
        check_file_names("runs", {label: job.run for label, job in self.training_runs.items()})
        return self

    @property
    def training_runs(self) -> dict[str, TrainingSpec]:
        """Label -> training job whose weights are measured."""
        return {
            label: TrainingSpec(
                run=run_id(self.artefact, label),
                data=self.data,
                model=run.model,
                width=run.width,
                parameterization=self.parameterization,
                learning_rates=[run.learning_rate],
                seeds=1,
                batch_size=self.batch_size,
                steps=self.steps,
                probe_steps=run.probe_steps,
                seed=self.seed,
            )
            for label, run in self.runs.items()
        }
