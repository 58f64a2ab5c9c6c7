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


def rms(tensor: Tensor) -> float:
    """Root mean square of the entries of a tensor; 0 of none."""
    return norm(tensor) / math.sqrt(max(tensor.numel(), 1))


def exact(tensor: Tensor) -> Tensor:
    """In float64 or complex128, where the device has them."""
    if tensor.device.type == "mps":
        return tensor
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def inner(a: Tensor, b: Tensor) -> float:
    """Of two tensors of any precision; real and imaginary parts count as coordinates of their own."""
    a, b = (torch.view_as_real(t) if t.is_complex() else t for t in (a, b))
    return float((exact(a) * exact(b)).sum())


def power_of_two(value: float) -> float:
    """The power of two next to ``1 / value``: a factor that brings it near 1 and rounds nothing."""
    return 2.0 ** -max(-1000, min(1000, math.frexp(value)[1]))
