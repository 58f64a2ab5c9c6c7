"""Drawing of networks over their widths: a sequential palette, seeds as bands, 2/eta_0 as a dotted line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import matplotlib.patheffects as effects
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from featurespeed.drawing.plotting import GUIDE, INK, draw_flagged, draw_published, log_ticks, ordered_colors
from featurespeed.drawing.width_rows import EDGE, LEFT_OUT, STATISTIC, SYMBOLS, series_of

NETWORKS = {"muP": "μP", "Depth-muP": "Depth-μP", "u-muP": "u-μP", "tau = 0": "$\\tau = 0$", "tau = 1": "$\\tau = 1$"}
GREY = "#555555"
WIDE = 20  # span from which on an axis is logarithmic
ENDED = ("diverged", "dead")  # flags of sizes of which a seed has stopped
MOST_FLAGGED = 24  # hollow points of a line, evenly spread over more of them
LETTERS_PER_INCH = 17  # of a line of the legend; beyond that it takes another line
HANDLE = 8  # letters that the handle of an entry of the legend takes
HALO = [effects.withStroke(linewidth=2.2, foreground="white")]  # keeps text legible over lines


def network_label(label: str) -> str:
    """A network of the settings as a reader should see it.

    >>> print(network_label("muP, no 1/sqrt(L)"))
    μP, no $1/\\sqrt{L}$
    """
    label = label.replace("1/sqrt(L)", "$1/\\sqrt{L}$")
    for name, text in NETWORKS.items():
        if label == name or label.startswith(f"{name},"):
            return text + label.removeprefix(name)
    return label


def width_colors(table: pd.DataFrame, kind: str = "width") -> dict[str, object]:
    """Series -> colour for every width, or depth, that is drawn, dark to light."""
    start = f"{SYMBOLS[kind]}="
    series = table.loc[table["series"].str.startswith(start), "series"].unique()
    return ordered_colors([series_of(size, kind) for size in sorted(int(name.removeprefix(start)) for name in series)])


def draw_widths(ax: Axes, table: pd.DataFrame, colors: Mapping[str, object], **style: object) -> None:
    """Curves of one panel, each with its band over seeds; flagged points hollow."""
    for series, color in colors.items():
        own = table[table["series"] == series].sort_values("x")
        if own.empty:
            continue
        ax.fill_between(own["x"], own["y_low"], own["y_high"], color=color, alpha=0.11, linewidth=0, zorder=2)
        ax.plot(own["x"], own["y"], zorder=4, **({"color": color, "linewidth": 1.3} | style))
        flagged = int((own["flag"] != "").sum())
        draw_flagged(ax, own, color, every=max(1, -(-flagged // MOST_FLAGGED)))


def draw_points(ax: Axes, table: pd.DataFrame, colors: Mapping[str, object]) -> None:
    """Points read off a published figure: hollow diamonds with the reading error, in the curves' colours."""
    for series, color in colors.items():
        draw_published(ax, table[table["series"] == series], color)


def draw_edge(ax: Axes, table: pd.DataFrame, series: str = EDGE, text: str = "$2/\\eta_0$") -> None:
    """The threshold of stability as a dotted line, named at its right end."""
    own = table[table["series"] == series].sort_values("x")
    if own.empty:
        return
    ax.plot(own["x"], own["y"], color=GREY, linestyle=(0, (1, 1.6)), linewidth=1.3, zorder=5)
    place = (own["x"].iloc[-1], own["y"].iloc[-1])
    ax.annotate(
        text, place, (0, 3), textcoords="offset points", ha="right", fontsize=9, color=GREY, path_effects=HALO, zorder=9
    )


def numbers(row: pd.Series | object, digits: int = 2) -> str:
    """An estimate with its interval, if it has one: ``1.83 [1.20, 2.41]``."""
    if np.isnan([row.y_low, row.y_high]).any():
        return shown(row.y, digits)
    return "{} [{}, {}]".format(*(shown(value, digits) for value in (row.y, row.y_low, row.y_high)))


def shown(value: float, digits: int = 2) -> str:
    """A number with a proper minus sign; large ones without decimals that say nothing."""
    places = digits if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "−")


def statistic(table: pd.DataFrame, name: str, digits: int = 2) -> str:
    """The printed form of a statistic; empty text where this run has none."""
    own = table[(table["panel"] == STATISTIC) & (table["series"] == name)]
    return numbers(own.iloc[0], digits) if len(own) else ""


def write(ax: Axes, text: str, x: float = 0.03, y: float = 0.96, **style: object) -> None:
    """A statistic in a corner of the panel, given in fractions of the axes."""
    placed = {"ha": "left" if x < 0.5 else "right", "va": "top" if y > 0.5 else "bottom", "fontsize": 8.8}
    placed |= {"color": INK, "linespacing": 1.3, "path_effects": HALO, "zorder": 10}
    ax.text(x, y, text, transform=ax.transAxes, **(placed | style))


def headroom(ax: Axes, above: float = 0.25, below: float = 0.04) -> None:
    """Room for text: shares of what is drawn, added at the upper and lower ends of the y axis."""
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        span = np.log(high / low)
        ax.set_ylim(low * np.exp(-below * span), high * np.exp(above * span))
    else:
        ax.set_ylim(low - below * (high - low), high + above * (high - low))


