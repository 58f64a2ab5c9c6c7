"""Figure 1 of arXiv:2311.18718, drawn from its artefact tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.plotting import (
    angle_axis,
    draw_band,
    draw_cores,
    draw_dots,
    draw_published,
    draw_theory,
    log_ticks,
    ordered_colors,
    rows,
)
from featurespeed.papers.feature_speed.drawing import BRANCH_ORDER, KINDS, kinds_legend, label_series, series_names


def _draw_angles(table: pd.DataFrame, figure: Figure, xlabel: str, symbol: str, log_x: bool = False) -> Axes:
    ax = figure.add_subplot()
    names = series_names(table, BRANCH_ORDER)
    colors = ordered_colors(names)
    if log_x:
        ax.set_xscale("log")
        log_ticks(ax.xaxis, table["x"])
    for name in names:
        color = colors[name]
        draw_dots(ax, rows(table, "jvp", "draws", name), color)
        draw_cores(ax, rows(table, "finite step", "draws", name))
        draw_band(ax, rows(table, "sampler", "draws", name).assign(y=np.nan), color, alpha=0.16)
        draw_band(ax, rows(table, "sampler", "mean", name), color, alpha=0.35)
        draw_published(ax, rows(table, "published", "mean", name), color)
    draw_theory(ax, rows(table, "theory", "mean"))
    ax.set_xlabel(xlabel)
    angle_axis(ax, symbol)
    return ax


def draw_fig1a(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 1a: the angle through the layers."""
    ax = _draw_angles(table, figure, "layer $v$", r"backward-feature angle $\theta_v$")
    ax.set_xlim(0, table["x"].max() * 1.01)
    kinds_legend(table, figure, KINDS | {"published": "the paper's figure ($L=m=200$), 95%"})
    label_series(ax, table)


def draw_fig1b(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 1b: the output angle against depth."""
    ax = _draw_angles(table, figure, "depth $L$", r"output angle $\theta_{L-1}$")
    ax.set_xlim(0, table["x"].max() * 1.01)
    kinds_legend(table, figure, KINDS | {"published": "the paper's figure ($m=200$), 95%"})
    label_series(ax, table)


def draw_fig1c(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 1c: the output angle collapses on a function of c = sqrt(L) beta."""
    ax = _draw_angles(table, figure, r"$c=\sqrt{L}\,\beta$", r"output angle $\theta_{L-1}$", log_x=True)
    measured = table[table["estimator"] != "theory"]
    colors = ordered_colors(series_names(measured, BRANCH_ORDER))
    for name, color in colors.items():
        mean = rows(table, "jvp", "mean", name)
        ax.plot(mean["x"], mean["y"], linestyle="", marker="o", markersize=4.4, color=color, zorder=5)
    average = {"points": "mean of the draws, as in the paper"} if len(rows(table, "jvp", "mean")) else {}
    kinds_legend(table, figure, average | KINDS, colors=colors)
