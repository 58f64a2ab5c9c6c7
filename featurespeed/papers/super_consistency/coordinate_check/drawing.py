"""Figures of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

from featurespeed.drawing.exponents import draw_measured, draw_stated, quantity_axis
from featurespeed.drawing.plotting import GUIDE, INK, UNORDERED, draw_flagged, ordered_colors
from featurespeed.papers.super_consistency.coordinate_check.analysis import DEPTH_QUANTITIES, WIDTH_QUANTITIES, in_order
from featurespeed.papers.super_consistency.coordinate_check.drawing_transformers import (
    draw_exponents,
    draw_updates,
    legend_handles,
    update_handles,
)
from featurespeed.papers.super_consistency.coordinate_check.spec_transformers import TRANSFORMER
from featurespeed.papers.super_consistency.coordinate_check.tables import (
    CHECKS,
    FORM_BOUNDS,
    PARTS,
    optimizers,
    parameterizations,
)
from featurespeed.parameterization import OptimizerName, Parameterization

OPTIMIZER_LABELS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
OPTIMIZER_COLORS = {"sgd": UNORDERED[0], "adam": UNORDERED[1], "adamw": UNORDERED[2]}
PART_STYLES = {
    "hidden, effective": {"color": UNORDERED[0], "linestyle": "-", "marker": "o"},
    "hidden, propagating": {"color": UNORDERED[0], "linestyle": (0, (3, 1.6)), "marker": "s"},
    "readout, effective": {"color": UNORDERED[1], "linestyle": "-", "marker": "o"},
    "readout, propagating": {"color": UNORDERED[1], "linestyle": (0, (3, 1.6)), "marker": "s"},
}
ZERO = {
    "ha": "center", "va": "center", "fontsize": 8.5, "color": "#666666",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
}  # fmt: skip


# --- Figure 28 --------------------------------------------------------------------------------------------------------


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


def split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of transformers, and all others."""
    own = table["panel"].str.startswith(TRANSFORMER)
    return table[own], table[~own]


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


# --- Table 1 ----------------------------------------------------------------------------------------------------------


def draw_table1(table: pd.DataFrame, figure: Figure) -> None:
    """Measured exponents beside the stated ones, a line of panels a parameterization; below them depth and forms, and
    transformers.
    """
    transformers, table = split(table)
    names = parameterizations(panel.split(" | ")[0] for panel in table["panel"] if "of N" in panel)
    layers = {name: _layers(table, name) for name in names}
    ratios = [len(layers[name]) + 0.6 for name in names] + [5.8]
    ratios += [8.6, 5.6] if len(transformers) else []
    grid = figure.add_gridspec(len(ratios), 1, height_ratios=ratios)
    shared: list[Axes] = []
    for line, name in enumerate(names):
        cells = grid[line].subgridspec(1, len(WIDTH_QUANTITIES))
        for column, (quantity, title) in enumerate(WIDTH_QUANTITIES.items()):
            ax = figure.add_subplot(cells[column], sharex=shared[0] if shared else None)
            shared.append(ax)
            _draw_layers(ax, table, name, quantity, layers[name])
            ax.tick_params(labelleft=column == 0, labelbottom=line == len(names) - 1)
            if line == 0:
                ax.set_title(title, loc="center")
            if column == 0:
                ax.set_ylabel(Parameterization(name).label, fontweight="bold", fontsize=10.5)
            if line == len(names) - 1:
                ax.set_xlabel("exponent of $N$")
    below = grid[len(names)].subgridspec(1, 3, width_ratios=[1, 1, 1])
    _draw_depth(figure, below[0], table, Parameterization.DEPTH_MUP, "over the depth, Depth-μP")
    _draw_depth(figure, below[1], table, Parameterization.MUP, "control: μP without $1/\\sqrt{L}$")
    _draw_forms(figure.add_subplot(below[2]), table[table["panel"] == "forms"])
    if len(transformers):
        draw_exponents(figure, grid[len(names) + 1], grid[len(names) + 2], transformers)
    _table1_legend(figure, table, transformers)


def _layers(table: pd.DataFrame, name: str) -> list[str]:
    series = table.loc[table["panel"].str.startswith(f"{name} | exponent of N"), "series"]
    found = {entry.rpartition(", ")[0] for entry in series}
    return sorted(found, key=lambda layer: (("input", "hidden", "readout").index(layer.split()[0]), layer))


def _draw_layers(ax: Axes, table: pd.DataFrame, name: str, quantity: str, layers: Sequence[str]) -> None:
    measured = table[table["panel"] == f"{name} | exponent of N, {quantity}"]
    zero = table[table["panel"] == f"{name} | exactly 0, {quantity}"]
    _draw_by_optimizer(ax, measured, layers)
    for place, layer in enumerate(layers):
        own = zero[zero["series"].str.startswith(f"{layer}, ")]
        if len(own):
            largest = own["y"].max()
            text = "exactly 0" if largest == 0 else f"stated 0, up to {largest:.1g}"
            ax.text(0, -place, text, **ZERO)
    quantity_axis(ax, -np.arange(len(layers), dtype=float), layers, margin=0.6)


