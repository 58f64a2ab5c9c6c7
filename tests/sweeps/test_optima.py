"""Best learning rates seed by seed, and how they shift with the size: what is planted is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurespeed.sweeps.losses import Losses
from featurespeed.sweeps.optima import optima, shift_interval, slope_weights, slopes, transfer_costs

SIZES = np.array([8, 16, 32, 64, 128])
RATES = 2.0 ** np.arange(-3, 4)


def losses(*centres: float, height: float = 0.1, gain: float = 0.0, rates: np.ndarray = RATES) -> Losses:
    """Parabolas of the log loss in log2(rate); ``centres [seeds]`` rows of one a size, all lower by ``gain`` a size."""
    logs = [
        [height * (np.log2(rates) - centre) ** 2 - gain * place for place, centre in enumerate(row)] for row in centres
    ]
    return Losses(SIZES[: len(centres[0])], rates, np.exp(np.array(logs)))


def test_a_slope_is_a_weighted_sum_of_the_values():
    x, y = np.array([0.0, 1.0, 3.0, 4.0]), np.random.default_rng(0).normal(size=(5, 4))
    assert y @ slope_weights(x) == pytest.approx([np.polyfit(x, row, 1)[0] for row in y])
    assert y @ slope_weights(x) == pytest.approx(slopes(x, y))


def test_best_rate_is_the_lowest_point_of_the_parabola_of_every_seed():
    found = optima(losses((0.3, 0.8, 1.2), (-0.2, 0.3, 0.8)))
    assert found.log2_rates == pytest.approx(np.array([[0.3, 0.8, 1.2], [-0.2, 0.3, 0.8]]))
    assert found.usable and not found.censored.any()
    assert found.shifts(16) == pytest.approx([0.45 * 4, 0.5 * 4])
    assert shift_interval(found, 16).value == pytest.approx(1.9)


def test_optima_at_an_edge_are_censored_and_named():
    found = optima(losses((0.0, 1.0, 5.0)))
    assert found.censored.tolist() == [[False, False, True]] and not found.usable
    assert found.note().endswith("33% at an end of what did not fail of the grid 0.125 to 8, of 32")


def test_optima_next_to_a_rate_that_failed_are_censored():
    """Where it is dropped the grid ends; where one seed failed, that seed knows nothing beyond."""
    whole = losses(*[(0.0, 0.0, 0.0)] * 5)
    dropped, one = whole.values.copy(), whole.values.copy()
    dropped[:2, 1, 4] = one[0, 1, 4] = math.inf
    found = optima(Losses(whole.sizes, RATES, dropped))
    assert found.censored.tolist() == [[False, True, False]] * 5 and not found.usable
    assert found.log2_rates[:, 1] == pytest.approx([0.0] * 5)
    found = optima(Losses(whole.sizes, RATES, one))
    assert found.censored[0].tolist() == [False, True, False] and not found.censored[1:].any() and found.usable


def test_a_rate_that_fails_in_more_than_a_fifth_of_the_seeds_is_left_out_for_all_of_them():
    whole = losses(*[(0.0, 0.0, 0.0)] * 5)
    one, two = whole.values.copy(), whole.values.copy()
    one[0, 1, 3] = two[:2, 1, 3] = math.inf
    kept, dropped = (optima(Losses(whole.sizes, RATES, values)) for values in (one, two))
    assert kept.log2_rates[1:, 1] == pytest.approx([0.0] * 4) and kept.log2_rates[0, 1] != 0
    assert dropped.failed[1].tolist() == [False, False, False, True, False, False, False]
    assert (dropped.log2_rates[:, 1] != 0).all() and dropped.log2_rates[:, 0] == pytest.approx([0.0] * 5)


def test_optima_with_two_neighbours_are_known():
    found = optima(losses((0.3, 0.8, 1.2)))
    assert (found.low == found.log2_rates).all() and (found.high == found.log2_rates).all()
    assert found.bounded_note() == "8: 1.23, 16: 1.74, 32: 2.3"


@pytest.mark.parametrize(
    ("lost", "low", "high"),
    [((1.0,), -0.5, 1.0), ((-1.0,), -1.0, 0.5), ((-1.0, 1.0), -1.0, 1.0), ((1.0, 2.0, 3.0), -0.5, 1.0)],
    ids=["above", "below", "both", "all above"],
)
def test_optima_next_to_a_rate_that_failed_have_bounds(lost, low, high):
    """They lie between that rate and the middle to the other neighbour, which trained and is worse."""
    whole = losses((0.0, 0.0, 0.0))
    values = whole.values.copy()
    values[:, 1, np.isin(np.log2(RATES), lost)] = math.inf
    found = optima(Losses(whole.sizes, RATES, values))
    assert (found.low[0, 1], found.high[0, 1]) == (low, high)
    assert (found.low == found.high).tolist() == [[True, False, True]]
    assert found.log2_rates[0, 1] == 0 and found.bounded_note().startswith(f"8: 1, 16: {2**low:.3g} to {2**high:.3g}, ")


def test_bounds_hold_the_lowest_point_of_what_is_symmetric_or_steeper_towards_the_failure():
    """Whatever the grid would have shown at the rate that failed."""
    for centre in np.linspace(-0.45, 0.95, 15):
        for factor in (1.0, 4.0):
            away = np.log2(RATES) - centre
            logs = 0.1 * away**2 * np.where(away > 0, factor, 1.0)
            logs[RATES > 1] = math.inf
            found = optima(Losses(SIZES[:1], RATES, np.exp(logs)[None, None]))
            if found.log2_rates[0, 0] == 0:  # else the least loss is at a smaller rate
                assert found.low[0, 0] <= centre <= found.high[0, 0]
            else:
                assert centre < 0 and factor > 1


def test_one_seed_that_failed_has_bounds_alone():
    values = losses(*[(0.0, 0.0, 0.0)] * 5).values.copy()
    values[0, 1, 4] = math.inf
    found = optima(Losses(SIZES[:3], RATES, values))
    assert (found.low < found.high).tolist() == [[False, True, False], *[[False] * 3] * 4]
    assert (found.low[0, 1], found.high[0, 1]) == (-0.5, 1.0)


def test_a_rate_that_is_left_out_bounds_only_the_seeds_that_failed_at_it():
    """All others trained there, too, and have a middle to the next rate."""
    values = losses(*[(0.0, 0.0, 0.0)] * 5).values.copy()
    values[:2, 1, 4] = math.inf
    found = optima(Losses(SIZES[:3], RATES, values))
    assert found.failed[1].tolist() == [False] * 4 + [True] + [False] * 2
    assert (found.low < found.high)[:, 1].all() and (found.low == found.high)[:, [0, 2]].all()
    assert found.low[:, 1].tolist() == [-0.5] * 5 and found.high[:, 1].tolist() == [1.0] * 2 + [0.5] * 3


@pytest.mark.parametrize(
    ("centre", "high"), [(1.0, 1.5), (2.0, 2.5), (2.4, 2.5), (3.0, math.inf), (5.0, math.inf)], ids=str
)
def test_a_seed_whose_own_losses_go_on_falling_at_rates_that_are_left_out_is_bounded_there(centre, high):
    """Two of five seeds fail beyond 1; the others train there, and their lowest point is further up."""
    values = losses(*[(0.0, centre, 0.0)] * 5).values.copy()
    values[:2, 1, 4:] = math.inf
    found = optima(Losses(SIZES[:3], RATES, values))
    assert found.log2_rates[:, 1].tolist() == [0.0] * 5 and found.censored[:, 1].all()
    assert found.low[:, 1].tolist() == [-0.5] * 5 and found.high[:, 1].tolist() == [1.0] * 2 + [high] * 3


def test_a_seed_whose_own_losses_are_lowest_below_a_rate_that_is_left_out_is_bounded_below():
    values = losses(*[(0.0, -2.0, 0.0)] * 5).values.copy()
    values[:2, 1, :3] = math.inf
    found = optima(Losses(SIZES[:3], RATES, values))
    assert found.low[:, 1].tolist() == [-1.0] * 2 + [-2.5] * 3 and found.high[:, 1].tolist() == [0.5] * 5


def test_the_first_failure_beyond_the_lowest_point_of_a_seed_bounds_it():
    """Seeds fail at other rates each: 2 is left out, and each is bounded by the one at which it fails itself."""
    values = losses(*[(0.0, 5.0, 0.0)] * 5).values.copy()
    for seed, first in enumerate((4, 4, 5, 6)):
        values[seed, 1, first:] = math.inf
    found = optima(Losses(SIZES[:3], RATES, values))
    assert found.log2_rates[:, 1].tolist() == [0.0] * 5
    assert found.high[:, 1].tolist() == [1.0, 1.0, 2.0, 3.0, math.inf] and found.low[:, 1].tolist() == [-0.5] * 5


@pytest.mark.parametrize(
    ("centre", "low", "high", "note"),
    [(-5.0, -math.inf, -2.5, "32: up to 0.177"), (5.0, 2.5, math.inf, "32: 5.66 or more")],
    ids=["below", "above"],
)
def test_beyond_an_end_of_the_grid_nothing_bounds_a_best_rate(centre, low, high, note):
    """On its other side its neighbour does, which trained and is worse."""
    found = optima(losses((0.0, 1.0, centre), (0.0, 1.0, centre)))
    assert found.low[:, 2].tolist() == [low] * 2 and found.high[:, 2].tolist() == [high] * 2
    assert found.log2_rates[0, 2] == np.sign(centre) * 3 and found.censored[0].tolist() == [False, False, True]
    assert found.bounded_note() == f"8: 1, 16: 2, {note}"


def test_one_seed_at_an_end_of_the_grid_leaves_the_geometric_mean_without_a_bound():
    found = optima(losses((0.0, 1.0, 0.0), (0.0, 1.0, 5.0)))
    assert found.high[:, 2].tolist() == pytest.approx([0.0, math.inf])
    assert found.bounded_note().endswith(", 32: 2.38 or more")  # the middle of 0 and 2.5
    both = optima(losses((0.0, 1.0, -5.0), (0.0, 1.0, 5.0)))
    assert both.bounded_note().endswith(", 32: not bounded")


@pytest.mark.parametrize(("end", "low", "high"), [(0, -math.inf, -2.0), (-1, 2.0, math.inf)])
def test_an_end_of_the_grid_next_to_a_failure_is_bounded_by_this_alone(end, low, high):
    """The last rate trains, the next one fails: nothing bounds the best rate on the other side."""
    values = losses((0.0, 0.0, 0.0)).values.copy()
    values[:, 2, np.arange(len(RATES)) != range(len(RATES))[end]] = math.inf
    found = optima(Losses(SIZES[:3], RATES, values))
    assert (found.low[0, 2], found.high[0, 2]) == (low, high)


def test_a_grid_of_one_rate_that_trains_bounds_nothing():
    found = optima(Losses(SIZES[:2], np.array([1.0]), np.ones((3, 2, 1))))
    assert (found.low == -math.inf).all() and (found.high == math.inf).all() and not found.usable
    assert found.bounded_note() == "8: not bounded, 16: not bounded"


def test_a_size_without_a_rate_is_named():
    values = losses((0.0, 0.0, 0.0)).values
    values[:, 1] = math.inf
    found = optima(Losses(SIZES[:3], RATES, values))
    assert not found.usable and all("no rate is left at 16" in note for note in (found.note(), found.bounded_note()))


def test_cost_of_a_transferred_rate_is_measured_by_what_size_brings():
    same = losses((0.0, 0.0, 0.0), gain=0.2)
    assert transfer_costs(same, optima(same)) == pytest.approx([0.0])
    moved = losses((0.0, 1.0, 2.0), gain=0.2)
    # 0.1 * 2^2 over 2 * 0.2
    assert transfer_costs(moved, optima(moved)) == pytest.approx([1.0])
    worse = losses((0.0, 1.0, 2.0), gain=-0.2)
    with pytest.raises(ValueError, match="size 32 is not better than 8"):
        transfer_costs(worse, optima(worse))


def test_a_transferred_rate_at_which_the_largest_network_fails_costs_without_bound():
    falling = losses((2.0, 1.0, 0.0), gain=0.2)
    values = falling.values.copy()
    values[:, 2, RATES > 2] = math.inf
    failed = Losses(falling.sizes, RATES, values)
    assert transfer_costs(failed, optima(failed)) == math.inf


@pytest.mark.parametrize("noise", [0.0, 1e-16])
def test_a_plateau_has_its_lowest_point_on_the_grid(noise):
    """There the parabola is a line up to rounding, and its vertex anywhere."""
    rates = 0.025 * 2.0 ** np.arange(3)
    rng = np.random.default_rng(0)
    values = 1.51 * np.exp(noise * rng.normal(size=(200, 1, 3)))
    found = optima(Losses(np.array([8]), rates, values))
    assert np.isin(np.round(found.log2_rates, 9), np.round(np.log2(rates), 9)).all()


def test_a_lowest_point_lies_between_its_neighbours_on_uneven_grids():
    rates = np.array([0.1, 0.11, 0.8])
    found = optima(Losses(np.array([8]), rates, np.exp([[[0.5, 0.499999, 0.6]]])))
    assert np.log2(0.1) <= found.log2_rates[0, 0] <= np.log2(0.8)
