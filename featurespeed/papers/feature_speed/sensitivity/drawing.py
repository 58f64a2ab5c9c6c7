"""Figure 2 of arXiv:2311.18718, drawn from its artefact tables."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.plotting import (
    draw_band,
    draw_cores,
    draw_dots,
    draw_guide,
    draw_theory,
    log_ticks,
    rows,
    unordered_colors,
)
from featurespeed.papers.feature_speed.drawing import KINDS, kinds_legend, series_names

# --- Figure 2 ---------------------------------------------------------------------------------------------------------

SENSITIVITY_TITLES = {
    "feature_sensitivity": r"sensitivity $S=\mathrm{rms}(\dot f_{L-1})/\dot{\mathcal{L}}_{\leq L-1}$",
    "inverse_backward_norm": r"inverse backward norm $1/(|b_{L-1}|\sqrt{m})$",
}


MEDIAN_KINDS = KINDS | {
    "line": "median of {n} exact samples",
    "band": "95% interval of the median",
    "guide": "power of the depth stated by the paper",
}


def _draw_sensitivities(table: pd.DataFrame, figure: Figure, colors: dict) -> list[Axes]:
    panels = figure.subplots(1, len(SENSITIVITY_TITLES), sharex=True, sharey=True)
    for ax, (panel, title) in zip(panels, SENSITIVITY_TITLES.items(), strict=True):
        for name, color in colors.items():
            draw_dots(ax, rows(table, "jvp", panel, name), color, size=3.6)
            draw_cores(ax, rows(table, "finite step", panel, name), size=1.2)
            draw_band(ax, rows(table, "sampler", panel, name), color, alpha=0.28, marker="s")
        lines = rows(table, "theory", panel)
        guide = lines["series"].str.startswith("guide")
        draw_theory(ax, lines[~guide])
        draw_guide(ax, lines[guide])
        ax.set_title(title)
        ax.set_xlabel("depth $L$")
    return list(panels)


def draw_fig2a(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 2a: sensitivity of the MLP against depth, both axes logarithmic."""
    colors = unordered_colors(series_names(table, ("NTK", "MF+muP", "FSC")))
    panels = _draw_sensitivities(table, figure, colors)
    for ax in panels:
        ax.set(xscale="log", yscale="log")
        log_ticks(ax.xaxis, table["x"])
        log_ticks(ax.yaxis, table["y"])
    kinds_legend(table, figure, MEDIAN_KINDS, colors=colors)


def draw_fig2b(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 2b: sensitivity of the ResNet, constant in depth."""
    colors = unordered_colors(series_names(table, ("beta=1/sqrtL", "beta=1/L")))
    panels = _draw_sensitivities(table, figure, colors)
    for ax in panels:
        ax.set_ylim(0, None)
    kinds_legend(table, figure, MEDIAN_KINDS, colors=colors)
