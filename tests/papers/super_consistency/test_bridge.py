"""What connects the papers: planted sensitivities give the planted shifts, and failed networks are no evidence."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from featurespeed.papers.super_consistency.bridge import analysis as bridge
from tests.sweeps.cases import sweep_table

WIDTHS = (8, 16, 32, 128)


def best_at(optimum, label: str, size: int, rate: float, step: int, seed: int) -> float:
    """Loss that is least at ``optimum(label, size)``."""
    return 0.1 + 0.1 * math.log2(rate / optimum(label, size)) ** 2 + math.exp(-step / 20)


CURVATURE = {
    "sharpness": lambda label, size, rate, step, seed: 2.0 / rate,
    "feature_sensitivity": lambda label, size, rate, step, seed: size**-0.5,
    "feature_speed_rms": lambda label, size, rate, step, seed: 3.0,
    "bfa": lambda label, size, rate, step, seed: math.acos(0.1 + 0.001 * size),
}


def table(**changes) -> pd.DataFrame:
    """Best rate and 1/S grow like the square root of the width; the layer before the readout is the only one with S."""
    settings = {
        "loss": lambda *place: best_at(lambda _, size: (size / 8) ** 0.5, *place),
        "curvature": CURVATURE,
        "labels": ("muP",), "widths": WIDTHS, "rates": (0.5, 1.0, 2.0, 4.0, 8.0),
    }  # fmt: skip
    return sweep_table(**(settings | changes))


def table_curvature(sensitivity) -> dict:
    """The quantities of :func:`table` with another sensitivity."""
    return CURVATURE | {"feature_sensitivity": sensitivity}


def test_planted_sensitivity_predicts_the_planted_shift_and_the_speed_does_not():
    own = bridge.network(table(), "muP")
    assert own.span == 16 and own.shifts() == pytest.approx([2.0] * 3, abs=0.1)
    assert bridge.prediction_errors([own], "feature sensitivity") == pytest.approx(np.zeros((3, 1)), abs=0.1)
    assert bridge.prediction_errors([own], "feature speed") == pytest.approx(np.full((3, 1), -2.0), abs=0.1)
    assert bridge.prediction_errors([own], None) == pytest.approx(np.full((3, 1), -2.0), abs=0.1)


def test_a_sensitivity_that_falls_by_four_predicts_two_steps_up_in_every_seed():
    curvature = table_curvature(lambda label, size, rate, step, seed: size ** -(0.5 + 0.25 * seed))
    own = bridge.network(table(curvature=curvature), "muP")
    assert bridge.predicted_shifts(own, "feature sensitivity") == pytest.approx([2.0, 3.0, 4.0])


def test_mispaired_predictions_use_the_exponent_of_the_next_network_over_the_own_span():
    labels = ("muP", "NTP")
    falling = table_curvature(lambda label, size, rate, step, seed: size ** (-0.5 if label == "NTP" else 0.0))
    rows = table(labels=labels, widths={"muP": (8, 16, 32), "NTP": WIDTHS}, curvature=falling)
    first, second = (bridge.network(rows, label) for label in labels)
    assert bridge.predicted_shifts(first, "feature sensitivity", second) == pytest.approx([1.0] * 3)
    found = bridge.prediction_errors([first, second], "feature sensitivity", mispaired=True)
    assert found == pytest.approx(np.column_stack([1.0 - first.shifts(), 0.0 - second.shifts()]))


def test_a_quantity_without_a_logarithm_predicts_nothing():
    curvature = table_curvature(lambda label, size, rate, step, seed: -1.0)
    own = bridge.network(table(curvature=curvature), "muP")
    with pytest.raises(ValueError, match="must be positive and finite for an exponent, found -1"):
        bridge.prediction_errors([own], "feature sensitivity")


def test_only_the_node_before_the_readout_counts_also_when_depths_differ():
    rows = table(labels=("muP over depth",), widths=(16,), depths=(2, 4))
    deep = rows["quantity"].isin(["feature_sensitivity"]) & (rows["depth"] == 4)
    extra = rows[deep & (rows["layer"] == 3)].assign(layer=4, value=99.0)  # readout of the deeper network
    rows = pd.concat([rows.assign(value=rows["value"].where(~deep, 10.0 * rows["layer"])), extra], ignore_index=True)
    own = bridge.network(rows, "muP over depth")
    assert own.size == "depth" and own.losses.sizes.tolist() == [2, 4]
    assert own.at_start("feature sensitivity")[0] == pytest.approx([2**-0.5, 30.0])


def test_angle_enters_as_one_over_its_cosine():
    own = bridge.network(table(), "muP")
    assert own.at_start("angle")[0] == pytest.approx([1 / (0.1 + 0.001 * width) for width in WIDTHS])


def test_unknown_network_and_one_that_was_not_measured_are_none():
    assert bridge.network(table(), "NTP") is None
    assert bridge.network(table(curvature={}), "muP") is None


def test_rate_is_the_measured_one_nearest_to_the_best_where_nothing_fails():
    assert bridge.network(table(measured={"muP": (0.5, 4.0)}), "muP").rate() == 4.0

    def fails(label, size, rate, step, seed):
        return math.inf if rate == 4.0 and size == 8 else best_at(lambda *_: 4.0, label, size, rate, step, seed)

    assert bridge.network(table(loss=fails, measured={"muP": (0.5, 4.0)}), "muP").rate() == 0.5
    assert bridge.network(table(loss=fails, measured={"muP": (4.0,)}), "muP").rate() is None


def test_share_held_is_linear_between_steps_and_a_failed_step_is_not_held():
    steps = np.array([0, 100])
    assert bridge.share_held(steps, np.array([0.0, 0.3])) == pytest.approx(0.5, abs=0.02)
    assert bridge.share_held(steps, np.array([0.1, 0.1])) == 1.0
    assert bridge.share_held(steps, np.array([0.1, np.nan])) < 0.05


def test_share_held_counts_what_comes_back():
    assert bridge.share_held(np.array([0, 50, 100]), np.array([0.3, 0.0, 0.0])) == pytest.approx(0.75, abs=0.02)


def test_steepness_is_the_absolute_exponent_at_every_step():
    sizes = np.array([1.0, 2.0, 4.0])
    values = np.stack([sizes[:, None] ** np.array([-1.0, 0.0, 0.5]), np.full((3, 3), -1.0)])
    found = bridge.steepness(sizes, values)
    assert found[0] == pytest.approx([1.0, 0.0, 0.5]) and np.isnan(found[1]).all()


def test_mean_along_training_is_weighted_by_the_steps_between_probes():
    assert bridge.along(np.array([0, 10, 100]), np.array([[1.0, 0.0, 0.0]])) == pytest.approx([0.05])


def test_curves_correlate_in_every_seed_and_network_and_not_with_the_wrong_network():
    time = np.arange(6.0)
    rising, falling = np.stack([time, 2 * time]), np.stack([time[::-1], time[::-1]])
    pairs = [bridge.Cells(time, rising, rising), bridge.Cells(time, falling, falling)]
    assert bridge.correlations(pairs) == pytest.approx(np.ones((2, 2)))
    assert bridge.correlations(pairs, mispaired=True) == pytest.approx(-np.ones((2, 2)))
    few = [replace(own, predictor=own.predictor.copy()) for own in pairs]
    few[0].predictor[1, :2] = np.nan
    assert np.isnan(bridge.correlations(few)).tolist() == [[False, False], [True, False]]


def test_networks_of_different_probe_steps_are_mispaired_at_those_of_both():
    time = np.arange(6.0)
    own = bridge.Cells(time, np.stack([time]), np.stack([time]))
    later = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    other = bridge.Cells(later, np.stack([later]), np.stack([np.where(later == 0.5, 100.0, -later)]))
    assert bridge.correlations([own, other], mispaired=True)[0] == pytest.approx([-1.0, 1.0])
    short = replace(other, steps=other.steps[:3], predictor=other.predictor[:, :3], sharpness=other.sharpness[:, :3])
    assert np.isnan(bridge.correlations([own, short], mispaired=True)).all()


def test_which_network_is_the_steeper_one_is_no_correlation_within_them():
    """Across both networks it would be close to 1."""
    noise = np.random.default_rng(0).normal(size=(4, 200, 9))
    steps = np.arange(9)
    pairs = [bridge.Cells(steps, noise[0], noise[1]), bridge.Cells(steps, 100 + noise[2], 100 + noise[3])]
    assert abs(bridge.correlations(pairs).mean()) < 0.05


def test_decay_pair_is_compared_at_common_widths_and_a_common_rate():
    labels = ("muP", "muP, weight decay")
    rows = table(
        labels=labels, widths={labels[0]: WIDTHS, labels[1]: WIDTHS[:2]},
        measured={labels[0]: (1.0, 2.0), labels[1]: (0.5, 2.0)},
    )  # fmt: skip
    plain, decayed, rate = bridge.decay_pair(rows, "muP")
    assert rate == 2.0 and plain.losses.sizes.tolist() == decayed.losses.sizes.tolist() == list(WIDTHS[:2])
    assert bridge.decay_pair(rows[rows["series"] == "muP"], "muP") is None


def test_decay_pair_needs_a_rate_that_both_survive():
    labels = ("muP", "muP, weight decay")

    def fails(label, size, rate, step, seed):
        failed = label == labels[1] and rate == 2.0
        return math.inf if failed else best_at(lambda *_: 1.0, label, size, rate, step, seed)

    assert bridge.decay_pair(table(labels=labels, loss=fails, measured=dict.fromkeys(labels, (2.0,))), "muP") is None
