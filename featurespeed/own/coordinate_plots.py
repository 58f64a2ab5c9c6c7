"""Figure of a coordinate check: sizes of activations and updates against the width, and their exponents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurespeed.measuring.figures import GUIDE, new_figure, size_colors

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurespeed.own.coordinates import CoordinateCheck

Colors = list[tuple[float, float, float, float]]
#: Verdict -> marker; hollow where nothing is decided.
MARKERS = {"grows": "^", "vanishes": "v", "stable": "o", "undecided": "o"}
ROOMY = 20  # nodes up to which names have their usual size


def plot_coordinates(check: CoordinateCheck) -> Figure:
    """Log-log panels of both root mean squares at the last common step, and the exponents as the legend of the nodes.

    Lines are geometric means over seeds, coloured by the order of use of the nodes. The third panel names the nodes
    from the first at the top to the last; its band is where an exponent counts as 0. Long intervals go beyond it.
    """
    count = len(check.table)
    figure, axes = new_figure(3, width=4.0, height=min(max(3.1, 0.9 + 0.135 * count), 9.0))
    colors = size_colors(count)
    rows = check.rows[check.rows["step"] == check.step]
    for ax, quantity, label in (
        (axes[0], "activation", f"rms of activations at step {check.step}"),
        (axes[1], "update", f"rms of updates until step {check.step}"),
    ):
        _sizes(ax, rows, list(check.table["node"]), quantity, colors)
        ax.set_xlabel("width")
        ax.set_title(label, fontsize="medium")
    _exponents(axes[2], check.table, colors)
    return figure


def _sizes(ax: Axes, rows: pd.DataFrame, nodes: list[str], quantity: str, colors: Colors) -> None:
    """One line a node; zeros, which have no logarithm, are left out."""
    widths = np.unique(rows["width"])
    thin = len(nodes) > ROOMY
    for node, color in zip(nodes, colors, strict=True):
        own = rows[(rows["node"] == node) & (rows[quantity] > 0)]
        if own.empty:
            continue
        means = np.exp(np.log(own[quantity]).groupby(own["width"]).mean())
        ax.plot(
            means.index, means, color=color, marker=".", linewidth=0.8 if thin else 1.3, markersize=3 if thin else 6
        )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(widths, [str(width) for width in widths])
    ax.xaxis.minorticks_off()


def _exponents(ax: Axes, table: pd.DataFrame, colors: Colors) -> None:
    """Exponents of update and activation of each node with their intervals, from the top to the bottom."""
    from featurespeed.own.coordinates import HALF_STEP

    places = np.arange(len(table))
    ax.axvspan(-HALF_STEP, HALF_STEP, color="0.93", zorder=0)
    for power in (-0.5, 0.5, 1.0):
        ax.axvline(power, **GUIDE)
    for place, color, (_, row) in zip(places, colors, table.iterrows(), strict=True):
        ax.plot([row["update_low"], row["update_high"]], [place, place], color=color, linewidth=1.5)
        hollow = row["verdict"] == "undecided"
        ax.plot(
            row["update_slope"], place, MARKERS[row["verdict"]], color=color, markersize=5,
            markerfacecolor="white" if hollow else color,
        )  # fmt: skip
        ax.plot(row["activation_slope"], place, "|", color="0.35", markersize=6)
    ax.set_yticks(places, list(table["node"]), fontsize=8 if len(table) <= ROOMY else 6)
    ax.set_ylim(len(table) - 0.4, -0.6)
    slopes = table[["update_slope", "activation_slope"]].to_numpy(dtype=float)
    known = [-0.5, 1.0, *slopes[np.isfinite(slopes)]]
    ax.set_xlim(min(known) - 0.3, max(known) + 0.3)  # of few seeds intervals may be as long as the axis
    ax.set_xlabel("exponent in the width")
    ax.set_title("update (▲ grows, ▼ vanishes, ● stable, ○ undecided), activation (|)", fontsize="x-small")
