"""Claims about transformers: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from featurespeed.ledger.engine import Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.transformers.spec import (
    COMPLETE_P,
    GPT,
    GPT_NO_ROOT,
    POST_LN,
    U_MUP,
    VIT,
    VIT_NO_ROOT,
)
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.adam_cases import TABLES as ADAM_TABLES
from tests.papers.super_consistency.depth_cases import depth_tables
from tests.papers.super_consistency.transformers_cases import (
    DEPTHS,
    gamma_sharpness,
    loss,
    preconditioned,
    table,
    transformer_tables,
)

ROOM = "sc_transformers"
CRITERIA = criteria_of(ROOM)
#: A control about ConvNets with Adam, whose room has it.
BLOCKS = "shift of the best learning rate of Adam for 8 times the depth, 2 layers a block minus 1"


def tables(**changed: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The planted tables, and those of ConvNets that controls read, some of them replaced."""
    others = {"sc_fig04": depth_tables()["sc_fig04"], "sc_fig20": ADAM_TABLES["sc_fig20"]}
    return transformer_tables(**others) | changed


def judged(*claims: str, **changed: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    found, _ = ledger(criteria, tables(**changed), "planted")
    return found.set_index("claim_id")


def judge(claim: str, **changed: pd.DataFrame) -> pd.Series:
    return judged(claim, **changed).loc[claim]


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) - {BLOCKS} == statistics_of(ROOM)


def test_runs_as_claimed_confirm_every_claim_and_every_control_fails():
    found = judged()
    assert len(found) == 10 and set(found["verdict"]) == {Verdict.CONFIRMED}, found[["verdict", "note", "control"]]
    assert found["control"].str.endswith("fails, as it must").all()
    assert faults(CRITERIA, tables()) == []


def test_numbers_are_those_that_were_planted():
    found = judged()["value"]
    expected = {
        "sc_fig4c_transfer": 0.6 * 3,
        "sc_fig4c_sharpness": 0.1 - 0.5,  # N times the sharpness, over the root of L that the rate carries
        "sc_fig4c_rates": -0.6 * 3,
        "sc_fig15_gpt2": 0.5 * 3,
        "sc_discrepancy_fig15_width": 0.02,  # without such a root
        "sc_fig15_rates": -0.5 * 3,
        "sc_fig16_transformer": 0.0,
        "sc_fig16_sharpness": 0.03,
        "sc_completep_transfer": 0.0,
        "sc_completep_more": 0.4 * 3,
    }
    for claim, value in expected.items():
        assert found[claim] == pytest.approx(value, abs=0.03), claim


def test_a_shift_counts_whatever_its_sign():
    """The best rate of a ViT that falls with the depth moves, too."""
    falling = table("sc_fig04c", lambda label, *rest: loss(GPT_NO_ROOT if label == VIT else label, *rest))
    row = judge("sc_fig4c_transfer", sc_fig04c=falling)
    assert row["verdict"] == Verdict.CONFIRMED and row["value"] == pytest.approx(1.5, abs=0.03)


def test_a_best_rate_that_stays_contradicts_that_it_moves():
    steady = table("sc_fig04c", lambda label, *rest: loss(GPT, *rest))
    assert judge("sc_fig4c_transfer", sc_fig04c=steady)["verdict"] == Verdict.CONTRADICTED
    steady = table("sc_fig15", lambda label, *rest: loss(VIT_NO_ROOT if label == GPT_NO_ROOT else label, *rest))
    assert judge("sc_fig15_gpt2", sc_fig15=steady)["verdict"] == Verdict.CONTRADICTED
    assert judge("sc_fig15_rates", sc_fig15=steady)["verdict"] == Verdict.CONTRADICTED


def test_a_sharpness_that_does_not_fall_contradicts():
    """As much more of N times the sharpness as the root of L takes away."""

    def flat(label, size, *rest):
        return gamma_sharpness(label, size, *rest) * size**0.4

    row = judge("sc_fig4c_sharpness", sc_fig04c=table("sc_fig04c", change_gamma=flat))
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] == pytest.approx(0.0, abs=0.01)


def test_the_decoder_is_judged_without_the_root_of_the_depth():
    """Its rates do not carry it, so a sharpness that falls as L^-1/2 does fall."""

    def falling(label, size, *rest):
        return gamma_sharpness(label, size, *rest) * size**-0.5

    row = judge("sc_discrepancy_fig15_width", sc_fig15=table("sc_fig15", change_gamma=falling))
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] == pytest.approx(0.48, abs=0.01)


def test_a_preconditioned_sharpness_that_grows_with_the_width_contradicts():
    def growing(label, size, *rest):
        return preconditioned(label, size, *rest) * (size**0.3 if label == POST_LN else 1.0)

    row = judge("sc_fig16_sharpness", sc_fig16=table("sc_fig16", change_preconditioned=growing))
    assert row["verdict"] == Verdict.CONTRADICTED and row["value"] == pytest.approx(0.33, abs=0.01)


def test_complete_p_that_moves_as_much_as_depth_mup_contradicts():
    alike = table("sc_completep", lambda label, *rest: loss(U_MUP if label == COMPLETE_P else label, *rest))
    row = judge("sc_completep_more", sc_completep=alike)
    assert row["verdict"] == Verdict.CONTRADICTED and abs(row["value"]) < 0.02
    assert judge("sc_completep_transfer", sc_completep=alike)["value"] == pytest.approx(1.2, abs=0.03)


def test_a_control_that_moves_as_much_decides_nothing():
    """Were u-muP to stay where it is, as CompleteP does, nothing would be said about 1/L."""
    steady = table("sc_completep", lambda label, *rest: loss(COMPLETE_P if label == U_MUP else label, *rest))
    row = judge("sc_completep_more", sc_completep=steady)
    assert row["verdict"] == Verdict.INCONCLUSIVE and "does not fail" in row["control"]


def test_seeds_that_failed_are_left_out_of_the_sharpness():
    def dying(label, size, rate, step, seed):
        dead = (label, size, seed) == (VIT, DEPTHS[-1], 2) and step > 60
        return math.nan if dead else loss(label, size, rate, step, seed)

    row = judge("sc_fig4c_sharpness", sc_fig04c=table("sc_fig04c", dying, seeds=5))
    assert row["verdict"] == Verdict.CONFIRMED and row["n"] == 4
    assert "; without 1 of 5 seeds, of which a network diverged, died or ended at chance" in row["note"]


def test_too_few_depths_decide_nothing():
    row = judge("sc_fig4c_transfer", sc_fig04c=table("sc_fig04c", depths=(6, 12, 24)))
    assert row["verdict"] == Verdict.INCONCLUSIVE and "over a factor 8 are needed" in row["note"]
