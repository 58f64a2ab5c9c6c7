"""The sharpness that the second paper reports over the depth with Adam: that of the Hessian, times what the learning
rates of its networks carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from featurespeed.papers.super_consistency.transformers.spec import GAMMA
from featurespeed.sweeps.transfer import settings

SCALED = "scaled_sharpness"  # N or N/sqrt(L) times the largest eigenvalue (arXiv:2402.17457, App. J.1)


def in_units_of_the_rate(rows: pd.DataFrame, told: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of one network with :data:`SCALED` in place of ``N`` times the eigenvalue (``gamma^2 = N`` here).

    Where the rates carry ``1/sqrt(L)``, so does it: ``N/sqrt(L)``; the authors plot both in this way (App. J.1, and
    their notebooks).

    Args:
        told: settings of the run.
    """
    optimizer = told["networks"][rows["series"].iloc[0]]["optimizer"]
    carried = optimizer.get("depth_rates")
    if carried is None:  # the table's Depth-muP
        carried = optimizer.get("layer_rates", "table") == "table"
    own, root = rows["quantity"] == GAMMA, rows["depth"] ** 0.5 if carried else 1.0
    values = rows["value"].where(~own, rows["value"] / root)
    return rows.assign(value=values, quantity=rows["quantity"].mask(own, SCALED))


def with_scaled(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """:func:`in_units_of_the_rate` of rows of a stage table."""
    return in_units_of_the_rate(rows, settings(table))
