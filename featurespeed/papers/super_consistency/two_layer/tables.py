"""Artefact tables of the two-layer linear network (arXiv:2402.17457): its theory, Figure 5 and Figure 10."""

from __future__ import annotations

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, NOTHING, artefact_table, power_law, summaries
from featurespeed.parameterization import Parameterization
from featurespeed.statistics import Interval, loglog_slope, mean_interval

MUP, NTP = str(Parameterization.MUP), str(Parameterization.NTP)
#: Errors below this stand here: 0 has no place on a logarithmic axis.
FLOOR = 1e-17
#: Largest one-step error with which Thm 5.1 counts as exact.
EXACT = 1e-13
EIGENVALUES = ("sharpness", "gauss_newton_eigenvalue", "residual_eigenvalue")
#: Series of the panels over the width: case and series of the stage table, parameterization -> text for a reader.
INITIAL = {
    ("e from its limit", MUP): "$e$ from $I/D$",
    ("v from its limit", MUP): "$v$ from $1/D$",
    ("w", MUP): "$|w|$, μP",
    ("w", NTP): "$|w|$, NTP",
}
LIMITS = {
    ("from initialisation", MUP): "μP, from its start",
    ("from infinite width", MUP): "μP, from $N=\\infty$",
    ("from initialisation", NTP): "NTP, from its start",
}


def tabulate_theory(records: pd.DataFrame) -> pd.DataFrame:
    """Panels ``laws``, ``bound``, ``edge``, ``initialisation``, ``limit`` and ``softmax``; see docs/tables.md."""
    _check(records)
    parts = [_laws(records), _bound(records), _edge(records), _edge_lines(records)]
    parts += [_over_width(records, "initialisation", INITIAL), _over_width(records, "limit", LIMITS)]
    softmax = records[records["case"] == "softmax"].assign(series="largest eigenvalue")
    parts.append(summaries(softmax, "step", "softmax", mean_interval))
    ends = softmax["step"]
    parts.append(_line("softmax", "guide as printed", [(ends.min(), 1.0), (ends.max(), 1.0)]))
    return artefact_table(*parts)


def _laws(records: pd.DataFrame) -> pd.DataFrame:
    """Median over all networks at each step, with the range."""
    rows = records[records["case"] == "laws"]
    found = []
    for (series, step), group in rows.groupby(["series", "step"]):
        values = group["value"].clip(lower=FLOOR)
        found.append(_row("laws", series, step, values.median(), values.min(), values.max(), len(values)))
    steps = rows["step"]
    guide = _line("laws", "guide exact", [(steps.min(), EXACT), (steps.max(), EXACT)])
    return pd.concat([pd.DataFrame(found), guide], ignore_index=True)


def _bound(records: pd.DataFrame) -> pd.DataFrame:
    """Gap over bound of every measurement, and the eigenvalue of R over the bound of the dense ones."""
    rows = records[records["series"].isin(["gap over bound", "residual part over bound"])]
    rows = rows.sort_values(
        ["series", "parameterization", "input_dim", "width", "run_id", "seed", "step"], kind="stable"
    )
    names = {"gap over bound": "gap", "residual part over bound": "residual"}
    series = rows["series"].map(names) + ", " + rows["parameterization"]
    return _points(rows.assign(series=series, x=rows["step"]), "bound")


def _edge(records: pd.DataFrame) -> pd.DataFrame:
    """Converged runs: sharpness over ``2 / eta_0`` against the least sharpness over the same."""
    rows = records[(records["case"] == "edge") & (records["quantity"] == "curvature_ratio")]
    keys = ["parameterization", "width", "seed", "index"]
    runs = rows.pivot_table(index=keys, columns="series", values="value").reset_index()
    runs = runs[runs["run"] == 1.0]
    value = runs["sharpness over 2/learning rate"]
    series = runs["parameterization"] + ", N=" + runs["width"].astype(str)
    table = runs.assign(series=series, value=value, x=value / runs["sharpness over its least"], estimator="training")
    return _points(table, "edge")


