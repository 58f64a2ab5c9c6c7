"""Panels about networks with Adam: transfer of the learning rate above, preconditioned sharpness below."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
from featurespeed.drawing.transfer_rows import TRANSFER
from featurespeed.drawing.width_curves import headroom, network_label, write

MOST_LETTERS = 32  # of a title in one line
SMALL = 1e-4  # learning rates below it are too long for their ticks, and are counted in 10^-5


def draw_preconditioned(table: pd.DataFrame, figure: Figure, order: Sequence[str]) -> np.ndarray:
    """A column a network, under short titles: the axes of the panels say what they show."""
    axes = draw_columns(table, figure, order)
    for column, name in zip(axes.T, network_names(table, order), strict=True):
        finish_transfer(column[0], table, name)
        finish_sharpness(column[1], table, name)
    return axes


def finish_transfer(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """Title, and learning rates that are too small to be written out."""
    ax.set_title(network_title(name), linespacing=1.05)
    if panel(table, TRANSFER, name)["x"].min() < SMALL:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e-5:.4g}"))
        ax.set_xlabel(f"{RATE} in $10^{{-5}}$")


def finish_sharpness(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """Title with the learning rate, sizes that have no curve, and numbers that stay short."""
    ax.set_title(with_powers(f"sharpness at $\\eta_0={rate_of(table, name):g}$"))
    write(ax, failed_text(table, name), 0.03, 0.06)
    for text in ax.texts:
        text.set_text(with_powers(text.get_text()))
    headroom(ax, above=0.12, below=0)  # the name of the threshold stands right under the numbers
    short_numbers(ax.yaxis)


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
    return network_label(name).replace(", ", ",\n", 1) if len(name) > MOST_LETTERS else network_label(name)


def with_powers(text: str) -> str:
    """A text with ``8e-05`` or ``2e+30`` in its mathematics as a power of ten.

    >>> print(with_powers("at $\\\\eta_0=8e-05$ and $\\\\eta_0=2e+30$"))
    at $\\eta_0=8 \\cdot 10^{-5}$ and $\\eta_0=2 \\cdot 10^{30}$
    """
    return re.sub(r"(?<=\d)e([-+])0*(\d+)", lambda found: f" \\cdot 10^{{{found[1].strip('+')}{found[2]}}}", text)
