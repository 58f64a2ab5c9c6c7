"""Statistics of the claims about Figure 2 of arXiv:2311.18718: how the sensitivity depends on depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, as_estimate, mean_estimate, register, select, slope
from featurespeed.statistics import ratio_interval

PUBLISHED_LEVEL = 10.4  # of the sensitivity in Fig. 2b, beta = 1/sqrt(L)
PUBLISHED_RATIO = 10.4 / 7.75  # of the levels of the two series of Fig. 2b


def _depth_exponent(artefact: str, series: str) -> Callable[[Tables], Estimate]:
    """Exponent of the sensitivity in L, one fit a seed: of logarithms, for NTK's sensitivity has no mean."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[artefact], series=series, estimator="sampler", quantity="feature_sensitivity")
        return slope(rows[rows["depth"] >= 10], "depth")

    return compute


for _series in ("NTK", "MF+muP", "FSC"):
    register(f"exponent of S in L, {_series}", _depth_exponent("fsf_fig2a", _series))


for _series in ("beta=1/sqrtL", "beta=1/L"):
    register(f"exponent of S in L, {_series}", _depth_exponent("fsf_fig2b", _series))


def _levels(tables: Tables, artefact: str, series: str) -> np.ndarray:
    """Median over the depths from 20 on of the sensitivity of each seed, ``[seeds]``."""
    rows = select(tables[artefact], series=series, estimator="sampler", quantity="feature_sensitivity")
    if rows["width"].iloc[0] != 400:
        raise Undecidable("the published level belongs to m = 400")
    return rows[rows["depth"] >= 20].groupby("seed")["value"].median().to_numpy()


def _over_published_level(artefact: str, series: str) -> Callable[[Tables], Estimate]:
    return lambda tables: mean_estimate(_levels(tables, artefact, series) / PUBLISHED_LEVEL)


for _artefact, _series, _of in (("fsf_fig2b", "beta=1/sqrtL", "S at beta=1/sqrtL"), ("fsf_fig2a", "MF+muP", "the MLP")):
    register(f"level of {_of} over the level published for beta=1/sqrtL", _over_published_level(_artefact, _series))


def _over_published_ratio(above: np.ndarray, below: np.ndarray) -> Estimate:
    shared = min(len(above), len(below))
    return as_estimate(ratio_interval(above[:shared], PUBLISHED_RATIO * below[:shared]))


@statistic("ratio of the levels of Fig. 2b over the published ratio")
def levels_of_both_series(tables: Tables) -> Estimate:
    both = (_levels(tables, "fsf_fig2b", series) for series in ("beta=1/sqrtL", "beta=1/L"))
    return _over_published_ratio(*both)


@statistic("level of the MLP over that of the ResNet, over the published ratio")
def level_of_the_mlp(tables: Tables) -> Estimate:
    return _over_published_ratio(_levels(tables, "fsf_fig2a", "MF+muP"), _levels(tables, "fsf_fig2b", "beta=1/L"))
