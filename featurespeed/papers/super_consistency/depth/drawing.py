"""Figures 4, 22 and 25 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.distance_panels import draw_distances, draw_exponents, hollow_points, rows_of
from featurespeed.drawing.plotting import INK, UNORDERED
from featurespeed.drawing.published_rates import add_to_legend, draw_points, draw_published_rates
from featurespeed.drawing.transfer_panels import draw_lines, size_colors
from featurespeed.drawing.width_curves import (
    draw_edge,
    draw_widths,
    fitting_scale,
    from_zero,
    headroom,
    left_out,
    legend,
    statistic,
    write,
)
from featurespeed.drawing.width_rows import EDGE
from featurespeed.papers.super_consistency.depth.spec import ONE, TWO
from featurespeed.papers.super_consistency.depth.tables import DISTANCES, LATE, PUBLISHED_POINTS
from featurespeed.sweeps.convergence import WARM_UP

ORDER = (ONE, TWO)
BAND = "band: range over seeds"
STOPPED = "a seed has diverged, died or not converged"


def draw_fig04(table: pd.DataFrame, figure: Figure) -> None:
    """A line a network: transfer of the learning rate, sharpness and loss along training, one curve a depth.

    On the axes of the learning rates stand the best ones of the authors' own sweeps.
    """
    axes = draw_lines(table, figure, ORDER)
    draw_published_rates(table, figure, axes[:, 0], ORDER, "depth")


def draw_fig22(table: pd.DataFrame, figure: Figure) -> None:
    """A line a network: loss, its distance to the deepest network and that of the sharpness, and the exponents."""
    colors = size_colors(table)
    names = [name for name in ORDER if table["panel"].str.endswith(f" | {name}").any()]
    proxy = next(reversed(colors))
    colors = colors | {proxy: INK}
    grid = figure.subplots(len(names), 4, squeeze=False)
    for line, name in zip(grid, names, strict=True):
        loss = rows_of(table, f"training loss | {name}")
        draw_widths(line[0], loss, colors)
        from_zero(line[0], loss)
        line[0].set_title(f"{name}: training loss")
        line[0].set_xlabel("training step")
        line[0].set_ylabel("training loss")
        line[1].set_ylabel("distance")
        for ax, quantity in zip(line[1:3], DISTANCES, strict=True):
            draw_distances(ax, table, f"{quantity} | {name}", colors)
            ax.set_title(f"{quantity}: distance to ${_deepest(table, name, colors)}$")
        kinds = {f"{quantity} | {name}": UNORDERED[place] for place, quantity in enumerate(DISTANCES)}
        draw_exponents(line[3], table, kinds, "depth")
    hollow = STOPPED if hollow_points(figure) else ""
    legend(
        figure, colors, proxy=proxy, band=f"{BAND}; bars: standard error", hollow=hollow,
        fit=f"fit $a\\,t^b$ above the floor, first {WARM_UP:.0%} of the steps left out",
        floor="noise floor: standard error over seeds", left_out=left_out(table),
    )  # fmt: skip


def _deepest(table: pd.DataFrame, name: str, colors: dict[str, object]) -> str:
    """The series of the deepest network of this name."""
    own = set(table.loc[table["panel"].str.endswith(f" | {name}"), "series"])
    return [series for series in colors if series in own][-1]


def draw_fig25(table: pd.DataFrame, figure: Figure) -> None:
    """A line a network, a column an eigenvalue along training, one curve a depth."""
    colors = size_colors(table)
    panels = [panel for panel in table["panel"].unique() if "eigenvalue" in panel.split(" | ")[0]]
    kinds = sorted({panel.split(" | ")[0] for panel in panels}, key=_place)
    names = [name for name in ORDER if f"{kinds[0]} | {name}" in panels]
    grid = figure.subplots(len(names), len(kinds), squeeze=False, sharey="col")
    for line, name in zip(grid, names, strict=True):
        for ax, kind in zip(line, kinds, strict=True):
            _draw_eigenvalue(ax, table, kind, name, colors)
        line[0].set_ylabel(_line_label(table, name), fontsize=12)
    for ax in grid[-1]:
        ax.set_xlabel("training step")
    for ax, kind in zip(grid[0], kinds, strict=True):
        ax.set_title(_title(kind))
        fitting_scale(ax, pd.concat([rows_of(table, f"{kind} | {name}") for name in names]))  # of all lines, once
        headroom(ax, above=0.2, below=0)
    hollow = STOPPED if (table["flag"] != "").any() else ""
    legend(figure, colors, band=BAND, edge="$2/\\eta_0$", hollow=hollow, left_out=left_out(table))
    theirs = [
        draw_points(ax, rows_of(table, f"{PUBLISHED_POINTS} | {kind} | {name}"), colors)
        for line, name in zip(grid, names, strict=True)
        for ax, kind in zip(line, kinds, strict=True)
    ]
    if any(theirs):
        add_to_legend(figure, "the authors' run, by epochs")


def _line_label(table: pd.DataFrame, name: str) -> str:
    """A network with the learning rate at which it is measured, by its threshold 2 / eta_0 (tables hold six digits)."""
    edge = table.loc[table["panel"].str.endswith(f" | {name}") & (table["series"] == EDGE), "y"]
    return f"{name}, $\\eta_0={float(f'{2 / edge.iloc[0]:.5g}'):g}$"


def _place(kind: str) -> tuple[bool, int]:
    return kind.startswith("NTK"), int(kind.rsplit(" ", 1)[1])


def _title(kind: str) -> str:
    index = kind.rsplit(" ", 1)[1]
    return f"$\\lambda_{{{index}}}$ of " + ("the NTK" if kind.startswith("NTK") else "$\\gamma^2 H$")


def _draw_eigenvalue(ax: Axes, table: pd.DataFrame, kind: str, name: str, colors: dict[str, object]) -> None:
    own = rows_of(table, f"{kind} | {name}")
    draw_widths(ax, own, colors)
    draw_edge(ax, own, text="")
    found = statistic(table, f"{LATE} | {kind} | {name}")
    if found:
        write(ax, f"exponent in $L$, second half:\n{found}", x=0.97)
