"""What several statistics of this paper share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.claims.engine import Estimate
from featurespeed.claims.evidence import Tables, select, slope


def cosines(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the angle in ``value`` replaced by its cosine."""
    return rows.assign(value=np.cos(rows["value"]))


def theorem_depth_exponent(case: str, series: str, quantity: str) -> Callable[[Tables], Estimate]:
    """Statistic: exponent in L of a quantity of the table of theorems."""
    return lambda tables: slope(select(tables["fsf_theorems"], case=case, series=series, quantity=quantity), "depth")
