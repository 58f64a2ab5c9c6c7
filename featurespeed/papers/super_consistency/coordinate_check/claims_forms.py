"""The two published forms of one parameterization: how far their training curves are apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, statistic
from featurespeed.ledger.evidence import Tables, as_estimate, identity, register, select
from featurespeed.statistics import exponential, mean_interval

#: Settings under which the two forms are the same network.
SAME = ("sgd", "adam, eps = 0", "adam, eps by layer", "adamw, independent decay")
#: Settings under which they are not.
DIFFERENT = ("adam, one eps", "adamw, decay follows layer")

# Differences below this are rounding; it stands in for an exact 0, which has no logarithm.
SMALLEST = float(np.finfo(float).eps) / 4


def _largest(variant: str, case: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["sc_table1"], case=case, series=variant)
        names = ", ".join(rows["parameterization"].unique())
        return identity(rows["value"], f"{names}; {rows['step'].max()} steps")

    return compute


def _typical(variant: str) -> Callable[[Tables], Estimate]:
    """Geometric mean over seeds of the difference, of the parameterization where it is smallest; t interval of logs."""

    def compute(tables: Tables) -> Estimate:
        logs = _logs(tables, (variant,))
        return _geometric_mean(logs.groupby(level="seed").min())

    return compute


@statistic("difference of the training curves, settings of one network")
def typical_of_one_network(tables: Tables) -> Estimate:
    """Geometric mean of all differences under the settings in which the two forms are one network."""
    return _geometric_mean(_logs(tables, SAME).groupby(level="seed").mean())


def _logs(tables: Tables, variants: tuple[str, ...]) -> pd.Series:
    rows = select(tables["sc_table1"], case="forms")
    rows = rows[rows["series"].isin(variants)].set_index(["seed", "series", "parameterization"])
    return np.log(rows["value"].clip(lower=SMALLEST))


def _geometric_mean(logs: pd.Series) -> Estimate:
    return as_estimate(exponential(mean_interval(logs.to_numpy()), "geometric mean"))


for _variant in SAME:
    register(f"largest difference of the training curves, {_variant}", _largest(_variant, "forms"))
    _shuffled = f"largest difference of the training curves of different seeds, {_variant}"
    register(_shuffled, _largest(_variant, "forms of different seeds"))
for _variant in DIFFERENT:
    register(f"difference of the training curves, {_variant}", _typical(_variant))
