"""How many weights the layers of a network have, and how many operations a gradient takes; without building it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from featurespeed.data.registry import DATASETS
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
    """The layers of a network from input to readout, as :mod:`featurespeed.models.networks` builds it."""
    channels, height, columns = shape
    convolutional = model.kind == "convnet"
    learns = {
        role: scaling_rule(parameterization, role, width, optimizer=optimizer).lr_scale != 0 for role in LayerRole
    }
    layers: list[Layer] = []

    def add(role: LayerRole, fan_in: int, fan_out: int, halvings: int = 0) -> None:
        kernel = convolutional and role != LayerRole.READOUT
        places = (height >> halvings) * (columns >> halvings) if kernel else 1
        weights = fan_in * fan_out * (KERNEL_PLACES if kernel else 1)
        layers.append(Layer(weights, places, learns[role], any(layer.learns for layer in layers)))

    add(LayerRole.INPUT, channels if convolutional else math.prod(shape), width)
    halvings = 0
    for pooled in _hidden(model, min(height, columns)):
        halvings += pooled
        add(LayerRole.HIDDEN, width, width, halvings)
    pixels = (height >> halvings) * (columns >> halvings) if convolutional and model.readout == "flat" else 1
    add(LayerRole.READOUT, width * pixels, classes)
    return layers


def _hidden(model: ModelSpec, side: int) -> Iterable[bool]:
    """Of every hidden layer, whether the image is halved before it (arXiv:2402.17457, App. J.4)."""
    every = model.pool_every if model.pool_every is not None else (3 if model.residual else 1)
    for block in range(1, model.depth + model.residual):
        pools = model.kind == "convnet" and every and block % every == 0 and side // 2 >= model.smallest_side
        side = side // 2 if pools else side
        if model.residual:
            yield from [False] * model.layers_per_block
        if pools or not model.residual:
            yield bool(pools)


def layers_of_job(run: TrainingSpec) -> list[Layer]:
    """The layers of one network of a job."""
    data = DATASETS[run.data.name]
    channels, height, columns = data.shape
    shape = channels, height // run.data.downscale, columns // run.data.downscale
    return layers_of(run.model, run.width, shape, data.classes, run.parameterization, run.optimizer.name)


def gradient_flop(layers: Iterable[Layer]) -> int:
    """FLOP of an image, forward and backward."""
    return sum(layer.gradient for layer in layers)
