"""Figures 17, 18 and 19 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from featurespeed.drawing.transfer_panels import draw_lines
from featurespeed.papers.super_consistency.images.spec import DEPTH_MUP, NO_ROOT
from featurespeed.papers.super_consistency.spec import MUP, NTP

ORDER = (MUP, NTP, DEPTH_MUP, NO_ROOT)


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """A line a network: transfer of the learning rate, sharpness and loss along training, one curve a size."""
    draw_lines(table, figure, ORDER)
