"""Homogeneous MLPs as ensembles: ``Z_k = A_{k-1} W_k^T``, ``A_k = phi(Z_k)``, with ``phi(s) = a s + b |s|``.

Everything is ``[E, n, m]``: members, rows of the minibatch, units. There are no biases, so the network scales with
every weight, and inside one linear region its output is a product of weights and slopes. For arXiv:2502.13110, whose
abstract speaks of homogeneous MLPs; the notation and the rest are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from featurespeed.homogeneous.losses import OutputLoss
from featurespeed.homogeneous.scalings import scaling_factors, silent_layers
from featurespeed.homogeneous.taylor import BackwardPass, coefficients
from featurespeed.randomness import generator

if TYPE_CHECKING:  # specs need more than the base installation, networks do not
    from featurespeed.homogeneous.spec import GradientScaling


@dataclass(frozen=True)
class Evaluation:
    """What one minibatch says about each of ``E`` networks.

    Attributes:
        losses: ``[E]``.
        gradients: by the weights, one tensor ``[E, ...]`` a layer.
        factors: ``[E, l]``, the factor on the learning rate of each layer: ``W_k <- W_k - eta factors_k G_k``.
        c1, c2: ``[E]``, Taylor coefficients of the loss along that update (:mod:`featurespeed.homogeneous.taylor`).
        dead_layer: int64 ``[E]``, the layer that ends training, counted from 1; 0 if none (``silent_layers``).
    """

    losses: Tensor
    gradients: list[Tensor]
    factors: Tensor
    c1: Tensor
    c2: Tensor
    dead_layer: Tensor


class DescentNetwork(Protocol):
    """``E`` networks side by side that train with depth-wise scaled gradients.

    ``weights`` are ``[E, ...]`` each, from input to readout; ``rates`` are the parameterization's own factors on the
    learning rate, ``[E, l]``, which are part of :attr:`Evaluation.factors`.
    """

    @property
    def weights(self) -> list[Tensor]: ...

    @property
    def rates(self) -> Tensor: ...

    @property
    def members(self) -> int: ...

    def take(self, members: Sequence[int]) -> DescentNetwork: ...

    def initialise(self, seeds: Sequence[int]) -> DescentNetwork: ...

    def evaluate(self, x: Tensor, y: Tensor, scaling: GradientScaling, loss: OutputLoss) -> Evaluation: ...

    def hidden_features(self, x: Tensor) -> list[Tensor]: ...

    def __call__(self, x: Tensor) -> Tensor: ...


def inputs_of(x: Tensor) -> Tensor:
    """Images ``[E, n, C, H, W]`` (or vectors ``[E, n, m_0]``) as rows of norm ``sqrt(m_0)``; empty rows stay 0."""
    rows = x.flatten(2)
    norms = rows.norm(dim=2, keepdim=True)
    return rows * (math.sqrt(rows.shape[2]) / norms.clamp(min=torch.finfo(rows.dtype).tiny))


class HomogeneousMLP(nn.Module):
    """``E`` MLPs without biases.

    Args:
        sizes: ``m_0 .. m_l``, of the input, the hidden layers and the output.
        members: ``E``.
        activation: ``(a, b)`` of ``phi(s) = a s + b |s|``; the default is ReLU.
    """

    def __init__(self, sizes: Sequence[int], members: int = 1, activation: tuple[float, float] = (0.5, 0.5)):
        super().__init__()
        self.sizes, self.activation = list(sizes), activation
        matrices = [torch.empty(members, out, into) for into, out in zip(sizes, sizes[1:], strict=False)]
        self.matrices = nn.ParameterList([nn.Parameter(matrix) for matrix in matrices])

    @property
    def weights(self) -> list[Tensor]:
        """``W_1 .. W_l``, each ``[E, m_k, m_{k-1}]``."""
        return list(self.matrices)

    @property
    def members(self) -> int:
        """``E``."""
        return len(self.matrices[0])

    @property
    def rates(self) -> Tensor:
        """1 for every layer, ``[E, l]``: there is one learning rate."""
        return self.matrices[0].new_ones(self.members, len(self.matrices))

    def initialise(self, seeds: Sequence[int]) -> HomogeneousMLP:
        """Draw ``W_k ~ N(0, 1 / ((a^2 + b^2) m_{k-1}))``, the edge of chaos, one seed a member; returns the network.

        Drawn on the CPU in float32, so that every device and precision starts from the same numbers.
        """
        a, b = self.activation
        for k, matrix in enumerate(self.matrices, 1):
            std = 1 / math.sqrt((a**2 + b**2) * matrix.shape[2])
            for seed in set(seeds):
                drawn = torch.randn(matrix.shape[1:], generator=generator(seed, "weights", k))
                mine = [member for member, other in enumerate(seeds) if other == seed]
                matrix.data[mine] = (drawn * std).to(matrix)
        return self

    def take(self, members: Sequence[int]) -> HomogeneousMLP:
        """A network of some of the members, with copies of their weights."""
        like = self.matrices[0]
        other = HomogeneousMLP(self.sizes, len(members), self.activation).to(device=like.device, dtype=like.dtype)
        index = torch.as_tensor(members, dtype=torch.long, device=like.device)
        for mine, copy in zip(self.matrices, other.matrices, strict=True):
            copy.data.copy_(mine.data[index])
        return other

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[E, n, m_l]`` of images or vectors, or of one batch ``[1, n, ...]`` for all members."""
        a = inputs_of(x).expand(self.members, -1, -1)
        for matrix in self.matrices[:-1]:
            a = phi(torch.bmm(a, matrix.transpose(1, 2)), self.activation)
        return torch.bmm(a, self.matrices[-1].transpose(1, 2))

    @torch.no_grad()
    def hidden_features(self, x: Tensor) -> list[Tensor]:
        """``A_1 .. A_{l-1}``."""
        return forward_pass(inputs_of(x).expand(self.members, -1, -1), self.weights, self.activation)[0][1:]

    @torch.no_grad()
    def evaluate(self, x: Tensor, y: Tensor, scaling: GradientScaling, loss: OutputLoss) -> Evaluation:
        """Losses, gradients, factors and curvature on one minibatch."""
        x = inputs_of(x).expand(self.members, -1, -1)
        found = backward_pass(x, y, self.weights, loss, self.activation)
        gradients = found.gradients()
        factors = factors_of(found, gradients, scaling)
        taylor = coefficients(found, self.weights, factors, loss, y, order=2, gradients=gradients)
        dead = silent_layers(found.activations[1:], factors)
        return Evaluation(taylor.c0, gradients, factors, taylor.c1, taylor.c2, dead)


