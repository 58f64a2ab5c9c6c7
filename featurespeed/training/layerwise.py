"""Gradient descent with layer-wise learning rates that depend on the gradient's own size (arXiv:2311.18718, Sec. 6,
App. C).

``eta_l = eta_0 |grad_l|^-p`` is homogeneous of degree ``-p`` in the gradient. With ``p = 2``, the paper's rule,
training does not depend on how a layer is parameterized: writing ``W_l = s_l V_l`` and training ``V_l`` multiplies
the gradient by ``s_l``, the learning rate by ``s_l^-p`` and the step of ``W_l`` by ``s_l^(2 - p)`` in all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import grad


def mlp_output(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """ReLU MLP ``W_L phi(... phi(W_1 x))`` on row vectors ``x [n, d]``; ``[n, k]``."""
    f = x @ weights[0].T
    for weight in weights[1:]:
        f = torch.relu(f) @ weight.T
    return f


def train_layerwise(
    weights: Sequence[Tensor],
    batch: tuple[Tensor, Tensor],
    *,
    steps: int,
    base_rate: float,
    homogeneity: float = 2.0,
    multipliers: Sequence[float] | None = None,
) -> Tensor:
    """Outputs ``[steps + 1, n, k]`` of an MLP trained by full-batch descent on ``|f - y|^2 / (2n)``.

    Args:
        weights: effective weights ``W_l`` at the start.
        base_rate: ``eta_0``; the rate of layer l is ``eta_0 |grad_l|^-homogeneity / L``.
        homogeneity: the exponent p; 2 is the scale-invariant rule of the paper, 0 is plain gradient descent.
        multipliers: ``s_l`` of the parameterization ``W_l = s_l V_l``, in which ``V_l`` is trained; default 1.
    """
    x, y = batch
    scales = [1.0] * len(weights) if multipliers is None else list(multipliers)
    trained = [weight / s for weight, s in zip(weights, scales, strict=True)]

    def output(values: Sequence[Tensor]) -> Tensor:
        return mlp_output([s * v for s, v in zip(scales, values, strict=True)], x)

    gradient = grad(lambda values: (output(values) - y).square().sum() / (2 * len(x)))
    outputs = [output(trained)]
    for _ in range(steps):
        gradients = gradient(trained)
        rates = [base_rate / len(trained) * float(g.norm()) ** -homogeneity for g in gradients]
        trained = [v - rate * g for v, rate, g in zip(trained, rates, gradients, strict=True)]
        outputs.append(output(trained))
    return torch.stack(outputs)
