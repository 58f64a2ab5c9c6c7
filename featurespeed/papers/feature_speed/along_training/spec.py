"""Spec of the first paper's formula, measured along training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from featurespeed.data.spec import DataSpec, check_images
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import Parameterization
from featurespeed.training.spec import TrainingSpec, run_id
from featurespeed.values import Count, Positive, Replicates, Seed, Spec, Steps, Width, check_file_names, distinct


class AlongTrainingSpec(Spec):
    """The feature speed formula along training: networks of several kinds, measured at the weights that training kept.

    Attributes:
        models: label -> architecture.
        learning_rates: base learning rates of SGD.
        probe_steps: after how many updates the formula is measured.
        images: size of the batch on which it is measured, in double precision.
    """

    artefact: str
    data: DataSpec
    models: Annotated[dict[str, ModelSpec], Field(min_length=1)]
    width: Width
    parameterization: Parameterization
    learning_rates: Annotated[list[Positive], Field(min_length=1)]
    batch_size: Count
    steps: Count
    probe_steps: Annotated[list[Steps], Field(min_length=1)]
    images: Count
    seeds: Replicates
    seed: Seed

    _distinct = field_validator("learning_rates", "probe_steps")(distinct)

    @model_validator(mode="after")
    def _every_model_can_be_trained(self) -> AlongTrainingSpec:
        check_images("images", self.images, self.data)
        if self.parameterization == Parameterization.RANDOM_FEATURES:
            raise ValueError(f"parameterization = {self.parameterization}: its features do not move and have no angle")
        check_file_names("models", {label: job.run for label, job in self.training_runs.items()})
        return self

    @property
    def training_runs(self) -> dict[str, TrainingSpec]:
        """Label -> training job whose weights are measured."""
        return {
            label: TrainingSpec(
                run=run_id(self.artefact, label),
                data=self.data,
                model=model,
                width=self.width,
                parameterization=self.parameterization,
                learning_rates=self.learning_rates,
                seeds=self.seeds,
                batch_size=self.batch_size,
                steps=self.steps,
                probe_steps=self.probe_steps,
                seed=self.seed,
            )
            for label, model in self.models.items()
        }
