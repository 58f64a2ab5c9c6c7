"""Polynomial patterns of hidden widths, and the pattern with a wanted number of weights.

The abstract of arXiv:2502.13110 names a polynomial pattern, and a quadratic one together with its gradient scaling; a
related paper of the author fixes the widths as ``m_k = k^2 m``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from featurespeed.models.spec import KERNEL_PLACES


def hidden_widths(pattern: float, base: float, hidden: int) -> list[int]:
    """``m_k = round(k^r m)`` of the hidden layers ``k = 1 .. hidden``; at least 1.

    >>> hidden_widths(2, 32, 4)
    [32, 128, 288, 512]
    """
    return [max(1, math.floor(k**pattern * base + 0.5)) for k in range(1, hidden + 1)]


def mlp_weights(widths: Sequence[int], shape: tuple[int, int, int], classes: int) -> int:
    """Number of weights of an MLP without biases on images of this shape (channels, height, width)."""
    sizes = [math.prod(shape), *widths, classes]
    return sum(fan_in * fan_out for fan_in, fan_out in zip(sizes, sizes[1:], strict=False))


def convnet_weights(widths: Sequence[int], shape: tuple[int, int, int], classes: int) -> int:
    """Number of weights of a ConvNet: 3x3 kernels, 2x2 pooling after every layer but the last, a flat readout."""
    channels = [shape[0], *widths]
    kernels = sum(KERNEL_PLACES * fan_in * fan_out for fan_in, fan_out in zip(channels, channels[1:], strict=False))
    halvings = min(len(widths) - 1, int(math.log2(min(shape[1:]))))
    return kernels + widths[-1] * (shape[1] >> halvings) * (shape[2] >> halvings) * classes


def base_width(pattern: float, hidden: int, weights: Callable[[Sequence[int]], int], wanted: int) -> float:
    """The real ``m`` whose network has a number of weights closest to the wanted one.

    Args:
        pattern: ``r``.
        hidden: number of hidden layers.
        weights: hidden widths -> number of weights; grows with each of them.
        wanted: number of weights.
    """

    def count(base: float) -> int:
        return weights(hidden_widths(pattern, base, hidden))

    low, high = 0.0, 1.0
    while count(high) < wanted:
        low, high = high, 2 * high
    for _ in range(60):  # widths are whole numbers, so the count is a staircase: this finds the step past the number
        middle = (low + high) / 2
        low, high = (middle, high) if count(middle) < wanted else (low, middle)
    return min(low, high, key=lambda base: abs(count(base) - wanted))
