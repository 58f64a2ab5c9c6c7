"""Table 1 of the second paper (arXiv:2402.17457), drawn from its artefact table and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from featurespeed.drawing.exponents import draw_measured, draw_stated, quantity_axis
from featurespeed.drawing.plotting import GUIDE, UNORDERED
from featurespeed.papers.super_consistency.coordinate_check.analysis import DEPTH_QUANTITIES, WIDTH_QUANTITIES, in_order
from featurespeed.papers.super_consistency.coordinate_check.drawing_transformers import (
    ZERO,
    draw_exponents,
    legend_handles,
    split,
)
from featurespeed.papers.super_consistency.coordinate_check.rows import OPTIMIZER_LABELS
from featurespeed.papers.super_consistency.coordinate_check.tables import FORM_BOUNDS, optimizers, parameterizations
from featurespeed.parameterization import OptimizerName, Parameterization

OPTIMIZER_COLORS = {"sgd": UNORDERED[0], "adam": UNORDERED[1], "adamw": UNORDERED[2]}


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
