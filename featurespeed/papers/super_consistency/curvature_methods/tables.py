"""Artefact tables of the curvature measurements of the second paper (arXiv:2402.17457)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table

#: The methods, in the order in which they are listed: series of the stage table -> text for a reader.
METHODS = {
    "Lanczos, cold": "ours, cold start",
    "Lanczos, warm": "ours, warm start",
    "Lanczos, warm with checks": "ours, warm start with cold checks",
    "power iteration, tol 1e-3": "power iteration as in the paper (PyHessian)",
    "power iteration, tol 1e-6": "power iteration, tolerance $10^{-6}$",
    "ARPACK LM, default": "ARPACK, largest magnitude (SciPy's default)",
    "ARPACK LA, default": "ARPACK, largest algebraic",
    "ARPACK LA, tuned": "ARPACK, largest algebraic, tuned",
}
#: Methods whose estimates are drawn beside the true value.
SHOWN = ("Lanczos, warm with checks", "power iteration, tol 1e-3")
#: An error above this is another eigenvalue, or a mixture of several, not an inaccurate measurement of the first.
WRONG = 0.1
#: The accuracy that every method with a tolerance of its own was asked for.
TARGET = 1e-3
#: Smaller errors stand here: below it single precision does not resolve, and 0 has no place on a logarithmic axis.
FLOOR = 1e-9


def tabulate_sharpness_methods(records: pd.DataFrame) -> pd.DataFrame:
    """Error against cost of every method, and what it says along training; one panel of each kind a training run.

    ``error | <run>``: error relative to the true value (y, 1e-9 at least) against the products spent (x), one row a
    measurement. ``median | <run>``: medians of both. ``sharpness | <run>``: true largest and smallest eigenvalue, and
    2 over the learning rate, against the step. ``estimate | <run>``: estimate over true value, one row a measurement,
    of the paper's method and of ours. ``products | <run>``: median number of products at each step.
    """
    parts = []
    for case in records["case"].unique():
        own = records[records["case"] == case]
        errors = own[(own["quantity"] == "relative_error") & own["series"].isin(METHODS)]
        parts += [_errors(errors, case), _medians(errors, case), _products(errors, case)]
        parts += [_truth(own, case), _estimates(own, case)]
    return artefact_table(*parts)


def _errors(errors: pd.DataFrame, case: str) -> pd.DataFrame:
    return _singles(errors.assign(x=errors["products"], value=errors["value"].clip(lower=FLOOR)), f"error | {case}")


def _medians(errors: pd.DataFrame, case: str) -> pd.DataFrame:
    clipped = errors.assign(value=errors["value"].clip(lower=FLOOR))
    rows = [
        _row(f"median | {case}", series, float(group["products"].median()), float(group["value"].median()), group)
        for series, group in clipped.groupby("series")
    ]
    return pd.DataFrame(rows)


def _products(errors: pd.DataFrame, case: str) -> pd.DataFrame:
    rows = [
        _row(f"products | {case}", series, float(step), float(group["products"].median()), group)
        for (series, step), group in errors.groupby(["series", "step"])
    ]
    return pd.DataFrame(rows)


def _truth(own: pd.DataFrame, case: str) -> pd.DataFrame:
    """True eigenvalues and the threshold of stability of gradient descent."""
    truth, panel = own[own["series"] == "truth"], f"sharpness | {case}"
    names = {"sharpness": "largest eigenvalue", "smallest_eigenvalue": "smallest eigenvalue"}
    found = truth[truth["quantity"].isin(names)]
    found = found.assign(x=found["step"], series=found["quantity"].map(names))
    steps = found["step"]
    guide = {"panel": panel, "series": "guide 2/learning rate", "y": 2.0 / float(own["learning_rate"].iloc[0]), "n": 0}
    guide |= {"y_low": np.nan, "y_high": np.nan, "estimator": "theory", "order": 0, "flag": ""}
    ends = pd.DataFrame([guide | {"x": float(steps.min())}, guide | {"x": float(steps.max())}])
    return pd.concat([_singles(found, panel), ends], ignore_index=True)


def _estimates(own: pd.DataFrame, case: str) -> pd.DataFrame:
    truth = own[(own["series"] == "truth") & (own["quantity"] == "sharpness")].set_index("step")["value"]
    found = own[(own["quantity"] == "sharpness") & own["series"].isin(SHOWN)]
    ratio = found["value"] / found["step"].map(truth)
    return _singles(found.assign(x=found["step"], value=ratio), f"estimate | {case}")


def _singles(rows: pd.DataFrame, panel: str) -> pd.DataFrame:
    """One row a measurement; ``order`` counts those of a series, by step and start."""
    rows = rows.sort_values(["series", "step", "seed"], kind="stable")
    table = {
        "panel": panel, "series": rows["series"], "x": rows["x"].astype(float), "y": rows["value"], "y_low": np.nan,
        "y_high": np.nan, "n": 1, "estimator": rows["estimator"], "order": rows.groupby("series").cumcount(),
        "flag": np.where(rows["converged"], "", "unconverged"),
    }  # fmt: skip
    return pd.DataFrame(table)[list(ARTEFACT_COLUMNS)]


def _row(panel: str, series: str, x: float, y: float, group: pd.DataFrame) -> dict[str, object]:
    return {
        "panel": panel, "series": series, "x": x, "y": y, "y_low": np.nan, "y_high": np.nan, "n": len(group),
        "estimator": group["estimator"].iloc[0], "order": 0, "flag": "",
    }  # fmt: skip
