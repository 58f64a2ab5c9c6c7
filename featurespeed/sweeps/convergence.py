"""Curves over widths along training: how much they differ, and how fast they leave the widest network.

The widest network of a run stands for infinite width (arXiv:2402.17457, Fig. 3). Seeds share their batches over widths,
so a distance to it is taken seed by seed. Arrays have the shape ``[seeds, sizes, steps]``; a statistic of some seeds
takes their indices, as :func:`featurespeed.sweeps.transfer.over_seeds` wants it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurespeed.statistics import Interval
from featurespeed.sweeps.transfer import (
    ALL,
    LATE,
    STOPPED,
    Chosen,
    along_training,
    late_losses,
    late_mean,
    measured_rates,
    over_seeds,
    spread,
)

WARM_UP = 0.1  # share of the steps that fits of a growth leave out
EARLY = 0.25  # share of the steps that counts as early, the initial network left out
TENTH = 0.1  # share of the steps at the beginning and at the end that are compared
FAR = 4  # a width this many times smaller than the proxy differs from it as from infinite width
FEWEST_POINTS = 3  # of a fit
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

    def early(self) -> np.ndarray:
        """Values early in training, without the initial network."""
        return self.values[..., self.inside(0.0, EARLY, initial=False)]

    def tenths(self) -> tuple[np.ndarray, np.ndarray]:
        """Values in the first and in the last tenth of training."""
        return self.values[..., self.inside(0.0, TENTH)], self.values[..., self.inside(1 - TENTH, 1.0)]

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


def common_rate(rows: pd.DataFrame, quantity: str) -> float | None:
    """Of the learning rates at which ``quantity`` was measured, the one that is best for all widths together.

    None where nothing was measured, or every rate has a network that diverged, died or ended at chance.
    """
    own = rows[
        rows["learning_rate"].isin(measured_rates(rows, quantity)) & rows["quantity"].isin(("training_loss", *STOPPED))
    ]
    if own.empty:
        return None
    losses = late_losses(own)
    best = losses.common_best()
    return None if best is None else float(losses.rates[best])


def curves(rows: pd.DataFrame, quantity: str, rate: float, index: int = 1) -> Curves:
    """One quantity of one network (rows of :func:`featurespeed.sweeps.transfer.of_network`) at one learning rate."""
    sizes, steps, values = along_training(rows, quantity, rate, index)
    return Curves(sizes, steps, values, int(rows["step"].max()), rate)


# --- differences over the widths --------------------------------------------------------------------------------------


def mean_spread(values: np.ndarray) -> float:
    """Coefficient of variation over widths at every step, averaged over the steps, ``[seeds, S, T]``."""
    if not values.shape[-1]:
        return np.nan
    return float(np.mean([spread(values[..., step]) for step in range(values.shape[-1])]))


def spread_ratio(first: np.ndarray, second: np.ndarray) -> Statistic:
    """:func:`mean_spread` of ``first`` over that of ``second``, both ``[seeds, S, T]``."""
    return lambda chosen: _ratio(mean_spread(first[chosen]), mean_spread(second[chosen]))


def early_ratio(tenth: Curves, first: Curves) -> Statistic:
    """CV of one eigenvalue over that of another one, early in training (Fig. 2)."""
    return spread_ratio(tenth.early(), first.early())


def growth_of_spread(found: Curves) -> Statistic:
    """CV at the last step over that at the first one (Fig. 2, NTK)."""
    return spread_ratio(found.values[..., -1:], found.values[..., :1])


def fall_of_spread(found: Curves) -> Statistic:
    """CV in the first tenth of training over that in the last one (Fig. 23, trace)."""
    return spread_ratio(*found.tenths())


def late_spread(found: Curves) -> Statistic:
    """CV over widths of the mean over the second half of training."""
    late = found.late()
    return lambda chosen: spread(late[chosen])


def unscaled(found: Curves) -> Curves:
    """Curvature of H itself in place of gamma^2 H, up to a constant: under muP gamma^2 is proportional to the width."""
    return dataclasses.replace(found, values=found.values / found.sizes[:, None])


def rise(found: Curves, size: int = -1) -> Statistic:
    """Mean over the second half of training over the initial value, of the width at place ``size`` (Fig. 11)."""
    late, initial = found.late()[:, size], found.values[:, size, 0]
    return lambda chosen: _ratio(late[chosen].mean(), initial[chosen].mean())


def rise_ratio(first: Curves, second: Curves) -> Statistic:
    """:func:`rise` of the widest network of one run over that of another one, seeds resampled together."""
    above, below = rise(first), rise(second)
    return lambda chosen: _ratio(above(chosen), below(chosen))


def edge_ratio(found: Curves) -> Statistic:
    """Mean over widths and the second half of training of ``sharpness * eta_0 / 2`` (Fig. 9)."""
    late = found.late() * found.rate / 2
    return lambda chosen: float(late[chosen].mean())


# --- distances to the widest network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distances:
    """``|S_N(t) - S_proxy(t)|`` of every width below the proxy, seed by seed.

    Attributes:
        sizes: ``[S - 1]``.
        proxy: the widest network.
        steps: ``[T]``.
        values: ``[seeds, S - 1, T]``.
        last: last step of training.
    """

    sizes: np.ndarray
    proxy: int
    steps: np.ndarray
    values: np.ndarray
    last: int

    @property
    def fitted(self) -> np.ndarray:
        """Steps after the warm-up, which fits use, as a mask ``[T]``."""
        return self.steps > WARM_UP * self.last

    def medians(self, chosen: Chosen = ALL) -> np.ndarray:
        """Median over seeds, ``[S - 1, T]``."""
        return np.median(self.values[chosen], axis=0)

    def laws(self, chosen: Chosen = ALL) -> np.ndarray:
        """``(a, b)`` of ``g = a t^b`` for every width, ``[S - 1, 2]``: least squares of logarithms."""
        steps = self.steps[self.fitted]
        return np.array([_power_law(steps, row) for row in self.medians(chosen)[:, self.fitted]])

    def exponent(self, chosen: Chosen = ALL) -> float:
        """Exponent b in time: the median over widths."""
        return float(np.median(self.laws(chosen)[:, 1]))

    def over_time(self, chosen: Chosen = ALL) -> np.ndarray:
        """Median over seeds, averaged over the steps after the first, ``[S - 1]``."""
        return self.medians(chosen)[:, self.steps > 0].mean(-1)

    def far(self) -> np.ndarray:
        """Widths well below the proxy, as a mask ``[S - 1]``: next to it a distance falls to 0, whatever its rate."""
        return self.sizes * FAR <= self.proxy

    def rate(self, chosen: Chosen = ALL) -> float:
        """Exponent in the width of the distance averaged over training, of the widths well below the proxy."""
        far = self.far()
        return float(_power_law(self.sizes[far], self.over_time(chosen)[far])[1])


def distances(found: Curves) -> Distances:
    """Distances to the widest network."""
    gaps = np.abs(found.values[:, :-1] - found.values[:, -1:])
    return Distances(found.sizes[:-1], int(found.sizes[-1]), found.steps, gaps, found.last)


def reversed_in_time(found: Distances) -> Distances:
    """The same distances in the reverse order of the steps that are fitted: what grows now falls."""
    values = found.values.copy()
    values[..., found.fitted] = values[..., found.fitted][..., ::-1]
    return Distances(found.sizes, found.proxy, found.steps, values, found.last)


def size_exponent(found: Curves, sizes: np.ndarray) -> Statistic:
    """Exponent in the width of the quantity itself, averaged over the steps after the first, over some widths."""
    own = np.isin(found.sizes, sizes)
    means = found.values[..., found.steps > 0].mean(-1)[:, own]
    return lambda chosen: float(_power_law(found.sizes[own], np.median(means[chosen], axis=0))[1])


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
