"""Settings of the coordinate checks of transformers, which train with Adam (arXiv:2402.17457, App. J.2, J.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from featurespeed.data.spec import AnyData, check_batch, check_images
from featurespeed.models.plan import plan_network
from featurespeed.models.spec import TRANSFORMERS, ModelSpec, check_model
from featurespeed.parameterization import OptimizerName, Parameterization
from featurespeed.training.spec import OptimizerSpec, TrainingSpec, run_id
from featurespeed.values import Count, Counts, Positive, Replicates, Seed, Spec, Width, Widths, check_labels, distinct

#: What begins the case of a transformer in the table of the coordinate check; its label follows.
TRANSFORMER = "transformer | "
#: In which a transformer is checked over the width: SP, the control, first.
OVER_WIDTH = (Parameterization.SP, Parameterization.MUP, Parameterization.DEPTH_MUP)
#: Whose exponents in the width are measured layer by layer, and whose in the depth; MUP has no factor in the depth.
EXPONENTS_IN_WIDTH = (Parameterization.SP, Parameterization.MUP)
EXPONENTS_IN_DEPTH = (Parameterization.DEPTH_MUP, Parameterization.MUP)


class TransformerSpec(Spec):
    """One transformer at several widths, for a few steps of Adam from one base learning rate.

    Attributes:
        data: images of a ViT, the text of a decoder.
        model: architecture; its depth counts residual branches, attention and MLP apart.
        widths, seeds: networks.
        learning_rate: base learning rate of Adam, the same at every width and in every parameterization.
        probe_examples: size of the fixed batch on which activations are compared.
        seed: root seed.
    """

    data: AnyData
    model: ModelSpec
    widths: Annotated[Widths, Field(min_length=3)]
    learning_rate: Positive
    seeds: Replicates
    batch_size: Count
    probe_examples: Count
    seed: Seed

    _distinct = field_validator("widths")(distinct)

    @model_validator(mode="after")
    def _can_be_trained(self) -> TransformerSpec:
        if self.model.transformer is None:
            known = ", ".join(dict.fromkeys(kind for kind, _ in TRANSFORMERS))
            raise ValueError(f"model.kind = {self.model.kind!r}: no transformer, allowed: {known}")
        check_batch(self.batch_size, self.data)
        check_images("probe_examples", self.probe_examples, self.data)
        check_model(Parameterization.DEPTH_MUP, self.model)
        for width in self.widths:
            plan_network(self.model, width, self.data.shape, classes=1)
        return self

    def training(
        self, artefact: str, label: str, parameterization: Parameterization, width: int, **changes: Any
    ) -> TrainingSpec:
        """The few steps of training of one width; ``changes`` are keys of :class:`TrainingSpec`."""
        model = changes.pop("model", self.model)
        settings = {
            "run": run_id(artefact, label, parameterization, width, model.depth),
            "data": self.data,
            "model": model,
            "width": width,
            "parameterization": parameterization,
            "optimizer": OptimizerSpec(name=OptimizerName.ADAM),
            "learning_rates": [self.learning_rate],
            "seeds": self.seeds,
            "batch_size": self.batch_size,
            "tf32": "off",
            "seed": self.seed,
        }
        return TrainingSpec.model_validate(settings | changes)


class TransformerDepthSpec(Spec):
    """Transformers of several depths, for the exponents in L; depths count residual branches."""

    width: Width
    depths: Annotated[Counts, Field(min_length=3)]

    _distinct = field_validator("depths")(distinct)


class TransformerExponentSpec(TransformerSpec):
    """One transformer for one step of Adam: at several widths, and at several depths.

    The learning rate is small, because exponents are those of the linear response. ``model.depth`` is that of the
    networks whose width varies.
    """

    over_depth: TransformerDepthSpec

    @model_validator(mode="after")
    def _depths_can_be_trained(self) -> TransformerExponentSpec:
        for depth in self.over_depth.depths:
            plan_network(self.of_depth(depth), self.over_depth.width, self.data.shape, classes=1)
        return self

    def of_depth(self, depth: int) -> ModelSpec:
        """The same architecture with so many residual branches; raises ValueError if there is none."""
        return ModelSpec.model_validate(self.model.model_dump() | {"depth": depth})

    def runs(self, artefact: str, label: str) -> Iterator[tuple[str, TrainingSpec]]:
        """``("width" or "depth", job)`` of every network."""
        one_step = {"steps": 1, "probe_steps": [0, 1], "dtype": "float64"}
        for name in EXPONENTS_IN_WIDTH:
            for width in self.widths:
                yield "width", self.training(artefact, label, name, width, **one_step)
        for name in EXPONENTS_IN_DEPTH:
            for depth in self.over_depth.depths:
                model, width = self.of_depth(depth), self.over_depth.width
                yield "depth", self.training(artefact, label, name, width, model=model, **one_step)


def check_networks(networks: Mapping[str, TransformerSpec]) -> Mapping[str, TransformerSpec]:
    """``networks`` if tables can tell their labels from other names."""
    check_labels("transformers", networks)
    return networks


def datasets(data: Any, networks: Mapping[str, TransformerSpec]) -> list[str]:
    """Names of the data sets that a stage reads, that of its other networks first."""
    return list(dict.fromkeys([data.name, *(network.data.name for network in networks.values())]))
