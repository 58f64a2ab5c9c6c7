"""Exponents in the size and matched learning rates, seed by seed: what is planted is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurespeed.sweeps.convergence import Curves
from featurespeed.sweeps.dependence import (
    arrival_exponents,
    departures,
    early_exponents,
    edge_level,
    exponents,
    exponents_at_the_ends,
    exponents_of_tenths,
    growth,
    late_exponents,
    matched,
    ordered_difference,
    start_levels,
    steeper,
)
from featurespeed.sweeps.transfer import Arrival

SIZES = np.array([8, 16, 32, 64, 128])
RATES = 2.0 ** np.arange(-3, 4)


def level(rate: float, values: list[float]) -> Curves:
    """Constant curves of one seed, ``values`` times 2/eta_0 by size."""
    steps = np.array([0, 50, 100])
    own = np.repeat(np.array(values)[None, :, None] * 2 / rate, 3, axis=2)
    return Curves(SIZES[: len(values)], steps, own, 100, rate)


# --- exponents --------------------------------------------------------------------------------------------------------


def test_every_seed_has_its_own_exponent():
    values = np.stack([3.0 * SIZES**power for power in (-0.5, 0.0, 1.2)])
    assert exponents(SIZES, values) == pytest.approx([-0.5, 0.0, 1.2])


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_what_has_no_logarithm_has_no_exponent(bad):
    values = np.ones((2, 5))
    values[1, 2] = bad
    with pytest.raises(ValueError, match="must be positive and finite for an exponent"):
        exponents(SIZES, values)
    with pytest.raises(ValueError, match="2 sizes: at least 3"):
        exponents(SIZES[:2], values[:, :2])


def test_exponents_are_those_of_means_over_their_part_of_training():
    steps = np.arange(0, 101, 5)
    powers = np.where(steps == 0, 3.0, np.where(steps <= 25, 1.0, np.where(steps < 50, -2.0, 0.5)))
    powers[-1] = -1.0
    factors = np.array([1.0, 7.0])  # of two seeds: an exponent does not depend on them
    found = Curves(SIZES, steps, factors[:, None, None] * SIZES[None, :, None] ** powers, 100, 0.8)
    assert early_exponents(found) == pytest.approx([1.0, 1.0])
    assert [ends.tolist() for ends in exponents_at_the_ends(found)] == [pytest.approx([p, p]) for p in (3.0, -1.0)]
    first, last = exponents_of_tenths(found)
    assert first == pytest.approx(exponents(SIZES, SIZES[None] ** 3.0 + 2 * SIZES[None] ** 1.0).repeat(2))
    assert last == pytest.approx(exponents(SIZES, SIZES[None] ** -1.0 + 2 * SIZES[None] ** 0.5).repeat(2))
    assert late_exponents(found) == pytest.approx(exponents(SIZES, found.values[..., 10:].mean(-1)))


def test_steepness_ignores_signs_of_means_but_not_of_single_seeds():
    assert steeper(np.array([-0.5, -0.3]), np.array([0.4, -0.2])) == pytest.approx([0.1, 0.5])
    noise = np.random.default_rng(0).normal(size=2000)
    assert abs(steeper(noise, np.zeros(2000)).mean()) < 0.1  # absolute values would give 0.8


def test_departures_are_from_the_geometric_mean_of_all_sizes():
    found = departures(np.array([[1.0, 2.0, 4.0]]))
    assert found == pytest.approx(np.log([[0.5, 1.0, 2.0]]))
    assert growth(np.array([[2.0, 8.0]]), np.array([[1.0, 1.0]])) == pytest.approx([4.0])
    for function in (lambda x: departures(x), lambda x: growth(x, x)):
        with pytest.raises(ValueError, match="positive"):
            function(np.array([[1.0, -1.0]]))


def test_ordered_difference_is_positive_where_both_quantities_agree_on_the_order():
    slopes = np.array([[0.0, -0.5, 0.1, 1.0]] * 2)
    shifts = np.array([[0.0, 0.5, 0.1, -1.0]] * 2)
    # pairs: 0.5, 0.1, 1.0, 0.4, 0.5, 0.9
    assert ordered_difference(slopes, shifts) == pytest.approx([3.4 / 6] * 2)
    assert (ordered_difference(slopes, np.roll(shifts, -1, axis=1)) < 0).all()


# --- matched rates ----------------------------------------------------------------------------------------------------


def test_the_matched_rate_is_the_nearest_one_below_the_edge_at_the_smallest_size():
    candidates = [level(0.5, [0.2, 0.1, 0.1]), level(1.0, [0.7, 0.2, 0.1]), level(2.0, [1.1, 1.0, 1.0])]
    assert edge_level(candidates[1]) == pytest.approx(0.7)
    assert start_levels(candidates[1]) == pytest.approx([0.7, 0.2, 0.1])
    assert matched(candidates, 0.98).rate == 1.0  # not 2.0, which is beyond the edge
    assert matched(candidates, 0.25).rate == 0.5


@pytest.mark.parametrize("wanted", [1.0, 1.3, 0.0])
def test_nothing_is_matched_to_a_network_that_is_not_below_the_edge(wanted):
    with pytest.raises(ValueError, match=f"nothing can be matched below the edge to a network at {wanted:g} of 2/eta_"):
        matched([level(1.0, [0.9, 0.9, 0.9])], wanted)


def test_a_level_further_than_a_factor_of_one_and_a_half_is_no_match_and_all_are_named():
    candidates = [level(0.5, [0.2, 0.1, 0.1]), level(2.0, [1.1, 1.0, 1.0])]
    assert matched(candidates, 0.29).rate == 0.5
    with pytest.raises(ValueError, match="within a factor 1.5 of 0.31 .* 0.5: from 0.2 to 0.2, 2: from 1.1 to 1.1"):
        matched(candidates, 0.31)
    with pytest.raises(ValueError, match="there are none"):
        matched([], 0.5)


def test_a_network_that_came_down_from_above_the_edge_is_no_match():
    caught = level(1.0, [0.8, 0.8, 0.8])
    caught.values[..., 0] = 2.4 * caught.rate  # 1.2 of 2/eta_0 at the first step only
    with pytest.raises(ValueError, match="1: from 1.2 to 0.8"):
        matched([caught], 0.8)


def test_a_network_whose_start_was_not_measured_is_no_match():
    late = level(1.0, [0.8, 0.8, 0.8])
    late.steps[0] = 10
    with pytest.raises(ValueError, match="1: from nan to 0.8"):
        matched([late], 0.8)


def test_steps_to_the_edge_have_an_exponent_and_those_that_never_arrive_count_with_the_last_step():
    steps = np.stack([10.0 * (SIZES / 8) ** 0.5, 20.0 * (SIZES / 8) ** 0.5])
    assert arrival_exponents(Arrival(SIZES, steps, 100)) == pytest.approx([0.5, 0.5])
    steps[0, -1] = math.inf
    assert 0.5 < arrival_exponents(Arrival(SIZES, steps, 100))[0] < 1.0
    steps[:, -2:] = math.inf
    with pytest.raises(ValueError, match="40% of the networks do not rise to the edge in 100 steps"):
        arrival_exponents(Arrival(SIZES, steps, 100))
    with pytest.raises(ValueError, match="N = 8 is above the edge from the beginning on"):
        arrival_exponents(Arrival(SIZES, np.array([[0.0, 1, 2, 3, 4]]), 100))
