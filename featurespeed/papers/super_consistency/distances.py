"""Distances to the largest network along training, as the claims of several rooms ask for their powers of time.

They belong to all seeds together, because the noise of the seeds is subtracted from them: exponents have jackknife
intervals (:class:`featurespeed.sweeps.convergence.Distances`).
"""

from __future__ import annotations

import numpy as np

from featurespeed.ledger.engine import Undecidable
from featurespeed.papers.super_consistency.shared import numbers
from featurespeed.statistics import Interval, jackknife_interval
from featurespeed.sweeps.convergence import FEWEST_POINTS, WARM_UP, Curves, Distances, distances


def told_distances(own: Curves, name: str, left_out: str = "", symbol: str = "N") -> tuple[Distances, str]:
    """Distances of one quantity that can be fitted, and a note on them that ends with ``left_out``.

    Raises:
        Undecidable: there are too few steps, or too few sizes above the noise floor.
    """
    found = distances(own)
    if found.fitted.sum() < FEWEST_POINTS:
        raise Undecidable(
            f"{found.fitted.sum()} steps after the first {WARM_UP:.0%}: at least {FEWEST_POINTS} are needed for a fit"
        )
    if np.isnan(found.exponent()):
        below = ", ".join(map(str, found.sizes[~found.told]))
        raise Undecidable(f"{name}: below the noise floor of {len(found.gaps)} seeds at {symbol} = {below}{left_out}")
    return found, _note(name, found, symbol) + left_out


def _note(name: str, found: Distances, symbol: str) -> str:
    below = found.sizes[~found.told]
    left = f"; below the noise floor: {', '.join(map(str, below))}" if len(below) else ""
    laws = numbers(found.sizes[found.told], found.laws()[found.told, 1])
    size = {"N": "width", "L": "depth"}[symbol]
    return f"{name}: proxy {symbol} = {found.proxy}; b by {size} {laws}{left}"


def exponent_gap(first: Distances, second: Distances, level: float = 0.95) -> Interval:
    """Exponent in time of one distance minus that of another one, of the same seeds."""

    def statistic(chosen: np.ndarray) -> float:
        return first.exponent(chosen) - second.exponent(chosen)

    return jackknife_interval(statistic, len(first.gaps), level)
