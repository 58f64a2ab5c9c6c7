"""Claims on transfer and sharpness over the width: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from featurespeed.ledger.engine import PREMISES, STATISTICS, Undecidable, Verdict, ledger
from featurespeed.ledger.lint import faults
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.transfer_cases import (
    MATCHED,
    RATES,
    loss,
    octaves,
    sharpness,
    transfer_tables,
)

ROOM = "sc_transfer"
CRITERIA = criteria_of(ROOM)
SHIFT = "shift of the best learning rate for 16 times the width, {}"


def judged(stages) -> pd.DataFrame:
    claims, _ = ledger(CRITERIA, stages, "planted")
    return claims.set_index("claim_id")


def verdicts(*arguments, **options):
    return judged(transfer_tables(*arguments, **options))["verdict"]


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return judged(transfer_tables())


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) == statistics_of(ROOM)


def test_runs_as_claimed_confirm_every_claim(planted):
    assert len(planted) == 17 and set(planted["verdict"]) == {Verdict.CONFIRMED}, planted[["verdict", "note"]]


def test_every_control_fails_and_has_other_data(planted):
    assert planted["control"].str.endswith("fails, as it must").all()
    assert faults(CRITERIA, transfer_tables()) == []


def test_networks_exchanged_contradict_what_sets_them_apart():
    """muP's label on networks whose sharpness and best rate follow the width, and the reverse."""
    other = {"muP": "NTP", "NTP": "muP"}
    stages = transfer_tables(
        lambda label, *place: loss(other[label], *place),
        lambda label, *place: sharpness(other[label], *place),
        labels=("muP", "NTP"),
        rates={"muP": RATES["NTP"], "NTP": RATES["muP"]},
        measured={"muP": (1.0, 2.0), "NTP": (0.4, 0.8)},
    )
    found = judged(stages)["verdict"]
    assert found["sc_fig1_transfer_mup"] == found["sc_fig1_transfer_ntp"] == Verdict.CONTRADICTED


# --- the sharpness ----------------------------------------------------------------------------------------------------


def test_slope_one_step_below_the_best_rate_counts():
    def uneven(label, width, rate, step, seed):
        factor = width**0.2 if (label, rate) == ("muP", 0.4) else 1.0
        return factor * sharpness(label, width, rate, step, seed)

    found = judged(transfer_tables(loss, uneven))
    assert found.loc["sc_fig1_sharpness", "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_fig1_sharpness", "value"] == pytest.approx(0.21, abs=0.01)
    assert found.loc["sc_fig1_sharpness_ratio", "verdict"] == Verdict.CONFIRMED  # muP at its best rate only


def test_ntp_is_compared_at_one_matched_rate_below_the_edge(planted):
    """At its own best rates, and at 4 and beyond, its narrow networks have the sharpness of the edge."""
    assert f"NTP at {MATCHED:g}" in planted.loc["sc_fig1_sharpness_ntp", "note"]
    assert planted.loc["sc_fig1_sharpness_ntp", "value"] == pytest.approx(-0.5, abs=0.03)


def test_a_matched_rate_at_which_a_network_died_is_not_used():
    def dying(label, width, rate, step, seed):
        dead = (label, width, rate, seed) == ("NTP", 128, MATCHED, 1) and step > 60
        return math.nan if dead else loss(label, width, rate, step, seed)

    measured = {"NTP": (1.0, 1.75, MATCHED)}
    stages = transfer_tables(dying, rates=RATES | {"NTP": (1.0, 1.75, *RATES["NTP"][1:])}, measured=measured)
    found = judged(stages).loc["sc_fig1_sharpness_ntp"]
    assert "NTP at 1.75," in found["note"] and found["verdict"] == Verdict.CONFIRMED


