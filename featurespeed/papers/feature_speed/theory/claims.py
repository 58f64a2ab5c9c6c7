"""Statistics of the claims about the infinite-width theory (ours) and the wide MLP."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, largest_estimate, mean_estimate, register, select, slope
from featurespeed.papers.feature_speed.shared import cosines

# --- Figures 1a and 1b: angles of MLP and ResNet ----------------------------------------------------------------------


@statistic("exponent of cos theta in v, wide ReLU MLP")
def wide_mlp_exponent(tables: Tables) -> Estimate:
    return slope(_wide_mlp(tables, "ReLU"), "layer")


def _wide_mlp(tables: Tables, series: str) -> pd.DataFrame:
    rows = select(tables["fsf_theory"], case="wide MLP", series=series)
    if rows["width"].max() < 20 * rows["depth"].max():
        raise Undecidable("the width is not much larger than the depth")
    return rows


def _prefactor(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = _wide_mlp(tables, series)
        last = rows[rows["layer"] >= 100]
        if last.empty:
            raise Undecidable("no layer v >= 100")
        scaled = (last["value"] * np.sqrt(last["layer"] - 1)).groupby(last["seed"]).mean()
        return mean_estimate(scaled.to_numpy())

    return compute


for _series in ("ReLU", "linear"):
    register(f"cos theta times sqrt(v - 1), wide {_series} MLP", _prefactor(_series))


def _phi_error(measured: str, theory: str) -> Callable[[Tables], Estimate]:
    """Largest gap over c between the mean sampled angle and the closed form."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theory"], case="phi")
        closed = select(rows, series=theory, estimator="theory").sort_values("c")
        sampled = select(rows, series=measured, estimator="sampler")
        by_c = sampled.pivot_table(index="seed", columns="c", values="value")
        expected = np.interp(np.log(by_c.columns.to_numpy(dtype=float)), np.log(closed["c"]), closed["value"])
        return largest_estimate(by_c.to_numpy(), expected)

    return compute


for _measured in ("ReLU", "linear"):
    for _theory in ("ReLU", "linear"):
        register(f"sampled angle ({_measured}) against closed form ({_theory})", _phi_error(_measured, _theory))


@statistic("exponent of cos phi in c, c >= 3")
def tail_exponent(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theory"], case="tail", estimator="sampler")
    rows = rows[rows["c"] >= 2.99]
    if rows.empty or rows["c"].max() < 8:
        raise Undecidable("the tail needs c from 3 to 10")
    return slope(rows, "c")


@statistic("exponent of cos phi in c, c <= 1")
def core_exponent(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theory"], case="phi", series="ReLU", estimator="sampler")
    return slope(cosines(rows[rows["c"] <= 1.01]), "c")
