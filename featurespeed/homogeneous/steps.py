"""One update of an ensemble, and what ended a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from featurespeed.homogeneous.network import Evaluation

DIVERGED, DEAD = "diverged_step", "dead_step"


@torch.no_grad()
def update(
    weights: Sequence[Tensor], moved: Sequence[Tensor], found: Evaluation, rates: Tensor
) -> tuple[Tensor, Tensor]:
    """``W_k <- W_k - eta xi_k G_k``, in place; ``moved`` holds ``W_t - W_0`` and moves as well.

    Args:
        weights, moved: one tensor ``[E, ...]`` a layer.
        found: gradients and factors.
        rates: ``eta`` of every member, ``[E]``.

    Returns:
        Cosine of this update with the sum of those before it, NaN for the first one, and the largest ``|dW_k| / eta``
        of the layers; ``[E]`` each.
    """
    inner = before = length = torch.zeros_like(rates)
    largest = torch.zeros_like(rates)
    for k, (weight, sofar, gradient) in enumerate(zip(weights, moved, found.gradients, strict=True)):
        scale = (-rates * found.factors[:, k]).view(-1, *[1] * (gradient.ndim - 1))
        step = gradient * scale
        flat, past = step.flatten(1), sofar.flatten(1)
        inner = inner + torch.bmm(flat.unsqueeze(1), past.unsqueeze(2)).flatten()
        squares = flat.square().sum(1)
        length, before = length + squares, before + past.square().sum(1)
        largest = torch.maximum(largest, squares.sqrt())
        weight.data.add_(step)
        sofar.add_(step)
    return inner / (length * before).sqrt(), largest / rates


def first_failure(steps: Mapping[str, np.ndarray]) -> tuple[str, int, int] | None:
    """What ended a network, at which of its last steps, and in which layer (0: in none); None if nothing did.

    Args:
        steps: ``loss``, ``norm`` (of the update over the learning rate) and ``dead`` (layer without an active unit, or
            0), one number a step.
    """
    dead, bad = steps["dead"] > 0, ~(np.isfinite(steps["loss"]) & np.isfinite(steps["norm"]))
    failed = np.flatnonzero(dead | bad)
    if not len(failed):
        return None
    first = int(failed[0])
    silent = bool(dead[first] and np.isfinite(steps["loss"][first]))
    return (DEAD, first, int(steps["dead"][first])) if silent else (DIVERGED, first, 0)
