"""Rows of artefact tables of distances to the largest network, which stands for infinite size, and their exponents.

Distances are those of the means over seeds, without the noise of the seeds
(:class:`featurespeed.sweeps.convergence.Distances`); their bounds add and take away the standard error.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS
from featurespeed.drawing.width_rows import STATISTIC, guide_rows, interval_row, series_of
from featurespeed.statistics import Interval, jackknife_interval
from featurespeed.sweeps.convergence import Distances, Statistic

TIME_EXPONENT, SIZE_EXPONENT = "exponent in time", {"width": "exponent in the width", "depth": "exponent in the depth"}
OVER_SIZE = {"width": "distance over the width", "depth": "distance over the depth"}
FLOOR = "noise floor"
MOST_STEPS = 40  # of a panel: more points hide each other, the noise floor and the fits


def distance_parts(name: str, found: Distances, size: str = "width") -> Iterator[pd.DataFrame]:
    """Everything about the distances of one quantity, in panels ``distance | <name>``, ``noise floor | <name>``,
    ``law | <name>``, in those of the exponents, and over the size.

    The first two have the steps of :func:`shown_steps`; laws and exponents are those of all steps.
    """
    yield pd.DataFrame(_distance_rows(name, found, size), columns=list(ARTEFACT_COLUMNS))
    steps, few = found.steps.astype(float), shown_steps(found.steps)
    for (a, b), width, floor, used in zip(found.laws(), found.sizes, found.floor(), found.used, strict=True):
        yield guide_rows(f"{FLOOR} | {name}", series_of(width, size), zip(steps[few], floor[few], strict=True))
        if np.isfinite(b):
            ends = [(step, float(a * step**b)) for step in steps[used][[0, -1]]]
            yield guide_rows(f"law | {name}", series_of(width, size), ends)
    exponents = [
        interval_row(TIME_EXPONENT, name, float(width), _jackknife(found, lambda c, at=place: found.laws(c)[at, 1]))
        for place, width in enumerate(found.sizes)
        if found.told[place]
    ]
    yield pd.DataFrame(exponents, columns=list(ARTEFACT_COLUMNS))
    yield from _over_size(name, found, size)
    statistics = {f"{TIME_EXPONENT} | {name}": found.exponent, f"{SIZE_EXPONENT[size]} | {name}": found.rate}
    numbers = {series: _jackknife(found, statistic) for series, statistic in statistics.items()}
    rows = [
        interval_row(STATISTIC, series, 0.0, number)
        for series, number in numbers.items()
        if number.value == number.value
    ]
    yield pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS))


def shown_steps(steps: np.ndarray) -> np.ndarray:
    """Places of at most ``MOST_STEPS`` of ``steps``, evenly spaced in their logarithm, whatever is there.

    ``steps`` ascend from 0 or later and are all different; step 0, which has no logarithm, stays.
    """
    if len(steps) <= MOST_STEPS:
        return np.arange(len(steps))
    known = np.flatnonzero(steps > 0)
    logs = np.log(steps[known])
    wanted = np.linspace(logs[0], logs[-1], MOST_STEPS - (len(steps) - len(known)))
    nearest = np.abs(logs[None, :] - wanted[:, None]).argmin(axis=1)
    return np.unique(np.concatenate([np.flatnonzero(steps <= 0), known[nearest]]))


def _distance_rows(name: str, found: Distances, size: str) -> Iterator[dict[str, object]]:
    values, floors = found.values(), found.floor()
    for place, width in enumerate(found.sizes):
        for step in shown_steps(found.steps):
            value, floor = values[place][step], floors[place][step]
            if np.isfinite(value):
                at = Interval(value, max(value - floor, 0.0), value + floor, len(found.gaps), "")
                yield interval_row(f"distance | {name}", series_of(width, size), float(found.steps[step]), at)


def _jackknife(found: Distances, statistic: Statistic) -> Interval:
    """The interval of a claim, without bounds where there are too few seeds for one."""
    value, seeds = float(statistic(slice(None))), len(found.gaps)
    try:
        return jackknife_interval(statistic, seeds)
    except ValueError:
        return Interval(value, np.nan, np.nan, seeds, "")


def _over_size(name: str, found: Distances, size: str) -> Iterator[pd.DataFrame]:
    panel = OVER_SIZE[size]
    levels, floors = found.over_time(), found.floor_over_time()
    seeds, told = len(found.gaps), np.isfinite(levels)
    yield pd.DataFrame(
        [
            interval_row(panel, name, float(width), Interval(level, max(level - floor, 0.0), level + floor, seeds, ""))
            for width, level, floor in zip(found.sizes[told], levels[told], floors[told], strict=True)
        ],
        columns=list(ARTEFACT_COLUMNS),
    )
    yield guide_rows(panel, f"{FLOOR} {name}", zip(found.sizes.astype(float), floors, strict=True))
    exponent, far = found.rate(), found.far()
    if np.isfinite(exponent):
        sizes = found.sizes[far].astype(float)
        level = np.exp(np.mean(np.log(levels[far]) - exponent * np.log(sizes)))
        yield guide_rows(panel, f"guide {name}", [(n, float(level * n**exponent)) for n in (sizes[0], sizes[-1])])
