"""Rows of artefact tables of learning-rate transfer: losses over learning rates, best rates, curves along training.

Every network has panels ``<kind> | <network>``; series are its sizes, widths or depths, whichever it varies in. Points
are means over seeds, their bounds the smallest and the largest seed; bounds of statistics, the numbers of the claims,
are Student's t over seeds, for a shift infinite where the grid of learning rates ends too early to tell it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS
from featurespeed.drawing.width_rows import (
    STATISTIC,
    curve_rows,
    edge_rows,
    exponent_row,
    guide_rows,
    interval_row,
    measured_networks,
    series_of,
    shown_rate,
    summary_row,
    varied,
    without_failed,
)
from featurespeed.statistics import Interval
from featurespeed.sweeps import brackets, transfer
from featurespeed.sweeps.convergence import curves
from featurespeed.sweeps.dependence import adam_threshold, late_exponents
from featurespeed.sweeps.losses import Losses
from featurespeed.sweeps.optima import SPANS, optima, shift_interval

SHARPNESS, LOSS = "sharpness", "training_loss"
PRECONDITIONED = "preconditioned_sharpness"  # in which Adam's learning rate is: its threshold does not depend on it
TRANSFER, BEST, STATISTICS = "transfer", "best", STATISTIC  # kinds of panels, besides the quantities themselves
SHIFT = "shift"
SHARPNESS_EXPONENT, ARRIVAL_EXPONENT = "exponent of the sharpness", "exponent of the steps to the edge"
RATE_SHOWN = "learning rate shown"  # where no threshold says it
CHANCE, ADAM_EDGE = "guide chance", "guide 2(1+beta1)/(1-beta1)"


def networks(records: pd.DataFrame, quantity: str = SHARPNESS) -> Iterator[tuple[str, pd.DataFrame]]:
    """``(label, rows)`` of every network of which losses and ``quantity`` were recorded.

    Of one that is not finite from the first step on there is neither.
    """
    for name in sorted(measured_networks(records, quantity)):
        if ((records["series"] == name) & (records["quantity"] == LOSS)).any():
            yield name, transfer.of_network(records, name)


def transfer_parts(
    records: pd.DataFrame, quantity: str = SHARPNESS, leave_out: bool = False, bounded: bool = True
) -> Iterator[pd.DataFrame]:
    """Everything of every network: transfer, a measure of curvature and the loss at the rate that is best for all
    sizes of those measured, and the numbers of the claims.

    Args:
        leave_out: seeds of which a network failed at the best of the measured rates, up to a fifth of those of a size,
            are left out of all but the transfer.
        bounded: best rates next to one that failed are known within bounds (:mod:`featurespeed.sweeps.brackets`).
    """
    for name, rows in networks(records, quantity):
        yield from loss_rows(name, rows)
        yield shift_table(name, rows, bounded)
        if leave_out:
            rows, count = without_failed(name, rows, quantity)
            yield count
        rate = shown_rate(rows, quantity)
        yield from along_rows(name, rows, rate, quantity)
        if quantity == PRECONDITIONED:
            yield adam_edge_rows(name, at_rate(rows, rate), rate, transfer.settings(records))
        yield exponent_table(name, rows, quantity)


def at_rate(rows: pd.DataFrame, rate: float) -> pd.DataFrame:
    """Rows at one learning rate."""
    return rows[np.isclose(rows["learning_rate"], rate)]


# --- learning-rate transfer -------------------------------------------------------------------------------------------


def loss_rows(name: str, rows: pd.DataFrame, kind: str = TRANSFER, best: str = BEST) -> Iterator[pd.DataFrame]:
    """Late loss against the base learning rate, one series a size, and the best rate of every size.

    Where a seed has failed, y is the loss of chance and the point flagged. A line at that height is there only then:
    the losses of a text lie so far below that of chance that with it nothing could be told of them.
    """
    size = varied(rows)
    losses = transfer.late_losses(rows, size)
    chance, panel = float(np.log(rows["output_dim"].max())), f"{kind} | {name}"
    found = []
    for s, value in enumerate(losses.sizes):
        for r, rate in enumerate(losses.rates):
            values = losses.values[:, s, r]
            if np.isfinite(values).all():
                group = pd.DataFrame({"value": values, "estimator": "training"})
                found.append(summary_row(panel, series_of(value, size), rate, group))
            else:
                flag = _failure(rows[rows[size] == value], float(rate))
                found.append(point_row(panel, series_of(value, size), rate, chance, len(values), flag))
    yield row_table(found)
    if any(row["flag"] for row in found):
        yield guide_rows(panel, CHANCE, [(losses.rates[0], chance), (losses.rates[-1], chance)])
    yield row_table(list(_best(f"{best} | {name}", losses, size)))


def _failure(rows: pd.DataFrame, rate: float) -> str:
    """What became of a network that failed; one at chance counts as dead."""
    return "diverged" if (at_rate(rows, rate)["quantity"] == "diverged_step").any() else "dead"


def _best(panel: str, losses: Losses, size: str) -> Iterator[dict[str, object]]:
    for s, (value, best) in enumerate(zip(losses.sizes, losses.best(), strict=True)):
        if best >= 0:
            flag = "grid edge" if best in (0, losses.last) else ""
            loss = float(losses.values[:, s, best].mean())
            yield point_row(panel, series_of(value, size), losses.rates[best], loss, len(losses.values), flag)


def shift_table(name: str, rows: pd.DataFrame, bounded: bool = True) -> pd.DataFrame:
    """Shift of the best learning rate over the ratio of sizes (x) over which the claims state it."""
    size = varied(rows)
    shift = shift_of(transfer.late_losses(rows, size), SPANS[size], bounded)
    row = interval_row(f"{STATISTICS} | {name}", SHIFT, float(SPANS[size]), shift)
    return row_table([row] if np.isfinite(shift.value) else [])


def exponent_table(name: str, rows: pd.DataFrame, quantity: str = SHARPNESS) -> pd.DataFrame:
    """Exponent in the size of the late curvature at every measured rate."""
    found: list[dict[str, object]] = []
    for rate in transfer.measured_rates(rows, quantity):
        own = curves(rows, quantity, rate, size=varied(rows))
        found += exponent_row(f"{STATISTICS} | {name}", SHARPNESS_EXPONENT, rate, partial(late_exponents, own))
    return row_table(found)


def shift_of(losses: Losses, span: float, bounded: bool = True) -> Interval:
    """Shift of the best learning rate over a ratio of sizes, as the claims have it; without bounds where the grid ends
    too early to tell it.
    """
    found = optima(losses)
    if bounded and brackets.is_known(found):
        return brackets.shifts(found, span).interval()
    if found.usable and not bounded:
        return shift_interval(found, span)
    return Interval(float(found.shifts(span).mean()), -np.inf, np.inf, len(losses.values), "")


# --- along training ---------------------------------------------------------------------------------------------------


def along_rows(name: str, rows: pd.DataFrame, rate: float, quantity: str = SHARPNESS) -> Iterator[pd.DataFrame]:
    """Curvature and loss against the step at one learning rate, with the threshold of gradient descent."""
    own = at_rate(rows, rate)
    yield curve_rows(own, quantity, f"sharpness | {name}")
    if quantity != PRECONDITIONED:
        yield edge_rows(f"sharpness | {name}", own, rate)
    yield curve_rows(own, LOSS, f"loss | {name}")


def adam_edge_rows(name: str, rows: pd.DataFrame, rate: float, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Adam's threshold of stability, 38 for beta1 = 0.9 (arXiv:2207.14484), and the learning rate that is shown."""
    edge = adam_threshold(settings["networks"][name]["optimizer"]["betas"][0])
    guide = guide_rows(f"sharpness | {name}", ADAM_EDGE, [(0.0, edge), (float(rows["step"].max()), edge)])
    return pd.concat([guide, row_table([point_row(f"{STATISTICS} | {name}", RATE_SHOWN, rate, rate, 0)])])


# --- rows -------------------------------------------------------------------------------------------------------------


def point_row(panel: str, series: str, x: float, y: float, n: int, flag: str = "") -> dict[str, object]:
    """A point without bounds."""
    return interval_row(panel, series, float(x), Interval(y, np.nan, np.nan, n, "")) | {"flag": flag}


def row_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Rows with the columns of an artefact table, also where there are none."""
    return pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS))
