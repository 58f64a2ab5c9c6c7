"""What the statistics share: selecting rows, exponents, identities, the stream of the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from featurespeed.claims.engine import Estimate, Undecidable, statistic
from featurespeed.statistics import Interval, bootstrap_interval, loglog_slope

Tables = Mapping[str, pd.DataFrame]
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


def generator() -> np.random.Generator:
    """Stream of the bootstrap, the same at every run."""
    return np.random.default_rng(BOOTSTRAP_SEED)


def register(name: str, function: Callable[[Tables], Estimate]) -> None:
    """Register ``function`` under ``name`` (for statistics made in loops)."""
    statistic(name)(function)


def cosines(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the angle in ``value`` replaced by its cosine."""
    return rows.assign(value=np.cos(rows["value"]))


def mean_difference(first: pd.DataFrame, second: pd.DataFrame) -> Estimate:
    """Difference of the means of two independent samples; bootstrap over both."""
    a, b = first["value"].to_numpy(), second["value"].to_numpy()
    n = min(len(a), len(b))
    pair = np.column_stack([a[:n], b[:n]])
    interval = bootstrap_interval(pair, lambda d: float(d[:, 0].mean() - d[:, 1].mean()), generator())
    return as_estimate(interval)


def theorem_depth_exponent(case: str, series: str, quantity: str) -> Callable[[Tables], Estimate]:
    return lambda tables: slope(select(tables["fsf_theorems"], case=case, series=series, quantity=quantity), "depth")
