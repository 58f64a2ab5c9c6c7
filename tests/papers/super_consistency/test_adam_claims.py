"""Claims about ConvNets with Adam: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from featurespeed.ledger.engine import Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.adam.published import BEST_RATES, BY_CHANNELS
from featurespeed.papers.super_consistency.adam.spec import ADAM, ADAMW, COMMON, ONE, ONE_NO_ROOT, TWO
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.adam_cases import (
    DEPTHS,
    EDGE,
    MEASURED,
    adam_tables,
    depth_table,
    loss,
    sharpness,
    width_table,
)
from tests.papers.super_consistency.depth_cases import DEPTHS as no_limit_depths
from tests.papers.super_consistency.no_limit_cases import bowl, no_limit_tables, no_scaling

ROOM = "sc_adam"
CRITERIA = criteria_of(ROOM)
#: A control about gradient descent, whose room has it.
UNSCALED = "shift of the best learning rate for 8 times the depth, no 1/sqrt(L)"


def judged(*claims: str, **changed: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    found, _ = ledger(criteria, tables(**changed), "planted")
    return found.set_index("claim_id")


def tables(**changed: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The planted tables and that of gradient descent over the depth, some of them replaced."""
    return adam_tables(sc_fig06=no_limit_tables()["sc_fig06"]) | changed


def judge(claim: str, **changed: pd.DataFrame) -> pd.Series:
    return judged(claim, **changed).loc[claim]


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) - {UNSCALED} == statistics_of(ROOM)


def test_runs_as_claimed_confirm_every_claim_and_every_control_fails():
    found = judged()
    assert len(found) == 9 and set(found["verdict"]) == {Verdict.CONFIRMED}, found["note"]
    assert found["control"].str.endswith("fails, as it must").all()
    assert faults(CRITERIA, tables()) == []


# --- Figure 20 --------------------------------------------------------------------------------------------------------


def test_exponents_are_those_that_were_planted():
    found = judged("sc_fig20_adam", "sc_fig20_threshold")
    assert found.loc["sc_fig20_adam", "value"] == pytest.approx(0.4 - 1.5 * 0.1, abs=0.005)
    assert "2 layers a block at 0.5, late sharpness by size 3: " in found.loc["sc_fig20_adam", "note"]
    furthest = 0.1 * math.log(8.5 / 3)
    assert found.loc["sc_fig20_threshold", "value"] == pytest.approx(furthest, abs=0.01)


def test_a_spread_as_large_with_one_layer_a_block_contradicts():
    def alike(label, *place):
        return sharpness(TWO if label == ONE else label, *place)

    row = judge("sc_fig20_adam", sc_fig20=depth_table(loss, alike))
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] == pytest.approx(-0.2, abs=0.01)


@pytest.mark.parametrize(("one", "two"), [(0.0, 0.0), (0.01, 0.04), (-0.01, 0.04)])
def test_two_flat_networks_do_not_spread_however_much_one_does_more(one, two):
    """Four times next to nothing is next to nothing."""

    def flat(label, depth, rate, step, seed):
        own = sharpness(ADAM, 64, rate, step, seed) * (1 + 0.001 * math.sin(seed + depth))
        return own * depth ** (two if label == TWO else one)

    row = judge("sc_fig20_adam", sc_fig20=depth_table(loss, flat))
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] == pytest.approx(two - 0.1, abs=0.005)


def failing_at_one_depth(label, size, rate, step, seed):
    """The deepest network with two layers a block dies late in one seed."""
    dead = (label, size, seed) == (TWO, 24, 2) and step > 60
    return math.nan if dead else loss(label, size, rate, step, seed)


def test_a_seed_that_one_network_lost_is_taken_from_both():
    seeds = 5  # one of them is a fifth
    row = judge("sc_fig20_adam", sc_fig20=depth_table(failing_at_one_depth, seeds=seeds))
    assert row["verdict"] == Verdict.CONFIRMED and row["n"] == seeds - 1
    assert "; without 1 of 5 seeds, of which a network diverged, died or ended at chance" in row["note"]
    assert judge("sc_fig20_threshold", sc_fig20=depth_table(failing_at_one_depth, seeds=seeds))["n"] == seeds


def test_networks_that_share_no_seed_decide_nothing():
    """Two seeds at most fail at each depth, half of all with either network, and the others with the other one."""

    def scattered(label, size, rate, step, seed):
        lost = {ONE: range(5), TWO: range(5, 10)}.get(label, ())
        dead = step > 60 and seed in lost and size == DEPTHS[seed % 4]
        return math.nan if dead else loss(label, size, rate, step, seed)

    row = judge("sc_fig20_adam", sc_fig20=depth_table(scattered, seeds=10))
    assert row["verdict"] == Verdict.INCONCLUSIVE
    assert f"{TWO} and {ONE}: a network failed in every one of 10 seeds" in row["note"]


def test_a_level_below_the_threshold_at_every_depth_contradicts():
    low = depth_table(loss, lambda *place: 0.6 * sharpness(*place))
    row = judge("sc_fig20_threshold", sc_fig20=low)
    assert row["verdict"] == Verdict.CONTRADICTED
    assert row["value"] == pytest.approx(-math.log(0.6) + 0.1 * math.log(24 / 8.5), abs=0.01)


