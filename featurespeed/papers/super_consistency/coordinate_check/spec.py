"""Specs of the artefacts of arXiv:2402.17457."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from featurespeed.data.spec import DataSpec, check_batch, check_images
from featurespeed.models.spec import ModelSpec, check_model
from featurespeed.papers.super_consistency.coordinate_check.spec_transformers import (
    OVER_WIDTH,
    TRANSFORMER,
    TransformerExponentSpec,
    TransformerSpec,
    check_networks,
    datasets,
)
from featurespeed.parameterization import Form, OptimizerName, Parameterization, covered_optimizers
from featurespeed.training.spec import OptimizerSpec, TrainingSpec, run_id
from featurespeed.values import (
    Count,
    Counts,
    Number,
    Positive,
    Replicates,
    Seed,
    Spec,
    Width,
    Widths,
    distinct,
    integers,
)

UpdateSteps = integers(Count, 1)
LearningRates = Annotated[dict[OptimizerName, Positive], Field(min_length=1)]


class CoordinateSpec(Spec):
    """Coordinate check over the width: one artefact, all parameterizations.

    Attributes:
        plain, residual: models; Depth-muP, which scales residual branches, takes the second.
        learning_rates: optimizer -> base learning rate, the same at every width.
        widths, seeds: networks.
        steps: after how many updates to look.
        probe_images: size of the fixed batch on which activations are compared.
        small_outputs: ``gamma_0`` of one more check of muP and Depth-muP, whose outputs start that much smaller. At
            finite width they start at a size of 1/sqrt(N), which the loss feels: how much of a slope comes from there.
        transformers: label -> network, trained with Adam; after the same steps.
    """

    artefact: str
    data: DataSpec
    plain: ModelSpec
    residual: ModelSpec
    parameterizations: Annotated[list[Parameterization], Field(min_length=1)]
    learning_rates: LearningRates
    widths: Annotated[Widths, Field(min_length=3)]
    steps: UpdateSteps
    seeds: Replicates
    batch_size: Count
    probe_images: Count
    small_outputs: Annotated[Number, Field(gt=1)]
    transformers: dict[str, TransformerSpec]
    seed: Seed

    _distinct = field_validator("parameterizations", "widths", "steps")(distinct)
    _labels = field_validator("transformers")(check_networks)

    @model_validator(mode="after")
    def _everything_can_be_trained(self) -> CoordinateSpec:
        check_batch(self.batch_size, self.data)
        check_images("probe_images", self.probe_images, self.data)
        check_rates("learning_rates", self.learning_rates, {OptimizerName.SGD})  # of the further checks of muP
        for name in self.parameterizations:
            check_model(name, self.model_of(name))
        return self

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets that the stage reads."""
        return datasets(self.data, self.transformers)

    @property
    def transformer_runs(self) -> list[tuple[str, TrainingSpec, int]]:
        """``(case, job, examples of the fixed batch)`` of every transformer and parameterization at every width."""
        steps = {"steps": max(self.steps), "probe_steps": self.steps}
        return [
            (
                TRANSFORMER + label,
                network.training(self.artefact, label, name, width, **steps),
                network.probe_examples,
            )
            for label, network in self.transformers.items()
            for name in OVER_WIDTH
            for width in network.widths
        ]

    def model_of(self, parameterization: Parameterization) -> ModelSpec:
        """The model in which a parameterization is checked."""
        return self.residual if parameterization == Parameterization.DEPTH_MUP else self.plain

    @property
    def cases(self) -> list[tuple[Parameterization, OptimizerName]]:
        """Every parameterization with each optimizer that it covers."""
        return [(name, optimizer) for name in self.parameterizations for optimizer in used(name, self.learning_rates)]

    def with_small_outputs(self, parameterization: Parameterization, width: int) -> TrainingSpec:
        """``gamma_0 = small_outputs`` and a learning rate that moves the features as before, at first order."""
        rate = self.learning_rates[OptimizerName.SGD] / self.small_outputs
        return self.training(
            parameterization, OptimizerName.SGD, width, gamma0=self.small_outputs, learning_rates=[rate]
        )

    def training(
        self, parameterization: Parameterization, optimizer: OptimizerName, width: int, **changes: Any
    ) -> TrainingSpec:
        """The few steps of training behind one case and width; ``changes`` are keys of :class:`TrainingSpec`."""
        settings = {
            "run": run_id(self.artefact, parameterization, optimizer, width),
            "data": self.data,
            "model": self.model_of(parameterization),
            "width": width,
            "parameterization": parameterization,
            "optimizer": OptimizerSpec(name=optimizer),
            "learning_rates": [self.learning_rates[optimizer]],
            "seeds": self.seeds,
            "batch_size": self.batch_size,
            "steps": max(self.steps),
            "probe_steps": self.steps,
            "tf32": "off",
            "seed": self.seed,
        }
        return TrainingSpec.model_validate(settings | changes)


