"""The panels of Figure 28 and Table 1 that are about transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from featurespeed.drawing.exponents import draw_measured, draw_stated, quantity_axis
from featurespeed.drawing.plotting import UNORDERED, draw_flagged
from featurespeed.papers.super_consistency.coordinate_check.analysis import DEPTH_QUANTITIES, in_order
from featurespeed.papers.super_consistency.coordinate_check.analysis_transformers import NETWORKS, PARTS, UPDATES
from featurespeed.papers.super_consistency.coordinate_check.spec_transformers import TRANSFORMER
from featurespeed.parameterization import Parameterization

#: Other colours than those of optimizers and of parts, which stand in the same figures.
COLORS = {"SP": "#555555", "MUP": UNORDERED[3], "DEPTH_MUP": UNORDERED[4]}
CONTROLS_IN_DEPTH = ("MUP",)
ZERO = {
    "ha": "center", "va": "center", "fontsize": 8.5, "color": "#666666",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
}  # fmt: skip
QUANTITY_TITLES = {"features": "last hidden features", "output": "output"}


def split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of transformers, and all others."""
    own = table["panel"].str.startswith(TRANSFORMER)
    return table[own], table[~own]


def labels_of(table: pd.DataFrame) -> list[str]:
    """Labels of the transformers in an artefact table, in the order of figures."""
    panels = table.loc[table["panel"].str.startswith(TRANSFORMER), "panel"]
    return in_order((panel.split(" | ")[1] for panel in panels), NETWORKS)


# --- Figure 28 --------------------------------------------------------------------------------------------------------


def draw_updates(figure: Figure, cells: SubplotSpec, table: pd.DataFrame) -> None:
    """Updates of features, then of outputs, of each network against its width; slopes of the last step beside them."""
    names = labels_of(table)
    grid = cells.subgridspec(1, len(UPDATES) * len(names))
    for block, quantity in enumerate(UPDATES):
        shared: Axes | None = None
        for place, label in enumerate(names):
            ax = figure.add_subplot(grid[block * len(names) + place], sharey=shared)
            shared = shared or ax
            own = table[table["panel"] == f"{TRANSFORMER}{label} | {quantity}"]
            _draw_curves(ax, own)
            _write_slopes(ax, table[table["panel"] == f"{TRANSFORMER}{label} | slope, {quantity}"])
            _axis_of_widths(ax, own)
            ax.set_title(f"{label}, {quantity}", fontsize=10)
            ax.set_xlabel("width $N$", fontsize=9)
            ax.tick_params(labelleft=place == 0)
            if place == 0:
                ax.set_ylabel(f"rms of the update\nof the {QUANTITY_TITLES[quantity]}")
        panels = [f"{TRANSFORMER}{label} | {quantity}" for label in names]
        _limit(shared, table[table["panel"].isin(panels)])


def _draw_curves(ax: Axes, table: pd.DataFrame) -> None:
    """One line a parameterization and step, dashed after the first step."""
    last = max(_steps(table))
    for series, own in table.groupby("series"):
        name, _, step = series.partition(", step ")
        own, color = own[own["y"] > 0].sort_values("x"), COLORS[name]
        if int(step) == last:
            ax.fill_between(own["x"], own["y_low"], own["y_high"], color=color, alpha=0.16, linewidth=0)
        style = {"linestyle": "-", "marker": "o"} if int(step) == last else {"linestyle": (0, (3, 1.6))}
        ax.plot(own["x"], own["y"], color=color, markersize=2.8, linewidth=1.2, **style)
        draw_flagged(ax, own, color)


def _steps(table: pd.DataFrame) -> list[int]:
    return sorted(int(step) for step in table["series"].str.rpartition(", step ")[2].unique())


def _write_slopes(ax: Axes, slopes: pd.DataFrame) -> None:
    rows = slopes.set_index("series")
    for place, name in enumerate(reversed(in_order(rows.index, Parameterization))):
        y, low, high = (f"{rows.loc[name, key]:.2f}".replace("-", "−") for key in ("y", "y_low", "y_high"))
        text = f"{Parameterization(name).label}: {y} [{low}, {high}]"
        ax.text(0.04, 0.03 + 0.085 * place, text, transform=ax.transAxes, fontsize=7.4, color=COLORS[name])


