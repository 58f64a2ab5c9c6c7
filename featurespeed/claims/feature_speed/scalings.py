"""Scalings: Proposition 4.1, Figures 2a and 2b, Tables 1 and 2."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.claims.engine import Estimate, Undecidable, statistic
from featurespeed.claims.evidence import (
    Tables,
    as_estimate,
    generator,
    largest_deviation,
    register,
    select,
)
from featurespeed.claims.feature_speed.evidence import theorem_depth_exponent
from featurespeed.records import SIZE_COLUMNS
from featurespeed.scalings import FSF_EXPONENTS, SIZE_VARIABLES, Scaling
from featurespeed.statistics import Interval, bootstrap_interval, loglog_exponents, mean_interval

# --- Proposition 4.1, Figure 2 ----------------------------------------------------------------------------------------


for _series in ("MLP", "ResNet", "MLP, readout 1/m"):
    register(
        f"exponent of S in L, {_series}", theorem_depth_exponent("automatic scaling", _series, "feature_sensitivity")
    )


def _median_depth_exponent(artefact: str, series: str) -> Callable[[Tables], Estimate]:
    """Exponent in L of the median sensitivity; bootstrap over seeds, because NTK's mean is infinite."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[artefact], series=series, estimator="sampler", quantity="feature_sensitivity")
        by_depth = rows.pivot_table(index="seed", columns="depth", values="value")
        by_depth = by_depth[[depth for depth in by_depth.columns if depth >= 10]]
        if by_depth.shape[1] < 3:
            raise Undecidable(f"{by_depth.shape[1]} depths from 10 on: at least 3 are needed for an exponent")
        logs = np.log(by_depth.columns.to_numpy(dtype=float))

        def exponent(draws: np.ndarray) -> float:
            return float(np.polyfit(logs, np.log(np.median(draws, axis=0)), 1)[0])

        return as_estimate(bootstrap_interval(by_depth.to_numpy(), exponent, generator()))

    return compute


for _series in ("NTK", "MF+muP", "FSC"):
    register(f"exponent of the median S in L, {_series}", _median_depth_exponent("fsf_fig2a", _series))
for _series in ("beta=1/sqrtL", "beta=1/L"):
    register(f"exponent of the median S in L, {_series}", _median_depth_exponent("fsf_fig2b", _series))


def _level(tables: Tables, series: str) -> np.ndarray:
    """Mean over depths of each seed's sensitivity in Fig. 2b."""
    rows = select(tables["fsf_fig2b"], series=series, estimator="sampler", quantity="feature_sensitivity")
    if rows["width"].iloc[0] != 400:
        raise Undecidable("the published level belongs to m = 400")
    return rows.groupby("seed")["value"].median().to_numpy()


@statistic("level of S over the published level, Fig. 2b")
def level_against_published(tables: Tables) -> Estimate:
    return as_estimate(mean_interval(_level(tables, "beta=1/sqrtL") / 10.4))


def _level_ratio(numerator: str, denominator: str, published: float) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        pair = np.column_stack([_level(tables, numerator), _level(tables, denominator)])
        ratio = bootstrap_interval(pair, lambda d: float(d[:, 0].mean() / d[:, 1].mean() / published), generator())
        return as_estimate(ratio)

    return compute


register(
    "ratio of the levels of Fig. 2b over the published ratio", _level_ratio("beta=1/sqrtL", "beta=1/L", 10.4 / 7.75)
)
register("inverse ratio of the levels over the published ratio", _level_ratio("beta=1/L", "beta=1/sqrtL", 10.4 / 7.75))


# --- Tables 1 and 2 ---------------------------------------------------------------------------------------------------


TABLE_OF = {s: "fsf_table2" if s == Scaling.RESNET_FSC else "fsf_table1" for s in Scaling}
PROPERTIES = {
    "SP": "forward_rms",
    "FL": "feature_speed_rms",
    "LD": "loss_decay",
    "BC": "contribution_ratio",
}


def exponents(rows: pd.DataFrame) -> dict[str, Interval]:
    """Exponents of ``value`` in m, L, d, k."""
    by_column = loglog_exponents(rows, list(SIZE_COLUMNS.values()), "value")
    return {variable: by_column[column] for variable, column in SIZE_COLUMNS.items()}


def _rule_deviation(scaling: Scaling, quantity: str, offset: float) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        stated = dict(FSF_EXPONENTS[scaling][quantity])
        stated["m"] += offset
        return largest_deviation(exponents(rows), stated)

    return compute


def _property_deviation(scaling: Scaling, quantity: str, variables: tuple[str, ...]) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        measured = {variable: interval for variable, interval in exponents(rows).items() if variable in variables}
        return largest_deviation(measured, dict.fromkeys(variables, 0.0))

    return compute


def _one_rate_for_all(scaling: Scaling) -> Callable[[Tables], Estimate]:
    """Contributions of embedding over hidden layer if all layers had the same learning rate (control of BC)."""

    def compute(tables: Tables) -> Estimate:
        table = select(tables[TABLE_OF[scaling]], scaling=str(scaling))
        keys = [*SIZE_COLUMNS.values(), "seed"]
        hidden = select(table, quantity="learning_rate_hidden").set_index(keys)["value"]
        embedding = select(table, quantity="learning_rate_input").set_index(keys)["value"]
        ratio = (hidden / embedding).rename("value").reset_index()
        return largest_deviation(exponents(ratio), dict.fromkeys(SIZE_VARIABLES, 0.0))

    return compute


for _scaling in Scaling:
    for _quantity in FSF_EXPONENTS[_scaling]:
        register(f"{_scaling}, {_quantity}", _rule_deviation(_scaling, _quantity, 0.0))
        register(f"{_scaling}, {_quantity}, wrong exponent of m", _rule_deviation(_scaling, _quantity, 0.5))
    for _property, _quantity in PROPERTIES.items():
        register(f"{_scaling}, {_property}", _property_deviation(_scaling, _quantity, SIZE_VARIABLES))
    register(f"{_scaling}, one learning rate for all layers", _one_rate_for_all(_scaling))


def _property_exponent(scaling: Scaling, quantity: str, variable: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        return as_estimate(exponents(rows)[variable])

    return compute


for _scaling in (Scaling.NTK, Scaling.FSC):
    register(f"exponent of the feature speed in m, {_scaling}", _property_exponent(_scaling, "feature_speed_rms", "m"))
for _scaling in (Scaling.MF_MUP, Scaling.FSC):
    register(f"exponent of the readout std in L, {_scaling}", _property_exponent(_scaling, "init_std_readout", "L"))