def logarithmic(axis: Axis, values: pd.Series) -> None:
    """A logarithmic axis with plain ticks; values that are 0, of a network that is dark, have no place on it."""
    positive = values[values > 0]
    if len(positive):
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
        log_ticks(axis, positive)


def fitting_scale(ax: Axes, table: pd.DataFrame) -> None:
    """A logarithmic y axis where positive values span more than a factor of 20, otherwise one from 0 (or below)."""
    values = sound_points(table)["y"]
    if len(values) and values.min() > 0 and values.max() > WIDE * values.min():
        logarithmic(ax.yaxis, values)
        ax.set_ylim(values.min() / 1.5, values.max() * 1.5)
    elif len(values) and values.min() >= 0:
        from_zero(ax, table)


def from_zero(ax: Axes, table: pd.DataFrame) -> None:
    """A y axis from 0 to what :func:`sound_points` reach."""
    values = sound_points(table)["y_high"].combine_first(sound_points(table)["y"])
    ax.set_ylim(0, 1.05 * values.max() if len(values) < len(table) else None)


def sound_points(table: pd.DataFrame) -> pd.DataFrame:
    """Points that an axis must show: those of a network that has diverged can have any magnitude."""
    sound = table[~table["flag"].isin(ENDED) & ~table["series"].str.startswith("guide")]
    return sound if len(sound) and table["y"].max() > WIDE * sound["y"].max() else table


def width_axis(ax: Axes, widths: Iterable[float], label: bool = True, kind: str = "width") -> None:
    """A logarithmic axis with the widths, or depths, themselves as ticks."""
    widths = sorted({float(width) for width in widths})
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(widths))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(widths[0] / 1.22, widths[-1] * 1.22)
    if label:
        ax.set_xlabel(f"{kind} ${SYMBOLS[kind]}$")


def series_text(series: str) -> str:
    """A width or depth as mathematics, a step as it is."""
    return f"${series}$" if series.startswith(("N=", "L=")) else series


def left_out(table: pd.DataFrame) -> str:
    """Which seeds the curves are without, for the legend; empty text where they have all of them."""
    own = table[(table["panel"] == STATISTIC) & table["series"].str.startswith(LEFT_OUT)]
    labels = own["series"].str.removeprefix(f"{LEFT_OUT} | ")
    parts = [
        f"{network_label(name)}: {row.y:.0f} of {row.n:.0f}" for name, row in zip(labels, own.itertuples(), strict=True)
    ]
    return f"left out: seeds of which a network failed ({', '.join(parts)})" if parts else ""


def legend(figure: Figure, colors: Mapping[str, object], proxy: str | None = None, **kinds: str) -> None:
    """Widths, or steps, above the panels; below them what else is drawn, such as ``band`` -> text, in as many lines as
    it takes.
    """
    lines = [Line2D([], [], color=color, linewidth=2.6) for color in colors.values()]
    texts = [series_text(name) + (" (proxy)" if name == proxy else "") for name in colors]
    if lines:
        figure.legend(lines, texts, loc="outside upper center", ncols=len(lines), fontsize=10)
    handles = {
        "band": Patch(facecolor="#666666", alpha=0.22, linewidth=0),
        "interval": Line2D([], [], color="#666666", marker="o", markersize=4.5, linewidth=1.2),
        "hollow": Line2D([], [], linestyle="", marker="o", markersize=5, markerfacecolor="white", color="#666666"),
        "published": Line2D([], [], linestyle="", marker="D", markersize=5.2, markerfacecolor="white", color="#666666"),
        "fit": Line2D([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.0),
        "edge": Line2D([], [], color=GREY, linestyle=(0, (1, 1.6)), linewidth=1.3),
        "start": Line2D([], [], linestyle="", marker="o", markersize=5.5, color="#666666"),
        "end": Line2D([], [], linestyle="", marker="D", markersize=5, color="#666666"),
        "guide": Line2D([], [], color=GUIDE, linestyle=":", linewidth=1.2),
        "floor": Line2D([], [], color=GUIDE, linestyle=(0, (3, 2)), linewidth=0.8),
        "left_out": Line2D([], [], linestyle=""),
    }
    legend_below(figure, [(text, handles[kind]) for kind, text in kinds.items() if text])


def legend_below(figure: Figure, entries: Collection[tuple[str, object]]) -> None:
    """Entries, ``(text, handle)`` each, below the panels in as many lines as they take; nothing if there are none."""
    if entries:
        texts, handles = zip(*entries, strict=True)
        columns = _columns(texts, LETTERS_PER_INCH * figure.get_figwidth())
        figure.legend(handles, texts, loc="outside lower center", ncols=columns)


def _columns(texts: Sequence[str], room: float) -> int:
    """The most columns that entries of a legend, one column after the other, can stand in; ``room`` in letters."""
    lengths = [len(text) + HANDLE for text in texts]
    fitting = (n for n in range(len(texts), 1, -1) if sum(map(max, np.array_split(lengths, n))) <= room)
    return next(fitting, 1)
