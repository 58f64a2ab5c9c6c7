"""Claims on Figure 2: exponents of one fit a seed, ratios of levels."""

import numpy as np
import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS
from tests.papers.feature_speed.cases import planted


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.0])
def test_exponent_of_the_sensitivity_survives_heavy_tails(noise, power):
    rows = [
        {"depth": depth, "seed": seed, "series": "NTK", "value": depth**power / abs(noise.standard_normal())}
        for depth in (5, 10, 20, 40)
        for seed in range(200)
    ]
    estimate = STATISTICS["exponent of S in L, NTK"]({"fsf_fig2a": planted(rows, quantity="feature_sensitivity")})
    assert len(estimate.sample) == 200
    assert estimate.ci_low < power < estimate.ci_high and estimate.ci_high - estimate.ci_low < 0.5


def test_ratio_of_the_levels_is_told_from_that_of_another_network(noise):
    def sampled(levels: dict[str, float]) -> pd.DataFrame:
        rows = [
            {"series": series, "depth": depth, "seed": seed, "value": level * (1 + 0.01 * noise.standard_normal())}
            for series, level in levels.items()
            for depth in (20, 30, 40)
            for seed in range(10)
        ]
        return planted(rows, quantity="feature_sensitivity", width=400)

    tables = {
        "fsf_fig2a": sampled({"MF+muP": 4.0}),
        "fsf_fig2b": sampled({"beta=1/sqrtL": 1.04, "beta=1/L": 0.775}),
    }
    ratio = STATISTICS["ratio of the levels of Fig. 2b over the published ratio"](tables)
    assert ratio.ci_low < 1.0 < ratio.ci_high
    assert STATISTICS["level of the MLP over that of the ResNet, over the published ratio"](tables).ci_low > 3
    level = STATISTICS["level of S at beta=1/sqrtL over the level published for beta=1/sqrtL"](tables)
    assert level.value == pytest.approx(0.1, rel=0.02)
