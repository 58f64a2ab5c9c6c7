"""Differences over widths and distances to the widest network: what is planted is found, seed by seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurespeed.sweeps.convergence import (
    Curves,
    Distances,
    common_rate,
    curves,
    distances,
    edge_ratio,
    rise,
    rise_ratio,
    size_exponent,
)
from featurespeed.sweeps.losses import ALL
from featurespeed.sweeps.transfer import of_network
from tests.sweeps.cases import sweep_table
from tests.sweeps.spectra_cases import BELOW, RATE, spectra

SIZES = np.array([8, 16, 32, 64, 128])
STEPS = np.arange(0, 101, 10)


def planted(value, sizes: np.ndarray = SIZES, seeds: int = 3, rate: float = 1.0) -> Curves:
    """Curves of ``value(width, step, seed)``."""
    values = [[[value(n, t, s) for t in STEPS] for n in sizes] for s in range(seeds)]
    return Curves(sizes, STEPS, np.array(values, dtype=float), int(STEPS[-1]), rate)


@pytest.mark.parametrize("b", [-0.5, 0.0, 0.7, 2.0])
def test_fit_finds_the_exponent_in_time_at_every_width(b):
    found = distances(planted(lambda n, t, s: 1 + max(t, 1) ** b / n))
    assert found.laws()[:, 1] == pytest.approx([b] * 4, abs=1e-9)
    assert found.exponent() == pytest.approx(b, abs=1e-9)
    assert found.laws()[0, 0] == pytest.approx(1 / 8 - 1 / 128)


def test_first_tenth_of_the_steps_is_left_out_of_the_fit():
    found = distances(planted(lambda n, t, s: (100.0 if t <= 10 else t) / n))
    assert found.steps[found.fitted].min() == 20
    assert found.exponent() == pytest.approx(1.0)


def test_steps_in_the_noise_are_left_out_of_the_fit():
    found = distances(planted(lambda n, t, s: (s - 1.0) * (n < 128) if t <= 40 else t / n))
    assert found.steps[found.used[0]].tolist() == [50, 60, 70, 80, 90, 100]
    assert found.exponent() == pytest.approx(1.0)


def test_differences_are_taken_between_networks_of_the_same_seed():
    found = distances(planted(lambda n, t, s: 10.0 * s + 1 / n))
    assert found.values()[0] == pytest.approx(np.full(len(STEPS), 1 / 8 - 1 / 128))
    assert found.floor() == pytest.approx(np.zeros((4, len(STEPS))), abs=1e-12)
    assert (found.proxy, found.sizes.tolist()) == (128, [8, 16, 32, 64])


def test_seed_noise_is_subtracted_without_bias():
    """Mean over many draws of the square, for a true distance of 0.3 under noise of 1."""
    noise = np.random.default_rng(0).normal(size=(4000, 5, 2, 1))
    truth = np.array([0.3, 0.0])[None, :, None]
    squares = [Distances(np.array([8, 16]), 32, np.array([1]), truth + draw, 1).squared() for draw in noise]
    assert np.mean(squares, axis=0)[:, 0] == pytest.approx([0.09, 0.0], abs=0.015)


def test_what_lies_below_the_noise_floor_has_no_exponent():
    generator = np.random.default_rng(1)
    noisy = planted(lambda n, t, s: 1 + (t / 100 if n == 8 else 0.0) + 0.1 * generator.normal(), seeds=5)
    found = distances(noisy)
    assert found.told[0] and np.isfinite(found.laws()[0, 1])
    assert np.isnan(found.laws()[~found.told, 1]).all()
    silent = distances(planted(lambda n, t, s: 1 + 0.1 * generator.normal(), seeds=5))
    assert silent.told.mean() < 0.5 and np.isnan(silent.exponent())


def test_points_of_a_fit_are_the_same_for_all_seeds_and_without_one_of_them():
    generator = np.random.default_rng(2)
    found = distances(planted(lambda n, t, s: 1 + t / n + 0.2 * generator.normal(), seeds=6))
    without = np.array([found.exponent(np.delete(np.arange(6), i)) for i in range(6)])
    assert np.isfinite(without).all() and abs(without - found.exponent()).max() < 1


def test_rate_in_the_width_is_that_of_the_widths_far_below_the_proxy():
    sizes = np.array([8, 16, 32, 64, 1024, 4096])
    found = distances(planted(lambda n, t, s: 0.0 if n == 4096 else n**-0.5, sizes))
    assert found.far().tolist() == [True] * 5
    assert found.rate() == pytest.approx(-0.5)
    near = distances(planted(lambda n, t, s: n**-0.5, SIZES))
    assert near.sizes[near.far()].tolist() == [8, 16, 32]


def test_exponent_of_the_quantity_itself_is_not_that_of_its_distance():
    found = planted(lambda n, t, s: 5 + n**-0.5)
    assert -0.05 < size_exponent(found, SIZES[:3])(ALL) < 0
    assert distances(found).rate() < -0.5


def test_too_few_points_or_a_distance_of_zero_give_no_exponent():
    assert np.isnan(distances(planted(lambda n, t, s: 1.0)).exponent())
    assert np.isnan(distances(planted(lambda n, t, s: 1 / n, SIZES[:3])).rate())


def test_parts_of_training_are_averaged_over_matched_steps():
    found = planted(lambda n, t, s: float(t))
    assert found.over(0.0, 0.2)[0, 0] == 10 and found.over(0.0, 0.2, initial=False)[0, 0] == 15
    assert np.isnan(found.over(0.01, 0.05)).all()
    early = found.until(40)
    assert (early.last, early.steps.max()) == (40, 40) and early.late()[0, 0] == 30


def test_late_means_are_those_of_the_second_half():
    found = planted(lambda n, t, s: (2.0 if t >= 50 else 7.0) * (3.0 if n == 128 else 1.0), rate=0.5)
    assert rise(found)(ALL) == pytest.approx(2 / 7)
    assert edge_ratio(found)(ALL) == pytest.approx(2 * 0.25 * (4 + 3) / 5)
    assert found.late() == pytest.approx(np.array([[2.0, 2.0, 2.0, 2.0, 6.0]] * found.seeds))


def test_what_was_zero_at_first_has_no_growth():
    dark = planted(lambda n, t, s: 0.0)
    bright = planted(lambda n, t, s: 1.0)
    assert np.isnan(rise(dark)(ALL)) and np.isnan(rise_ratio(bright, dark)(ALL))
    assert rise_ratio(bright, bright)(ALL) == 1


def test_rises_are_compared_between_the_widest_and_the_narrowest():
    even = planted(lambda n, t, s: 4.0 if t >= 50 else 1.0)
    uneven = planted(lambda n, t, s: (6.0 if n == 128 else 2.0) if t >= 50 else 1.0)
    assert rise_ratio(uneven, even)(ALL) == pytest.approx(3.0)
    assert rise_ratio(even, uneven)(ALL) == pytest.approx(1 / 3)


def test_curves_of_a_table_keep_seeds_widths_and_steps_apart():
    found = curves(of_network(spectra(), "tau = 0"), "sharpness", RATE, 10)
    assert found.values.shape == (3, 5, 12) and found.last == 100 and found.missing() is None
    assert found.values[2, 0, 0] == pytest.approx(BELOW * 2 / RATE / 10 * (1 + 0.02 / math.sqrt(8)) * 1.02)


def test_a_network_that_stops_is_missing_from_then_on():
    def loss(label, width, rate, step, seed):
        return math.nan if (width, seed) == (16, 1) and step >= 40 else 0.5

    rows = of_network(spectra(loss=loss), "tau = 0")
    assert curves(rows, "sharpness", RATE).missing() == (16, 40)
    assert common_rate(rows, "sharpness") is None


def test_common_rate_is_the_best_of_those_that_were_measured():
    def loss(label, width, rate, step, seed):
        return abs(math.log2(rate)) + 0.1  # least at 1, where nothing was measured

    table = sweep_table(loss, {"sharpness": lambda *place: [1.0]}, ("muP",), measured={"muP": (0.5, 4.0)})
    assert common_rate(of_network(table, "muP"), "sharpness") == 0.5
    assert common_rate(of_network(table, "muP"), "ntk_eigenvalue") is None
