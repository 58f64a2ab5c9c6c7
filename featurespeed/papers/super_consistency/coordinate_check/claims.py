"""Coordinate check over the width (Figure 28): slopes of log rms(update) in log N, one fit a seed."""

from __future__ import annotations

from collections.abc import Callable

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, register, select
from featurespeed.papers.super_consistency.coordinate_check.analysis import fit_exponent
from featurespeed.papers.super_consistency.coordinate_check.analysis_transformers import is_transformer

#: Name in the criteria -> series and quantity of the stage table.
UPDATES = {"feature update": ("features", "feature_update_rms"), "update of the output": ("readout", "update_rms")}

#: Name in the criteria -> keys of the stage table; without a case: the plain or residual net of that parameterization.
CASES: dict[str, dict[str, str]] = {
    "muP, SGD": {"parameterization": "MUP", "optimizer": "sgd"},
    "muP, Adam": {"parameterization": "MUP", "optimizer": "adam"},
    "muP with small outputs, SGD": {"parameterization": "MUP", "optimizer": "sgd", "case": "small outputs"},
    "Depth-muP, SGD": {"parameterization": "DEPTH_MUP", "optimizer": "sgd"},
    "Depth-muP, Adam": {"parameterization": "DEPTH_MUP", "optimizer": "adam"},
    "SP, SGD": {"parameterization": "SP", "optimizer": "sgd"},
    "SP, Adam": {"parameterization": "SP", "optimizer": "adam"},
    "NTP, SGD": {"parameterization": "NTP", "optimizer": "sgd"},
    "wrong rule, SGD": {"parameterization": "MUP", "optimizer": "sgd", "case": "wrong rule"},
}
for _label in ("ViT", "GPT", "post-LN"):
    for _name, _short in (("MUP", "muP"), ("DEPTH_MUP", "Depth-muP"), ("SP", "SP")):
        CASES[f"{_short}, {_label}"] = {
            "parameterization": _name,
            "optimizer": "adam",
            "case": f"transformer | {_label}",
        }
#: Cases whose output is judged, or is a control.
OUTPUTS = ("muP, SGD", "wrong rule, SGD")
SPECIAL = ("wrong rule", "small outputs")


def _slope(update: str, keys: dict[str, str]) -> Callable[[Tables], Estimate]:
    """Slope of log rms(update) in log N after the last of the recorded steps."""

    def compute(tables: Tables) -> Estimate:
        table = tables["sc_fig28"]
        if "case" not in keys:
            table = table[~table["case"].isin(SPECIAL) & ~is_transformer(table)]
        series, quantity = UPDATES[update]
        rows = select(table, **keys, series=series, quantity=quantity)
        rows = rows[rows["step"] == rows["step"].max()]
        if rows["width"].nunique() < 3:
            raise Undecidable(f"{rows['width'].nunique()} widths: at least 3 are needed for a slope")
        found, left_out = fit_exponent(rows, "width")
        if found is None or left_out:
            raise Undecidable(f"{left_out} seeds have an update of exactly 0")
        widths = f"widths {rows['width'].min()} to {rows['width'].max()}"
        return as_estimate(found, f"step {rows['step'].iloc[0]}, {widths}")

    return compute


for _name, _keys in CASES.items():
    register(f"slope of the feature update in N, {_name}", _slope("feature update", _keys))
for _name in OUTPUTS:
    register(f"slope of the update of the output in N, {_name}", _slope("update of the output", CASES[_name]))