def _axis_of_widths(ax: Axes, table: pd.DataFrame) -> None:
    widths = sorted(table["x"].unique())
    ax.set(xscale="log", yscale="log")
    ax.xaxis.set_major_locator(FixedLocator(widths if len(widths) <= 4 else widths[::2]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlim(widths[0] / 1.25, widths[-1] * 1.25)


def _limit(ax: Axes, table: pd.DataFrame) -> None:
    low, high = table.loc[table["y"] > 0, "y"].min(), table["y"].max()
    ax.set_ylim(low * (low / high) ** 0.6, high * 1.8)  # room for the slopes below the curves


def update_handles(table: pd.DataFrame) -> tuple[list[Line2D], list[str]]:
    """Lines of :func:`draw_updates` and what they are."""
    curves = table[~table["panel"].str.contains("slope", regex=False)]
    steps = _steps(curves)
    names = in_order(curves["series"].str.partition(", ")[0], COLORS)
    handles = [Line2D([], [], color=COLORS[name], marker="o", markersize=3.4) for name in names]
    handles.append(Line2D([], [], color="#666666", linestyle=(0, (3, 1.6))))
    texts = [f"{Parameterization(name).label}, step {steps[-1]}" for name in names]
    return handles, [*texts, f"the same, step {steps[0]}"]


# --- Table 1 ----------------------------------------------------------------------------------------------------------


def draw_exponents(figure: Figure, upper: SubplotSpec, lower: SubplotSpec, table: pd.DataFrame) -> None:
    """Exponents in the width, and below them those in the depth, one panel a network."""
    names = labels_of(table)
    for cells, size, order in ((upper, "N", PARTS), (lower, "L", DEPTH_QUANTITIES)):
        shared: Axes | None = None
        grid = cells.subgridspec(1, len(names))
        parts = in_order(
            (
                series.rpartition(", ")[0]
                for series in table.loc[table["panel"].str.endswith(f"exponent of {size}"), "series"]
            ),
            order,
        )
        for place, label in enumerate(names):
            ax = figure.add_subplot(grid[place], sharex=shared)
            shared = shared or ax
            own = table[table["panel"] == f"{TRANSFORMER}{label} | exponent of {size}"]
            _draw_parts(ax, own, parts, controls=() if size == "N" else CONTROLS_IN_DEPTH)
            ax.tick_params(labelleft=place == 0)
            ax.set_title(f"{label}: over the {'width' if size == 'N' else 'depth'}", loc="center")
            ax.set_xlabel(f"exponent of ${size}$")


def _draw_parts(ax: Axes, table: pd.DataFrame, parts: Sequence[str], controls: Sequence[str]) -> None:
    """Dots, and diamonds at what is stated; for the controls nothing is."""
    present = in_order(table["series"].str.rpartition(", ")[2], COLORS)
    for place, part in enumerate(parts):
        for index, name in enumerate(present):
            own = table[table["series"] == f"{part}, {name}"]
            height = -place - 0.3 * (index - (len(present) - 1) / 2)
            draw_measured(ax, own, [height] * len(own), [COLORS[name]] * len(own), size=3.2)
            if name not in controls:
                draw_stated(ax, own, [height] * len(own), size=6)
    quantity_axis(ax, -np.arange(len(parts), dtype=float), parts, margin=0.6)


def legend_handles(table: pd.DataFrame) -> tuple[list[Line2D], list[str]]:
    """A line for each parameterization of the transformers, and its name."""
    names = in_order(table["series"].str.rpartition(", ")[2], COLORS)
    handles = [Line2D([], [], color=COLORS[name], marker="o", markersize=4.5, linewidth=1.6) for name in names]
    return handles, [f"{Parameterization(name).label}, Adam" for name in names]
