"""Artefact table of the Taylor coefficients (``beos_fig6``): their errors, and how far along a step they predict.

For arXiv:2502.13110, of which only the abstract is known to us; the coefficients are our reconstruction.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, NOTHING, artefact_table

#: Errors below this stand here: 0 has no place on a logarithmic axis.
FLOOR = 1e-17
COEFFICIENTS = ("c0", "c1", "c2", "c3")
IDENTITIES = (
    "curvature form of c2", "directional sharpness at most lambda_Xi", "backward feature identity", "Euler identity",
    "soft rank identity",
)  # fmt: skip
#: One side taken from another network: their errors must be above the thresholds. Those that are drawn.
CONTROLS = (
    "c1, another network's", "c2, another network's", "c3, another network's",
    "backward feature identity, another network's",
)  # fmt: skip
EXACT, EXACT_C3 = 1e-12, 1e-10
THRESHOLDS = dict.fromkeys((*COEFFICIENTS, *IDENTITIES, *CONTROLS), EXACT) | dict.fromkeys(
    ("c3", "c3, another network's"), EXACT_C3
)
ORDERS = ("order 1", "order 2", "order 3")
MEASURED, LINEAR = "measured", "measured, linear region"
THRESHOLD, CROSSING, FAILED, NO_EDGE = "guide threshold", "loss is back", "failed", "no edge"


def tabulate_taylor(records: pd.DataFrame) -> pd.DataFrame:
    """Panels ``error | ...``, ``loss change | step ...``, ``error of the order | ...`` and ``statistic``.

    Raises:
        ValueError: no random networks, or nothing was predicted.
    """
    predicted = records[(records["case"] == "predicted") & (records["quantity"] == "loss_change")]
    if predicted.empty or not records["case"].isin(["autodiff", "identity"]).any():
        raise ValueError(NOTHING)
    changes = _in_units(predicted)
    parts = [_errors(records), _loss_changes(changes), _errors_of_orders(changes), _crossings(changes)]
    parts.append(_counts(records, changes))
    return artefact_table(*parts)


def _errors(records: pd.DataFrame) -> pd.DataFrame:
    """Median error over the random networks of each scaling, with the range; and the thresholds."""
    rows = records[records["case"].isin(["autodiff", "identity"])]
    found = []
    for place, name in enumerate(THRESHOLDS):
        own = rows[rows["series"] == name]
        for scaling, group in own.groupby("scaling"):
            values = group["value"].clip(lower=FLOOR)
            found.append(
                _row(f"error | {name}", scaling, place, values.median(), values.min(), values.max(), len(values))
            )
        if len(own):
            guide = _row(f"error | {name}", THRESHOLD, place, THRESHOLDS[name], np.nan, np.nan, 0)
            found.append(guide | {"estimator": "theory"})
    return pd.DataFrame(found, columns=list(ARTEFACT_COLUMNS))


def _in_units(predicted: pd.DataFrame) -> pd.DataFrame:
    """Loss changes of every network, probe step and step size, over the linear decrease at the edge, ``c1^2/|c2|``."""
    keys = ["step", "seed", "c"]
    wide = predicted.pivot_table(index=keys, columns="series", values="value").reset_index()
    unit = (wide["order 1"] / wide["c"]).abs()
    return wide[keys].assign(**{name: wide[name] / unit for name in (*ORDERS, MEASURED, LINEAR)})


def _loss_changes(changes: pd.DataFrame) -> pd.DataFrame:
    """Median over seeds at each step size, with the range."""
    found = []
    for (step, size), group in changes.groupby(["step", "c"]):
        for name in (*ORDERS, MEASURED, LINEAR):
            found.append(_summary(f"loss change | step {step}", name, size, group[name]))
    return pd.DataFrame(found)


def _errors_of_orders(changes: pd.DataFrame) -> pd.DataFrame:
    """Difference of predicted and measured over the linear decrease of that step: all networks and probe steps."""
    found = []
    for size, group in changes.groupby("c"):
        for name in ORDERS:
            for truth in (MEASURED, LINEAR):
                values = ((group[name] - group[truth]).abs() / size).clip(lower=FLOOR)
                found.append(_summary(f"error of the order | {truth}", name, size, values))
    return pd.DataFrame(found)


def _crossings(changes: pd.DataFrame) -> pd.DataFrame:
    """Step size at which the measured loss is back where it was: the model of order 2 says 1.

    A network whose loss is below at all sizes stands at the largest one; a median that does is a bound, and flagged.
    """
    found = []
    for step, rows in changes.groupby("step"):
        own = [_crossing(group["c"].to_numpy(), group[MEASURED].to_numpy()) for _, group in rows.groupby("seed")]
        values = pd.Series(own)
        largest = rows["c"].max()
        row = _summary("statistic", f"{CROSSING} | step {step}", step, values.fillna(largest))
        found.append(row | {"flag": "grid edge" if row["y"] >= largest else ""})
    return pd.DataFrame(found)


def _crossing(sizes: np.ndarray, values: np.ndarray) -> float:
    """Smallest size at which values that begin below 0 reach it, between two sizes by a line; NaN if they do not."""
    order = np.argsort(sizes)
    sizes, values = sizes[order], values[order]
    back = np.flatnonzero((values[1:] >= 0) & (values[:-1] < 0))
    if not len(back):
        return np.nan
    i = int(back[0])
    return float(sizes[i] - values[i] * (sizes[i + 1] - sizes[i]) / (values[i + 1] - values[i]))


def _counts(records: pd.DataFrame, changes: pd.DataFrame) -> pd.DataFrame:
    """Networks that failed, and minibatches without an edge (``c2 <= 0``)."""
    failed = records["quantity"].isin(["diverged_step", "dead_step"]).sum()
    batches = changes.drop_duplicates(["step", "seed"])
    without = (batches["order 2"] <= batches["order 1"]).sum()
    runs = len(records[records["case"] == "predicted"]["seed"].unique())
    return pd.DataFrame(
        [
            _row("statistic", FAILED, 0, float(failed), np.nan, np.nan, runs),
            _row("statistic", NO_EDGE, 0, float(without), np.nan, np.nan, len(batches)),
        ]
    )


def _summary(panel: str, series: str, x: float, values: pd.Series) -> dict[str, object]:
    return _row(panel, series, x, values.median(), values.min(), values.max(), len(values))


def _row(panel: str, series: str, x: float, y: float, low: float, high: float, n: int) -> dict[str, object]:
    return {
        "panel": panel, "series": series, "x": float(x), "y": float(y), "y_low": low, "y_high": high, "n": int(n),
        "estimator": "training", "order": 0, "flag": "",
    }  # fmt: skip
