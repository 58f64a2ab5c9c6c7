"""Claims on what connects the papers: planted predictions are confirmed, planted failures are seen."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from featurespeed.ledger.engine import Verdict, ledger
from featurespeed.papers.super_consistency.bridge.claims import ARTEFACT
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.bridge_cases import bridge_table, grown, power, smallest, wavering

EVERY = criteria_of("sc_bridge")
CRITERIA = [criterion for criterion in EVERY if criterion.artefact == ARTEFACT]


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
    assert used_by(EVERY) == statistics_of("sc_bridge")


def test_what_is_planted_is_confirmed(planted):
    confirmed = {"thesis", "shift", "shift_better", "angle_held", "sharpness_held"}
    confirmed |= {"spread_speed", "spread_angle", "decay_angle", "decay_sharpness"}
    found = planted.loc[[f"sc_bridge_{claim}" for claim in sorted(confirmed)], ["verdict", "note", "control"]]
    assert set(found["verdict"]) == {Verdict.CONFIRMED}, found.to_dict("index")


def test_quantities_that_are_equal_at_the_start_predict_no_shift(planted):
    for claim in ("shift_speed", "shift_angle", "shift_sharpness"):
        row = planted.loc[f"sc_bridge_{claim}"]
        assert row["value"] == pytest.approx(2.0, abs=0.05) and row["verdict"] == Verdict.CONTRADICTED


def test_ledger_says_what_was_predicted_and_observed(planted):
    note = planted.loc["sc_bridge_shift", "note"]
    assert "NTP: predicted 1.99, observed 2.02" in note and "muP over depth: predicted -2.00, observed -1.99" in note


def test_a_shift_that_the_sensitivity_does_not_see_contradicts():
    def moved(label: str) -> float:
        return -2.0 if label == "muP over depth" else power(label)

    row = rows(bridge_table(power_of_best=moved), "shift").loc["sc_bridge_shift"]
    assert row["value"] == pytest.approx(2.0, abs=0.05) and row["verdict"] == Verdict.CONTRADICTED


def test_rates_that_move_where_the_sharpness_does_not_depend_on_the_size_contradict_the_thesis():
    def moved(label: str) -> float:
        return {"muP": 0.5, "Depth-muP over depth": -1.0}.get(label, 0.0)

    row = rows(bridge_table(power_of_best=moved), "thesis").loc["sc_bridge_thesis"]
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] < 0


def test_a_thesis_that_rests_on_one_network_is_not_confirmed():
    """All pairs with muP over the depth agree, the others do not: without it, nothing is left."""

    def moved(label: str) -> float:
        return -2.0 if label == "muP over depth" else 0.0

    row = rows(bridge_table(power_of_best=moved), "thesis").loc["sc_bridge_thesis"]
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] == pytest.approx(0.0, abs=0.01)
    assert "without one network: muP: 1.33" in row["note"] and "muP over depth: 0" in row["note"]


def test_networks_beyond_the_edge_cannot_be_matched_for_the_thesis():
    def edge(label, size, rate, step, seed):
        return (3.0 if label == "muP" else 5.0) * grown(label, size, step)

    row = rows(bridge_table(sharpness=edge), "thesis").loc["sc_bridge_thesis"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "to a network at 1.5 of 2/eta_0" in row["note"]


def test_best_rates_at_the_end_of_their_grid_decide_nothing():
    table = bridge_table()
    cut = table[(table["series"] != "NTP") | (table["learning_rate"] <= 2.0)]
    row = rows(cut, "shift").loc["sc_bridge_shift"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "of the grid 0.03125 to 2, of 16, 32, 64" in row["note"]


def test_networks_without_a_best_rate_or_missing_ones_cannot_decide():
    table = bridge_table()
    failed = (table["series"] == "muP over depth") & (table["depth"] == 8) & (table["quantity"] == "training_loss")
    row = rows(table[~failed], "shift").loc["sc_bridge_shift"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "muP over depth: best rates by depth" in row["note"]
    assert "no rate is left at 8" in row["note"]
    row = rows(table[table["series"] != "muP over depth"], "shift").loc["sc_bridge_shift"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "no measurements of muP over depth" in row["note"]


def test_a_sharpness_that_spreads_where_nothing_else_does_contradicts_the_correlation():
    def opposed(label, size, rate, step, seed):
        return wavering(label, size, 100 - step, seed) ** (0.1 if label.startswith("NTP") else 8.0)

    table = bridge_table(sharpness=opposed)
    for claim in ("spread_speed", "spread_angle"):
        assert verdict(table, claim) == Verdict.CONTRADICTED


def test_decay_that_makes_the_sharpness_depend_on_the_width_contradicts():
    def decayed(label, size, rate, step, seed):
        return (size / smallest(label)) ** (
            0.002 * seed * ("decay" in label) + (0.5 if "decay" in label or label == "NTP" else 0.0)
        )

    found = rows(bridge_table(sharpness=decayed), "decay_sharpness", "decay_angle")
    row = found.loc["sc_bridge_decay_sharpness"]
    assert row["value"] == pytest.approx(0.5, abs=0.01) and row["verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_bridge_decay_angle", "verdict"] == Verdict.CONFIRMED


def test_an_angle_that_depends_on_the_width_is_not_held():
    table = bridge_table(
        bfa=lambda label, size, rate, step, seed: math.acos(0.1 * (size / smallest(label)) ** (0.3 + 0.01 * seed))
    )
    assert verdict(table, "angle_held") == Verdict.CONTRADICTED


def test_two_seeds_that_disagree_leave_it_open():
    def sensitivity(label, size, rate, step, seed):
        return (size / smallest(label)) ** (-power(label) - (0.5 if seed else 0.0))

    assert verdict(bridge_table(feature_sensitivity=sensitivity, seeds=2), "shift") == Verdict.INCONCLUSIVE
