"""The layers of a network, their sizes and their places, before anything is built.

One list of modules, from input to readout, is what networks are built from and what operations and memory are counted
from. Arrangement: arXiv:2402.17457, Eq. 1 and App. J.4; stages: the authors' code (:mod:`featurespeed.models.spec`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from featurespeed.models.spec import KERNEL_PLACES, STAGES, ModelSpec, Pooling
from featurespeed.parameterization import LayerRole

Image = tuple[int, int]  # height, width
KERNEL_SIDE = 3
NEVER_FALLING = ("relu", "tanh", "linear")  # activations of which the largest one is that of the largest number


@dataclass(frozen=True)
class LayerPlan:
    """One weight matrix, or one 3x3 kernel with zero padding.

    Attributes:
        inputs, outputs: channels of a convolution, features of a matrix.
        fan_in: what a unit sees, as the multiplier counts it (``D`` of the input layer).
        size: pixels of its output, (1, 1) for a matrix.
        in_branch: whether it lies in a residual branch, which carries the depth.
        gain: factor on its multiplier.
    """

    role: LayerRole
    inputs: int
    outputs: int
    fan_in: int
    kernel: bool = False
    stride: int = 1
    size: Image = (1, 1)
    in_branch: bool = False
    gain: float = 1.0


@dataclass(frozen=True)
class ModulePlan:
    """A link of the chain: layers, each after phi (``linear`` leaves it out), the first one also after pooling."""

    layers: tuple[LayerPlan, ...]
    activation: str
    pooling: Pooling | None = None
    tau: float = 0.0


@dataclass(frozen=True)
class NetworkPlan:
    """The chain from the input layer to the readout; ``gamma_fan_in`` is what ``gamma^2`` counts."""

    modules: tuple[ModulePlan, ...]
    gamma_fan_in: int

    @property
    def layers(self) -> list[LayerPlan]:
        """All layers in order."""
        return [layer for module in self.modules for layer in module.layers]


def plan_network(model: ModelSpec, width: int, input_shape: tuple[int, int, int], classes: int) -> NetworkPlan:
    """The chain of a model of ``width`` hidden units or channels on images ``(channels, height, width)``.

    Raises:
        ValueError: strides and pooling leave no pixel, or a convolution has no stride of its own; one line.
    """
    return _Planner(model, width, input_shape).plan(classes)


def is_strided_chain(plan: NetworkPlan) -> bool:
    """Whether a network is a chain of convolutions with max pooling after each, no skip, and no pixel that two places
    of a later one read: :mod:`featurespeed.models.strided` computes it faster.
    """
    _, *later = plan.modules
    convolutions = [layer for module in plan.modules[:-1] for layer in module.layers]
    return (
        all(layer.kernel and not layer.in_branch for layer in convolutions)
        and all(module.pooling == "max" and module.activation in NEVER_FALLING for module in later)
        and all(layer.stride >= KERNEL_SIDE for layer in convolutions[1:])
    )


class _Planner:
    """Walks through the layers of one model, with the image as it shrinks."""

    def __init__(self, model: ModelSpec, width: int, input_shape: tuple[int, int, int]):
        self.model, self.width, self.choices = model, width, model.choices
        self.channels, self.image = input_shape[0], input_shape[1:]
        self.strides = iter(self.choices.strides)
        self.activation = "linear" if model.kind == "two_layer_linear" else model.activation

    def plan(self, classes: int) -> NetworkPlan:
        first = self._input()
        hidden = list(self._stages() if self.model.staged else self._chain())
        readout = self._readout(classes)
        left = list(self.strides)
        if left:
            raise ValueError(f"strides = {list(self.choices.strides)}: {len(left)} more than there are convolutions")
        inputs = readout.layers[0].inputs
        counted = inputs if self.choices.gamma_fan_in == "readout" else self.width
        return NetworkPlan((first, *hidden, readout), counted)

    def _input(self) -> ModulePlan:
        if self.model.convolutional:
            return ModulePlan((self._convolution(LayerRole.INPUT, self.channels),), "linear")
        inputs = self.channels * math.prod(self.image)
        return ModulePlan((LayerPlan(LayerRole.INPUT, inputs, self.width, inputs),), "linear")

    def _readout(self, classes: int) -> ModulePlan:
        """After the stages of the authors' ConvNet there is no phi."""
        pooling = self._halve() if self.model.kind == "simple_convnet" or self.model.staged else None
        flat = self.model.convolutional and self.model.readout == "flat"
        inputs = self.width * (math.prod(self.image) if flat else 1)
        fan_in = inputs if self.choices.fan_in == "all" else self.width
        layer = LayerPlan(LayerRole.READOUT, inputs, classes, fan_in)
        return ModulePlan((layer,), "linear" if self.model.staged else self.activation, pooling)

    def _chain(self) -> Iterator[ModulePlan]:
        """Hidden layers one after the other, or residual blocks, with pooling by the rule of App. J.4."""
        if not self.model.residual:
            for layer in range(1, self.model.depth):
                yield self._plain(self._halve() if self._pools_after(layer) else None)
            return
        for block in range(1, self.model.depth + 1):
            yield self._block()
            if self._pools_after(block):
                yield self._plain(self._halve())

    def _stages(self) -> Iterator[ModulePlan]:
        """Blocks; then, twice, pooling, a convolution with no phi around it, and blocks."""
        for stage in range(STAGES):
            if stage:
                pooling = self._halve()
                yield ModulePlan((self._convolution(LayerRole.HIDDEN, self.width),), "linear", pooling)
            for _ in range(self.model.depth // STAGES):
                yield self._block()

    def _plain(self, pooling: Pooling | None) -> ModulePlan:
        return ModulePlan((self._hidden(),), self.activation, pooling)

    def _block(self) -> ModulePlan:
        layers = tuple(self._hidden(in_block=True) for _ in range(self.model.layers_per_block))
        return ModulePlan(layers, self.activation, tau=self.model.tau)

    def _hidden(self, in_block: bool = False) -> LayerPlan:
        gain = self.choices.gain if in_block else 1.0
        if self.model.convolutional:
            return self._convolution(LayerRole.HIDDEN, self.width, in_block, gain)
        return LayerPlan(LayerRole.HIDDEN, self.width, self.width, self.width, in_branch=in_block, gain=gain)

    def _convolution(self, role: LayerRole, inputs: int, in_block: bool = False, gain: float = 1.0) -> LayerPlan:
        stride = 1 if in_block else next(self.strides, 1)
        self.image = tuple(-(-side // stride) for side in self.image)  # of a 3x3 kernel with zero padding
        counts_all = role == LayerRole.INPUT or self.choices.fan_in == "all"
        fan_in = inputs * (KERNEL_PLACES if counts_all else 1)
        return LayerPlan(role, inputs, self.width, fan_in, True, stride, self.image, in_block, gain)

    def _pools_after(self, layer: int) -> bool:
        """Whether a chain is pooled after so many layers or blocks."""
        if self.model.kind == "simple_convnet":
            return True
        if not self.model.convolutional or min(self.image) // 2 < self.model.smallest_side:
            return False
        every = self.model.pool_every
        if every is None:
            every = 3 if self.model.residual else 1
        return bool(every) and layer % every == 0

    def _halve(self) -> Pooling:
        halved = tuple(side // 2 for side in self.image)
        if not all(halved):
            height, width = self.image
            raise ValueError(
                f"strides = {list(self.choices.strides)}: an image of {height} x {width} is left to be pooled,"
                " which leaves no pixel; take smaller strides or larger images"
            )
        self.image = halved
        return self.choices.pooling
