"""How many weights the layers of a network have, and how many operations a gradient takes; without building it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from featurespeed.data.registry import DATASETS
from featurespeed.models.plan import plan_network
from featurespeed.models.spec import KERNEL_PLACES, ModelSpec
from featurespeed.parameterization import LayerRole, OptimizerName, Parameterization, scaling_rule
from featurespeed.training.spec import TrainingSpec


@dataclass(frozen=True)
class Layer:
    """One weight matrix or kernel.

    Attributes:
        weights: how many.
        places: pixels of its output, 1 for a matrix.
        learns: whether it has a learning rate.
        after_learning: whether a layer before it learns, so that the backward pass goes through it.
    """

    weights: int
    places: int
    learns: bool
    after_learning: bool

    @property
    def forward(self) -> int:
        """FLOP of an image: two for each multiply-add."""
        return 2 * self.weights * self.places

    @property
    def gradient(self) -> int:
        """FLOP of an image, forward and backward: by the weight if it learns, by the input if that depends on one."""
        return self.forward * (1 + self.learns + self.after_learning)


def layers_of(
    model: ModelSpec,
    width: int,
    shape: tuple[int, int, int],
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
        weights = layer.inputs * layer.outputs * (KERNEL_PLACES if layer.kernel else 1)
        before = any(earlier.learns for earlier in layers)
        layers.append(Layer(weights, math.prod(layer.size), learns[layer.role], before))
    return layers


def layers_of_job(run: TrainingSpec) -> list[Layer]:
    """The layers of one network of a job."""
    classes = DATASETS[run.data.name].classes
    return layers_of(run.model, run.width, run.data.shape, classes, run.parameterization, run.optimizer.name)


def gradient_flop(layers: Iterable[Layer]) -> int:
    """FLOP of an image, forward and backward."""
    return sum(layer.gradient for layer in layers)
