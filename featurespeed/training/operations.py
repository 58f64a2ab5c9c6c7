"""How many weights the layers of a network have, and how many operations a gradient takes; without building it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from featurespeed.data.registry import DATASETS
from featurespeed.models.plan import InputShape, plan_network
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import LayerRole, OptimizerName, Parameterization, scaling_rule
from featurespeed.training.spec import TrainingSpec


@dataclass(frozen=True)
class Layer:
    """One weight matrix or kernel, or a vector.

    Attributes:
        weights: how many.
        multiply_adds: of an example, forward.
        learns: whether it has a learning rate.
        after_learning: whether a layer before it learns, so that the backward pass goes through it.
    """

    weights: int
    multiply_adds: int
    learns: bool
    after_learning: bool

    @property
    def forward(self) -> int:
        """FLOP of an example: two for each multiply-add."""
        return 2 * self.multiply_adds

    @property
    def gradient(self) -> int:
        """FLOP of an example, forward and backward: by the weight if it learns, by the input if that depends on one."""
        return self.forward * (1 + self.learns + self.after_learning)


def layers_of(
    model: ModelSpec,
    width: int,
    shape: InputShape,
    classes: int,
    parameterization: Parameterization = Parameterization.MUP,
    optimizer: OptimizerName = OptimizerName.SGD,
) -> list[Layer]:
    """The layers of a network from input to readout, as :mod:`featurespeed.models.plan` arranges them."""
    learns = {
        role: scaling_rule(parameterization, role, width, optimizer=optimizer).lr_scale != 0 for role in LayerRole
    }
    layers: list[Layer] = []
    for layer in plan_network(model, width, shape, classes).layers:
        before = any(earlier.learns for earlier in layers)
        layers.append(Layer(layer.weights, layer.multiply_adds, learns[layer.role], before))
    return layers


def layers_of_job(run: TrainingSpec) -> list[Layer]:
    """The layers of one network of a job, as far as is known without opening its data."""
    classes = DATASETS[run.data.name].outputs
    return layers_of(run.model, run.width, run.data.shape, classes, run.parameterization, run.optimizer.name)


def gradient_flop(layers: Iterable[Layer]) -> int:
    """FLOP of an example, forward and backward."""
    return sum(layer.gradient for layer in layers)
