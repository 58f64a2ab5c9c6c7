"""Figure 28 of the second paper (arXiv:2402.17457), drawn from its artefact table and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

from featurespeed.drawing.exponents import draw_measured, quantity_axis
from featurespeed.drawing.plotting import INK, UNORDERED, draw_flagged, ordered_colors
from featurespeed.papers.super_consistency.coordinate_check.drawing_transformers import (
    ZERO,
    draw_updates,
    split,
    update_handles,
)
from featurespeed.papers.super_consistency.coordinate_check.rows import OPTIMIZER_LABELS
from featurespeed.papers.super_consistency.coordinate_check.tables import (
    CHECKS,
    PARTS,
)
from featurespeed.parameterization import OptimizerName, Parameterization

PART_STYLES = {
    "hidden, effective": {"color": UNORDERED[0], "linestyle": "-", "marker": "o"},
    "hidden, propagating": {"color": UNORDERED[0], "linestyle": (0, (3, 1.6)), "marker": "s"},
    "readout, effective": {"color": UNORDERED[1], "linestyle": "-", "marker": "o"},
    "readout, propagating": {"color": UNORDERED[1], "linestyle": (0, (3, 1.6)), "marker": "s"},
}


def draw_fig28(table: pd.DataFrame, figure: Figure) -> None:
    """Updates of the features against the width, their parts, and the slopes of all of them; then transformers."""
    transformers, table = split(table)
    upper, lower = _layout(table)
    names = upper + lower
    columns = max(len(upper), len(lower))
    further = [1.35] if len(transformers) else []
    grid = figure.add_gridspec(5 + len(further), 1, height_ratios=[1, 1, 1, 1, 0.17 * len(names) + 0.25, *further])
    steps = _steps(table)
    for block, (panel, draw) in enumerate((("feature update", _draw_features), ("parts", _draw_parts))):
        shared: Axes | None = None
        for line, cases in enumerate((upper, lower)):
            cells = grid[2 * block + line].subgridspec(1, columns)
            for column, case in enumerate(cases):
                ax = figure.add_subplot(cells[column], sharey=shared, sharex=shared)
                shared = shared or ax
                draw(
                    ax, table[table["panel"] == f"{panel} | {case}"], table[table["panel"] == f"slope | {case}"], steps
                )
                ax.set_title(case_label(case), fontsize=10)
                ax.tick_params(labelleft=column == 0)
                if line == 1:
                    ax.set_xlabel("width $N$", fontsize=9)
                if column == 0:
                    ax.set_ylabel(
                        "rms of the update\nof the features" if block == 0 else "rms of the parts\nof the update"
                    )
        _width_axis(shared, table, panel)
    _draw_slopes(figure, grid[4].subgridspec(1, 1 + len(PARTS)), table, names, steps)
    if further:
        draw_updates(figure, grid[5], transformers)
    _fig28_legends(figure, table, steps, transformers)


def case_label(case: str) -> str:
    """``MUP, sgd, wrong rule`` as a reader should see it."""
    name, optimizer, *check = case.split(", ")
    if check:  # all of them with SGD
        return f"{Parameterization(name).label}, {check[0]}"
    return f"{Parameterization(name).label} ({OPTIMIZER_LABELS[optimizer]})"


def _layout(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Cases of the upper line (SGD, the wrong rule) and of the lower one (other optimizers, small outputs)."""
    found = [panel.split(" | ")[1] for panel in table["panel"].unique() if panel.startswith("feature update")]

    def place(case: str) -> tuple[int, int, int]:
        name, optimizer, *check = case.split(", ")
        rank = CHECKS.index(check[0]) + 1 if check else 0
        return rank, list(OptimizerName).index(optimizer), list(Parameterization).index(name)

    found = sorted(found, key=place)
    upper = [case for case in found if place(case)[:2] in ((0, 0), (1, 0))]
    return upper, [case for case in found if case not in upper]


def _steps(table: pd.DataFrame) -> dict[int, tuple]:
    """Step -> colour, dark to light."""
    series = table.loc[table["panel"].str.startswith("feature update"), "series"].unique()
    steps = sorted(int(name.removeprefix("step ")) for name in series)
    return dict(zip(steps, ordered_colors([str(step) for step in steps]).values(), strict=True))


def _curve(ax: Axes, table: pd.DataFrame, **style: object) -> None:
    """Geometric means with their intervals as a line with a band; exact zeros have no place on a logarithmic axis."""
    table = table[table["y"] > 0].sort_values("x")
    if table.empty:
        return
    ax.fill_between(table["x"], table["y_low"], table["y_high"], color=style["color"], alpha=0.16, linewidth=0)
    ax.plot(table["x"], table["y"], markersize=2.8, linewidth=1.2, **style)
    draw_flagged(ax, table, style["color"])


