"""Artefact table of the comparison of conventions: one row a network and quantity, with t intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table
from featurespeed.drawing.width_rows import interval_row
from featurespeed.papers.super_consistency.conventions.analysis import SPAN, Variant, families, variant
from featurespeed.statistics import Interval, exponential, mean_interval, ratio_interval
from featurespeed.sweeps.optima import CENSORED

LEVEL = "initial sharpness over 2/best learning rate"
RATE = "best learning rate"
SHIFT = f"shift of the best learning rate for {SPAN} times the width"
OVER_BASE = ", over the base"
GRID_EDGE, NOTHING = "grid edge", "dead"


def tabulate(records: pd.DataFrame) -> pd.DataFrame:
    """Networks in panels ``<quantity> | <base>``, series their labels; ``order`` counts them from family to family."""
    parts, order = [], 0
    for base, labels in families(records).items():
        found = [own for label in labels if (own := _measured(records, label)) is not None]
        reference = next((own for own in found if own.label == base), None)
        for own in found:
            rows = [row | {"order": order} for row in (*_numbers(own, base), *_over_base(own, reference))]
            parts.append(pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS)))
            order += 1
    return artefact_table(*parts)


def _measured(records: pd.DataFrame, label: str) -> Variant | None:
    """A network; None without a sharpness at step 0, whose derivatives overflow there."""
    try:
        return variant(records, label)
    except ValueError:
        return None


def _numbers(own: Variant, base: str) -> Iterator[dict[str, object]]:
    """The quantities of one network: its start, its best rate at the smallest and the largest width, and the shift."""
    optima = own.optima
    bad = "" if optima.usable else GRID_EDGE if np.isfinite(optima.log2_rates).all() else NOTHING
    start = bad or ("" if own.converged else "unconverged")
    yield _row(LEVEL, base, own, 0.0, _geometric(own.levels()), start, "Lanczos")
    for place in (0, -1):
        known, ended = np.isfinite(optima.log2_rates[:, place]).all(), optima.censored[:, place].mean() > CENSORED
        flag = NOTHING if not known else GRID_EDGE if ended else ""
        yield _row(RATE, base, own, optima.sizes[place], _geometric(2 ** optima.log2_rates[:, place]), flag)
    yield _row(SHIFT, base, own, 0.0, _shift(own), bad)


def _over_base(own: Variant, base: Variant | None) -> Iterator[dict[str, object]]:
    """How many times those of the base, paired by seed; nothing where one of them is not known."""
    if base is None or own is base or not (own.optima.usable and base.optima.usable):
        return
    if all((one.levels() > 0).all() for one in (own, base)):
        levels = ratio_interval(own.levels(), base.levels())
        yield _row(LEVEL + OVER_BASE, base.label, own, 0.0, levels, "", "Lanczos")
    rates = ratio_interval(2 ** own.log2_rates(), 2 ** base.log2_rates())
    yield _row(RATE + OVER_BASE, base.label, own, 0.0, rates, "")


def _geometric(values: np.ndarray) -> Interval:
    """Geometric mean with the t interval of the logarithm; no number where a seed has none, or no logarithm."""
    if not (np.isfinite(values) & (values > 0)).all():
        return Interval(np.nan, np.nan, np.nan, len(values), "")
    return exponential(mean_interval(np.log(values)), "geometric mean, t interval of the log")


def _shift(own: Variant) -> Interval:
    """Without bounds where the rates end too early to tell it."""
    shifts = own.shifts()
    if own.optima.usable:
        return mean_interval(shifts)
    bound = np.inf if np.isfinite(shifts).all() else np.nan
    return Interval(float(shifts.mean()), -bound, bound, len(shifts), "")


def _row(
    quantity: str, base: str, own: Variant, x: float, found: Interval, flag: str, estimator: str = "training"
) -> dict[str, object]:
    return interval_row(f"{quantity} | {base}", own.label, float(x), found, estimator) | {"flag": flag}
