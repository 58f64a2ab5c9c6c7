"""Numbers within bounds: best learning rates next to one that failed, and what is made of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from featurespeed.statistics import largest_deviation, mean_interval
from featurespeed.sweeps import dependence
from featurespeed.sweeps.brackets import (
    Ranges,
    best,
    is_bounded,
    largest,
    largest_stable,
    ordered_difference,
    shifts,
    total,
)
from featurespeed.sweeps.dependence import Optima, optima
from featurespeed.sweeps.transfer import Losses

SEEDS = 4
SIZES = np.array([3, 6, 12, 24])
RATES = 2.0 ** np.arange(-3, 4)
RNG = np.random.default_rng(0)


def ranges(seeds: int = SEEDS, shift: float = 0.0) -> Ranges:
    """Random numbers, the bounds at other distances on either side."""
    value = RNG.normal(size=seeds) + shift
    return Ranges(value, value - RNG.uniform(0.1, 2, size=seeds), value + RNG.uniform(0.1, 2, size=seeds))


def known(seeds: int = SEEDS) -> Ranges:
    return Ranges.of(RNG.normal(size=seeds))


def ends(own: Ranges) -> tuple[np.ndarray, np.ndarray]:
    return own.low, own.high


def corners(*parts: Ranges) -> list[tuple[np.ndarray, ...]]:
    """Every choice of the lower or the upper bounds of all seeds of each number, and the values."""
    return [*itertools.product(*map(ends, parts)), tuple(own.value for own in parts)]


def optima_between(low: np.ndarray, value: np.ndarray, high: np.ndarray, at_end: np.ndarray | None = None) -> Optima:
    """Best rates ``[seeds, S]`` that are known within these bounds."""
    at_end = np.zeros(value.shape, dtype=bool) if at_end is None else at_end
    failed = np.zeros((value.shape[1], len(RATES)), dtype=bool)
    sizes = 3 * 2 ** np.arange(value.shape[1])
    return Optima(sizes, RATES, value, low < high, failed, low=low, high=high, open=at_end)


def equal(found: Ranges, low: object, high: object) -> bool:
    return found.low == pytest.approx(low) and found.high == pytest.approx(high)


# --- arithmetic -------------------------------------------------------------------------------------------------------

ARITHMETIC = {
    "sum": (lambda x, y: x + y, lambda x, y: x + y),
    "difference": (lambda x, y: x - y, lambda x, y: x - y),
    "of both signs": (lambda x, y: x * 0.5 + y * -3.0, lambda x, y: 0.5 * x - 3 * y),
    "nothing": (lambda x, y: x * 0.0 + y, lambda x, y: y),
    "minus": (lambda x, y: -x - y, lambda x, y: -x - y),
    "total": (lambda x, y: total([x, y, x]), lambda x, y: 2 * x + y),
    "beyond": (lambda x, y: x.beyond(1.5) + y, lambda x, y: x - 1.5 + y),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_bounds_are_the_least_and_the_greatest_that_the_parts_allow(name):
    of_ranges, of_numbers = ARITHMETIC[name]
    x, y = ranges(), ranges(shift=2)
    found, each = of_ranges(x, y), [of_numbers(*corner) for corner in corners(x, y)]
    assert equal(found, np.min(each, axis=0), np.max(each, axis=0))
    assert found.value == pytest.approx(of_numbers(x.value, y.value))


def test_an_interval_reaches_from_the_t_interval_of_the_low_bounds_to_that_of_the_high_ones():
    own = ranges()
    for level in (0.95, 0.8):
        found, low, high = own.interval(level), mean_interval(own.low, level), mean_interval(own.high, level)
        assert (found.low, found.high) == (low.low, high.high)
        assert found.low < low.value < found.value < high.value < found.high
    assert (found.value, found.n, found.sample) == (own.value.mean(), SEEDS, tuple(own.value))


def test_what_is_known_has_the_t_interval_of_its_mean():
    own = known()
    found, plain = own.interval(), mean_interval(own.value)
    assert (found.value, found.low, found.high, found.n, found.sample) == (
        plain.value, plain.low, plain.high, plain.n, plain.sample,
    )  # fmt: skip


def test_bounds_alone_give_an_interval_its_width():
    same = Ranges(np.zeros(SEEDS), np.full(SEEDS, -0.5), np.ones(SEEDS))
    assert (same.interval().low, same.interval().high) == (-0.5, 1.0)


# --- without signs ----------------------------------------------------------------------------------------------------


def test_numbers_below_zero_are_turned_with_their_bounds():
    below = Ranges(np.array([-3.0, 0.5]), np.array([-4.0, 0.0]), np.array([-2.0, 0.7]))
    assert equal(below.upwards(), [2.0, -0.7], [4.0, 0.0])
    assert below.upwards().value.tolist() == [3.0, -0.5]
    assert equal((-below).upwards(), [2.0, -0.7], [4.0, 0.0])


@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_that_reach_further_beyond_zero_bound_the_absolute_value(sign):
    """The estimate is 0.2, but the number may be -2: its absolute value is up to 2, not up to 1."""
    unsure = Ranges(np.full(SEEDS, 0.2), np.full(SEEDS, -2.0), np.full(SEEDS, 1.0)) * sign
    assert equal(unsure.upwards(), [-2.0] * SEEDS, [2.0] * SEEDS)


def test_single_seeds_beyond_zero_do_not_count_as_such():
    own = known(1000)
    up = own.upwards()
    assert abs(up.value.mean()) < 0.1 and equal(up, up.value, up.value)
    assert up.value == pytest.approx(dependence.steeper(own.value, np.zeros(1000)))


def test_a_difference_of_absolute_values_holds_that_of_every_possible_number():
    for _ in range(50):
        x, y = ranges(1), ranges(1)
        found = x.upwards() - y.upwards()
        each = [abs(one[0]) - abs(other[0]) for one, other in corners(x, y)]
        assert found.low[0] <= min(each) + 1e-9 and max(each) - 1e-9 <= found.high[0]


# --- best rates -------------------------------------------------------------------------------------------------------


def test_every_size_has_its_best_rates_and_bounds():
    low, value, high = (RNG.normal(size=(SEEDS, 4)) for _ in range(3))
    found = best(optima_between(low, value, high))
    for place, own in enumerate(found):
        assert own.value == pytest.approx(value[:, place]) and equal(own, low[:, place], high[:, place])
    assert len(found) == 4


def test_shifts_have_the_least_and_the_greatest_slope_of_all_corners():
    value = RNG.normal(size=(SEEDS, 4))
    low, high = value - RNG.uniform(0, 1, size=value.shape), value + RNG.uniform(0, 2, size=value.shape)
    found = shifts(optima_between(low, value, high), 8)
    each = []
    for upper in itertools.product((False, True), repeat=4):
        corner = np.where(upper, high, low)
        each.append([3 * np.polyfit(np.arange(4), row, 1)[0] for row in corner])
    assert equal(found, np.min(each, axis=0), np.max(each, axis=0))
    assert found.value == pytest.approx([3 * np.polyfit(np.arange(4), row, 1)[0] for row in value])


def test_shifts_of_known_rates_are_those_of_the_seeds():
    value = RNG.normal(size=(SEEDS, 5))
    found = optima_between(value, value, value)
    assert equal(shifts(found, 16), found.shifts(16), found.shifts(16))
    assert shifts(found, 4).value == pytest.approx(found.shifts(16) / 2)


def test_best_rates_that_are_all_next_to_a_failure_have_shifts_within_wide_bounds():
    """Every size trains best at 1 and fails at 2: between -0.5 and 1, by four sizes 1.2 times 1.5 either way."""
    logs = np.broadcast_to(0.1 * np.log2(RATES) ** 2, (SEEDS, 4, len(RATES))).copy()
    logs[..., RATES > 1] = math.inf
    found = optima(Losses(SIZES, RATES, np.exp(logs)))
    assert is_bounded(found) and not found.usable and not found.open.any()
    assert equal(shifts(found, 8), [-1.8] * SEEDS, [1.8] * SEEDS)
    assert shifts(found, 8).value == pytest.approx([0.0] * SEEDS)


@pytest.mark.parametrize(("at_end", "bounded"), [(4, True), (5, False)])
def test_a_fifth_may_lie_at_an_end_of_the_grid(at_end, bounded):
    value, unbounded = np.zeros((5, 4)), np.zeros((5, 4), dtype=bool)
    unbounded.flat[3 * np.arange(at_end)] = True
    assert is_bounded(optima_between(value - 0.5, value, value + 1, unbounded)) is bounded


def test_a_size_without_a_rate_is_not_bounded():
    value = np.zeros((5, 4))
    assert is_bounded(optima_between(value, value, value))
    value[2, 1] = math.nan
    assert not is_bounded(optima_between(value, value, value))


# --- the largest stable rate ------------------------------------------------------------------------------------------


def training(*rows: list[str]) -> Losses:
    """Seeds of sizes whose networks train (``+``) or fail (``-``) from the smallest rate on."""
    values = [[[1.0 if mark == "+" else math.inf for mark in size] for size in seed] for seed in rows]
    return Losses(SIZES[: len(rows[0])], RATES[: len(rows[0][0])], np.array(values))


def test_the_largest_stable_rate_lies_between_the_last_that_trains_and_the_first_that_fails():
    found = largest_stable(training(["+++-", "++--"], ["+---", "+++-"]))
    assert found.low.tolist() == found.log2_rates.tolist() == [[-1, -2], [-3, -1]]
    assert found.high.tolist() == [[0, -1], [-2, 0]] and not found.open.any()
    assert "3: 0.25 to 0.5" in found.bounded_note()


def test_networks_that_train_beyond_the_first_failure_are_not_stable_there():
    found = largest_stable(training(["++-+", "+-++"]))
    assert found.low.tolist() == [[-2, -3]] and found.high.tolist() == [[-1, -2]] and not found.open.any()


def test_stable_rates_beyond_either_end_of_the_grid_are_open():
    found = largest_stable(training(["++++", "----", "+++-"]))
    assert found.open.tolist() == [[True, True, False]]
    assert found.low.tolist() == [[0, -3, -1]] and found.high.tolist() == [[0, -3, 0]]
    assert not is_bounded(found) and "67% at an end of the grid 0.125 to 1, of 3, 6" in found.bounded_note()


def test_the_value_of_the_loss_does_not_matter_for_the_stable_rate():
    own = training(["++--"], ["+---"])
    other = Losses(own.sizes, own.rates, own.values * RNG.uniform(0.1, 9, size=own.values.shape))
    assert largest_stable(other).low.tolist() == largest_stable(own).low.tolist() == [[-2], [-3]]


# --- several numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_the_largest_of_known_numbers_is_their_largest_deviation(shift):
    parts = [Ranges.of(shift + RNG.normal(size=SEEDS)) for _ in range(3)]
    found, plain = largest(parts), largest_deviation(np.column_stack([own.value for own in parts]))
    assert (found.value, found.low, found.high, found.n) == pytest.approx((plain.value, plain.low, plain.high, plain.n))
    assert found.sample == plain.sample and (found.low > 0) is (shift > 0)


def test_the_largest_within_bounds_is_at_least_the_nearest_and_at_most_the_furthest():
    """The first lies between -4 and -1; of the second nothing but |x| < 3 is known."""
    noise = np.array([-0.01, 0.01, 0.0, 0.0])
    first = Ranges(noise - 2, noise - 4, noise - 1)
    second = Ranges(noise + 1, noise - 1, noise + 3)
    found = largest([first, second])
    assert found.value == pytest.approx(2)
    assert found.low == pytest.approx(-first.interval(0.975).high) and found.low == pytest.approx(1, abs=0.05)
    assert found.high == pytest.approx(-first.interval(0.95).low) and found.high == pytest.approx(4, abs=0.05)
    assert largest([second]).low == 0


def test_ordered_difference_of_known_numbers_is_that_of_the_seeds():
    slopes, values = RNG.normal(size=(SEEDS, 4)), RNG.normal(size=(SEEDS, 4)) + [1, -2, 0, 3]
    expected = dependence.ordered_difference(slopes, values)
    found = ordered_difference(slopes, [Ranges.of(column) for column in values.T])
    assert found.value == pytest.approx(expected) and equal(found, expected, expected)


def test_ordered_difference_is_that_of_absolute_values_whatever_the_numbers_within_their_bounds():
    slopes = np.array([[0.0, -0.5, 0.1, 1.0]])
    for _ in range(20):
        parts = [ranges(1, shift) for shift in (0.0, 0.3, -2.0, 2.0)]
        found = ordered_difference(slopes, parts)
        # the larger |slope| first: pairs of networks 3 > 1 > 2 > 0
        weights = np.array([-3, 1, -1, 3]) / 6
        each = [np.abs(np.concatenate(corner)) @ weights for corner in corners(*parts)]
        assert found.low[0] <= min(each) + 1e-9 and max(each) - 1e-9 <= found.high[0]
    certain = [Ranges(np.array([x]), np.array([x - 0.5]), np.array([x + 1])) for x in (1.0, -2.0, 3.0, 4.0)]
    each = [np.abs(np.concatenate(corner)) @ weights for corner in corners(*certain)]
    assert equal(ordered_difference(slopes, certain), [min(each)], [max(each)])
