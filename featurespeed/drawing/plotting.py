"""Drawing shared by all figures: one look for each kind of evidence, and files that are equal byte for byte.

Every function here takes rows of an artefact table and an axes; none of them computes a number that is not in there.
The kinds of evidence look the same in every figure:

- single draws of dense networks: dots, with a dark core where the finite step (the paper's estimator) agrees;
- many exact samples: a line with a 95% band;
- infinite-width theory (ours): thin dashed, nearly black;
- points read off the paper: hollow diamonds with the error of reading;
- a flagged point of any kind: hollow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

INK = "#222222"
GUIDE = "#9a9a9a"
THEORY_STYLE = {"color": INK, "linestyle": (0, (4, 2.2)), "linewidth": 0.9, "zorder": 6}

#: How a series of the stage tables is written in a figure.
SERIES_LABELS = {
    "beta=1/L": r"$\beta=1/L$",
    "beta=0.5/sqrtL": r"$\beta=1/(2\sqrt{L})$",
    "beta=1/sqrtL": r"$\beta=1/\sqrt{L}$",
    "beta=2/sqrtL": r"$\beta=2/\sqrt{L}$",
    "beta=1": r"$\beta=1$ (MLP)",
    "MF+muP": "MF+μP",
}

# Okabe-Ito without yellow: for series without an order.
UNORDERED = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")


def label_of(series: str) -> str:
    """A series as a reader should see it."""
    if series.startswith("L=") and series[2:].isdigit():
        return f"$L={series[2:]}$"
    return SERIES_LABELS.get(series, series)


def ordered_colors(series: Sequence[str]) -> dict[str, tuple]:
    """One colour a series, from dark to light in the order given, on a perceptually uniform, colour-blind safe map."""
    colormap = matplotlib.colormaps["viridis"]
    return {name: colormap(0.05 + 0.68 * i / max(len(series) - 1, 1)) for i, name in enumerate(series)}


def unordered_colors(series: Sequence[str]) -> dict[str, str]:
    """One colour a series from a colour-blind safe set without an order."""
    return {name: UNORDERED[i % len(UNORDERED)] for i, name in enumerate(series)}


def rows(table: pd.DataFrame, estimator: str, panel: str | None = None, series: str | None = None) -> pd.DataFrame:
    """Rows of one estimator (and panel, and series), along x."""
    keep = table["estimator"] == estimator
    keep &= True if panel is None else table["panel"] == panel
    keep &= True if series is None else table["series"] == series
    return table[keep].sort_values(["order", "x"])


def draw_band(ax: Axes, table: pd.DataFrame, color: object, alpha: float, marker: str = "") -> None:
    """Summaries as a line with the band from y_low to y_high; flagged points hollow on top."""
    if table.empty:
        return
    ax.fill_between(table["x"], table["y_low"], table["y_high"], color=color, alpha=alpha, linewidth=0, zorder=2)
    ax.plot(table["x"], table["y"], color=color, marker=marker, markersize=3, zorder=4)
    draw_flagged(ax, table, color)


def draw_dots(ax: Axes, table: pd.DataFrame, color: object, size: float = 2.6) -> None:
    """Single draws as dots; flagged ones hollow."""
    _scatter(ax, table, color, size=size, alpha=0.45, zorder=3)


def draw_cores(ax: Axes, table: pd.DataFrame, size: float = 1.2) -> None:
    """Finite-step estimates as small dark cores: they sit inside the dots of the exact tangent where the two agree."""
    _scatter(ax, table, INK, size=size, alpha=0.6, zorder=3.5)


def _scatter(ax: Axes, table: pd.DataFrame, color: object, size: float, alpha: float, zorder: float) -> None:
    clean = table[table["flag"] == ""]
    ax.plot(
        clean["x"], clean["y"], linestyle="", marker="o", markersize=size, color=color, alpha=alpha,
        markeredgewidth=0, zorder=zorder,
    )  # fmt: skip
    draw_flagged(ax, table, color)


def draw_flagged(ax: Axes, table: pd.DataFrame, color: object, every: int = 1) -> None:
    """Points that need care, hollow and never dropped; on a line, which tells of the others, one of ``every``."""
    flagged = table[table["flag"] != ""]
    ax.plot(
        flagged["x"], flagged["y"], linestyle="", marker="o", markersize=5, markerfacecolor="white",
        markeredgecolor=color, markeredgewidth=1.0, zorder=7, markevery=every,
    )  # fmt: skip


def draw_theory(ax: Axes, table: pd.DataFrame) -> None:
    """Infinite-width theory, one dashed line a series; a single point becomes a short dash."""
    for _, line in table.groupby("series", sort=True):
        line = line.sort_values("x")
        style = THEORY_STYLE | ({"marker": "_", "markersize": 9} if len(line) == 1 else {})
        ax.plot(line["x"], line["y"], **style)


def draw_published(ax: Axes, table: pd.DataFrame, color: object) -> None:
    """Points read off the paper: hollow diamonds with the 95% band of what was read."""
    if table.empty:
        return
    distance = [table["y"] - table["y_low"], table["y_high"] - table["y"]]
    ax.errorbar(
        table["x"], table["y"], yerr=distance, linestyle="", marker="D", markersize=5.2, markerfacecolor="white",
        markeredgecolor=color, markeredgewidth=1.2, ecolor=color, elinewidth=1.0, zorder=8,
    )  # fmt: skip


def draw_guide(ax: Axes, table: pd.DataFrame) -> None:
    """Power-law guides, dotted, each with its law (what follows "∝" in its series) at its far end."""
    for series, line in table.groupby("series", sort=True):
        line = line.sort_values("x")
        ax.plot(line["x"], line["y"], color=GUIDE, linestyle=":", linewidth=1.2, zorder=1)
        law, end = series[series.find("∝") :], (line["x"].iloc[-1], line["y"].iloc[-1])
        ax.annotate(law, end, (4, 0), textcoords="offset points", color="#666666", fontsize=8.5, va="center")


def angle_axis(ax: Axes, symbol: str, top: float = np.pi / 2) -> None:
    """An angle in radians on the y axis, with ticks at multiples of pi/8."""
    ax.set_yticks(np.arange(5) * np.pi / 8, ["0", "π/8", "π/4", "3π/8", "π/2"])
    ax.set_ylim(0, top * 1.03)
    ax.axhline(np.pi / 2, color="#cccccc", linewidth=0.7, zorder=0)
    ax.set_ylabel(f"{symbol} [rad]")


def log_ticks(axis: Axis, values: pd.Series) -> None:
    """Plain numbers on a logarithmic axis: more of them where ``values`` span less than two decades."""
    ratio = values.max() / values.min()
    subs = (1.0, 2.0, 3.0, 5.0) if ratio <= 10 else (1.0, 2.0, 5.0) if ratio < 100 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def direct_labels(
    ax: Axes, ends: Mapping[str, tuple[float, float]], colors: Mapping[str, object], gap: float = 11.5
) -> None:
    """Write each series' label right of the axes at the height of its last point, pushed apart by ``gap`` points.

    Args:
        ends: series -> (x, y) of its last point, in data units; only y is used.
        gap: smallest distance between two labels, in points.
    """
    to_points = 72.0 / ax.figure.dpi
    ax.figure.draw_without_rendering()
    heights = {name: ax.transData.transform(end)[1] * to_points for name, end in ends.items()}
    placed: dict[str, float] = {}
    below = -np.inf
    for name in sorted(heights, key=heights.get):
        placed[name] = below = max(heights[name], below + gap)
    # Pushing upwards shifts the cluster; bring its mean back so that labels stay beside their lines.
    shift = np.mean([heights[name] - placed[name] for name in placed]) if placed else 0.0
    for name, height in placed.items():
        ax.annotate(
            label_of(name), (1.0, ends[name][1]), xycoords=("axes fraction", "data"),
            xytext=(6, height + shift - heights[name]), textcoords="offset points", color=colors[name], va="center",
            fontsize=10, annotation_clip=False,
        )  # fmt: skip


def evidence_legend(
    figure: Figure, kinds: Mapping[str, str], columns: int = 3, colors: Mapping[str, object] | None = None
) -> None:
    """Legends outside the axes, where no data can be: series by colour above, each kind of evidence in grey below.

    Args:
        kinds: handle kind -> text.
        columns: columns of the part for ``kinds``.
        colors: series -> colour, where series are not labelled at their lines.
    """
    series = [(Line2D([], [], color=color, linewidth=2.6), label_of(name)) for name, color in (colors or {}).items()]
    if series:
        figure.legend(*zip(*series, strict=True), loc="outside upper center", ncols=len(series), fontsize=10)
    handles = _handles()
    figure.legend([handles[kind] for kind in kinds], list(kinds.values()), loc="outside lower center", ncols=columns)


def _handles() -> dict[str, object]:
    grey = "#666666"
    hollow = {"linestyle": "", "markerfacecolor": "white", "color": grey}
    return {
        "dots": Line2D([], [], linestyle="", marker="o", markersize=3.6, color=grey, alpha=0.6, markeredgewidth=0),
        "cores": Line2D([], [], linestyle="", marker="o", markersize=1.8, color=INK, markeredgewidth=0),
        "line": Line2D([], [], color=grey, linewidth=1.4),
        "points": Line2D([], [], linestyle="", marker="o", markersize=4.5, color=grey),
        "interval": Line2D([], [], linestyle="-", marker="o", markersize=4.5, color=grey, linewidth=1.2),
        "band": Patch(facecolor=grey, alpha=0.22, linewidth=0),
        "theory": Line2D([], [], **{key: value for key, value in THEORY_STYLE.items() if key != "zorder"}),
        "published": Line2D([], [], marker="D", markersize=5.2, **hollow),
        "stated": Line2D([], [], marker="D", markersize=6.5, **hollow),
        "chain": Line2D([], [], color=INK, linewidth=0.9),
        "guide": Line2D([], [], color=GUIDE, linestyle=":", linewidth=1.2),
        "flagged": Line2D([], [], marker="o", markersize=5, **hollow),
    }


def new_figure(style: Path, width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches in the project's style."""
    matplotlib.style.use(style)
    return Figure(figsize=(width, height))


def save_figure(figure: Figure, paths: Mapping[str, Path]) -> None:
    """Write the figure once a format (``pdf``, ``svg``, ``png``), without dates.

    Places are found once and then kept: every format would search for them again, most of the time of drawing.
    """
    metadata = {"pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
    figure.get_layout_engine().execute(figure)
    # "none" would leave a place-holder, for which every format draws once in vain; and after each format Matplotlib
    # sets None again, which means what the style says.
    with matplotlib.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
        for kind, path in paths.items():
            figure.savefig(path, format=kind, metadata=metadata[kind])
