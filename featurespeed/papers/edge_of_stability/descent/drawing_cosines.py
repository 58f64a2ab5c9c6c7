"""Figure 4 of training beyond the edge of stability: do updates keep their direction? Drawn from its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from featurespeed.drawing.width_curves import GREY
from featurespeed.papers.edge_of_stability.descent.drawing import (
    draw_against_kappa,
    keys_of,
    line_style,
    network_label,
    of_one_network,
    of_one_scaling,
    plain_scaling,
    scaling_label,
    short_network,
)
from featurespeed.papers.edge_of_stability.descent.drawing_curves import (
    LEAST_WIDTH,
    curve_legends,
    draw_crosses,
    draw_curves,
    kappa_colors,
    write_failures,
)
from featurespeed.papers.edge_of_stability.descent.tables import COSINE, COSINES, MEAN_COSINE
from featurespeed.papers.edge_of_stability.shared import Key, networks

FIG4_COLUMNS = 4
HOLLOW = "hollow: a seed failed"


def draw_fig4(table: pd.DataFrame, figure: Figure) -> None:
    """Cosine along training, a line of panels a network and a column a scaling; beside them its mean against kappa."""
    keys, colors = keys_of(table), kappa_colors(table)
    places = _places(keys)
    lines, columns = (max(place[i] for place in places.values()) + 1 for i in (0, 1))
    figure.set_size_inches(max(2.2 * columns + 4.4, LEAST_WIDTH), max(1.1 + 1.75 * lines, 5.6))
    halves = figure.add_gridspec(1, 2, width_ratios=[2.2 * columns, 3.7])
    cells = halves[0].subgridspec(lines, columns)
    for key, (line, column) in places.items():
        ax = figure.add_subplot(cells[line, column])
        draw_curves(ax, table, COSINE, key, colors)
        cosine_axis(ax, table)
        draw_crosses(ax, table, COSINE, key, colors)
        write_failures(ax, table, key, colors)
        last = (line + 1, column) not in places.values()
        ax.tick_params(labelleft=column == 0, labelbottom=last)
        ax.set_title(f"{short_network(key.network)}, {scaling_label(key.scaling)}", fontsize=9.5)
        if column == 0:
            ax.set_ylabel("cosine")
        if last:
            ax.set_xlabel("training step")
    means = halves[1].subgridspec(2, 1)
    above, below = of_one_network(keys), of_one_scaling(keys)
    ax = _draw_means(figure.add_subplot(means[0]), table, above, [plain_scaling(key.scaling) for key in above])
    ax.set_title(f"mean over training, {network_label(next(iter(above)).network)}; {HOLLOW}", fontsize=9.5)
    ax = _draw_means(figure.add_subplot(means[1]), table, below, [short_network(key.network) for key in below])
    ax.set_title(f"mean over training, {scaling_label(next(iter(below)).scaling)}; {HOLLOW}", fontsize=9.5)
    curve_legends(figure, table, colors, f"thresholds {COSINES[0]:g} and {COSINES[1]:g}")


def _places(keys: Sequence[Key]) -> dict[Key, tuple[int, int]]:
    """Line and column of every panel: a network begins a new line, and has several where it has many scalings."""
    found, line = {}, 0
    for network in networks(keys):
        own = [key for key in keys if key.network == network]
        found |= {key: (line + i // FIG4_COLUMNS, i % FIG4_COLUMNS) for i, key in enumerate(own)}
        line += -(-len(own) // FIG4_COLUMNS)
    return found


def _draw_means(ax: Axes, table: pd.DataFrame, colors: Mapping[Key, object], labels: Sequence[str]) -> Axes:
    """Mean over training against kappa, also of those that failed on the way."""
    draw_against_kappa(ax, table, MEAN_COSINE, colors)
    cosine_axis(ax, table)
    ax.set_xlabel("$\\kappa$ (ours)")
    lines = [Line2D([], [], color=color, linewidth=2, linestyle=line_style(key)) for key, color in colors.items()]
    ax.legend(lines, labels, loc="upper right", fontsize=8, ncols=1 + (len(lines) > 3))
    return ax


def cosine_axis(ax: Axes, table: pd.DataFrame) -> None:
    """Linear up to the lower threshold, logarithmic above it: shows values near 0, or below it, beside large ones."""
    own = table[table["panel"].str.startswith((COSINE, MEAN_COSINE))]
    low, high = min(COSINES), max(own[["y", "y_high"]].max().max(), 0.3)
    ax.set_yscale("symlog", linthresh=low, linscale=0.8)
    ax.yaxis.set_major_locator(FixedLocator([-0.3, -0.1, -0.03, 0, 0.03, 0.1, 0.3, 1]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(min(own[["y", "y_low"]].min().min(), 0) * 1.1 - 0.004, 5 * high)
    for level in COSINES:
        ax.axhline(level, color=GREY, linestyle=(0, (1, 1.6)), linewidth=1.2, zorder=1)
