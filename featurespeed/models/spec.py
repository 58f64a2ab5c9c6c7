"""Spec of a model: architecture but for its width."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from featurespeed.parameterization import (
    Parameterization,
    ParameterizationError,
)
from featurespeed.values import Count, NonNegative, Number, Spec

KERNEL_PLACES = 9  # of a 3x3 convolution: what one unit sees of each channel


class ModelSpec(Spec):
    """Architecture but for its width.

    Attributes:
        kind: ``two_layer_linear`` (``depth`` is 1), ``mlp`` or ``convnet`` (3x3, stride 1).
        depth: of a plain network (``tau = 0``) the weight layers before the readout, the input layer included: the
            2-layer ConvNet of the second paper (input convolution, one hidden convolution, readout) has depth 2. Of a
            residual network the number of residual blocks; input layer and readout do not count: 6 blocks, depth 6.
        tau: weight of the skip connection, 0 for plain and 1 for residual networks.
        layers_per_block: weight layers in a residual branch.
        alpha: residual branches are multiplied with ``L^-alpha``; None takes that of the parameterization.
        pool_every: 2x2 average pooling after so many layers; None is the paper's rule: plain networks after every layer
            but the last, residual ones after every third block, there followed by one more convolution; 0 is never.
        smallest_side: no pooling to images smaller than this.
        readout: from the flattened features (``flat``) or from their mean over the image (``pooled``).
        activation: phi.
    """

    kind: Literal["two_layer_linear", "mlp", "convnet"]
    depth: Count
    tau: NonNegative = 0.0
    layers_per_block: Count = 1
    alpha: Number | None = None
    pool_every: Annotated[int, Field(ge=0, strict=True)] | None = None
    smallest_side: Count = 1
    readout: Literal["flat", "pooled"] = "flat"
    activation: Literal["relu", "gelu", "tanh", "linear"] = "relu"

    @property
    def residual(self) -> bool:
        """Whether there are skip connections."""
        return self.tau != 0

    @model_validator(mode="after")
    def _one_architecture(self) -> ModelSpec:
        if self.kind == "two_layer_linear" and (self.depth != 1 or self.residual):
            raise ValueError(f"depth = {self.depth}, tau = {self.tau:g}: a two-layer linear network has depth 1, tau 0")
        if not self.residual and (self.alpha is not None or self.layers_per_block != 1):
            raise ValueError(
                f"alpha = {self.alpha}, layers_per_block = {self.layers_per_block}:"
                " only residual networks (tau = 1) have branches; leave both out"
            )
        if self.kind != "convnet" and (self.pool_every or self.readout != "flat"):
            raise ValueError(f"pool_every = {self.pool_every}, readout = {self.readout!r}: only a convnet pools")
        return self


def check_model(parameterization: Parameterization, model: ModelSpec) -> None:
    """Raise if the parameterization does not cover the model, with the remedy."""
    if parameterization == Parameterization.DEPTH_MUP and not model.residual:
        raise ParameterizationError(
            f"parameterization = {parameterization}: scales residual branches, but tau = {model.tau:g} has none;"
            " set tau: 1, or use MUP"
        )
    if parameterization == Parameterization.DEPTH_MUP and model.alpha not in (None, 0.5):
        raise ParameterizationError(f"alpha = {model.alpha}: {parameterization} has 0.5; leave alpha out, or use MUP")