#: Settings under which the two forms of a parameterization are compared; in the last two they differ.
FORM_VARIANTS: dict[str, OptimizerSpec] = {
    "sgd": OptimizerSpec(),
    "adam, eps = 0": OptimizerSpec(name=OptimizerName.ADAM, epsilon=0.0),
    "adam, eps by layer": OptimizerSpec(name=OptimizerName.ADAM, epsilon=1e-3),
    "adamw, independent decay": OptimizerSpec(name=OptimizerName.ADAMW, epsilon=0.0, weight_decay=0.1),
    "adam, one eps": OptimizerSpec(name=OptimizerName.ADAM, epsilon=1e-3, epsilon_by_layer=False),
    "adamw, decay follows layer": OptimizerSpec(
        name=OptimizerName.ADAMW, epsilon=0.0, weight_decay=0.1, decay_follows_layer=True
    ),
}


#: Parameterizations of which two forms are published.
TWO_FORMS = (Parameterization.NTP, Parameterization.MUP, Parameterization.DEPTH_MUP)


class DepthSpec(Spec):
    """Residual MLPs of several depths, for the exponents in L."""

    width: Width
    depths: Annotated[Counts, Field(min_length=3)]


class FormSpec(Spec):
    """Training runs that compare the two forms of a parameterization."""

    width: Width
    depth: Count
    steps: Count
    learning_rates: LearningRates


