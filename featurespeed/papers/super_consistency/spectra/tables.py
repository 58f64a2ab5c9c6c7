"""Artefact tables of Figures 2, 3 and 23 of the second paper: spectra over the width, distances to the widest net."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table
from featurespeed.drawing.width_rows import (
    STATISTIC,
    curve_rows,
    edge_rows,
    guide_rows,
    interval_row,
    measured_networks,
    series_of,
    statistic_rows,
    trained_rows,
)
from featurespeed.papers.super_consistency.agreement import GAPS, comparable, share_within
from featurespeed.papers.super_consistency.published import POINTS, PROXY
from featurespeed.statistics import Interval, jackknife_interval
from featurespeed.sweeps.convergence import (
    FEWEST_WIDTHS,
    Distances,
    Statistic,
    curves,
    distances,
    early_ratio,
    fall_of_spread,
    growth_of_spread,
    interval,
    late_spread,
)
from featurespeed.sweeps.transfer import STOPPED, spread

HESSIAN, NTK, LOSS, TRACE = "sharpness", "ntk_eigenvalue", "training_loss", "hessian_trace"
SPREAD = "CV over widths"
#: Quantities whose distances to the widest network are fitted: name in the table -> quantity of the stage table.
DISTANCES = {"training loss": LOSS, "NTK eigenvalue": NTK, "sharpness": HESSIAN}
#: Quantities drawn against the width, in the order of the panels.
OVER_WIDTH = {"NTK eigenvalue": NTK, "sharpness": HESSIAN, "training loss": LOSS, "Hessian trace": TRACE}
SNAPSHOTS = 5  # steps at which Figure 23 looks

RATIO = "CV of eigenvalue {} over that of eigenvalue 1, early"
NTK_GROWTH = "CV of the NTK, last over first step"
TRACE_FALL = "CV of the trace, first over last tenth"
LATE_SHARPNESS = "CV of the sharpness, second half"
TIME_EXPONENT, SIZE_EXPONENT = "exponent in time", "exponent in the width"
FLOOR = "noise floor"
PUBLISHED, BESIDE = "published", "this run at the published points"  # panels begin with these
#: Quantity of the published points -> panel beside whose curves they belong; ``{}`` is the index of an eigenvalue.
PANELS = {
    HESSIAN: "eigenvalue {}",
    NTK: "NTK eigenvalue {}",
    LOSS: "training loss",
    TRACE: "Hessian trace",
    f"{LOSS}_gap": "distance | training loss",
    f"{NTK}_gap": "distance | NTK eigenvalue",
}


def eigenvalues(records: pd.DataFrame, quantity: str = HESSIAN) -> list[int]:
    """Which eigenvalues are drawn: the first, the third and the tenth, or as near to these as there are."""
    count = int(records.loc[records["quantity"] == quantity, "index"].max())
    return sorted({1, min(3, count), count})


def _first_network(records: pd.DataFrame) -> tuple[pd.DataFrame, float, pd.DataFrame]:
    """Rows of the run's first network, the learning rate that is shown, and which seeds were left out."""
    return trained_rows(records, measured_networks(records, HESSIAN)[0], HESSIAN)


# --- Figure 2 ---------------------------------------------------------------------------------------------------------


def tabulate_fig02(records: pd.DataFrame, points: Path = POINTS) -> pd.DataFrame:
    """Eigenvalues of gamma^2 H and of the NTK against the step, and how much they differ over widths.

    ``eigenvalue <k>``, ``NTK eigenvalue 1``: means over seeds, one series a width. ``CV over widths | Hessian`` and
    ``| NTK``: one series an eigenvalue. With the points read off Figure 2, where the run is theirs.
    """
    rows, rate, left_out = _first_network(records)
    shown = eigenvalues(rows)
    parts = [left_out, *(curve_rows(rows, HESSIAN, f"eigenvalue {index}", index) for index in shown)]
    parts += [edge_rows(f"eigenvalue {shown[0]}", rows, rate), curve_rows(rows, NTK, "NTK eigenvalue 1")]
    parts.append(_spreads(rows, HESSIAN, rate, f"{SPREAD} | Hessian", range(1, shown[-1] + 1)))
    parts.append(_spreads(rows, NTK, rate, f"{SPREAD} | NTK", eigenvalues(rows, NTK)))
    first, last, ntk = curves(rows, HESSIAN, rate), curves(rows, HESSIAN, rate, shown[-1]), curves(rows, NTK, rate)
    if first.comparable and ntk.comparable:
        statistics = {RATIO.format(shown[-1]): early_ratio(last, first), NTK_GROWTH: growth_of_spread(ntk)}
        parts.append(pd.DataFrame(statistic_rows(statistics, first.seeds), columns=list(ARTEFACT_COLUMNS)))
    return artefact_table(*parts, _beside_points(records, rows, rate, "2", points))


