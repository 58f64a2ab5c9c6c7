"""Artefact table of the ConvNets of arXiv:2402.17457 beyond their edge of stability (ours; scalings reconstructed)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table
from featurespeed.papers.edge_of_stability import shared
from featurespeed.papers.edge_of_stability.bridge import analysis
from featurespeed.papers.edge_of_stability.bridge.analysis import BEYOND, QUADRATIC, SCALINGS, UNIFORM, Gain
from featurespeed.papers.edge_of_stability.shared import Runs
from featurespeed.statistics import Interval

TRAINS = "share that trains"
REACH = "largest kappa"
AT_REACH = "beyond at the largest kappa"
STATISTIC = "statistic"
#: Panel -> what it shows of one group of runs, ``[S, K]``; NaN where a network failed.
QUANTITIES: Mapping[str, Callable[[Runs], np.ndarray]] = {
    "training loss": lambda runs: runs.final("training_loss"),
    "test accuracy": lambda runs: runs.final("test_accuracy"),
    "steps beyond the edge": lambda runs: runs.over_training(BEYOND),
    "sharpness": lambda runs: runs.final("sharpness"),
    "participation ratio": lambda runs: runs.final("participation_ratio"),
}

Runs_ = Mapping[tuple[str, str], Runs]


def tabulate_beos_bridge(records: pd.DataFrame) -> pd.DataFrame:
    """Everything that the figure of ``beos_bridge`` draws.

    ``<quantity> | <network>``: against kappa, one series a scaling, the mean over the seeds that got to the end with
    the bootstrap over them (of the share of steps: over all that have some); flagged ``diverged`` or ``dead`` where
    some did not. ``share that trains | <network>``: of the ``n`` seeds. ``largest kappa |
    <network>``: at which all networks up to it train, at x = place of the scaling; ``grid edge``: only a bound.
    ``beyond at the largest kappa | <network>``: share of steps there, at x = that kappa. ``statistic``: mean gain over
    seeds, in steps of 2.
    """
    found = analysis.found(records)
    parts = [_trains(runs) for runs in found.values()]
    parts += [_values(runs, name) for name in QUANTITIES for runs in found.values()]
    parts += [_reach(runs) for runs in found.values()]
    return artefact_table(*parts, _table(_gains(found)))


def _trains(runs: Runs) -> pd.DataFrame:
    rows = []
    for place, kappa in enumerate(runs.kappas):
        share = Interval(float(runs.trained[:, place].mean()), np.nan, np.nan, len(runs.seeds), "share")
        rows.append(_row(f"{TRAINS} | {runs.key.network}", runs.key.scaling, kappa, share))
    return _table(rows)


def _values(runs: Runs, name: str) -> pd.DataFrame:
    values = QUANTITIES[name](runs)
    rows = []
    for place, kappa in enumerate(runs.kappas):
        at = shared.mean_interval(values[:, place])
        # Hollow, whether or not the failed ones have a value: a mean over the others leaves them out.
        flag = "diverged" if runs.diverged[:, place].any() else "dead" if runs.dead[:, place].any() else ""
        rows.append(_row(f"{name} | {runs.key.network}", runs.key.scaling, kappa, at, flag=flag))
    return _table(rows)


def _reach(runs: Runs) -> pd.DataFrame:
    own, place = analysis.reach(runs), SCALINGS.index(runs.key.scaling)
    flag = "grid edge" if own.at_edge else ""
    rows = [_row(f"{REACH} | {runs.key.network}", runs.key.scaling, place, own.interval(), place, flag)]
    if own.place() >= 0:
        share = analysis.share_beyond(runs, own.largest())
        rows.append(_row(f"{AT_REACH} | {runs.key.network}", runs.key.scaling, own.largest(), share, place))
    return _table(rows)


def _gains(found: Runs_) -> Iterator[dict[str, object]]:
    """What the largest kappa gains, in steps of 2: by a scaling over none, and by the quadratic pattern."""
    reaches = {key: analysis.reach(runs) for key, runs in found.items()}
    pairs = [(f"{s} over none, {UNIFORM}", (UNIFORM, s), (UNIFORM, "none")) for s in SCALINGS[1:]]
    pairs += [(f"{QUADRATIC} over {UNIFORM}, {s}", (QUADRATIC, s), (UNIFORM, s)) for s in SCALINGS]
    for order, (name, one, other) in enumerate(pairs):
        if one in reaches and other in reaches:
            yield _gain(name, Gain.of(reaches[one], reaches[other]), order)


def _gain(name: str, gain: Gain, order: int) -> dict[str, object]:
    return _row(STATISTIC, name, 0, gain.interval(), order, "grid edge" if gain.is_bound else "")


def _row(panel: str, series: str, x: float, at: Interval, order: int = 0, flag: str = "") -> dict[str, object]:
    return {
        "panel": panel, "series": series, "x": float(x), "y": at.value, "y_low": at.low, "y_high": at.high, "n": at.n,
        "estimator": "training", "order": order, "flag": flag,
    }  # fmt: skip


def _table(rows) -> pd.DataFrame:
    """Rows that have a value: of networks that all failed there is none. A bound that is open is left empty."""
    table = pd.DataFrame(list(rows), columns=list(ARTEFACT_COLUMNS))
    table = table[np.isfinite(table["y"].astype(float))]
    return table.assign(**{end: table[end].where(np.isfinite(table[end].astype(float))) for end in ("y_low", "y_high")})