def test_networks_that_are_all_beyond_the_edge_cannot_be_matched():
    found = judged(transfer_tables(measured={"NTP": [4.0, 8.0]}))
    assert found.loc["sc_fig1_sharpness_ntp", "verdict"] == Verdict.INCONCLUSIVE
    assert "train it goes 4: from 0.219 to 1.1, 8: from 0.22 to 1.1" in found.loc["sc_fig1_sharpness_ntp", "note"]
    assert "not computed" in found.loc["sc_fig1_sharpness", "control"]
    for claim in ("sharpness_ntp", "sharpness_ratio"):
        assert "NTP of Fig. 1: NTP: no learning rate" in found.loc[f"sc_fig1_{claim}", "premise"]


def test_a_level_of_mup_beyond_the_edge_is_taken_one_step_below():
    """At its best rate muP is beyond the edge, one step of the grid below at 0.57 of it: NTP is matched to that."""

    def beyond(label, width, rate, step, seed):
        best = label == "muP" and rate >= 0.8
        return (1.2 if best else 0.6 if label == "muP" else 1.0) * sharpness(label, width, rate, step, seed)

    found = judged(transfer_tables(loss, beyond))
    row = found.loc["sc_fig1_sharpness_ntp"]
    assert f"NTP at {MATCHED:g}" in row["note"] and row["verdict"] == Verdict.CONFIRMED


def test_a_level_of_mup_that_is_beyond_the_edge_at_every_rate_leaves_nothing_to_match():
    def beyond(label, width, rate, step, seed):
        return (2.4 if label == "muP" else 1.0) * sharpness(label, width, rate, step, seed)

    row = judged(transfer_tables(loss, beyond)).loc["sc_fig1_sharpness_ntp"]
    assert row["verdict"] == Verdict.INCONCLUSIVE
    assert "nothing can be matched below the edge to a network at 2.28 of 2/eta_0" in row["note"]


