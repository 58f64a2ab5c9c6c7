"""Statistics of the claims about Figure 1 of arXiv:2311.18718: angles of MLP and ResNet at initialisation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import (
    Tables,
    as_estimate,
    largest_estimate,
    mean_difference,
    mean_estimate,
    register,
    select,
    slope,
)
from featurespeed.papers.feature_speed.angles.published import read_published
from featurespeed.papers.feature_speed.shared import cosines
from featurespeed.statistics import proportion_interval, z_score

MET = 3.0  # a published point is met when |z| is at most this


@statistic("exponent of cos theta in v, ResNet 1/sqrt(L)")
def resnet_layer_exponent(tables: Tables) -> Estimate:
    rows = select(tables["fsf_fig1a"], series="beta=1/sqrtL", estimator="sampler")
    return slope(cosines(rows[rows["layer"] >= 20]), "layer")


def _depth_exponent(series: str, of_angle: bool) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_fig1b"], series=series, estimator="sampler")
        rows = rows[rows["depth"] >= 20]
        return slope(rows if of_angle else cosines(rows), "depth")

    return compute


for _series in ("beta=0.5/sqrtL", "beta=1/sqrtL", "beta=2/sqrtL", "beta=1"):
    register(f"exponent of cos theta in L, {_series}", _depth_exponent(_series, of_angle=False))


for _series in ("beta=1/L", "beta=1/sqrtL"):
    register(f"exponent of theta in L, {_series}", _depth_exponent(_series, of_angle=True))


def _compared(tables: Tables, points: pd.DataFrame, shift: int = 0) -> pd.DataFrame:
    """Columns ``mean, se, z, n`` of our seeds beside published points; ``shift`` rotates the series among them."""
    names = list(dict.fromkeys(points["series"]))
    rows = []
    for point in points.itertuples():
        series = names[(names.index(point.series) + shift) % len(names)]
        draws = _draws_at(select(tables[f"fsf_fig{point.figure}"], series=series, estimator="sampler"), point.x)
        rows.append((draws.mean(), draws.std(ddof=1) / len(draws) ** 0.5, len(draws)))
    mean, se, n = map(np.array, zip(*rows, strict=True))
    return points.assign(mean=mean, se=se, z=z_score(mean, se, points["y"], points["y_sd"], points["k"]), n=n)


def compare_with_published(tables: Tables) -> pd.DataFrame:
    """One row a published point: ``figure, series, x, y, y_sd, k``, and our ``mean, se, z, n`` over n seeds.

    ``z = (mean - y) / sqrt(y_sd^2/k + se^2 + 0.0026^2)``.

    Raises:
        Undecidable: this run's width or depth is not that of the published figures.
    """
    return _compared(tables, read_published())


def _published_share(figure: str, shift: int) -> Callable[[Tables], Estimate]:
    """Share of a panel's published points that our means meet; ``shift`` rotates the series (control)."""

    def compute(tables: Tables) -> Estimate:
        points = read_published()
        z = _compared(tables, points[points["figure"] == figure], shift)["z"]
        return as_estimate(proportion_interval(int((z.abs() <= MET).sum()), len(z)), f"largest |z| {z.abs().max():.2f}")

    return compute


def _draws_at(rows: pd.DataFrame, x: str) -> np.ndarray:
    """Angle of each seed at a published abscissa: a layer (1a), or the mean over a range of depths (1b)."""
    if rows["width"].iloc[0] != 200 or rows["depth"].max() != 200:
        raise Undecidable("the published points belong to m = 200 and depths up to 200")
    if "-" not in x:
        return rows[rows["layer"] == int(x)].sort_values("seed")["value"].to_numpy()
    low, high = map(int, x.split("-"))
    inside = rows[rows["depth"].between(low, high)]
    return inside.groupby("seed")["value"].mean().to_numpy()


for _figure in ("1a", "1b"):
    for _shift, _end in enumerate(("", ", series rotated")):
        register(
            f"share of the published points of Fig. {_figure} with |z| <= 3{_end}", _published_share(_figure, _shift)
        )


# --- estimators against each other ------------------------------------------------------------------------------------


@statistic("dense angle minus sampled angle")
def dense_minus_sampler(tables: Tables) -> Estimate:
    """Mean over the series of Fig. 1b of (dense angle - mean sampled angle); the unit is the depth."""
    table, keys = tables["fsf_fig1b"], ["depth", "series"]
    sampled = select(table, estimator="sampler").groupby(keys)["value"].mean()
    dense = select(table, estimator="jvp").groupby(keys)["value"].mean()
    gaps = (dense.loc[sampled.index] - sampled).groupby("depth").mean()
    return mean_estimate(gaps.to_numpy())


@statistic("dense angle minus sampled angle of the next series")
def dense_minus_other_series(tables: Tables) -> Estimate:
    table = tables["fsf_fig1b"]
    dense = select(table, estimator="jvp", series="beta=1/sqrtL").set_index("depth")["value"]
    sampled = select(table, estimator="sampler", series="beta=0.5/sqrtL").groupby("depth")["value"].mean()
    return mean_estimate((dense.loc[sampled.index] - sampled).to_numpy())


def _finite_step_error(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_fig1b"], series=series)
        by_net = rows.pivot_table(index=["depth", "seed"], columns="estimator", values="value")
        return mean_estimate((by_net["finite step"] - by_net["jvp"]).dropna().abs().to_numpy())

    return compute


for _series in ("beta=1/sqrtL", "beta=1"):
    register(f"finite step against exact tangent, {_series}", _finite_step_error(_series))


# --- Figure 1c and phi(c) ---------------------------------------------------------------------------------------------


ABSCISSAE = 12  # at which the curves of Fig. 1c are compared


def _curves(rows: pd.DataFrame, abscissa: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logarithm of the abscissa ``[points]`` and angles ``[seeds, points]`` of every depth, as many seeds for each."""
    tables = [g.pivot_table(index="seed", columns=abscissa, values="value") for _, g in rows.groupby("depth")]
    shared = min(map(len, tables))
    return [(np.log(table.columns.to_numpy(dtype=float)), table.to_numpy()[:shared]) for table in tables]


def _curve_gap(abscissa: str) -> Callable[[Tables], Estimate]:
    """Largest gap between the mean curves of two depths on their common range, up to branch scale 0.5.

    Networks of different depths are independent: their differences, seed by seed, have t intervals.
    """

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_fig1c"], estimator="sampler")
        curves = _curves(rows[(rows["branch_scale"] <= 0.5) & (rows["branch_scale"] > 0)], abscissa)
        if len(curves) < 2:
            raise Undecidable("at least two depths are needed")
        grid = np.linspace(max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves), ABSCISSAE)
        values = [np.stack([np.interp(grid, x, draw) for draw in draws]) for x, draws in curves]
        return largest_estimate(np.concatenate([one - other for one, other in combinations(values, 2)], axis=1))

    return compute


register("largest gap between the curves of Fig. 1c, against c", _curve_gap("c"))


register("largest gap between the curves of Fig. 1c, against beta", _curve_gap("branch_scale"))


@statistic("angle at L=30 minus angle at L=500, MLP")
def depth_of_figure_1c(tables: Tables) -> Estimate:
    rows = select(tables["fsf_fig1c"], estimator="sampler")
    rows = rows[rows["branch_scale"] == 1.0]
    return mean_difference(select(rows, depth=30), select(rows, depth=500))
