"""Claims on what connects the papers: planted predictions are confirmed, planted failures are seen."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS, Verdict, ledger
from featurespeed.papers.super_consistency.bridge import claims as bridge
from featurespeed.papers.super_consistency.bridge.claims import ARTEFACT
from tests.papers.cases import criteria_of
from tests.papers.super_consistency.bridge_cases import bridge_table, grown, power, smallest

CRITERIA = criteria_of("sc_bridge")


def rows(table: pd.DataFrame, *claims: str) -> pd.DataFrame:
    """The ledger of some claims, or of all."""
    chosen = [c for c in CRITERIA if not claims or c.claim_id.removeprefix("sc_bridge_") in claims]
    return ledger(chosen, {ARTEFACT: table}, "planted")[0].set_index("claim_id")


def verdict(table: pd.DataFrame, claim: str) -> str:
    return rows(table, claim).loc[f"sc_bridge_{claim}", "verdict"]


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return rows(bridge_table())


def test_statistics_and_criteria_name_each_other():
    used = {c.compute for c in CRITERIA} | {c.control.compute for c in CRITERIA}
    assert used == {name for name, function in STATISTICS.items() if function.__module__ == bridge.__name__}


def test_what_is_planted_is_confirmed(planted):
    confirmed = {"shift", "shift_width", "shift_better", "spread_speed", "spread_angle", "angle_held", "sharpness_held"}
    confirmed |= {"decay_angle", "decay_sharpness"}
    found = planted["verdict"][[f"sc_bridge_{claim}" for claim in sorted(confirmed)]]
    assert set(found) == {Verdict.CONFIRMED}, found


def test_quantities_that_are_equal_at_the_start_predict_no_shift(planted):
    for claim in ("shift_speed", "shift_angle", "shift_sharpness"):
        assert planted.loc[f"sc_bridge_{claim}", ["value", "verdict"]].tolist() == [2.0, Verdict.CONTRADICTED]


def test_ledger_says_what_was_predicted_and_observed(planted):
    note = planted.loc["sc_bridge_shift", "note"]
    assert "NTP: predicted 2.00, observed 2" in note and "muP over depth: predicted -2.00, observed -2" in note


def test_a_shift_that_the_sensitivity_does_not_see_contradicts():
    def moved(label: str) -> float:
        return -2.0 if label == "muP over depth" else power(label)

    found = rows(bridge_table(power_of_best=moved), "shift", "shift_width")
    assert found.loc["sc_bridge_shift", ["value", "verdict"]].tolist() == [2.0, Verdict.CONTRADICTED]
    assert found.loc["sc_bridge_shift_width", "verdict"] == Verdict.CONFIRMED


def test_a_best_rate_at_the_end_of_its_grid_can_contradict_but_not_confirm():
    table = bridge_table()
    cut = table[(table["series"] != "NTP") | (table["learning_rate"] <= 4.0)]
    row = rows(cut, "shift_width").loc["sc_bridge_shift_width"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and row["ci_high"] == math.inf and "at least 2" in row["note"]


def test_networks_without_a_best_rate_or_missing_ones_cannot_decide():
    table = bridge_table()
    failed = (table["series"] == "muP over depth") & (table["depth"] == 8) & (table["quantity"] == "training_loss")
    row = rows(table[~failed], "shift").loc["sc_bridge_shift"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "muP over depth: no best learning rate" in row["note"]
    row = rows(table[table["series"] != "muP over depth"], "shift").loc["sc_bridge_shift"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "no measurements of muP over depth" in row["note"]


def test_a_sharpness_that_spreads_where_nothing_else_does_contradicts_the_correlation():
    def opposed(label, size, rate, step, seed):
        return grown(label, size, 100 - step) ** (0.1 if label.startswith("NTP") else 8.0)

    table = bridge_table(sharpness=opposed)
    for claim in ("spread_speed", "spread_angle"):
        assert verdict(table, claim) == Verdict.CONTRADICTED


def test_decay_that_makes_the_sharpness_depend_on_the_width_contradicts():
    def decayed(label, size, rate, step, seed):
        return (size / smallest(label)) ** (0.5 if "decay" in label or label == "NTP" else 0.0)

    found = rows(bridge_table(sharpness=decayed), "decay_sharpness", "decay_angle")
    assert found.loc["sc_bridge_decay_sharpness", ["value", "verdict"]].tolist() == [-1.0, Verdict.CONTRADICTED]
    assert found.loc["sc_bridge_decay_angle", "verdict"] == Verdict.CONFIRMED


def test_an_angle_that_depends_on_the_width_is_not_held():
    table = bridge_table(bfa=lambda label, size, rate, step, seed: math.acos(0.1 * (size / smallest(label)) ** 0.3))
    assert verdict(table, "angle_held") == Verdict.CONTRADICTED


def test_two_seeds_that_disagree_leave_it_open():
    def sensitivity(label, size, rate, step, seed):
        return (size / smallest(label)) ** (-power(label) - (0.5 if seed else 0.0))

    assert verdict(bridge_table(feature_sensitivity=sensitivity, seeds=2), "shift") == Verdict.INCONCLUSIVE