def _edge_lines(records: pd.DataFrame) -> pd.DataFrame:
    """The edge, the printed edge 1 + x^2/2 and the least sharpness, over the learning rates tried."""
    grid = np.linspace(0.0, 1.0, 41)
    lines = {"guide edge": np.ones_like(grid), "guide printed edge": 1 + grid**2 / 2, "guide least sharpness": grid}
    return pd.concat([_line("edge", name, zip(grid, y, strict=True)) for name, y in lines.items()], ignore_index=True)


def _over_width(records: pd.DataFrame, case: str, wanted: dict[tuple[str, str], str]) -> pd.DataFrame:
    """Means over seeds against the width, and the exponent of each line in ``statistic | <case>``."""
    parts = []
    for (series, name), label in wanted.items():
        rows = records[(records["case"] == case) & (records["series"] == series)]
        rows = rows[rows["parameterization"] == name].assign(series=label)
        parts.append(summaries(rows, "width", case, mean_interval))
        exponent = loglog_slope(rows["width"], rows["value"], rows["seed"])
        parts.append(_statistic(case, label, exponent))
    return pd.concat(parts, ignore_index=True)


# --- Figure 5 ---------------------------------------------------------------------------------------------------------


def tabulate_fig05(records: pd.DataFrame) -> pd.DataFrame:
    """Eigenvalues and loss along training, Gauss-Newton share and sharpening factor over the width."""
    _check(records)
    parts = []
    for name in (MUP, NTP):
        own = records[records["parameterization"] == name]
        for quantity in ("training_loss", *EIGENVALUES):
            rows = own[own["quantity"] == quantity]
            rows = rows.assign(series="N=" + rows["width"].astype(str))
            parts.append(summaries(rows, "step", f"{quantity} | {name}", _range))
        steps, edge = own["step"], 2.0 / float(own["learning_rate"].iloc[0])
        parts.append(_line(f"sharpness | {name}", "guide 2/eta_0", [(steps.min(), edge), (steps.max(), edge)]))
        parts.append(_diverged(own, f"diverged | {name}"))
        parts += _ends(own, name)
    return artefact_table(*parts)


def _ends(own: pd.DataFrame, name: str) -> list[pd.DataFrame]:
    """What the first and the last probe step say at each width."""
    found = own[own["quantity"].isin(EIGENVALUES)]
    wide = found.pivot_table(index=["seed", "width", "step"], columns="quantity", values="value").reset_index()
    first, last = (
        wide[wide["step"] == step].set_index(["seed", "width"]) for step in (wide["step"].min(), wide["step"].max())
    )
    share = {
        when: (end["gauss_newton_eigenvalue"] / end["sharpness"]) for when, end in (("start", first), ("end", last))
    }
    parts = [_by_width(values, "share", f"{name}, {when}") for when, values in share.items()]
    factor = (last["sharpness"] / first["sharpness"]).dropna()
    parts.append(_by_width(factor, "sharpening", name))
    if (factor > 1).all() and factor.index.unique("width").size > 1:
        rise = (factor - 1).rename("value").reset_index()
        parts.append(_statistic("sharpening", name, loglog_slope(rise["width"], rise["value"], rise["seed"])))
    return parts


def _by_width(values: pd.Series, panel: str, series: str) -> pd.DataFrame:
    rows = values.rename("value").reset_index().assign(series=series, estimator="theory")
    return summaries(rows, "width", panel, mean_interval)


def _diverged(own: pd.DataFrame, panel: str) -> pd.DataFrame:
    """Number of diverged runs at each width, at the step where they were seen."""
    rows = own[own["quantity"] == "diverged_step"]
    found = [
        _row(panel, f"N={width}", group["value"].min(), np.nan, np.nan, np.nan, len(group)) | {"flag": "diverged"}
        for width, group in rows.groupby("width")
    ]
    return pd.DataFrame(found, columns=list(ARTEFACT_COLUMNS))


# --- Figure 10 --------------------------------------------------------------------------------------------------------


