"""Figures 2 and 5 of training beyond the edge of stability: curves along training, drawn from artefact tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from featurespeed.drawing.plotting import INK, draw_flagged, ordered_colors
from featurespeed.drawing.width_curves import GREY, logarithmic, numbers, write
from featurespeed.papers.edge_of_stability.descent.drawing import (
    key_of,
    keys_of,
    network_label,
    of_key,
    ours_note,
    scaling_label,
    short_network,
)
from featurespeed.papers.edge_of_stability.descent.tables import (
    BEYOND,
    COSINE,
    DEAD,
    DIVERGED,
    FIG2,
    FIG5,
    LOSS,
    PARTICIPATION,
    RATIO,
    SCALED,
    SEPARATOR,
    SHARPNESS,
    STATISTIC,
    STEP_SIZE,
    TRAINED,
    UNCONVERGED,
)
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, Key, networks, scalings

LABELS = {
    LOSS: "training loss",
    SHARPNESS: "sharpness\n$\\lambda_{\\max}(H)$",
    SCALED: "scaled sharpness over\nits edge, $\\lambda_\\Xi\\,\\eta/2$ (ours)",
    RATIO: "curvature ratio\n$-\\eta\\,c_2/c_1$ (ours)",
    PARTICIPATION: "participation ratio\n(ours)",
    COSINE: "cosine of new and\ncumulative update",
    STEP_SIZE: "step size $\\eta_t$ (ours)",
}
BEYOND_CURVES = 4  # how much further than the curves, as a factor, an axis may go for bands and networks that failed
WIDEST = 1e12  # largest over smallest value on one axis
EDGES = (SCALED, RATIO)  # quantities whose edge is 1
EDGE = "edge of stability: 1"
MOST_COLUMNS = 8
LEAST_WIDTH = 8.8  # inches, of the legend
MARKERS = {DIVERGED: "x", DEAD: "X"}
FAILURE_TEXTS = {DIVERGED: "a seed is not finite from here on", DEAD: "a seed is dead from here on"}


# --- Figure 2 ---------------------------------------------------------------------------------------------------------


def draw_fig2(table: pd.DataFrame, figure: Figure) -> None:
    """A column a network and scaling, a line a quantity, a colour a kappa; many columns in blocks below each other."""
    keys = sorted(keys_of(table), key=lambda key: key.network)
    colors = kappa_colors(table)
    blocks = _blocks(keys)
    wide = max(map(len, blocks))
    width = max(1.95, min(3.0, 12 / wide))
    figure.set_size_inches(max(1.1 + width * wide, LEAST_WIDTH), 1.0 + len(blocks) * (0.35 + 1.5 * len(FIG2)))
    grid = figure.add_gridspec(len(blocks), 1)
    panels: dict[str, list[tuple[Axes, Key]]] = {name: [] for name in FIG2}
    for place, block in enumerate(blocks):
        cells = grid[place].subgridspec(len(FIG2), wide)
        for column, key in enumerate(block):
            for line, name in enumerate(FIG2):
                ax = figure.add_subplot(cells[line, column])
                draw_curves(ax, table, name, key, colors)
                panels[name].append((ax, key))
                _edges_of_block(ax, name, first=column == 0, last=line == len(FIG2) - 1)
            top = panels[FIG2[0]][-1][0]
            # A name may be longer than its panel is wide: it must not push the panels apart.
            top.set_title(f"{short_network(key.network)}\n{scaling_label(key.scaling)}").set_in_layout(False)
            write_failures(top, table, key, colors)
    for name, members in panels.items():
        share_scale([ax for ax, _ in members], table, name)
        for ax, key in members:
            draw_crosses(ax, table, name, key, colors)
    curve_legends(figure, table, colors, EDGE)


def _blocks(keys: Sequence[Key]) -> list[list[Key]]:
    """Columns in blocks that hold whole networks where these all have the same scalings."""
    count = len(scalings(keys))
    even = len(keys) == count * len(networks(keys))
    most = max(MOST_COLUMNS // count, 1) * count if even else MOST_COLUMNS
    number = -(-len(keys) // most)
    size = -(-len(keys) // number)
    size = -(-size // count) * count if even else size
    return [list(keys[start : start + size]) for start in range(0, len(keys), size)]


def _edges_of_block(ax: Axes, name: str, first: bool, last: bool) -> None:
    """Labels at the left and at the bottom of a block only."""
    ax.tick_params(labelleft=first, labelbottom=last)
    if first:
        ax.set_ylabel(LABELS[name])
    if last:
        ax.set_xlabel("training step")


# --- shared -----------------------------------------------------------------------------------------------------------


def kappa_colors(table: pd.DataFrame, schedule: str = CONSTANT) -> dict[str, object]:
    """Series -> colour for the kappas whose curves are drawn, dark to light."""
    own = table[table["series"].str.startswith("kappa=") & table["panel"].str.endswith(schedule)]
    return ordered_colors(sorted(own["series"].unique(), key=_kappa))


def _kappa(series: str) -> float:
    return float(series.removeprefix("kappa="))


def curve_panel(table: pd.DataFrame, name: str, key: Key) -> pd.DataFrame:
    """Rows of one quantity along the training of one group of runs."""
    return table[table["panel"] == SEPARATOR.join((name, *key))]


def draw_curves(ax: Axes, table: pd.DataFrame, name: str, key: Key, colors: Mapping[str, object]) -> None:
    """Median over the seeds that are left with their range, and the edge at 1."""
    own = curve_panel(table, name, key)
    for series, color in colors.items():
        line = own[(own["series"] == series) & (own["order"] == 0)].sort_values("x")
        ax.fill_between(line["x"], line["y_low"], line["y_high"], color=color, alpha=0.16, linewidth=0, zorder=2)
        few = {"marker": "o", "markersize": 2.6} if len(line) == 1 else {}
        ax.plot(line["x"], line["y"], color=color, linewidth=1.3, zorder=4, **few)
        draw_flagged(ax, line, color)
    if name in EDGES:
        ax.axhline(1.0, color=GREY, linestyle=(0, (1, 1.6)), linewidth=1.2, zorder=3)
    last = max(table.loc[table["series"].str.startswith("kappa="), "x"].max(), 1.0)
    ax.set_xlim(-0.03 * last, 1.03 * last)


def draw_crosses(ax: Axes, table: pd.DataFrame, name: str, key: Key, colors: Mapping[str, object]) -> None:
    """A cross where a seed failed; at the border where its last value is beyond it, below where it has none.

    To be called when the limits of the axes are settled.
    """
    own = curve_panel(table, name, key)
    ax.set_ylim(ax.get_ylim())  # crosses do not move them
    for series, color in colors.items():
        for flag, marker in MARKERS.items():
            at = own[(own["series"] == series) & (own["flag"] == flag)]
            places = at["y"].fillna(-np.inf).clip(*ax.get_ylim())
            ax.plot(at["x"], places, linestyle="", color=color, clip_on=False, in_layout=False, **_cross(marker))


def _cross(marker: str) -> dict[str, object]:
    return {"marker": marker, "markersize": 5, "zorder": 8, "markeredgewidth": 1.3 if marker == "x" else 0}


def write_failures(ax: Axes, table: pd.DataFrame, key: Key, colors: Mapping[str, object]) -> None:
    """How many seeds failed, by kappa; nothing where all trained."""
    lines = []
    own = of_key(table, TRAINED, key).set_index("x")
    for series in colors:
        kappa = _kappa(series)
        if kappa in own.index and own.loc[kappa, "y"] < 1:
            n = int(own.loc[kappa, "n"])
            lines.append(f"$\\kappa={kappa:g}$: {n - round(own.loc[kappa, 'y'] * n)} of {n} failed")
    if lines:
        write(ax, "\n".join(lines), 0.97, 0.97, fontsize=7.8)


def share_scale(axes: Sequence[Axes], table: pd.DataFrame, name: str) -> None:
    """One logarithmic y axis for a quantity in all its panels.

    It holds the curves without a failure, if there are any. What bands, explosions and deaths reach far beyond them is
    cut off: it would leave no room for them.
    """
    own = table[table["panel"].str.startswith(f"{name}{SEPARATOR}")]
    curve = own["panel"] + own["series"]
    whole = own[~curve.isin(curve[own["order"] > 0])]
    values = (whole if (whole["y"] > 0).any() else own[own["order"] == 0])["y"]
    if not (values > 0).any():
        return
    bands = own[["y_low", "y_high"]].stack()
    low, high = values[values > 0].min(), values.max()
    low, high = max(bands[bands > 0].min(), low / BEYOND_CURVES), min(bands.max(), high * BEYOND_CURVES)
    if name in EDGES:
        low, high = min(low, 0.7), max(high, 1.5)
    low = max(low, high / WIDEST)
    span = np.log(high / low) or 1.0
    bottom, top = low * np.exp(-0.06 * span), high * np.exp((0.25 if name == LOSS else 0.08) * span)
    for ax in axes:
        logarithmic(ax.yaxis, pd.Series([low, high]))
        ax.set_ylim(bottom, top)
        if values.min() < 0:  # curvature along the update may be negative: linear up to the edge
            _linear_below_the_edge(ax, values.min(), top)


def _linear_below_the_edge(ax: Axes, low: float, top: float) -> None:
    ax.set_yscale("symlog", linthresh=1.0)
    decades = [10.0**k for k in range(1, 13) if 10.0**k <= max(top, -low)]
    ax.yaxis.set_major_locator(FixedLocator([*(-place for place in decades), -1, 0, 1, *decades]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(low * 1.2, top)


def curve_legends(figure: Figure, table: pd.DataFrame, colors: Mapping[str, object], guide: str) -> None:
    """Kappas above the panels, marks below them; ``guide`` says what the dotted lines are."""
    lines = [Line2D([], [], color=color, linewidth=2.6) for color in colors.values()]
    figure.legend(
        lines, [f"$\\kappa = {_kappa(series):g}$" for series in colors], loc="outside upper center",
        ncols=max(len(lines), 1), fontsize=10,
    )  # fmt: skip
    ours_note(figure, curve_handles(table, guide))


def curve_handles(table: pd.DataFrame, guide: str) -> dict[str, object]:
    """Marks of curves: band, dotted lines, and the failures that there are."""
    grey = "#666666"
    handles: dict[str, object] = {
        "median, range over the seeds that are left": Patch(facecolor=grey, alpha=0.25, linewidth=0),
        guide: Line2D([], [], color=GREY, linestyle=(0, (1, 1.6)), linewidth=1.2),
    }
    flags = set(table.loc[table["order"] > 0, "flag"])
    for flag, marker in MARKERS.items():
        if flag in flags:
            handles[FAILURE_TEXTS[flag]] = Line2D([], [], linestyle="", color=grey, **_cross(marker))
    if (table["flag"] == UNCONVERGED).any():
        hollow = {"marker": "o", "markersize": 5, "markerfacecolor": "white", "linestyle": ""}
        handles["an eigenvalue has not converged"] = Line2D([], [], color=grey, **hollow)
    return handles


# --- Figure 5 ---------------------------------------------------------------------------------------------------------


def draw_fig5(table: pd.DataFrame, figure: Figure) -> None:
    """A line of panels for the geometry-aware schedule, one below it for the constant schedule of the same network."""
    keys = sorted(keys_of(table), key=lambda key: (key.network, key.scaling, key.schedule == CONSTANT))
    figure.set_size_inches(figure.get_figwidth(), 0.9 + 2.35 * len(keys))
    grid = figure.add_gridspec(len(keys), len(FIG5) + 1, width_ratios=[1] * len(FIG5) + [0.8])
    panels: dict[str, list[tuple[Axes, Key]]] = {name: [] for name in FIG5}
    for line, key in enumerate(keys):
        colors = kappa_colors(table, key.schedule)
        for column, name in enumerate(FIG5):
            ax = figure.add_subplot(grid[line, column])
            draw_curves(ax, table, name, key, colors)
            panels[name].append((ax, key))
            ax.set_title(LABELS[name].replace("\n", " "))
            ax.tick_params(labelbottom=line == len(keys) - 1)
        panels[FIG5[0]][-1][0].set_ylabel(_schedule_label(key))
        _write_side(figure.add_subplot(grid[line, len(FIG5)]), table, key, colors)
    for name, members in panels.items():
        share_scale([ax for ax, _ in members], table, name)
        members[-1][0].set_xlabel("training step")
        for ax, key in members:
            draw_crosses(ax, table, name, key, kappa_colors(table, key.schedule))
    ours_note(figure, curve_handles(table, EDGE))


def _schedule_label(key: Key) -> str:
    schedule = "geometry-aware (ours)" if key.schedule == GEOMETRY_AWARE else "constant step"
    return f"{schedule}\n{network_label(key.network)}, {scaling_label(key.scaling)}"


def _write_side(ax: Axes, table: pd.DataFrame, key: Key, colors: Mapping[str, object]) -> None:
    """Colours of the kappas, with who trained and the share of steps beyond; below them the ratio of the ranks."""
    ax.set_axis_off()
    symbol = "\\kappa_g" if key.schedule == GEOMETRY_AWARE else "\\kappa"
    trained, beyond = (of_key(table, panel, key).set_index("x") for panel in (TRAINED, BEYOND))
    style = {"transform": ax.transAxes, "fontsize": 8.8, "va": "center", "color": INK, "in_layout": False}
    for place, (series, color) in enumerate(colors.items()):
        kappa, height = _kappa(series), 0.93 - 0.21 * place
        text = f"${symbol}={kappa:g}$"
        if kappa in trained.index:
            n = int(trained.loc[kappa, "n"])
            text += f": {round(trained.loc[kappa, 'y'] * n)}/{n} trained"
        if kappa in beyond.index:
            text += f"\nbeyond on {beyond.loc[kappa, 'y']:.0%} of steps"
        ax.plot([0, 0.1], [height] * 2, color=color, linewidth=2.6, transform=ax.transAxes)
        ax.text(0.15, height, text, **style)
    lines = []
    for row in table[table["panel"] == STATISTIC].itertuples():
        if key_of(row.series) == key:
            name = row.series.split(SEPARATOR)[0].replace(", ", f",\n${symbol}=$ ").replace(" over ", " / ")
            lines.append(f"{name}: {numbers(row)}")
    ax.text(0, 0.93 - 0.21 * len(colors), "\n".join(lines), **style)
