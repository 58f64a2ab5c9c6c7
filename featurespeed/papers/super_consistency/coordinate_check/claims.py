"""Coordinate check over the width (Figure 28): slopes of log rms(update) in log N, and what is exactly 0."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, as_estimate, register, select
from featurespeed.papers.super_consistency.coordinate_check.analysis import fit_exponent

STEPS = ("first", "last")
UPDATES = {"features": "feature_update_rms", "readout": "update_rms"}

#: Name in the criteria -> keys of the stage table; without a case: the plain or residual net of that parameterization.
CASES: dict[str, dict[str, str]] = {
    "muP, SGD": {"parameterization": "MUP", "optimizer": "sgd"},
    "muP, Adam": {"parameterization": "MUP", "optimizer": "adam"},
    "muP with small outputs, SGD": {"parameterization": "MUP", "optimizer": "sgd", "case": "small outputs"},
    "Depth-muP, SGD": {"parameterization": "DEPTH_MUP", "optimizer": "sgd"},
    "Depth-muP with small outputs, SGD": {"parameterization": "DEPTH_MUP", "optimizer": "sgd", "case": "small outputs"},
    "Depth-muP, Adam": {"parameterization": "DEPTH_MUP", "optimizer": "adam"},
    "SP, SGD": {"parameterization": "SP", "optimizer": "sgd"},
    "SP, Adam": {"parameterization": "SP", "optimizer": "adam"},
    "NTP, SGD": {"parameterization": "NTP", "optimizer": "sgd"},
    "wrong rule, SGD": {"parameterization": "MUP", "optimizer": "sgd", "case": "wrong rule"},
}
#: Cases whose readout is judged too, at the last step.
READOUTS = tuple(name for name in CASES if "muP" in name) + ("wrong rule, SGD", "SP, Adam")
SPECIAL = ("wrong rule", "small outputs")


def _rows(tables: Tables, keys: dict[str, str], **more: str) -> pd.DataFrame:
    table = tables["sc_fig28"]
    if "case" not in keys:
        table = table[~table["case"].isin(SPECIAL)]
    return select(table, **keys, **more)


def _slope(series: str, keys: dict[str, str], step: str) -> Callable[[Tables], Estimate]:
    """Slope of log rms(update) in log N after the first or the last of the recorded steps."""

    def compute(tables: Tables) -> Estimate:
        rows = _rows(tables, keys, series=series, quantity=UPDATES[series])
        rows = rows[rows["step"] == (rows["step"].min() if step == "first" else rows["step"].max())]
        if rows["width"].nunique() < 3:
            raise Undecidable(f"{rows['width'].nunique()} widths: at least 3 are needed for a slope")
        found, left_out = fit_exponent(rows, "width")
        if found is None or left_out:
            raise Undecidable(f"{left_out} seeds have an update of exactly 0")
        widths = f"widths {rows['width'].min()} to {rows['width'].max()}"
        return as_estimate(found, f"step {rows['step'].iloc[0]}, {widths}")

    return compute


def absolute(estimate: Estimate) -> Estimate:
    """The estimate without its sign; an interval that holds 0 then begins there."""
    ends = sorted((abs(estimate.ci_low), abs(estimate.ci_high)))
    low = 0.0 if estimate.ci_low <= 0.0 <= estimate.ci_high else ends[0]
    return Estimate(abs(estimate.value), low, ends[1], estimate.n, estimate.note)


def _absolute_slope(keys: dict[str, str]) -> Callable[[Tables], Estimate]:
    return lambda tables: absolute(_slope("features", keys, "last")(tables))


for _name, _keys in CASES.items():
    for _step in STEPS:
        # SP and NTP are claims, or controls, at the steps that the criteria name.
        if _step == "last" or "muP" in _name or _name in ("wrong rule, SGD", "SP, Adam"):
            register(f"slope of the feature update in N, {_name}, {_step} step", _slope("features", _keys, _step))
for _name in READOUTS:
    register(f"slope of the readout's update in N, {_name}, last step", _slope("readout", CASES[_name], "last"))
for _name in ("wrong rule, SGD", "muP, SGD"):
    register(f"absolute slope of the feature update in N, {_name}, last step", _absolute_slope(CASES[_name]))


@statistic("largest feature update of random features")
def random_features(tables: Tables) -> Estimate:
    rows = _rows(tables, {"parameterization": "RANDOM_FEATURES"}, quantity="feature_update_rms")
    return Estimate(float(rows["value"].max()), n=len(rows))


@statistic("smallest feature update of NTP")
def smallest_of_ntp(tables: Tables) -> Estimate:
    rows = _rows(tables, CASES["NTP, SGD"], quantity="feature_update_rms")
    return Estimate(float(rows["value"].min()), n=len(rows))
