"""From long stage tables to artefact tables: the CSV files that hold exactly what a figure draws.

An artefact table has the columns :data:`ARTEFACT_COLUMNS`; ``docs/tables.md`` says what panel, series, x and y mean for
each artefact. Rows are summaries over seeds (``n`` of them, with ``y_low`` and ``y_high``), single draws (``n`` = 1, no
bounds, ``order`` = index of the draw), theory (``n`` = 0) or points read off the paper (``n`` = points averaged there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from featurespeed.statistics import PIXEL, Interval, median_interval

#: What is said of a stage table without a row of what an artefact draws.
NOTHING = "the stage table holds nothing that this artefact draws"
#: Columns of every artefact table, a public interface.
ARTEFACT_COLUMNS = ("panel", "series", "x", "y", "y_low", "y_high", "n", "estimator", "order", "flag")

#: Values of ``flag``; a flagged point is drawn hollow, never dropped.
FLAGS = ("", "diverged", "dead", "unconverged", "grid edge")

# Six significant digits: far below any interval here, and equal on every machine.
FLOAT_FORMAT = "%.6g"


#: Fewest values that bracket their median with 95% confidence: the range covers 1 - 2^(1-n).
FEWEST_FOR_A_MEDIAN = 6


def percentiles(values: np.ndarray) -> Interval:
    """Median and the band from the 2.5th to the 97.5th percentile: where 95% of single draws fall."""
    low, median, high = np.percentile(values, [2.5, 50.0, 97.5])
    return Interval(float(median), float(low), float(high), len(values), "median, 2.5 to 97.5 percentiles")


def median(values: np.ndarray) -> Interval:
    """Median with its 95% interval; without bounds where there are too few values for one."""
    if len(values) >= FEWEST_FOR_A_MEDIAN:
        return median_interval(values)
    return Interval(float(np.median(values)), np.nan, np.nan, len(values), "median, no interval")


def artefact_table(*parts: pd.DataFrame) -> pd.DataFrame:
    """Join rows into one artefact table, sorted, with the public columns in order.

    Raises:
        ValueError: there is nothing to draw, or a flag is unknown.
    """
    filled = [part for part in parts if len(part)]
    if not filled:
        raise ValueError(NOTHING)
    table = pd.concat(filled, ignore_index=True)[list(ARTEFACT_COLUMNS)]
    unknown = set(table["flag"]) - set(FLAGS)
    if unknown:
        raise ValueError(f"flag = {sorted(unknown)}: allowed: {FLAGS}")
    return table.sort_values(["panel", "estimator", "series", "order", "x"], kind="stable", ignore_index=True)


def select(records: pd.DataFrame, estimator: str | Iterable[str], **keys: object) -> pd.DataFrame:
    """Records of one or several estimators whose columns equal ``keys``."""
    estimators = [estimator] if isinstance(estimator, str) else list(estimator)
    keep = records["estimator"].isin(estimators)
    for column, value in keys.items():
        keep &= records[column] == value
    return records[keep]


def draws(records: pd.DataFrame, x: str, panel: str) -> pd.DataFrame:
    """One row a record; ``order`` counts the draws at each x, in the order of their seeds."""
    order = records.groupby(["series", "estimator", x])["seed"].rank(method="first").astype(int) - 1
    return _rows(records.assign(order=order), x, panel).assign(y_low=np.nan, y_high=np.nan, n=1)


def theory(records: pd.DataFrame, x: str, panel: str) -> pd.DataFrame:
    """Rows of a formula: no seeds, no bounds."""
    return _rows(records.assign(order=0), x, panel).assign(y_low=np.nan, y_high=np.nan, n=0)


def summaries(records: pd.DataFrame, x: str, panel: str, summarise: Callable[[np.ndarray], Interval]) -> pd.DataFrame:
    """One row for each series, estimator and x: the values of all seeds, summarised."""
    rows = []
    for (series, estimator, where), group in records.groupby(["series", "estimator", x], sort=True):
        found = summarise(group["value"].to_numpy())
        # A summary without an interval is not a settled number: it is drawn hollow.
        flag = "" if np.isfinite(found.low) and np.isfinite(found.high) else "unconverged"
        rows.append((panel, series, float(where), found.value, found.low, found.high, found.n, estimator, 0, flag))
    return pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS))


def published(points: pd.DataFrame, figure: str, panel: str) -> pd.DataFrame:
    """Points read off a published figure, with the 95% band of what was read.

    Args:
        points: columns figure, series, x, y, y_sd, k (radians; sd over the k drawn lines or points behind a point); an
            x such as ``50-100`` is a range, placed at its middle.
        figure: value of the column ``figure``.
        panel: panel of the rows.
    """
    own = points[points["figure"] == figure]
    half_width = 1.96 * np.sqrt(own["y_sd"] ** 2 / own["k"] + PIXEL**2)
    x = [float(np.mean([float(end) for end in str(where).split("-")])) for where in own["x"]]
    return pd.DataFrame(
        {
            "panel": panel, "series": own["series"], "x": x, "y": own["y"], "y_low": own["y"] - half_width,
            "y_high": own["y"] + half_width, "n": own["k"], "estimator": "published", "order": 0, "flag": "",
        }
    )  # fmt: skip


def power_law(
    panel: str, series: str, x: Iterable[float], anchor: tuple[float, float], exponent: float
) -> pd.DataFrame:
    """A guide ``y = y0 (x/x0)^exponent`` at the two ends of ``x``; in a table its series says that it is a guide."""
    ends = np.array([min(x), max(x)], dtype=float)
    y = anchor[1] * (ends / anchor[0]) ** exponent
    return pd.DataFrame(
        {
            "panel": panel, "series": series, "x": ends, "y": y, "y_low": np.nan, "y_high": np.nan, "n": 0,
            "estimator": "theory", "order": 0, "flag": "",
        }
    )  # fmt: skip


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write an artefact table; equal tables give equal bytes."""
    table.to_csv(path, index=False, float_format=FLOAT_FORMAT, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """An artefact table as written; empty text cells stay empty text."""
    text = {"panel": str, "series": str, "estimator": str, "flag": str}
    table = pd.read_csv(
        path, dtype=text, keep_default_na=False, na_values=dict.fromkeys(("y", "y_low", "y_high"), [""])
    )
    return table[list(ARTEFACT_COLUMNS)]


def _rows(records: pd.DataFrame, x: str, panel: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "panel": panel, "series": records["series"], "x": records[x].astype(float), "y": records["value"],
            "estimator": records["estimator"], "order": records["order"], "flag": "",
        }
    )  # fmt: skip
