"""The look of a table of exponents: measured ones with intervals beside stated ones, quantities downwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

STATED = {"linestyle": "", "marker": "D", "markersize": 8.5, "markerfacecolor": "none", "color": "#666666", "zorder": 3}


def draw_measured(
    ax: Axes, table: pd.DataFrame, heights: Sequence[float], colors: Sequence[object], size: float = 4.6
) -> None:
    """One dot with its interval a row, hollow where the row is flagged."""
    for row, height, color in zip(table.itertuples(), heights, colors, strict=True):
        ax.plot([row.y_low, row.y_high], [height] * 2, color=color, linewidth=1.6, zorder=4)
        face = color if row.flag == "" else "white"
        ax.plot(row.y, height, marker="o", markersize=size, color=color, markerfacecolor=face, zorder=5)


def draw_stated(ax: Axes, table: pd.DataFrame, heights: Sequence[float], size: float = 8.5) -> None:
    """Hollow diamonds at the stated exponents."""
    ax.plot(table["x"], heights, **STATED | {"markersize": size})


def quantity_axis(ax: Axes, heights: Sequence[float], labels: Sequence[str], margin: float = 0.7) -> None:
    """Names of the quantities downwards, without a spine, and a line at exponent 0."""
    ax.axvline(0, color="#dddddd", linewidth=0.8, zorder=0)
    ax.set_yticks(list(heights), list(labels))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(np.min(heights) - margin, np.max(heights) + margin)
