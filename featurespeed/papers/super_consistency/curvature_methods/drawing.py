"""Figures of the curvature measurements of the second paper, drawn from artefact tables and from nothing else."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from featurespeed.drawing.plotting import GUIDE, INK, UNORDERED, draw_flagged, log_ticks
from featurespeed.papers.super_consistency.curvature_methods.tables import METHODS, SHOWN, TARGET, WRONG

BLUE, ORANGE, GREEN, PINK = UNORDERED[:4]
#: One colour a family, one marker a member of it.
STYLES = {
    "Lanczos, cold": {"color": BLUE, "marker": "o"},
    "Lanczos, warm": {"color": BLUE, "marker": "^"},
    "Lanczos, warm with checks": {"color": BLUE, "marker": "D"},
    "power iteration, tol 1e-3": {"color": ORANGE, "marker": "o"},
    "power iteration, tol 1e-6": {"color": ORANGE, "marker": "s"},
    "ARPACK LM, default": {"color": PINK, "marker": "o"},
    "ARPACK LA, default": {"color": GREEN, "marker": "o"},
    "ARPACK LA, tuned": {"color": GREEN, "marker": "s"},
}
#: Methods whose cost is drawn along training.
COSTS = ("Lanczos, cold", "Lanczos, warm", "power iteration, tol 1e-3", "ARPACK LM, default", "ARPACK LA, tuned")
RINGS = ("ARPACK LM, default",)
NOTE = {"fontsize": 8.5, "color": "#666666"}


def draw_sharpness_methods(table: pd.DataFrame, figure: Figure) -> None:
    """A line of panels a training run: error against cost; sharpness and estimates over it; cost along training."""
    cases = sorted({panel.split(" | ")[1] for panel in table["panel"]})
    grid = figure.add_gridspec(len(cases), 3, width_ratios=[1.5, 1.2, 1.0])
    first: Axes | None = None
    for line, case in enumerate(cases):
        own = {kind: table[table["panel"] == f"{kind} | {case}"] for kind in KINDS}
        last = line == len(cases) - 1
        left = figure.add_subplot(grid[line, 0], sharex=first, sharey=first)
        first = first or left
        _draw_errors(left, own["error"], own["median"])
        left.set_title(f"{case}: error against cost", fontsize=10.5)
        stack = grid[line, 1].subgridspec(2, 1, height_ratios=[1.25, 1.0])
        upper = figure.add_subplot(stack[0])
        _draw_sharpness(upper, own["sharpness"])
        lower = figure.add_subplot(stack[1], sharex=upper)
        _draw_estimates(lower, own["estimate"])
        upper.tick_params(labelbottom=False)
        right = figure.add_subplot(grid[line, 2], sharex=upper)
        _draw_products(right, own["products"])
        if last:
            left.set_xlabel("cost: products of the Hessian with a vector")
            lower.set_xlabel("training step")
            right.set_xlabel("training step")
    _error_axes(first, table)
    _legend(figure)


COST_TICKS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
KINDS = ("error", "median", "sharpness", "estimate", "products")


def _draw_errors(ax: Axes, single: pd.DataFrame, median: pd.DataFrame) -> None:
    ax.axhspan(WRONG, 1e2, color="#f6e3dc", zorder=0, linewidth=0)
    ax.text(
        0.99, 0.985, "wrong eigenvalue", transform=ax.transAxes, ha="right", va="top", fontsize=8.5, color="#a04a1c"
    )
    ax.axhline(TARGET, color=GUIDE, linestyle=":", linewidth=1.2, zorder=1)
    ax.annotate(
        "tolerance $10^{-3}$", (0.99, TARGET), (0, 3), ("axes fraction", "data"), "offset points", ha="right", **NOTE
    )
    for method, style in STYLES.items():
        own = single[single["series"] == method]
        wrong, clean = own[own["y"] > WRONG], own[(own["y"] <= WRONG) & (own["flag"] == "")]
        _dots(ax, clean, style, size=2.6, alpha=0.28)
        ax.plot(wrong["x"], wrong["y"], linestyle="", marker="x", markersize=5, markeredgewidth=1.1,
                color=style["color"], zorder=7.5)  # fmt: skip
        draw_flagged(ax, own, style["color"])
    for method, style in STYLES.items():
        own = median[median["series"] == method]
        ax.plot(own["x"], own["y"], linestyle="", zorder=8, **(style | _large(method)))
    ax.set_ylabel("relative error of the sharpness")


def _large(method: str) -> dict[str, object]:
    """A large marker; that of largest magnitude is a ring, because it lies on that of largest algebraic mostly."""
    if method in RINGS:
        return {"markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.6}
    return {"markersize": 9, "markeredgecolor": "white", "markeredgewidth": 1.0}


def _dots(ax: Axes, rows: pd.DataFrame, style: dict, size: float, alpha: float) -> None:
    ax.plot(
        rows["x"], rows["y"], linestyle="", marker=style["marker"], markersize=size, color=style["color"], alpha=alpha,
        markeredgewidth=0, zorder=3,
    )  # fmt: skip


def _error_axes(ax: Axes, table: pd.DataFrame) -> None:
    errors = table[table["panel"].str.startswith("error")]
    ax.set(xscale="log", yscale="log")
    places = [place for place in COST_TICKS if errors["x"].min() <= place <= errors["x"].max()]
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(LogLocator(numticks=20))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(errors["y"].min() / 2.5, max(errors["y"].max(), 1.0) * 4)


def _draw_sharpness(ax: Axes, table: pd.DataFrame) -> None:
    """True eigenvalues at both ends of the spectrum, by magnitude, and the threshold of stability."""
    largest, smallest = (table[table["series"] == f"{end} eigenvalue"] for end in ("largest", "smallest"))
    guide = table[table["series"].str.startswith("guide")]
    ax.plot(largest["x"], largest["y"], color=INK, marker="o", markersize=2.6, linewidth=1.2)
    below = smallest[smallest["y"] < 0]
    ax.plot(below["x"], -below["y"], color=INK, linestyle=(0, (2, 1.6)), linewidth=1.0)
    ax.plot(guide["x"], guide["y"], color=GUIDE, linestyle=":", linewidth=1.2)
    ax.set_yscale("log")
    log_ticks(ax.yaxis, pd.concat([largest["y"], guide["y"], -below["y"]]))
    place = (guide["x"].min(), guide["y"].iloc[0])
    ax.annotate("$2/\\eta_0$", place, (1, 3), textcoords="offset points", va="bottom", **NOTE)
    for rows, sign, text in ((largest, 1, "$\\lambda_{\\max}$"), (below, -1, "$|\\lambda_{\\min}|$")):
        if len(rows):
            end = rows.sort_values("x").iloc[-1]
            ax.annotate(text, (end.x, sign * end.y), (3, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_title("true eigenvalues of $\\gamma^2 H$", fontsize=10.5)


def _draw_estimates(ax: Axes, table: pd.DataFrame) -> None:
    ax.axhline(1.0, color=GUIDE, linewidth=0.8, zorder=1)
    for method in SHOWN:
        style, own = STYLES[method], table[table["series"] == method]
        wrong = (own["y"] - 1).abs() > WRONG
        _dots(ax, own[~wrong], style, size=3.6, alpha=0.6)
        ax.plot(
            own["x"][wrong], own["y"][wrong], linestyle="", marker="x", markersize=5, color=style["color"], zorder=5
        )
    low, high = min(table["y"].min(), 0.99), max(table["y"].max(), 1.001)
    ax.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
    ax.set_ylabel("estimate / true")


def _draw_products(ax: Axes, table: pd.DataFrame) -> None:
    for method in COSTS:
        own, style = table[table["series"] == method].sort_values("x"), STYLES[method]
        ax.plot(own["x"], own["y"], linewidth=1.1, markersize=3.4, **style)
    ax.set_yscale("log")
    log_ticks(ax.yaxis, table[table["series"].isin(COSTS)]["y"])
    ax.set_title("median cost along training", fontsize=10.5)
    ax.set_ylabel("products")


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], linestyle="", **(style | _large(name) | {"markersize": 7.5})) for name, style in STYLES.items()
    ]
    figure.legend(handles, [METHODS[name] for name in STYLES], loc="outside upper center", ncols=3, fontsize=9)
    grey = {"linestyle": "", "color": "#666666"}
    kinds = {
        "one measurement": Line2D([], [], marker="o", markersize=3, alpha=0.6, markeredgewidth=0, **grey),
        "median of all steps and starts": Line2D([], [], marker="o", markersize=7, markeredgecolor="white", **grey),
        "off by more than 10%": Line2D([], [], marker="x", markersize=5, **grey),
        "stopped by the limit of products": Line2D([], [], marker="o", markersize=5, markerfacecolor="white", **grey),
    }
    figure.legend(list(kinds.values()), list(kinds), loc="outside lower center", ncols=4)
