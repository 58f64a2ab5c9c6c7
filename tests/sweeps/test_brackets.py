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
    is_known,
    largest,
    largest_stable,
    ordered_difference,
    shifts,
    total,
)
from featurespeed.sweeps.losses import Losses
from featurespeed.sweeps.optima import Optima, optima

SEEDS = 4
SIZES = np.array([3, 6, 12, 24])
RATES = 2.0 ** np.arange(-3, 4)
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers():
    """The numbers of a test do not depend on which ones ran before it in the same process."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


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


def optima_between(low: np.ndarray, value: np.ndarray, high: np.ndarray) -> Optima:
    """Best rates ``[seeds, S]`` that are known within these bounds."""
    failed = np.zeros((value.shape[1], len(RATES)), dtype=bool)
    sizes = 3 * 2 ** np.arange(value.shape[1])
    return Optima(sizes, RATES, value, low < high, failed, low=low, high=high)


def without_an_end(own: Ranges, side: int, seed: int = 0) -> Ranges:
    """The same numbers, but that of one seed has no lower (-1) or no upper (1) bound."""
    low, high = own.low.copy(), own.high.copy()
    (low if side < 0 else high)[seed] = side * math.inf
    return Ranges(own.value, low, high)


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


# --- without an end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [-1, 1])
def test_an_interval_is_infinite_where_one_seed_has_no_bound_and_only_there(side):
    own = ranges()
    found, plain = without_an_end(own, side, seed=2).interval(), own.interval()
    expected = (-math.inf, plain.high) if side < 0 else (plain.low, math.inf)
    assert (found.low, found.high) == expected
    assert (found.value, found.n, found.sample) == (plain.value, plain.n, plain.sample)
    both = without_an_end(without_an_end(own, -side, seed=0), side, seed=3).interval()
    assert (both.low, both.high) == (-math.inf, math.inf) and both.value == plain.value


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("sides", [*itertools.product((-1, 0, 1), repeat=2)])
def test_arithmetic_keeps_infinite_bounds_infinite_and_all_others_as_they_are(name, sides):
    """No sum of what has no end on opposite sides, and no multiple of it, is not a number."""
    of_ranges, _ = ARITHMETIC[name]
    known_ends = ranges(), ranges(shift=2)
    own = [without_an_end(one, side) if side else one for one, side in zip(known_ends, sides, strict=True)]
    found, plain = of_ranges(*own), of_ranges(*known_ends)
    signs = {"difference": (1, -1), "of both signs": (1, -1), "nothing": (0, 1), "minus": (-1, -1)}.get(name, (1, 1))
    reaching = {side * sign for side, sign in zip(sides, signs, strict=True)}
    low, high = plain.low.copy(), plain.high.copy()
    low[0], high[0] = -math.inf if -1 in reaching else low[0], math.inf if 1 in reaching else high[0]
    assert found.low.tolist() == low.tolist() and found.high.tolist() == high.tolist()
    assert found.value.tolist() == plain.value.tolist()


def test_nothing_of_what_has_no_end_is_nothing():
    unknown = Ranges(np.ones(SEEDS), np.full(SEEDS, -math.inf), np.full(SEEDS, math.inf))
    for factor in (0, 0.0, -0.0):
        found = unknown * factor
        assert found.low.tolist() == found.value.tolist() == found.high.tolist() == [0.0] * SEEDS
    assert equal(unknown * -1e-3, [-math.inf] * SEEDS, [math.inf] * SEEDS)


@pytest.mark.parametrize(("place", "side", "low", "high"), [(0, 1, True, False), (0, -1, False, True),
                                                            (3, 1, False, True), (3, -1, True, False)])  # fmt: skip
def test_a_best_rate_without_an_end_leaves_the_shift_open_on_the_side_of_its_weight(place, side, low, high):
    value = RNG.normal(size=(SEEDS, 4))
    ends_of = {-1: value - 0.5, 1: value + 0.5}
    closed = shifts(optima_between(ends_of[-1], value, ends_of[1]), 8)
    ends_of[side] = ends_of[side].copy()
    ends_of[side][1, place] = side * math.inf
    found = shifts(optima_between(ends_of[-1], value, ends_of[1]), 8)
    assert (found.low[1] == -math.inf, found.high[1] == math.inf) == (low, high)
    others = [0, 2, 3]
    assert equal(Ranges(*(x[others] for x in (found.value, found.low, found.high))), closed.low[others],
                 closed.high[others])  # fmt: skip
    bounds, plain = found.interval(), closed.interval()
    assert (bounds.low, bounds.high) == (-math.inf if low else plain.low, math.inf if high else plain.high)


@pytest.mark.parametrize("sizes", [(8, 16, 32), (3, 6, 12, 24, 48), (6, 12, 24, 48, 96, 192, 384)], ids=str)
def test_the_middle_of_an_odd_number_of_sizes_has_no_say_in_the_shift_whatever_its_bounds(sizes):
    """Its weight in the slope is 0, but for rounding."""
    value, middle = RNG.normal(size=(SEEDS, len(sizes))), len(sizes) // 2
    low, high = value - 0.5, value + 0.5
    plain = optima_between(low.copy(), value, high.copy())
    low[:, middle], high[:, middle] = -math.inf, math.inf
    failed = np.zeros((len(sizes), len(RATES)), dtype=bool)
    found = Optima(np.array(sizes), RATES, value, low < high, failed, low=low, high=high)
    assert equal(shifts(found, 8), shifts(plain, 8).low, shifts(plain, 8).high)


@pytest.mark.parametrize("side", [-1, 1])
def test_an_absolute_value_without_an_end_is_open_above_alone(side):
    value = np.full(SEEDS, 2.0 * side)
    own = without_an_end(Ranges(value, value - 1, value + 1), side)
    found = own.upwards().interval()
    assert (found.value, found.low, found.high) == (2.0, 1.0, math.inf)
    inwards = without_an_end(own, -side, seed=1).upwards().interval()
    assert (inwards.low, inwards.high) == (-math.inf, math.inf)


def test_the_largest_of_several_is_open_above_where_one_has_no_end_and_at_least_the_nearest_bound():
    noise = np.array([-0.01, 0.01, 0.0, 0.0])
    beyond = Ranges(noise - 2, np.full(SEEDS, -math.inf), noise - 1)
    near = Ranges(noise + 0.2, noise + 0.1, noise + 0.3)
    found = largest([beyond, near])
    assert found.value == pytest.approx(2) and found.high == math.inf
    assert found.low == pytest.approx(-beyond.interval(0.975).high) and found.low == pytest.approx(1, abs=0.05)
    nothing = Ranges(noise, np.full(SEEDS, -math.inf), np.full(SEEDS, math.inf))
    assert (largest([nothing]).low, largest([nothing]).high) == (0, math.inf)
    assert (largest([nothing, near]).low, largest([nothing, near]).high) == (pytest.approx(0.08, abs=0.03), math.inf)


def test_ordered_difference_is_open_on_the_side_of_the_weight_of_what_has_no_end():
    """The network in the middle of three has weight 0."""
    slopes, parts = np.array([[0.0, 0.5, 1.0]]), [ranges(1, shift) for shift in (2.0, 3.0, 4.0)]
    plain = ordered_difference(slopes, parts)
    for place, low, high in ((0, True, False), (1, False, False), (2, False, True)):
        own = [without_an_end(one, 1) if place == k else one for k, one in enumerate(parts)]
        found = ordered_difference(slopes, own)
        assert found.low[0] == (-math.inf if low else plain.low[0])
        assert found.high[0] == (math.inf if high else plain.high[0])


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
    assert is_known(found) and not found.usable
    assert equal(shifts(found, 8), [-1.8] * SEEDS, [1.8] * SEEDS)
    assert shifts(found, 8).value == pytest.approx([0.0] * SEEDS)


@pytest.mark.parametrize("end", [-1, 1])
def test_best_rates_at_an_end_of_the_grid_leave_the_shift_open_on_one_side(end):
    """The deepest networks would train best below 1/8, or above 8: the shift is at most, or at least, so large."""
    centres = np.array([0.0, 0.0, 0.0, end * 5.0])
    logs = 0.1 * (np.log2(RATES) - centres[:, None]) ** 2
    found = optima(Losses(SIZES, RATES, np.exp(np.broadcast_to(logs, (SEEDS, 4, len(RATES))))))
    assert is_known(found) and not found.usable
    bounds, nearest = shifts(found, 8).interval(), 0.9 * 2.5  # the middle between the end and its neighbour
    assert (bounds.low, bounds.high) == pytest.approx((-math.inf, -nearest) if end < 0 else (nearest, math.inf))
    assert bounds.value == pytest.approx(end * 0.9 * 3)


@pytest.mark.parametrize("lost", [0, 1, 20])
def test_best_rates_are_known_if_there_is_one_of_every_seed_and_size_whatever_bounds_it(lost):
    value, nothing = np.zeros((5, 4)), np.full((5, 4), math.inf)
    assert is_known(optima_between(-nothing, value, nothing))
    value.flat[3 * np.arange(lost) % 20] = math.nan
    assert is_known(optima_between(value, value, value)) is (lost == 0)


# --- what was planted is found ----------------------------------------------------------------------------------------

GRID = np.array([0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0])
PLANTED, SPREAD, REPETITIONS = -0.45, 0.3, 200


def planted_losses(rng: np.random.Generator, seeds: int = 8) -> tuple[Losses, float]:
    """Losses of four sizes, and the mean shift over a factor 8 of what best rates tend to with more seeds.

    The lowest points of three sizes are inside the grid. The deepest networks train the better the larger the rate,
    until they diverge: a little above 0.71 on average, so that more than a fifth of their seeds fail there.
    """
    steps, inside = np.log2(GRID), np.array([-0.6, -0.55, -0.5])
    logs = 0.2 * (steps - (inside + 0.02 * rng.normal(size=(seeds, 3)))[..., None]) ** 2
    thresholds = PLANTED + SPREAD * rng.normal(size=(seeds, 1, 1))
    deepest = np.where(steps < thresholds, -0.1 * (steps - steps[0]), math.inf)
    truth = 3 * np.polyfit(np.arange(4), [*inside, PLANTED], 1)[0]
    return Losses(SIZES, GRID, np.exp(np.concatenate([logs, deepest], 1))), truth


def test_intervals_hold_the_truth_where_networks_diverge_at_other_rates_in_every_seed():
    """A bound that all seeds share, at a rate that some of them train at, would have no spread and miss the truth."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(REPETITIONS):
        losses, truth = planted_losses(rng)
        found = shifts(optima(losses), 8).interval()
        held += found.low <= truth <= found.high
    assert held >= 0.95 * REPETITIONS