class ParameterizationSpec(Spec):
    """Measured exponents beside the stated ones, and the two published forms (Table 1).

    Attributes:
        learning_rates: optimizer -> base learning rate of the one step that gives the exponents; small, because they
            are those of the linear response.
        depth: of the MLPs whose width varies.
        transformers: label -> network, for one step of Adam.
    """

    artefact: str
    data: DataSpec
    parameterizations: Annotated[list[Parameterization], Field(min_length=1)]
    learning_rates: LearningRates
    widths: Annotated[Widths, Field(min_length=3)]
    depth: Annotated[int, Field(ge=2, strict=True)]
    over_depth: DepthSpec
    forms: FormSpec
    seeds: Replicates
    batch_size: Count
    probe_images: Count
    transformers: dict[str, TransformerExponentSpec]
    seed: Seed

    _distinct = field_validator("parameterizations", "widths")(distinct)
    _labels = field_validator("transformers")(check_networks)

    @model_validator(mode="after")
    def _batch_fits(self) -> ParameterizationSpec:
        check_batch(self.batch_size, self.data)
        check_images("probe_images", self.probe_images, self.data)
        return self

    @model_validator(mode="after")
    def _forms_can_be_compared(self) -> ParameterizationSpec:
        pairs = [(name, variant.name) for name in self.with_two_forms for variant in FORM_VARIANTS.values()]
        needed = {adam_or_sgd(kind) for name, kind in pairs if kind in covered_optimizers(name)}
        if not needed:
            names = ", ".join(TWO_FORMS)
            raise ValueError(f"parameterizations = {list(map(str, self.parameterizations))}: one of {names} is needed")
        check_rates("forms.learning_rates", self.forms.learning_rates, needed)
        return self

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets that the stage reads."""
        return datasets(self.data, self.transformers)

    @property
    def transformer_runs(self) -> list[tuple[str, TrainingSpec, int]]:
        """``(case, job, examples of the fixed batch)`` of every transformer over its widths and over its depths."""
        return [
            (f"{size} | {label}", job, network.probe_examples)
            for label, network in self.transformers.items()
            for size, job in network.runs(self.artefact, label)
        ]

    @property
    def with_two_forms(self) -> list[Parameterization]:
        """Those of which two forms are published."""
        return [name for name in TWO_FORMS if name in self.parameterizations]

    def _run(
        self, name: Parameterization, optimizer: OptimizerSpec, width: int, depth: int, **changes: Any
    ) -> TrainingSpec:
        residual = changes.pop("residual", name == Parameterization.DEPTH_MUP)
        settings = {
            "run": run_id(self.artefact, name, optimizer.name, width, depth),
            "data": self.data,
            "model": ModelSpec(kind="mlp", depth=depth, tau=1.0 if residual else 0.0),
            "width": width,
            "parameterization": name,
            "optimizer": optimizer,
            "learning_rates": [self.learning_rates.get(optimizer.name, 1.0)],
            "seeds": self.seeds,
            "batch_size": self.batch_size,
            "steps": 1,
            "probe_steps": [0, 1],
            "dtype": "float64",
            "seed": self.seed,
        }
        return TrainingSpec.model_validate(settings | changes)

    @property
    def exponent_runs(self) -> list[tuple[str, TrainingSpec]]:
        """``(case, job)``: every parameterization and optimizer over the widths, (Depth-)muP over the depths."""
        runs = []
        for name in self.parameterizations:
            for optimizer in used(name, self.learning_rates):
                kind = OptimizerSpec(name=optimizer)
                runs += [("width", self._run(name, kind, width, self.depth)) for width in self.widths]
        for name in (Parameterization.DEPTH_MUP, Parameterization.MUP):
            for optimizer in self.learning_rates:
                kind, width = OptimizerSpec(name=optimizer), self.over_depth.width
                runs += [
                    ("depth", self._run(name, kind, width, depth, residual=True)) for depth in self.over_depth.depths
                ]
        return runs

    def form_runs(self, variant: str) -> list[dict[Form, TrainingSpec]]:
        """The jobs of one variant, in both forms, for every parameterization that has two and covers its optimizer."""
        optimizer, forms = FORM_VARIANTS[variant], self.forms
        runs = []
        for name in self.with_two_forms:
            if optimizer.name not in covered_optimizers(name):
                continue
            rate = forms.learning_rates[adam_or_sgd(optimizer.name)]
            changes = {"learning_rates": [rate], "steps": forms.steps, "probe_steps": []}
            runs.append(
                {form: self._run(name, optimizer, forms.width, forms.depth, form=form, **changes) for form in Form}
            )
        return runs


def check_rates(key: str, rates: Mapping[OptimizerName, float], needed: Iterable[OptimizerName]) -> None:
    """Raise if an optimizer with which networks train has no learning rate."""
    missing = sorted(set(needed) - set(rates))
    if missing:
        raise ValueError(f"{key} = {list(map(str, rates))}: must hold {missing[0]}, too")


def used(parameterization: Parameterization, learning_rates: Mapping[OptimizerName, float]) -> list[OptimizerName]:
    """The optimizers with a learning rate that a parameterization covers."""
    return [name for name in learning_rates if name in covered_optimizers(parameterization)]


def adam_or_sgd(name: OptimizerName) -> OptimizerName:
    """AdamW takes the learning rate of Adam."""
    return OptimizerName.SGD if name == OptimizerName.SGD else OptimizerName.ADAM