def phi(z: Tensor, activation: tuple[float, float]) -> Tensor:
    """``a z + b |z|``, with the slope 0 at 0, and second derivatives that load no compiler (those of ``abs`` do)."""
    a, b = activation
    return (a + b) * z.relu() - (a - b) * (-z).relu()


def forward_pass(
    x: Tensor, weights: Sequence[Tensor], activation: tuple[float, float]
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """``A_0 .. A_{l-1}``, the slopes ``D_1 .. D_{l-1}`` of the activation, and the output ``Z_l``."""
    a, b = activation
    activations, slopes = [x], []
    for matrix in weights[:-1]:
        z = torch.bmm(activations[-1], matrix.transpose(1, 2))
        sign = z.sign()
        slopes.append(a * sign.abs() + b * sign)  # 0 at 0, as that of torch.relu
        activations.append(slopes[-1] * z)
    return activations, slopes, torch.bmm(activations[-1], weights[-1].transpose(1, 2))


def backward_pass(
    x: Tensor, y: Tensor, weights: Sequence[Tensor], loss: OutputLoss, activation: tuple[float, float]
) -> BackwardPass:
    """Forward and backward pass of a minibatch ``x [E, n, m_0]``.

    ``B_l = dL/dZ_l``, ``B_k = (B_{k+1} W_{k+1}) D_k``.
    """
    activations, slopes, outputs = forward_pass(x, weights, activation)
    backward = [loss.gradient(outputs, y)]
    for matrix, slope in zip(reversed(weights[1:]), reversed(slopes), strict=True):
        backward.append(torch.bmm(backward[-1], matrix) * slope)
    return BackwardPass(activations, slopes, outputs, backward[::-1])


def factors_of(found: BackwardPass, gradients: Sequence[Tensor], scaling: GradientScaling | str) -> Tensor:
    """``xi_k`` of every member and layer, ``[E, l]``."""

    def norms(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([tensor.flatten(1).norm(dim=1) for tensor in tensors], 1)

    return scaling_factors(scaling, norms(found.activations), norms(found.backward), norms(gradients))
