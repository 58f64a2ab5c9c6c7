"""Figure 1 of training beyond the edge of stability: a map of what becomes of networks, drawn from its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.patheffects as effects
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from featurespeed.drawing.plotting import INK
from featurespeed.papers.edge_of_stability.descent.drawing import (
    FAILURE_COLORS,
    keys_of,
    network_label,
    of_key,
    ours_note,
    plain_scaling,
    power,
)
from featurespeed.papers.edge_of_stability.descent.tables import BEYOND, DEAD, DIVERGED, LOSS_RATIO, TRAINED
from featurespeed.papers.edge_of_stability.shared import GEOMETRY_AWARE, Key

#: Share of steps beyond the edge -> colour of those that trained; light enough for dark text.
SHADES = LinearSegmentedColormap.from_list("beyond", matplotlib.colormaps["Blues"](np.linspace(0.06, 0.62, 64)))
CELL = (TRAINED, DIVERGED, DEAD, LOSS_RATIO, BEYOND)
LEAST_HEIGHT = 3.2  # inches, of the bar of shades
LINE, AROUND = 0.46, 0.66  # inches a map needs for each scaling, and for its title and axis


def draw_fig1(table: pd.DataFrame, figure: Figure) -> None:
    """One map a network and schedule: a line a scaling, a column a kappa; cells are filled by what became of seeds."""
    maps: dict[tuple[str, str], list[Key]] = {}
    for key in keys_of(table):
        maps.setdefault((key.network, key.schedule), []).append(key)
    sizes = [LINE * len(members) + AROUND for members in maps.values()]
    columns = _two_columns(sizes)
    height = max(sum(sizes[place] for place in column) for column in columns)
    figure.set_size_inches(figure.get_figwidth(), max(height + 0.7, LEAST_HEIGHT))
    grid = figure.add_gridspec(1, len(columns) + 1, width_ratios=[1] * len(columns) + [0.022])
    wide = max(len(_kappas(table, members)) for members in maps.values())
    for place, column in enumerate(columns):
        spare = height - sum(sizes[i] for i in column)
        ratios = [len(list(maps.values())[i]) for i in column] + ([spare / LINE] if spare > 0.1 else [])
        cells = grid[place].subgridspec(len(ratios), 1, height_ratios=ratios)
        for line, i in enumerate(column):
            (network, schedule), members = list(maps.items())[i]
            _draw_map(figure.add_subplot(cells[line]), table, members, map_title(network, schedule), wide)
        if spare > 0.1:
            figure.add_subplot(cells[-1]).set_axis_off()
    _draw_shades(figure.add_subplot(grid[-1]))
    ours_note(figure, _fig1_handles())


def _two_columns(sizes: Sequence[float]) -> list[list[int]]:
    """Places of the maps in two columns of about the same height, in order; one column for a single map."""
    split = min(range(1, len(sizes) + 1), key=lambda k: (max(sum(sizes[:k]), sum(sizes[k:])), -k))
    return [part for part in (list(range(split)), list(range(split, len(sizes)))) if part]


def _kappas(table: pd.DataFrame, keys: Sequence[Key]) -> list[float]:
    return sorted({x for key in keys for x in of_key(table, TRAINED, key)["x"]})


def map_title(network: str, schedule: str) -> str:
    """A network, and its schedule if that is not the constant one."""
    return network_label(network) + (", geometry-aware schedule (ours)" if schedule == GEOMETRY_AWARE else "")


def _draw_map(ax: Axes, table: pd.DataFrame, keys: Sequence[Key], title: str, wide: int) -> None:
    kappas = _kappas(table, keys)
    for line, key in enumerate(keys):
        panels = {name: of_key(table, name, key).set_index("x") for name in CELL}
        for column, kappa in enumerate(kappas):
            if kappa in panels[TRAINED].index:
                _draw_cell(ax, column, -line, {n: rows.loc[kappa] for n, rows in panels.items() if kappa in rows.index})
    # Cells are as wide in a map with fewer columns.
    ax.set(xlim=(-0.52, max(wide, len(kappas)) - 0.48), ylim=(-len(keys) + 0.48, 0.52))
    ax.set_xticks(range(len(kappas)), [f"{kappa:g}" for kappa in kappas])
    ax.set_yticks(-np.arange(len(keys)), [plain_scaling(key.scaling) for key in keys])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=11.5)
    geometric = keys[0].schedule == GEOMETRY_AWARE
    meaning = "$\\kappa_g$: step over $-c_1/c_2$" if geometric else "$\\kappa$: learning rate over $2/\\lambda_\\Xi(0)$"
    ax.set_xlabel(f"{meaning} (ours)", loc="left")


def _draw_cell(ax: Axes, x: float, y: float, cell: Mapping[str, pd.Series]) -> None:
    """A rectangle divided from left to right into those that trained, diverged and died; numbers on top."""
    beyond = cell[BEYOND]["y"] if BEYOND in cell else np.nan
    colors = {TRAINED: SHADES(0.0 if np.isnan(beyond) else beyond), **FAILURE_COLORS}
    left, width, height = x - 0.48, 0.96, 0.92
    for name, color in colors.items():
        share = cell[name]["y"] * width
        ax.add_patch(Rectangle((left, y - height / 2), share, height, facecolor=color, linewidth=0))
        left += share
    n = int(cell[TRAINED]["n"])
    lines = [f"{round(cell[TRAINED]['y'] * n)}/{n}" + ("" if np.isnan(beyond) else f"   {beyond:.0%}")]
    if LOSS_RATIO in cell:
        lines.append(f"×{power(cell[LOSS_RATIO]['y'])}")
    most = max(colors, key=lambda name: cell[name]["y"])
    text = ax.text(
        x, y, "\n".join(lines), ha="center", va="center", fontsize=8.2, color="white" if most == DEAD else INK,
        linespacing=1.25,
    )  # fmt: skip
    if cell[most]["y"] < 1:  # numbers stand where two colours meet: their halo is that of most seeds
        text.set_path_effects([effects.withStroke(linewidth=1.8, foreground=colors[most])])


def _draw_shades(ax: Axes) -> None:
    ax.set_axis_off()
    bar = ax.figure.colorbar(ScalarMappable(Normalize(0, 1), SHADES), cax=ax.inset_axes([0.0, 0.2, 1.0, 0.6]))
    bar.set_label("share of steps beyond the edge (ours)")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.outline.set_visible(False)


def _fig1_handles() -> dict[str, object]:
    nothing = Line2D([], [], linestyle="")
    return {
        "trained to the end": Patch(facecolor=SHADES(0.5), linewidth=0),
        "not finite": Patch(facecolor=FAILURE_COLORS[DIVERGED], linewidth=0),
        "dead: a silent layer": Patch(facecolor=FAILURE_COLORS[DEAD], linewidth=0),
        "in a cell: seeds that trained / all, share of steps beyond (mean)": nothing,
        "×: largest over initial loss (median)": nothing,
    }
