"""Artefact tables of Figures 4c, 15 and 16 of the second paper (arXiv:2402.17457), and of CompleteP beside them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import at_rate, networks, row_table
from featurespeed.drawing.width_rows import (
    STATISTIC,
    curve_rows,
    exponent_row,
    interval_row,
    series_of,
    shown_rate,
    without_failed,
)
from featurespeed.papers.super_consistency.preconditioned_rows import preconditioned_parts, without_losses
from featurespeed.papers.super_consistency.spec import PRECONDITIONED
from featurespeed.papers.super_consistency.transformers.analysis import SCALED, with_scaled
from featurespeed.papers.super_consistency.transformers.published import (
    LOSSES,
    RATE,
    SHARPNESS,
    comparable,
    read_vit,
    share_of_training,
)
from featurespeed.papers.super_consistency.transformers.spec import VIT
from featurespeed.statistics import Interval
from featurespeed.sweeps.convergence import curves
from featurespeed.sweeps.dependence import late_exponents
from featurespeed.sweeps.transfer import settings

PLAIN = "Hessian"  # kind of the panels without the preconditioner
PLAIN_EXPONENT = "exponent of the Hessian"
PUBLISHED_LOSSES, PUBLISHED_SHARPNESS = "published losses", "published sharpness"
RATE_READ = 0.05  # by how much the learning rate of a curve may differ from theirs


def tabulate_fig04c(records: pd.DataFrame) -> pd.DataFrame:
    """Transfer of the learning rate and sharpness, with and without Adam's preconditioner, of every network over its
    depth, in panels ``<kind> | <network>``; beside them the authors' own ViT, where network and data are theirs.
    """
    return without_losses(artefact_table(*preconditioned_parts(records), *plain_parts(records), *published(records)))


def tabulate_fig15(records: pd.DataFrame) -> pd.DataFrame:
    """The same of the decoder."""
    return without_losses(artefact_table(*preconditioned_parts(records), *plain_parts(records)))


def tabulate_sizes(records: pd.DataFrame) -> pd.DataFrame:
    """Transfer of the learning rate and preconditioned sharpness of every network over its width or depth."""
    return without_losses(artefact_table(*preconditioned_parts(records)))


def plain_parts(records: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The largest eigenvalue of the Hessian in units of the rate, at the rate at which the preconditioned one is shown,
    and its exponent in the depth over the second half of training.
    """
    for name, rows in networks(records, PRECONDITIONED):
        kept, _ = without_failed(name, rows, PRECONDITIONED)
        kept, rate = with_scaled(records, kept), shown_rate(kept, PRECONDITIONED)
        yield curve_rows(at_rate(kept, rate), SCALED, f"{PLAIN} | {name}")
        own = curves(kept, SCALED, rate, size="depth")
        yield row_table(list(exponent_row(STATISTIC, f"{PLAIN_EXPONENT} | {name}", rate, partial(late_exponents, own))))


def published(records: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Points of the authors' ViT, of the depths that ours has: losses over learning rates, and the sharpness at the
    same share of training, if ours is shown at their rate.
    """
    told = settings(records)
    if VIT not in told["networks"] or not comparable(told, VIT):
        return
    depths = set(records.loc[records["series"] == VIT, "depth"])
    losses = read_vit(LOSSES)
    yield _point_table(PUBLISHED_LOSSES, losses[losses["depth"].isin(depths)])
    rows = dict(networks(records, PRECONDITIONED))[VIT]
    rate = shown_rate(without_failed(VIT, rows, PRECONDITIONED)[0], PRECONDITIONED)
    if np.isclose(rate, RATE, rtol=RATE_READ):
        points = read_vit(SHARPNESS)
        points["x"] = share_of_training(points["x"]) * rows["step"].max()
        yield _point_table(PUBLISHED_SHARPNESS, points[points["depth"].isin(depths)])


def _point_table(panel: str, points: pd.DataFrame) -> pd.DataFrame:
    return row_table(
        [
            interval_row(
                f"{panel} | {VIT}", series_of(point.depth, "depth"), point.x,
                Interval(point.y, point.y - point.y_err, point.y + point.y_err, 1, ""), "published",
            )
            | {"flag": ""}
            for point in points.itertuples()
        ]
    )  # fmt: skip
