"""The bootstrap over seeds: what few seeds can say, and statistics that are not numbers on every resample."""

import math

import numpy as np
import pytest

from featurespeed.statistics import seed_interval, seed_intervals


def interval(statistic, seeds, level=0.95, stream=0):
    return seed_interval(statistic, seeds, np.random.default_rng(stream), level)


def mean_of(values):
    values = np.asarray(values, dtype=float)
    return lambda chosen: float(values[chosen].mean())


@pytest.mark.parametrize("values", [(1, 4), (3, 1, 8)])
def test_up_to_three_seeds_give_the_range_of_single_seeds(values):
    """Of 27 resamples of three seeds, the one of the smallest seed alone is 1/27 > 2.5%."""
    found = interval(mean_of(values), len(values))
    assert (found.value, found.low, found.high) == (np.mean(values), min(values), max(values))
    assert (found.n, found.estimator) == (len(values), f"bootstrap over seeds, {len(values) ** len(values)} resamples")


def test_few_seeds_need_no_luck():
    values = mean_of([0.3, 1.0, 2.0, 5.0, 8.0])
    first, second = interval(values, 5, stream=1), interval(values, 5, stream=2)
    assert first == second
    draws = np.stack(np.meshgrid(*[np.array([0.3, 1.0, 2.0, 5.0, 8.0])] * 5), -1).reshape(-1, 5).mean(1)
    assert first.low == pytest.approx(np.quantile(draws, 0.025, method="inverted_cdf"))
    assert first.high == pytest.approx(np.quantile(draws, 0.975, method="inverted_cdf"))


def test_many_seeds_agree_with_the_normal_interval():
    values = np.random.default_rng(0).normal(3.0, 2.0, 100)
    found = interval(mean_of(values), 100)
    half = 1.96 * values.std() / 10
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


def test_a_resample_without_a_number_opens_the_interval_on_both_sides():
    """Seed 0 alone gives none: 1 of 27 resamples, more than 2.5%."""
    found = interval(lambda chosen: math.nan if set(chosen) == {0} else 1.0, 3)
    assert (found.value, found.low, found.high) == (1.0, -math.inf, math.inf)


def test_infinity_is_a_value_and_opens_one_side_only():
    found = interval(lambda chosen: math.inf if set(chosen) == {0} else float(len(set(chosen))), 3)
    assert (found.value, found.low, found.high) == (3.0, 1.0, math.inf)


def test_no_number_from_the_data_gives_no_interval():
    found = interval(lambda chosen: math.nan, 3)
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)


def test_interval_holds_its_value_even_where_resamples_are_biased():
    """The number of distinct seeds is never larger in a resample than in the data."""
    found = interval(lambda chosen: float(len(set(chosen))), 50)
    assert found.low < found.high == found.value == 50


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match="seeds = 1: an interval needs at least 2"):
        interval(lambda chosen: 1.0, 1)
    with pytest.raises(ValueError, match="level"):
        interval(lambda chosen: 1.0, 3, level=1.0)


@pytest.mark.parametrize("seeds", [3, 8])
def test_several_statistics_at_once_have_the_intervals_of_each_alone(seeds):
    values = np.random.default_rng(1).standard_normal((seeds, 4))
    values[0, 2] = np.nan  # only some resamples have a number
    values[:, 3] = np.nan
    together = seed_intervals(lambda chosen: values[chosen].mean(0), seeds, np.random.default_rng(0))
    alone = [interval(lambda chosen, k=k: values[chosen, k].mean(), seeds) for k in range(4)]
    for one, other in zip(together, alone, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), nan_ok=True)
        assert (one.n, one.estimator) == (other.n, other.estimator)