def test_the_threshold_is_that_of_the_first_moment():
    """2 (1 + b1) / (1 - b1) is 6 for b1 = 0.5."""
    table = depth_table(loss, lambda *place: 6 / EDGE * sharpness(*place))
    for network in table.attrs["provenance"]["spec"]["networks"].values():
        network["optimizer"]["betas"] = [0.5, 0.999]
    assert judge("sc_fig20_threshold", sc_fig20=table)["verdict"] == Verdict.CONFIRMED


@pytest.mark.parametrize("claim", ["sc_fig20_adam", "sc_fig20_threshold"])
def test_without_a_smaller_measured_rate_there_is_no_control(claim):
    row = judge(claim, sc_fig20=depth_table(measured=MEASURED[1:]))
    assert row["verdict"] == Verdict.INCONCLUSIVE
    assert f"{ONE}: the sharpness was measured at no rate below 0.5, the best of the measured" in row["control"]


def test_a_rate_without_the_depth_in_it_that_transfers_as_well_contradicts():
    def alike(label, *place):
        return loss(TWO if label == ONE_NO_ROOT else label, *place)

    row = judge("sc_fig20_rates", sc_fig20=depth_table(alike))
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] == pytest.approx(0.15, abs=0.05)


def grid_from(smallest: float, label: str) -> pd.DataFrame:
    """The planted runs, of one network without those at smaller rates."""
    table = depth_table()
    edited = table[(table["series"] != label) | (table["learning_rate"] >= smallest)]
    edited.attrs |= table.attrs
    return edited


def test_a_grid_that_ends_too_early_decides_nothing():
    """Of three of four depths best rates may lie below it, on either side of the middle of all."""
    row = judge("sc_fig20_rates", sc_fig20=grid_from(0.5, ONE_NO_ROOT))
    assert row["verdict"] == Verdict.INCONCLUSIVE and row["note"].startswith("the interval straddles the threshold")
    assert (row["ci_low"], row["ci_high"]) == (-math.inf, math.inf)
    assert f"{ONE_NO_ROOT} 3: 0.766, 6: up to 0.707, 12: up to 0.707, 24: up to 0.707" in row["note"]


def test_a_grid_that_ends_above_the_best_rate_of_the_deepest_networks_tells_a_least_fall():
    """From 0.76 to 0.35 or less, by 1.14 steps or more: half a step is claimed."""
    row = judge("sc_fig20_rates", sc_fig20=grid_from(0.25, ONE_NO_ROOT))
    assert row["ci_low"] == -math.inf and row["ci_high"] == pytest.approx(-1.14, abs=0.05)
    assert row["verdict"] == Verdict.CONFIRMED and row["control"].endswith("fails, as it must")
    assert f"24: up to {0.25 * 2**0.5:.3g}" in row["note"]


def failing_beyond(largest, labels, sizes=DEPTHS):
    """These networks diverge at larger rates."""

    def changed(label, size, rate, step, seed):
        failed = label in labels and size in sizes and rate > largest and step >= 50
        return math.inf if failed else loss(label, size, rate, step, seed)

    return changed


def test_best_rates_next_to_a_rate_that_failed_are_known_within_wide_bounds():
    """At every depth between the middle of 0.25 and 0.5 and 1: 1.2 times 1.5 steps either way."""
    table = depth_table(failing_beyond(0.5, {ONE, TWO}))
    found = judged("sc_fig20_transfer", "sc_fig20_rates", sc_fig20=table)
    numbers = ["value", "ci_low", "ci_high"]
    assert found.loc["sc_fig20_transfer", numbers].tolist() == pytest.approx([0, -1.8, 1.8], abs=0.01)
    assert found.loc["sc_fig20_rates", numbers].tolist() == pytest.approx([-1.5, -3.3, 0.3], abs=0.15)
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE} and found["note"].str.contains("3: 0.354 to 1").all()
    assert "0 [-3.6, 3.6], does not fail" in found.loc["sc_fig20_rates", "control"]


def test_one_depth_next_to_a_rate_that_failed_leaves_the_shift_decidable():
    row = judge("sc_fig20_transfer", sc_fig20=depth_table(failing_beyond(0.5, {ONE}, {12})))
    assert row["verdict"] == Verdict.CONFIRMED and "12: 0.354 to 1" in row["note"]
    known = judge("sc_fig20_transfer")
    width, without = (one["ci_high"] - one["ci_low"] for one in (row, known))
    assert width == pytest.approx(0.3 * 1.5 + without, abs=0.03)


def test_gradient_descent_without_scaling_that_transfers_takes_the_control_away():
    def transferring(label, depth, rate, step, seed):
        return bowl(label, 3, no_limit_depths, rate, step, seed)

    row = judge("sc_fig20_transfer", sc_fig06=no_scaling(transferring, rates=(0.25, 0.5, 1.0, 2.0)))
    assert row["verdict"] == Verdict.INCONCLUSIVE and "does not fail: it is confirmed" in row["note"]
    assert row["control"].startswith("gradient descent on networks without 1/sqrt(L) (Fig. 6): 0 [")


