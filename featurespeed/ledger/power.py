"""What a criterion can decide with so many seeds: how often each verdict comes out, and how many seeds it needs.

For the mean of one normal value a seed with its t interval, by simulation from a fixed stream; for a share of the seeds
with its Clopper-Pearson interval, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import Estimate, Verdict, decide
from featurespeed.statistics import proportion_interval

DRAWS = 4000
ENOUGH = 0.8  # share of runs in which a criterion should decide
SEEDS = (3, 5, 6, 8, 10, 12, 15, 20, 30, 50, 100, 200)
Rates = dict[Verdict, float]


def rates_of_mean(threshold: Threshold, value: float, spread: float, seeds: int) -> Rates:
    """How often each verdict comes out where the seeds are normal with this mean and standard deviation.

    Args:
        threshold: of the criterion.
        value: true mean.
        spread: standard deviation between seeds.
        seeds: at least 2.
    """
    means, errors = _standard(seeds)
    means, half = value + spread * means, spread * errors * stats.t.ppf(0.975, seeds - 1)
    low, high = means - half, means + half
    confirmed = ((threshold.low <= low) & (high <= threshold.high)).mean()
    contradicted = ((high < threshold.low) | (low > threshold.high)).mean()
    return _rates(float(confirmed), float(contradicted))


@cache
def _standard(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors of standard normal samples, the same ones for every criterion."""
    draws = np.random.default_rng(seeds).normal(size=(DRAWS, seeds))
    return draws.mean(1), draws.std(1, ddof=1) / math.sqrt(seeds)


def rates_of_share(threshold: Threshold, share: float, seeds: int) -> Rates:
    """How often each verdict comes out where each of the seeds counts with probability ``share``."""
    weights = stats.binom.pmf(np.arange(seeds + 1), seeds, share)
    found = dict.fromkeys(Verdict, 0.0)
    for count, weight in enumerate(weights):
        found[decide(_share(count, seeds), threshold)] += float(weight)
    return _rates(found[Verdict.CONFIRMED], found[Verdict.CONTRADICTED])


@cache
def _share(count: int, seeds: int) -> Estimate:
    """So many of the seeds, the same for every criterion."""
    interval = proportion_interval(count, seeds)
    return Estimate(interval.value, interval.low, interval.high, seeds)


def _rates(confirmed: float, contradicted: float) -> Rates:
    return {
        Verdict.CONFIRMED: confirmed,
        Verdict.CONTRADICTED: contradicted,
        Verdict.INCONCLUSIVE: 1 - confirmed - contradicted,
    }


@dataclass(frozen=True)
class Sides:
    """True values on either side of a threshold: one at which the claim holds, one at which it does not."""

    holds: float
    fails: float


def sides(threshold: Threshold) -> Sides:
    """Away from the bound by half of its distance to the ideal; of ``between`` the centre, and that far above it.

    Of a bound that is the ideal itself, such as "at least 0", 0.1 on either side.
    """
    if math.isfinite(threshold.low) and math.isfinite(threshold.high):
        return Sides(threshold.ideal, threshold.high + (threshold.high - threshold.ideal) / 2)
    bound, inwards = (threshold.high, -1.0) if math.isinf(threshold.low) else (threshold.low, 1.0)
    step = abs(threshold.ideal - bound) / 2 or 0.1
    return Sides(bound + inwards * step, bound - inwards * step)


def seeds_needed(rates: Callable[[float, int], Rates], threshold: Threshold) -> int | None:
    """The fewest seeds of :data:`SEEDS` that decide rightly in four runs of five on both sides; None if 200 do not.

    ``rates`` gives those of a true value and a number of seeds.
    """
    true = sides(threshold)
    for seeds in SEEDS:
        right = (rates(true.holds, seeds)[Verdict.CONFIRMED], rates(true.fails, seeds)[Verdict.CONTRADICTED])
        if min(right) >= ENOUGH:
            return seeds
    return None


def spread_of(low: float, high: float, seeds: int) -> float:
    """Standard deviation between the seeds that a t interval stands for."""
    return (high - low) / 2 * math.sqrt(seeds) / float(stats.t.ppf(0.975, seeds - 1))
