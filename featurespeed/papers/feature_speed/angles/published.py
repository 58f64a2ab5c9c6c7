"""Points read off Figures 1a and 1b of arXiv:2311.18718, kept in ``published.csv``.

Backward-feature angles in radians, measured in pixels on the figure files that the authors distribute; one pixel is
0.0026 rad. ``series`` is the law of the branch scale; the MLP is ``beta=1`` (drawn at 0.999 in Figure 1b). ``x`` is the
layer v in Figure 1a (the authors' axis shows v - 1), and in Figure 1b the range of depths that was averaged, both ends
included. ``y`` is the mean of k drawn values, ``y_sd`` their standard deviation. The figures draw the points as hollow
diamonds with the half-width ``1.96 sqrt(y_sd^2/k + 0.0026^2)``, a range of depths at its middle. The point ``beta=1``,
v = 25 lies partly under the legend of the original figure and is less certain than the others.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

POINTS = Path(__file__).with_name("published.csv")

#: Drawn lines or points behind one published point: five draws in Figure 1a, 51 depths in Figure 1b.
POINTS_AVERAGED = {"1a": 5, "1b": 51}


def read_published(path: Path = POINTS) -> pd.DataFrame:
    """Columns ``figure, series, x, y, y_sd, k``: angles in radians, ``k`` drawn points averaged, of spread ``y_sd``.

    ``x`` stays text, for it may be a range such as ``50-100``.
    """
    points = pd.read_csv(path, dtype={"figure": str, "series": str, "x": str})
    return points.assign(k=points["figure"].map(POINTS_AVERAGED))