# --- Figure 21 --------------------------------------------------------------------------------------------------------


def test_shifts_are_stated_for_sixteen_times_the_width():
    found = judged("sc_fig21_common", sc_fig21=width_table(widths=(16, 32, 64, 128)))
    assert found.loc["sc_fig21_common", "value"] == pytest.approx(4 / 3 * math.log2(7.8e-5 / 9e-4), abs=0.1)
    row = judge("sc_fig21_common", sc_fig21=width_table(widths=(16, 32, 64)))
    assert row["verdict"] == Verdict.INCONCLUSIVE and "three over a factor 8 are needed" in row["note"]


def test_one_rate_for_all_layers_that_transfers_takes_the_control_away():
    def alike(label, width, rate, step, seed):
        moved = BY_CHANNELS[width] / BY_CHANNELS[64] if label == COMMON else 1.0
        return loss(label, width, rate * moved, step, seed)

    found = judged(sc_fig21=width_table(alike))
    assert found.loc["sc_fig21_common", "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_fig20_transfer", "verdict"] == Verdict.CONFIRMED  # its control is over the depth
    for claim in ("sc_fig21_adam", "sc_fig21_adamw"):
        assert found.loc[claim, "verdict"] == Verdict.INCONCLUSIVE and "does not fail" in found.loc[claim, "note"]


def test_a_sharpness_that_follows_the_width_with_one_of_both_contradicts():
    def steep(label, width, rate, step, seed):
        return sharpness(label, width, rate, step, seed) * (width / 64) ** (0.2 if label == ADAM else 0.0)

    row = judge("sc_fig21_sharpness", sc_fig21=width_table(loss, steep))
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] == pytest.approx(0.23, abs=0.01)


# --- the authors' sweep -----------------------------------------------------------------------------------------------


def test_published_rates_are_by_the_inputs_of_the_readout():
    assert list(BEST_RATES) == [64, 128, 256, 512, 1024]
    assert list(BEST_RATES.values()) == list(BY_CHANNELS.values()) == sorted(BY_CHANNELS.values(), reverse=True)


def test_the_largest_distance_over_the_common_widths_decides():
    def further(label, width, rate, step, seed):
        factor = 3.0 if (label, width) == (COMMON, 128) else 1.0
        return loss(label, width, rate / factor, step, seed)

    row = judge("sc_fig21_published", sc_fig21=width_table(further))
    assert row["verdict"] == Verdict.CONTRADICTED
    assert row["value"] == pytest.approx(math.log2(3 * 1.2), abs=0.1) and "theirs 64: 0.0009, 128: " in row["note"]


def test_a_distance_from_the_authors_is_known_within_bounds_next_to_a_rate_that_failed():
    """Ours at the smallest width lies between 0.9 and 2.56 in 1000, theirs is 0.9: up to 1.5 steps apart."""
    table = width_table(failing_beyond(1.5e-3, {COMMON}, {16}))
    row = judge("sc_fig21_published", sc_fig21=table)
    assert row["verdict"] == Verdict.INCONCLUSIVE and row["note"].startswith("the interval straddles the threshold")
    assert row["ci_high"] == pytest.approx(math.log2(2.56 / 0.9), abs=0.01) and row["value"] < 0.6
    assert "by width 64: 0.000905 to 0.00256, 128: " in row["note"]


@pytest.mark.parametrize(
    "options",
    [
        {"data": {"name": "digits", "pixels": "symmetric"}, "model": {"kind": "convnet", "depth": 3}},
        {"model": {"kind": "simple_convnet", "depth": 2, "convention": "authors"}},
        {"model": {"kind": "convnet", "depth": 3, "convention": "authors", "gain": 1}},
    ],
)
def test_other_networks_and_data_are_not_compared(options):
    row = judge("sc_fig21_published", sc_fig21=width_table(**options))
    assert row["verdict"] == Verdict.INCONCLUSIVE and f"{COMMON}: not their network or data" in row["note"]


def test_two_widths_of_the_authors_are_too_few():
    table = width_table(lambda label, width, *place: loss(label, 16, *place), widths=(8, 16, 32, 512))
    row = judge("sc_fig21_published", sc_fig21=table)
    assert row["verdict"] == Verdict.INCONCLUSIVE
    assert f"{COMMON}: 2 widths of the authors' sweep, 3 are needed" in row["note"]


@pytest.mark.parametrize(
    ("claim", "label", "make"), [("sc_fig20_adam", TWO, depth_table), ("sc_fig21_sharpness", ADAMW, width_table)]
)
def test_networks_that_failed_before_they_were_measured_decide_nothing(claim, label, make):
    table = make(
        lambda own, *place: math.inf if own == label else loss(own, *place),
        lambda own, *place: math.nan if own == label else sharpness(own, *place),
    )
    row = judge(claim, **{claim[:8]: table})
    assert row["verdict"] == Verdict.INCONCLUSIVE
    assert f"{label}: at every measured learning rate every network failed before it was measured" in row["note"]
