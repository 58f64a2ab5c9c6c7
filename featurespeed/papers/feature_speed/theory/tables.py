"""Artefact table of the infinite-width theory (ours)."""

from __future__ import annotations

import pandas as pd

from featurespeed.drawing.tabulate import (
    artefact_table,
    power_law,
    select,
    summaries,
    theory,
)
from featurespeed.statistics import mean_interval

#: Ending of the series of an infinite-width level, which tells it from the exact law at finite width.
INFINITE = ", infinite width"


def tabulate_theory(records: pd.DataFrame) -> pd.DataFrame:
    """Three panels: phi(c), the correction at finite width, and the tail of cos phi(c) with the two powers at issue."""
    parts = []
    for case, x in (("phi", "c"), ("finite width", "width"), ("tail", "c")):
        own = records[records["case"] == case]
        own = _relative_to_infinite_width(own) if case == "finite width" else own
        parts.append(summaries(select(own, "sampler"), x, case, mean_interval))
        parts.append(theory(select(own, "theory"), x, case))
    return artefact_table(*parts, *_tail_guides(parts[-1]))


def _relative_to_infinite_width(records: pd.DataFrame) -> pd.DataFrame:
    """Cosines as their relative excess over infinite width (stored as width 0), which becomes a level over widths."""
    infinite = records[(records["estimator"] == "theory") & (records["width"] == 0)]
    limit = records["series"].map(infinite.set_index("series")["value"])
    finite = records.assign(value=records["value"] / limit - 1.0)[records["width"] > 0]
    level = infinite.assign(series=infinite["series"] + INFINITE, value=0.0)
    return pd.concat([finite, *(level.assign(width=width) for width in (finite["width"].min(), finite["width"].max()))])


def _tail_guides(closed_form: pd.DataFrame) -> list[pd.DataFrame]:
    start = closed_form.sort_values("x").iloc[0]
    anchor = (float(start["x"]), float(start["y"]))
    laws = {"guide ∝ 1/c": -1.0, "guide ∝ 1/√c": -0.5}
    return [power_law("tail", name, closed_form["x"], anchor, power) for name, power in laws.items()]
