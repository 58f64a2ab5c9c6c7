"""What was read off the authors' own plots, beside ours: best learning rates on the axis, points along training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from featurespeed.drawing.transfer_panels import network_names, panel, size_colors
from featurespeed.drawing.transfer_rows import row_table
from featurespeed.drawing.width_curves import legend_below
from featurespeed.drawing.width_rows import interval_row, series_of
from featurespeed.statistics import Interval

PUBLISHED = "published best"
AUTHORS = "the authors' sweep"
STACKED = 0.04  # of the height of a panel: several at the same rate stand on each other
MARK = {"linestyle": "", "marker": "d", "markersize": 7.5, "markerfacecolor": "white", "markeredgewidth": 1.4}


def published_rows(name: str, rates: Mapping[int, float], step: float) -> pd.DataFrame:
    """Best learning rates (y) of the authors' sweep of a network against its size (x), half a step of their grid to
    either side.

    Args:
        name: of the network.
        rates: size -> best learning rate.
        step: ratio of neighbours in their grid.
    """
    half = step**0.5
    known = {size: Interval(rate, rate / half, rate * half, 1, "") for size, rate in rates.items()}
    rows = [interval_row(f"{PUBLISHED} | {name}", AUTHORS, size, found, "published") for size, found in known.items()]
    return row_table([row | {"flag": ""} for row in rows])


def draw_published_rates(
    table: pd.DataFrame, figure: Figure, panels: Sequence[Axes], order: Sequence[str], size: str
) -> None:
    """Best rates of the authors' sweeps as hollow diamonds on the axes, in the colours of the sizes that both have.

    Args:
        table: the artefact table, with the rows of :func:`published_rows`, if there are any.
        panels: of the learning-rate transfer, one a network, in the order of the networks of the table.
        order: networks as the figure has them.
        size: ``width`` or ``depth``.
    """
    colors, drawn = size_colors(table), False
    for ax, name in zip(panels, network_names(table, order), strict=True):
        drawn |= _draw(ax, panel(table, PUBLISHED, name), colors, size)
    if drawn:
        add_to_legend(figure, "best rate of the authors' sweep")


def _draw(ax: Axes, published: pd.DataFrame, colors: Mapping[str, object], size: str) -> bool:
    low, high = ax.get_xlim()
    known = [(row.y, colors.get(series_of(int(row.x), size))) for row in published.itertuples()]
    shown = [(rate, color) for rate, color in known if color is not None and low < rate < high]
    for place, (rate, color) in enumerate(shown):
        under = sum(np.isclose(rate, other) for other, _ in shown[:place])
        ax.plot([rate], [STACKED * under], transform=ax.get_xaxis_transform(), clip_on=False, zorder=11,
                markeredgecolor=color, **MARK)  # fmt: skip
    if shown:
        ax.tick_params(axis="x", pad=7)
    return bool(shown)


def draw_points(ax: Axes, points: pd.DataFrame, colors: Mapping[str, object]) -> bool:
    """Points of the authors' curves as hollow diamonds, of the sizes that both have; False without any."""
    shown = points[points["series"].isin(list(colors))]
    for row in shown.itertuples():
        ax.plot([row.x], [row.y], zorder=11, markeredgecolor=colors[row.series], **MARK)
    return bool(len(shown))


def add_to_legend(figure: Figure, text: str) -> None:
    """One more entry in the legend below the panels, with the mark of what the authors have."""
    old, handle = figure.legends[-1], Line2D([], [], markeredgecolor="#666666", **MARK)
    entries = list(zip((entry.get_text() for entry in old.get_texts()), old.legend_handles, strict=True))
    old.remove()
    legend_below(figure, [*entries, (text, handle)])
