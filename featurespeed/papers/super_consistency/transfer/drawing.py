"""Figures 1, 24 and 26 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.plotting import draw_flagged, log_ticks
from featurespeed.drawing.transfer_panels import (
    draw_columns,
    draw_lines,
    draw_loss,
    draw_sharpness,
    legends,
    network_names,
    panel,
    rate_of,
    share_losses,
    size_colors,
)
from featurespeed.drawing.width_curves import GREY, draw_edge, network_label, width_axis
from featurespeed.papers.super_consistency.transfer.tables import NEAR_EDGE

ORDER = ("random features", "muP", "NTP")


def draw_fig01(table: pd.DataFrame, figure: Figure) -> None:
    """A line of panels a network: transfer of the learning rate, sharpness and loss along training."""
    draw_lines(table, figure, ORDER)


def draw_fig26(table: pd.DataFrame, figure: Figure) -> None:
    """A column of panels a network: transfer of the learning rate above, sharpness along training below."""
    draw_columns(table, figure, ORDER)


def draw_fig24(table: pd.DataFrame, figure: Figure) -> None:
    """A line of panels a network: loss and sharpness in the first steps, and sharpness against the width."""
    names, colors = network_names(table, ORDER), size_colors(table)
    axes = figure.subplots(len(names), 3, squeeze=False, width_ratios=[1.0, 1.15, 1.0])
    for line, name in zip(axes, names, strict=True):
        draw_loss(line[0], table, name, colors)
        draw_arrival(line[1], table, name, colors)
        draw_over_width(line[2], table, name)
        line[2].set_ylim(line[1].get_ylim())
    share_losses([line[0] for line in axes])
    for ax, text in zip(axes[-1], ("training step", "training step", "width $N$"), strict=True):
        ax.set_xlabel(text)
    legends(figure, table, colors)


# --- the first steps --------------------------------------------------------------------------------------------------


def draw_arrival(ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[str, object]) -> None:
    """Sharpness in the first steps, with the edge and where each width reaches nine tenths of it."""
    draw_sharpness(ax, table, name, colors, above=0.42)
    draw_edge(ax, panel(table, "sharpness", name), NEAR_EDGE, "")
    reached = panel(table, "arrival", name)
    if (reached["x"] == 0).any():
        widths = ", ".join(series[2:] for series in colors if series in set(reached.loc[reached["x"] == 0, "series"]))
        ax.texts[0].set_text(f"{ax.texts[0].get_text()}\nabove the edge from the start: $N=$ {widths}")
    for row in reached[reached["x"] <= panel(table, "sharpness", name)["x"].max()].itertuples():
        ax.plot([row.x], [row.y], marker="D", markersize=6, color=colors[row.series], markeredgecolor="white",
                markeredgewidth=0.8, zorder=8)  # fmt: skip


def draw_over_width(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """Sharpness against the width, one line a step, from light to dark."""
    own = panel(table, "width", name)
    steps = sorted(int(series.removeprefix("step ")) for series in own["series"].unique())
    map_ = matplotlib.colormaps["YlOrRd"]
    for place, step in enumerate(steps):
        rows, color = (
            own[own["series"] == f"step {step}"].sort_values("x"),
            map_(0.35 + 0.6 * place / max(len(steps) - 1, 1)),
        )
        ax.fill_between(rows["x"], rows["y_low"], rows["y_high"], color=color, alpha=0.14, linewidth=0)
        ax.plot(rows["x"], rows["y"], color=color, marker="o", markersize=3, label=f"step {step}")
        draw_flagged(ax, rows, color)
    ax.set_yscale("log")
    log_ticks(ax.yaxis, own["y"])
    width_axis(ax, own["x"], label=False)
    ax.axhline(2 / rate_of(table, name), color=GREY, linestyle=(0, (1, 1.6)), linewidth=1.3)
    ax.set_title(f"{network_label(name)}: sharpness against width")
    ax.legend(loc="upper right", ncols=2)
