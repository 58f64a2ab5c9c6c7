"""Figure of ``sc_bridge_depth``, drawn from its artefact table and from nothing else."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from featurespeed.drawing.distance_panels import rows_of
from featurespeed.drawing.plotting import GUIDE, UNORDERED, draw_flagged
from featurespeed.drawing.width_curves import headroom, logarithmic, numbers, width_axis, write
from featurespeed.papers.super_consistency.bridge.analysis import QUANTITIES
from featurespeed.papers.super_consistency.bridge.depth_tables import BEFORE, BEST, ERROR
from featurespeed.papers.super_consistency.bridge.spec import OVER_DEPTH

#: A colour for one and two layers a block, a line for with and without 1/sqrt(L).
STYLES = {
    label: {
        "color": UNORDERED[0] if label.startswith("1") else UNORDERED[1],
        "linestyle": "--" if "no " in label else "-",
    }
    for label in OVER_DEPTH
}
TITLES = {
    "angle": "angle, $1/\\cos\\theta$", "feature sensitivity": "feature sensitivity $S$",
    "feature speed": "feature speed", "sharpness": "sharpness",
}  # fmt: skip
MARKERS = {"angle": "s", "feature sensitivity": "o", "feature speed": "^", "sharpness": "X"}
assert set(TITLES) == set(QUANTITIES)


def draw_bridge_depth(table: pd.DataFrame, figure: Figure) -> None:
    """Above: the first paper's quantities and the sharpness at initialisation over the depth. Below: the best learning
    rate over the depth, and predicted against observed shifts.
    """
    grid = figure.add_gridspec(2, 4)
    for column, (name, title) in enumerate(TITLES.items()):
        ax = figure.add_subplot(grid[0, column])
        draw_over_depth(ax, rows_of(table, name))
        ax.set_title(f"{title} at step 0")
    ax = figure.add_subplot(grid[1, :2])
    draw_over_depth(ax, rows_of(table, BEST))
    ax.set_title("best learning rate")
    draw_shifts(figure.add_subplot(grid[1, 2:]), table)
    handles = [Line2D([], [], linewidth=2, **style) for style in STYLES.values()]
    figure.legend(handles, [_text(label) for label in STYLES], loc="outside upper center", ncols=len(handles))


def _text(label: str) -> str:
    return label.replace("no 1/sqrt(L)", "no $1/\\sqrt{L}$")


def draw_over_depth(ax: Axes, own: pd.DataFrame) -> None:
    """One line a network, with the range over seeds."""
    for label, style in STYLES.items():
        rows = own[own["series"] == label].sort_values("x")
        ax.fill_between(rows["x"], rows["y_low"], rows["y_high"], color=style["color"], alpha=0.1, linewidth=0)
        ax.plot(rows["x"], rows["y"], marker="o", markersize=3.5, **style)
        draw_flagged(ax, rows, style["color"])
    if len(own):
        logarithmic(ax.yaxis, own["y"])
        width_axis(ax, own["x"], kind="depth")


def draw_shifts(ax: Axes, table: pd.DataFrame) -> None:
    """Predicted against observed shifts: on the diagonal a prediction is right, in the band it misses by one step."""
    drawn = []
    for name, marker in MARKERS.items():
        own = rows_of(table, f"{BEFORE}{name}")
        drawn.append(own)
        for row in own.itertuples():
            style = STYLES[row.series]
            face = "white" if style["linestyle"] == "--" else style["color"]
            ax.plot([row.x], [row.y], marker=marker, markersize=7, linestyle="", color=style["color"],
                    markerfacecolor=face, zorder=5)  # fmt: skip
    points = pd.concat(drawn)
    if len(points):
        low, high = (end(end(points["x"]), end(points["y"])) for end in (min, max))
        low, high = low - 1, high + 1
        ax.plot([low, high], [low, high], color=GUIDE, linewidth=1)
        ax.fill_between([low, high], [low - 1, high - 1], [low + 1, high + 1], color="#eeeeee", linewidth=0, zorder=0)
        ax.set_xlim(points["x"].min() - 0.7, points["x"].max() + 0.7)
    texts = []
    for name in MARKERS:
        found = table[table["series"] == f"{ERROR}{name}"]
        texts.append(f"{name}: {numbers(found.iloc[0])}" if len(found) else f"{name}: cannot be told")
    write(ax, "largest error, in steps of 2\n" + "\n".join(texts))
    headroom(ax, above=0.55)
    handles = [
        Line2D([], [], marker=marker, linestyle="", color="#555555", markersize=6) for marker in MARKERS.values()
    ]
    ax.legend(handles, list(MARKERS), loc="lower right", ncols=2)
    ax.set_xlabel("observed shift of the best learning rate, steps of 2")
    ax.set_ylabel("predicted at step 0")
    ax.set_title("predicted and observed shifts over all depths")