def _draw_by_optimizer(ax: Axes, measured: pd.DataFrame, names: Sequence[str]) -> None:
    """Dots of each optimizer beside one another, with the diamonds of what is stated for them."""
    present = optimizers(series.rpartition(", ")[2] for series in measured["series"])
    for place, name in enumerate(names):
        for index, optimizer in enumerate(present):
            own = measured[measured["series"] == f"{name}, {optimizer}"]
            height = -place - 0.27 * (index - (len(present) - 1) / 2)
            draw_measured(ax, own, [height] * len(own), [OPTIMIZER_COLORS[optimizer]] * len(own), size=3.2)
            draw_stated(ax, own, [height] * len(own), size=6)


def _draw_depth(figure: Figure, cell, table: pd.DataFrame, name: str, title: str) -> None:
    own = table[table["panel"] == f"{name} | exponent of L"]
    ax = figure.add_subplot(cell)
    names = [label for label in DEPTH_QUANTITIES if own["series"].str.startswith(f"{label}, ").any()]
    _draw_by_optimizer(ax, own, names)
    quantity_axis(ax, -np.arange(len(names), dtype=float), names, margin=0.6)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.8), max(high, 0.4))
    ax.set_title(title, loc="center")
    ax.set_xlabel("exponent of $L$")


FORM_MARKERS = {"NTP": "s", "MUP": "o", "DEPTH_MUP": "^"}
LEAST_DRAWN = 1e-17  # an exact 0 stands here on the logarithmic axis


def _draw_forms(ax: Axes, table: pd.DataFrame) -> None:
    """Differences of the two forms' training curves on a logarithmic axis, with the two bounds."""
    bounds = table[table["series"].isin(FORM_BOUNDS)].sort_values("y")
    own = table[~table["series"].isin(FORM_BOUNDS)]
    variants = _variants(own, bounds["y"].min())
    for series, row in own.set_index("series").iterrows():
        variant, name = series.split(" | ")
        present = [n for n in FORM_MARKERS if f"{variant} | {n}" in set(own["series"])]
        height = -variants.index(variant) - 0.27 * (present.index(name) - (len(present) - 1) / 2)
        color = OPTIMIZER_COLORS[variant.split(", ")[0]]
        ends = [max(value, LEAST_DRAWN) for value in (row["y_low"], row["y"])]
        ax.plot(ends, [height] * 2, color=color, linewidth=1.6)
        ax.plot(ends[1], height, marker=FORM_MARKERS[name], markersize=3.6, color=color)
    for bound, side, text in zip(bounds["y"], ("right", "left"), ("same ", " differ"), strict=True):
        ax.axvline(bound, color=GUIDE, linestyle=":", linewidth=1.2, zorder=1)
        ax.text(bound, 0.72, text, ha=side, va="center", fontsize=8.5, color="#666666")
    ax.set_xscale("log")
    quantity_axis(ax, -np.arange(len(variants), dtype=float), [_variant_label(v) for v in variants], margin=0.6)
    ax.set_ylim(top=1.0)
    ax.set_title("two forms of one network", loc="center")
    ax.set_xlabel("relative difference of the losses")


def _variants(table: pd.DataFrame, bound: float) -> list[str]:
    """Variants that agree first, each kind in the order of the optimizers."""
    largest = table.groupby(table["series"].str.split(" | ", regex=False).str[0])["y"].max()
    order = [str(name) for name in OptimizerName]
    return sorted(largest.index, key=lambda v: (largest[v] > bound, order.index(v.split(", ")[0]), v))


def _variant_label(variant: str) -> str:
    optimizer, _, rest = variant.partition(", ")
    return ", ".join(filter(None, (OPTIMIZER_LABELS[optimizer], rest.replace("eps", "ε"))))


def _table1_legend(figure: Figure, table: pd.DataFrame, transformers: pd.DataFrame) -> None:
    present = optimizers(
        series.rpartition(", ")[2] for series in table.loc[table["panel"].str.contains("exponent"), "series"]
    )
    handles = [
        Line2D([], [], color=OPTIMIZER_COLORS[name], marker="o", markersize=4.5, linewidth=1.6) for name in present
    ]
    texts = [OPTIMIZER_LABELS[name] for name in present]
    hollow = {"linestyle": "", "markerfacecolor": "none", "color": "#666666"}
    handles.append(Line2D([], [], marker="D", markersize=6.5, **hollow))
    texts.append("stated")
    forms = in_order(
        (s.split(" | ")[1] for s in table.loc[table["panel"] == "forms", "series"] if " | " in s), FORM_MARKERS
    )
    handles += [
        Line2D([], [], linestyle="", marker=FORM_MARKERS[name], markersize=4.5, color="#666666") for name in forms
    ]
    texts += [f"{Parameterization(name).label} (two forms)" for name in forms]
    more_handles, more_texts = legend_handles(transformers)
    seeds = int(table.loc[table["n"] > 0, "n"].min())
    handles, texts = handles + more_handles, texts + more_texts
    figure.legend(
        handles, texts, loc="outside lower center", ncols=-(-len(handles) // 2) if more_handles else len(handles),
        title=f"measured exponents: one fit a seed, mean and 95% t interval over {seeds} seeds", title_fontsize=9,
    )  # fmt: skip
