"""Figures 6, 7 and 8 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.distance_panels import rows_of
from featurespeed.drawing.plotting import UNORDERED, log_ticks
from featurespeed.drawing.transfer_panels import (
    RATE,
    STEP,
    draw_loss,
    draw_sharpness,
    draw_transfer,
    estimate,
    legends,
    name_rates,
    network_names,
    panel,
    share_losses,
    short_numbers,
    size_colors,
    size_of,
)
from featurespeed.drawing.width_curves import headroom, logarithmic, network_label, width_axis, write
from featurespeed.drawing.width_rows import SYMBOLS
from featurespeed.papers.super_consistency.no_limit.spec import COLD, LONG, PLAIN, SHORT, WARM
from featurespeed.papers.super_consistency.no_limit.tables import (
    FAILURES,
    FIRST,
    FIRST_BEST,
    INITIAL,
    INITIAL_EXPONENT,
)

ORDER = (COLD, SHORT, WARM, LONG, PLAIN)
AROUND = 4  # factor below and above the best learning rates
ROOM = 0.35  # above the lines of a panel, for numbers


def draw_fig06(table: pd.DataFrame, figure: Figure) -> None:
    """A line a network: transfer after the first steps and at the end, what failed, the sharpness along training; last,
    the initial sharpness and the best learning rates over the depth.
    """
    names, colors = _names(table), size_colors(table)
    axes = figure.subplots(len(names), 5, squeeze=False)
    for line, name in zip(axes, names, strict=True):
        draw_transfer(line[0], table, name, colors, FIRST, FIRST_BEST)
        line[0].set_title(f"{name}: after the first steps")
        draw_transfer(line[1], table, name, colors)
        line[1].set_title(f"{name}: at the end")
        draw_failed(line[2], table, name, colors)
        draw_sharpness(line[3], table, name, colors)
        for ax, text in zip(line, (RATE, RATE, RATE, STEP), strict=False):
            ax.set_xlabel(text)
    share_losses([ax for line in axes for ax in line[:2]])
    draw_over_size(axes[:, 4], table, names)
    legends(figure, table, colors)


def draw_fig07(table: pd.DataFrame, figure: Figure) -> None:
    """A column a warm-up: transfer above, sharpness along training below; last, the initial sharpness and the best
    learning rates over the width.
    """
    names, colors = _names(table), size_colors(table)
    axes = figure.subplots(2, len(names) + 1, squeeze=False)
    for column, name in zip(axes.T, names, strict=False):
        draw_transfer(column[0], table, name, colors)
        draw_sharpness(column[1], table, name, colors)
        column[0].set_xlabel(RATE)
        column[1].set_xlabel(STEP)
    share_losses(list(axes[0, :-1]))
    draw_over_size(axes[:, -1], table, names)
    legends(figure, table, colors)


def draw_fig08(table: pd.DataFrame, figure: Figure) -> None:
    """Transfer, what failed, sharpness and loss along training, one curve a depth."""
    (name, *_), colors = _names(table), size_colors(table)
    axes = figure.subplots(1, 4)
    for ax, draw in zip(axes, (draw_transfer, draw_failed, draw_sharpness, draw_loss), strict=True):
        draw(ax, table, name, colors)
    share_losses([axes[0]])
    for ax, text in zip(axes, (RATE, RATE, STEP, STEP), strict=True):
        ax.set_xlabel(text)
    legends(figure, table, colors)


def _names(table: pd.DataFrame) -> list[str]:
    return network_names(table[table["panel"].str.startswith("transfer | ")], ORDER)


def draw_failed(ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[str, object]) -> None:
    """Share of the seeds that failed against the learning rate, one line a size."""
    own = panel(table, FAILURES, name)
    for series, color in colors.items():
        rows = own[own["series"] == series].sort_values("x")
        ax.plot(rows["x"], rows["y"], color=color, marker="o", markersize=3, linewidth=1.3)
    ax.set_xscale("log", base=2)
    name_rates(ax, sorted(own["x"].unique()))
    ax.set_ylim(-0.04, 1.04)
    ax.set_ylabel("share of seeds")
    ax.set_title(f"{network_label(name)}: share that failed")


def draw_over_size(axes: Sequence[Axes], table: pd.DataFrame, names: Sequence[str]) -> None:
    """Initial sharpness against the size above, best learning rates below, one line a network."""
    kinds = dict(zip(names, UNORDERED, strict=False))
    upper, lower = axes[0], axes[-1]
    kind = size_of(table["series"].unique())
    initial = rows_of(table, INITIAL)
    own = initial[initial["series"] == names[0]].sort_values("x")  # before the first step warm-ups do not differ
    upper.plot(own["x"], own["y"], color="#444444", marker="o", markersize=4)
    upper.fill_between(own["x"], own["y_low"], own["y_high"], color="#444444", alpha=0.15, linewidth=0)
    logarithmic(upper.yaxis, own["y"])
    exponents = panel(table, "statistic", names[0])
    for _, row in exponents[exponents["series"] == INITIAL_EXPONENT].iterrows():
        write(upper, f"exponent in ${SYMBOLS[kind]}$ {estimate(row)}")
    headroom(upper, ROOM)
    short_numbers(upper.yaxis)
    upper.set_title("initial sharpness")
    if own.empty:
        write(upper, "not measured")
    for place, (name, color) in enumerate(kinds.items()):
        best = panel(table, "best", name)
        best = best.assign(size=best["series"].str.split("=").str[1].astype(float)).sort_values("size")
        # Rates lie on a grid, so that lines often coincide: the later ones are thinner.
        style = {"markersize": 9 - 2.5 * place, "linewidth": 3.2 - place, "label": network_label(name)}
        lower.plot(best["size"], best["x"], color=color, marker="D", **style)
        edge = best[best["flag"] != ""]
        if len(edge):
            lower.plot(edge["size"], edge["x"], color=color, marker="D", markerfacecolor="white", linestyle="",
                       markersize=style["markersize"] - 1)  # fmt: skip
    rates = pd.concat([panel(table, "best", name)["x"] for name in names])
    lower.set_yscale("log", base=2)
    if len(rates):
        lower.set_ylim(rates.min() / AROUND, rates.max() * AROUND)  # a step of the grid does not fill the panel
        log_ticks(lower.yaxis, pd.Series(lower.get_ylim()))
    headroom(lower, ROOM)
    lower.legend(loc="upper right")
    lower.set_title("best learning rate")
    sizes = {float(series.split("=")[1]) for series in size_colors(table)}
    for ax in (upper, lower):
        width_axis(ax, sizes, kind=kind)
