"""Claims about residual networks on larger images: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from featurespeed.ledger.engine import Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.images.claims import ntp_matched
from featurespeed.papers.super_consistency.images.spec import DEPTH_MUP, NO_ROOT
from featurespeed.papers.super_consistency.shared import MUP, NTP
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.images_cases import (
    DEPTHS,
    SHIFTS,
    SLOPES,
    WIDTHS,
    image_tables,
    loss,
    sharpness,
    table,
)

ROOM = "sc_images"
CRITERIA = criteria_of(ROOM)
#: Claim about the best rate and about the sharpness, by figure, and the network that each is about.
CLAIMS = {
    "sc_fig17": ("sc_fig17_resnet", "sc_fig17_sharpness", MUP),
    "sc_fig18": ("sc_fig18_depth", "sc_fig18_sharpness", DEPTH_MUP),
    "sc_fig19": ("sc_fig19_imagenet", "sc_fig19_sharpness", MUP),
}


def judged(**changed: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced."""
    found, _ = ledger(CRITERIA, image_tables() | changed, "planted")
    return found.set_index("claim_id")


def judge(claim: str, changed: pd.DataFrame) -> pd.Series:
    """A claim beside one changed table, that of its figure."""
    name = next(criterion.artefact for criterion in CRITERIA if criterion.claim_id == claim)
    found, _ = ledger([c for c in CRITERIA if c.claim_id == claim], image_tables() | {name: changed}, "planted")
    return found.set_index("claim_id").loc[claim]


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) == statistics_of(ROOM)


def test_runs_as_claimed_confirm_every_claim_and_every_control_fails():
    found = judged()
    assert len(found) == 6 and set(found["verdict"]) == {Verdict.CONFIRMED}, found[["verdict", "note", "control"]]
    assert found["control"].str.endswith("fails, as it must").all()
    assert faults(CRITERIA, image_tables()) == []


@pytest.mark.parametrize("name", CLAIMS)
def test_numbers_are_those_that_were_planted(name):
    found, (transfer, sharp, label) = judged()["value"], CLAIMS[name]
    span = 3 if name == "sc_fig18" else 4
    assert found[transfer] == pytest.approx(SHIFTS[label] * span, abs=0.03)
    assert found[sharp] == pytest.approx(abs(SLOPES[label]), abs=0.005)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_best_rate_that_moves_as_in_the_control_contradicts(name):
    transfer, _, label = CLAIMS[name]
    other = {MUP: NTP, DEPTH_MUP: NO_ROOT}[label]

    def moving(of, size, rate, *rest):
        if of != label:
            return loss(of, size, rate, *rest)
        sizes = DEPTHS if label == DEPTH_MUP else WIDTHS
        middle = math.sqrt(sizes[0] * sizes[-1])  # best in the middle where muP's is: within its grid
        return loss(of, size, rate / (size / middle) ** SHIFTS[other], *rest)

    row = judge(transfer, table(name, moving))
    assert row["verdict"] == Verdict.CONTRADICTED
    assert row["value"] == pytest.approx((SHIFTS[label] + SHIFTS[other]) * (3 if name == "sc_fig18" else 4), abs=0.4)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_sharpness_that_depends_on_the_size_contradicts(name):
    _, sharp, label = CLAIMS[name]

    def growing(of, size, rate, step, seed):
        factor = size**-0.3 if of == label and step else 1.0
        return sharpness(of, size, rate, step, seed) * factor

    row = judge(sharp, table(name, change_sharpness=growing))
    assert row["verdict"] != Verdict.CONFIRMED
    assert row["value"] == pytest.approx(abs(SLOPES[label] - 0.3), abs=0.01)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_sharpness_that_does_not_rise_says_nothing_about_its_rise(name):
    """It is the same at every size, but so it was before training."""
    _, sharp, _ = CLAIMS[name]

    def flat(of, size, rate, step, seed):
        return sharpness(of, size, rate, 100, seed)

    row = judge(sharp, table(name, change_sharpness=flat))
    assert row["verdict"] == Verdict.INCONCLUSIVE and "premise" in row["note"]


def test_ntp_is_compared_below_the_edge():
    """At 2 its narrowest network has muP's share of the edge, 0.9; at 4 it is beyond the edge."""
    control = judged().loc["sc_fig17_sharpness", "control"]
    assert "0.5" in control and "fails, as it must" in control


def test_without_a_rate_of_ntp_below_the_edge_the_control_decides_nothing():
    def beyond(of, *rest):
        return sharpness(of, *rest) * (2.5 if of == NTP else 1.0)

    row = judge("sc_fig17_sharpness", table("sc_fig17", change_sharpness=beyond))
    assert row["verdict"] == Verdict.INCONCLUSIVE and "below" in row["control"]


@pytest.mark.parametrize(("name", "label"), [("sc_fig17", MUP), ("sc_fig17", NTP), ("sc_fig18", DEPTH_MUP)])
def test_a_seed_that_failed_is_left_out_of_the_sharpness(name, label):
    largest = (DEPTHS if name == "sc_fig18" else WIDTHS)[-1]

    def dying(of, size, rate, step, seed):
        dead = (of, size, seed) == (label, largest, 2) and step > 60
        return math.nan if dead else loss(of, size, rate, step, seed)

    row = judge(CLAIMS[name][1], table(name, dying))
    assert row["verdict"] == Verdict.CONFIRMED
    assert row["n"] == (5 if label == NTP else 4)
    if label != NTP:
        assert "; without 1 of 5 seeds, of which a network diverged, died or ended at chance" in row["note"]


@pytest.mark.parametrize(("rate", "left"), [(2.0, 4), (4.0, 5)])
def test_seeds_of_ntp_are_left_out_where_they_failed_at_the_rate_that_is_compared(rate, left):
    """NTP is compared at 2: what failed at 4 counts there."""

    def dying(of, size, own, step, seed):
        dead = (of, size, own, seed) == (NTP, WIDTHS[-1], rate, 3) and step > 60
        return math.nan if dead else loss(of, size, own, step, seed)

    found, note = ntp_matched({"sc_fig17": table("sc_fig17", dying)}, "sc_fig17")
    assert (found.rate, len(found.values)) == (2.0, left)
    assert note.startswith("; without 1 of 5 seeds") is (left == 4)
    assert judge("sc_fig17_sharpness", table("sc_fig17", dying))["verdict"] == Verdict.CONFIRMED


def test_too_few_sizes_decide_nothing():
    row = judge("sc_fig17_resnet", table("sc_fig17", widths=(16, 32, 64)))
    assert row["verdict"] == Verdict.INCONCLUSIVE and "over a factor 8 are needed" in row["note"]
