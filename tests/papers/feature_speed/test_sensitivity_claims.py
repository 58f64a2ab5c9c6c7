"""Claims on Figure 2: exponents of medians."""

import numpy as np
import pytest

from featurespeed.ledger.engine import STATISTICS
from tests.papers.feature_speed.cases import planted


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.0])
def test_exponent_of_the_median_survives_heavy_tails(noise, power):
    rows = [
        {"depth": depth, "seed": seed, "series": "NTK", "value": depth**power / abs(noise.standard_normal())}
        for depth in (5, 10, 20, 40)
        for seed in range(200)
    ]
    estimate = STATISTICS["exponent of the median S in L, NTK"](
        {"fsf_fig2a": planted(rows, quantity="feature_sensitivity")}
    )
    assert estimate.ci_low < power < estimate.ci_high and estimate.ci_high - estimate.ci_low < 0.5
