"""Figures 20 and 21 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from featurespeed.drawing.transfer_panels import (
    RATE,
    draw_columns,
    network_names,
    panel,
    rate_of,
    short_numbers,
    size_colors,
)
from featurespeed.drawing.width_curves import headroom, legend_below, network_label
from featurespeed.drawing.width_rows import series_of
from featurespeed.papers.super_consistency.adam.spec import ADAM, ADAMW, COMMON, ONE, ONE_NO_ROOT, TWO, TWO_NO_ROOT
from featurespeed.papers.super_consistency.adam.tables import PUBLISHED

OVER_DEPTH = (ONE, TWO, ONE_NO_ROOT, TWO_NO_ROOT)
OVER_WIDTH = (ADAM, ADAMW, COMMON)
MOST_LETTERS = 32  # of a title in one line
SMALL = 1e-4  # learning rates below it are too long for their ticks, and are counted in 10^-5
MARK = {"linestyle": "", "marker": "d", "markersize": 7.5, "markerfacecolor": "white", "markeredgewidth": 1.4}


def draw_fig20(table: pd.DataFrame, figure: Figure) -> None:
    """A column a network: transfer of the learning rate above, sharpness along training below, one curve a depth."""
    _draw(table, figure, OVER_DEPTH)


def draw_fig21(table: pd.DataFrame, figure: Figure) -> None:
    """The same, one curve a width; on the axis of the learning rates the best ones of the authors' own sweep."""
    axes = _draw(table, figure, OVER_WIDTH)
    published, names = panel(table, PUBLISHED, COMMON), network_names(table, OVER_WIDTH)
    if len(published):
        draw_published_rates(axes[0, names.index(COMMON)], published, size_colors(table))
        add_to_legend(figure, "best rate of the authors' sweep", Line2D([], [], markeredgecolor="#666666", **MARK))


def _draw(table: pd.DataFrame, figure: Figure, order: Sequence[str]) -> np.ndarray:
    """Columns under short titles: the axes of the panels say what they show."""
    axes = draw_columns(table, figure, order)
    for column, name in zip(axes.T, network_names(table, order), strict=True):
        column[0].set_title(network_title(name), linespacing=1.05)
        column[1].set_title(with_powers(f"sharpness at $\\eta_0={rate_of(table, name):g}$"))
        for text in column[1].texts:
            text.set_text(with_powers(text.get_text()))
        headroom(column[1], above=0.12, below=0)  # the name of the threshold stands right under the numbers
        short_numbers(column[1].yaxis)
        if panel(table, "transfer", name)["x"].min() < SMALL:
            column[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e-5:.4g}"))
            column[0].set_xlabel(f"{RATE} in $10^{{-5}}$")
    return axes


def network_title(name: str) -> str:
    """A network of the settings as a title, in two lines if it is a long one."""
    lines = network_label(name).replace(", ", ",\n", 1) if len(name) > MOST_LETTERS else network_label(name)
    return lines.replace("1/sqrt(L)", "$1/\\sqrt{L}$")


def with_powers(text: str) -> str:
    """A text with ``8e-05`` in its mathematics as a power of ten.

    >>> print(with_powers("at $\\\\eta_0=8e-05$"))
    at $\\eta_0=8 \\cdot 10^{-5}$
    """
    return re.sub(r"(?<=[\d=])e-0*(\d+)", r" \\cdot 10^{-\1}", text)


def draw_published_rates(ax: Axes, published: pd.DataFrame, colors: Mapping[str, object]) -> None:
    """Best rates of the authors' sweep as hollow diamonds on the axis, in the colours of the widths that both have."""
    low, high = ax.get_xlim()
    for row in published.itertuples():
        color = colors.get(series_of(int(row.x)))
        if color is not None and low < row.y < high:
            ax.plot([row.y], [0], transform=ax.get_xaxis_transform(), clip_on=False, zorder=11,
                    markeredgecolor=color, **MARK)  # fmt: skip
    ax.tick_params(axis="x", pad=7)


def add_to_legend(figure: Figure, text: str, handle: Line2D) -> None:
    """One more entry in the legend below the panels."""
    old = figure.legends[-1]
    entries = list(zip((entry.get_text() for entry in old.get_texts()), old.legend_handles, strict=True))
    old.remove()
    legend_below(figure, [*entries, (text, handle)])
