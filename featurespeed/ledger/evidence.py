"""What the statistics of all papers share: selecting rows, one value a seed, exponents, identities, differences."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import TypeVar

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Condition, Estimate, Undecidable, premise, statistic
from featurespeed.statistics import Interval, difference_interval, largest_deviation, loglog_slope, mean_interval

Tables = Mapping[str, pd.DataFrame]
Found = TypeVar("Found")
FEWEST_SEEDS = 2


def as_estimate(interval: Interval, note: str = "") -> Estimate:
    """The ledger's form of an interval."""
    return Estimate(interval.value, interval.low, interval.high, interval.n, note, interval.sample)


def mean_estimate(values: np.ndarray, note: str = "") -> Estimate:
    """Mean of one value a seed, ``[seeds]``, with its t interval; fewer than two seeds cannot decide."""
    enough_seeds(values)
    return as_estimate(mean_interval(values), note)


def largest_estimate(values: np.ndarray, stated: np.ndarray | float = 0.0, note: str = "") -> Estimate:
    """Largest deviation of several means from what is stated, ``[seeds, quantities]``, simultaneous t intervals."""
    enough_seeds(values)
    return as_estimate(largest_deviation(values, stated), note)


def enough_seeds(values: np.ndarray) -> None:
    """Raise :class:`Undecidable` if there are fewer than two seeds, or one of them has no number."""
    if len(values) < FEWEST_SEEDS:
        raise Undecidable(f"{len(values)} seed, at least {FEWEST_SEEDS} are needed for an interval")
    if not np.isfinite(values).all():
        raise Undecidable(f"{int((~np.isfinite(values)).sum())} of {values.size} values are no numbers")


def identity(errors: pd.Series, note: str = "") -> Estimate:
    """Largest error of an identity over all its checks."""
    return Estimate(float(errors.max()), n=len(errors), note=note, sample=tuple(map(float, errors)))


def select(table: pd.DataFrame, **keys) -> pd.DataFrame:
    """Rows whose columns equal the given values; none at all is undecidable at this scale."""
    rows = table
    for column, value in keys.items():
        rows = rows[rows[column] == value]
    if rows.empty:
        wanted = ", ".join(f"{column} = {value}" for column, value in keys.items())
        raise Undecidable(f"this run has no rows with {wanted}")
    return rows


def slope(rows: pd.DataFrame, x: str, y: str = "value", least: int = 3) -> Estimate:
    """Exponent of ``y`` in ``x`` over seeds; fewer than ``least`` sizes cannot decide."""
    if rows[x].nunique() < least:
        raise Undecidable(f"{rows[x].nunique()} values of {x}: at least {least} are needed for an exponent")
    return as_estimate(loglog_slope(rows[x], rows[y], rows["seed"]))


def per_table(function: Callable[..., Found]) -> Callable[..., Found]:
    """Remember what ``function(table, *keys)`` found as long as the table lives: many statistics ask for the same."""
    known: dict[int, tuple[weakref.ref, dict[Hashable, Found]]] = {}

    @wraps(function)
    def remembered(table: pd.DataFrame, *keys: Hashable) -> Found:
        if id(table) not in known or known[id(table)][0]() is not table:
            number = id(table)
            known[number] = (weakref.ref(table, lambda gone: _forget(known, number, gone)), {})
        found = known[id(table)][1]
        if keys not in found:
            found[keys] = function(table, *keys)
        return found[keys]

    return remembered


def _forget(known: dict[int, tuple[weakref.ref, dict]], number: int, gone: weakref.ref) -> None:
    """Drop what is known of a table that is gone, unless its number belongs to another one already."""
    if number in known and known[number][0] is gone:
        del known[number]


def register(name: str, function: Callable[[Tables], Estimate]) -> None:
    """Register ``function`` under ``name`` (for statistics made in loops)."""
    statistic(name)(function)


def register_premise(name: str, function: Callable[[Tables], Condition]) -> None:
    """Register a premise under ``name`` (for premises made in loops)."""
    premise(name)(function)


def mean_difference(first: pd.DataFrame, second: pd.DataFrame) -> Estimate:
    """Difference of the means of two independent samples, the rows of two tables; Welch's t interval."""
    for rows in (first, second):
        enough_seeds(rows["value"].to_numpy())
    return as_estimate(difference_interval(first["value"], second["value"]))
