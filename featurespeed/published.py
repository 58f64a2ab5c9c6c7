"""Points read off published figures, kept as data in ``workflow/published`` with their source."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FEATURE_SPEED = Path(__file__).parents[1] / "workflow" / "published" / "feature_speed_fig1ab.csv"

#: Drawn lines or points behind one published point: five draws in Figure 1a, 51 depths in Figure 1b.
POINTS_AVERAGED = {"1a": 5, "1b": 51}


def read_published(path: Path = FEATURE_SPEED) -> pd.DataFrame:
    """Columns ``figure, series, x, y, y_sd, k``: angles in radians, ``k`` drawn points averaged, of spread ``y_sd``.

    ``x`` stays text, for it may be a range such as ``50-100``.
    """
    points = pd.read_csv(path, dtype={"figure": str, "series": str, "x": str})
    return points.assign(k=points["figure"].map(POINTS_AVERAGED))
