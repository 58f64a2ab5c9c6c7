"""Networks beyond the edge of stability, read from a long table: arrays by seed and kappa, and who failed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from featurespeed.papers.edge_of_stability import shared as beyond
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, Key, runs
from tests.papers.edge_of_stability.cases import LAYERS, QUADRATIC, SMALL, Case, broken, never, participation


@cache
def table() -> pd.DataFrame:
    return SMALL.table()


def case(kappa: float, seed: int) -> Case:
    return Case(QUADRATIC, "rel1", CONSTANT, kappa, seed, None, SMALL.steps)


def test_every_network_scaling_and_schedule_is_found_in_order():
    assert beyond.keys(table().sample(frac=1, random_state=0)) == [
        Key("r = 0", "none"),
        Key("r = 0", "rel1"),
        Key("r = 2", "none"),
        Key("r = 2", "rel1"),
        Key("r = 2", "gradn"),
        Key("r = 2", "rel1", GEOMETRY_AWARE),
    ]


def test_arrays_do_not_depend_on_the_order_of_the_records():
    shuffled = runs(table().sample(frac=1, random_state=0), QUADRATIC, "none")
    own = runs(table(), QUADRATIC, "none")
    for quantity in ("sharpness", "participation_ratio", "largest_loss_ratio"):
        for found in ("final", "initial", "reached"):
            np.testing.assert_array_equal(getattr(shuffled, found)(quantity), getattr(own, found)(quantity))
    np.testing.assert_array_equal(shuffled.over_training("update_cosine"), own.over_training("update_cosine"))


def test_a_network_that_diverged_or_died_is_not_finite_and_the_two_are_told_apart():
    exploding, dying = runs(table(), QUADRATIC, "none"), runs(table(), QUADRATIC, "rel1")
    assert exploding.kappas.tolist() == [0.5, 8, 32, 48]
    assert exploding.diverged.sum(0).tolist() == [0, 0, 3, 3] and not exploding.dead.any()
    assert dying.dead.sum(0).tolist() == [0, 0, 0, 3] and not dying.diverged.any()
    assert dying.finite.sum(0).tolist() == [3, 3, 3, 0]
    assert dying.failed_step[:, 3].tolist() == [20, 23, 26] and np.isnan(dying.failed_step[:, :3]).all()


def test_a_network_with_both_failures_counts_as_diverged_at_the_first_of_them():
    first = table()[(table()["quantity"] == "dead_step")]
    both = pd.concat([table(), first.assign(quantity="diverged_step", value=first["value"] + 1)])
    own = runs(both, QUADRATIC, "rel1")
    assert own.diverged[:, 3].all() and not own.dead.any()
    assert own.failed_step[:, 3].tolist() == [20, 23, 26]


def test_final_values_are_those_of_the_last_step_and_missing_for_networks_that_failed():
    own = runs(table(), QUADRATIC, "rel1")
    ranks = own.final("participation_ratio")
    assert np.isnan(ranks[:, 3]).all()
    expected = participation(case(32, 1), LAYERS - 1)
    assert ranks[1, 2] == pytest.approx(expected, rel=0.02)
    assert own.final("participation_ratio", layer=1)[1, 2] < ranks[1, 2]
    assert np.isnan(runs(table(), QUADRATIC, "none").final("test_accuracy")[:, 2]).all()


def test_a_probe_at_the_last_step_of_a_network_that_failed_there_is_not_its_final_value():
    def at_the_end(*keys):
        return ("diverged_step", SMALL.steps) if keys[3] == 32 else None

    own = runs(broken(failure=at_the_end), QUADRATIC, "rel1")
    assert np.isnan(own.final("sharpness")[:, 2]).all() and np.isfinite(own.reached("sharpness")).all()


def test_values_of_the_whole_run_are_there_for_networks_that_failed():
    ratios = runs(table(), QUADRATIC, "none").reached("largest_loss_ratio")
    assert ratios[:, 3].tolist() == [1e4, 1e5, 1e6]


def test_curves_end_where_a_network_failed():
    steps, values = runs(table(), QUADRATIC, "rel1").along("sharpness")
    assert steps.tolist() == [0, 20, 40]
    assert np.isfinite(values[:, :3]).all() and np.isnan(values[:, 3, 2]).all()


def test_mean_over_training_weighs_a_record_by_its_steps():
    """A network that fails at step 23 has records of 10, 10 and 3 steps; others are not affected by them."""
    table_ = broken(formulas={"update_cosine": lambda run, step: float(step)})
    means = runs(table_, QUADRATIC, "rel1").over_training("update_cosine")
    assert means[1, 3] == pytest.approx((10 * 10 + 20 * 10 + 23 * 3) / 23)
    assert means[:, :3] == pytest.approx(25.0)


def test_learning_rates_are_those_of_each_seed_and_none_are_known_for_the_geometry_aware_schedule():
    rates = runs(table(), QUADRATIC, "rel1").rates
    assert rates[1, 1] == pytest.approx(8 * 2 / (20 * case(8, 1).jitter))
    assert np.isnan(runs(table(), QUADRATIC, "rel1", GEOMETRY_AWARE).rates).all()


def test_one_kappa_is_found_whatever_its_rounding_and_a_missing_one_is_named():
    own = runs(table(), QUADRATIC, "rel1")
    assert own.place(32 * (1 + 1e-9)) == 2 and own.has(0.5, 48) and not own.has(0.5, 16)
    assert own.at(own.finite, 48).tolist() == [False] * 3
    with pytest.raises(ValueError, match=r"kappa = 16 was not run for r = 2 \| rel1 \| constant; there are \[0.5, 8.0"):
        own.place(16)


def test_a_network_that_was_not_run_is_named():
    with pytest.raises(ValueError, match=r"r = 1 \| rel1 \| constant was not run; there are"):
        runs(table(), "r = 1", "rel1")
    assert beyond.has(table(), QUADRATIC, "gradn") and not beyond.has(table(), "r = 0", "gradn")


def test_a_seed_that_is_missing_at_one_kappa_is_an_error():
    lost = table()[~((table()["c"] == 8) & (table()["seed"] == 1) & (table()["scaling"] == "rel1"))]
    with pytest.raises(ValueError, match="not every kappa was run with each of 3 seeds"):
        runs(lost, QUADRATIC, "rel1")


def test_mean_leaves_out_networks_that_failed_and_says_how_many_are_left():
    found = beyond.mean_interval(np.array([1.0, np.nan, 3.0]))
    assert (found.value, found.low, found.high, found.n) == (2.0, 1.0, 3.0, 2)
    single, none = beyond.mean_interval(np.array([np.nan, 4.0])), beyond.mean_interval(np.array([np.nan]))
    assert (single.value, single.n, none.n) == (4.0, 1, 0) and np.isnan([single.low, none.value]).all()


def test_trained_is_a_loss_below_chance_at_the_end():
    """A loss that has exploded without an overflow is none, nor is a network that failed."""
    assert (own_trained() == [[True, True, True, False]] * 3).all()
    lost = own_trained(formulas={"training_loss": lambda run, step: 1000.0 if run.kappa == 8 else 0.1})
    assert (lost == [[True, False, True, False]] * 3).all()


def own_trained(**changes) -> np.ndarray:
    return runs(broken(**changes), QUADRATIC, "rel1").trained


def test_networks_that_all_train_have_no_failures():
    own = runs(broken(failure=never), QUADRATIC, "none")
    assert own.finite.all() and np.isnan(own.failed_step).all()