def tabulate_fig10(records: pd.DataFrame) -> pd.DataFrame:
    """Loss and sharpness against the step at the learning rates shown; terminal sharpness against the width."""
    _check(records)
    parts = []
    curves = records[records["case"] == "curve"]
    curves = curves.assign(series="N=" + curves["width"].astype(str))
    for (name, rate), own in curves.groupby(["parameterization", "learning_rate"]):
        for kind, quantity in (("loss", "training_loss"), ("sharpness", "sharpness")):
            rows = own[own["quantity"] == quantity]
            parts.append(summaries(rows, "step", f"{kind} | {name} | {rate:g}", _range))
        ends = [(own["step"].min(), 2 / rate), (own["step"].max(), 2 / rate)]
        parts.append(_line(f"sharpness | {name} | {rate:g}", "guide 2/eta_0", ends))
    terminal = records[records["case"] == "terminal"]
    for (name, rate), own in terminal.groupby(["parameterization", "learning_rate"]):
        parts.append(_terminal(own, str(name), float(rate)))
    for name in (MUP, NTP):
        parts.append(_least(terminal[terminal["parameterization"] == name], name))
    return artefact_table(*parts)


def _range(values: np.ndarray) -> Interval:
    return Interval(float(np.median(values)), float(values.min()), float(values.max()), len(values), "median, range")


def _terminal(own: pd.DataFrame, name: str, rate: float) -> pd.DataFrame:
    """Median over seeds at each width; unconverged where a seed cycles, diverged where one does, at ``2 / eta_0``."""
    found = []
    for width, group in own.groupby("width"):
        gone = (group["quantity"] == "diverged_step").sum()
        rows = group[group["quantity"] == "sharpness"]
        flag = "diverged" if gone else "" if rows["converged"].all() else "unconverged"
        at = _range(np.full(gone, 2 / rate) if gone else rows["value"].to_numpy())
        row = _row(f"terminal | {name}", f"eta_0={rate:g}", width, at.value, at.low, at.high, at.n)
        found.append(row | {"flag": flag})
    return pd.DataFrame(found)


def _least(own: pd.DataFrame, name: str) -> pd.DataFrame:
    """Sharpness of the flattest minimiser, 2 gamma |w*| / sqrt(N D), and the measured exponent in N."""
    widths = sorted(own["width"].unique())
    exponent = 0.0 if name == MUP else -0.5
    least = power_law(f"terminal | {name}", "guide least", widths, (1.0, 2.0), exponent)
    rows = own[(own["quantity"] == "sharpness") & (own["learning_rate"] == own["learning_rate"].min())]
    if not rows["converged"].all() or len(widths) < 2:
        return least
    found = loglog_slope(rows["width"], rows["value"], rows["seed"])
    return pd.concat([least, _statistic(f"terminal | {name}", "slope", found)], ignore_index=True)


def _check(records: pd.DataFrame) -> None:
    if records.empty:
        raise ValueError(NOTHING)


# --- rows -------------------------------------------------------------------------------------------------------------


def _points(rows: pd.DataFrame, panel: str) -> pd.DataFrame:
    """One row a measurement; ``order`` counts those of a series."""
    table = {
        "panel": panel, "series": rows["series"], "x": rows["x"].astype(float), "y": rows["value"], "y_low": np.nan,
        "y_high": np.nan, "n": 1, "estimator": rows["estimator"], "order": rows.groupby("series").cumcount(),
        "flag": "",
    }  # fmt: skip
    return pd.DataFrame(table)[list(ARTEFACT_COLUMNS)]


def _row(panel: str, series: str, x: float, y: float, low: float, high: float, n: int) -> dict[str, object]:
    return {
        "panel": panel, "series": series, "x": float(x), "y": y, "y_low": low, "y_high": high, "n": int(n),
        "estimator": "training", "order": 0, "flag": "",
    }  # fmt: skip


def _line(panel: str, series: str, points) -> pd.DataFrame:
    rows = [_row(panel, series, x, float(y), np.nan, np.nan, 0) | {"estimator": "theory"} for x, y in points]
    return pd.DataFrame(rows)


def _statistic(panel: str, series: str, found: Interval) -> pd.DataFrame:
    """A number that the figure prints: its estimate and interval, at x = 0."""
    return pd.DataFrame([_row(f"statistic | {panel}", series, 0.0, found.value, found.low, found.high, found.n)])
