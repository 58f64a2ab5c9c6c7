"""Figures 20 and 21 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from featurespeed.drawing.published_rates import draw_published_rates
from featurespeed.drawing.transfer_panels import (
    RATE,
    draw_columns,
    network_names,
    panel,
    rate_of,
    short_numbers,
    size_colors,
)
from featurespeed.drawing.transfer_rows import TRANSFER
from featurespeed.drawing.width_curves import headroom, network_label, write
from featurespeed.papers.super_consistency.adam.spec import ADAM, ADAMW, COMMON, ONE, ONE_NO_ROOT, TWO, TWO_NO_ROOT

OVER_DEPTH = (ONE, TWO, ONE_NO_ROOT, TWO_NO_ROOT)
OVER_WIDTH = (ADAM, ADAMW, COMMON)
MOST_LETTERS = 32  # of a title in one line
SMALL = 1e-4  # learning rates below it are too long for their ticks, and are counted in 10^-5


def draw_fig20(table: pd.DataFrame, figure: Figure) -> None:
    """A column a network: transfer of the learning rate above, sharpness along training below, one curve a depth."""
    _draw(table, figure, OVER_DEPTH)


def draw_fig21(table: pd.DataFrame, figure: Figure) -> None:
    """The same, one curve a width; on the axis of the learning rates the best ones of the authors' own sweep."""
    axes = _draw(table, figure, OVER_WIDTH)
    draw_published_rates(table, figure, axes[0], OVER_WIDTH, "width")


def _draw(table: pd.DataFrame, figure: Figure, order: Sequence[str]) -> np.ndarray:
    """Columns under short titles: the axes of the panels say what they show."""
    axes = draw_columns(table, figure, order)
    for column, name in zip(axes.T, network_names(table, order), strict=True):
        column[0].set_title(network_title(name), linespacing=1.05)
        column[1].set_title(with_powers(f"sharpness at $\\eta_0={rate_of(table, name):g}$"))
        write(column[1], failed_text(table, name), 0.03, 0.06)
        for text in column[1].texts:
            text.set_text(with_powers(text.get_text()))
        headroom(column[1], above=0.12, below=0)  # the name of the threshold stands right under the numbers
        short_numbers(column[1].yaxis)
        if panel(table, "transfer", name)["x"].min() < SMALL:
            column[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e-5:.4g}"))
            column[0].set_xlabel(f"{RATE} in $10^{{-5}}$")
    return axes


def failed_text(table: pd.DataFrame, name: str) -> str:
    """Why sizes of a network have no curve of the sharpness: it is first measured some steps after the start."""
    sizes, measured = size_colors(panel(table, TRANSFER, name)), set(panel(table, "sharpness", name)["series"])
    missing = [f"${size}$" for size in sizes if size not in measured]
    if not missing:
        return ""
    which = f"{', '.join(missing)}: " if len(missing) < len(sizes) else ""
    return f"{which}every network failed\nbefore it was measured"


def network_title(name: str) -> str:
    """A network of the settings as a title, in two lines if it is a long one."""
    lines = network_label(name).replace(", ", ",\n", 1) if len(name) > MOST_LETTERS else network_label(name)
    return lines.replace("1/sqrt(L)", "$1/\\sqrt{L}$")


def with_powers(text: str) -> str:
    """A text with ``8e-05`` or ``2e+30`` in its mathematics as a power of ten.

    >>> print(with_powers("at $\\\\eta_0=8e-05$ and $\\\\eta_0=2e+30$"))
    at $\\eta_0=8 \\cdot 10^{-5}$ and $\\eta_0=2 \\cdot 10^{30}$
    """
    return re.sub(r"(?<=\d)e([-+])0*(\d+)", lambda found: f" \\cdot 10^{{{found[1].strip('+')}{found[2]}}}", text)