def _spreads(rows: pd.DataFrame, quantity: str, rate: float, panel: str, indices: Iterable[int]) -> pd.DataFrame:
    """CV over widths at every step; where a network is missing there is none."""
    found = []
    for index in indices:
        own = curves(rows, quantity, rate, index)
        for place, step in enumerate(own.steps):
            values = own.values[..., place]
            if np.isfinite(values).all() and values.shape[1] >= FEWEST_WIDTHS:
                estimate = interval(lambda chosen, values=values: spread(values[chosen]), own.seeds)
                found.append(interval_row(panel, f"eigenvalue {index}", step, estimate, "Lanczos"))
    return pd.DataFrame(found, columns=list(ARTEFACT_COLUMNS))


# --- Figure 3 ---------------------------------------------------------------------------------------------------------


def tabulate_fig03(records: pd.DataFrame, points: Path = POINTS) -> pd.DataFrame:
    """Loss, top NTK eigenvalue and sharpness, and their distances to the widest network with fitted powers of time.

    ``<quantity>``: curves. ``distance | <quantity>``: of the means over seeds, without the seed noise, where there is
    one; the bounds add and take away the standard error. ``noise floor | <quantity>``: that standard error. ``law |
    <quantity>``: ends of the fits. ``exponent in time``: b by width, one series a quantity. ``distance over the
    width``: root mean square over training, one series a quantity; its fits in N and its noise floors are guides. With
    the points read off Figure 3, where the run is theirs; those of distances only where its widest network is, too.
    """
    rows, rate, left_out = _first_network(records)
    parts = [left_out]
    for name, quantity in DISTANCES.items():
        own = curves(rows, quantity, rate)
        parts.append(curve_rows(rows, quantity, name))
        if len(own.sizes) > 1 and not own.missing():
            parts += list(_distance_parts(name, distances(own)))
    theirs = _beside_points(records, rows, rate, "3", points)
    if rows["width"].max() != PROXY:
        theirs = theirs[~theirs["panel"].str.contains(" | distance | ", regex=False)]
    return artefact_table(*parts, theirs)


def _distance_parts(name: str, found: Distances) -> Iterator[pd.DataFrame]:
    yield pd.DataFrame(_distance_rows(name, found), columns=list(ARTEFACT_COLUMNS))
    fitted, floors = found.steps[found.fitted].astype(float), found.floor()
    for (a, b), width, floor in zip(found.laws(), found.sizes, floors, strict=True):
        yield guide_rows(f"{FLOOR} | {name}", series_of(width), zip(found.steps.astype(float), floor, strict=True))
        if np.isfinite(b):
            ends = [(step, float(a * step**b)) for step in (fitted[0], fitted[-1])]
            yield guide_rows(f"law | {name}", series_of(width), ends)
    exponents = [
        interval_row(TIME_EXPONENT, name, float(width), _jackknife(found, lambda c, at=place: found.laws(c)[at, 1]))
        for place, width in enumerate(found.sizes)
        if found.told[place]
    ]
    yield pd.DataFrame(exponents, columns=list(ARTEFACT_COLUMNS))
    yield from _over_width(name, found)
    statistics = {f"{TIME_EXPONENT} | {name}": found.exponent, f"{SIZE_EXPONENT} | {name}": found.rate}
    numbers = {series: _jackknife(found, statistic) for series, statistic in statistics.items()}
    rows = [
        interval_row(STATISTIC, series, 0.0, number)
        for series, number in numbers.items()
        if number.value == number.value
    ]
    yield pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS))


def _distance_rows(name: str, found: Distances) -> Iterator[dict[str, object]]:
    values, floors = found.values(), found.floor()
    for place, width in enumerate(found.sizes):
        for step, value, floor in zip(found.steps, values[place], floors[place], strict=True):
            if np.isfinite(value):
                at = Interval(value, max(value - floor, 0.0), value + floor, len(found.gaps), "")
                yield interval_row(f"distance | {name}", series_of(width), float(step), at)


def _jackknife(found: Distances, statistic: Statistic) -> Interval:
    """The interval of a claim, without bounds where there are too few seeds for one."""
    value, seeds = float(statistic(slice(None))), len(found.gaps)
    try:
        return jackknife_interval(statistic, seeds)
    except ValueError:
        return Interval(value, np.nan, np.nan, seeds, "")


