"""Claims about ConvNets with Adam: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from featurespeed.ledger.engine import Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.adam.published import BEST_RATES, BY_CHANNELS
from featurespeed.papers.super_consistency.adam.spec import ADAM, COMMON, ONE, ONE_NO_ROOT, TWO
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

ROOM = "sc_adam"
CRITERIA = criteria_of(ROOM)


def judged(*claims: str, **changed: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    found, _ = ledger(criteria, adam_tables(**changed), "planted")
    return found.set_index("claim_id")


def judge(claim: str, **changed: pd.DataFrame) -> pd.Series:
    return judged(claim, **changed).loc[claim]


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) == statistics_of(ROOM)


def test_runs_as_claimed_confirm_every_claim_and_every_control_fails():
    found = judged()
    assert len(found) == 9 and set(found["verdict"]) == {Verdict.CONFIRMED}, found["note"]
    assert found["control"].str.endswith("fails, as it must").all()
    assert faults(CRITERIA, adam_tables()) == []


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


def test_a_grid_that_ends_too_early_decides_nothing():
    table = depth_table()
    edited = table[(table["series"] != ONE_NO_ROOT) | (table["learning_rate"] > 0.4)]
    edited.attrs |= table.attrs
    row = judge("sc_fig20_rates", sc_fig20=edited)
    assert row["verdict"] == Verdict.INCONCLUSIVE and f"{ONE_NO_ROOT}: best rates by depth" in row["note"]


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
    for claim in ("sc_fig20_transfer", "sc_fig21_adam", "sc_fig21_adamw"):
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
