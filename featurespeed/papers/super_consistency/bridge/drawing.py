"""Figure of what connects the two papers, drawn from its artefact table and from nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from featurespeed.drawing.plotting import GUIDE, UNORDERED, log_ticks, ordered_colors
from featurespeed.papers.super_consistency.bridge.analysis import (
    DECAYED,
    PREDICTOR,
    QUANTITIES,
    SHIFTED,
    WIDTH_INDEPENDENT,
)
from featurespeed.papers.super_consistency.bridge.tables import ALONG, BEFORE, CELLS, CURVES, NO_SHIFT

NAMES = {
    "muP": "μP, width", "NTP": "NTP, width", "Depth-muP over depth": "Depth-μP, depth", "muP over depth": "μP, depth",
}  # fmt: skip
SHORT = {"muP": "μP", "NTP": "NTP"}
COLORS = dict(zip(SHIFTED, (UNORDERED[0], UNORDERED[1], UNORDERED[2], UNORDERED[3]), strict=True))
TITLES = {
    "feature sensitivity": "feature sensitivity $S$", "angle": "angle, $\\cos\\theta$",
    "sharpness": "sharpness, $\\lambda\\,\\eta_0/2$",
}  # fmt: skip
SYMBOLS = {"feature sensitivity": "$S$", "feature speed": "speed"}
MARKERS = {"feature sensitivity": "o", "feature speed": "^", "angle": "s", "sharpness": "X"}
FIRST = ("feature sensitivity", "feature speed")  # of the four symbols of one network, those on the left
LEGENDS = {
    "feature sensitivity": "sensitivity $S$ (the claim)", "feature speed": "feature speed",
    "angle": "angle, $1/\\cos\\theta$", "sharpness": "initial sharpness",
}  # fmt: skip
NOTE = {"fontsize": 8.5, "color": "#555555"}


def draw_bridge(table: pd.DataFrame, figure: Figure) -> None:
    """Curves under μP and NTP, their spread over widths with decay on and off, predicted against observed shifts."""
    grid = GridSpec(3, 4, figure=figure, width_ratios=(1, 1, 1, 1.55), height_ratios=(1, 1, 1.1))
    colors = _width_colors(table)
    for column, name in enumerate(ALONG):
        shared = None
        for row, network in enumerate(CURVES):
            ax = shared = figure.add_subplot(grid[row, column], sharey=shared)
            _draw_curves(ax, table[table["panel"] == f"{name} | {network}"], colors, name)
            if row == 0:
                ax.set_title(TITLES[name])
            if column == 0:
                ax.set_ylabel(SHORT[network], fontsize=12, rotation=0, ha="right", va="center", labelpad=10)
        if name != "angle":
            _log_axis(shared, table[table["panel"].str.startswith(f"{name} | ")])
        _draw_spreads(figure.add_subplot(grid[2, column]), table, name, first=column == 0)
    _draw_shifts(figure.add_subplot(grid[:2, 3]), table)
    _draw_cells(figure, grid[2, 3], table)
    _legends(figure, table, colors)


def _width_colors(table: pd.DataFrame) -> dict[str, tuple]:
    series = table.loc[table["panel"].str.contains(" | ", regex=False) & table["series"].str.startswith("N="), "series"]
    return ordered_colors(sorted(series.unique(), key=lambda name: int(name[2:])))


def _draw_curves(ax: Axes, table: pd.DataFrame, colors: dict[str, tuple], name: str) -> None:
    if table.empty:
        ax.text(
            0.5, 0.5, "no learning rate\nthat all survive", transform=ax.transAxes, ha="center", va="center", **NOTE
        )
    for series, color in colors.items():
        own = table[table["series"] == series].sort_values("x")
        ax.fill_between(own["x"], own["y_low"], own["y_high"], color=color, alpha=0.13, linewidth=0, zorder=2)
        ax.plot(own["x"], own["y"], color=color, linewidth=1.3, zorder=4)
    if name == "sharpness":
        ax.axhline(1.0, color=GUIDE, linestyle=":", linewidth=1.2, zorder=1)
        ax.annotate(
            "$2/\\eta_0$", (1.0, 1.0), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
            ha="left", va="center", **NOTE,
        )  # fmt: skip


def _log_axis(ax: Axes, table: pd.DataFrame) -> None:
    positive = table[table["y"] > 0]["y"]
    if len(positive):
        ax.set_yscale("log")
        log_ticks(ax.yaxis, positive)
        low = table[table["y_low"] > 0]["y_low"].min()
        ax.set_ylim(max(low, positive.min() / 2) * 0.9, min(table["y_high"].max(), 2 * positive.max()) * 1.1)


def _draw_spreads(ax: Axes, table: pd.DataFrame, name: str, first: bool) -> None:
    """Coefficient of variation over widths without and with decay, and the share of training below 0.15."""
    own = table[table["panel"] == f"spread of {name}"]
    ax.axhspan(0, WIDTH_INDEPENDENT, color="#e9e9e9", linewidth=0, zorder=0)
    for network in CURVES:
        for member, style in ((network, "-"), (DECAYED[network], (0, (3, 1.6)))):
            line = own[own["series"] == member].sort_values("x")
            if style == "-":
                ax.fill_between(
                    line["x"], line["y_low"], line["y_high"], color=COLORS[network], alpha=0.12, linewidth=0
                )
            ax.plot(line["x"], line["y"], color=COLORS[network], linestyle=style, linewidth=1.3, zorder=4)
    top = own["y"].max() if len(own) else 1.0
    ax.set_ylim(0, max(1.25 * top, 2.2 * WIDTH_INDEPENDENT))
    ax.set_xlabel("step")
    if first:
        ax.set_ylabel("CV over widths")
    _share_note(ax, table, name)


def _share_note(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """Share of training that each network spends in the shaded zone, without and with decay."""
    shares = table[table["panel"] == "statistic"].set_index("series")["y"]
    for place, network in enumerate(CURVES):
        keys = [f"share held, {name} | {member}" for member in (network, DECAYED[network])]
        if all(key in shares for key in keys):
            off, on = (f"{shares[key]:.0%}" for key in keys)
            text = f"{SHORT[network]}: within 0.15 for {off}, with decay {on}"
            height = 1.12 - 0.1 * place
            ax.text(0, height, text, transform=ax.transAxes, va="bottom", fontsize=8.5, color=COLORS[network])


def _draw_shifts(ax: Axes, table: pd.DataFrame) -> None:
    """Predictions of each quantity against what happened; on the diagonal they are right, in the band within a step."""
    observed = table[table["panel"] == "observed shift"].set_index("series")
    predicted = table[table["panel"].str.startswith(BEFORE)]
    ends = _limits(observed, predicted)
    ax.fill_between(ends, ends - 1, ends + 1, color="#e9e9e9", linewidth=0, zorder=0)
    ax.plot(ends, ends, color=GUIDE, linewidth=0.9, zorder=1)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    for point in predicted.itertuples():
        # Networks with the same shift would hide each other, and predictions of one network that agree, too.
        aside = 0.012 * (ends[1] - ends[0]) * (list(QUANTITIES).index(point.panel.removeprefix(BEFORE)) - 0.5)
        _draw_prediction(ax, point, observed.loc[point.series], point.panel.removeprefix(BEFORE), aside)
    ax.set_aspect("equal", adjustable="box")
    ax.set_xlabel("observed shift of the best learning rate [steps of 2]")
    ax.set_ylabel("predicted at initialisation [steps of 2]")
    ax.set_title("transfer: is the shift known before training?")
    _error_note(ax, table)


def _limits(observed: pd.DataFrame, predicted: pd.DataFrame) -> np.ndarray:
    """Ends of both axes: room for what happened and for the claimed prediction; others may lie outside."""
    claimed = predicted[predicted["panel"] == BEFORE + PREDICTOR]
    numbers = pd.concat([part[["y", "y_low", "y_high"]].stack() for part in (observed, claimed)]).dropna()
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (-1.0, 1.0)
    return np.array([min(low, -1.0) - 0.6, max(high, 1.0) + 0.6])


def _draw_prediction(ax: Axes, point, observed: pd.Series, name: str, shift: float) -> None:
    color, claimed = COLORS[point.series], name == PREDICTOR
    low, high = ax.get_ylim()
    x, y = point.x + shift, min(max(point.y, low + 0.25), high - 0.25)
    if claimed:
        vertical = _bars(point.y, point.y_low, point.y_high)
        horizontal = _bars(observed.y, observed.y_low, observed.y_high)
        ax.errorbar(x, y, vertical, horizontal, color=color, linewidth=0, elinewidth=1.1, zorder=5)
    if y != point.y:  # at the border, its value on the side where the symbols of the others are not
        side, align = (-6, "right") if name in FIRST else (6, "left")
        at = {"textcoords": "offset points", "ha": align, "va": "center"}
        ax.annotate(f"{point.y:.0f}", (x, y), (side, 0), **at, fontsize=8, color=color)
    ax.plot(
        x, y, linestyle="", marker=MARKERS[name], markersize=8.5 if claimed else 5.5,
        markerfacecolor=color if claimed and not observed.flag else "white", markeredgecolor=color,
        markeredgewidth=1.2 if claimed else 1.0, zorder=6 if claimed else 4,
    )  # fmt: skip


def _bars(value: float, low: float, high: float) -> list[list[float]]:
    """Lengths down and up; an open end, empty in the table, has none."""
    return [[0.0 if np.isnan(low) else value - low], [0.0 if np.isnan(high) else high - value]]


def _error_note(ax: Axes, table: pd.DataFrame) -> None:
    numbers = table[table["panel"] == "statistic"].set_index("series")
    lines = ["largest error [steps of 2]"]
    for name in (*QUANTITIES, NO_SHIFT):
        key = f"largest error, {name}"
        if key in numbers.index:
            at = numbers.loc[key]
            ends = " ".join(f"{end:.1f}" if np.isfinite(end) else "–" for end in (at["y_low"], at["y_high"]))
            lines.append(f"{name}: {at['y']:.1f} [{ends.replace(' ', ', ')}]")
    ax.text(0.98, 0.02, "\n".join(lines), transform=ax.transAxes, ha="right", va="bottom", **NOTE)


def _draw_cells(figure: Figure, place: SubplotSpec, table: pd.DataFrame) -> None:
    """Dependence on the size of the sharpness against that of another quantity, one dot a network and probe step."""
    left = None
    for part, name in zip(place.subgridspec(1, len(CELLS), wspace=0.08), CELLS, strict=True):
        ax = figure.add_subplot(part, sharey=left)
        own = table[table["panel"] == f"cells, {name}"]
        for network, color in COLORS.items():
            cells = own[own["series"] == network]
            ax.plot(
                cells["x"], cells["y"], linestyle="", marker="o", markersize=4, color=color, alpha=0.75,
                markeredgewidth=0,
            )  # fmt: skip
        positive = own[(own["x"] > 0) & (own["y"] > 0)]
        if len(positive):
            ax.set(xscale="log", yscale="log")
            for axis, values in ((ax.xaxis, positive["x"]), (ax.yaxis, positive["y"])):
                log_ticks(axis, pd.Series([values.min(), 10 * values.max()]))  # few ticks: the panels are narrow
        ax.set_xlabel(f"|slope| over sizes, {SYMBOLS[name]}")
        ax.tick_params(labelleft=left is None)
        if left is None:
            ax.set_ylabel("|slope| of the sharpness")
        ax.set_title(_correlation(table, name), fontsize=9)
        left = left or ax


def _correlation(table: pd.DataFrame, name: str) -> str:
    found = table[(table["panel"] == "statistic") & (table["series"] == f"rank correlation of slopes, {name}")]
    if found.empty:
        return ""
    at = found.iloc[0]
    return f"rank corr. {at['y']:.2f} [{at['y_low']:.2f}, {at['y_high']:.2f}]"


def _legends(figure: Figure, table: pd.DataFrame, colors: dict[str, tuple]) -> None:
    networks = [name for name in SHIFTED if name in set(table["series"])]
    handles = [Line2D([], [], color=color, linewidth=2.6) for color in colors.values()]
    handles += [Line2D([], [], linestyle="", marker="o", markersize=7, color=COLORS[name]) for name in networks]
    texts = [f"$N={name[2:]}$" for name in colors] + [NAMES[name] for name in networks]
    figure.legend(handles, texts, loc="outside upper center", ncols=len(texts), fontsize=9.5)
    grey = "#666666"
    hollow = {"linestyle": "", "color": grey, "markerfacecolor": "white", "markersize": 5.5}
    kinds = {
        "mean and range of the seeds": (Patch(facecolor=grey, alpha=0.2), Line2D([], [], color=grey)),
        "with weight decay": Line2D([], [], color=grey, linestyle=(0, (3, 1.6))),
        LEGENDS[PREDICTOR]: Line2D([], [], linestyle="", marker="o", markersize=8, color=grey),
        **{LEGENDS[name]: Line2D([], [], marker=MARKERS[name], **hollow) for name in QUANTITIES if name != PREDICTOR},
        "allowed: one step / CV 0.15": Patch(facecolor="#e0e0e0"),
    }
    figure.legend(list(kinds.values()), list(kinds), loc="outside lower center", ncols=len(kinds), fontsize=8.5)
