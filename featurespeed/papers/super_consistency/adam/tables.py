"""Artefact tables of Figures 20 and 21 of the second paper (arXiv:2402.17457): ConvNets with Adam."""

from __future__ import annotations

import pandas as pd

from featurespeed.drawing.published_rates import published_rows
from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import row_table
from featurespeed.papers.super_consistency.adam.published import BEST_RATES, STEP, comparable
from featurespeed.papers.super_consistency.adam.spec import COMMON
from featurespeed.papers.super_consistency.preconditioned_rows import preconditioned_parts, without_losses
from featurespeed.sweeps.transfer import settings


def tabulate_fig20(records: pd.DataFrame) -> pd.DataFrame:
    """Transfer of the learning rate and sharpness of every network over its depth, in panels ``<kind> | <network>``."""
    return without_losses(artefact_table(*preconditioned_parts(records)))


def tabulate_fig21(records: pd.DataFrame) -> pd.DataFrame:
    """The same over the width; beside one rate for all layers the best rates of the authors' own sweep, if the network
    and the data are theirs.
    """
    return without_losses(artefact_table(*preconditioned_parts(records), published(records)))


def published(records: pd.DataFrame) -> pd.DataFrame:
    """Best learning rates of the authors' sweep against ``N``; none for another network or other data."""
    told = settings(records)
    if COMMON not in told["networks"] or not comparable(told, COMMON):
        return row_table([])
    return published_rows(COMMON, BEST_RATES, STEP)