def _draw_features(ax: Axes, table: pd.DataFrame, slopes: pd.DataFrame, steps: dict[int, tuple]) -> None:
    for step, color in steps.items():
        _curve(ax, table[table["series"] == f"step {step}"], color=color, marker="o")
    if (table["y"] == 0).all():
        ax.text(0.5, 0.5, "exactly 0 at every\nwidth, step and seed", transform=ax.transAxes, ha="center", va="center",
                color=INK, fontsize=9.5)  # fmt: skip
    own = slopes[slopes["series"] == "feature update"].sort_values("x")
    ends = own.iloc[[0, -1]] if len(own) > 1 else own
    lines = [
        f"step {row.x:g}: {_signed(row.y)} [{_signed(row.y_low)}, {_signed(row.y_high)}]" for row in ends.itertuples()
    ]
    for place, text in enumerate(reversed(lines)):
        ax.text(0.04, 0.04 + 0.115 * place, text, transform=ax.transAxes, fontsize=7.6, color="#444444")


def _draw_parts(ax: Axes, table: pd.DataFrame, slopes: pd.DataFrame, steps: dict[int, tuple]) -> None:
    zeros = []
    for series, style in PART_STYLES.items():
        own = table[table["series"] == series]
        _curve(ax, own, **style)
        zeros += [series] if len(own) and (own["y"] == 0).all() else []
    if zeros:
        text = "exactly 0:\n" + "\n".join(zeros)
        style = {"ha": "center", "va": "top", "fontsize": 7.6, "linespacing": 1.1, "color": INK}
        ax.text(0.5, 0.96, text, transform=ax.transAxes, **style)


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _width_axis(ax: Axes, table: pd.DataFrame, panel: str) -> None:
    """The widths themselves as ticks, a factor of 2 as long everywhere; limits from what is drawn, not from bands."""
    own = table[table["panel"].str.startswith(panel) & (table["y"] > 0)]
    ax.set(xscale="log", yscale="log")
    widths = sorted(own["x"].unique())
    shown = widths if len(widths) <= 4 else widths[::2]
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(widths[0] / 1.25, widths[-1] * 1.25)
    low, high = own["y"].min(), own["y"].max()
    ax.set_ylim(low * (low / high) ** 0.4, high * 2.2)  # room for the slopes below the curves


def _draw_slopes(figure: Figure, cells, table: pd.DataFrame, names: Sequence[str], steps: dict[int, tuple]) -> None:
    """Slopes with intervals, one column a quantity, one line a case."""
    shared: Axes | None = None
    heights = -np.arange(len(names), dtype=float)
    for column, series in enumerate(("feature update", *PARTS)):
        ax = figure.add_subplot(cells[column], sharex=shared, sharey=shared)
        shared = shared or ax
        for case, height in zip(names, heights, strict=True):
            own = table[(table["panel"] == f"slope | {case}") & (table["series"] == series)].sort_values("x")
            shifts = 0.22 * (np.arange(len(own)) - (len(own) - 1) / 2)
            part = PART_STYLES.get(series)
            colors = [part["color"] if part else steps[int(x)] for x in own["x"]]
            draw_measured(ax, own, height - shifts, colors, size=3.2)
            if own.empty:
                ax.text(0, height, "exactly 0", **ZERO)
            ax.axhline(height, color="#f1f1f1", linewidth=0.7, zorder=0)
        quantity_axis(ax, heights, [case_label(case) for case in names])
        ax.tick_params(labelleft=column == 0)
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.set_title(series, fontsize=10)
        ax.set_xlabel("slope in $\\log N$")


def _fig28_legends(figure: Figure, table: pd.DataFrame, steps: dict[int, tuple], transformers: pd.DataFrame) -> None:
    last, seeds = max(steps), int(table["n"].max())
    curves = [Line2D([], [], color=color, marker="o", markersize=3.4) for color in steps.values()]
    figure.legend(
        curves, [f"after step {step}" for step in steps], loc="outside upper center", ncols=len(steps), fontsize=9.5,
        title="update of the last hidden features: geometric mean, 95% interval over seeds; first and last slope",
        title_fontsize=9.5,
    )  # fmt: skip
    parts = [Line2D([], [], markersize=3.4, **style) for style in PART_STYLES.values()]
    title = f"parts at step {last}. Slopes: one fit a seed, mean and 95% t interval over {seeds} seeds"
    entries = list(zip(parts, PART_STYLES, strict=True))
    if len(transformers):
        counts = sorted(int(n) for n in transformers["n"].unique() if n)
        below = zip(*update_handles(transformers), strict=True)  # a legend is filled column by column
        entries = [entry for column in zip_longest(entries, below) for entry in column if entry]
        title += f"\nlast line: transformers with Adam, {counts[0]} to {counts[-1]} seeds, slopes after step {last}"
    figure.legend(
        *zip(*entries, strict=True), loc="outside lower center", ncols=len(PART_STYLES), fontsize=9.5,
        title=title, title_fontsize=9.5,
    )  # fmt: skip
