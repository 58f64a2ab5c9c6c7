"""Figure of ``sc_bridge_depth``, drawn from its artefact table and from nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator

from featurespeed.drawing.distance_panels import rows_of
from featurespeed.drawing.plotting import GUIDE, UNORDERED, draw_flagged
from featurespeed.drawing.transfer_panels import estimate
from featurespeed.drawing.width_curves import GREY, headroom, logarithmic, network_label, width_axis, write
from featurespeed.papers.super_consistency.bridge.analysis import QUANTITIES
from featurespeed.papers.super_consistency.bridge.depth_tables import BEFORE, BEST, ERROR, OBSERVED
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
AT_END = "for some seeds at an end of the rates that train"
WITHOUT, WITHIN = "hollow: no $1/\\sqrt{L}$", "right within one step of 2"
BARS = "95% intervals over seeds"
BAND = "#e6e6e6"
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
    draw_best_rates(ax, rows_of(table, BEST))
    draw_shifts(figure.add_subplot(grid[1, 2:]), table)
    handles = [Line2D([], [], linewidth=2, **style) for style in STYLES.values()]
    figure.legend(handles, [network_label(label) for label in STYLES], loc="outside upper center", ncols=len(handles))


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
    if len(own) and own["y"].max() < 10 * own["y"].min():
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 6, 8)))


def draw_best_rates(ax: Axes, own: pd.DataFrame) -> None:
    """Best learning rates against the depth, hollow where for some seeds the best one has no neighbour."""
    draw_over_depth(ax, own)
    ax.set_title("best learning rate")
    if (own["flag"] != "").any():
        headroom(ax, above=0.15, below=0)
        ax.legend([_grey("o", "white")], [AT_END], loc="upper left")


def _grey(marker: str, face: str = GREY) -> Line2D:
    """A mark in the legend of a panel."""
    return Line2D([], [], marker=marker, linestyle="", color=GREY, markerfacecolor=face, markersize=6)


def draw_shifts(ax: Axes, table: pd.DataFrame) -> None:
    """Predicted against observed shifts: on the diagonal a prediction is right, in the band it misses by one step."""
    drawn = []
    for name, marker in MARKERS.items():
        own = rows_of(table, f"{BEFORE}{name}")
        drawn.append(own)
        for row in own.itertuples():
            color, face = STYLES[row.series]["color"], _face(row.series)
            ax.vlines(row.x, row.y_low, row.y_high, color=color, linewidth=1)
            ax.plot([row.x], [row.y], marker=marker, markersize=7, linestyle="", color=color, markerfacecolor=face,
                    zorder=5)  # fmt: skip
    points = pd.concat(drawn)
    if len(points):
        _draw_observed(ax, rows_of(table, OBSERVED), points)
        ends = np.array(ax.get_xlim())
        ax.plot(ends, ends, color=GUIDE, linewidth=1)
        ax.fill_between(ends, ends - 1, ends + 1, color=BAND, linewidth=0, zorder=0)
    texts = []
    for name in MARKERS:
        found = table[table["series"] == f"{ERROR}{name}"]
        texts.append(f"{name}: {estimate(found.iloc[0])}" if len(found) else f"{name}: cannot be told")
    write(ax, "largest error, in steps of 2\n" + "\n".join(texts))
    headroom(ax, above=0.55)
    handles = {name: _grey(marker) for name, marker in MARKERS.items()}
    handles |= {WITHOUT: _grey("s", "white"), WITHIN: Patch(facecolor=BAND, linewidth=0)}
    handles |= {BARS: Line2D([], [], color=GREY, linewidth=0.8)}
    ax.legend(handles.values(), handles.keys(), loc="upper right", ncols=2)
    ax.set_xlabel("observed shift of the best learning rate, steps of 2")
    ax.set_ylabel("predicted at step 0")
    ax.set_title("predicted and observed shifts over all depths")


def _face(label: str) -> str:
    """Inside of the marks of a network: white where its line is dashed."""
    return "white" if STYLES[label]["linestyle"] == "--" else STYLES[label]["color"]


def _draw_observed(ax: Axes, observed: pd.DataFrame, points: pd.DataFrame) -> None:
    """Bounds of the observed shifts as bars through the predictions, up to the frame where they are open."""
    known = observed.dropna(subset=["y_low", "y_high"])
    ends = pd.concat([points["x"], known["y_low"], known["y_high"]])
    ends = ends[np.isfinite(ends)]
    frame = ends.min() - 0.7, ends.max() + 0.7
    ax.set_xlim(*frame)
    for row in known.itertuples():
        own = points[points["series"] == row.series]
        ax.hlines(own["y"], *np.clip([row.y_low, row.y_high], *frame), color=STYLES[row.series]["color"], linewidth=0.8)
