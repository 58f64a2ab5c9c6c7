"""Artefact tables of Figures 4, 22 and 25 of the second paper (arXiv:2402.17457): residual networks over the depth.

Seeds of which a network failed are left out of what is measured along training, up to a fifth of those of a depth, as
the claims do (:func:`featurespeed.sweeps.transfer.failed_seeds`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from featurespeed.drawing.distance_rows import distance_parts
from featurespeed.drawing.published_rates import published_rows
from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import networks, row_table, transfer_parts
from featurespeed.drawing.width_rows import (
    curve_rows,
    edge_rows,
    exponent_row,
    interval_row,
    series_of,
    trained_rows,
)
from featurespeed.papers.super_consistency.depth.published import (
    BEST_RATES,
    EXAMPLES,
    RATE,
    STEPS,
    comparable,
    eigenvalues_read,
)
from featurespeed.papers.super_consistency.depth.spec import TWO
from featurespeed.statistics import Interval
from featurespeed.sweeps.convergence import curves, distances
from featurespeed.sweeps.dependence import late_exponents
from featurespeed.sweeps.transfer import settings

HESSIAN, LOSS, NTK = "sharpness", "training_loss", "ntk_eigenvalue"
#: Quantities whose distances to the deepest network are fitted: name in the table -> quantity of the stage table.
DISTANCES = {"training loss": LOSS, "sharpness": HESSIAN}
LATE = "exponent in the depth, second half"
PUBLISHED_POINTS = "published"  # panels of points of the authors' run begin with it
RATE_READ = 0.01  # by how much its learning rate may differ


def tabulate_fig04(records: pd.DataFrame) -> pd.DataFrame:
    """Learning-rate transfer, sharpness and loss of every network over its depth, in panels ``<kind> | <network>``;
    beside them the best rates of the authors' own sweeps, if network, data and length are theirs.
    """
    return artefact_table(*transfer_parts(records, leave_out=True), *_published(records))


def _published(records: pd.DataFrame) -> Iterator[pd.DataFrame]:
    told = settings(records)
    for name, rates in BEST_RATES.items():
        if name in told["networks"] and comparable(told, name):
            yield published_rows(name, rates, STEPS[name])


def tabulate_fig22(records: pd.DataFrame) -> pd.DataFrame:
    """Distances of loss and sharpness to those of the deepest network, with fitted powers of time, of every network."""
    parts: list[pd.DataFrame] = []
    for name, _ in networks(records):
        rows, rate, left_out = trained_rows(records, name, HESSIAN)
        parts.append(left_out)
        for quantity, recorded in DISTANCES.items():
            found = curves(rows, recorded, rate, size="depth")
            panel = f"{quantity} | {name}"
            parts.append(curve_rows(rows, recorded, panel))
            if len(found.sizes) > 1 and (found.steps > 0).any() and not found.missing():
                parts += distance_parts(panel, distances(found), "depth")
    return artefact_table(*parts)


def tabulate_fig25(records: pd.DataFrame) -> pd.DataFrame:
    """Eigenvalues of gamma^2 H and of the NTK along training, one series a depth, in panels ``<kind> | <network>``.

    ``statistic``: exponents in the depth of their means over the second half of training. ``published``: points of the
    authors' run with two layers a block, if ours is at its learning rate and has its network, data and length.
    """
    parts: list[pd.DataFrame] = []
    for name, own in networks(records):
        rows, rate, left_out = trained_rows(records, name, HESSIAN)
        last = int(own.loc[own["quantity"] == HESSIAN, "index"].max())
        parts.append(left_out)
        for kind, quantity, index in eigenvalues(last):
            panel = f"{kind} | {name}"
            parts.append(curve_rows(rows, quantity, panel, index))
            found = curves(rows, quantity, rate, index, "depth")
            exponents = exponent_row("statistic", f"{LATE} | {panel}", float(index), partial(late_exponents, found))
            parts.append(row_table(list(exponents)))
        parts.append(edge_rows(f"eigenvalue 1 | {name}", rows, rate))
        if name == TWO and np.isclose(rate, RATE, rtol=RATE_READ):
            parts.append(_published_eigenvalues(settings(records), set(rows["depth"])))
    return artefact_table(*parts)


def _published_eigenvalues(told: Mapping[str, Any], depths: Collection[int]) -> pd.DataFrame:
    """Points of the authors' run with two layers a block, by epochs, of the depths that ours has and as far as it goes;
    none for another network.
    """
    if not comparable(told, TWO):
        return row_table([])
    network, points = told["networks"][TWO], eigenvalues_read()
    points["step"] = points["epoch"] * np.ceil(EXAMPLES / network["batch_size"])
    points = points[points["depth"].isin(depths) & (points["step"] <= (network.get("steps") or told["steps"]))]
    return row_table(
        [
            interval_row(
                f"{PUBLISHED_POINTS} | {point.kind} | {TWO}", series_of(point.depth, "depth"), point.step,
                Interval(point.y, point.y - point.y_err, point.y + point.y_err, 1, ""), "published",
            )
            | {"flag": ""}
            for point in points.itertuples()
        ]
    )  # fmt: skip


def eigenvalues(last: int) -> Iterator[tuple[str, str, int]]:
    """``(kind, quantity, index)`` of what Figure 25 shows; ``last`` is the smallest eigenvalue that was measured."""
    for index in sorted({1, min(3, last), last}):
        yield f"eigenvalue {index}", HESSIAN, index
    yield "NTK eigenvalue 1", NTK, 1