def test_ntp_after_a_catapult_is_not_matched():
    def caught(label, width, rate, step, seed):
        factor = 7.0 if (label, step) == ("NTP", 0) else 1.0
        return factor * sharpness(label, width, rate, step, seed)

    row = judged(transfer_tables(loss, caught)).loc["sc_fig1_sharpness_ntp"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "2: from 1.12 to 0.8" in row["note"]


def test_only_the_narrowest_network_of_ntp_has_to_sharpen():
    def still(label, width, rate, step, seed):
        kept = (label, width) == ("NTP", 8)
        return 0.8 * 2 / rate * (1 + 0.01 * seed) if kept else sharpness(label, width, rate, step, seed)

    name = "sharpening from below the edge of stability, NTP of Fig. 1"
    assert PREMISES[name](transfer_tables()).holds
    condition = PREMISES[name](transfer_tables(loss, still))
    assert not condition.holds and condition.note.startswith("at 1 from 0.02-0.81 to 0.096-0.81")


def test_a_width_that_stands_out_contradicts_the_common_level_but_not_the_slope():
    def hump(label, width, rate, step, seed):
        return (1.3 if (label, width) == ("muP", 32) else 1.0) * sharpness(label, width, rate, step, seed)

    found = verdicts(loss, hump)
    assert found["sc_fig1_sharpness"] == Verdict.CONFIRMED
    assert found["sc_fig1_threshold"] == Verdict.CONTRADICTED


def test_a_sharpness_that_falls_from_above_the_edge_does_not_have_the_premise():
    def falling(label, width, rate, step, seed):
        return 2 / rate * (3.0 if step < 30 else 1.0) * (1 + 0.01 * seed)

    row = judged(transfer_tables(loss, falling)).loc["sc_fig1_threshold"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "from 3-3 to 1-1 of 2/eta_0, does not hold" in row["premise"]
    assert row["note"].startswith("premise: the run is not sharpening from below the edge of stability")


def test_a_rate_that_was_not_measured_is_named_with_those_that_were():
    found = judged(transfer_tables(measured={"muP": [0.8, 1.6]}))
    assert found.loc["sc_fig1_sharpness", "verdict"] == Verdict.INCONCLUSIVE
    assert "not measured at 0.4; networks.muP.measured = 0.8, 1.6" in found.loc["sc_fig1_sharpness", "note"]


def test_a_dead_network_is_not_low_sharpness():
    def dying(label, width, rate, step, seed):
        dead = (label, width, rate, seed) == ("muP", 8, 0.4, 1) and step > 60
        return math.nan if dead else loss(label, width, rate, step, seed)

    found = judged(transfer_tables(dying))
    assert found.loc["sc_fig1_sharpness", "verdict"] == Verdict.INCONCLUSIVE
    assert "muP, learning rate 0.4: no sharpness at width 8 from step 70 on" in found.loc["sc_fig1_sharpness", "note"]


def test_no_rate_at_which_all_train_cannot_decide():
    def failing(label, width, rate, step, seed):
        return math.inf if label == "muP" and width == 8 else loss(label, width, rate, step, seed)

    with pytest.raises(Undecidable, match="muP: no learning rate of 0.4 to 3.2 at which every network trains"):
        STATISTICS["slope of the late sharpness in the width, muP, Fig. 1"](transfer_tables(failing))


# --- transfer ---------------------------------------------------------------------------------------------------------


def test_optima_at_the_edge_decide_nothing_and_are_named():
    found = judged(transfer_tables(rates=RATES | {"muP": (0.1, 0.2, 0.4, 0.8)})).loc["sc_fig1_transfer_mup"]
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert "100% at an end of what did not fail of the grid 0.1 to 0.8, of 8, 16, 32, 64, 128" in found["note"]


def test_shift_is_signed_and_small_in_both_directions():
    def backwards(label, width, rate, step, seed):
        if label != "muP":
            return loss(label, width, rate, step, seed)
        return 0.2 + 0.05 * math.log2(rate / 3.2 * 2 ** ((0.75 + 0.01 * seed) * octaves(width))) ** 2

    found = judged(transfer_tables(backwards, rates=RATES | {"muP": tuple(0.1 * 2**k for k in range(8))}))
    row = found.loc["sc_fig1_transfer_mup"]
    assert row["value"] == pytest.approx(-3, abs=0.1) and row["verdict"] == Verdict.CONTRADICTED


def test_shift_is_stated_for_sixteen_times_the_width():
    wide = transfer_tables(widths=(8, 16, 32, 64, 512), rates=RATES | {"NTP": tuple(2.0**k for k in range(9))})
    assert STATISTICS[SHIFT.format("NTP")](wide).value == pytest.approx(3.0, abs=0.1)
    eighth = transfer_tables(widths=(8, 16, 32, 64))
    assert STATISTICS[SHIFT.format("NTP")](eighth).value == pytest.approx(3.0, abs=0.1)
    narrow = transfer_tables(widths=(8, 16, 32))
    with pytest.raises(Undecidable, match="NTP: widths 8, 16, 32: three over a factor 8 are needed"):
        STATISTICS[SHIFT.format("NTP")](narrow)


def test_random_features_that_do_not_train_are_no_evidence():
    def untrained(label, width, rate, step, seed):
        return (2.5 if label == "random features" else 0.0) + loss(label, width, rate, step, seed)

    stages = transfer_tables(untrained)
    known = stages["sc_fig26"].drop_duplicates(["series", "width", "learning_rate", "seed"])
    known = known.assign(quantity="test_accuracy", value=0.5, step=100)  # they know something all the same
    table = pd.concat([stages["sc_fig26"], known], ignore_index=True)
    table.attrs = stages["sc_fig26"].attrs
    name = "trained below the loss of chance, random features of Fig. 26"
    condition = PREMISES[name](stages | {"sc_fig26": table})
    assert not condition.holds and "chance 2.3" in condition.note
    found = judged(stages | {"sc_fig26": table})
    for claim in ("transfer_rf_above_mup", "transfer_rf_below_ntp"):
        assert found.loc[f"sc_fig26_{claim}", "note"].startswith("premise: the run is not trained below")


def test_best_rates_far_from_the_papers_contradict_the_mean_loss():
    """As they would be for a sum over the batch: smaller by its size."""

    def summed(label, width, rate, step, seed):
        return loss(label, width, rate * 64 if label == "muP" else rate, step, seed)

    rates = RATES | {"muP": tuple(rate / 64 for rate in RATES["muP"])}
    found = judged(transfer_tables(summed, rates=rates)).loc["sc_discrepancy_mean_loss"]
    assert found["value"] == pytest.approx(math.log2(0.8 / 0.75) - 6, abs=0.05)
    assert found["verdict"] == Verdict.CONTRADICTED


def test_without_the_network_nothing_is_said_about_its_best_rate():
    with pytest.raises(Undecidable, match="muP"):
        STATISTICS["log2 of the best learning rate over the paper's, muP"](transfer_tables(labels=("NTP",)))


# --- loss -------------------------------------------------------------------------------------------------------------


def test_a_loss_that_grows_with_the_width_is_contradicted_and_parts_the_wrong_way():
    def worse(label, width, rate, step, seed):
        return loss(label, width, rate, step, seed) * (1 + 0.3 * octaves(width) * (step > 50))

    found = verdicts(worse)
    assert found["sc_fig1_wider_is_better"] == found["sc_fig1_loss_parts"] == Verdict.CONTRADICTED


# --- the first steps --------------------------------------------------------------------------------------------------


def test_widths_that_begin_above_the_edge_have_nothing_to_reach():
    found = judged(transfer_tables(loss, lambda *place: 4 / place[2]))
    assert "N = 8, 16, 32, 64, 128 is above the edge" in found.loc["sc_fig24_edge_ntp", "note"]
    assert "does not hold" in found.loc["sc_fig24_edge_mup", "premise"]


def test_networks_that_never_reach_the_edge_cannot_decide():
    found = judged(transfer_tables(loss, lambda *place: 1 / place[2]))
    assert "100% of the networks do not rise to the edge in 100 steps" in found.loc["sc_fig24_edge_mup", "note"]


def test_a_few_that_never_arrive_count_with_the_last_step():
    def stuck(label, width, rate, step, seed):
        late = (label, width, seed) == ("NTP", 128, 0)
        return (0.5 if late else 1.0) * sharpness(label, width, rate, step, seed)

    found = judged(transfer_tables(loss, stuck)).loc["sc_fig24_edge_ntp"]
    assert found["verdict"] == Verdict.CONFIRMED
    assert "1 of 15 networks never arrive and count with step 100" in found["note"]


def test_an_initial_sharpness_that_falls_with_the_width_is_seen():
    def falling(label, width, rate, step, seed):
        return (width**-0.3 if step == 0 else 1.0) * sharpness(label, width, rate, step, seed)

    found = judged(transfer_tables(loss, falling))
    assert found.loc["sc_fig24_initial", "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_fig24_sharpness", "verdict"] == Verdict.CONFIRMED


def test_early_steps_beyond_the_edge_are_matched_at_the_next_rate_below():
    """At the rate shown muP is beyond the edge within the early steps, one step of the grid below it is not."""

    def beyond(label, width, rate, step, seed):
        shown = label == "muP" and rate >= 0.8
        return (1.2 if shown else 1.0) * sharpness(label, width, rate, step, seed)

    row = judged(transfer_tables(loss, beyond)).loc["sc_fig24_sharpness"]
    assert "muP at 0.8," in row["note"] and row["verdict"] == Verdict.CONFIRMED
    assert "not computed" not in row["control"]


def test_a_network_that_is_not_shown_is_named():
    with pytest.raises(Undecidable, match="shown = {'NTP': 0.8}: has no learning rate of muP"):
        STATISTICS["slope of the early sharpness in the width, NTP"](transfer_tables(shown={"NTP": 0.8}))
