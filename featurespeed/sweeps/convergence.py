"""Curves over widths along training: how much they differ, and how fast they leave the widest network.

The widest network of a run stands for infinite width (arXiv:2402.17457, Fig. 3). Seeds share their batches over widths,
so a difference from it is taken seed by seed, and the seed noise is subtracted from its square. Arrays have the shape
``[seeds, sizes, steps]``; a statistic of some seeds takes their indices. Coefficients of variation and their bootstrap
over seeds (:func:`featurespeed.sweeps.transfer.over_seeds`) are for figures; claims are about exponents in the size
(:mod:`featurespeed.sweeps.dependence`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurespeed.statistics import Interval
from featurespeed.sweeps.losses import ALL, Chosen
from featurespeed.sweeps.transfer import (
    LATE,
    STOPPED,
    along_training,
    late_losses,
    late_mean,
    measured_rates,
    over_seeds,
)

WARM_UP = 0.1  # share of the steps that fits of a growth leave out
EARLY = 0.25  # share of the steps that counts as early, the initial network left out
TENTH = 0.1  # share of the steps at the beginning and at the end that are compared
FAR = 4  # a width this many times smaller than the proxy differs from it as from infinite width
FEWEST_POINTS = 3  # of a fit
SEEN = 0.5  # share of the fitted steps at which a distance must exceed the noise floor: noise alone does at a quarter
FEWEST_WIDTHS = 3  # whose variation is judged

Statistic = Callable[[Chosen], float]


@dataclass(frozen=True)
class Curves:
    """One quantity of one network along training, at one learning rate.

    Attributes:
        sizes: ``[S]`` widths, ascending.
        steps: ``[T]``, ascending.
        values: ``[seeds, S, T]``; NaN where a network had stopped.
        last: last step of training.
        rate: base learning rate.
    """

    sizes: np.ndarray
    steps: np.ndarray
    values: np.ndarray
    last: int
    rate: float

    @property
    def seeds(self) -> int:
        """How many seeds there are."""
        return len(self.values)

    def inside(self, low: float, high: float, initial: bool = True) -> np.ndarray:
        """Steps from ``low`` to ``high`` (shares of training), ``[T]``; ``initial``: step 0 may be among them."""
        return (self.steps >= low * self.last) & (self.steps <= high * self.last) & ((self.steps > 0) | initial)

    def over(self, low: float, high: float, initial: bool = True) -> np.ndarray:
        """Mean over the probe steps of a part of training (:meth:`inside`), ``[seeds, S]``; NaN if there are none."""
        part = self.values[..., self.inside(low, high, initial)]
        return part.mean(-1) if part.shape[-1] else np.full(part.shape[:2], np.nan)

    def until(self, step: int) -> Curves:
        """The same up to a step, which then is the last one of training."""
        keep = self.steps <= step
        return dataclasses.replace(self, steps=self.steps[keep], values=self.values[..., keep], last=step)

    def late(self) -> np.ndarray:
        """Mean over the second half of training, ``[seeds, S]``; NaN where a value is missing, or none was measured."""
        if not self.inside(LATE, 1.0).any():
            return np.full(self.values.shape[:2], np.nan)
        return late_mean(self.steps, self.values, self.last)

    @property
    def comparable(self) -> bool:
        """Whether several widths were measured and none stopped."""
        return len(self.sizes) >= FEWEST_WIDTHS and len(self.steps) > 0 and self.missing() is None

    def missing(self) -> tuple[int, int] | None:
        """``(width, step)`` of the first value that is missing, if any."""
        gaps = np.argwhere(np.isnan(self.values))
        return (int(self.sizes[gaps[0][1]]), int(self.steps[gaps[0][2]])) if len(gaps) else None


def common_rate(rows: pd.DataFrame, quantity: str, size: str = "width") -> float | None:
    """Of the learning rates at which ``quantity`` was measured, the one that is best for all sizes together.

    None where nothing was measured, or every rate has a network that diverged, died or ended at chance.
    """
    own = rows[
        rows["learning_rate"].isin(measured_rates(rows, quantity)) & rows["quantity"].isin(("training_loss", *STOPPED))
    ]
    if own.empty:
        return None
    losses = late_losses(own, size)
    best = losses.common_best()
    return None if best is None else float(losses.rates[best])


def curves(rows: pd.DataFrame, quantity: str, rate: float, index: int = 1, size: str = "width") -> Curves:
    """One quantity of one network (rows of :func:`featurespeed.sweeps.transfer.of_network`) at one learning rate."""
    sizes, steps, values = along_training(rows, quantity, rate, index, size)
    return Curves(sizes, steps, values, int(rows["step"].max()), rate)


# --- differences over the widths --------------------------------------------------------------------------------------


def rise(found: Curves, size: int = -1) -> Statistic:
    """Mean over the second half of training over the initial value, of the width at place ``size`` (Fig. 11)."""
    late, initial = found.late()[:, size], found.values[:, size, 0]
    return lambda chosen: _ratio(late[chosen].mean(), initial[chosen].mean())


def rise_ratio(first: Curves, second: Curves) -> Statistic:
    """:func:`rise` of the widest network over that of the narrowest, of one run over that of another (Fig. 11).

    Seeds are resampled together.
    """
    ends = [(rise(found, -1), rise(found, 0)) for found in (first, second)]
    return lambda chosen: _ratio(*(_ratio(wide(chosen), narrow(chosen)) for wide, narrow in ends))


def edge_ratio(found: Curves) -> Statistic:
    """Mean over widths and the second half of training of ``sharpness * eta_0 / 2`` (Fig. 9)."""
    late = found.late() * found.rate / 2
    return lambda chosen: float(late[chosen].mean())


# --- distances to the widest network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distances:
    """How far every width below the proxy is from it: ``|E S_N(t) - E S_proxy(t)|``, without the noise of the seeds.

    The mean over seeds of the differences has a square that exceeds the true one by ``s^2 / n`` on average; that is
    subtracted. ``s / sqrt(n)`` is the noise floor: what lies below it is no distance.

    Attributes:
        sizes: ``[S - 1]``.
        proxy: the widest network.
        steps: ``[T]``.
        gaps: ``S_N(t) - S_proxy(t)`` seed by seed, ``[seeds, S - 1, T]``.
        last: last step of training.
    """

    sizes: np.ndarray
    proxy: int
    steps: np.ndarray
    gaps: np.ndarray
    last: int

    @property
    def fitted(self) -> np.ndarray:
        """Steps after the warm-up, which fits use, as a mask ``[T]``."""
        return self.steps > WARM_UP * self.last

    def floor(self, chosen: Chosen = ALL) -> np.ndarray:
        """Standard error of the mean difference, ``[S - 1, T]``."""
        own = self.gaps[chosen]
        return own.std(0, ddof=1) / np.sqrt(len(own))

    def squared(self, chosen: Chosen = ALL) -> np.ndarray:
        """Square of the distance, unbiased, so that it may be negative, ``[S - 1, T]``."""
        return self.gaps[chosen].mean(0) ** 2 - self.floor(chosen) ** 2

    def values(self, chosen: Chosen = ALL) -> np.ndarray:
        """The distance, ``[S - 1, T]``; NaN where its square is negative."""
        return _root(self.squared(chosen))

    @property
    def seen(self) -> np.ndarray:
        """Where the distance of all seeds exceeds the noise floor, ``[S - 1, T]``."""
        return self.squared() > self.floor() ** 2

    @property
    def told(self) -> np.ndarray:
        """Widths whose distance exceeds the floor at half of the fitted steps or more, as a mask ``[S - 1]``."""
        above = (self.seen & self.fitted).sum(1)
        return (above >= FEWEST_POINTS) & (above >= SEEN * self.fitted.sum())

    @property
    def used(self) -> np.ndarray:
        """Steps through which a power of time is fitted, ``[S - 1, T]``."""
        return self.seen & self.fitted & self.told[:, None]

    def laws(self, chosen: Chosen = ALL) -> np.ndarray:
        """``(a, b)`` of ``g = a t^b`` for every width, ``[S - 1, 2]``: least squares of logarithms; NaN if not told.

        Fitted are the steps after the warm-up where the distance of all seeds exceeds the floor. With some of the seeds
        it may fall below there, and then counts as the floor.
        """
        rows = zip(self.used, self._at_least_the_floor(chosen), strict=True)
        return np.array([_power_law(self.steps[used], row[used]) for used, row in rows]).reshape(-1, 2)

    def _at_least_the_floor(self, chosen: Chosen) -> np.ndarray:
        return np.sqrt(np.maximum(self.squared(chosen), self.floor(chosen) ** 2))

    def exponent(self, chosen: Chosen = ALL) -> float:
        """Exponent b in time: the mean over the widths that have one, at least half of them; else NaN."""
        if self.told.mean() < 0.5:
            return np.nan
        return float(self.laws(chosen)[self.told, 1].mean())

    def over_time(self, chosen: Chosen = ALL) -> np.ndarray:
        """Root mean square over the steps after the first, ``[S - 1]``; NaN where the mean square is negative."""
        return _root(self.squared(chosen)[:, self.steps > 0].mean(-1))

    def floor_over_time(self, chosen: Chosen = ALL) -> np.ndarray:
        """Noise floor of :meth:`over_time`, ``[S - 1]``."""
        return np.sqrt((self.floor(chosen)[:, self.steps > 0] ** 2).mean(-1))

    def far(self) -> np.ndarray:
        """Widths well below the proxy, as a mask ``[S - 1]``: next to it a distance falls to 0, whatever its rate."""
        return self.sizes * FAR <= self.proxy

    def rate(self, chosen: Chosen = ALL) -> float:
        """Exponent in the width of the distance over training, of the widths well below the proxy; NaN below the floor.

        As in :meth:`laws`, the floor stands in where some of the seeds lie below it.
        """
        far = self.far()
        if not (self.over_time()[far] > self.floor_over_time()[far]).all():
            return np.nan
        levels = np.fmax(self.over_time(chosen), self.floor_over_time(chosen))
        return float(_power_law(self.sizes[far], levels[far])[1])


def distances(found: Curves) -> Distances:
    """Distances to the widest network."""
    gaps = found.values[:, :-1] - found.values[:, -1:]
    return Distances(found.sizes[:-1], int(found.sizes[-1]), found.steps, gaps, found.last)


def size_exponent(found: Curves, sizes: np.ndarray) -> Statistic:
    """Exponent in the width of the quantity itself, averaged over the steps after the first, over some widths."""
    own = np.isin(found.sizes, sizes)
    means = found.values[..., found.steps > 0].mean(-1)[:, own]
    return lambda chosen: float(_power_law(found.sizes[own], means[chosen].mean(0))[1])


def _root(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(np.where(squares >= 0, squares, np.nan))


def _ratio(above: float, below: float) -> float:
    """NaN over 0: a network whose units are all off has no curvature, and what never varied has no growth."""
    return float(above / below) if below != 0 else np.nan


def interval(statistic: Statistic, seeds: int) -> Interval:
    """A statistic of all seeds, with the bootstrap over them."""
    return over_seeds(statistic, seeds)


def _power_law(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """``(a, b)`` of ``y = a x^b``; NaN with too few points, or where a value is not positive."""
    if len(x) < FEWEST_POINTS or not np.all(y > 0):
        return np.nan, np.nan
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return float(np.exp(intercept)), float(slope)
