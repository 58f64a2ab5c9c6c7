"""Figures 2, 3 and 23 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from featurespeed.drawing.distance_panels import draw_distances, draw_exponents, draw_over_size
from featurespeed.drawing.plotting import INK, UNORDERED, ordered_colors
from featurespeed.drawing.width_curves import (
    draw_edge,
    draw_points,
    draw_widths,
    fitting_scale,
    from_zero,
    headroom,
    left_out,
    legend,
    network_label,
    statistic,
    width_axis,
    width_colors,
    write,
)
from featurespeed.papers.super_consistency.spectra.tables import (
    DISTANCES,
    LATE_SHARPNESS,
    NTK_GROWTH,
    OVER_WIDTH,
    PUBLISHED,
    SPREAD,
    STEEPNESS,
    TRACE_FALL,
)
from featurespeed.sweeps.convergence import EARLY, WARM_UP

QUANTITY_COLORS = dict(zip(DISTANCES, UNORDERED, strict=False))
LABELS = {
    "training loss": "training loss",
    "NTK eigenvalue": "$\\lambda_1$ of the NTK",
    "sharpness": "sharpness $\\lambda_1(\\gamma^2 H)$",
    "Hessian trace": "trace of $\\gamma^2 H$",
}
BAND = "band: range over seeds"
EDGE_TEXT = "$2/\\eta_0$, edge of stability of GD"
STOPPED = "a seed has diverged, died or not converged"
POINTS_TEXT = "the authors' plots, with the error of the reading"
NEAR = 0.03  # of training: at most so far from a step of Figure 23 are the published points that are drawn there


def _panel(table: pd.DataFrame, panel: str) -> pd.DataFrame:
    return table[table["panel"] == panel]


def _stopped(table: pd.DataFrame) -> str:
    """The legend's text for hollow points, where there are any."""
    return STOPPED if (table["flag"] != "").any() else ""


def _points(table: pd.DataFrame, panel: str) -> pd.DataFrame:
    """The published points that belong beside the curves of a panel."""
    return _panel(table, f"{PUBLISHED} | {panel}")


# --- Figure 2 ---------------------------------------------------------------------------------------------------------


def draw_fig02(table: pd.DataFrame, figure: Figure) -> None:
    """Upper line: eigenvalues along training. Lower line: how much they differ over widths."""
    colors = width_colors(table)
    indices = sorted(int(name.split()[1]) for name in table["panel"].unique() if name.startswith("eigenvalue "))
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.0, 1.05])
    titles = {f"eigenvalue {k}": f"$\\lambda_{{{k}}}$ of $\\gamma^2 H$" for k in indices}
    titles |= {"NTK eigenvalue 1": LABELS["NTK eigenvalue"]}
    axes = upper.subplots(1, len(titles), squeeze=False)[0]
    for ax, (panel, title) in zip(axes, titles.items(), strict=True):
        draw_widths(ax, _panel(table, panel), colors)
        draw_points(ax, _points(table, panel), colors)
        draw_edge(ax, _panel(table, panel), text="")
        from_zero(ax, _panel(table, panel))
        ax.set_title(title)
        ax.set_xlabel("training step")
    hessian, ntk = lower.subplots(1, 2)
    _draw_spread(hessian, _panel(table, f"{SPREAD} | Hessian"), indices, "eigenvalues of $\\gamma^2 H$: CV over widths")
    _draw_spread(ntk, _panel(table, f"{SPREAD} | NTK"), None, "eigenvalues of the NTK: CV over widths")
    last = _panel(table, f"eigenvalue {indices[0]}")["x"].max()
    hessian.axvspan(0, EARLY * last, color="#f0f0f0", linewidth=0, zorder=0)
    steepness, growth = statistic(table, STEEPNESS.format(indices[-1])), statistic(table, NTK_GROWTH)
    if steepness:
        text = f"|exponent in $N$| of $\\lambda_{{{indices[-1]}}}$ minus of $\\lambda_1$, early (shaded): {steepness}"
        write(hessian, text, x=0.97)
    if growth:
        write(ntk, f"|exponent in $N$| of $\\lambda_1$, last step minus first: {growth}", x=0.97)
    drawn = any(len(_points(table, panel)) for panel in titles)
    legend(figure, colors, band=BAND, edge=EDGE_TEXT, hollow=_stopped(table), published=POINTS_TEXT if drawn else "",
           left_out=left_out(table))  # fmt: skip


def _index_colors(indices: list[int]) -> dict[int, tuple]:
    """One colour an eigenvalue, from another sequential map than the widths."""
    colormap = matplotlib.colormaps["inferno"]
    return {index: colormap(0.18 + 0.56 * place / max(len(indices) - 1, 1)) for place, index in enumerate(indices)}


