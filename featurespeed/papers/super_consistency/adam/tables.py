"""Artefact tables of Figures 20 and 21 of the second paper (arXiv:2402.17457): ConvNets with Adam.

The sharpness is that of the preconditioned Hessian, ``lambda_max(D P^-1 H)``, with the learning rates in ``D``. Seeds
of which a network failed are left out of what is measured along training, up to a fifth of those of a size
(:func:`featurespeed.sweeps.transfer.failed_seeds`).
"""

from __future__ import annotations

import pandas as pd

from featurespeed.drawing.published_rates import published_rows
from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import row_table, transfer_parts
from featurespeed.papers.super_consistency.adam.published import BEST_RATES, STEP, comparable
from featurespeed.papers.super_consistency.adam.spec import COMMON, PRECONDITIONED
from featurespeed.sweeps.transfer import settings


def tabulate_fig20(records: pd.DataFrame) -> pd.DataFrame:
    """Transfer of the learning rate and sharpness of every network over its depth, in panels ``<kind> | <network>``."""
    return _without_losses(artefact_table(*transfer_parts(records, PRECONDITIONED, leave_out=True)))


def tabulate_fig21(records: pd.DataFrame) -> pd.DataFrame:
    """The same over the width; beside one rate for all layers the best rates of the authors' own sweep, if the network
    and the data are theirs.
    """
    parts = list(transfer_parts(records, PRECONDITIONED, leave_out=True))
    return _without_losses(artefact_table(*parts, published(records)))


def published(records: pd.DataFrame) -> pd.DataFrame:
    """Best learning rates of the authors' sweep against ``N``; none for another network or other data."""
    told = settings(records)
    if COMMON not in told["networks"] or not comparable(told, COMMON):
        return row_table([])
    return published_rows(COMMON, BEST_RATES, STEP)


def _without_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Rows but for the loss along training, which these figures do not show."""
    return table[~table["panel"].str.startswith("loss | ")].reset_index(drop=True)
