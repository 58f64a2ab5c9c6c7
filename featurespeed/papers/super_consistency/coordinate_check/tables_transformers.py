"""Rows of the artefact tables of Figure 28 and Table 1 that are about transformers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import summaries
from featurespeed.papers.super_consistency.coordinate_check.analysis import Exponent, fit_exponent
from featurespeed.papers.super_consistency.coordinate_check.analysis_transformers import (
    UPDATES,
    depth_exponents_of,
    networks,
    parameterizations,
    update_rows,
    width_exponents_of,
)
from featurespeed.papers.super_consistency.coordinate_check.rows import geometric_mean, row
from featurespeed.papers.super_consistency.coordinate_check.spec_transformers import TRANSFORMER
from featurespeed.statistics import Interval


def fig28_parts(records: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Updates of each network after the first and the last step, and their slopes after the last one.

    ``transformer | <label> | <quantity>``: rms of the update (y) against the width (x), series ``<name>, step <t>``.
    ``transformer | <label> | slope, <quantity>``: slope of its logarithm in log N (y) after step t (x).
    """
    for label in networks(records, "transformer"):
        for quantity in UPDATES:
            rows = update_rows(records, label, quantity)
            last = rows["step"].max()
            shown = rows[rows["step"].isin([rows["step"].min(), last])]
            shown = shown.assign(series=shown["parameterization"] + ", step " + shown["step"].astype(str))
            panel = f"{TRANSFORMER}{label} | "
            yield summaries(shown, "width", panel + quantity, geometric_mean)
            yield pd.DataFrame(_slopes(rows[rows["step"] == last], f"{panel}slope, {quantity}"))


def _slopes(rows: pd.DataFrame, panel: str) -> Iterator[dict[str, object]]:
    for name, group in rows.groupby("parameterization"):
        exponent, left_out = fit_exponent(group, "width")
        if exponent is not None:
            yield row(panel, name, float(group["step"].iloc[0]), exponent, "dead" if left_out else "")


def table1_rows(records: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Measured (y) against stated (x) exponents: ``transformer | <label> | exponent of N``, and ``... of L``."""
    for label in networks(records, "width"):
        for name in parameterizations(records, f"width | {label}"):
            yield from _exponents(
                width_exponents_of(records, label, name), f"{TRANSFORMER}{label} | exponent of N", name
            )
    for label in networks(records, "depth"):
        for name in parameterizations(records, f"depth | {label}"):
            yield from _exponents(
                depth_exponents_of(records, label, name), f"{TRANSFORMER}{label} | exponent of L", name
            )


def _exponents(found: list[Exponent], panel: str, name: str) -> Iterator[dict[str, object]]:
    for one in found:
        stuck = Interval(np.nan, np.nan, np.nan, 0, "no exponent")  # too few seeds move at every size
        flag = "dead" if one.left_out or one.measured is None else ""
        yield row(panel, f"{one.name}, {name}", one.stated, one.measured or stuck, flag)
