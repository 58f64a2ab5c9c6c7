"""Panels about distances to the largest network, drawn from rows of :mod:`featurespeed.drawing.distance_rows`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.distance_rows import FLOOR, OVER_SIZE, SIZE_EXPONENT, TIME_EXPONENT
from featurespeed.drawing.plotting import GUIDE, draw_flagged
from featurespeed.drawing.width_curves import (
    HALO,
    draw_points,
    headroom,
    logarithmic,
    shown,
    statistic,
    width_axis,
    write,
)
from featurespeed.drawing.width_rows import SYMBOLS

SHORT = {"training loss": "loss", "NTK eigenvalue": "NTK"}
BESIDE = 1.12  # factor between points of several quantities at one size
TEXT = 54  # letters that a panel is wide, those of formulas included


def rows_of(table: pd.DataFrame, panel: str) -> pd.DataFrame:
    """Rows of one panel."""
    return table[table["panel"] == panel]


def draw_distances(
    ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[str, object], points: Sequence[pd.DataFrame] = ()
) -> None:
    """Distances of one quantity with fits and the noise floor of each size; ``points``: read off a published plot."""
    own, floors, laws = (_along(table, f"{kind} | {name}") for kind in ("distance", FLOOR, "law"))
    measured = len(own)
    own, floors = (rows[rows["y"] > 0] for rows in (own, floors))
    for series, color in colors.items():
        line, floor, law = (rows[rows["series"] == series].sort_values("x") for rows in (own, floors, laws))
        _draw_floor(ax, floor)
        _draw_distance(ax, line, color)
        draw_flagged(ax, _flagged(line, rows_of(table, name), series), color)
        ax.plot(law["x"], law["y"], color=color, linestyle=(0, (4, 2)), linewidth=1.3, zorder=6)
    for each in points:
        draw_points(ax, each, colors)
    if len(own):
        drawn = pd.concat([own, floors, *points])
        logarithmic(ax.xaxis, drawn["x"])
        logarithmic(ax.yaxis, drawn["y"])
        ax.set_ylim(drawn["y"].min() / 1.4, drawn["y"].max() * 1.4)
        headroom(ax, above=0.16, below=0)
    else:
        ax.set(xticks=[], yticks=[])
        write(ax, "no distance above 0" if measured else "no distance: networks failed")
    found = statistic(table, f"{TIME_EXPONENT} | {name}")
    if found:
        write(ax, f"$b$ = {found}")
    ax.set_xlabel("training step $t$")


def _along(table: pd.DataFrame, panel: str) -> pd.DataFrame:
    """Rows of one panel after the first step: of a network that fails at once nothing else is left."""
    own = rows_of(table, panel)
    return own[own["x"] > 0]


def _draw_distance(ax: Axes, line: pd.DataFrame, color: object) -> None:
    """Points of one size above their bars, those of all sizes."""
    ax.vlines(line["x"], line["y_low"], line["y_high"], color=color, linewidth=0.9, alpha=0.3, zorder=1.5)
    ax.plot(line["x"], line["y"], color=color, linestyle="", marker="o", markersize=3.4, zorder=4)


def _flagged(line: pd.DataFrame, curves: pd.DataFrame, series: str) -> pd.DataFrame:
    """Distances at steps at which the curve of this size, or of the largest, is flagged: they are no better."""
    sized = curves[curves["series"].str.contains(r"^[A-Z]=\d+$")]
    largest = max(sized["series"], key=lambda one: int(one.split("=")[1]), default="")
    suspect = sized[(sized["flag"] != "") & sized["series"].isin((series, largest))]
    return line[line["x"].isin(suspect["x"])].assign(flag="of its curve")


def hollow_points(figure: Figure) -> bool:
    """Whether a figure has hollow points, which its legend must name then, and only then."""
    lines = (line for ax in figure.axes for line in ax.lines if line.get_marker() == "o")
    return any(len(line.get_xdata()) and line.get_markerfacecolor() == "white" for line in lines)


def _draw_floor(ax: Axes, floor: pd.DataFrame) -> None:
    ax.plot(floor["x"], floor["y"], color=GUIDE, linestyle=(0, (3, 2)), linewidth=0.8, zorder=1)


def draw_exponents(ax: Axes, table: pd.DataFrame, colors: Mapping[str, object], size: str = "width") -> None:
    """b of the sizes above the noise floor, side by side for several quantities (``colors``), with intervals."""
    own, missing, sizes = rows_of(table, TIME_EXPONENT), [], rows_of(table, OVER_SIZE[size])["x"]
    own = own[own["series"].isin(colors)]
    for place, (name, color) in enumerate(colors.items()):
        rows = own[own["series"] == name].sort_values("x")
        missing += _in_noise(table, name, rows)
        if rows.empty:
            continue
        x = rows["x"] * BESIDE ** (place - (len(colors) - 1) / 2)
        ax.vlines(x, rows["y_low"], rows["y_high"], color=color, linewidth=1.2)
        ax.plot(x, rows["y"], color=color, linestyle="", marker="o", markersize=4.5, label=_short(name))
        draw_flagged(ax, rows, color)
    if len(own):
        ax.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
        width_axis(ax, [*own["x"], *sizes], kind=size)
        headroom(ax, above=0.45 if missing else 0.3)
        ax.set_ylabel("exponent $b$")
        ax.legend(loc="upper left", ncols=min(len(colors), 3), columnspacing=0.8, handletextpad=0.1, borderaxespad=0.1)
    else:
        ax.set_axis_off()
    if missing:
        between = "; " if len("; ".join(missing)) + len("in the noise: ") <= TEXT else ";\n"
        write(ax, f"in the noise: {between.join(missing)}", y=0.84)
    elif own.empty:
        write(ax, "no exponent: networks failed", y=0.84)
    ax.set_title("exponent $b$ in time")


def _in_noise(table: pd.DataFrame, name: str, told: pd.DataFrame) -> list[str]:
    """A quantity without exponents, or the sizes at which it has none, if there were distances."""
    floors = _along(table, f"{FLOOR} | {name}")
    series = floors.loc[floors["series"].duplicated(), "series"].unique()  # at one step there is no course to fit
    without = sorted({int(one.split("=")[1]) for one in series} - set(told["x"]))
    if not without or len(without) == len(series):
        return [_short(name)] * bool(without)
    return [f"{_short(name)} at ${series[0].split('=')[0]}={', '.join(map(str, without))}$"]


def _short(name: str) -> str:
    """A quantity in few letters, without its network: that has a line of panels of its own."""
    quantity = name.partition(" | ")[0]
    return SHORT.get(quantity, quantity)


def draw_over_size(ax: Axes, table: pd.DataFrame, colors: Mapping[str, object], size: str = "width") -> None:
    """The distance averaged over training against the size, with the fit of the sizes well below the proxy."""
    own = rows_of(table, OVER_SIZE[size])
    for name, color in colors.items():
        series = (name, f"guide {name}", f"{FLOOR} {name}")
        rows, fit, floor = (own[own["series"] == one].sort_values("x") for one in series)
        _draw_floor(ax, floor)
        ax.vlines(rows["x"], rows["y_low"], rows["y_high"], color=color, linewidth=1.2)
        ax.plot(rows["x"], rows["y"], color=color, linestyle="", marker="o", markersize=4.5)
        ax.plot(fit["x"], fit["y"], color=color, linestyle=(0, (4, 2)), linewidth=1.3)
        exponent = table[table["series"] == f"{SIZE_EXPONENT[size]} | {name}"]
        if len(fit) and len(exponent):
            ax.annotate(
                f"$\\propto {SYMBOLS[size]}^{{{shown(exponent['y'].iloc[0])}}}$",
                (fit["x"].iloc[-1], fit["y"].iloc[-1]), (5, 4), textcoords="offset points", fontsize=9, color=color,
                path_effects=HALO,
            )  # fmt: skip
    if len(own):
        width_axis(ax, own["x"], kind=size)
        logarithmic(ax.yaxis, own["y"])
