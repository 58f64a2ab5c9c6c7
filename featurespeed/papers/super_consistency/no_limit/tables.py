"""Artefact tables of Figures 6, 7 and 8 of the second paper (arXiv:2402.17457): networks without a limit.

Divergence is the result: rates at which networks fail are points of the transfer, and how many do is a panel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import at_rate, loss_rows, networks, row_table, transfer_parts
from featurespeed.drawing.width_rows import exponent_row, interval_row, series_of, summary_row, varied
from featurespeed.statistics import proportion_interval
from featurespeed.sweeps import transfer
from featurespeed.sweeps.dependence import exponents

HESSIAN = "sharpness"
FIRST, FIRST_BEST = "first transfer", "first best"  # panels of the loss after the first steps
INITIAL, FAILURES = "initial sharpness", "share that failed"
INITIAL_EXPONENT = "exponent of the initial sharpness"


def tabulate_fig06(records: pd.DataFrame) -> pd.DataFrame:
    """Transfer at the end and after the first steps, sharpness along training, initial sharpness, and what failed.

    ``first transfer`` and ``first best``: as ``transfer`` and ``best``, of training cut short. ``initial sharpness``:
    against the depth, one series a network. ``share that failed``: against the learning rate, one series a depth.
    """
    first = transfer.settings(records)["first_steps"]
    parts = [*transfer_parts(records), *_initial(records)]
    for name, rows in networks(records):
        parts += loss_rows(name, rows[rows["step"] <= first], FIRST, FIRST_BEST)
        parts.append(failed_rows(name, rows))
    return artefact_table(*parts)


def tabulate_fig07(records: pd.DataFrame) -> pd.DataFrame:
    """Transfer and sharpness of every warm-up over the width, and the initial sharpness."""
    return artefact_table(*transfer_parts(records), *_initial(records))


def tabulate_fig08(records: pd.DataFrame) -> pd.DataFrame:
    """Transfer, sharpness and loss over the depth, and what diverged, died or ended at chance.

    Seeds of which a network failed are left out of what is measured along training, as the claims do.
    """
    parts = list(transfer_parts(records, leave_out=True))
    parts += [failed_rows(name, rows) for name, rows in networks(records)]
    return artefact_table(*parts)


def _initial(records: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Sharpness before the first update against the size; it is the same at every learning rate and warm-up."""
    for name, rows in networks(records):
        size, found = varied(rows), []
        rates = transfer.measured_rates(rows, HESSIAN)
        own = at_rate(rows, rates[0])
        own = own[(own["quantity"] == HESSIAN) & (own["index"] == 1) & (own["step"] == 0)]
        for value, group in own.groupby(size):
            found.append(summary_row(INITIAL, name, float(value), group))
        yield row_table(found)
        sizes, steps, values = transfer.along_training(rows, HESSIAN, rates[0], size=size)
        at_start = values[..., 0] if 0 in steps else np.full(values.shape[:2], np.nan)
        yield row_table(
            list(
                exponent_row(f"statistic | {name}", INITIAL_EXPONENT, 0.0, lambda s=sizes, v=at_start: exponents(s, v))
            )
        )


def failed_rows(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Share of the seeds that diverged, died or ended at chance against the learning rate, one series a size;
    Clopper-Pearson intervals.
    """
    size = varied(rows)
    losses, found = transfer.late_losses(rows, size), []
    for s, value in enumerate(losses.sizes):
        for r, rate in enumerate(losses.rates):
            failed = int(np.isinf(losses.values[:, s, r]).sum())
            share = proportion_interval(failed, len(losses.values))
            found.append(interval_row(f"{FAILURES} | {name}", series_of(value, size), float(rate), share))
    return row_table(found)
