"""Artefact tables of Figures 12, 13 and 14 of the second paper (arXiv:2402.17457): late training, and the batch size.

Seeds of which a network failed are left out of what is measured along training, as the claims do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import (
    ARRIVAL_EXPONENT,
    STATISTICS,
    along_rows,
    point_row,
    row_table,
    transfer_parts,
)
from featurespeed.drawing.width_rows import (
    EDGE,
    LEFT_OUT,
    STATISTIC,
    exponent_row,
    interval_row,
    measured_networks,
    series_of,
)
from featurespeed.papers.super_consistency.batch_size.analysis import HESSIAN, LateRuns, late_runs, trains
from featurespeed.papers.super_consistency.batch_size.spec import AUGMENTED, PLAIN
from featurespeed.statistics import Interval
from featurespeed.sweeps import transfer
from featurespeed.sweeps.convergence import curves
from featurespeed.sweeps.dependence import arrival_exponents
from featurespeed.sweeps.late import Fall, delays, fall, shallower

ONSET_EXPONENT, DEPTH_OF_FALL = "exponent of the onset", "log(last tenth / peak) at the largest width"
DELAY, LESS = "delay of the fall by augmentation", "log(last tenth / peak), with augmentation minus without"
FALLS, RISES = "falls", "rises to the edge"  # series of steps by width
NEVER_FALLS, NEVER_RISES = "never", "never rises"  # panels: of how many seeds, by width
BATCH = "batch size"
TWICE_THE_EDGE = "guide 4/learning rate"  # the dashed line of Figures 13 and 14


# --- Figure 12 --------------------------------------------------------------------------------------------------------


def tabulate_fig12(records: pd.DataFrame) -> pd.DataFrame:
    """Loss and sharpness along training, and when the sharpness begins to fall, in panels ``<kind> | <network>``.

    ``loss`` and ``sharpness``: against the step, one series a width. ``peak``: for every width that falls in more than
    half of the seeds, its mean peak at the median onset. ``onset``: median steps against the width, those of networks
    that never fall, or never rise, being the last one. ``never``, ``never rises``: how many seeds do not, by width.
    ``statistic``: the numbers of the claims.
    """
    measured_networks(records, HESSIAN)
    runs, falls, parts = late_runs(records), {}, []
    for name, rows in runs.rows.items():
        parts += along_rows(name, rows, runs.rate)
        with suppress(ValueError):
            if trains(rows, runs.rate):  # a network that stopped has no end
                falls[name] = fall(curves(rows, HESSIAN, runs.rate))
                parts += _fall_parts(name, rows, runs.rate, falls[name])
    parts.append(_both(falls))
    parts.append(_left_out(runs))
    return artefact_table(*parts)


def _fall_parts(name: str, rows: pd.DataFrame, rate: float, found: Fall) -> Iterator[pd.DataFrame]:
    seeds = len(found.peaks)
    by_width = list(zip(found.sizes, found.medians(), found.peaks.mean(0), strict=True))
    yield row_table(
        [
            point_row(f"peak | {name}", series_of(n), step, peak, seeds)
            for n, step, peak in by_width
            if np.isfinite(step)
        ]
    )
    arrival = transfer.arrival(rows, rate)
    yield _steps_rows(name, FALLS, found.sizes, found.counted)
    yield _steps_rows(name, RISES, arrival.sizes, np.minimum(arrival.steps, arrival.last))
    for panel, steps in ((NEVER_FALLS, found.onsets), (NEVER_RISES, arrival.steps)):
        never = zip(found.sizes, np.isinf(steps).sum(0), strict=True)
        yield row_table([point_row(f"{panel} | {name}", series_of(n), n, count, seeds) for n, count in never])
    panel = f"{STATISTICS} | {name}"
    yield row_table(
        [
            *exponent_row(panel, ONSET_EXPONENT, rate, found.exponents),
            *exponent_row(panel, ARRIVAL_EXPONENT, rate, partial(arrival_exponents, arrival)),
            *exponent_row(panel, DEPTH_OF_FALL, found.sizes[-1], lambda: found.logs[:, -1]),
        ]
    )


def _steps_rows(name: str, series: str, sizes: np.ndarray, steps: np.ndarray) -> pd.DataFrame:
    """Median over seeds of steps ``[seeds, S]`` against the width, with the smallest and the largest."""
    summaries = zip(sizes, np.median(steps, axis=0), steps.min(0), steps.max(0), strict=True)
    return row_table(
        [
            interval_row(f"onset | {name}", series, size, Interval(median, low, high, len(steps), ""))
            for size, median, low, high in summaries
        ]
    )


def _both(falls: Mapping[str, Fall]) -> pd.DataFrame:
    """What sets the networks with and without augmentation apart."""
    if not {PLAIN, AUGMENTED} <= set(falls):
        return row_table([])
    pair = falls[AUGMENTED], falls[PLAIN]
    return row_table(
        [
            *exponent_row(STATISTIC, DELAY, 0, lambda: delays(*pair)),
            *exponent_row(STATISTIC, LESS, 0, lambda: shallower(*pair)),
        ]
    )


def _left_out(runs: LateRuns) -> pd.DataFrame:
    row = point_row(STATISTIC, f"{LEFT_OUT} | with or without augmentation", 0, runs.left_out, runs.seeds)
    return row_table([row] if runs.left_out else [])


# --- Figures 13 and 14 ------------------------------------------------------------------------------------------------


def tabulate_fig13(records: pd.DataFrame) -> pd.DataFrame:
    """Learning-rate transfer and sharpness at every batch size, in panels ``<kind> | batch size <B>``.

    Curves along training have two thresholds, 2 and 4 over the base learning rate.
    """
    table = artefact_table(*transfer_parts(records, leave_out=True))
    table = table[~table["panel"].str.startswith("loss | ")]
    edge = table[table["series"] == EDGE]
    table = pd.concat([table, edge.assign(series=TWICE_THE_EDGE, y=2 * edge["y"])])
    sizes = {name: network["batch_size"] for name, network in transfer.settings(records)["networks"].items()}
    return artefact_table(table.assign(panel=_named(table["panel"], sizes), series=_named(table["series"], sizes)))


def _named(texts: pd.Series, sizes: Mapping[str, int]) -> pd.Series:
    """Batch sizes in place of the labels of the networks, which follow the last bar."""
    names = {f" | {label}": f" | {BATCH} {size}" for label, size in sizes.items()}
    return texts.map(lambda text: next((text.removesuffix(k) + v for k, v in names.items() if text.endswith(k)), text))
