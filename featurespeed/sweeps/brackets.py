"""Numbers of which only bounds are known, one a seed: best learning rates next to a rate at which networks fail.

Where the loss falls with the learning rate until training fails, the lowest point of the loss has no neighbour beyond
it, but it has a bound: the rate that failed. A statistic is then formed twice, of the least and of the greatest numbers
that the bounds of its seeds and sizes allow, and its interval reaches from the lower end of the one's t interval to the
upper end of the other's. Beyond an end of the grid there is no bound: the interval is infinite on that side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featurespeed.statistics import Interval, mean_interval
from featurespeed.sweeps.losses import Losses
from featurespeed.sweeps.optima import Optima, slope_weights


@dataclass(frozen=True)
class Ranges:
    """One number a seed, ``[seeds]``, known to lie between two bounds.

    Attributes:
        value: the estimate, between the bounds.
        low, high: the bounds; both are the value where it is known.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, known: np.ndarray) -> Ranges:
        """Numbers that are known."""
        return cls(known, known, known)

    def __add__(self, other: Ranges) -> Ranges:
        return Ranges(self.value + other.value, self.low + other.low, self.high + other.high)

    def __neg__(self) -> Ranges:
        return Ranges(-self.value, -self.high, -self.low)

    def __sub__(self, other: Ranges) -> Ranges:
        return self + -other

    def __mul__(self, factor: float) -> Ranges:
        if factor == 0:  # of an infinite bound, too
            return Ranges.of(np.zeros_like(self.value))
        scaled = self if factor > 0 else -self
        return Ranges(*(abs(factor) * bound for bound in (scaled.value, scaled.low, scaled.high)))

    def beyond(self, stated: float) -> Ranges:
        """What is above a stated number."""
        return self - Ranges.of(np.full_like(self.value, stated))

    def upwards(self) -> Ranges:
        """With the sign of the mean over seeds of the value taken away: its absolute value is within the bounds.

        Where the bounds reach further on the other side of 0 than on this one, so may the absolute value.
        """
        own = self if self.value.mean() >= 0 else -self
        mirrored = -own.low
        return Ranges(own.value, own.low, mirrored) if mirrored.mean() > own.high.mean() else own

    def interval(self, level: float = 0.95) -> Interval:
        """Mean over seeds; t intervals of the bounds, the lower end of one and the upper end of the other."""
        low = mean_interval(self.low, level).low if np.isfinite(self.low).all() else -np.inf
        high = mean_interval(self.high, level).high if np.isfinite(self.high).all() else np.inf
        value = mean_interval(self.value, level)
        return Interval(value.value, low, high, value.n, "mean between bounds, t intervals", value.sample)


def total(parts: Sequence[Ranges]) -> Ranges:
    """Sum of numbers that are known within bounds of their own."""
    return sum(parts[1:], parts[0])


def is_known(found: Optima) -> bool:
    """Whether every seed has a best rate at every size: some may have bounds only, but none fails everywhere."""
    return bool(np.isfinite(found.log2_rates).all())


def best(found: Optima) -> list[Ranges]:
    """log2 of the best learning rate of every size, ``[seeds]`` each."""
    parts = zip(found.log2_rates.T, found.low.T, found.high.T, strict=True)
    return [Ranges(*bounds) for bounds in parts]


def shifts(found: Optima, span: float) -> Ranges:
    """Shift of the best learning rate over a factor ``span`` in the size, in steps of 2: ``Optima.shifts`` with bounds.

    The bounds of the sizes are independent: the least slope has the greatest rates at the small sizes.
    """
    weights = slope_weights(np.log2(found.sizes)) * np.log2(span)
    return total([rate * float(weight) for rate, weight in zip(best(found), weights, strict=True)])


def largest_stable(losses: Losses) -> Optima:
    """The largest learning rate up to which the networks of a seed train, of every seed and size.

    Rates below the smallest at which it trains are too small to learn. The largest lies between the last one before the
    first that fails beyond that, and this one; where there is none, nothing bounds it above.

    Raises:
        ValueError: the networks of a seed and size train nowhere.
    """
    steps, trained = np.log2(losses.rates), np.isfinite(losses.values)
    begun = np.logical_or.accumulate(trained, axis=-1)
    before = np.logical_and.accumulate(trained | ~begun, axis=-1).sum(-1)  # rates before the first that fails
    nowhere = losses.sizes[~trained.any(-1).all(0)]
    if len(nowhere):
        raise ValueError(f"networks of a seed fail at every learning rate, of size {', '.join(map(str, nowhere))}")
    found, high = steps[before - 1], np.append(steps, np.inf)[before]
    failed = np.zeros((len(losses.sizes), len(steps)), dtype=bool)
    return Optima(losses.sizes, losses.rates, found, np.isinf(high), failed, low=found, high=high)


def ordered_difference(first: np.ndarray, second: Sequence[Ranges]) -> Ranges:
    """:func:`featurespeed.sweeps.dependence.ordered_difference` of numbers with bounds, one entry a network."""
    size = np.abs(first.mean(0))
    weights = np.sign(size[:, None] - size[None, :]).sum(1) / (len(size) * (len(size) - 1) / 2)
    return total([own.upwards() * float(weight) for own, weight in zip(second, weights, strict=True)])


def largest(parts: Sequence[Ranges], level: float = 0.95) -> Interval:
    """Largest absolute mean of several numbers, with an interval as in
    :func:`featurespeed.statistics.largest_deviation`.
    """
    each = [own.interval(level) for own in parts]
    together = [own.interval(1 - (1 - level) / len(parts)) for own in parts]
    nearest = [0.0 if one.low <= 0.0 <= one.high else min(abs(one.low), abs(one.high)) for one in together]
    furthest = [max(abs(one.low), abs(one.high)) for one in each]
    sample = tuple(np.column_stack([own.value for own in parts]).ravel().tolist())
    name = f"largest of {len(parts)} deviations between bounds, simultaneous t intervals"
    return Interval(max(abs(one.value) for one in each), max(nearest), max(furthest), each[0].n, name, sample)
