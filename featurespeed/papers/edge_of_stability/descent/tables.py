"""Artefact tables of training beyond the edge of stability (arXiv:2502.13110, known to us by its abstract).

Every function takes the long stage table of one artefact and returns the artefact table (``docs/tables.md``). A group
of runs is a series ``<network> | <scaling> | <schedule>`` where the x axis is kappa, and part of the panel where it is
the step. Points along training are medians over the seeds that are left, their bounds the smallest and the largest one;
a network that failed is a row of its own at its last step, with a flag and ``order`` = 1, 2, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, NOTHING, artefact_table
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, Runs, all_runs, mean_interval
from featurespeed.statistics import Interval, proportion_interval, ratio_interval
from featurespeed.sweeps import transfer

SEPARATOR = " | "
STATISTIC = "statistic"
TRAINED, DIVERGED, DEAD, UNCONVERGED = "trained", "diverged", "dead", "unconverged"
LOSS_RATIO, BEYOND = "largest loss ratio", "steps beyond the edge"
LOSS, STEP_SIZE, RATIO = "training loss", "step size", "curvature ratio"
SHARPNESS, SCALED = "sharpness", "scaled sharpness over its edge"
PARTICIPATION, STABLE, ENTROPY = "participation ratio", "stable rank", "entropy rank"
ACCURACY, COSINE, MEAN_COSINE = "test accuracy", "update cosine", "mean update cosine"

#: Panel -> quantity of the records, at the end of training.
AT_THE_END = {PARTICIPATION: "participation_ratio", STABLE: "stable_rank", ENTROPY: "entropy_rank",
              SHARPNESS: "sharpness", ACCURACY: "test_accuracy"}  # fmt: skip
#: Panel -> quantity of the records, along training.
ALONG = {LOSS: "training_loss", SHARPNESS: "sharpness", SCALED: "scaled_sharpness", RATIO: "curvature_ratio",
         PARTICIPATION: "participation_ratio", COSINE: "update_cosine", STEP_SIZE: "step_size"}  # fmt: skip
ALL = AT_THE_END | ALONG
FIG2 = (LOSS, SHARPNESS, SCALED, RATIO, PARTICIPATION)
FIG3 = (PARTICIPATION, STABLE, ENTROPY, SHARPNESS)
FIG5 = (LOSS, STEP_SIZE, RATIO, PARTICIPATION)
#: Thresholds of the claim about the mean cosine.
COSINES = (0.1, 0.03)
LOW, HIGH = 0.5, 32.0  # kappas that statistics compare
GEOMETRIC_LOW, GEOMETRIC_HIGH = 0.5, 1.5


@dataclass(frozen=True)
class Summary:
    """What is made of the values of several seeds: a value with bounds, and how many seeds it stands for."""

    value: float
    low: float
    high: float
    n: int


# --- the artefacts ----------------------------------------------------------------------------------------------------


def tabulate_fig1(records: pd.DataFrame) -> pd.DataFrame:
    """Stability: share of the seeds that trained, diverged and died, largest loss ratio, and share of steps beyond."""
    return artefact_table(*(_table(_stability(run)) for run in _drawn(records)))


def tabulate_fig2(records: pd.DataFrame) -> pd.DataFrame:
    """Loss, sharpness, scaled sharpness, curvature ratio and rank along training at the kappas that are shown."""
    _check(records, FIG2)
    parts = []
    for run in _constant(records):
        kappas = _shown(records, run)
        parts += [_along(records, run, name, kappas) for name in FIG2]
        parts.append(_table(_outcomes(run)))
    return artefact_table(*parts)


def tabulate_fig3(records: pd.DataFrame) -> pd.DataFrame:
    """Soft ranks and sharpness at the end of training against kappa, with the ratio of those at 32 and at 0.5."""
    _check(records, FIG3)
    parts, found = [], _constant(records)
    for run in found:
        for name in FIG3:
            parts.append(_table(_at_the_end(run, name, _range)))
        parts.append(_table(_outcomes(run)))
    return artefact_table(*parts, _table(_ratios(found, (PARTICIPATION, SHARPNESS), HIGH, LOW)))


def tabulate_fig4(records: pd.DataFrame) -> pd.DataFrame:
    """Cosine of the new update with the sum of all before it: along training, and its mean against kappa."""
    _check(records, (COSINE,))
    parts = []
    for run in _constant(records):
        parts.append(_along(records, run, COSINE, _shown(records, run)))
        parts.append(_table(_against_kappa(run, MEAN_COSINE, run.over_training("update_cosine"), _range)))
        parts.append(_table(_outcomes(run)))
    return artefact_table(*parts)


def tabulate_fig5(records: pd.DataFrame) -> pd.DataFrame:
    """The geometry-aware schedule along training, and the constant one of the same network and scaling."""
    _check(records, FIG5)
    found = _drawn(records)
    members = {run.key[:2] for run in found if run.key.schedule == GEOMETRY_AWARE}
    if not members:
        raise ValueError(NOTHING)
    parts = []
    for run in (run for run in found if run.key[:2] in members):
        kappas = run.kappas if run.key.schedule == GEOMETRY_AWARE else _shown(records, run)
        parts += [_along(records, run, name, kappas) for name in FIG5]
        parts += [_table(_outcomes(run)), _table(_beyond(run))]
    geometric = [run for run in found if run.key.schedule == GEOMETRY_AWARE]
    return artefact_table(*parts, _table(_ratios(geometric, (PARTICIPATION,), GEOMETRIC_HIGH, GEOMETRIC_LOW)))


def tabulate_table1(records: pd.DataFrame) -> pd.DataFrame:
    """Every run: who failed, largest loss ratio, and what trained networks end with, with intervals over seeds."""
    parts = []
    for run in _groups(records):
        parts.append(_table(_stability(run)))
        parts += [_table(_at_the_end(run, name, _bootstrap)) for name in AT_THE_END]
        parts.append(_table(_against_kappa(run, MEAN_COSINE, run.over_training("update_cosine"), _bootstrap)))
    return artefact_table(*parts)


# --- which runs -------------------------------------------------------------------------------------------------------


def series_of(run: Runs) -> str:
    """Series of a group of runs."""
    return SEPARATOR.join(run.key)


def kappa_series(kappa: float) -> str:
    """Series of one kappa, or kappa_g."""
    return f"kappa={kappa:g}"


def _groups(records: pd.DataFrame) -> list[Runs]:
    if records.empty:
        raise ValueError(NOTHING)
    return all_runs(records)


def _drawn(records: pd.DataFrame) -> list[Runs]:
    """All runs up to the largest kappa that the settings have for all scalings.

    Beyond it a scaling may have runs that are there to be compared at equal learning rates.
    """
    far = (records["case"] == CONSTANT) & (records["c"] > max(transfer.settings(records)["kappas"]))
    return _groups(records[~far])


def _constant(records: pd.DataFrame) -> list[Runs]:
    found = [run for run in _drawn(records) if run.key.schedule == CONSTANT]
    if not found:
        raise ValueError(NOTHING)
    return found


def _shown(records: pd.DataFrame, run: Runs) -> list[float]:
    """Those of the kappas that the settings show which were run."""
    return [kappa for kappa in transfer.settings(records)["shown"] if run.has(kappa)]


def _check(records: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise if none of these panels was measured; networks that failed at once are something to draw."""
    if not records["quantity"].isin([ALL[name] for name in names]).any():
        raise ValueError(NOTHING)


