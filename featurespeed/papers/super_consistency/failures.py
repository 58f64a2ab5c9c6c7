"""Networks with Adam that failed before the sharpness was first measured.

Adam has no preconditioner before its first update, so that there is no sharpness at step 0, as there is of gradient
descent whatever becomes of it.
"""

from __future__ import annotations

import pandas as pd

from featurespeed.papers.super_consistency.spec import PRECONDITIONED
from featurespeed.sweeps.transfer import STOPPED


def failed_before(records: pd.DataFrame) -> list[str]:
    """Labels of the networks that failed at every rate, size and seed where the sharpness was to be measured."""
    measured = set(records.loc[records["quantity"] == PRECONDITIONED, "series"])
    return sorted(set(records.loc[records["quantity"].isin(STOPPED), "series"]) - measured)
