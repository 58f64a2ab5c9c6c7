"""Depth-wise scaling of gradients: the layer's own factor on the learning rate, from norms of the minibatch.

The abstract of arXiv:2502.13110 names a depth-wise gradient scaling; these candidates for it are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # specs need more than the base installation, formulas do not
    from featurespeed.homogeneous.spec import GradientScaling

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]

#: Name of a ``GradientScaling`` -> factors from ``|A_{k-1}|, |B_k|, |G_k|``, each ``[E, l]``; ``|B_l|``, the last
#: column, is that by the outputs.
FORMULAS: Mapping[str, Formula] = {
    "none": lambda a, b, g: torch.ones_like(a),
    "norm1": lambda a, b, g: 1 / (a * b),
    "rel1": lambda a, b, g: b[:, -1:] / (a * b),
    "norm2": lambda a, b, g: 1 / (a * b) ** 2,
    "rel2": lambda a, b, g: (b[:, -1:] / (a * b)) ** 2,
    "gradn": lambda a, b, g: 1 / g,
    "fsf": lambda a, b, g: b[:, -1:] ** 2 / (b.shape[1] * g**2),
}


def scaling_factors(
    scaling: GradientScaling | str, forward_norms: Tensor, backward_norms: Tensor, gradient_norms: Tensor
) -> Tensor:
    """Factors ``xi_k`` of the update ``W_k <- W_k - eta xi_k G_k``, ``[E, l]`` (ours).

    With ``rel1`` the update of a layer is bounded by ``eta |B_l|`` because ``|G_k| <= |A_{k-1}| |B_k|``; with the
    cross-entropy that is at most ``eta sqrt(2/n)``, and it vanishes as the fit gets perfect. ``fsf`` gives every layer
    the same part in the decay of the loss, ``|B_l|^2 / l``, as the scaling FSC of arXiv:2311.18718 does.

    Args:
        scaling: which formula.
        forward_norms, backward_norms, gradient_norms: Frobenius norms over the minibatch of ``A_{k-1}`` (input of the
            layer), ``B_k`` (gradient by its output) and ``G_k`` (gradient by its weight), each ``[E, l]``.

    Returns:
        Factors; 0 where the minibatch is fitted perfectly (``B_l = 0``), and not finite where another norm is 0: no
        unit of some layer is active (see :func:`dead_layers`).
    """
    factors = FORMULAS[scaling](forward_norms, backward_norms, gradient_norms)
    return torch.where(backward_norms[:, -1:] == 0, 0.0, factors)


def silent_layers(activations: list[Tensor], factors: Tensor) -> Tensor:
    """The layer that has ended each member's training, counted from 1; 0 if none, int64 ``[E]``.

    That is the first hidden layer without an active unit (:func:`dead_layers`). Or no gradient reaches a layer, because
    on every image some later one has no active unit behind it, so that its factor is infinite: the last such layer.

    Args:
        activations: ``A_1 .. A_{l-1}``.
        factors: ``[E, l]``.
    """
    unreached = torch.isinf(factors) * torch.arange(1, factors.shape[1] + 1, device=factors.device)
    dead = dead_layers(activations)
    return torch.where(dead > 0, dead, unreached.amax(1))


def dead_layers(activations: Sequence[Tensor]) -> Tensor:
    """First hidden layer of each member that has no active unit on the batch, counted from 1; 0 if none, int64 ``[E]``.

    Args:
        activations: ``A_1 .. A_{l-1}``, each ``[E, n, m_k]``.
    """
    silent = torch.stack([(a == 0).flatten(1).all(1) for a in activations], 1)
    return torch.where(silent.any(1), silent.to(torch.int64).argmax(1) + 1, 0)
