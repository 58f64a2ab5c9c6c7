"""Artefact tables of the first paper (arXiv:2311.18718): from its stage tables to what its figures draw.

Every function takes the long stage table of one artefact and returns the artefact table (``docs/tables.md``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from featurespeed.records import SIZE_COLUMNS
from featurespeed.scalings import FSF_EXPONENTS
from featurespeed.statistics import loglog_exponents, mean_interval
from featurespeed.tabulate import (
    artefact_table,
    draws,
    median,
    percentiles,
    power_law,
    published,
    select,
    summaries,
    theory,
)

DENSE = ("jvp", "finite step")

#: Powers of the depth that Section 5 states for the sensitivity of the MLP; the inverse backward norm has L^-1/2 more.
FIG2A_GUIDES = {
    "feature_sensitivity": {"NTK": 0.5, "MF+muP": 0.5, "FSC": 0.0},
    "inverse_backward_norm": {"NTK": 0.0, "MF+muP": 0.0, "FSC": -0.5},
}
#: Ending of the series of an infinite-width level, which tells it from the exact law at finite width.
INFINITE = ", infinite width"

_GUIDE_NAMES = {0.5: "∝ √L", 0.0: "∝ 1", -0.5: "∝ 1/√L"}


def _angles(records: pd.DataFrame, x: str) -> pd.DataFrame:
    """Figure 1: single draws, the mean of many seeds, the band of their draws, and the theory."""
    bfa = records[records["quantity"] == "bfa"]
    sampler = select(bfa, "sampler")
    return artefact_table(
        draws(select(bfa, DENSE), x, "draws"),
        summaries(sampler, x, "draws", percentiles),
        summaries(sampler, x, "mean", mean_interval),
        theory(select(bfa, "theory"), x, "mean"),
    )


def tabulate_fig1a(records: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Backward-feature angle against the layer v (x), with the points read off Figure 1a."""
    return artefact_table(_angles(records, "layer"), published(points, "1a", "mean"))


def tabulate_fig1b(records: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Output angle theta_{L-1} against the depth L (x), with the points read off Figure 1b."""
    return artefact_table(_angles(records, "depth"), published(points, "1b", "mean"))


def tabulate_fig1c(records: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Output angle against c = sqrt(L) beta (x); the paper shows the mean of its draws, so that is here too."""
    jvp = select(records, "jvp", quantity="bfa")
    repeated = jvp.groupby(["series", "c"])["seed"].transform("nunique") > 1
    return artefact_table(_angles(records, "c"), summaries(jvp[repeated], "c", "mean", mean_interval))


def _sensitivities(records: pd.DataFrame) -> list[pd.DataFrame]:
    """Figure 2: medians over seeds, because the NTK's sensitivity 1/|f - y| has no mean."""
    parts = []
    for quantity in FIG2A_GUIDES:
        own = records[records["quantity"] == quantity]
        parts.append(draws(select(own, DENSE), "depth", quantity))
        parts.append(summaries(select(own, "sampler"), "depth", quantity, median))
        parts.append(theory(select(own, "theory"), "depth", quantity))
    return parts


def tabulate_fig2a(records: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Output sensitivity of the MLP against the depth L (x), one panel a quantity, with the stated powers of L."""
    table = artefact_table(*_sensitivities(records))
    guides = []
    for panel, powers in FIG2A_GUIDES.items():
        for series, power in powers.items():
            line = table.query("panel == @panel and series == @series and estimator == 'sampler'")
            if len(line):
                anchor = (float(line["x"].iloc[-1]), float(line["y"].iloc[-1]))
                name = f"guide {series} {_GUIDE_NAMES[power]}"
                guides.append(power_law(panel, name, line["x"], anchor, power))
    return artefact_table(table, *guides)


def tabulate_fig2b(records: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Output sensitivity of the ResNet against the depth L (x), one panel a quantity."""
    return artefact_table(*_sensitivities(records))


def _exponents(records: pd.DataFrame) -> pd.DataFrame:
    rows = []
    measured = records[records["estimator"] != "theory"]
    for (scaling, quantity), group in measured.groupby(["scaling", "quantity"], sort=True):
        stated: Mapping[str, float] = FSF_EXPONENTS[scaling].get(quantity, dict.fromkeys(SIZE_COLUMNS, 0.0))
        found = loglog_exponents(group, list(SIZE_COLUMNS.values()), "value")
        for size, column in SIZE_COLUMNS.items():
            exponent = found[column]
            flag = "" if np.isfinite(exponent.low) and np.isfinite(exponent.high) else "unconverged"
            rows.append(
                {
                    "panel": f"{scaling} | exponent of {size}", "series": quantity, "x": stated[size],
                    "y": _round(exponent.value), "y_low": _round(exponent.low), "y_high": _round(exponent.high),
                    "n": exponent.n,
                    "estimator": group["estimator"].iloc[0], "order": 0, "flag": flag,
                }
            )  # fmt: skip
    return artefact_table(pd.DataFrame(rows))


def _round(exponent: float) -> float:
    """Rid an exact exponent of rounding errors, which would differ with the order of the rows; no negative zero."""
    return round(exponent, 9) + 0.0


def tabulate_table1(records: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Measured (y) against stated (x) exponents of m, L, d, k for the MLP's scalings; 0 is stated for a property."""
    return _exponents(records)


def tabulate_table2(records: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Measured (y) against stated (x) exponents for the ResNet's FSC scaling."""
    return _exponents(records)


def tabulate_theory(records: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
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
