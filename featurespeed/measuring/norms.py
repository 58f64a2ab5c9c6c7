"""Norms and ratios that neither over- nor underflow: everything is summed in float64, relative to the largest entry."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def norm(*tensors: Tensor) -> float:
    """Euclidean norm over all entries of all tensors, of any precision and size; 0 of none."""
    return math.hypot(*(_norm(tensor) for tensor in tensors))


def _norm(tensor: Tensor) -> float:
    if not tensor.numel():
        return 0.0
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    largest = float(torch.linalg.vector_norm(tensor, math.inf))
    if largest == 0 or not math.isfinite(largest):
        return largest
    if 1e-140 < largest < 1e140:  # squares in float64 are safe
        return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
    return largest * float(torch.linalg.vector_norm(tensor.double() / largest))


def power_of_two(value: float) -> float:
    """The power of two next to ``1 / value``: a factor that brings it near 1 and rounds nothing."""
    return 2.0 ** -max(-1000, min(1000, math.frexp(value)[1]))
