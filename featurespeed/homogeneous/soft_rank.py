"""How many directions the hidden features of a batch take: soft variants of the rank.

The abstract of arXiv:2502.13110 names a soft-rank variant of the hidden features; which one is not known to us. The
three of :func:`soft_ranks` are standard; that of :func:`gradient_soft_rank` is the one that our formula for the
curvature along the update contains (ours).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SoftRanks:
    """Soft ranks of each member's features, ``[E]``; all lie between 1 and the rank, and are NaN for features of 0.

    Attributes:
        participation_ratio: ``tr(K)^2 / tr(K^2)``.
        stable_rank: ``tr(K) / lambda_max(K)``.
        entropy_rank: exponential of the entropy of the eigenvalues of ``K`` over their sum.
    """

    participation_ratio: Tensor
    stable_rank: Tensor
    entropy_rank: Tensor


def soft_ranks(features: Tensor) -> SoftRanks:
    """Soft ranks of ``K = A A^T`` from features ``A [E, n, m]``, computed in float64 on the smaller Gram matrix."""
    a = features.double()
    small = a if a.shape[1] <= a.shape[2] else a.transpose(1, 2)
    values = torch.linalg.eigvalsh(torch.bmm(small, small.transpose(1, 2))).clamp(min=0)
    total = values.sum(1)
    shares = values / total[:, None]
    entropy = -torch.special.xlogy(shares, shares).sum(1)
    return SoftRanks(total**2 / values.square().sum(1), total / values[:, -1], entropy.exp())


def participation_ratio(features: Tensor) -> Tensor:
    """``tr(K)^2 / tr(K^2)`` of features ``[E, n, m]``, without eigenvalues; NaN for features of 0."""
    small = features if features.shape[1] <= features.shape[2] else features.transpose(1, 2)
    gram = torch.bmm(small, small.transpose(1, 2)).double()
    return gram.diagonal(dim1=1, dim2=2).sum(1) ** 2 / gram.square().sum((1, 2))


def gradient_soft_rank(features: Tensor, backward: Tensor) -> Tensor:
    """``SR_B = tr(K) <B, K B> / |K B|^2``, ``[E]`` (ours).

    For the last layer under the mean squared error, curvature along the gradient is ``(tr K / n) / SR_B`` exactly. It
    is the participation ratio where ``B B^T`` is isotropic, and the stable rank where ``B`` lies in the first
    eigenspace of ``K``.

    Args:
        features: ``A [E, n, m]``, ``K = A A^T``.
        backward: ``B [E, n, C]``, gradient of the loss by the outputs.
    """
    pulled = torch.bmm(features.transpose(1, 2), backward)  # A^T B
    image = torch.bmm(features, pulled)  # K B
    trace = features.square().sum((1, 2))
    return trace * pulled.square().sum((1, 2)) / image.square().sum((1, 2))
