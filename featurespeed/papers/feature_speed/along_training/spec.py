"""Spec of the first paper's formula, measured along training."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from featurespeed.data.spec import AnyData, DataSpec, check_images
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import OptimizerName, Parameterization
from featurespeed.training.spec import OptimizerSpec, TrainingSpec, run_id
from featurespeed.values import Count, Positive, Replicates, Seed, Spec, Steps, Width, check_file_names, distinct

LearningRates = Annotated[list[Positive], Field(min_length=1)]
LABELS = {OptimizerName.SGD: "SGD", OptimizerName.ADAM: "Adam", OptimizerName.ADAMW: "AdamW"}


class TransformerRuns(Spec):
    """A transformer with data and sizes of its own, trained by one or more optimizers.

    Attributes:
        learning_rates: name of the optimizer -> base learning rates.
    """

    model: ModelSpec
    data: AnyData
    width: Width
    parameterization: Parameterization
    batch_size: Count
    learning_rates: Annotated[dict[OptimizerName, LearningRates], Field(min_length=1)]

    @field_validator("learning_rates")
    @classmethod
    def _distinct(cls, rates: dict[OptimizerName, list[float]]) -> dict[OptimizerName, list[float]]:
        return {optimizer: distinct(own) for optimizer, own in rates.items()}


class AlongTrainingSpec(Spec):
    """The feature speed formula along training: networks of several kinds, measured at the weights that training kept.

    Attributes:
        data, width, parameterization, learning_rates, batch_size: of the ``models``, which SGD trains.
        models: label -> architecture.
        transformers: label -> network with settings of its own.
        probe_steps: after how many updates the formula is measured.
        images: size of the batch on which it is measured, in double precision; of a text, the sequences.
    """

    artefact: str
    data: DataSpec
    models: Annotated[dict[str, ModelSpec], Field(min_length=1)]
    width: Width
    parameterization: Parameterization
    learning_rates: LearningRates
    batch_size: Count
    transformers: dict[str, TransformerRuns] = {}
    steps: Count
    probe_steps: Annotated[list[Steps], Field(min_length=1)]
    images: Count
    seeds: Replicates
    seed: Seed

    _distinct = field_validator("learning_rates", "probe_steps")(distinct)

    @model_validator(mode="after")
    def _every_model_can_be_trained(self) -> AlongTrainingSpec:
        check_images("images", self.images, self.data)
        _check_moves("", self.parameterization)
        for label, network in self.transformers.items():
            check_images("images", self.images, network.data)
            _check_moves(f"transformers.{label}.", network.parameterization)
        check_file_names("models", {label: job.run for label, job in self.training_runs.items()})
        return self

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets that its stage reads."""
        return list(dict.fromkeys(job.data.name for job in self.training_runs.values()))

    @property
    def training_runs(self) -> dict[str, TrainingSpec]:
        """Label -> training job whose weights are measured."""
        shared = {"data": self.data, "width": self.width, "parameterization": self.parameterization}
        shared |= {"learning_rates": self.learning_rates, "batch_size": self.batch_size}
        found = {label: self._job(label, model=model, **shared) for label, model in self.models.items()}
        for label, network in self.transformers.items():
            own = {name: getattr(network, name) for name in type(network).model_fields if name != "learning_rates"}
            for optimizer, rates in network.learning_rates.items():
                name = f"{label} with {LABELS[optimizer]}"
                try:
                    found[name] = self._job(name, optimizer=optimizer, learning_rates=rates, **own)
                except ValidationError as error:
                    reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(f"transformers.{label}: {reason}") from None
        return found

    def _job(self, label: str, optimizer: OptimizerName = OptimizerName.SGD, **settings: Any) -> TrainingSpec:
        return TrainingSpec(
            run=run_id(self.artefact, label),
            optimizer=OptimizerSpec(name=optimizer),
            keep_state=optimizer != OptimizerName.SGD,
            seeds=self.seeds,
            steps=self.steps,
            probe_steps=self.probe_steps,
            seed=self.seed,
            **settings,
        )


def _check_moves(key: str, parameterization: Parameterization) -> None:
    if parameterization == Parameterization.RANDOM_FEATURES:
        raise ValueError(f"{key}parameterization = {parameterization}: its features do not move and have no angle")
