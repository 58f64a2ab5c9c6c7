"""Layers that hold the weights of several networks, the members of an ensemble, side by side.

A weight has the members as its first dimension, ``[E, out, in]`` or ``[E, out, in, 3, 3]``; one network is the case
E = 1. Vectors travel as ``[E, batch, features]``, sequences as ``[E, batch, tokens, features]``, images as ``[batch,
E * channels, height, width]``, the layout of one grouped convolution, so that nothing is copied between layers. No
layer has a bias; those of transformers are layers of their own (:mod:`featurespeed.models.transformers`).

The first layer may be given fewer inputs than there are members, ``S`` with ``E`` a multiple of it: the first ``E / S``
members then see the first input, and so on. Members that differ in the learning rate alone share their batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.models.plan import NEVER_FALLING
from featurespeed.models.pooling import average_pool, max_pool
from featurespeed.models.spec import Pooling
from featurespeed.parameterization import LayerRole, ScalingRule

MUCH_SMALLER = 64  # times fewer inputs of a convolution than weights: a thousand channels on a few pixels

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "linear": lambda z: z,
}


def activate_and_pool(x: Tensor, activation: str, pooling: Pooling | None) -> Tensor:
    """``phi(x)``, then 2x2 pooling; the largest pixel is taken first where that is the same: a quarter of the work."""
    phi = ACTIVATIONS[activation]
    if pooling == "max" and activation in NEVER_FALLING:
        return phi(max_pool(x))
    if pooling is None:
        return phi(x)
    return max_pool(phi(x)) if pooling == "max" else average_pool(phi(x))


def on_gpu(x: Tensor) -> bool:
    """Whether a tensor is where the memory layout of images decides on the speed."""
    return x.is_cuda


class Weighted(nn.Module, ABC):
    """A layer with one weight, its role, and its row of the table of parameterizations.

    ``mean`` is that of its initialisation; ``part`` is the name of its role, or of the kind of vector that it is.
    """

    mean = 0.0

    def __init__(self, shape: tuple[int, ...], role: LayerRole, rule: ScalingRule):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape), requires_grad=rule.lr_scale != 0)
        self.role = role
        self.rule = rule

    @property
    def part(self) -> str:
        return str(self.role)

    @property
    def members(self) -> int:
        """Number of networks side by side."""
        return self.weight.shape[0]

    @abstractmethod
    def apply_weight(self, weight: Tensor, x: Tensor) -> Tensor:
        """The layer's output at any weight of the same shape; linear in both arguments."""

    def added_by(self, change: Tensor, x: Tensor) -> Tensor:
        """What a change of the weight adds to the output, at the input ``x``: the output is affine in the weight."""
        return self.apply_weight(change, x)

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(self.weight, x)


class MemberLinear(Weighted):
    """``x -> a W x``; ``[E, B, in] -> [E, B, out]``, or ``[S, B, in] -> [E, B, out]`` with shared inputs.

    Between ``B`` and ``in`` there may be more dimensions, which stay: those of tokens.
    """

    def __init__(self, members: int, fan_in: int, fan_out: int, role: LayerRole, rule: ScalingRule):
        super().__init__((members, fan_out, fan_in), role, rule)

    def apply_weight(self, weight: Tensor, x: Tensor) -> Tensor:
        if x.ndim > 3:
            return self.apply_weight(weight, x.flatten(1, -2)).unflatten(1, x.shape[1:-1])
        # beta = 0 ignores the first argument; alpha multiplies inside the matrix product, at no cost.
        nothing, inputs = x.new_zeros(()), x.shape[0]
        shared = weight.reshape(inputs, -1, weight.shape[-1])  # members with one input as one matrix
        z = torch.baddbmm(nothing, x, shared.transpose(1, 2), beta=0.0, alpha=self.rule.multiplier)
        if inputs == self.members:
            return z
        return z.unflatten(2, (-1, weight.shape[1])).transpose(1, 2).flatten(0, 1)


