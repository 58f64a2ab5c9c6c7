"""Rows of artefact tables, as those of this room's tables are made."""

from __future__ import annotations

import numpy as np

from featurespeed.statistics import Interval, mean_interval

OPTIMIZER_LABELS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def geometric_mean(values: np.ndarray) -> Interval:
    """Mean and t interval of the logarithms; exact zeros stay 0, and zeros among other values have no interval."""
    positive = values[values > 0]
    if not len(positive):
        return Interval(0.0, 0.0, 0.0, len(values), "exactly 0")
    if len(positive) < max(len(values), 2):
        mean = float(np.exp(np.log(positive).mean()))
        return Interval(mean, np.nan, np.nan, len(positive), "geometric mean, no interval")
    found = mean_interval(np.log(np.sort(values)))
    return Interval(*(float(np.exp(v)) for v in (found.value, found.low, found.high)), found.n, "geometric mean")


def row(panel: str, series: str, x: float, found: Interval, flag: str, digits: int | None = 9) -> dict[str, object]:
    """One row; exponents are rid of rounding errors, which would differ with the order of the records."""
    y, low, high = (v if digits is None else round(v, digits) + 0.0 for v in (found.value, found.low, found.high))
    return {
        "panel": panel, "series": series, "x": x, "y": y, "y_low": low, "y_high": high, "n": found.n,
        "estimator": "training", "order": 0, "flag": flag,
    }  # fmt: skip
