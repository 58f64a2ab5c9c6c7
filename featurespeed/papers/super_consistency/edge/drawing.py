"""Figures 9, 11 and 27 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from featurespeed.drawing.plotting import UNORDERED, draw_flagged
from featurespeed.drawing.width_curves import (
    draw_edge,
    draw_widths,
    fitting_scale,
    headroom,
    left_out,
    legend,
    logarithmic,
    network_label,
    numbers,
    series_text,
    statistic,
    width_axis,
    width_colors,
    write,
)
from featurespeed.drawing.width_rows import EDGE, STATISTIC, SYMBOLS
from featurespeed.papers.super_consistency.edge.tables import EDGE_RATIO, EXPONENT, FULL, RISE

FAR_ABOVE = 4  # times 2/eta_0: from there on an axis becomes logarithmic above it
HALF = "second half"  # panel, by size
BAND = "band: range over seeds"
INTERVAL = "95% interval, bootstrap over seeds"
EDGE_TEXT = "$2/\\eta_0$, edge of stability of GD"
STOPPED = "a seed has diverged, died or not converged"


def draw_fig09(table: pd.DataFrame, figure: Figure) -> None:
    """Sharpness against the step, one panel a network, loss, and where the sharpness settles by width."""
    colors = width_colors(table)
    labels = [name.removeprefix("sharpness | ") for name in table["panel"].unique() if name.startswith("sharpness | ")]
    *sharpness, loss, ratio = figure.subplots(1, len(labels) + 2, width_ratios=[1.2] * len(labels) + [1, 0.9])
    for ax, label in zip(sharpness, labels, strict=True):
        own = _panel(table, f"sharpness | {label}")
        draw_widths(ax, own, colors)
        draw_edge(ax, own)
        fitting_scale(ax, own)
        ax.set(title=f"sharpness $\\lambda_1(\\gamma^2 H)$, {network_label(label)}", xlabel="training step")
    own = table[table["panel"].str.startswith("training loss | ")]
    draw_widths(loss, own, colors)
    fitting_scale(loss, own)
    loss.set(title=f"training loss, {network_label(labels[0])}", xlabel="training step")
    _draw_ratio(ratio, _panel(table, EDGE_RATIO), labels)
    found = _statistics(table).itertuples()
    lines = [f"all widths, {network_label(row.series.partition(' | ')[2])}: {numbers(row)}" for row in found]
    write(ratio, "\n".join(lines))
    legend(figure, colors, band=BAND, edge=EDGE_TEXT, interval=INTERVAL, hollow=_stopped(table))


def _draw_ratio(ax: Axes, table: pd.DataFrame, labels: list[str]) -> None:
    own = table[~table["series"].str.startswith("guide")]
    ax.axhspan(*FULL, color="#e8efe8", linewidth=0, zorder=0)
    draw_edge(ax, table, "guide 1", "")
    _draw_series(ax, own, labels)
    if ax.get_legend():  # below the statistics, which take the whole width
        ax.legend(loc="upper right", bbox_to_anchor=(1, 0.83), borderaxespad=0.2, ncols=len(labels))
    if own.empty:
        write(ax, "no width trains to the end\nwith every seed", 0.5, 0.5, ha="center", va="center")
    width_axis(ax, table["x"])
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0.8), max(high, 1.2))
    headroom(ax, above=0.4)
    ax.set_title("sharpness $\\times\\; \\eta_0 / 2$, second half")


def draw_fig11(table: pd.DataFrame, figure: Figure) -> None:
    """Residual against Gauss-Newton eigenvalue along training, one panel a network, and how far the latter rises."""
    colors = width_colors(table)
    labels = _labels(table, "trajectory | ")
    grid = figure.add_gridspec(1, len(labels) + 1, width_ratios=[1.15] * len(labels) + [1])
    axes: list[Axes] = []
    for place, label in enumerate(labels):
        axes.append(ax := figure.add_subplot(grid[place], sharey=axes[0] if axes else None))
        _draw_trajectories(ax, _panel(table, f"trajectory | {label}"), colors)
        ax.set_title(network_label(label))
    axes[0].set_ylabel("residual norm")
    axes.append(figure.add_subplot(grid[len(labels)]))
    _draw_series(axes[-1], _panel(table, RISE), labels)
    logarithmic(axes[-1].yaxis, _panel(table, RISE)["y"])
    axes[-1].axhline(1, color="#cccccc", linewidth=0.8, zorder=0)
    headroom(axes[-1], above=0.4)
    axes[-1].set_title("rise of $\\lambda_1(\\gamma^2 G)$: second half / start")
    found = _statistics(table)
    if len(found):
        networks = " / ".join(map(network_label, labels))
        write(axes[-1], f"largest / smallest width, {networks}:\n{numbers(found.iloc[0])}")
    kinds = {"start": "initialisation", "end": "end of training", "edge": EDGE_TEXT, "interval": INTERVAL}
    legend(figure, colors, hollow=_stopped(table), **kinds)


def _draw_trajectories(ax: Axes, table: pd.DataFrame, colors: dict[str, object]) -> None:
    """Points in the order of the probe steps, from a disc to a diamond; 2/eta_0 dotted."""
    draw_edge(ax, table, text="")
    for series, color in colors.items():
        own = table[table["series"] == series].sort_values("order")
        if own.empty:
            continue
        ax.plot(own["x"], own["y"], color=color, linewidth=1.2, marker="o", markersize=2.2, zorder=4)
        ends = {"marker": "o", "markersize": 6.5}, {"marker": "D", "markersize": 5.5}
        for place, style in zip((0, -1), ends, strict=True):
            ax.plot(own["x"].iloc[place], own["y"].iloc[place], color=color, markeredgecolor="white",
                    markeredgewidth=0.8, zorder=6, **style)  # fmt: skip
        draw_flagged(ax, own, color)
    ax.set_xlabel("$\\lambda_1$ of the Gauss-Newton part, $\\gamma^2 G$")
    logarithmic(ax.xaxis, table["x"])


def draw_fig27(table: pd.DataFrame, figure: Figure) -> None:
    """Curvature along the gradient against the step, one panel a network, and its mean in the second half by size."""
    labels = _labels(table, "directional sharpness | ")
    sizes = [size for size in SYMBOLS if (table["panel"] == f"{HALF} | {size}").any()]
    places = len(labels) + len(sizes)
    axes = figure.subplots(1, places, width_ratios=[1.2] * len(labels) + [0.9] * len(sizes), squeeze=False)[0]
    for ax, label in zip(axes, labels, strict=False):
        _draw_directional(ax, table, label)
    for ax, size in zip(axes[len(labels) :], sizes, strict=True):
        own = _panel(table, f"{HALF} | {size}")
        _draw_series(ax, own, [label for label in labels if label in set(own["series"])])
        ax.set_ylim(bottom=0)
        headroom(ax, above=0.2, below=0)
        ax.set(title="mean in the second half", xlabel=f"{size} ${SYMBOLS[size]}$")
    legend(
        figure, {}, band=BAND, edge=EDGE_TEXT, interval=INTERVAL, hollow=_stopped(table), left_out=left_out(table)
    )  # fmt: skip


def _draw_directional(ax: Axes, table: pd.DataFrame, label: str) -> None:
    """One network, with the legend of its sizes."""
    own = _panel(table, f"directional sharpness | {label}")
    colors = width_colors(own) or width_colors(own, "depth")
    draw_widths(ax, own, colors)
    draw_edge(ax, own, text="")
    _linear_below_the_edge(ax, own)
    ax.set(title=f"$g^\\top H g\\, /\\, |g|^2$, {network_label(label)}", xlabel="training step")
    for size, name in EXPONENT.items():
        exponent = statistic(table, f"{name} | {label}", digits=3)
        if exponent:
            write(ax, f"exponent in ${SYMBOLS[size]}$, second half: {exponent}", x=0.97)
    handles = [Line2D([], [], color=color, linewidth=2.2) for color in colors.values()]
    ax.legend(handles, [series_text(name) for name in colors], loc="upper right", bbox_to_anchor=(1, 0.9), fontsize=8)


def _linear_below_the_edge(ax: Axes, table: pd.DataFrame) -> None:
    """Linear up to 2/eta_0, logarithmic above: shows values near 0, or below it, beside a large initial one."""
    guide, high = table.loc[table["series"] == EDGE, "y"].max(), table[["y", "y_high"]].max().max()
    low = min(table[["y", "y_low"]].min().min(), 0.0)
    if high > FAR_ABOVE * guide:
        ax.set_yscale("symlog", linthresh=guide, linscale=1.2)
        decades = [10.0**k for k in range(-2, 9) if guide < 10.0**k <= high * 4]
        places = [0.0, guide / 2, guide, *decades]
        ax.yaxis.set_major_locator(FixedLocator(places))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{float(f'{value:.3g}'):g}"))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_ylim(1.1 * low, high * 4)
    else:
        ax.set_ylim(1.1 * low, max(high, guide) * 1.25)


# --- shared -----------------------------------------------------------------------------------------------------------


def _panel(table: pd.DataFrame, panel: str) -> pd.DataFrame:
    return table[table["panel"] == panel]


def _labels(table: pd.DataFrame, prefix: str) -> list[str]:
    """Networks of the panels with a prefix; muP first, as in the paper."""
    found = [name.removeprefix(prefix) for name in table["panel"].unique() if name.startswith(prefix)]
    return sorted(found, key=lambda label: (not label.startswith("muP"), label))


def _statistics(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["panel"] == STATISTIC]


def _stopped(table: pd.DataFrame) -> str:
    return STOPPED if (table["flag"] != "").any() else ""


def _draw_intervals(ax: Axes, rows: pd.DataFrame, color: object, shift: float = 1.0, label: str = "") -> None:
    rows = rows.sort_values("x")
    ax.vlines(rows["x"] * shift, rows["y_low"], rows["y_high"], color=color, linewidth=1.3, zorder=4)
    ax.plot(rows["x"] * shift, rows["y"], color=color, linestyle="", marker="o", markersize=5, zorder=5, label=label)


def _draw_series(ax: Axes, table: pd.DataFrame, labels: list[str]) -> None:
    """One colour a network, beside each other at every width."""
    for place, label in enumerate(labels):
        own = table[table["series"] == label]
        _draw_intervals(ax, own, UNORDERED[place], 1.08 ** (2 * place - len(labels) + 1), network_label(label))
    if len(table):
        width_axis(ax, table["x"])
        ax.legend(loc="upper right", borderaxespad=0.2)
