"""Best learning rates, their shifts, and averages along training, on small tables made by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.sweeps import transfer
from featurespeed.sweeps.losses import Losses
from tests.sweeps.cases import RATES, WIDTHS, flat, sweep_table

INF = math.inf


def grid(*best: int, seeds: int = 3) -> Losses:
    """Losses whose least one is at the given place of the grid, one a size."""
    values = np.array([[1.0 + abs(k - place) for k in range(len(RATES))] for place in best])
    return Losses(np.array(WIDTHS[: len(best)]), np.array(RATES), np.stack([values] * seeds))


def losses_of(loss, label: str = "muP", **options) -> Losses:
    return transfer.late_losses(transfer.of_network(sweep_table(loss, labels=(label,), **options), label))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_late_loss_is_the_mean_over_the_last_tenth_of_the_steps():
    found = losses_of(lambda *place: float(place[3] > 90) + place[4], widths=(8, 16), rates=(1.0, 2.0, 4.0), seeds=2)
    assert found.values.shape == (2, 2, 3)
    assert (found.values[0] == 1.0).all() and (found.values[1] == 2.0).all()
    assert found.sizes.tolist() == [8, 16] and found.rates.tolist() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("value", [INF, math.nan])
def test_a_network_that_stopped_has_failed_whatever_its_loss_was(value):
    """It diverges or dies at the last record, after the lowest losses of all."""

    def loss(label, width, rate, step, seed):
        return value if (rate, seed, step) == (2.0, 1, 100) else 1 / (1 + rate)

    found = losses_of(loss, widths=(8, 16), record_every=5)
    place = RATES.index(2.0)
    assert np.isinf(found.values[1, :, place]).all() and np.isfinite(found.values[0]).all()
    assert not found.survive()[place] and found.survive([0, 2])[place]


def test_one_seed_that_fails_is_a_failure_of_its_learning_rate():
    values = grid(2, 2).values.copy()
    values[1, 0, 2] = INF
    found = Losses(np.array([8, 16]), np.array(RATES), values)
    assert found.best().tolist() == [1, 2]
    assert found.best([0, 2]).tolist() == [2, 2]


def test_a_loss_at_chance_is_a_failure():
    chance = math.log(10)
    found = losses_of(lambda label, width, rate, step, seed: chance if rate > 1 else 2.2, widths=(8, 16))
    assert np.isinf(found.values[..., np.array(RATES) > 1]).all()
    assert np.isfinite(found.values[..., np.array(RATES) <= 1]).all()


@pytest.mark.parametrize(("share", "failed"), [(0.9985, True), (0.996, True), (0.994, False)])
def test_a_deep_network_that_learns_nothing_ends_a_little_below_chance(share, failed):
    found = losses_of(lambda *place: share * math.log(10), widths=(8, 16))
    assert (np.isinf(found.values) == failed).all()


def test_a_loss_above_chance_is_no_failure_if_the_network_knows_a_lot():
    table = sweep_table(lambda label, width, rate, step, seed: 2.5, labels=("muP",), widths=(8, 16))
    ends = table[table["quantity"] == "training_loss"].drop_duplicates(["width", "learning_rate", "seed"], keep="last")
    scores = ends.assign(quantity="test_accuracy", value=[0.3 if rate > 1 else 0.1 for rate in ends["learning_rate"]])
    found = transfer.late_losses(transfer.of_network(pd.concat([table, scores], ignore_index=True), "muP"))
    assert np.isfinite(found.values[..., np.array(RATES) > 1]).all()
    assert np.isinf(found.values[..., np.array(RATES) <= 1]).all()


def test_size_may_be_the_depth():
    table = sweep_table(lambda label, depth, rate, *rest: float(depth), labels=("muP",), widths=(16,), depths=(1, 2))
    found = transfer.late_losses(transfer.of_network(table, "muP", "depth"), "depth")
    assert found.sizes.tolist() == [1, 2] and found.values[0, :, 0].tolist() == [1.0, 2.0]
    one = transfer.of_network(table, "muP", depth=2)
    assert one["depth"].unique().tolist() == [2]


# --- best learning rates ----------------------------------------------------------------------------------------------


def test_best_rates_are_those_of_the_least_mean_loss():
    assert grid(1, 4, 3).best().tolist() == [1, 4, 3]


def test_sizes_at_which_all_rates_fail_have_no_best_one():
    failed = Losses(np.array([8, 16]), np.array(RATES), np.full((2, 2, len(RATES)), INF))
    assert failed.best().tolist() == [-1, -1]
    assert failed.common_best() is None


def test_common_best_is_a_compromise_among_rates_at_which_all_train():
    found = grid(1, 3, 3)
    assert found.common_best() == 3  # log losses: 1.10 against 1.10 + 1.10 at 1
    values = found.values.copy()
    values[2, 0, 3] = INF
    assert Losses(found.sizes, found.rates, values).common_best() == 2
    assert Losses(found.sizes, found.rates, values).common_best([0, 1]) == 3


# --- along training ---------------------------------------------------------------------------------------------------


def probe_table():
    """Sharpness ``seed + step`` at two rates; NTP diverges at step 50 in one seed."""

    def loss(label, width, rate, step, seed):
        return INF if (label, seed, step) == ("NTP", 1, 50) else flat("", 8, 1.0, step, 0)

    sharpness = {"sharpness": lambda label, width, rate, step, seed: [seed + step, 0.5], "bfa": lambda *place: 1.0}
    return sweep_table(loss, sharpness, widths=(8, 16), rates=(1.0, 2.0, 4.0), measured={"muP": [1.0], "NTP": [2.0]})


def test_along_training_aligns_seeds_sizes_and_steps():
    rows = transfer.of_network(probe_table(), "muP")
    sizes, steps, values = transfer.along_training(rows, "sharpness", 1.0)
    assert sizes.tolist() == [8, 16] and values.shape == (3, 2, len(steps))
    assert (values == np.arange(3)[:, None, None] + steps).all()
    assert (transfer.along_training(rows, "sharpness", 1.0, index=2)[2] == 0.5).all()
    assert transfer.along_training(rows, "bfa", 1.0, layer=2)[2].shape == values.shape


def test_a_network_that_stopped_is_missing_afterwards_and_has_no_late_mean():
    rows = transfer.of_network(probe_table(), "NTP")
    _, steps, values = transfer.along_training(rows, "sharpness", 2.0)
    assert np.isnan(values[1][:, steps >= 50]).all() and np.isfinite(values[0]).all()
    late = transfer.late_mean(steps, values, 100)
    assert np.isnan(late[1]).all() and late[0].tolist() == [75.0, 75.0]


def test_a_rate_at_which_nothing_was_measured_has_no_steps():
    rows = transfer.of_network(probe_table(), "muP")
    assert len(transfer.along_training(rows, "sharpness", 2.0)[1]) == 0
    assert transfer.measured_rates(rows, "sharpness").tolist() == [1.0]


def test_late_mean_takes_the_second_half_up_to_the_last_step_asked_for():
    steps = np.array([0, 10, 20, 30, 40])
    assert transfer.late_mean(steps, steps[None].astype(float), 40) == pytest.approx([30])
    assert transfer.late_mean(steps, steps[None].astype(float), 20) == pytest.approx([15])


# --- rising to the edge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([0.0, 1.0, 2.0], 15.0),  # linear between probe steps
        ([0.0, 1.5, 0.0], 10.0),  # the first time counts
        ([0.0, 1.0, 1.4], INF),
        ([2.0, 1.0, 2.0], 15.0),  # begins above, falls, comes back
        ([2.0, 1.0, 1.0], INF),
        ([2.0, 2.0, 2.0], 0.0),  # nothing to rise to
        ([0.0, math.nan, 2.0], INF),  # what was not seen does not count
    ],
)
def test_steps_until_a_level_is_reached_from_below(values, step):
    assert transfer.steps_until(np.array([0, 10, 20]), np.array([[values]]), 1.5).item() == step


@pytest.mark.parametrize(
    ("seeds", "median"), [([1, 2, INF], 2), ([1, INF, INF], INF), ([1, 3], 2), ([1, INF], INF), ([1, 2, 4, INF], 3)]
)
def test_median_step_is_infinite_where_half_of_the_seeds_or_more_never_arrive(seeds, median):
    assert transfer.median_steps(np.array(seeds, dtype=float)[:, None]) == pytest.approx([median])


def test_arrival_uses_nine_tenths_of_the_threshold():
    table = sweep_table(curvature={"sharpness": lambda label, width, rate, step, seed: step / width})
    found = transfer.arrival(transfer.of_network(table, "muP"), 1.0)
    assert found.medians() == pytest.approx([1.8 * 8, 1.8 * 16, 1.8 * 32, INF, INF]) and found.last == 100


# --- statistics of sizes ----------------------------------------------------------------------------------------------


def test_spread_is_that_of_the_means_over_seeds():
    assert transfer.spread(np.array([[1.0, 5.0], [3.0, 1.0]])) == pytest.approx(math.sqrt(0.5) / 2.5)
    assert transfer.spread(np.array([[2.0, 2.0]])) == 0.0


def test_intervals_over_seeds_are_the_same_at_every_call():
    values = np.random.default_rng(0).normal(size=(8, 5))
    first, second = (transfer.over_seeds(lambda chosen: transfer.spread(values[chosen]), 8) for _ in range(2))
    assert first == second and first.low < first.value < first.high


def test_seeds_fail_with_one_of_their_networks_up_to_a_fifth_of_a_size():
    def failed(*lost, rates=(1.0,), best=1.0):
        """Seeds that count as failed where these (width, seed) diverge at a rate of 1."""

        def loss(label, width, rate, step, seed):
            return INF if rate == 1.0 and (width, seed) in lost else 0.5 if rate == best else 0.6

        table = sweep_table(loss, {"sharpness": flat}, labels=("muP",), widths=(8, 16, 32), rates=rates, seeds=10)
        return transfer.failed_seeds(transfer.of_network(table, "muP"), "sharpness").tolist()

    assert failed() == []
    assert failed((8, 3), (16, 3), (16, 7)) == [3, 7]
    assert failed((8, 1), (8, 2), (16, 3), (16, 4), (32, 5)) == [1, 2, 3, 4, 5]  # half of them, but few of each size
    assert failed((8, 1), (8, 2), (16, 3), (16, 4), (32, 5), (32, 6)) == []
    assert failed((8, 1), (8, 2), (8, 3)) == []  # it is the learning rate that fails
    assert failed((8, 1), rates=(0.5, 1.0)) == [1]
    assert failed((8, 1), rates=(0.5, 1.0), best=0.5) == []  # all train at the rate that is best
    assert failed((8, 1), (8, 2), (8, 3), rates=(0.5, 1.0)) == []  # the rate fails, and at the other one all train
