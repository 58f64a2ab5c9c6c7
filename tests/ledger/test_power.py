"""How often verdicts come out: exact for shares, simulated for means, and right at the ends."""

import numpy as np
import pytest

from featurespeed.ledger import power
from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import Estimate, Verdict, decide
from featurespeed.statistics import mean_interval

SLOPE = Threshold.parse({"between": [-0.1, 0.1]})
FALLS = Threshold.parse({"at_most": -0.2})
MOST = Threshold.parse({"at_least": 0.5, "ideal": 1.0})


def test_rates_of_a_mean_are_those_of_the_verdicts_themselves():
    generator, count, repetitions = np.random.default_rng(4), 0, 400
    for _ in range(repetitions):
        found = mean_interval(generator.normal(0.05, 0.06, 8))
        count += decide(Estimate(found.value, found.low, found.high, 8), SLOPE) is Verdict.CONFIRMED
    expected = power.rates_of_mean(SLOPE, 0.05, 0.06, 8)[Verdict.CONFIRMED]
    assert count / repetitions == pytest.approx(expected, abs=0.1)  # four standard errors


@pytest.mark.parametrize("value", [0.1, -0.1])
def test_a_true_value_on_the_bound_is_confirmed_in_one_run_of_forty(value):
    """One tail of a two-sided 95% interval."""
    assert power.rates_of_mean(SLOPE, value, 0.02, 10)[Verdict.CONFIRMED] == pytest.approx(0.025, abs=0.01)


def test_rates_add_up_and_grow_with_the_seeds():
    few, many = (power.rates_of_mean(SLOPE, 0.0, 0.1, seeds) for seeds in (5, 50))
    assert sum(few.values()) == pytest.approx(1) and many[Verdict.CONFIRMED] > few[Verdict.CONFIRMED]


def test_ten_seeds_of_ten_confirm_most_and_cannot_confirm_four_fifths():
    assert power.rates_of_share(MOST, 1.0, 10)[Verdict.CONFIRMED] == 1
    assert power.rates_of_share(Threshold.parse({"at_least": 0.8}), 1.0, 10)[Verdict.CONFIRMED] == 0
    assert power.rates_of_share(MOST, 0.5, 10)[Verdict.CONFIRMED] < 0.025


@pytest.mark.parametrize(
    ("threshold", "holds", "fails"),
    [(SLOPE, 0.0, 0.15), (FALLS, -0.3, -0.1), (MOST, 0.75, 0.25), (Threshold.parse({"at_least": 0}), 0.1, -0.1)],
)
def test_true_values_lie_on_either_side_of_the_bound(threshold, holds, fails):
    found = power.sides(threshold)
    assert (found.holds, found.fails) == pytest.approx((holds, fails))


def test_seeds_needed_grow_with_the_spread():
    def needed(spread):
        return power.seeds_needed(lambda value, seeds: power.rates_of_mean(SLOPE, value, spread, seeds), SLOPE)

    assert needed(0.02) < needed(0.1) <= 200
    assert needed(10.0) is None


def test_the_spread_is_read_off_an_interval():
    values = np.random.default_rng(0).normal(3, 2, 12)
    found = mean_interval(values)
    assert power.spread_of(found.low, found.high, 12) == pytest.approx(values.std(ddof=1))