def test_intervals_of_planted_thresholds_are_a_step_of_the_grid_wide_and_no_wider():
    """They hold the truth not because they hold everything: 0.9 times 0.75, the bounds, and the spread over seeds."""
    rng = np.random.default_rng(2)
    found = [shifts(optima(planted_losses(rng)[0]), 8).interval() for _ in range(REPETITIONS)]
    assert 0.9 * 0.75 < np.median([own.high - own.low for own in found]) < 0.9 * 1.6


# --- the largest stable rate ------------------------------------------------------------------------------------------


def training(*rows: list[str]) -> Losses:
    """Seeds of sizes whose networks train (``+``) or fail (``-``) from the smallest rate on."""
    values = [[[1.0 if mark == "+" else math.inf for mark in size] for size in seed] for seed in rows]
    return Losses(SIZES[: len(rows[0])], RATES[: len(rows[0][0])], np.array(values))


def test_the_largest_stable_rate_lies_between_the_last_that_trains_and_the_first_that_fails():
    found = largest_stable(training(["+++-", "++--"], ["+---", "+++-"]))
    assert found.low.tolist() == found.log2_rates.tolist() == [[-1, -2], [-3, -1]]
    assert found.high.tolist() == [[0, -1], [-2, 0]] and not found.censored.any()
    assert "3: 0.25 to 0.5" in found.bounded_note()


