"""Specs of training: the optimizer, and one job that trains all learning rates and seeds of one size."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from featurespeed.data.spec import AnyData, check_batch
from featurespeed.models.plan import plan_network
from featurespeed.models.spec import ModelSpec, check_model
from featurespeed.parameterization import (
    Form,
    LayerRates,
    LayerRole,
    OptimizerName,
    Parameterization,
    check_adaptive,
    check_covered,
    scaling_rule,
)
from featurespeed.values import Count, Fraction, NonNegative, Positive, Seed, Spec, Steps, Width, as_written, distinct


class OptimizerSpec(Spec):
    """Optimizer but for its learning rate.

    Attributes:
        name: sgd, adam or adamw.
        momentum: of SGD.
        betas: of Adam.
        epsilon: of Adam, added to the square root of the second moment.
        epsilon_by_layer: multiply epsilon with the size of each layer's gradient (``epsilon_scale`` of the table),
            which keeps it as small beside the gradient at every width and in both forms of a parameterization.
        weight_decay: decoupled, ``W <- (1 - eta_0 weight_decay) W``; not for Adam, whose decay is AdamW.
        decay_follows_layer: multiply the decay with the layer's factor on the learning rate, too, as PyTorch's AdamW
            does with parameter groups; the two forms of a parameterization then differ.
        warmup_steps: the learning rate rises linearly over so many steps.
        layer_rates: Adam's factors on the learning rate: each layer's own (``table``: arXiv:2402.17457, Table 1), or
            ``gamma^2`` for all layers (``common``: the code of its authors); (Depth-)muP has both.
        depth_rates: whether Adam's factors carry ``1/sqrt(L)``: those of hidden layers (of residual branches, if there
            are any), or those of all layers if they are common. None: Depth-muP's of the table do, no others.
    """

    name: OptimizerName = OptimizerName.SGD
    momentum: Fraction = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    epsilon: NonNegative = 1e-8
    epsilon_by_layer: bool = True
    weight_decay: NonNegative = 0.0
    decay_follows_layer: bool = False
    warmup_steps: Steps = 0
    layer_rates: LayerRates = "table"
    depth_rates: bool | None = None

    @model_validator(mode="after")
    def _belongs_to_the_optimizer(self) -> OptimizerSpec:
        if self.momentum and self.name != OptimizerName.SGD:
            raise ValueError(f"momentum = {self.momentum}: only sgd has one; {self.name} has betas")
        if self.name == OptimizerName.SGD:
            for key in ("betas", "epsilon"):
                value = getattr(self, key)
                if value != type(self).model_fields[key].default:
                    raise ValueError(f"{key} = {as_written(value)}: only adam and adamw have it, and name = sgd")
        if self.weight_decay and self.name == OptimizerName.ADAM:
            raise ValueError(f"weight_decay = {self.weight_decay}: adam has none; use adamw")
        check_adaptive(self.name, self.layer_rates, self.depth_rates)
        return self

    @model_serializer(mode="wrap")
    def _without_unused_choices(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs are named, and kept, by their settings: one from before these choices stays the same run."""
        defaults = {name: type(self).model_fields[name].default for name in ("layer_rates", "depth_rates")}
        return {
            name: value for name, value in serialise(self).items() if name not in defaults or value != defaults[name]
        }


class TrainingSpec(Spec):
    """One training job: one architecture and size, all learning rates x seeds.

    Attributes:
        run: id of the job, part of its file names.
        learning_rates: base learning rates ``eta_0``.
        seeds: number of initialisations; for a seed every learning rate sees the same weights and batches.
        batch_size: None is the whole training set at every step, in order.
        loss: mean cross-entropy, or half of the mean squared distance to the one-hot label.
        record_every: steps between two records of the loss.
        probe_steps: steps after which the weights are kept for later stages; 0 is the initialisation.
        keep_state: keep the whole state of the optimizer with them, by which its next update can be told; without it
            only Adam's second moments are.
        tf32: where a GPU may round to TF32: nowhere, in training steps, or in later measurements, too.
    """

    run: str
    data: AnyData
    model: ModelSpec
    width: Width
    parameterization: Parameterization
    form: Form = Form.MULTIPLIERS
    gamma0: Positive = 1.0
    optimizer: OptimizerSpec = OptimizerSpec()
    learning_rates: Annotated[list[Positive], Field(min_length=1)]
    seeds: Count
    batch_size: Count | None
    steps: Count
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    record_every: Count = 10
    probe_steps: list[Steps] = []
    keep_state: bool = False
    tf32: Literal["off", "train", "all"] = "train"
    dtype: Literal["float32", "float64"] = "float32"
    seed: Seed

    _distinct = field_validator("learning_rates", "probe_steps")(distinct)

    @model_validator(mode="after")
    def _rules_across_keys(self) -> TrainingSpec:
        check_training(self)
        if self.probe_steps and max(self.probe_steps) > self.steps:
            raise ValueError(f"probe_steps = {max(self.probe_steps)}: training ends at steps = {self.steps}")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_choices(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs are named, and kept, by their settings: one from before this choice stays the same run."""
        return {name: value for name, value in serialise(self).items() if name != "keep_state" or value}

    @property
    def members(self) -> list[tuple[float, int]]:
        """``(learning rate, seed index)`` of every network of the job, in the order of the records."""
        return [(rate, seed) for seed in range(self.seeds) for rate in self.learning_rates]


def check_training(spec: TrainingSpec) -> None:
    """Raise if parameterization, model, optimizer, batch and data do not go together."""
    check_covered(spec.parameterization, spec.optimizer.name)
    check_model(spec.parameterization, spec.model)
    plan_network(spec.model, spec.width, spec.data.shape, classes=1)
    scaling_rule(
        spec.parameterization, LayerRole.READOUT, 2, optimizer=spec.optimizer.name, gamma0=spec.gamma0,
        layer_rates=spec.optimizer.layer_rates, depth_rates=spec.optimizer.depth_rates,
    )  # fmt: skip
    check_batch(spec.batch_size, spec.data)


def run_id(artefact: str, *parts: object) -> str:
    """Name of a training job: letters, digits and underscores only, so that it is a file name and a wildcard."""
    return re.sub(r"[^a-z0-9]+", "_", "_".join(map(str, (artefact, *parts))).lower()).strip("_")


def digest(settings: object) -> str:
    """Eight hex digits that name some settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