class MemberConv(Weighted):
    """3x3 convolution, zero padding; ``[B, E * in, H, W]`` or ``[B, S * in, H, W]`` to ``[B, E * out, H', W']``, with
    ``H' = H / stride`` rounded up.
    """

    def __init__(
        self,
        members: int,
        channels_in: int,
        channels_out: int,
        role: LayerRole,
        rule: ScalingRule,
        stride: int = 1,
    ):
        super().__init__((members, channels_out, channels_in, 3, 3), role, rule)
        self.stride = stride

    def apply_weight(self, weight: Tensor, x: Tensor) -> Tensor:
        kernel, groups = weight.flatten(0, 1), x.shape[1] // weight.shape[2]
        # A copy of the weights costs nothing beside the convolution, unless they are far more than the inputs. They are
        # compared member by member, so that networks alone and side by side are computed alike.
        if MUCH_SMALLER * (x.numel() // groups) < weight[0].numel():
            x = x * self.rule.multiplier
        else:
            kernel = kernel * self.rule.multiplier
        return functional.conv2d(x, kernel, stride=self.stride, padding=1, groups=groups)


class InputVectors(nn.Module):
    """First layer of an MLP: images ``[S, B, C, H, W]`` as vectors, ``h_1 = a W x``."""

    def __init__(self, layer: MemberLinear):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(2))


class InputImages(nn.Module):
    """First layer of a ConvNet: images ``[S, B, C, H, W]`` side by side as channels, ``h_1 = a W * x``.

    Args:
        layer: its convolution.
        channels_last: in training on a GPU, lay the images out with their channels last in memory, as do all layers
            behind it then (images of one channel have no last one). With max pooling an update takes 0.75 to 0.95 of
            the time (``docs/benchmarks.md``).
    """

    def __init__(self, layer: MemberConv, channels_last: bool = False):
        super().__init__()
        self.layer = layer
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        images = x.transpose(0, 1).flatten(1, 2)
        if self.channels_last and self.training and on_gpu(images):
            images = images.contiguous(memory_format=torch.channels_last)
        return self.layer(images)


class Block(nn.Module):
    """``h -> tau h + r a_k W_k phi(... a_1 W_1 phi(h))`` (arXiv:2402.17457, Eq. 1); ``tau = 0``, ``r = 1`` is plain.

    With ``pooling``, 2x2 pooling of ``phi(h)`` comes first (plain blocks only: a skip needs images of one size).
    """

    def __init__(
        self,
        layers: list[Weighted],
        activation: str,
        tau: float = 0.0,
        branch: float = 1.0,
        pooling: Pooling | None = None,
    ):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation, self.tau, self.branch, self.pooling = activation, tau, branch, pooling

    def forward(self, h: Tensor) -> Tensor:
        z = h
        for index, layer in enumerate(self.layers):
            z = layer(activate_and_pool(z, self.activation, None if index else self.pooling))
        if self.branch != 1.0:
            z = self.branch * z
        if self.tau == 0.0:
            return z
        return h + z if self.tau == 1.0 else self.tau * h + z


class Readout(nn.Module):
    """``f = a W phi(h)`` on flattened features or on their mean over the image; the result is ``[E, B, classes]``.

    With ``pooling``, 2x2 pooling of ``phi(h)`` comes first.
    """

    def __init__(self, layer: MemberLinear, activation: str, averaged: bool = False, pooling: Pooling | None = None):
        super().__init__()
        self.layer = layer
        self.activation, self.averaged, self.pooling = activation, averaged, pooling

    def forward(self, h: Tensor) -> Tensor:
        z = activate_and_pool(h, self.activation, self.pooling)
        if z.ndim == 4:  # images: [B, E * C, H, W] -> [E, B, C * H * W]
            batch, members = z.shape[0], self.layer.members
            z = z.mean((2, 3)) if self.averaged else z
            z = z.reshape(batch, members, -1).transpose(0, 1)
        return self.layer(z)
