"""Figures 20 and 21 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from featurespeed.drawing.published_rates import draw_published_rates
from featurespeed.papers.super_consistency.adam.spec import ADAM, ADAMW, COMMON, ONE, ONE_NO_ROOT, TWO, TWO_NO_ROOT
from featurespeed.papers.super_consistency.preconditioned_panels import draw_preconditioned

OVER_DEPTH = (ONE, TWO, ONE_NO_ROOT, TWO_NO_ROOT)
OVER_WIDTH = (ADAM, ADAMW, COMMON)


def draw_fig20(table: pd.DataFrame, figure: Figure) -> None:
    """A column a network: transfer of the learning rate above, sharpness along training below, one curve a depth."""
    draw_preconditioned(table, figure, OVER_DEPTH)


def draw_fig21(table: pd.DataFrame, figure: Figure) -> None:
    """The same, one curve a width; on the axis of the learning rates the best ones of the authors' own sweep."""
    axes = draw_preconditioned(table, figure, OVER_WIDTH)
    draw_published_rates(table, figure, axes[0], OVER_WIDTH, "width")