# --- rows against kappa -----------------------------------------------------------------------------------------------


def _stability(run: Runs) -> Iterator[dict[str, object]]:
    yield from _outcomes(run)
    yield from _against_kappa(run, LOSS_RATIO, run.reached("largest_loss_ratio"), _median)
    yield from _beyond(run)


def _outcomes(run: Runs) -> Iterator[dict[str, object]]:
    """Shares of the seeds; the one of those that trained with its binomial interval."""
    for name, members in ((TRAINED, run.finite), (DIVERGED, run.diverged), (DEAD, run.dead)):
        for place, kappa in enumerate(run.kappas):
            n, count = len(run.seeds), int(members[:, place].sum())
            bounds = (np.nan, np.nan)
            if name == TRAINED and n > 1:
                found = proportion_interval(count, n)
                bounds = (found.low, found.high)
            yield _row(name, series_of(run), kappa, Summary(count / n, *bounds, n), flag=_failure(run, place))


def _beyond(run: Runs) -> Iterator[dict[str, object]]:
    yield from _against_kappa(run, BEYOND, run.over_training("beyond_share"), _range)


def _against_kappa(
    run: Runs, panel: str, values: np.ndarray, summarise: Callable[[np.ndarray], Summary]
) -> Iterator[dict[str, object]]:
    """One row a kappa at which a seed has a value, ``[S, K]``; flagged where a network failed."""
    for place, kappa in enumerate(run.kappas):
        own = values[:, place]
        if np.isfinite(own).any():
            yield _row(panel, series_of(run), kappa, summarise(own[np.isfinite(own)]), flag=_failure(run, place))


