"""The layers of a network, their sizes and their places, before anything is built.

One list of modules, from input to readout, is what networks are built from and what operations and memory are counted
from. Arrangement: arXiv:2402.17457, Eq. 1 and App. J.4; stages: the authors' code (:mod:`featurespeed.models.spec`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from featurespeed.models.spec import KERNEL_PLACES, STAGES, ModelSpec, Pooling
from featurespeed.parameterization import LayerRole

Image = tuple[int, int]  # height, width
InputShape = tuple[int, ...]  # channels, height, width of an image; the length of a sequence of tokens
KERNEL_SIDE = 3
NEVER_FALLING = ("relu", "tanh", "linear")  # activations of which the largest one is that of the largest number


#: What stands beside the matrices of a transformer: a table of embeddings, one of which is looked up for each token;
#: one that is added at each position; a bias; the gain of a normalisation; a token of its own.
VectorKind = Literal["lookup", "positions", "bias", "gain", "token"]


@dataclass(frozen=True)
class LayerPlan:
    """One weight matrix, one 3x3 kernel with zero padding, or a vector of the width, or a table of such.

    Attributes:
        inputs, outputs: channels of a convolution, features of a matrix; rows and columns of a table.
        fan_in: what a unit sees, as the multiplier counts it (``D`` of the input layer).
        size: pixels of its output, or tokens; (1, 1) for a matrix that is used once.
        in_branch: whether it lies in a residual branch, which carries the depth.
        gain: factor on its multiplier.
        vector: which kind of vector it is; None for matrices and kernels.
        attended: multiply-adds at each of its places in products of queries, keys and values, which have no weights.
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
    vector: VectorKind | None = None
    attended: int = 0

    @property
    def weights(self) -> int:
        """How many there are."""
        if self.vector is not None:
            return self.outputs * (self.inputs if self.vector in ("lookup", "positions") else 1)
        return self.inputs * self.outputs * (KERNEL_PLACES if self.kernel else 1)

    @property
    def multiply_adds(self) -> int:
        """Of one input, forward; those of vectors are not worth counting."""
        return math.prod(self.size) * (self.attended + (0 if self.vector else self.weights))


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


def plan_network(model: ModelSpec, width: int, input_shape: InputShape, classes: int) -> NetworkPlan:
    """The chain of a model of ``width`` hidden units or channels on images ``(channels, height, width)``, or on
    sequences of ``(length,)`` tokens out of ``classes``.

    Raises:
        ValueError: strides and pooling leave no pixel, a convolution has no stride of its own, heads do not divide the
            width or patches the image, or the inputs are of the other kind; one line.
    """
    if model.reads_tokens != (len(input_shape) == 1):
        needed, given = ("a text", "images") if model.reads_tokens else ("images", "a text")
        raise ValueError(f"model.kind = {model.kind!r}: reads {needed}, and the data are {given}")
    planner = _Planner if model.transformer is None else _TransformerPlanner
    return planner(model, width, input_shape).plan(classes)


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


class _TransformerPlanner:
    """The embedding, branches of attention and of an MLP in turn, and the readout; layers in the order of their use."""

    def __init__(self, model: ModelSpec, width: int, input_shape: InputShape):
        self.model, self.width, self.input_shape, self.choices = model, width, input_shape, model.transformer
        if width % self.choices.heads:
            raise ValueError(f"width = {width}: a multiple of heads = {self.choices.heads} is needed")
        self.tokens = input_shape[0] if model.reads_tokens else self._patches() + 1
        self.places = (self.tokens, 1)

    def plan(self, classes: int) -> NetworkPlan:
        entry = self._tokens(classes) if self.model.reads_tokens else self._embedded_patches()
        branches = [self._mlp() if index % 2 else self._attention() for index in range(self.model.depth)]
        return NetworkPlan((entry, *branches, self._readout(classes)), self.width)

    def _patches(self) -> int:
        side, (_, *image) = self.choices.patch, self.input_shape
        if [length for length in image if length % side]:
            raise ValueError(f"patch = {side}: must divide the image of {image[0]} x {image[1]}")
        return math.prod(length // side for length in image)

    def _embedded_patches(self) -> ModulePlan:
        pixels = self.input_shape[0] * self.choices.patch**2
        matrix = LayerPlan(LayerRole.INPUT, pixels, self.width, pixels, size=(self.tokens - 1, 1))
        biases = () if self.choices.scaled_patches else (self._vector("bias"),)
        return ModulePlan((matrix, *biases, self._vector("token"), self._vector("positions", self.tokens)), "linear")

    def _tokens(self, vocabulary: int) -> ModulePlan:
        return ModulePlan((self._vector("lookup", vocabulary), self._vector("positions", self.tokens)), "linear")

    def _attention(self) -> ModulePlan:
        """Queries, keys and values without biases: that of the keys would have no effect, that of the values the one of
        the projection's.
        """
        attended = 2 * self.tokens * self.width  # products with all keys, and with all values
        matrices = [self._hidden(self.width, self.width, attended if name == "query" else 0) for name in QKV]
        if self.choices.projection:
            matrices += [self._hidden(self.width, self.width), self._vector("bias", in_branch=True)]
        return ModulePlan(self._normalised(matrices), "linear", tau=self.model.tau)

    def _mlp(self) -> ModulePlan:
        inner = round(self.choices.hidden_ratio * self.width)
        if inner < 1:
            raise ValueError(
                f"hidden_ratio = {self.choices.hidden_ratio:g}: no hidden unit is left at width {self.width}, at least"
                f" {1 / self.width:g} is needed"
            )
        layers = [self._hidden(self.width, inner), self._vector("bias", width=inner, in_branch=True)]
        layers += [self._hidden(inner, self.width), self._vector("bias", in_branch=True)]
        return ModulePlan(self._normalised(layers), self.model.activation, tau=self.model.tau)

    def _normalised(self, layers: list[LayerPlan]) -> tuple[LayerPlan, ...]:
        """Gain and bias of the normalisation before a branch, which lie in it, or behind it, which do not."""
        if self.model.kind == "post_ln":
            return (*layers, self._vector("gain"), self._vector("bias"))
        return (self._vector("gain", in_branch=True), self._vector("bias", in_branch=True), *layers)

    def _readout(self, classes: int) -> ModulePlan:
        places = self.places if self.model.reads_tokens else (1, 1)
        matrix = LayerPlan(LayerRole.READOUT, self.width, classes, self.width, size=places)
        normed = () if self.model.kind == "post_ln" else (self._vector("gain"), self._vector("bias"))
        return ModulePlan((*normed, matrix), "linear")

    def _hidden(self, inputs: int, outputs: int, attended: int = 0) -> LayerPlan:
        return LayerPlan(LayerRole.HIDDEN, inputs, outputs, inputs, size=self.places, in_branch=True, attended=attended)

    def _vector(self, kind: VectorKind, rows: int = 1, width: int | None = None, in_branch: bool = False) -> LayerPlan:
        width = self.width if width is None else width
        return LayerPlan(LayerRole.INPUT, rows, width, 1, size=self.places, in_branch=in_branch, vector=kind)


QKV = ("query", "key", "value")


class _Planner:
    """Walks through the layers of one model, with the image as it shrinks."""

    def __init__(self, model: ModelSpec, width: int, input_shape: InputShape):
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
