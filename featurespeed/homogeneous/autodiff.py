"""Taylor coefficients by nested automatic differentiation: the reference that the formulas are tested against (ours).

Slow and short on purpose, and without a line of :mod:`featurespeed.homogeneous.taylor`: the loss along the step is a
function of one number, and that function is differentiated as often as asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from featurespeed.homogeneous.losses import OutputLoss
from featurespeed.homogeneous.network import phi


def loss_along(
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    step: Tensor,
    loss: OutputLoss,
    activation: tuple[float, float],
    slopes: Sequence[Tensor] | None = None,
) -> Tensor:
    """``L(W - s v)``, ``[E]``, for steps ``s [E]`` along ``v`` (``xi_k G_k``); inputs ``[E, n, m_0]`` as they are.

    Args:
        slopes: of the activations, ``D_1 .. D_{l-1}``, instead of those that the moved network has: its loss as if its
            linear region never ended.
    """
    for k, (matrix, direction) in enumerate(zip(weights, directions, strict=True)):
        moved = matrix - step[:, None, None] * direction
        z = x @ moved.transpose(1, 2)
        if k + 1 < len(weights):
            x = phi(z, activation) if slopes is None else slopes[k] * z
    return loss.value(z, y)


def autodiff_coefficients(
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    loss: OutputLoss,
    activation: tuple[float, float],
    order: int = 3,
) -> list[Tensor]:
    """``c0 .. c_order`` of ``s -> L(W - s v)``, ``[E]`` each: derivatives at 0 over ``p!``."""
    with torch.enable_grad():
        step = torch.zeros(len(x), dtype=x.dtype, device=x.device, requires_grad=True)
        weights, directions = [w.detach() for w in weights], [v.detach() for v in directions]
        found = [loss_along(x, y, weights, directions, step, loss, activation)]
        for _ in range(order):
            last = found[-1]
            found.append(
                torch.autograd.grad(last.sum(), step, create_graph=True)[0]
                if last.requires_grad
                else torch.zeros_like(last)
            )
    return [value.detach() / math.factorial(p) for p, value in enumerate(found)]
