"""Table 1 of training beyond the edge of stability: all runs, drawn from the artefact table and from nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from featurespeed.drawing.plotting import INK
from featurespeed.papers.edge_of_stability.descent.drawing import (
    FAILURE_COLORS,
    OURS,
    keys_of,
    network_label,
    of_key,
    power,
    scaling_label,
)
from featurespeed.papers.edge_of_stability.descent.tables import (
    ACCURACY,
    BEYOND,
    DEAD,
    DIVERGED,
    ENTROPY,
    LOSS_RATIO,
    MEAN_COSINE,
    PARTICIPATION,
    SHARPNESS,
    STABLE,
    TRAINED,
    UNCONVERGED,
)
from featurespeed.papers.edge_of_stability.shared import GEOMETRY_AWARE, Key

LINE_HEIGHT = 0.158  # inches
MOST_LINES = 70  # in one column of the page
SIZE = 8.2
NOTE = (
    "finite: seeds that trained to the end / all, with the 95% Clopper-Pearson interval of the share; dead: a layer "
    "is silent, or no gradient reaches it; loss: largest over initial minibatch loss, median over all seeds; beyond "
    "(share of steps beyond the edge) and cosine (of new and cumulative update): mean over all steps taken, of all "
    "seeds; other numbers: mean over the seeds that trained, 95% interval, bootstrap over these seeds (*: not "
    f"converged). Ranks, scalings, schedules and kappa {OURS}."
)
NOTE_WIDTH = 160  # characters a column of the page has room for


@dataclass(frozen=True)
class Column:
    """One column of the table: its heading, its place from 0 to 1, and what a row of its panel looks like."""

    title: str
    x: float
    panel: str
    text: Callable[[pd.Series], str]


@dataclass(frozen=True)
class Line:
    """One line: the heading of a group of runs (``kappa`` is None), or one of its kappas with its rows by panel."""

    key: Key
    kappa: float | None = None
    rows: Mapping[str, pd.Series] | None = None


def digits(value: float) -> str:
    """Three digits, and no more than two after the point; one digit and a power of ten from a million on."""
    if abs(value) >= 999_500:
        return f"{value:.0e}".replace("e+", "e")
    places = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "−")


def estimate(row: pd.Series) -> str:
    """A mean with its interval, where there is one; a star where an eigenvalue behind it has not converged."""
    star = "*" if row["flag"] == UNCONVERGED else ""
    if not np.isfinite(row["y_low"]):
        return digits(row["y"]) + star
    return f"{digits(row['y'])} [{digits(row['y_low'])}, {digits(row['y_high'])}]{star}"


def count(row: pd.Series) -> str:
    """How many seeds a share stands for."""
    return f"{round(row['y'] * row['n'])}/{row['n']:.0f}"


def share_of_all(row: pd.Series) -> str:
    """Those that trained, of all, with the interval of the share."""
    bounds = f" [{row['y_low']:.2f}, {row['y_high']:.2f}]" if np.isfinite(row["y_low"]) else ""
    return count(row) + bounds


def accuracy(row: pd.Series) -> str:
    """A share with its interval, to a tenth of a percent."""
    values = [row[name] for name in ("y", "y_low", "y_high")]
    if not np.isfinite(values).all():
        return f"{values[0]:.3f}"
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


COLUMNS = (
    Column("finite", 0.05, TRAINED, share_of_all),
    Column("dead", 0.175, DEAD, lambda row: count(row) if row["y"] else "0"),
    Column("loss", 0.22, LOSS_RATIO, lambda row: f"×{power(row['y'])}"),
    Column("beyond", 0.27, BEYOND, lambda row: f"{row['y']:.0%}"),
    Column("accuracy", 0.325, ACCURACY, accuracy),
    Column("sharpness", 0.48, SHARPNESS, estimate),
    Column("partic. ratio", 0.61, PARTICIPATION, estimate),
    Column("stable rank", 0.735, STABLE, estimate),
    Column("entropy rank", 0.845, ENTROPY, estimate),
    Column("cosine", 0.963, MEAN_COSINE, lambda row: digits(row["y"])),
)


def draw_table1(table: pd.DataFrame, figure: Figure) -> None:
    """A line a kappa below the heading of its network, scaling and schedule; side by side where there are many."""
    groups = [[Line(key), *_lines(table, key)] for key in keys_of(table)]
    pages = _pages(groups)
    longest = max(map(len, pages)) + 2
    figure.set_size_inches(0.3 + 8.1 * len(pages), LINE_HEIGHT * longest + 0.75)
    axes = figure.subplots(1, len(pages), squeeze=False)[0]
    for ax, page in zip(axes, pages, strict=True):
        _draw_page(ax, page, longest)
    figure.supxlabel("\n".join(textwrap.wrap(NOTE, NOTE_WIDTH * len(pages))), fontsize=8.5, color="#444444")


def _lines(table: pd.DataFrame, key: Key) -> list[Line]:
    panels = {column.panel: of_key(table, column.panel, key).set_index("x") for column in COLUMNS}
    panels[DIVERGED] = of_key(table, DIVERGED, key).set_index("x")
    return [
        Line(key, kappa, {name: rows.loc[kappa] for name, rows in panels.items() if kappa in rows.index})
        for kappa in panels[TRAINED].index
    ]


def _pages(groups: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Groups in columns of about the same height, none of them torn."""
    total = sum(map(len, groups))
    target = total / -(-total // MOST_LINES)
    pages: list[list[Line]] = [[]]
    for group in groups:
        # A group goes where more than half of it fits.
        if pages[-1] and len(pages[-1]) + len(group) / 2 > target:
            pages.append([])
        pages[-1] += group
    return pages


def _draw_page(ax: Axes, page: Sequence[Line], lines: int) -> None:
    ax.set(xlim=(0, 1.01), ylim=(-lines + 0.5, 0.5))
    ax.set_axis_off()
    _write(ax, 0.0, 0, "$\\kappa$", fontweight="bold")
    for column in COLUMNS:
        _write(ax, column.x, 0, column.title, fontweight="bold")
    ax.plot([0, 1], [-0.55, -0.55], color=INK, linewidth=0.8)
    for place, line in enumerate(page, start=1):
        if line.kappa is None:
            _draw_heading(ax, line.key, -place)
        else:
            _draw_line(ax, line, -place)
    ax.plot([0, 1], [-len(page) - 0.55] * 2, color=INK, linewidth=0.8)


def _draw_heading(ax: Axes, key: Key, y: float) -> None:
    geometric = key.schedule == GEOMETRY_AWARE
    ax.add_patch(Rectangle((0, y - 0.5), 1, 1, facecolor="#e9eef3", linewidth=0))
    schedule = ", geometry-aware schedule (ours), $\\kappa_g$" if geometric else ""
    _write(ax, 0.005, y, f"{network_label(key.network)}, {scaling_label(key.scaling)}{schedule}", fontweight="bold")


def _draw_line(ax: Axes, line: Line, y: float) -> None:
    """Shaded as far as seeds failed: lightly, so that numbers stay legible."""
    left = 1.0
    for name in (DEAD, DIVERGED):
        share = line.rows[name]["y"]
        color = FAILURE_COLORS[name]
        ax.add_patch(Rectangle((left - share, y - 0.5), share, 1, facecolor=color, alpha=0.16, linewidth=0))
        left -= share
    _write(ax, 0.0, y, f"{line.kappa:g}")
    for column in COLUMNS:
        if column.panel in line.rows:
            _write(ax, column.x, y, column.text(line.rows[column.panel]))
        else:
            _write(ax, column.x, y, "–", color="#888888")


def _write(ax: Axes, x: float, y: float, text: str, **style: object) -> None:
    ax.text(x, y, text, **({"fontsize": SIZE, "va": "center", "ha": "left", "color": INK, "in_layout": False} | style))