def _draw_spread(ax: Axes, table: pd.DataFrame, marked: list[int] | None, title: str) -> None:
    """CV against the step, one line an eigenvalue; ``marked`` ones thick and named."""
    indices = sorted(int(name.split()[1]) for name in table["series"].unique())
    colors = _index_colors(indices)
    marked = indices if marked is None else marked
    for index in indices:
        own = table[table["series"] == f"eigenvalue {index}"].sort_values("x")
        thick = index in marked
        ax.plot(own["x"], own["y"], color=colors[index], linewidth=1.7 if thick else 0.7,
                marker="o" if thick else "", markersize=3, zorder=5 if thick else 3)  # fmt: skip
    handles = [Line2D([], [], color=colors[index], linewidth=2) for index in marked if index in indices]
    texts = [f"$\\lambda_{{{index}}}$" for index in marked if index in indices]
    ax.set_ylim(bottom=0)
    headroom(ax, above=0.22, below=0)
    ax.legend(handles, texts, loc="upper left", ncols=len(handles), borderaxespad=0.2)
    ax.set_title(title)
    ax.set_xlabel("training step")


# --- Figure 3 ---------------------------------------------------------------------------------------------------------


def draw_fig03(table: pd.DataFrame, figure: Figure) -> None:
    """A column a quantity: its curves, and distances to the widest network with fits and the noise floor of each width;
    last, exponents in t and N.
    """
    colors = width_colors(table)
    proxy = next(reversed(colors))
    colors = colors | {proxy: INK}
    grid = figure.add_gridspec(2, 4, width_ratios=[1, 1, 1, 1.08])
    for column, name in enumerate(DISTANCES):
        ax = figure.add_subplot(grid[0, column])
        draw_widths(ax, _panel(table, name), colors)
        draw_points(ax, _points(table, name), colors)
        from_zero(ax, _panel(table, name))
        ax.set_title(LABELS[name])
        ax.set_xlabel("training step")
        below = figure.add_subplot(grid[1, column])
        draw_distances(below, table, name, colors, [_points(table, f"distance | {name}")])
        if column == 0:
            below.set_ylabel("distance to the proxy")
    draw_exponents(figure.add_subplot(grid[0, 3]), table, QUANTITY_COLORS)
    over_width = figure.add_subplot(grid[1, 3])
    draw_over_size(over_width, table, QUANTITY_COLORS)
    over_width.set_title("distance averaged over training")
    drawn = any(len(_points(table, panel)) for name in DISTANCES for panel in (name, f"distance | {name}"))
    legend(
        figure, colors, proxy=proxy, band=f"{BAND}; bars below: standard error", hollow=_stopped(table),
        fit=f"fit $a\\,t^b$ above the floor, first {WARM_UP:.0%} of the steps left out",
        floor="noise floor: standard error over seeds", published=POINTS_TEXT if drawn else "",
        left_out=left_out(table),
    )  # fmt: skip


# --- Figure 23 --------------------------------------------------------------------------------------------------------


def draw_fig23(table: pd.DataFrame, figure: Figure) -> None:
    """A line a network, a column a quantity: values against the width at several steps."""
    panels = [name.split(" | ") for name in table["panel"].unique()]
    labels = sorted({label for name, *rest in panels if name in OVER_WIDTH for label in rest})
    steps = sorted({int(name.split()[1]) for name in table["series"].unique() if name.startswith("step ")})
    colors = ordered_colors([f"step {step}" for step in steps])
    grid = figure.subplots(len(labels), len(OVER_WIDTH), squeeze=False)
    drawn = False
    for line, label in zip(grid, labels, strict=True):
        widths = _panel(table, f"sharpness | {label}")["x"]
        for ax, name in zip(line, OVER_WIDTH, strict=True):
            own = _panel(table, f"{name} | {label}")
            draw_widths(ax, own, colors, marker="o", markersize=3.2)
            points = _at_steps(_points(table, f"{name} | {label}"), steps)
            draw_points(ax, points, colors)
            drawn = drawn or len(points) > 0
            draw_edge(ax, own, text="")
            width_axis(ax, widths, label=label == labels[-1])
            fitting_scale(ax, own)
            headroom(ax, above=0.22, below=0)
            if label == labels[0]:
                ax.set_title(LABELS[name])
        line[0].set_ylabel(network_label(label), fontsize=12)
        _fig23_numbers(table, dict(zip(OVER_WIDTH, line, strict=True)), label)
    text = f"{POINTS_TEXT}, within {NEAR:.0%} of training of the step" if drawn else ""
    legend(figure, colors, band=BAND, edge=EDGE_TEXT, hollow=_stopped(table), published=text, left_out=left_out(table))


def _at_steps(points: pd.DataFrame, steps: list[int]) -> pd.DataFrame:
    """Points against the step as points against the width, each at the nearest of the steps if that is near."""
    nearest = points["x"].map(lambda x: min(steps, key=lambda step: abs(step - x)))
    widths = points["series"].str.removeprefix("N=").astype(float)
    near = (nearest - points["x"]).abs() <= NEAR * max(steps)
    return points.assign(x=widths, series="step " + nearest.astype(int).astype(str))[near]


def _fig23_numbers(table: pd.DataFrame, axes: dict[str, Axes], label: str) -> None:
    """The statistics of the claims, each in the panel of its quantity."""
    for name, statistic_name, text in (
        ("Hessian trace", TRACE_FALL, "|exponent in $N$|, first\nminus last tenth: {}"),
        ("sharpness", LATE_SHARPNESS, "exponent in $N$, second half:\n{}"),
    ):
        found = statistic(table, f"{statistic_name} | {label}")
        if found:
            write(axes[name], text.format(found), x=0.97)
