"""Rows of artefact tables of networks over their widths: curves along training, summaries by width, statistics.

Points are means over seeds; their bounds are the smallest and the largest seed where a curve is drawn, and the
bootstrap over seeds where a statistic is, Student's t over seeds where an exponent is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, NOTHING
from featurespeed.statistics import Interval, mean_interval
from featurespeed.sweeps.convergence import Statistic, common_rate, interval
from featurespeed.sweeps.transfer import STOPPED, failed_seeds, of_network

#: Series of the stability threshold of gradient descent.
EDGE = "guide 2/learning rate"
STATISTIC = "statistic"  # panel of the numbers that are printed
LEFT_OUT = "seeds left out"  # statistics whose series begin so: seeds of which a network failed, and how many there are
SYMBOLS = {"width": "N", "depth": "L"}  # of the sizes of a network


def series_of(size: int, kind: str = "width") -> str:
    """Series of one width, or of one depth."""
    return f"{SYMBOLS[kind]}={size}"


def varied(rows: pd.DataFrame) -> str:
    """Which size of one network varies: its depth, or else its width."""
    return "depth" if rows["depth"].nunique() > 1 else "width"


def shown_rate(rows: pd.DataFrame, quantity: str) -> float:
    """The learning rate that a figure shows: the common best of those measured, else the smallest of them."""
    best = common_rate(rows, quantity, varied(rows))
    return float(rows.loc[rows["quantity"] == quantity, "learning_rate"].min()) if best is None else best


def measured_networks(records: pd.DataFrame, quantity: str) -> list[str]:
    """Labels of the networks of which a quantity was measured: of others the derivatives overflow from the start.

    Raises:
        ValueError: there are none.
    """
    labels = records.loc[records["quantity"] == quantity, "series"].unique().tolist()
    if not labels:
        raise ValueError(NOTHING)
    return labels


def shown_rows(records: pd.DataFrame, label: str, quantity: str) -> tuple[pd.DataFrame, float]:
    """Rows of one network at the learning rate that is shown, and this rate.

    Raises:
        ValueError: the quantity was not measured.
    """
    rows = of_network(records, label).copy()
    if not (rows["quantity"] == quantity).any():
        raise ValueError(NOTHING)
    rate = shown_rate(rows, quantity)
    return rows[np.isclose(rows["learning_rate"], rate)], rate


def trained_rows(records: pd.DataFrame, label: str, quantity: str) -> tuple[pd.DataFrame, float, pd.DataFrame]:
    """:func:`shown_rows` without the seeds of which a network failed, and a statistic that says how many these are."""
    kept, count = without_failed(label, of_network(records, label), quantity)
    own = (records["series"] != label) | records["seed"].isin(kept["seed"].unique())
    return *shown_rows(records[own], label, quantity), count


def without_failed(label: str, rows: pd.DataFrame, quantity: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of one network without the seeds of which it failed at some size, and a statistic that says how many.

    Seeds as in :func:`featurespeed.sweeps.transfer.failed_seeds`.
    """
    failed, seeds = failed_seeds(rows, quantity, varied(rows)), rows["seed"].nunique()
    count = _row(STATISTIC, f"{LEFT_OUT} | {label}", 0, len(failed), np.nan, np.nan, seeds, "training")
    return rows[~rows["seed"].isin(failed)], pd.DataFrame(
        [count] if len(failed) else [], columns=list(ARTEFACT_COLUMNS)
    )


def curve_rows(rows: pd.DataFrame, quantity: str, panel: str, index: int = 1) -> pd.DataFrame:
    """One quantity against the step, one series a size; ``rows`` are of one network at one learning rate.

    A network that diverged or died has no values afterwards: from its last one on, the points of its size are flagged.
    """
    size = varied(rows)
    own = rows[(rows["quantity"] == quantity) & rows["index"].isin((0, index))]
    ends = endings(own, rows)
    found = [
        summary_row(panel, series_of(value, size), step, group, flag_of(ends.get(value, ()), step, group))
        for (value, step), group in own.groupby([size, "step"])
    ]
    return pd.DataFrame(found, columns=list(ARTEFACT_COLUMNS))


def endings(own: pd.DataFrame, rows: pd.DataFrame) -> dict[int, list[tuple[float, str]]]:
    """Size -> for every seed that stopped, the last step of ``own`` before that (0 if there is none), and the flag."""
    found: dict[int, list[tuple[float, str]]] = {}
    size = varied(rows)
    for row in rows[rows["quantity"].isin(STOPPED)].to_dict("records"):
        last = own.loc[(own[size] == row[size]) & (own["seed"] == row["seed"]), "step"].max()
        flag = "dead" if row["quantity"] == "dead_step" else "diverged"
        found.setdefault(row[size], []).append((0.0 if np.isnan(last) else last, flag))
    return found


def flag_of(ends: Iterable[tuple[float, str]], step: int, group: pd.DataFrame) -> str:
    """Whether a seed has stopped for good at this point, or a value has not converged."""
    stopped = [flag for last, flag in ends if step >= last]
    return stopped[0] if stopped else "" if group["converged"].all() else "unconverged"


def summary_row(panel: str, series: str, x: float, group: pd.DataFrame, flag: str = "") -> dict[str, object]:
    """Mean over seeds with the smallest and the largest one."""
    values = group["value"]
    return _row(
        panel, series, x, values.mean(), values.min(), values.max(), len(group), group["estimator"].iloc[0], flag
    )


def interval_row(panel: str, series: str, x: float, found: Interval, estimator: str = "training") -> dict[str, object]:
    """An estimate with its interval."""
    return _row(panel, series, x, found.value, found.low, found.high, found.n, estimator)


def guide_rows(panel: str, series: str, points: Iterable[tuple[float, float]]) -> pd.DataFrame:
    """A line that is no measurement, by the points (x, y) at its ends."""
    rows = [_row(panel, series, x, y, np.nan, np.nan, 0, "theory") for x, y in points]
    return pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS))


def edge_rows(panel: str, rows: pd.DataFrame, rate: float) -> pd.DataFrame:
    """The threshold of stability, 2 over the base learning rate, along training."""
    return guide_rows(panel, EDGE, [(0.0, 2.0 / rate), (float(rows["step"].max()), 2.0 / rate)])


def statistic_rows(
    statistics: Mapping[str, Statistic], seeds: int, panel: str = STATISTIC
) -> Iterator[dict[str, object]]:
    """Statistics as they are printed, with the bootstrap over seeds; none for those that this run cannot give."""
    for order, (name, statistic) in enumerate(statistics.items()):
        found = interval(statistic, seeds)
        if np.isfinite([found.value, found.low, found.high]).all():
            yield interval_row(panel, name, float(order), found)


def exponent_row(panel: str, series: str, x: float, exponents: Callable[[], np.ndarray]) -> Iterator[dict[str, object]]:
    """Mean over seeds of what ``exponents`` gives, ``[seeds]``, with its t interval; none where it cannot (ValueError):
    values may be missing, negative or too few.
    """
    with suppress(ValueError):
        yield interval_row(panel, series, x, mean_interval(exponents()))


def _row(
    panel: str, series: str, x: float, y: float, low: float, high: float, n: int, estimator: str, flag: str = ""
) -> dict[str, object]:
    values = (panel, series, float(x), y, low, high, n, estimator, 0, flag)
    return dict(zip(ARTEFACT_COLUMNS, values, strict=True))