def _over_width(name: str, found: Distances) -> Iterator[pd.DataFrame]:
    panel = "distance over the width"
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


# --- Figure 23 --------------------------------------------------------------------------------------------------------


def tabulate_fig23(records: pd.DataFrame, points: Path = POINTS) -> pd.DataFrame:
    """NTK, sharpness, loss and trace against the width at several steps, of every network.

    ``<quantity> | <network>``: one series a step, ``step 0``; of the loss, which is averaged over the steps before,
    there is none at step 0. With the points read off Figure 23 (against the step), where a network is theirs.
    """
    parts = []
    for label in measured_networks(records, HESSIAN):
        rows, rate, left_out = trained_rows(records, label, HESSIAN)
        parts.append(left_out)
        widths = rows["width"]
        for name, quantity in OVER_WIDTH.items():
            parts.append(_snapshots(rows, quantity, f"{name} | {label}"))
        ends = [(float(width), 2.0 / rate) for width in (widths.min(), widths.max())]
        parts.append(guide_rows(f"sharpness | {label}", "guide 2/learning rate", ends))
        parts.append(pd.DataFrame(_fig23_statistics(rows, rate, label), columns=list(ARTEFACT_COLUMNS)))
        theirs = _beside_points(records, rows, rate, "23", points)
        parts.append(theirs.assign(panel=theirs["panel"] + f" | {label}"))
    return artefact_table(*parts)


def snapshots(rows: pd.DataFrame) -> list[int]:
    """Steps at which loss and curvature are both recorded, a few of them evenly spread, and the initial one."""
    probed = rows.loc[rows["quantity"] == HESSIAN, "step"].unique()
    recorded = rows.loc[rows["quantity"] == LOSS, "step"].unique()
    both = np.intersect1d(probed, recorded)
    places = np.unique(np.linspace(0, len(both) - 1, SNAPSHOTS - 1).round().astype(int)) if len(both) else []
    return [int(step) for step in (*probed[probed == 0], *(both[place] for place in places))]


def _snapshots(rows: pd.DataFrame, quantity: str, panel: str) -> pd.DataFrame:
    curve = curve_rows(rows[rows["step"].isin(snapshots(rows)) | rows["quantity"].isin(STOPPED)], quantity, panel)
    steps = curve["x"].astype(int)
    return curve.assign(x=curve["series"].str.removeprefix("N=").astype(float), series="step " + steps.astype(str))


def _fig23_statistics(rows: pd.DataFrame, rate: float, label: str) -> Iterator[dict[str, object]]:
    trace, sharpness = (curves(rows, quantity, rate) for quantity in (TRACE, HESSIAN))
    if trace.comparable and sharpness.comparable:
        statistics = {
            f"{TRACE_FALL} | {label}": fall_of_spread(trace),
            f"{LATE_SHARPNESS} | {label}": late_spread(sharpness),
        }
        yield from statistic_rows(statistics, trace.seeds)


# --- published points -------------------------------------------------------------------------------------------------


def _beside_points(records: pd.DataFrame, rows: pd.DataFrame, rate: float, figure: str, points: Path) -> pd.DataFrame:
    """Points read off a figure that have a counterpart in this run, and what the run has there, against the step.

    ``published | <panel>``: bounds are the error of the reading. ``this run at the published points | <panel>``: mean
    over seeds, bounds one standard deviation. One series a width; ``order`` pairs the two.
    """
    label = str(rows["series"].iloc[0])
    found = share_within(rows, comparable(records, label, rate, figure, points)).rows
    parts = []
    for order, point in enumerate(found.itertuples()):
        panel, series = PANELS[point.quantity].format(point.index), series_of(point.N)
        recorded = GAPS.get(point.quantity, (point.quantity,))[0]
        estimator = rows.loc[rows["quantity"] == recorded, "estimator"].iloc[0]
        read = Interval(point.y, point.y - point.y_err, point.y + point.y_err, 1, "")
        own = Interval(point.mean, point.mean - point.sd, point.mean + point.sd, point.seeds, "")
        parts.append(interval_row(f"{PUBLISHED} | {panel}", series, point.step, read, "published") | {"order": order})
        parts.append(interval_row(f"{BESIDE} | {panel}", series, point.step, own, estimator) | {"order": order})
    return pd.DataFrame(parts, columns=list(ARTEFACT_COLUMNS))
