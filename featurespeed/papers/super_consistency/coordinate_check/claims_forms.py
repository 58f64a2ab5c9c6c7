"""The two published forms of one parameterization: how far their training curves are apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate
from featurespeed.ledger.evidence import Tables, as_estimate, identity, register, select
from featurespeed.statistics import Interval, mean_interval

#: Settings under which the two forms are the same network, and those under which they are not.
SAME = ("sgd", "adam, eps = 0", "adam, eps by layer", "adamw, independent decay")
DIFFERENT = ("adam, one eps", "adamw, decay follows layer")

# Differences below this are rounding; it stands in for an exact 0, which has no logarithm.
SMALLEST = float(np.finfo(float).eps) / 4


def _largest(variant: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["sc_table1"], case="forms", series=variant)
        names = ", ".join(rows["parameterization"].unique())
        return identity(rows["value"], f"{names}; {rows['step'].max()} steps")

    return compute


def _typical(variant: str) -> Callable[[Tables], Estimate]:
    """Geometric mean over seeds of the difference, of the parameterization where it is smallest; t interval of logs."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["sc_table1"], case="forms", series=variant)
        smallest = rows.groupby("seed")["value"].min().clip(lower=SMALLEST)
        found = mean_interval(np.log(smallest.to_numpy()))
        value, low, high = (float(np.exp(end)) for end in (found.value, found.low, found.high))
        return as_estimate(Interval(value, low, high, found.n, "geometric mean, t interval of logarithms"))

    return compute


for _variant in (*SAME, *DIFFERENT):
    register(f"largest difference of the training curves, {_variant}", _largest(_variant))
for _variant in (*DIFFERENT, "adam, eps by layer", "adamw, independent decay"):
    register(f"difference of the training curves, {_variant}", _typical(_variant))
