"""Artefact tables of Figure 2 of arXiv:2311.18718."""

from __future__ import annotations

import pandas as pd

from featurespeed.drawing.tabulate import (
    artefact_table,
    draws,
    median,
    power_law,
    select,
    summaries,
    theory,
)
from featurespeed.papers.feature_speed.shared import DENSE

#: Powers of the depth that Section 5 states for the sensitivity of the MLP; the inverse backward norm has L^-1/2 more.
FIG2A_GUIDES = {
    "feature_sensitivity": {"NTK": 0.5, "MF+muP": 0.5, "FSC": 0.0},
    "inverse_backward_norm": {"NTK": 0.0, "MF+muP": 0.0, "FSC": -0.5},
}


_GUIDE_NAMES = {0.5: "∝ √L", 0.0: "∝ 1", -0.5: "∝ 1/√L"}


def _sensitivities(records: pd.DataFrame) -> list[pd.DataFrame]:
    """Figure 2: medians over seeds, because the NTK's sensitivity 1/|f - y| has no mean."""
    parts = []
    for quantity in FIG2A_GUIDES:
        own = records[records["quantity"] == quantity]
        parts.append(draws(select(own, DENSE), "depth", quantity))
        parts.append(summaries(select(own, "sampler"), "depth", quantity, median))
        parts.append(theory(select(own, "theory"), "depth", quantity))
    return parts


def tabulate_fig2a(records: pd.DataFrame) -> pd.DataFrame:
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


def tabulate_fig2b(records: pd.DataFrame) -> pd.DataFrame:
    """Output sensitivity of the ResNet against the depth L (x), one panel a quantity."""
    return artefact_table(*_sensitivities(records))
