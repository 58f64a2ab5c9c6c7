"""Statistics of the claims about Figure 1 of arXiv:2311.18718: angles of MLP and ResNet at initialisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import (
    Tables,
    as_estimate,
    generator,
    mean_difference,
    register,
    select,
    slope,
)
from featurespeed.papers.feature_speed.angles.published import read_published
from featurespeed.papers.feature_speed.shared import cosines
from featurespeed.statistics import bootstrap_interval, coverage_interval, mean_interval, z_score


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


def _points_and_draws(tables: Tables, shift: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """The published points, and the angles of our seeds there, ``[seeds, points]``; ``shift`` rotates the series."""
    points = read_published()
    names = list(dict.fromkeys(points["series"]))
    draws = []
    for point in points.itertuples():
        series = names[(names.index(point.series) + shift) % len(names)]
        rows = select(tables[f"fsf_fig{point.figure}"], series=series, estimator="sampler")
        draws.append(_draws_at(rows, point.x))
    shared = min(map(len, draws))
    return points, np.column_stack([d[:shared] for d in draws])


def compare_with_published(tables: Tables) -> pd.DataFrame:
    """One row a published point: ``figure, series, x, y, y_sd, k``, and our ``mean, se, n, z`` over n seeds.

    ``z = (mean - y) / sqrt(y_sd^2/k + se^2 + 0.0026^2)``.

    Raises:
        Undecidable: this run's width or depth is not that of the published figures.
    """
    points, draws = _points_and_draws(tables)
    mean, se = draws.mean(axis=0), draws.std(axis=0, ddof=1) / len(draws) ** 0.5
    z = z_score(mean, se, points["y"], points["y_sd"], points["k"])
    return points.assign(mean=mean, se=se, z=z, n=len(draws))


def _published_share(tables: Tables, shift: int) -> Estimate:
    """Share of published points met with |z| <= 3; ``shift`` rotates the series among the points (control)."""
    points, draws = _points_and_draws(tables, shift)
    interval = coverage_interval(draws, points["y"], points["y_sd"], points["k"], generator())
    return as_estimate(interval, f"{len(points)} points")


def _draws_at(rows: pd.DataFrame, x: str) -> np.ndarray:
    """Angle of each seed at a published abscissa: a layer (1a), or the mean over a range of depths (1b)."""
    if rows["width"].iloc[0] != 200 or rows["depth"].max() != 200:
        raise Undecidable("the published points belong to m = 200 and depths up to 200")
    if "-" not in x:
        return rows[rows["layer"] == int(x)].sort_values("seed")["value"].to_numpy()
    low, high = map(int, x.split("-"))
    inside = rows[rows["depth"].between(low, high)]
    return inside.groupby("seed")["value"].mean().to_numpy()


register("share of published points with |z| <= 3", lambda tables: _published_share(tables, 0))


register("share of published points with |z| <= 3, series rotated", lambda tables: _published_share(tables, 1))


# --- estimators against each other ------------------------------------------------------------------------------------


@statistic("dense angle minus sampled angle")
def dense_minus_sampler(tables: Tables) -> Estimate:
    """Mean over the series of Fig. 1b of (dense angle - mean sampled angle); the unit is the depth."""
    table, keys = tables["fsf_fig1b"], ["depth", "series"]
    sampled = select(table, estimator="sampler").groupby(keys)["value"].mean()
    dense = select(table, estimator="jvp").groupby(keys)["value"].mean()
    gaps = (dense.loc[sampled.index] - sampled).groupby("depth").mean()
    return as_estimate(mean_interval(gaps.to_numpy()))


@statistic("dense angle minus sampled angle of the next series")
def dense_minus_other_series(tables: Tables) -> Estimate:
    table = tables["fsf_fig1b"]
    dense = select(table, estimator="jvp", series="beta=1/sqrtL").set_index("depth")["value"]
    sampled = select(table, estimator="sampler", series="beta=0.5/sqrtL").groupby("depth")["value"].mean()
    return as_estimate(mean_interval((dense.loc[sampled.index] - sampled).to_numpy()))


def _finite_step_error(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_fig1b"], series=series)
        by_net = rows.pivot_table(index=["depth", "seed"], columns="estimator", values="value")
        return as_estimate(mean_interval((by_net["finite step"] - by_net["jvp"]).dropna().abs().to_numpy()))

    return compute


for _series in ("beta=1/sqrtL", "beta=1"):
    register(f"finite step against exact tangent, {_series}", _finite_step_error(_series))


# --- Figure 1c and phi(c) ---------------------------------------------------------------------------------------------


def _curve_gap(tables: Tables, abscissa: str) -> Estimate:
    """Largest gap between the mean curves of two depths on their common range, up to branch scale 0.5."""
    rows = select(tables["fsf_fig1c"], estimator="sampler")
    rows = rows[(rows["branch_scale"] <= 0.5) & (rows["branch_scale"] > 0)]
    seeds = sorted(rows["seed"].unique())
    curves = [
        (np.log(curve.columns.to_numpy()), curve.loc[seeds].to_numpy())
        for _, group in rows.groupby("depth")
        for curve in [group.pivot_table(index="seed", columns=abscissa, values="value")]
    ]
    if len(curves) < 2:
        raise Undecidable("at least two depths are needed")
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.linspace(low, high, 30)
    values = np.stack([[np.interp(grid, x, draw) for draw in draws] for x, draws in curves], axis=1)

    def gap(sample: np.ndarray) -> float:
        means = sample.mean(axis=0)
        return float((means.max(axis=0) - means.min(axis=0)).max())

    return as_estimate(bootstrap_interval(values, gap, generator()))


register("largest gap between the curves of Fig. 1c, against c", lambda tables: _curve_gap(tables, "c"))


register("largest gap between the curves of Fig. 1c, against beta", lambda tables: _curve_gap(tables, "branch_scale"))


@statistic("angle at L=30 minus angle at L=500, MLP")
def depth_of_figure_1c(tables: Tables) -> Estimate:
    rows = select(tables["fsf_fig1c"], estimator="sampler")
    rows = rows[rows["branch_scale"] == 1.0]
    return mean_difference(select(rows, depth=30), select(rows, depth=500))
