"""What several rooms of the first paper (arXiv:2311.18718) share: estimators and cosines of angles."""

from __future__ import annotations

import numpy as np
import pandas as pd

DENSE = ("jvp", "finite step")


def cosines(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the angle in ``value`` replaced by its cosine."""
    return rows.assign(value=np.cos(rows["value"]))
