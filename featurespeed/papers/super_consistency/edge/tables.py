"""Artefact tables of Figures 9, 11 and 27 of the second paper: at the edge, and curvature along training."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table
from featurespeed.drawing.width_rows import (
    EDGE,
    STATISTIC,
    SYMBOLS,
    curve_rows,
    edge_rows,
    endings,
    exponent_row,
    flag_of,
    guide_rows,
    interval_row,
    measured_networks,
    series_of,
    shown_rows,
    statistic_rows,
    summary_row,
    trained_rows,
    varied,
)
from featurespeed.sweeps.convergence import (
    Curves,
    Statistic,
    curves,
    edge_ratio,
    interval,
    rise,
    rise_ratio,
)
from featurespeed.sweeps.dependence import late_exponents

HESSIAN, GAUSS_NEWTON, LOSS = "sharpness", "gauss_newton_eigenvalue", "training_loss"
RESIDUAL, DIRECTIONAL = "residual_norm", "directional_sharpness"
EDGE_RATIO = "sharpness over 2/learning rate"
#: By the size that varies; as the claims have it.
EXPONENT = {size: f"exponent in the {size}, second half" for size in SYMBOLS}
RISE = "rise of the Gauss-Newton eigenvalue"
RISE_RATIO = "rise at the largest over smallest width, {} over {}"
FULL = (0.85, 1.15)  # where the claim of Figure 9 holds


# --- Figure 9 ---------------------------------------------------------------------------------------------------------


def tabulate_fig09(records: pd.DataFrame) -> pd.DataFrame:
    """Sharpness against the step, one panel a network, the loss of the first one, and sharpness * learning rate / 2 in
    the second half of training by width.
    """
    parts: list[pd.DataFrame] = []
    for label in measured_networks(records, HESSIAN):
        rows, rate = shown_rows(records, label, HESSIAN)
        found = curves(rows, HESSIAN, rate)
        panel = f"sharpness | {label}"
        if not parts:
            parts.append(curve_rows(rows, LOSS, f"training loss | {label}"))
            parts += [guide_rows(EDGE_RATIO, f"guide {bound:g}", _ends(found, bound)) for bound in (*FULL, 1.0)]
        parts += [curve_rows(rows, HESSIAN, panel), edge_rows(panel, rows, rate)]
        late = found.late() * rate / 2
        by_width = {
            width: (lambda chosen, at=place, late=late: float(late[chosen, at].mean()))
            for place, width in enumerate(found.sizes)
        }
        parts.append(_by_width(by_width, found.seeds, EDGE_RATIO, label))
        if found.comparable:
            parts.append(_statistics({f"{EDGE_RATIO} | {label}": edge_ratio(found)}, found.seeds))
    return artefact_table(*parts)


# --- Figure 11 --------------------------------------------------------------------------------------------------------


def tabulate_fig11(records: pd.DataFrame) -> pd.DataFrame:
    """Residual norm (y) against the top Gauss-Newton eigenvalue (x) along training, and how far the latter rises.

    ``trajectory | <network>``: means over seeds, one series a width, ``order`` counts the probe steps. ``rise of ... |
    <network>``: mean over the second half of training over the initial value, against the width.
    """
    parts, largest = [], {}
    for label in measured_networks(records, GAUSS_NEWTON):
        rows, rate = shown_rows(records, label, GAUSS_NEWTON)
        found = curves(rows, GAUSS_NEWTON, rate)
        parts.append(_trajectory(rows, f"trajectory | {label}"))
        norms = rows.loc[rows["quantity"] == RESIDUAL, "value"]
        ends = [(2.0 / rate, norms.min()), (2.0 / rate, norms.max())]
        parts.append(guide_rows(f"trajectory | {label}", EDGE, ends))
        rises = {width: rise(found, place) for place, width in enumerate(found.sizes)}
        parts.append(_by_width(rises, found.seeds, RISE, label))
        largest[label] = found
    parts.append(_rise_ratio(largest))
    return artefact_table(*parts)


def _trajectory(rows: pd.DataFrame, panel: str) -> pd.DataFrame:
    """Points at the probe steps where every seed of a width, or those that are left, has both quantities."""
    eigenvalue, residual = (rows[(rows["quantity"] == q) & (rows["index"] <= 1)] for q in (GAUSS_NEWTON, RESIDUAL))
    order = {step: place for place, step in enumerate(sorted(eigenvalue["step"].unique()))}
    ends = endings(residual, rows)
    means = eigenvalue.groupby(["width", "step"])["value"].mean()
    found = [
        summary_row(panel, series_of(width), means[width, step], group, flag_of(ends.get(width, ()), step, group))
        | {"order": order[step]}
        for (width, step), group in residual.groupby(["width", "step"])
        if (width, step) in means.index
    ]
    return pd.DataFrame(found, columns=list(ARTEFACT_COLUMNS))


def _rise_ratio(found: dict[str, Curves]) -> pd.DataFrame:
    """Rise at the largest over that at the smallest width, of the first network over that of the second one."""
    if len(found) != 2:
        return pd.DataFrame()
    (name, first), (other, second) = found.items()
    if first.seeds != second.seeds:
        return pd.DataFrame()
    return _statistics({RISE_RATIO.format(name, other): rise_ratio(first, second)}, first.seeds)


# --- Figure 27 --------------------------------------------------------------------------------------------------------


def tabulate_fig27(records: pd.DataFrame) -> pd.DataFrame:
    """Curvature along the gradient against the step, one panel a network, and its mean in the second half by size.

    Sizes are widths or, of a network that varies in it, depths. With the exponent in them of that mean.
    """
    parts = []
    for label in measured_networks(records, DIRECTIONAL):
        rows, rate, left_out = trained_rows(records, label, DIRECTIONAL)
        panel, size = f"directional sharpness | {label}", varied(rows)
        found = curves(rows, DIRECTIONAL, rate, size=size)
        parts += [left_out, curve_rows(rows, DIRECTIONAL, panel), edge_rows(panel, rows, rate)]
        late = found.late()
        by_size = {
            value: (lambda chosen, at=place, late=late: float(late[chosen, at].mean()))
            for place, value in enumerate(found.sizes)
        }
        parts.append(_by_width(by_size, found.seeds, f"second half | {size}", label))
        if found.comparable:
            exponents = exponent_row(STATISTIC, f"{EXPONENT[size]} | {label}", 0.0, partial(late_exponents, found))
            parts.append(pd.DataFrame(exponents, columns=list(ARTEFACT_COLUMNS)))
    return artefact_table(*parts)


# --- shared -----------------------------------------------------------------------------------------------------------


def _by_width(statistics: dict[int, Statistic], seeds: int, panel: str, series: str) -> pd.DataFrame:
    """One statistic a width, with the bootstrap over seeds; none where a network had stopped."""

    def rows() -> Iterator[dict[str, object]]:
        for width, statistic in statistics.items():
            found = interval(statistic, seeds)
            if found.value == found.value:
                yield interval_row(panel, series, float(width), found, "Lanczos")

    return pd.DataFrame(rows(), columns=list(ARTEFACT_COLUMNS))


def _statistics(statistics: dict[str, Statistic], seeds: int) -> pd.DataFrame:
    return pd.DataFrame(statistic_rows(statistics, seeds), columns=list(ARTEFACT_COLUMNS))


def _ends(found: Curves, level: float) -> list[tuple[float, float]]:
    return [(float(found.sizes[0]), level), (float(found.sizes[-1]), level)]
