"""Artefact tables of Figures 1, 24 and 26 of the second paper (arXiv:2402.17457): transfer over the width.

Every function takes the long stage table of one artefact and returns the artefact table (``docs/tables.md``), of rows
as :mod:`featurespeed.drawing.transfer_rows` makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import (
    ARRIVAL_EXPONENT,
    SHARPNESS_EXPONENT,
    along_rows,
    at_rate,
    networks,
    point_row,
    row_table,
    transfer_parts,
)
from featurespeed.drawing.width_rows import exponent_row, guide_rows, series_of, summary_row
from featurespeed.sweeps import transfer
from featurespeed.sweeps.convergence import curves
from featurespeed.sweeps.dependence import arrival_exponents, late_exponents

NEAR_EDGE = "guide 0.9 * 2/learning rate"
EARLY_CURVES = 4  # steps at which the sharpness is drawn against the width


def tabulate_fig01(records: pd.DataFrame) -> pd.DataFrame:
    """Learning-rate transfer, sharpness and loss of every network, each in a panel ``<kind> | <network>``.

    ``transfer``: loss of the last tenth of training (y) against the base learning rate (x), one series a width; where a
    seed has failed, y is the loss of chance and the point flagged. ``best``: the best learning rate of every width.
    ``sharpness`` and ``loss``: against the step, at the learning rate that is best for all widths. ``statistic``: shift
    of the best learning rate, and the exponent in the width of the late sharpness at every learning rate (x) measured.
    """
    return artefact_table(*transfer_parts(records, bounded=False))


def tabulate_fig26(records: pd.DataFrame) -> pd.DataFrame:
    """As Figure 1, of one more network, and without the loss along training."""
    table = tabulate_fig01(records)
    return table[~table["panel"].str.startswith("loss | ")].reset_index(drop=True)


def tabulate_fig24(records: pd.DataFrame) -> pd.DataFrame:
    """The early steps of every network at the learning rate that the settings show, in panels ``<kind> | <network>``.

    ``loss`` and ``sharpness``: against the step, one series a width. ``arrival``: the edge, 0.9 * 2 / learning rate,
    against the median step at which a width reaches it. ``width``: sharpness against the width, one series a step.
    ``statistic``: exponents in the width of the sharpness in the second half of the early steps, and of the step of
    arrival.
    """
    settings = transfer.settings(records)
    early, parts = settings["early_steps"], []
    for name, rows in networks(records):
        if name in settings["shown"]:
            own = rows[(rows["step"] <= early) | rows["quantity"].isin(transfer.STOPPED)]
            parts += _early(name, own, settings["shown"][name], early)
            parts.append(_arrivals(name, rows, settings["shown"][name]))
            parts.append(_early_statistics(name, rows, settings["shown"][name], early))
    return artefact_table(*parts)


# --- the first steps --------------------------------------------------------------------------------------------------


def _early(name: str, rows: pd.DataFrame, rate: float, early: int) -> Iterator[pd.DataFrame]:
    yield from along_rows(name, rows, rate)
    edge = transfer.NEAR_EDGE * 2 / rate
    yield guide_rows(f"sharpness | {name}", NEAR_EDGE, [(0.0, edge), (float(early), edge)])
    yield _over_width(name, at_rate(rows, rate))


def _arrivals(name: str, rows: pd.DataFrame, rate: float) -> pd.DataFrame:
    """Median step at which every width rises to nine tenths of the edge; none for those that never do."""
    found, edge = transfer.arrival(rows, rate), transfer.NEAR_EDGE * 2 / rate
    return row_table(
        [
            point_row(f"arrival | {name}", series_of(size), step, edge, len(found.steps), "")
            for size, step in zip(found.sizes, found.medians(), strict=True)
            if np.isfinite(step)
        ]
    )


def _over_width(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Sharpness against the width at some of the early steps, evenly among them, the first and the last included."""
    own = rows[(rows["quantity"] == "sharpness") & (rows["index"] == 1)]
    steps = np.sort(own["step"].unique())
    chosen = steps[np.unique(np.linspace(0, len(steps) - 1, EARLY_CURVES).round().astype(int))] if len(steps) else []
    return row_table(
        [
            summary_row(
                f"width | {name}", f"step {step}", width, group, "" if group["converged"].all() else "unconverged"
            )
            for (step, width), group in own[own["step"].isin(chosen)].groupby(["step", "width"])
        ]
    )


def _early_statistics(name: str, rows: pd.DataFrame, rate: float, early: int) -> pd.DataFrame:
    panel = f"statistic | {name}"
    own, arrival = curves(rows, "sharpness", rate).until(early), transfer.arrival(rows, rate)
    return row_table(
        [
            *exponent_row(panel, SHARPNESS_EXPONENT, rate, partial(late_exponents, own)),
            *exponent_row(panel, ARRIVAL_EXPONENT, rate, partial(arrival_exponents, arrival)),
        ]
    )
