"""The fall of a curve late in training: planted peaks, onsets and falls are found, what cannot be told is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurespeed.sweeps.convergence import Curves
from featurespeed.sweeps.late import FALLEN, Fall, delays, fall, shallower, smoothed

STEPS = np.arange(0, 101, 5)
SIZES = np.array([8, 16, 32])


def curves(*rows: np.ndarray, steps: np.ndarray = STEPS, last: int = 100) -> Curves:
    """One seed; a row a size."""
    return Curves(SIZES[: len(rows)], steps, np.array(rows, dtype=float)[None], last, 1.0)


def tent(peak: int, end: float) -> np.ndarray:
    """Rises to 2, stays there for three probe steps around ``peak``, then falls linearly to ``end``."""
    return np.interp(STEPS, [0, peak - 5, peak + 5, 100], [0.5, 2.0, 2.0, end])


def known(*onsets: float, last: int = 100) -> Fall:
    """Falls of one size a column, ``[seeds]`` rows of onsets; infinite for those that never do."""
    steps = np.array(onsets, dtype=float)
    fallen = np.isfinite(steps)
    ends = np.where(fallen, 0.5, 0.9)
    return Fall(SIZES[: steps.shape[1]], np.ones_like(steps), np.where(fallen, steps, 50.0), ends, last)


def test_a_curve_falls_from_its_peak_to_the_mean_over_its_last_tenth():
    found = fall(curves(tent(30, 0.5), tent(60, 0.5), tent(60, 1.9)))
    assert found.steps.tolist() == [[30, 60, 60]]
    assert found.peaks[0] == pytest.approx([2, 2, 2])
    assert found.ends[0] == pytest.approx([0.5 + 1.5 / 13, 0.5 + 1.5 / 7, 1.9 + 0.1 / 7])
    assert found.logs == pytest.approx(np.log(found.ends / found.peaks))
    assert found.onsets.tolist() == [[30, 60, math.inf]] and found.counted.tolist() == [[30, 60, 100]]
    assert found.falling.tolist() == [1, 1, 0] and found.last == 100


def test_the_initial_network_is_left_out():
    values = tent(30, 0.5)
    values[0] = 50.0
    assert fall(curves(values)).steps.tolist() == [[30]] and fall(curves(values)).peaks[0, 0] == pytest.approx(2)


def test_one_large_value_is_averaged_with_its_neighbours():
    values = np.ones(len(STEPS))
    values[5], values[12:15] = 1.5, 1.4
    assert fall(curves(values)).steps.tolist() == [[STEPS[13]]]
    assert smoothed(values)[[4, 5, 6]] == pytest.approx([3.5 / 3] * 3)


@pytest.mark.parametrize(("end", "falls"), [(FALLEN - 1e-9, True), (FALLEN + 1e-9, False)])
def test_eight_tenths_of_the_peak_are_a_fall(end, falls):
    values = np.where(STEPS < 50, 1.0, end)
    assert np.isfinite(fall(curves(values)).onsets).all() == falls


def test_without_a_probe_in_the_last_tenth_the_last_one_is_the_end():
    steps = np.array([0, 10, 20, 40])
    found = fall(curves(np.array([1.0, 3.0, 3.0, 0.6]), steps=steps, last=100))
    assert found.ends[0, 0] == 0.6 and found.last == 40


@pytest.mark.parametrize("bad", [math.nan, 0.0, -0.1])
def test_what_has_no_logarithm_is_refused(bad):
    values = tent(30, 0.5)
    values[10] = bad
    with pytest.raises(ValueError, match="must be positive for a logarithm"):
        fall(curves(values))
    with pytest.raises(ValueError, match="nothing was measured after step 0"):
        fall(curves(np.ones(1), steps=np.array([0])))


def test_onsets_have_an_exponent_and_those_that_never_fall_count_with_the_last_step():
    assert known([80, 40, 20], [40, 20, 10]).exponents() == pytest.approx([-1, -1])
    some = known([80, 40, 20], [40, 20, math.inf])
    assert some.exponents() == pytest.approx([-1, np.log(100 / 40) / np.log(4)])
    with pytest.raises(ValueError, match="33% of the networks do not fall in 100 steps"):
        known([80, 40, math.inf], [40, 20, math.inf]).exponents()
    with pytest.raises(ValueError, match="2 sizes"):
        known([80, 40], [40, 20]).exponents()


def test_medians_over_seeds_are_infinite_where_half_of_them_never_fall():
    assert known([10, 10], [20, math.inf], [40, 30]).medians().tolist() == [20, 30]
    assert known([10, math.inf], [20, 30]).medians().tolist() == [15, math.inf]


def test_networks_are_compared_seed_by_seed():
    later, earlier = known([80, 40, math.inf], [40, 20, 10]), known([40, 20, 50], [40, 20, 5])
    assert delays(later, earlier) == pytest.approx([np.log(2), np.log(2) / 3])
    assert shallower(later, earlier) == pytest.approx([np.log(0.9 / 0.5) / 3, 0])


def test_halves_of_the_seeds_are_compared_pair_by_pair():
    found = known([80, 40, 10], [20, 20, 20], [40, 40, 10], [20, 40, 40], [1, 1, 1])
    assert found.between_halves() == pytest.approx([-np.log(2) / 3, 2 * np.log(2) / 3])
    assert not known([80, 40, 10]).between_halves().size
