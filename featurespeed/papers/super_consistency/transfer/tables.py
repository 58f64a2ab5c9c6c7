"""Artefact tables of Figures 1, 24 and 26 of the second paper (arXiv:2402.17457): transfer over the width.

Every function takes the long stage table of one artefact and returns the artefact table (``docs/tables.md``). Points
are means over seeds, their bounds the smallest and the largest seed; bounds of statistics, the numbers of the claims,
are Student's t over seeds, for a shift infinite where the grid of learning rates ends too early to tell it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table
from featurespeed.drawing.width_rows import (
    curve_rows,
    edge_rows,
    exponent_row,
    guide_rows,
    interval_row,
    measured_networks,
    series_of,
    shown_rate,
    summary_row,
)
from featurespeed.statistics import Interval
from featurespeed.sweeps import transfer
from featurespeed.sweeps.convergence import curves
from featurespeed.sweeps.dependence import arrival_exponents, late_exponents, optima, shift_interval
from featurespeed.sweeps.transfer import Losses

SHIFT = "shift"
SHARPNESS_EXPONENT, ARRIVAL_EXPONENT = "exponent of the sharpness", "exponent of the steps to the edge"
CHANCE, NEAR_EDGE = "guide chance", "guide 0.9 * 2/learning rate"
EARLY_CURVES = 4  # steps at which the sharpness is drawn against the width


def tabulate_fig01(records: pd.DataFrame) -> pd.DataFrame:
    """Learning-rate transfer, sharpness and loss of every network, each in a panel ``<kind> | <network>``.

    ``transfer``: loss of the last tenth of training (y) against the base learning rate (x), one series a width; where a
    seed has failed, y is the loss of chance and the point flagged. ``best``: the best learning rate of every width.
    ``sharpness`` and ``loss``: against the step, at the learning rate that is best for all widths. ``statistic``: shift
    of the best learning rate, and the exponent in the width of the late sharpness at every learning rate (x) measured.
    """
    parts = []
    for name, rows in networks(records):
        rate = shown_rate(rows, "sharpness")
        parts += [*_transfer(name, rows), *_along(name, rows, rate), _statistics(name, rows)]
    return artefact_table(*parts)


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


def networks(records: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """``(label, rows)`` of every network of which losses and sharpness were recorded.

    Of one that is not finite from the first step on there is neither.
    """
    for name in sorted(measured_networks(records, "sharpness")):
        if ((records["series"] == name) & (records["quantity"] == "training_loss")).any():
            yield name, transfer.of_network(records, name)


def at_rate(rows: pd.DataFrame, rate: float) -> pd.DataFrame:
    """Rows at one learning rate."""
    return rows[np.isclose(rows["learning_rate"], rate)]


# --- learning-rate transfer -------------------------------------------------------------------------------------------


def _transfer(name: str, rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    losses = transfer.late_losses(rows)
    chance, panel = float(np.log(rows["output_dim"].max())), f"transfer | {name}"
    found = []
    for s, size in enumerate(losses.sizes):
        for r, rate in enumerate(losses.rates):
            values = losses.values[:, s, r]
            if np.isfinite(values).all():
                group = pd.DataFrame({"value": values, "estimator": "training"})
                found.append(summary_row(panel, series_of(size), rate, group))
            else:
                flag = _failure(rows, int(size), float(rate))
                found.append(_point(panel, series_of(size), rate, chance, len(values), flag))
    yield _table(found)
    yield guide_rows(panel, CHANCE, [(losses.rates[0], chance), (losses.rates[-1], chance)])
    yield _table(list(_best(f"best | {name}", losses)))


def _failure(rows: pd.DataFrame, size: int, rate: float) -> str:
    """What became of a network that failed; one at chance counts as dead."""
    own = at_rate(rows[rows["width"] == size], rate)
    return "diverged" if (own["quantity"] == "diverged_step").any() else "dead"


def _best(panel: str, losses: Losses) -> Iterator[dict[str, object]]:
    for s, (size, best) in enumerate(zip(losses.sizes, losses.best(), strict=True)):
        if best >= 0:
            flag = "grid edge" if best in (0, losses.last) else ""
            loss = float(losses.values[:, s, best].mean())
            yield _point(panel, series_of(size), losses.rates[best], loss, len(losses.values), flag)


def _statistics(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    panel, found = f"statistic | {name}", []
    shift = _shift(transfer.late_losses(rows))
    if np.isfinite(shift.value):
        found.append(interval_row(panel, SHIFT, 0.0, shift))
    for rate in transfer.measured_rates(rows, "sharpness"):
        own = curves(rows, "sharpness", rate)
        found += exponent_row(panel, SHARPNESS_EXPONENT, rate, partial(late_exponents, own))
    return _table(found)


def _shift(losses: Losses) -> Interval:
    """Shift of the best learning rate as the claims have it, over the widths there are; without bounds where the grid
    ends too early to tell it.
    """
    found, span = optima(losses), losses.sizes[-1] / losses.sizes[0]
    if found.usable:
        return shift_interval(found, span)
    return Interval(float(found.shifts(span).mean()), -np.inf, np.inf, len(losses.values), "")


# --- along training ---------------------------------------------------------------------------------------------------


def _along(name: str, rows: pd.DataFrame, rate: float) -> Iterator[pd.DataFrame]:
    own = at_rate(rows, rate)
    yield curve_rows(own, "sharpness", f"sharpness | {name}")
    yield edge_rows(f"sharpness | {name}", own, rate)
    yield curve_rows(own, "training_loss", f"loss | {name}")


def _early(name: str, rows: pd.DataFrame, rate: float, early: int) -> Iterator[pd.DataFrame]:
    yield from _along(name, rows, rate)
    edge = transfer.NEAR_EDGE * 2 / rate
    yield guide_rows(f"sharpness | {name}", NEAR_EDGE, [(0.0, edge), (float(early), edge)])
    yield _over_width(name, at_rate(rows, rate))


def _arrivals(name: str, rows: pd.DataFrame, rate: float) -> pd.DataFrame:
    """Median step at which every width rises to nine tenths of the edge; none for those that never do."""
    found, edge = transfer.arrival(rows, rate), transfer.NEAR_EDGE * 2 / rate
    return _table(
        [
            _point(f"arrival | {name}", series_of(size), step, edge, len(found.steps), "")
            for size, step in zip(found.sizes, found.medians(), strict=True)
            if np.isfinite(step)
        ]
    )


def _over_width(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Sharpness against the width at some of the early steps, evenly among them, the first and the last included."""
    own = rows[(rows["quantity"] == "sharpness") & (rows["index"] == 1)]
    steps = np.sort(own["step"].unique())
    chosen = steps[np.unique(np.linspace(0, len(steps) - 1, EARLY_CURVES).round().astype(int))] if len(steps) else []
    return _table(
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
    return _table(
        [
            *exponent_row(panel, SHARPNESS_EXPONENT, rate, partial(late_exponents, own)),
            *exponent_row(panel, ARRIVAL_EXPONENT, rate, partial(arrival_exponents, arrival)),
        ]
    )


# --- rows -------------------------------------------------------------------------------------------------------------


def _point(panel: str, series: str, x: float, y: float, n: int, flag: str) -> dict[str, object]:
    return interval_row(panel, series, float(x), Interval(y, np.nan, np.nan, n, "")) | {"flag": flag}


def _table(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS))
