"""Best learning rates and how they shift with the size of a network: one number a seed, and its interval.

A seed has one best learning rate at every size, the lowest point of a parabola through its losses. Means over seeds
have t intervals. Arrays have the shape ``[seeds, sizes, ...]``; sizes are widths or depths. What the runs cannot say
raises ValueError with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featurespeed.statistics import Interval, mean_interval
from featurespeed.sweeps.losses import FAILING, Losses

CENSORED = 0.2  # share of best learning rates at an end of the rates that are left above which shifts are not known
SPANS = {"width": 16, "depth": 8}  # ratios of sizes over which shifts of the best learning rate are stated
FLAT = 1e-9  # curvature of a log loss, a step of 2 squared, below which there is no lowest point but rounding


@dataclass(frozen=True)
class Optima:
    """Best learning rate of every seed and size.

    Attributes:
        sizes: ``[S]``, ascending.
        rates: ``[R]``, the grid.
        log2_rates: ``[seeds, S]``, logarithm to base 2; NaN where no rate is left.
        censored: ``[seeds, S]``, whether the rate of the least loss lacks a neighbour on either side, so that the best
            one may lie beyond: it is an end of the grid, or its neighbour has failed, for all seeds of that size or in
            that seed. A rate that has failed at a size is dropped, and the grid that is left there ends next to it.
        failed: ``[S, R]``, whether more than a fifth of the seeds of that size failed at that rate.
        low, high: ``[seeds, S]``, bounds of ``log2_rates``: of a censored rate those that the seed's own losses give
            (:func:`_bounds`), infinite beyond an end of the grid; else the rate itself.
    """

    sizes: np.ndarray
    rates: np.ndarray
    log2_rates: np.ndarray
    censored: np.ndarray
    failed: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def usable(self) -> bool:
        """Whether every seed has a best rate at every size, and at most a fifth of them are censored."""
        return bool(np.isfinite(self.log2_rates).all()) and self.censored.mean() <= CENSORED

    def shifts(self, span: float) -> np.ndarray:
        """Shift of the best learning rate over a factor ``span`` in the size, in steps of 2, ``[seeds]``.

        The slope of log2(rate) in log2(size) of every seed, times log2(span): all sizes count, and grids of sizes that
        differ can be compared.
        """
        return slopes(np.log2(self.sizes), self.log2_rates) * np.log2(span)

    def note(self) -> str:
        """Best rate of every size, geometric mean over seeds, and which sizes have none or censored ones."""
        means = 2 ** self.log2_rates.mean(0)
        text = ", ".join(f"{size}: {mean:.3g}" for size, mean in zip(self.sizes, means, strict=True))
        text += self._without_a_rate()
        ends = self.sizes[self.censored.any(0)]
        if len(ends):
            grid = f"{self.rates[0]:g} to {self.rates[-1]:g}"
            share = f"{self.censored.mean():.0%} at an end of what did not fail of the grid {grid}"
            text += f"; {share}, of {', '.join(map(str, ends))}"
        return text

    def bounded_note(self) -> str:
        """Bounds of the best rate of every size, geometric means over seeds; one number where they are equal."""
        ends = zip(self.sizes, *(2 ** bound.mean(0) for bound in (self.low, self.high)), strict=True)
        told = (f"{size}: {_between_rates(low, high)}" for size, low, high in ends if not np.isnan(low))
        return ", ".join(told) + self._without_a_rate()

    def _without_a_rate(self) -> str:
        nothing = self.sizes[np.isnan(self.log2_rates).any(0)]
        return f"; no rate is left at {', '.join(map(str, nothing))}" if len(nothing) else ""


def _between_rates(low: float, high: float) -> str:
    """Two bounds of a learning rate as a reader would say them; 0 and infinity are none."""
    if low == 0:
        return "not bounded" if np.isinf(high) else f"up to {high:.3g}"
    if np.isinf(high):
        return f"{low:.3g} or more"
    return f"{low:.3g}" if np.isclose(low, high) else f"{low:.3g} to {high:.3g}"


def optima(losses: Losses) -> Optima:
    """The lowest point of the log loss over log2(rate) of every seed and size.

    A parabola goes through the least loss and its two neighbours; without one of them, at an end of the grid or next to
    a rate that failed, the rate of the least loss stands for the lowest point, and is censored. A rate at which more
    than a fifth of the seeds of a size fail is left out for all seeds of that size: the best rate then does not depend
    on how many seeds there are.
    """
    failed = 1 - np.isfinite(losses.values).mean(0) > FAILING
    logs = _kept(losses, failed)
    steps = np.log2(losses.rates)
    lowest = logs.argmin(-1)
    found, censored = np.full(lowest.shape, np.nan), np.zeros(lowest.shape, dtype=bool)
    low, high = found.copy(), found.copy()
    for place in np.ndindex(*lowest.shape):
        k = int(lowest[place])
        if np.isfinite(logs[place]).any():
            censored[place] = not _is_inside(logs[place], k)
            found[place] = low[place] = high[place] = steps[k] if censored[place] else _vertex(steps, logs[place], k)
            if censored[place]:
                low[place], high[place] = _bounds(steps, np.log(losses.values[place]), k)
    return Optima(losses.sizes, losses.rates, found, censored, failed, low, high)


def _kept(losses: Losses, failed: np.ndarray) -> np.ndarray:
    """Log losses ``[seeds, S, R]``, infinite where a network or its learning rate has failed."""
    return np.log(np.where(np.isfinite(losses.values) & ~failed, losses.values, np.inf))


def _is_inside(logs: np.ndarray, k: int) -> bool:
    """Whether point ``k`` has a neighbour on either side that did not fail."""
    return 0 < k < len(logs) - 1 and bool(np.isfinite(logs[[k - 1, k + 1]]).all())


def _bounds(steps: np.ndarray, own: np.ndarray, k: int) -> tuple[float, float]:
    """Between which rates the best one of a seed lies if point ``k`` is the lowest of those that are left.

    A rate that is left out because other seeds failed there bounds nothing in a seed that trained at it: the bounds are
    those around ``k`` and around the lowest point of all its own losses. On either side of a lowest point it is the
    neighbour, if that failed; if not, the middle between both, because a curve with one lowest point, symmetric about
    it, has it on this side; infinite at an end of the grid.
    """
    lowest = int(own.argmin())
    first, last = min(k, lowest), max(k, lowest)
    return _towards(steps, own, first, -1), _towards(steps, own, last, 1)


def _towards(steps: np.ndarray, own: np.ndarray, k: int, side: int) -> float:
    """Bound of the lowest point on one side of point ``k``, -1 or 1."""
    if not 0 <= k + side < len(steps):
        return side * np.inf
    beyond = steps[k + side]
    return float((steps[k] + beyond) / 2 if np.isfinite(own[k + side]) else beyond)


def _vertex(steps: np.ndarray, logs: np.ndarray, k: int) -> float:
    """Where the parabola through point ``k`` and its neighbours is lowest, between these; ``k`` itself on a plateau."""
    curvature, slope, _ = np.polyfit(steps[k - 1 : k + 2] - steps[k], logs[k - 1 : k + 2], 2)
    if curvature < FLAT:
        return float(steps[k])
    return float(np.clip(steps[k] - slope / (2 * curvature), steps[k - 1], steps[k + 1]))


def shift_interval(found: Optima, span: float) -> Interval:
    """Mean shift over a factor ``span`` in the size, with the t interval over seeds."""
    return mean_interval(found.shifts(span))


def transfer_costs(losses: Losses, found: Optima) -> np.ndarray:
    """What the best rate of the smallest size costs at the largest, in units of what size brings, ``[seeds]``.

    :func:`transfer_excess` divided by the log of the least loss of the smallest size over that of the largest.

    Raises:
        ValueError: the largest network of a seed is not the better one.
    """
    least = _kept(losses, found.failed).min(-1)
    gains = least[:, 0] - least[:, -1]
    if not (gains > 0).all():
        raise ValueError(f"size {losses.sizes[-1]} is not better than {losses.sizes[0]} in every seed")
    return transfer_excess(losses, found) / gains


def transfer_excess(losses: Losses, found: Optima) -> np.ndarray:
    """Log loss of the largest size at the best rate of the smallest over its least one on the grid, ``[seeds]``.

    Linear between the rates of the grid; infinite where the network fails there.
    """
    logs, steps = _kept(losses, found.failed)[:, -1], np.log2(losses.rates)
    costs = [_between(steps, row, rate) for row, rate in zip(logs, found.log2_rates[:, 0], strict=True)]
    return np.array(costs) - logs.min(-1)


def _between(steps: np.ndarray, logs: np.ndarray, rate: float) -> float:
    """Log loss at a rate, linear between its neighbours on the grid; infinite where one of them failed, and beyond."""
    if not steps[0] <= rate <= steps[-1]:
        return float("inf")
    above = min(int(np.searchsorted(steps, rate)), len(steps) - 1)
    below = above if steps[above] == rate else above - 1
    return float(np.interp(rate, steps[[below, above]], logs[[below, above]]))


def slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slope of every row of ``y [seeds, S]`` in ``x [S]``."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)


def slope_weights(x: np.ndarray) -> np.ndarray:
    """Weights ``[S]`` of the values at ``x`` in their least-squares slope; that of a middle one is 0, not rounding."""
    weights = slopes(x, np.eye(len(x)))
    return np.where(np.abs(weights) > FLAT * np.abs(weights).max(), weights, 0.0)
