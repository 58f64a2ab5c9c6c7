"""Figures 4c, 15 and 16 of the second paper (arXiv:2402.17457), and CompleteP, drawn from artefact tables only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.published_rates import add_to_legend, draw_points
from featurespeed.drawing.transfer_panels import (
    RATE,
    STEP,
    draw_sharpness,
    draw_transfer,
    legends,
    network_names,
    panel,
    plain_ticks,
    rate_of,
    share_losses,
    short_numbers,
    size_colors,
)
from featurespeed.drawing.width_curves import draw_widths, fitting_scale, headroom, statistic, write
from featurespeed.papers.super_consistency.preconditioned_panels import (
    draw_preconditioned,
    finish_sharpness,
    finish_transfer,
    with_powers,
)
from featurespeed.papers.super_consistency.transformers.spec import (
    COMPLETE_P,
    DEPTH_MUP,
    GPT,
    GPT_NO_ROOT,
    NO_ROOT,
    POST_LN,
    POST_LN_SP,
    U_MUP,
    VIT,
    VIT_NO_ROOT,
)
from featurespeed.papers.super_consistency.transformers.tables import (
    PLAIN,
    PLAIN_EXPONENT,
    PUBLISHED_LOSSES,
    PUBLISHED_SHARPNESS,
)

THEIRS = "the authors' run"
ROOM = 1.5  # factor below the lowest of their losses


def draw_fig04c(table: pd.DataFrame, figure: Figure) -> None:
    """A line a network: transfer, sharpness of the Hessian in units of the rate, and with Adam's preconditioner; over
    ours the points of the authors' run.
    """
    axes, colors = _lines(table, figure, (VIT, VIT_NO_ROOT)), size_colors(table)
    theirs = [
        draw_points(ax, panel(table, kind, VIT), colors)
        for ax, kind in zip(axes[0], (PUBLISHED_LOSSES, PUBLISHED_SHARPNESS), strict=False)
    ]
    if any(theirs):
        add_to_legend(figure, f"{THEIRS} of 20 epochs; along training at the same share of it")
    _make_room(axes[0, 0], panel(table, PUBLISHED_LOSSES, VIT))


def _make_room(ax: Axes, points: pd.DataFrame) -> None:
    """Room for their losses, which are lower after longer training, and for the text below."""
    if len(points):
        ax.set_ylim(bottom=min(ax.get_ylim()[0], points["y"].min() / ROOM))
        plain_ticks(ax.yaxis)


def draw_fig15(table: pd.DataFrame, figure: Figure) -> None:
    """The same of the decoder, of which no points are known."""
    _lines(table, figure, (GPT_NO_ROOT, GPT))


def draw_fig16(table: pd.DataFrame, figure: Figure) -> None:
    """A column a parameterization: transfer of the learning rate above, sharpness along training below."""
    share_losses(list(draw_preconditioned(table, figure, (POST_LN, POST_LN_SP))[0]))


def draw_completep(table: pd.DataFrame, figure: Figure) -> None:
    """The same over the depth."""
    share_losses(list(draw_preconditioned(table, figure, (DEPTH_MUP, COMPLETE_P, U_MUP))[0]))


def _lines(table: pd.DataFrame, figure: Figure, order: Sequence[str]) -> np.ndarray:
    names, colors = network_names(table, order), size_colors(table)
    axes = figure.subplots(len(names), 3, squeeze=False, width_ratios=[1.12, 1.0, 1.0])
    for ax, text in zip(axes[-1], (RATE, STEP, STEP), strict=True):
        ax.set_xlabel(text)
    for line, name in zip(axes, names, strict=True):
        draw_transfer(line[0], table, name, colors)
        plain_ticks(line[0].yaxis)
        finish_transfer(line[0], table, name)
        _draw_plain(line[1], table, name, colors)
        draw_sharpness(line[2], table, name, colors)
        finish_sharpness(line[2], table, name)
        line[2].set_title(f"with Adam's preconditioner, {line[2].get_title('left').removeprefix('sharpness ')}")
    share_losses([line[0] for line in axes])
    legends(figure, table, colors)
    return axes


def _draw_plain(ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[str, object]) -> None:
    """The largest eigenvalue of the Hessian times ``N``, and ``1/sqrt(L)`` if the rates carry it; its exponent in L."""
    own = panel(table, PLAIN, name)
    draw_widths(ax, own, colors)
    fitting_scale(ax, own)
    ax.set_ylabel(f"sharpness ${'N' if name.endswith(NO_ROOT) else 'N L^{-1/2}'}\\,\\lambda_1(H)$")
    ax.set_title(with_powers(f"sharpness at $\\eta_0={rate_of(table, name):g}$"))
    found = statistic(table, f"{PLAIN_EXPONENT} | {name}")
    if found:
        write(ax, f"exponent in $L$, second half:\n{found}", x=0.97)
    headroom(ax, above=0.2, below=0)
    short_numbers(ax.yaxis)
