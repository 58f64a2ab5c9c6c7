"""Taylor coefficients of ``s -> L(W - s xi G)`` in one or two extra forward passes (ours; for arXiv:2502.13110).

The abstract announces formulas for the first three coefficients of the minibatch loss; these are our reconstruction.
Inside one linear region of the activation they are exact, and no second derivative by the weights is needed. With the
Gram matrices ``K_k = A_k A_k^T`` and ``K^B_k = B_k B_k^T`` of features and backward pass, and ``R_k^(0) = K_k``:

    Z_k^(p) = A_{k-1}^(p) W_k^T - xi_k R_{k-1}^(p-1) B_k      A_k^(p) = D_k Z_k^(p)      R_k^(p) = A_k^(p) A_k^T
    c0 = L
    c1 = -sum_k xi_k <K_{k-1}, K^B_k>                          = -sum_k xi_k |G_k|^2
    c2 = -sum_k xi_k <R_{k-1}^(1), K^B_k> + <Z^(1), H Z^(1)>/2 = F + N
    c3 = -sum_k xi_k <R_{k-1}^(2), K^B_k> + <Z^(1), H Z^(2)> + T[Z^(1), Z^(1), Z^(1)]/6

with ``A_0^(p) = 0``, ``Z = Z_l``, and ``H`` and ``T`` the second and third derivatives of the loss by the outputs.
Sign: ``s > 0`` goes down the gradient, so ``c1 <= 0``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featurespeed.homogeneous.losses import OutputLoss


@dataclass(frozen=True)
class BackwardPass:
    """One minibatch of ``E`` networks, forward and backward; shapes ``[E, n, m_k]``.

    Attributes:
        activations: ``A_0 .. A_{l-1}``.
        slopes: ``D_1 .. D_{l-1}``.
        outputs: ``Z_l``.
        backward: ``B_1 .. B_l``, gradients of the loss by ``Z_1 .. Z_l``.
    """

    activations: Sequence[Tensor]
    slopes: Sequence[Tensor]
    outputs: Tensor
    backward: Sequence[Tensor]

    def gradients(self) -> list[Tensor]:
        """``G_k = B_k^T A_{k-1}``, each ``[E, m_k, m_{k-1}]``."""
        return [torch.bmm(b.transpose(1, 2), a) for b, a in zip(self.backward, self.activations, strict=True)]


@dataclass(frozen=True)
class TaylorCoefficients:
    """``L(W - s xi G) = c0 + c1 s + c2 s^2 + c3 s^3 + ...`` of every member, ``[E]`` each.

    Attributes:
        c0, c1, c2, c3: coefficients; NaN beyond the order that was asked for.
        feature_part: ``F`` of ``c2 = F + N``: curvature because features and weights move together.
        output_part: ``N`` of ``c2``: curvature of the loss by the outputs, never negative for a convex loss.
        velocities: ``Z_1^(1) .. Z_l^(1)``, derivatives of the layers' outputs by ``s``, ``[E, n, m_k]``.
    """

    c0: Tensor
    c1: Tensor
    c2: Tensor
    c3: Tensor
    feature_part: Tensor
    output_part: Tensor
    velocities: Sequence[Tensor]

    @property
    def directional_sharpness(self) -> Tensor:
        """``lambda_dir = g' Xi H Xi g / g' Xi g = -2 c2 / c1``, at most ``lambda_max(Xi^1/2 H Xi^1/2)``."""
        return -2 * self.c2 / self.c1

    @property
    def edge(self) -> Tensor:
        """Step ``-c1/c2 = 2/lambda_dir`` beyond which the quadratic model has grown; infinite where it never does.

        NaN if ``c2`` was not asked for.
        """
        return torch.where(self.c2 <= 0, math.inf, -self.c1 / self.c2)

    def change(self, step: Tensor | float, order: int = 3) -> Tensor:
        """Predicted ``L(W - s xi G) - L(W)`` of a step ``s``, up to ``s^order`` (1 to 3)."""
        terms = (self.c1 * step, self.c2 * step**2, self.c3 * step**3)
        return sum(terms[1:order], terms[0])


def coefficients(
    found: BackwardPass,
    weights: Sequence[Tensor],
    factors: Tensor,
    loss: OutputLoss,
    y: Tensor,
    order: int = 3,
    gradients: Sequence[Tensor] | None = None,
) -> TaylorCoefficients:
    """The coefficients up to ``order`` (1 to 3) of an ensemble; every order from the second on costs a forward pass.

    Args:
        found: the minibatch.
        weights: ``W_1 .. W_l``, ``[E, m_k, m_{k-1}]`` each.
        factors: ``xi``, ``[E, l]``.
        loss, y: the loss and its targets.
        gradients: ``G_1 .. G_l``, where they are known.
    """
    gradients = found.gradients() if gradients is None else gradients
    c0, nothing = loss.value(found.outputs, y), torch.full_like(factors[:, 0], math.nan)
    c1 = -(factors * torch.stack([g.square().sum((1, 2)) for g in gradients], 1)).sum(1)
    if order == 1:
        return TaylorCoefficients(c0, c1, nothing, nothing, nothing, nothing, [])
    own = [_through_gram(a, found, k, gradients[k]) for k, a in enumerate(found.activations)]
    first, own = _next_order(found, weights, factors, own, gradients)
    moved = first[-1]
    output_part = 0.5 * loss.second(found.outputs, y, moved, moved)
    feature_part = _against_backward(own, found, factors)
    c2 = feature_part + output_part
    if order == 2:
        return TaylorCoefficients(c0, c1, c2, nothing, feature_part, output_part, first)
    second, own = _next_order(found, weights, factors, own, gradients)
    c3 = _against_backward(own, found, factors)
    c3 = c3 + loss.second(found.outputs, y, moved, second[-1]) + loss.third(found.outputs, y, moved) / 6
    return TaylorCoefficients(c0, c1, c2, c3, feature_part, output_part, first)


def _through_gram(features: Tensor, found: BackwardPass, k: int, gradient: Tensor) -> Tensor:
    """``R B = A^(p) A^T B`` of layer ``k + 1``, in the cheaper order: ``(A^(p) A^T) B``, or ``A^(p) G^T``."""
    rows, fan_in, fan_out = features.shape[1], features.shape[2], gradient.shape[1]
    if rows * (fan_in + fan_out) < fan_in * fan_out:
        return torch.bmm(torch.bmm(features, found.activations[k].transpose(1, 2)), found.backward[k])
    return torch.bmm(features, gradient.transpose(1, 2))


def _against_backward(own: Sequence[Tensor | None], found: BackwardPass, factors: Tensor) -> Tensor:
    """``-sum_k xi_k <R_{k-1}, B_k B_k^T>``, ``[E]``, from the products ``R_{k-1} B_k``; None is 0."""
    total = torch.zeros_like(factors[:, 0])
    for k, (product, b) in enumerate(zip(own, found.backward, strict=True)):
        if product is not None:
            total = total - factors[:, k] * (product * b).sum((1, 2))
    return total


def _next_order(
    found: BackwardPass,
    weights: Sequence[Tensor],
    factors: Tensor,
    own: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor | None]]:
    """``Z_1^(p) .. Z_l^(p)``, and the products ``R_0^(p) B_1 .. R_{l-1}^(p) B_l``, from those of order p - 1.

    One forward pass. The input does not move, so the first product is 0 (None) from order 1 on.
    """
    outputs: list[Tensor] = []
    products: list[Tensor | None] = [None]
    moved: Tensor | None = None  # A_{k-1}^(p)
    for k, (matrix, product) in enumerate(zip(weights, own, strict=True)):
        z = torch.zeros_like(found.backward[k]) if product is None else -factors[:, k, None, None] * product
        if moved is not None:
            z = torch.baddbmm(z, moved, matrix.transpose(1, 2))
        outputs.append(z)
        if k + 1 < len(weights):
            moved = found.slopes[k] * z
            products.append(_through_gram(moved, found, k + 1, gradients[k + 1]))
    return outputs, products
