"""Artefact tables of Figures 2, 3 and 23 of the second paper: spectra over the width, distances to the widest net."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from featurespeed.drawing.distance_rows import distance_parts
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table
from featurespeed.drawing.width_rows import (
    STATISTIC,
    curve_rows,
    edge_rows,
    exponent_row,
    guide_rows,
    interval_row,
    measured_networks,
    series_of,
    trained_rows,
)
from featurespeed.papers.super_consistency.agreement import GAPS, comparable, share_within
from featurespeed.papers.super_consistency.published import POINTS, PROXY
from featurespeed.statistics import Interval
from featurespeed.sweeps.convergence import (
    FEWEST_WIDTHS,
    curves,
    distances,
    interval,
)
from featurespeed.sweeps.dependence import (
    early_exponents,
    exponents_at_the_ends,
    exponents_of_tenths,
    late_exponents,
    steeper,
)
from featurespeed.sweeps.transfer import spread

HESSIAN, NTK, LOSS, TRACE = "sharpness", "ntk_eigenvalue", "training_loss", "hessian_trace"
SPREAD = "CV over widths"
#: Quantities whose distances to the widest network are fitted: name in the table -> quantity of the stage table.
DISTANCES = {"training loss": LOSS, "NTK eigenvalue": NTK, "sharpness": HESSIAN}
#: Quantities drawn against the width, in the order of the panels.
OVER_WIDTH = {"NTK eigenvalue": NTK, "sharpness": HESSIAN, "training loss": LOSS, "Hessian trace": TRACE}
SNAPSHOTS = 5  # steps at which Figure 23 looks

# Statistics of the claims. Exponents are in the width; of two, which are compared without their signs, the difference.
STEEPNESS = "exponent of eigenvalue {} minus that of eigenvalue 1, early"
NTK_GROWTH = "exponent of the NTK, last minus first step"
TRACE_FALL = "exponent of the trace, first minus last tenth"
LATE_SHARPNESS = "exponent of the sharpness, second half"
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
        differences = {
            STEEPNESS.format(shown[-1]): lambda: steeper(early_exponents(last), early_exponents(first)),
            NTK_GROWTH: lambda: steeper(*reversed(exponents_at_the_ends(ntk))),
        }
        parts.append(_exponent_rows(differences))
    return artefact_table(*parts, _beside_points(records, rows, rate, "2", points))


def _exponent_rows(found: Mapping[str, Callable[[], np.ndarray]]) -> pd.DataFrame:
    """Means over seeds with t intervals, of what has exponents."""
    rows = [exponent_row(STATISTIC, name, float(order), each) for order, (name, each) in enumerate(found.items())]
    return pd.DataFrame(chain.from_iterable(rows), columns=list(ARTEFACT_COLUMNS))


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
            parts += list(distance_parts(name, distances(own)))
    theirs = _beside_points(records, rows, rate, "3", points)
    if rows["width"].max() != PROXY:
        theirs = theirs[~theirs["panel"].str.contains(" | distance | ", regex=False)]
    return artefact_table(*parts, theirs)


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
        parts.append(_fig23_statistics(rows, rate, label))
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
    """Some steps of the curves; where a width ends before the last one, its last point has the flag of its end."""
    steps, curve = snapshots(rows), curve_rows(rows, quantity, panel)
    found = curve[curve["x"].isin(steps)].copy()
    for series, own in curve.groupby("series"):
        shown = found.index[found["series"] == series]
        if len(shown) and own["x"].max() < max(steps):
            found.loc[shown[-1], "flag"] = own["flag"].iloc[-1]
    names = "step " + found["x"].astype(int).astype(str)
    return found.assign(x=found["series"].str.removeprefix("N=").astype(float), series=names)


def _fig23_statistics(rows: pd.DataFrame, rate: float, label: str) -> pd.DataFrame:
    trace, sharpness = (curves(rows, quantity, rate) for quantity in (TRACE, HESSIAN))
    if not (trace.comparable and sharpness.comparable):
        return _exponent_rows({})
    return _exponent_rows(
        {
            f"{TRACE_FALL} | {label}": lambda: steeper(*exponents_of_tenths(trace)),
            f"{LATE_SHARPNESS} | {label}": lambda: late_exponents(sharpness),
        }
    )


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
