"""Artefact tables of Tables 1 and 2 of arXiv:2311.18718."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import (
    artefact_table,
)
from featurespeed.records import SIZE_COLUMNS
from featurespeed.scalings import FSF_EXPONENTS
from featurespeed.statistics import loglog_exponents


def _exponents(records: pd.DataFrame) -> pd.DataFrame:
    rows = []
    measured = records[records["estimator"] != "theory"]
    for (scaling, quantity), group in measured.groupby(["scaling", "quantity"], sort=True):
        stated: Mapping[str, float] = FSF_EXPONENTS[scaling].get(quantity, dict.fromkeys(SIZE_COLUMNS, 0.0))
        found = loglog_exponents(group, list(SIZE_COLUMNS.values()), "value")
        for size, column in SIZE_COLUMNS.items():
            exponent = found[column]
            flag = "" if np.isfinite(exponent.low) and np.isfinite(exponent.high) else "unconverged"
            rows.append(
                {
                    "panel": f"{scaling} | exponent of {size}", "series": quantity, "x": stated[size],
                    "y": _round(exponent.value), "y_low": _round(exponent.low), "y_high": _round(exponent.high),
                    "n": exponent.n,
                    "estimator": group["estimator"].iloc[0], "order": 0, "flag": flag,
                }
            )  # fmt: skip
    return artefact_table(pd.DataFrame(rows))


def _round(exponent: float) -> float:
    """Rid an exact exponent of rounding errors, which would differ with the order of the rows; no negative zero."""
    return round(exponent, 9) + 0.0


def tabulate_table1(records: pd.DataFrame) -> pd.DataFrame:
    """Measured (y) against stated (x) exponents of m, L, d, k for the MLP's scalings; 0 is stated for a property."""
    return _exponents(records)


def tabulate_table2(records: pd.DataFrame) -> pd.DataFrame:
    """Measured (y) against stated (x) exponents for the ResNet's FSC scaling."""
    return _exponents(records)
