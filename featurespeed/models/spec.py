"""Spec of a model: architecture but for its width, and the conventions of the second paper's networks.

The paper's text leaves open how its ConvNets are built. ``ours`` is what we built from the text before its authors'
code was known: convolutions of stride 1, average pooling, multipliers ``1/sqrt(N)`` with the channels for ``N``.
``authors`` is what their code does: strided convolutions, max pooling, multipliers that count all inputs of a unit (the
nine pixels of a kernel, the pixels before a flat readout), a gain of sqrt(2) in blocks, ``gamma^2`` equal to the inputs
of the readout. A convention is a set of defaults: each choice can be made on its own.

Transformers have choices of their own (:class:`TransformerChoices`). The authors' code has a ViT; its decoder and its
transformer with normalisation after the branches are not known, and those here are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from featurespeed.parameterization import (
    Parameterization,
    ParameterizationError,
    branch_exponent,
)
from featurespeed.values import Count, NonNegative, Number, Positive, Spec

KERNEL_PLACES = 9  # of a 3x3 convolution: what one unit sees of each channel
STAGES = 3  # of the authors' ConvNet, each a convolution, blocks, and pooling

Pooling = Literal["average", "max"]
FanIn = Literal["channels", "all"]
GammaFanIn = Literal["channels", "readout"]
DepthCounts = Literal["blocks", "layers"]
Convention = Literal["ours", "authors"]


@dataclass(frozen=True)
class Choices:
    """What the two conventions do differently.

    Attributes:
        strides: of the convolutions outside of blocks, in order; those that it does not name have stride 1.
        pooling: of 2x2 pixels.
        fan_in: ``N`` in the multipliers ``1/sqrt(N)`` of hidden layers and of the readout (variances, under SP):
            ``channels``, or ``all`` inputs of a unit, the nine pixels of a kernel and those before a flat readout.
        gain: factor on the layers of blocks.
        gamma_fan_in: ``N`` in ``gamma = gamma_0 sqrt(N)``: ``channels``, or all inputs of the ``readout``.
        depth_counts: ``L`` in ``L^-alpha`` and in Adam's rates: ``blocks``, or ``layers`` in them.
    """

    strides: tuple[int, ...]
    pooling: Pooling
    fan_in: FanIn
    gain: float
    gamma_fan_in: GammaFanIn
    depth_counts: DepthCounts


_OURS = Choices((), "average", "channels", 1.0, "channels", "blocks")
_AUTHORS = {"pooling": "max", "fan_in": "all", "gain": math.sqrt(2.0), "gamma_fan_in": "readout"}

#: (kind, convention) -> choices; kinds of which our convention alone is known are in no pair with the authors'.
CONVENTIONS: Mapping[tuple[str, str], Choices] = MappingProxyType(
    {
        ("two_layer_linear", "ours"): _OURS,
        ("mlp", "ours"): _OURS,
        ("convnet", "ours"): _OURS,
        ("simple_convnet", "ours"): _OURS,
        ("convnet", "authors"): Choices(strides=(2,), depth_counts="blocks", **_AUTHORS),
        ("simple_convnet", "authors"): Choices(strides=(2, 4), depth_counts="blocks", **_AUTHORS),
        ("vit", "ours"): _OURS,
        ("vit", "authors"): _OURS,
        ("gpt", "ours"): _OURS,
        ("post_ln", "ours"): _OURS,
    }
)


@dataclass(frozen=True)
class TransformerChoices:
    """What kinds of transformers, and conventions, do differently.

    Attributes:
        heads: of attention; they divide the width.
        hidden_ratio: hidden units of an MLP branch over the width.
        projection: whether the joined heads go through one more matrix.
        scaled_patches: whether the embedding of patches is a layer like the others; if not, it has the variances of
            PyTorch's ``Linear``, weights and biases ``1/(3 D)``, no multiplier, and still the learning rate of an input
            layer.
        patch: side of the squares of pixels that are its tokens; 0 where tokens come as such.
        activation: of the MLP branches.
    """

    heads: int
    hidden_ratio: float
    projection: bool
    scaled_patches: bool = True
    patch: int = 0
    activation: str = "gelu"


#: (kind, convention) -> choices. The ViT of the authors' code has 128 hidden units at any width, which is the width of
#: its only known run. The post-LN transformer is that of PyTorch's word-level language model, which has the data, the
#: sequence length and the heads of the paper.
TRANSFORMERS: Mapping[tuple[str, str], TransformerChoices] = MappingProxyType(
    {
        ("vit", "authors"): TransformerChoices(8, 1.0, projection=False, scaled_patches=False, patch=4),
        ("vit", "ours"): TransformerChoices(8, 4.0, projection=True, patch=4),
        ("gpt", "ours"): TransformerChoices(8, 4.0, projection=True),
        ("post_ln", "ours"): TransformerChoices(2, 1.0, projection=True, activation="relu"),
    }
)
_TRANSFORMERS_ONLY = ("heads", "hidden_ratio", "patch")
_CHOSEN = ("strides", "pooling", "fan_in", "gain", "gamma_fan_in", "depth_counts")


class ModelSpec(Spec):
    """Architecture but for its width.

    Attributes:
        kind: ``two_layer_linear`` (``depth`` is 1), ``mlp``, ``convnet`` (3x3 convolutions; in the authors' convention
            three stages of a convolution, blocks, and pooling), ``simple_convnet`` (pooling after each convolution,
            the last one included), ``vit`` (images in patches, and a class token that is read out), ``gpt`` (a decoder
            of tokens, normalised before each branch) or ``post_ln`` (the same, normalised after each branch).
        depth: of a plain network (``tau = 0``) the weight layers before the readout, the input layer included: the
            2-layer ConvNet of the second paper (input convolution, one hidden convolution, readout) has depth 2. Of a
            residual network, and of the authors' ConvNet whatever its ``tau``, the number of blocks; input layer,
            convolutions between blocks and readout do not count: 6 blocks, depth 6. Of a transformer the number of its
            residual branches, attention and MLP counted apart: 6 branches are 3 layers, depth 6.
        tau: weight of the skip connection, 0 for plain and 1 for residual networks.
        layers_per_block: weight layers in a block.
        alpha: residual branches are multiplied with ``L^-alpha``; None takes that of the parameterization.
        pool_every: 2x2 pooling after so many layers; None is the paper's rule: plain networks after every layer
            but the last, residual ones after every third block, there followed by one more convolution; 0 is never.
        smallest_side: no pooling to images smaller than this.
        readout: from the flattened features (``flat``) or from their mean over the image (``pooled``).
        activation: phi.
        convention: what the choices below are where they are left out (see :class:`Choices`, and for ``heads``,
            ``patch`` and ``hidden_ratio`` :class:`TransformerChoices`). A transformer has skip connections (``tau`` is
            1), and its kind says which activation it has where none is given.
    """

    kind: Literal["two_layer_linear", "mlp", "convnet", "simple_convnet", "vit", "gpt", "post_ln"]
    depth: Count
    tau: NonNegative = 0.0
    layers_per_block: Count = 1
    alpha: Number | None = None
    pool_every: Annotated[int, Field(ge=0, strict=True)] | None = None
    smallest_side: Count = 1
    readout: Literal["flat", "pooled"] = "flat"
    activation: Literal["relu", "gelu", "tanh", "linear"] = "relu"
    convention: Convention = "ours"
    strides: list[Count] | None = None
    pooling: Pooling | None = None
    fan_in: FanIn | None = None
    gain: Positive | None = None
    gamma_fan_in: GammaFanIn | None = None
    depth_counts: DepthCounts | None = None
    heads: Count | None = None
    patch: Count | None = None
    hidden_ratio: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _what_the_kind_implies(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        choices = TRANSFORMERS.get((given.get("kind"), given.get("convention", "ours")))
        return given if choices is None else {"tau": 1.0, "activation": choices.activation} | dict(given)

    @model_serializer(mode="wrap")
    def _without_unused_choices(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs are named, and kept, by their settings: one from before these choices stays the same run."""
        found = serialise(self).items()
        return {name: value for name, value in found if name not in _TRANSFORMERS_ONLY or value is not None}

    @property
    def transformer(self) -> TransformerChoices | None:
        """The choices of a transformer; None for other networks."""
        default = TRANSFORMERS.get((self.kind, self.convention))
        chosen = {name: value for name in _TRANSFORMERS_ONLY if (value := getattr(self, name)) is not None}
        return default and replace(default, **chosen)

    @property
    def reads_tokens(self) -> bool:
        """Whether its inputs are numbers of tokens, not images."""
        return self.kind in ("gpt", "post_ln")

    @property
    def residual(self) -> bool:
        """Whether there are skip connections."""
        return self.tau != 0

    @property
    def convolutional(self) -> bool:
        """Whether the layers before the readout are convolutions."""
        return self.kind in ("convnet", "simple_convnet")

    @property
    def staged(self) -> bool:
        """Whether it is built of the stages of the authors' ConvNet."""
        return self.kind == "convnet" and self.convention == "authors"

    @property
    def choices(self) -> Choices:
        """What the convention, and the choices made in its place, come to."""
        default = CONVENTIONS[self.kind, self.convention]
        chosen = {name: value for name in _CHOSEN if (value := getattr(self, name)) is not None}
        return Choices(**vars(default) | chosen | ({"strides": tuple(self.strides)} if self.strides else {}))

    @property
    def counted_depth(self) -> int:
        """``L``, as ``L^-alpha`` and Adam's rates count it."""
        return self.depth * (self.layers_per_block if self.choices.depth_counts == "layers" else 1)

    @model_validator(mode="after")
    def _one_architecture(self) -> ModelSpec:
        if (self.kind, self.convention) not in CONVENTIONS:
            known = " or ".join(kind for kind, convention in CONVENTIONS if convention == self.convention)
            raise ValueError(f"convention = {self.convention!r}: there is none of theirs for {self.kind}, only {known}")
        if self.kind == "two_layer_linear" and (self.depth != 1 or self.residual):
            raise ValueError(f"depth = {self.depth}, tau = {self.tau:g}: a two-layer linear network has depth 1, tau 0")
        if self.kind == "simple_convnet" and self.residual:
            raise ValueError(f"tau = {self.tau:g}: a simple_convnet has no skip connections, tau is 0")
        if not self.residual and self.alpha is not None:
            raise ValueError(f"alpha = {self.alpha}: only residual networks (tau = 1) have branches; leave it out")
        if not (self.residual or self.staged) and self.layers_per_block != 1:
            raise ValueError(
                f"layers_per_block = {self.layers_per_block}: only residual networks (tau = 1) and the authors' convnet"
                " have blocks; leave it out"
            )
        self._check_transformer()
        self._check_convolutions()
        return self

    def _check_transformer(self) -> None:
        if self.transformer is None:
            given = [name for name in _TRANSFORMERS_ONLY if getattr(self, name) is not None]
            if given:
                known = ", ".join(dict.fromkeys(kind for kind, _ in TRANSFORMERS))
                value = getattr(self, given[0])
                raise ValueError(f"{given[0]} = {value}: only transformers ({known}) have the choice; leave it out")
            return
        if self.tau != 1:
            raise ValueError(f"tau = {self.tau:g}: a transformer has skip connections, tau is 1")
        if self.depth % 2:
            raise ValueError(
                f"depth = {self.depth}: branches of attention and MLP in turn, a multiple of 2 (3 layers have depth 6)"
            )
        if self.patch is not None and self.reads_tokens:
            raise ValueError(f"patch = {self.patch}: only a vit has patches; leave it out")
        given = [name for name in (*_CHOSEN, "layers_per_block") if name in self.model_fields_set]
        for name in given:
            if getattr(self, name) not in (None, 1):
                raise ValueError(f"{name} = {getattr(self, name)}: a transformer has no such choice; leave it out")

    def _check_convolutions(self) -> None:
        if self.kind != "convnet" and self.pool_every is not None:
            raise ValueError(f"pool_every = {self.pool_every}: only a convnet is pooled by such a rule; leave it out")
        if not self.convolutional and self.readout != "flat":
            raise ValueError(f"readout = {self.readout!r}: only a convnet pools; leave it out")
        given = [name for name in _CHOSEN if getattr(self, name) is not None]
        if not self.convolutional and [name for name in given if name not in ("gain", "depth_counts")]:
            raise ValueError(f"{given[0]} = {getattr(self, given[0])!r}: only ConvNets have the choice; leave it out")
        blocks = self.residual or self.staged
        if not blocks and (self.gain is not None or self.depth_counts is not None):
            name = "gain" if self.gain is not None else "depth_counts"
            raise ValueError(
                f"{name} = {getattr(self, name)}: only residual networks (tau = 1) and the authors' convnet have"
                " blocks; leave it out"
            )
        if self.kind == "simple_convnet" and self.smallest_side != 1:
            raise ValueError(f"smallest_side = {self.smallest_side}: a simple_convnet always pools; leave it out")
        if self.strides == []:
            raise ValueError("strides = []: at least one is needed; leave it out to take those of the convention")
        if self.staged and self.depth % STAGES:
            raise ValueError(f"depth = {self.depth}: blocks of {STAGES} equal stages, a multiple of {STAGES}")
        if self.staged and (self.pool_every is not None or self.smallest_side != 1):
            raise ValueError("pool_every, smallest_side: the authors' convnet pools after each stage; leave them out")


def check_model(parameterization: Parameterization, model: ModelSpec) -> None:
    """Raise if the parameterization does not cover the model, with the remedy."""
    exponent = branch_exponent(parameterization)
    if exponent and not model.residual:
        raise ParameterizationError(
            f"parameterization = {parameterization}: scales residual branches, but tau = {model.tau:g} has none;"
            " set tau: 1, or use MUP"
        )
    if exponent and model.alpha not in (None, exponent):
        raise ParameterizationError(
            f"alpha = {model.alpha}: {parameterization} has {exponent:g}; leave alpha out, or use MUP"
        )


assert {kind for kind, _ in CONVENTIONS} == set(get_args(ModelSpec.model_fields["kind"].annotation))
