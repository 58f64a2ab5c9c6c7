"""Artefact tables of the second paper (arXiv:2402.17457): from its stage tables to what its figures draw.

Every function takes the long stage table of one artefact and returns the artefact table (``docs/tables.md``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import artefact_table, summaries
from featurespeed.papers.super_consistency.coordinate_check.analysis import (
    Exponent,
    depth_table,
    fit_exponent,
    in_order,
    layer_mean,
    pairs,
    width_table,
)
from featurespeed.papers.super_consistency.coordinate_check.analysis_transformers import is_transformer
from featurespeed.papers.super_consistency.coordinate_check.rows import geometric_mean, row
from featurespeed.papers.super_consistency.coordinate_check.tables_transformers import fig28_parts, table1_rows
from featurespeed.parameterization import OptimizerName, Parameterization
from featurespeed.statistics import Interval

#: Parts of an update that the coordinate check sets apart: series -> role of the layer, quantity.
PARTS = {
    "hidden, effective": ("hidden", "effective_update_rms"),
    "hidden, propagating": ("hidden", "propagating_update_rms"),
    "readout, effective": ("readout", "effective_update_rms"),
    "readout, propagating": ("readout", "propagating_update_rms"),
}
#: Further checks of one parameterization, beside those of the table.
CHECKS = ("wrong rule", "small outputs")

#: Bounds between which the two forms of a parameterization are either the same or not.
FORM_BOUNDS = {"guide at most, where the forms are one network": 1e-10, "guide at least, where they are not": 1e-6}


# --- Figure 28 --------------------------------------------------------------------------------------------------------


def tabulate_fig28(records: pd.DataFrame) -> pd.DataFrame:
    """Updates against the width (x) and their slopes, one panel a parameterization and optimizer.

    ``feature update | <case>``: rms of the update of the last hidden features, one series a step. ``parts | <case>``:
    effective and propagating updates of hidden layers (their mean) and readout at the last step. ``slope | <case>``:
    slopes of all of these in log N (y) against the step (x). Transformers: :func:`fig28_parts`.
    """
    parts = list(fig28_parts(records))
    for case, rows in cases(records[~is_transformer(records)]):
        features = rows[rows["quantity"] == "feature_update_rms"]
        features = features.assign(series="step " + features["step"].astype(str))
        last = _parts(rows[rows["step"] == rows["step"].max()])
        parts.append(summaries(features, "width", f"feature update | {case}", geometric_mean))
        parts.append(summaries(last, "width", f"parts | {case}", geometric_mean))
        parts.append(_slopes(features, f"slope | {case}", "feature update"))
        parts.append(_slopes(last, f"slope | {case}", None))
    return artefact_table(*parts)


def cases(records: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """``(name, rows)`` of every check, such as ``MUP, sgd`` or ``MUP, sgd, wrong rule``, in order; no transformers."""
    kind = records["case"].where(records["case"].isin(CHECKS), "")
    for check in ("", *CHECKS):
        own = records[kind == check].assign(case=check)
        for name, optimizer in pairs(own, check):
            rows = own[(own["parameterization"] == name) & (own["optimizer"] == optimizer)]
            yield ", ".join(filter(None, (name, optimizer, check))), rows


def _parts(rows: pd.DataFrame) -> pd.DataFrame:
    found = []
    for series, (role, quantity) in PARTS.items():
        own = layer_mean(rows[(rows["series"] == role) & (rows["quantity"] == quantity)])
        found.append(own.assign(series=series, estimator="training"))
    return pd.concat(found, ignore_index=True)


def _slopes(rows: pd.DataFrame, panel: str, series: str | None) -> pd.DataFrame:
    """Slope of each series and step; none where everything is exactly 0."""
    found = []
    for (name, step), group in rows.groupby(["series", "step"]):
        exponent, left_out = fit_exponent(group, "width")
        if exponent is not None:
            found.append(row(panel, series or name, float(step), exponent, "dead" if left_out else ""))
    return pd.DataFrame(found)


# --- Table 1 ----------------------------------------------------------------------------------------------------------


def tabulate_table1(records: pd.DataFrame) -> pd.DataFrame:
    """Measured (y) against stated (x) exponents in width and depth, and how far the two published forms are apart.

    ``<parameterization> | exponent of N, <quantity>`` has one series a layer and optimizer. What is exactly 0 and what
    is stated to be so stands in ``<parameterization> | exactly 0, <quantity>`` with its largest value. ``forms``: the
    largest difference over seeds (y) after so many steps (x); the bounds are the smallest and again the largest one.
    Transformers: :func:`table1_rows`.
    """
    rows = []
    for name, optimizer in pairs(records, "width"):
        rows += _exponent_rows(width_table(records, name, optimizer), name, optimizer, "N", by_quantity=True)
    for name, optimizer in pairs(records, "depth"):
        rows += _exponent_rows(depth_table(records, name, optimizer), name, optimizer, "L", by_quantity=False)
    rows += table1_rows(records)
    return artefact_table(pd.DataFrame(rows), _forms(records[records["case"] == "forms"]))


def _exponent_rows(
    found: Iterable[Exponent], name: str, optimizer: str, size: str, by_quantity: bool
) -> Iterator[dict[str, object]]:
    for exponent in found:
        ending = f", {exponent.quantity}" if by_quantity else ""
        series = f"{exponent.name}, {optimizer}"
        if exponent.measured is None or exponent.stated is None:
            zero = Interval(exponent.largest, np.nan, np.nan, 0, "largest value")
            stuck = exponent.stated is not None and exponent.largest > 0  # too few seeds move at every size
            yield row(f"{name} | exactly 0{ending}", series, 0.0, zero, "dead" if stuck else "")
        else:
            flag = "dead" if exponent.left_out else ""
            yield row(f"{name} | exponent of {size}{ending}", series, exponent.stated, exponent.measured, flag)


def _forms(records: pd.DataFrame) -> pd.DataFrame:
    if records.empty:
        return pd.DataFrame()
    rows = []
    for (variant, name), group in records.groupby(["series", "parameterization"], sort=True):
        least, most = float(group["value"].min()), float(group["value"].max())
        found = Interval(most, least, most, group["seed"].nunique(), "largest")
        rows.append(row("forms", f"{variant} | {name}", float(group["step"].max()), found, "", digits=None))
    for guide, bound in FORM_BOUNDS.items():
        found = Interval(bound, np.nan, np.nan, 0, "bound")
        rows.append(row("forms", guide, float(records["step"].max()), found, "", digits=None) | {"estimator": "theory"})
    return pd.DataFrame(rows)


def parameterizations(names: Iterable[str]) -> list[str]:
    """Distinct names in the order of the enumeration."""
    return in_order(names, Parameterization)


def optimizers(names: Iterable[str]) -> list[str]:
    """Distinct names in the order of the enumeration."""
    return in_order(names, OptimizerName)
