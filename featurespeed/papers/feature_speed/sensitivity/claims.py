"""Statistics of the claims about Figure 2 of arXiv:2311.18718: how the sensitivity depends on depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, as_estimate, generator, register, select
from featurespeed.statistics import bootstrap_interval, mean_interval


def _median_depth_exponent(artefact: str, series: str) -> Callable[[Tables], Estimate]:
    """Exponent in L of the median sensitivity; bootstrap over seeds, because NTK's mean is infinite."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[artefact], series=series, estimator="sampler", quantity="feature_sensitivity")
        by_depth = rows.pivot_table(index="seed", columns="depth", values="value")
        by_depth = by_depth[[depth for depth in by_depth.columns if depth >= 10]]
        if by_depth.shape[1] < 3:
            raise Undecidable(f"{by_depth.shape[1]} depths from 10 on: at least 3 are needed for an exponent")
        logs = np.log(by_depth.columns.to_numpy(dtype=float))

        def exponent(draws: np.ndarray) -> float:
            return float(np.polyfit(logs, np.log(np.median(draws, axis=0)), 1)[0])

        return as_estimate(bootstrap_interval(by_depth.to_numpy(), exponent, generator()))

    return compute


for _series in ("NTK", "MF+muP", "FSC"):
    register(f"exponent of the median S in L, {_series}", _median_depth_exponent("fsf_fig2a", _series))


for _series in ("beta=1/sqrtL", "beta=1/L"):
    register(f"exponent of the median S in L, {_series}", _median_depth_exponent("fsf_fig2b", _series))


def _level(tables: Tables, series: str) -> np.ndarray:
    """Mean over depths of each seed's sensitivity in Fig. 2b."""
    rows = select(tables["fsf_fig2b"], series=series, estimator="sampler", quantity="feature_sensitivity")
    if rows["width"].iloc[0] != 400:
        raise Undecidable("the published level belongs to m = 400")
    return rows.groupby("seed")["value"].median().to_numpy()


@statistic("level of S over the published level, Fig. 2b")
def level_against_published(tables: Tables) -> Estimate:
    return as_estimate(mean_interval(_level(tables, "beta=1/sqrtL") / 10.4))


def _level_ratio(numerator: str, denominator: str, published: float) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        pair = np.column_stack([_level(tables, numerator), _level(tables, denominator)])
        ratio = bootstrap_interval(pair, lambda d: float(d[:, 0].mean() / d[:, 1].mean() / published), generator())
        return as_estimate(ratio)

    return compute


register(
    "ratio of the levels of Fig. 2b over the published ratio", _level_ratio("beta=1/sqrtL", "beta=1/L", 10.4 / 7.75)
)


register("inverse ratio of the levels over the published ratio", _level_ratio("beta=1/L", "beta=1/sqrtL", 10.4 / 7.75))
