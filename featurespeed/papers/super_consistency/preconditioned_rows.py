"""Rows of artefact tables of networks with Adam: transfer of the learning rate, and the sharpness in Adam's own units.

The sharpness is that of the preconditioned Hessian, ``lambda_max(D P^-1 H)``, with the learning rates in ``D``. Seeds
of which a network failed are left out of what is measured along training, up to a fifth of those of a size
(:func:`featurespeed.sweeps.transfer.failed_seeds`).

A network that failed everywhere before it was measured has its panels nevertheless, with its failures
(:mod:`featurespeed.papers.super_consistency.failures`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from featurespeed.drawing.transfer_rows import adam_edge_rows, loss_rows, shift_table, transfer_parts
from featurespeed.papers.super_consistency.failures import failed_before
from featurespeed.papers.super_consistency.spec import PRECONDITIONED
from featurespeed.sweeps.transfer import of_network, settings


def preconditioned_parts(records: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Everything of every network, of those that failed before they could be measured, too, in panels ``<kind> |
    <network>``.
    """
    failed = failed_before(records)
    if not failed or set(records["series"]) - set(failed):  # raises where nothing was measured and nothing failed
        yield from transfer_parts(records, PRECONDITIONED, leave_out=True)
    for name in failed:
        yield from failed_parts(name, records)


def failed_parts(name: str, records: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The transfer of such a network, and its threshold at the smallest of the rates where it was to be measured.

    As elsewhere where every measured rate has failed (:func:`featurespeed.drawing.width_rows.shown_rate`).
    """
    rows, told = of_network(records, name), settings(records)
    network = told["networks"][name]
    yield from loss_rows(name, rows)
    yield shift_table(name, rows)
    rate, steps = min(network["measured"] or network["learning_rates"]), network.get("steps") or told["steps"]
    yield adam_edge_rows(name, rows.assign(step=steps), rate, told)  # the panel is as long as training, which was not


def without_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Rows but for the loss along training, which these figures do not show."""
    return table[~table["panel"].str.startswith("loss | ")].reset_index(drop=True)
