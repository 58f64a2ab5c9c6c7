"""What connects the papers: planted sensitivities give the planted shifts, and failed networks are no evidence."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.papers.super_consistency.bridge import analysis as bridge
from featurespeed.papers.super_consistency.bridge.analysis import Prediction
from featurespeed.sweeps.transfer import Losses
from tests.sweeps.cases import sweep_table

WIDTHS = (8, 16, 32, 128)


def best_at(optimum, label: str, size: int, rate: float, step: int, seed: int) -> float:
    """Loss that is least at ``optimum(label, size)``."""
    return 0.1 + 0.1 * math.log2(rate / optimum(label, size)) ** 2 + math.exp(-step / 20)


def table(**changes) -> pd.DataFrame:
    """Best rate and 1/S grow like the square root of the width; the layer before the readout is the only one with S."""
    settings = {
        "loss": lambda *place: best_at(lambda _, size: (size / 8) ** 0.5, *place),
        "curvature": {
            "sharpness": lambda label, size, rate, step, seed: 2.0 / rate,
            "feature_sensitivity": lambda label, size, rate, step, seed: size**-0.5,
            "feature_speed_rms": lambda label, size, rate, step, seed: 3.0,
            "bfa": lambda label, size, rate, step, seed: math.acos(0.1 + 0.001 * size),
        },
        "labels": ("muP",), "widths": WIDTHS, "rates": (0.5, 1.0, 2.0, 4.0, 8.0),
    }  # fmt: skip
    return sweep_table(**(settings | changes))


def losses(*best: float, rates=(1.0, 2.0, 4.0, 8.0, 16.0), seeds: int = 2) -> Losses:
    """Sizes whose best learning rates are ``best``."""
    values = np.abs(np.log2(np.array(rates)[None, :] / np.array(best)[:, None])) + 0.1
    return Losses(np.arange(len(best)), np.array(rates), np.stack([values] * seeds))


def test_a_sensitivity_that_falls_by_four_predicts_two_steps_up():
    assert bridge.predicted_shift(np.array([[4.0, 2.0, 1.0], [4.0, 7.0, 1.0]])) == pytest.approx(2.0)


def test_prediction_is_that_of_the_geometric_mean_over_seeds():
    assert bridge.predicted_shift(np.array([[8.0, 1.0], [2.0, 1.0]])) == pytest.approx(2.0)
    assert bridge.predicted_shift(np.array([[8.0, 1.0], [2.0, 1.0]]), [0, 0]) == pytest.approx(3.0)


def test_planted_sensitivity_predicts_the_planted_shift_and_the_speed_does_not():
    own = bridge.network(table(), "muP")
    assert own.losses.shift() == 2.0
    assert bridge.prediction([own], "feature sensitivity").errors() == pytest.approx([0.0])
    assert bridge.prediction([own], "feature speed").errors() == pytest.approx([2.0])
    assert bridge.prediction([own], None).errors() == pytest.approx([2.0])


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


def test_largest_error_is_open_where_the_best_rate_may_lie_beyond_the_grid():
    inside = Prediction([np.array([[4.0, 1.0]] * 2)], [losses(2.0, 8.0)]).largest_interval()
    assert (inside.value, inside.low, inside.high) == (0.0, 0.0, 0.0)
    beyond = Prediction([np.array([[4.0, 1.0]] * 2)], [losses(2.0, 16.0)]).largest_interval()
    assert (beyond.value, beyond.low, beyond.high) == (1.0, 1.0, np.inf)
    nothing = Prediction([None], [losses(8.0, 1.0)])
    assert nothing.largest_bounds() == (3.0, np.inf)


def test_mispaired_predictions_are_those_of_the_next_network():
    starts = [np.array([[1.0, 1.0]] * 2), np.array([[4.0, 1.0]] * 2)]
    right = Prediction(starts, [losses(2.0, 2.0), losses(2.0, 8.0)])
    assert right.errors().tolist() == [0.0, 0.0]
    assert right.mispaired().errors().tolist() == [2.0, 2.0]


def test_network_without_a_best_rate_has_no_error():
    dead = Losses(np.array([1, 2]), np.array([1.0, 2.0]), np.full((2, 2, 2), np.inf))
    assert np.isnan(Prediction([None], [dead]).largest_interval().value)


def test_share_held_is_linear_between_steps_and_a_failed_step_is_not_held():
    steps = np.array([0, 100])
    assert bridge.share_held(steps, np.array([0.0, 0.3])) == pytest.approx(0.5, abs=0.02)
    assert bridge.share_held(steps, np.array([0.1, 0.1])) == 1.0
    assert bridge.share_held(steps, np.array([0.1, np.nan])) < 0.05


def test_share_held_counts_what_comes_back():
    assert bridge.share_held(np.array([0, 50, 100]), np.array([0.3, 0.0, 0.0])) == pytest.approx(0.75, abs=0.02)


def test_cells_correlate_where_both_spreads_rise_and_not_with_the_wrong_network():
    sizes, time = np.array([1.0, 2.0]), np.arange(5.0)
    rising, flat = (1 + np.outer(sizes, slope * time)[None] for slope in (1.0, 0.0))
    rising, flat = (np.repeat(values, 2, axis=0) for values in (rising, flat))
    falling = rising[..., ::-1]
    pairs = [(rising, rising), (falling, falling)]
    assert bridge.cell_correlation(pairs) == pytest.approx(1.0)
    assert bridge.cell_correlation(pairs, partners=[1, 0]) == pytest.approx(-1.0)
    assert np.isnan(bridge.cell_correlation([(flat, rising)]))


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
