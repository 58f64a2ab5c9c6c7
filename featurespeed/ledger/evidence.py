"""What the statistics of all papers share: selecting rows, exponents, identities, the stream of the bootstrap."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import TypeVar

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.statistics import Interval, bootstrap_interval, loglog_slope

Tables = Mapping[str, pd.DataFrame]
Found = TypeVar("Found")
BOOTSTRAP_SEED = 0


def as_estimate(interval: Interval, note: str = "") -> Estimate:
    """The ledger's form of an interval."""
    return Estimate(interval.value, interval.low, interval.high, interval.n, note)


def identity(errors: pd.Series, note: str = "") -> Estimate:
    """Largest error of an identity over all its checks."""
    return Estimate(float(errors.max()), n=len(errors), note=note)


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


def largest_deviation(measured: Mapping[str, Interval], stated: Mapping[str, float]) -> Estimate:
    """Largest ``|measured - stated|`` over all keys, with an interval that holds for all of them."""
    deviations = []
    for variable, interval in measured.items():
        low, high = interval.low - stated[variable], interval.high - stated[variable]
        inside = low <= 0.0 <= high
        nearest = 0.0 if inside else min(abs(low), abs(high))
        deviations.append((abs(interval.value - stated[variable]), nearest, max(abs(low), abs(high)), interval.n))
    values, lows, highs, n = zip(*deviations, strict=True)
    note = ", ".join(f"{v}: {i.value:.3f}" for v, i in measured.items())
    return Estimate(max(values), max(lows), max(highs), min(n), f"measured exponents {note}")


def generator() -> np.random.Generator:
    """Stream of the bootstrap, the same at every run."""
    return np.random.default_rng(BOOTSTRAP_SEED)


def per_table(function: Callable[..., Found]) -> Callable[..., Found]:
    """Remember what ``function(table, *keys)`` found as long as the table lives: many statistics ask for the same."""
    known: dict[int, tuple[weakref.ref, dict[Hashable, Found]]] = {}

    @wraps(function)
    def remembered(table: pd.DataFrame, *keys: Hashable) -> Found:
        if id(table) not in known or known[id(table)][0]() is not table:
            known[id(table)] = (weakref.ref(table), {})
        found = known[id(table)][1]
        if keys not in found:
            found[keys] = function(table, *keys)
        return found[keys]

    return remembered


def register(name: str, function: Callable[[Tables], Estimate]) -> None:
    """Register ``function`` under ``name`` (for statistics made in loops)."""
    statistic(name)(function)


def mean_difference(first: pd.DataFrame, second: pd.DataFrame) -> Estimate:
    """Difference of the means of two independent samples; bootstrap over both."""
    a, b = first["value"].to_numpy(), second["value"].to_numpy()
    n = min(len(a), len(b))
    pair = np.column_stack([a[:n], b[:n]])
    interval = bootstrap_interval(pair, lambda d: float(d[:, 0].mean() - d[:, 1].mean()), generator())
    return as_estimate(interval)