def _at_the_end(run: Runs, panel: str, summarise: Callable[[np.ndarray], Summary]) -> Iterator[dict[str, object]]:
    """As :func:`_against_kappa`, after the last step; flagged where an eigenvalue has not converged, too."""
    quantity = AT_THE_END[panel]
    poor = run.unconverged(quantity)
    for row in _against_kappa(run, panel, run.final(quantity), summarise):
        doubtful = poor[:, run.place(row["x"]), -1].any()
        yield row | {"flag": row["flag"] or (UNCONVERGED if doubtful else "")}


def _failure(run: Runs, place: int) -> str:
    return DIVERGED if run.diverged[:, place].any() else DEAD if run.dead[:, place].any() else ""


def _ratios(found: Sequence[Runs], names: Sequence[str], high: float, low: float) -> Iterator[dict[str, object]]:
    """Value at one kappa over that at another, of the seeds that trained at both, paired; two of them at least."""
    for run in found:
        if not run.has(high, low):
            continue
        for name in names:
            values = np.where(run.trained, run.final(AT_THE_END[name]), np.nan)
            both = np.stack([run.at(values, kappa) for kappa in (high, low)])
            above, below = both[:, np.isfinite(both).all(0)]
            if len(above) < 2:
                continue
            series = SEPARATOR.join((f"{name}, {high:g} over {low:g}", *run.key))
            yield _row(STATISTIC, series, 0.0, _of_interval(ratio_interval(above, below)))


# --- rows along training ----------------------------------------------------------------------------------------------


def _along(records: pd.DataFrame, run: Runs, name: str, kappas: Sequence[float]) -> pd.DataFrame:
    """Curves of one quantity, one series a kappa, and a row for every network that failed."""
    steps, values, poor = _curves(run, name)
    # The last record of a network that failed may lie between those of the others: it is not part of the curve.
    regular = steps % transfer.settings(records)["record_every"] == 0
    panel, found = SEPARATOR.join((name, *run.key)), []
    for kappa in kappas:
        own, doubtful = run.at(values, kappa), run.at(poor, kappa).any(0)
        for place in np.flatnonzero(regular & np.isfinite(own).any(0)):
            middle, flag = _median(own[np.isfinite(own[:, place]), place]), UNCONVERGED if doubtful[place] else ""
            found.append(_row(panel, kappa_series(kappa), steps[place], middle, flag=flag))
        found += _last_steps(run, panel, kappa, own)
    return _table(found)


def _curves(run: Runs, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(steps [T], values [S, K, T], unconverged [S, K, T])``; the constant step size is the learning rate."""
    if name == STEP_SIZE and run.key.schedule == CONSTANT:
        values = np.repeat(run.rates[..., None], 2, axis=-1)
        return np.array([0, run.last]), values, np.zeros(values.shape, dtype=bool)
    steps, values = run.along(ALONG[name])
    return steps, values * run.rates[..., None] / 2 if name == SCALED else values, run.unconverged(ALONG[name])


def _last_steps(run: Runs, panel: str, kappa: float, values: np.ndarray) -> list[dict[str, object]]:
    """Where networks failed, and their last value before, ``values [S, T]``; without one, y is empty."""
    place, found = run.place(kappa), []
    for seed in np.flatnonzero(~run.finite[:, place]):
        there = values[seed][np.isfinite(values[seed])]
        flag = DIVERGED if run.diverged[seed, place] else DEAD
        last = Summary(float(there[-1]) if len(there) else np.nan, np.nan, np.nan, 1)
        found.append(_row(panel, kappa_series(kappa), run.failed_step[seed, place], last, len(found) + 1, flag))
    return found


# --- summaries --------------------------------------------------------------------------------------------------------


def _range(values: np.ndarray) -> Summary:
    return Summary(float(values.mean()), float(values.min()), float(values.max()), len(values))


def _median(values: np.ndarray) -> Summary:
    return Summary(float(np.median(values)), float(values.min()), float(values.max()), len(values))


def _bootstrap(values: np.ndarray) -> Summary:
    return _of_interval(mean_interval(values))


def _of_interval(found: Interval) -> Summary:
    return Summary(found.value, found.low, found.high, found.n)


def _row(panel: str, series: str, x: float, found: Summary, order: int = 0, flag: str = "") -> dict[str, object]:
    estimator = "Lanczos" if panel.split(SEPARATOR)[0] in (SHARPNESS, SCALED) else "training"
    values = (panel, series, float(x), found.value, found.low, found.high, found.n, estimator, order, flag)
    return dict(zip(ARTEFACT_COLUMNS, values, strict=True))


def _table(rows: Sequence[dict[str, object]] | Iterator[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS))