def test_networks_that_train_beyond_the_first_failure_are_not_stable_there():
    found = largest_stable(training(["++-+", "+-++"]))
    assert found.low.tolist() == [[-2, -3]] and found.high.tolist() == [[-1, -2]]


def test_rates_that_are_too_small_to_learn_are_no_failures_of_stability():
    """Networks end at chance there, but do not diverge: the first rate that fails is one beyond those that train."""
    found = largest_stable(training(["-++-", "--+-", "-+-+", "--++"]))
    assert found.low.tolist() == found.log2_rates.tolist() == [[-1, -1, -2, 0]]
    assert found.high.tolist() == [[0, 0, -1, math.inf]]


def test_where_no_rate_fails_nothing_bounds_the_stable_rate_above():
    found = largest_stable(training(["++++", "+++-", "+---"], ["+++-", "+++-", "+---"]))
    assert found.censored.tolist() == [[True, False, False], [False, False, False]] and is_known(found)
    assert found.low.tolist() == [[0, -1, -3], [-1, -1, -3]]
    assert found.high.tolist() == [[math.inf, 0, -2], [0, 0, -2]]
    own = shifts(found, 8)  # it falls, in one seed by an unknown amount
    assert own.low.tolist() == pytest.approx([-math.inf, 1.5 * -3]) and own.high.tolist() == pytest.approx([-3.0, -1.5])
    assert own.interval().low == -math.inf < own.interval().high < math.inf
    assert found.bounded_note() == "3: 0.707 or more, 6: 0.5 to 1, 12: 0.125 to 0.25"


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([["++++", "----", "+++-"]], "6"),
        ([["----", "++--", "+---"], ["++--", "++--", "----"]], "3, 12"),
    ],
)
def test_networks_that_train_at_no_rate_have_no_largest_stable_one(rows, named):
    with pytest.raises(ValueError, match=f"networks of a seed fail at every learning rate, of size {named}$"):
        largest_stable(training(*rows))


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
