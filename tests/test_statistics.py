"""Intervals cover what they claim to cover, exponents are exact on power laws, and bad input is refused."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from featurespeed.statistics import (
    Interval,
    difference_interval,
    jackknife_interval,
    largest_deviation,
    loglog_exponents,
    loglog_slope,
    mean_interval,
    median_interval,
    proportion_interval,
    ratio_interval,
    z_score,
)

REPETITIONS = 400
# Four binomial standard errors of a 95% coverage over the repetitions.
SLACK = 4 * math.sqrt(0.95 * 0.05 / REPETITIONS)


def coverage(interval_of, truth, seed):
    rng = np.random.default_rng(seed)
    found = [interval_of(rng) for _ in range(REPETITIONS)]
    return float(np.mean([i.low <= truth <= i.high for i in found]))


def grid(seeds, noise, rng, exponents=(0.5, -1.5)):
    """A full grid of widths and depths a seed, with an exponent of its own for each seed and noise on each entry."""
    rows = [
        {"seed": seed, "width": width, "depth": depth}
        for seed in range(seeds)
        for width in (32, 64, 128)
        for depth in (5, 10, 20)
    ]
    frame = pd.DataFrame(rows)
    shared = rng.normal(0, noise, seeds)[frame["seed"]] * np.log(frame["width"] / 64)
    law = exponents[0] * np.log(frame["width"]) + exponents[1] * np.log(frame["depth"])
    return frame.assign(value=np.exp(2 + law + shared + rng.normal(0, noise, len(frame))))


@pytest.mark.parametrize("n", [3, 10])
def test_t_interval_covers_the_mean_of_normal_data(n):
    assert coverage(lambda rng: mean_interval(rng.normal(2, 3, n)), 2, n) == pytest.approx(0.95, abs=SLACK)


def test_t_interval_with_few_seeds_is_wider_than_the_normal_one():
    """1.96 standard errors of three values cover less than the interval claims."""

    def normal(rng):
        x = rng.normal(size=3)
        half = 1.96 * x.std(ddof=1) / math.sqrt(3)
        return Interval(x.mean(), x.mean() - half, x.mean() + half, 3, "wrong")

    assert coverage(normal, 0, 1) < 0.95 - SLACK


@pytest.mark.parametrize("n", [6, 40])
def test_median_interval_covers_the_median_of_a_law_without_mean(n):
    assert coverage(lambda rng: median_interval(rng.standard_cauchy(n)), 0, n) >= 0.95 - SLACK


@pytest.mark.parametrize("n", [6, 7, 9, 20, 40, 41, 500])
def test_median_interval_is_the_narrowest_pair_that_covers(n):
    found = median_interval(np.arange(1, n + 1))
    rank = round(found.low)
    assert round(found.high) == n + 1 - rank

    def covered(r):
        return 1 - 2 * sum(math.comb(n, i) for i in range(r)) / 2**n

    assert covered(rank) >= 0.95 > covered(rank + 1)


def test_slope_intervals_cover_the_exponent_when_a_seed_shares_its_noise():
    found = coverage(lambda rng: loglog_exponents(grid(5, 0.1, rng), ["width", "depth"], "value")["width"], 0.5, 3)
    assert found == pytest.approx(0.95, abs=SLACK)


def test_pooling_correlated_observations_undercovers():
    """The same data with the seed column replaced by the row number: why the unit is the seed."""

    def pooled(rng):
        frame = grid(5, 0.1, rng)
        return loglog_exponents(frame.assign(seed=range(len(frame))), ["width", "depth"], "value")["width"]

    assert coverage(pooled, 0.5, 3) < 0.95 - SLACK


def test_pooled_slope_covers_the_exponent_under_unequal_noise():
    x = np.geomspace(10, 200, 60)

    def pooled(rng):
        y = x**-0.5 * np.exp(rng.normal(size=60) * 0.2 * (x / 200))
        return loglog_slope(x, y, np.arange(60))

    assert coverage(pooled, -0.5, 8) == pytest.approx(0.95, abs=SLACK + 0.02)


@pytest.mark.parametrize("n", [5, 40])
@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.95])
def test_proportion_interval_never_undercovers(n, p):
    law = [math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)]
    intervals = [proportion_interval(i, n) for i in range(n + 1)]
    assert sum(weight for weight, i in zip(law, intervals, strict=True) if i.low <= p <= i.high) >= 0.95


def test_proportion_interval_has_its_closed_form_at_the_ends():
    assert proportion_interval(40, 40).low == pytest.approx(0.025 ** (1 / 40), rel=1e-12)
    assert proportion_interval(40, 40).high == 1.0
    assert proportion_interval(0, 40).high == pytest.approx(1 - 0.025 ** (1 / 40), rel=1e-12)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(p=st.floats(-3, 3), scale=st.floats(1e-6, 1e6), seeds=st.integers(2, 5))
def test_slope_is_exact_on_power_laws(p, scale, seeds):
    x = np.tile([3.0, 10.0, 40.0, 200.0], seeds)
    unit = np.repeat(np.arange(seeds), 4)
    for units in (unit, np.arange(len(x))):
        found = loglog_slope(x, scale * x**p, units)
        assert (found.value, found.low, found.high) == pytest.approx((p, p, p), abs=1e-9)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(factor=st.floats(1e-5, 1e5), seed=st.integers(0, 1000))
def test_exponents_ignore_the_units_of_every_quantity(factor, seed):
    frame = grid(3, 0.2, np.random.default_rng(seed))
    rescaled = frame.assign(value=frame["value"] * factor, width=frame["width"] * factor)
    for unit in ("seed", None):
        one, two = (
            loglog_exponents(f if unit else f.assign(seed=range(len(f))), ["width", "depth"], "value")
            for f in (frame, rescaled)
        )
        for name in one:
            a, b = one[name], two[name]
            assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-6, abs=1e-8)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(shift=st.floats(-1e3, 1e3), factor=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_mean_and_median_intervals_move_with_the_data(shift, factor, seed):
    values = np.random.default_rng(seed).normal(size=12)
    for interval in (mean_interval, median_interval):
        one, two = interval(values), interval(factor * values + shift)
        moved = [factor * bound + shift for bound in (one.value, one.low, one.high)]
        assert moved == pytest.approx([two.value, two.low, two.high], rel=1e-9, abs=1e-9 * (factor + abs(shift)))


def test_exponents_do_not_depend_on_row_order():
    frame = grid(4, 0.1, np.random.default_rng(2))
    shuffled = frame.sample(frac=1, random_state=1)
    both = (loglog_exponents(f, ["depth", "width"], "value").values() for f in (frame, shuffled))
    for one, two in zip(*both, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), rel=1e-9)


def test_hc3_interval_equals_its_textbook_form():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(1, 9, 8), rng.uniform(1, 9, 8)
    design = np.column_stack([np.ones(8), np.log(x)])
    bread = np.linalg.inv(design.T @ design)
    b = bread @ design.T @ np.log(y)
    leverage = np.diag(design @ bread @ design.T)
    meat = design.T @ np.diag(((np.log(y) - design @ b) / (1 - leverage)) ** 2) @ design
    half = 2.4469118511449692 * math.sqrt((bread @ meat @ bread)[1, 1])  # t quantile, 6 degrees of freedom
    found = loglog_slope(x, y, range(8))
    assert (found.value, found.low, found.high) == pytest.approx((b[1], b[1] - half, b[1] + half), rel=1e-9)
    assert "HC3" in found.estimator and found.n == 8


def test_mean_interval_equals_its_textbook_form():
    found = mean_interval([1.0, 2.0, 4.0, 5.0])
    half = 3.1824463052842624 * math.sqrt(10 / 3) / 2  # t quantile, 3 degrees of freedom
    assert (found.value, found.low, found.high, found.n) == pytest.approx((3, 3 - half, 3 + half, 4))


def test_z_score_is_the_stated_formula():
    assert z_score(1.0, 0.0, 0.9, 0.0, 1, pixel=0.05) == pytest.approx(2)
    expected = -0.02 / math.sqrt(0.03**2 / 5 + 0.004**2 + 0.0026**2)
    np.testing.assert_allclose(z_score([0.5, 0.6], 0.004, [0.52, 0.62], 0.03, 5), expected)


def test_z_scores_of_a_faithful_replication_are_standard_normal():
    rng = np.random.default_rng(10)
    n, k, sd, se = 20_000, 5, 0.02, 0.003
    y = rng.normal(0, sd / math.sqrt(k), n) + rng.normal(0, 0.0026, n)
    z = z_score(rng.normal(0, se, n), se, y, sd, k)
    assert z.std() == pytest.approx(1, abs=0.03)


def test_welch_interval_equals_its_textbook_form():
    a, b = np.array([1.0, 2.0, 4.0, 4.5]), np.array([0.5, 3.0, 9.0])
    found = difference_interval(a, b)
    error = math.sqrt(a.var(ddof=1) / 4 + b.var(ddof=1) / 3)
    parts = a.var(ddof=1) / 4, b.var(ddof=1) / 3
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, degrees) * error)
    assert found.value == pytest.approx(a.mean() - b.mean()) and found.n == 3


def test_a_ratio_is_paired_and_a_factor_of_both_does_not_matter():
    rng = np.random.default_rng(5)
    size, noise = np.exp(rng.normal(0, 3, 10)), np.exp(rng.normal(0, 0.01, 10))
    found = ratio_interval(2 * size * noise, size)
    assert found.low < 2 < found.high and found.high / found.low < 1.03
    assert ratio_interval(7 * size, 7 * size / 2).value == pytest.approx(2)


def test_the_largest_deviation_bounds_all_quantities_at_once():
    rng = np.random.default_rng(6)
    values = rng.normal([0.9, 1.0, 1.2], 0.01, (10, 3))
    found = largest_deviation(values, 1.0)
    single, lower = (mean_interval(values[:, 2] - 1, level) for level in (0.95, 1 - 0.05 / 3))
    assert (found.value, found.low, found.high) == pytest.approx((single.value, lower.low, single.high))
    assert found.n == 10 and len(found.sample) == 30
    assert largest_deviation(values, [0.9, 1.0, 1.2]).low == 0.0


def test_a_jackknife_of_the_mean_is_the_t_interval():
    values = np.random.default_rng(7).normal(size=9)
    found, expected = jackknife_interval(lambda chosen: values[chosen].mean(), 9), mean_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_intervals_carry_what_their_units_gave():
    values = np.array([1.0, 2.0, 4.0])
    assert mean_interval(values).sample == (1.0, 2.0, 4.0)
    assert proportion_interval(2, 3).sample == (1.0, 1.0, 0.0)
    assert loglog_slope([1, 2, 1, 2], [1, 2, 1, 4], [0, 0, 1, 1]).sample == pytest.approx((1.0, 2.0))


def test_seeds_without_spread_have_an_interval_without_width():
    for found in (mean_interval([2.0, 2.0, 2.0]), difference_interval([3.0, 3.0], [1.0, 1.0])):
        assert found.value == found.low == found.high == 2.0


def test_higher_confidence_is_wider():
    values = np.random.default_rng(3).normal(size=30)
    for interval in (mean_interval, median_interval):
        wide, narrow = interval(values, level=0.99), interval(values, level=0.8)
        assert wide.low < narrow.low < narrow.high < wide.high


FRAME = grid(3, 0.1, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0]), "at least 2"),
        (lambda: mean_interval([]), "at least 2"),
        (lambda: mean_interval([1.0, math.nan]), "1 of 2 values are not finite"),
        (lambda: mean_interval([1.0, 2.0], level=95), "level = 95"),
        (lambda: median_interval([1.0, 2.0, 3.0, 4.0, 5.0]), "5 values are too few"),
        (lambda: median_interval([]), "at least 2"),
        (lambda: loglog_slope([1, 2], [1, 2, 3], [0, 0]), "differ in length"),
        (lambda: loglog_slope([], [], []), "empty table"),
        (lambda: loglog_slope([1, 2], [1, 2], [0, 0]), "at least 2 values of 'unit'"),
        (lambda: loglog_slope([1, 2, 0, 4], [1, 2, 3, 4], [0, 0, 1, 1]), "'x' must be positive .* found 0"),
        (lambda: loglog_slope([1, 2, 3, 4], [1, -2, 3, 4], [0, 0, 1, 1]), "'y' must be positive .* found -2"),
        (lambda: loglog_slope([1, 1, 3, 4], [1, 2, 3, 4], [0, 0, 1, 1]), "'x' does not vary at unit = 0"),
        (lambda: loglog_slope([5, 5, 5], [1, 2, 3], [0, 1, 2]), "'x' does not vary:"),
        (lambda: loglog_slope([1, 2], [1, 2], [0, 1]), "2 observations cannot give an interval"),
        (lambda: loglog_slope([5, 5, 5, 6], [1, 2, 3, 4], range(4)), "observation 3 alone"),
        (lambda: loglog_exponents(FRAME, ["width", "heads"], "value"), "'heads'"),
        (lambda: loglog_exponents(FRAME.assign(d=7), ["width", "d"], "value"), "'d' does not vary at seed = 0"),
        (
            lambda: loglog_exponents(FRAME.assign(d=3 * FRAME.width**2), ["depth", "width", "d"], "value"),
            "'d' is determined by the variables before it",
        ),
        (lambda: z_score(1, -1, 1, 1, 5), "se >= 0"),
        (lambda: z_score(1, 1, 1, 1, 0), "k >= 1"),
        (lambda: z_score(1, 0, 1, 0, 1, pixel=0), "some uncertainty"),
        (lambda: proportion_interval(5, 4), "5 of 4"),
        (lambda: proportion_interval(0, 0), "n >= 2"),
        (lambda: ratio_interval([1.0, 2.0], [1.0, 0.0]), "positive values"),
        (lambda: ratio_interval([1.0, 2.0], [1.0, 2.0, 3.0]), "of one length"),
        (lambda: difference_interval([1.0], [1.0, 2.0]), "at least 2"),
        (lambda: largest_deviation([1.0, 2.0]), r"shape \[units, quantities\]"),
        (lambda: largest_deviation([[1.0, 2.0]]), "at least 2"),
        (lambda: jackknife_interval(lambda chosen: 0.0, 4), "at least 5"),
        (lambda: jackknife_interval(lambda chosen: math.nan, 5), "not finite"),
    ],
)
def test_bad_input_raises_one_line(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
