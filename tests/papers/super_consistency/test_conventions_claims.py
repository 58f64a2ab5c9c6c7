"""Claims about the conventions: statistics find what is planted, controls can fail."""

from __future__ import annotations

import pandas as pd
import pytest

from featurespeed.ledger.engine import Verdict, ledger
from featurespeed.papers.super_consistency.conventions.analysis import families, variant
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.conventions_cases import conventions, conventions_tables

CRITERIA = criteria_of("sc_conventions")
NINE, TRANSFER, EDGE = "sc_conventions_nine", "sc_conventions_transfer", "sc_conventions_edge"
NTP = "shift of the best learning rate for 16 times the width, NTP"


def row(claim: str, *arguments, **changes) -> pd.Series:
    """The row of one claim in the planted tables."""
    criteria, tables = [c for c in CRITERIA if c.claim_id == claim], conventions_tables(*arguments, **changes)
    found, _ = ledger(criteria, tables, "planted")
    return found.set_index("claim_id").loc[claim]


def test_tables_as_claimed_confirm_every_claim_and_every_control_fails():
    found, _ = ledger(CRITERIA, conventions_tables(), "planted")
    assert len(found) == 3 and set(found["verdict"]) == {Verdict.CONFIRMED}, found["note"]
    assert found["control"].str.endswith("fails, as it must").all()


def test_a_network_that_overflows_at_the_start_is_undecidable_by_name():
    """As one does whose derivatives are not finite at step 0: nothing is measured there."""
    tables = conventions_tables()
    own = tables["sc_conventions"]
    without = own[(own["series"] != "ConvNet, average pooling") | (own["quantity"] != "sharpness")]
    without.attrs |= own.attrs
    found = ledger(CRITERIA, tables | {"sc_conventions": without}, "planted")[0].set_index("claim_id")
    assert found.loc[TRANSFER, "verdict"] == Verdict.INCONCLUSIVE
    assert "ConvNet, average pooling: no sharpness at step 0" in found.loc[TRANSFER, "note"]
    assert "no sharpness at step 0" in found.loc[NINE, "control"]


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_start_without_a_logarithm_is_undecidable(value):
    tables = conventions_tables()
    own = tables["sc_conventions"]
    dead = (own["series"] == "3-layer ConvNet, ours") & (own["quantity"] == "sharpness")
    changed = own.assign(value=own["value"].mask(dead, value))
    found = ledger(CRITERIA, tables | {"sc_conventions": changed}, "planted")[0].set_index("claim_id").loc[EDGE]
    assert found["verdict"] == Verdict.INCONCLUSIVE and "3 of 3 values are no numbers" in found["note"]


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) - {NTP} == statistics_of("sc_conventions")


def test_planted_numbers_are_found():
    own = variant(conventions(), "ConvNet, without the nine")
    assert own.log2_rates() == pytest.approx([-2] * 3, abs=0.1)
    assert own.levels() == pytest.approx([0.05] * 3, rel=0.02)
    moving = variant(conventions(power={"ConvNet": 0.5}), "ConvNet")
    assert moving.shifts() == pytest.approx([2] * 3, abs=0.2)  # of 0.5 log2(16)


def test_families_hold_the_base_then_single_choices_then_the_other_convention():
    found = families(conventions())
    assert list(found) == ["SimpleConvNet", "ConvNet"]
    assert found["ConvNet"] == [
        "ConvNet", "ConvNet, average pooling", "ConvNet, without the nine", "3-layer ConvNet, ours",
    ]  # fmt: skip


@pytest.mark.parametrize("family", ["SimpleConvNet", "ConvNet"])
def test_the_family_in_which_the_nine_moves_least_decides(family):
    found = row(NINE, {f"{family}, without the nine": -0.4})
    assert found["verdict"] == Verdict.CONTRADICTED and found["value"] == pytest.approx(0.4, abs=0.05)
    assert f"{family}, without the nine: 0." in found["note"]


def test_pooling_that_moves_the_best_rate_as_much_takes_the_control_away():
    falls = {"SimpleConvNet, average pooling": -2.0, "ConvNet, average pooling": -2.0}
    found = row(NINE, falls)
    assert found["verdict"] == Verdict.INCONCLUSIVE and "the negative control does not fail" in found["note"]


@pytest.mark.parametrize("label", ["SimpleConvNet, stride 1", "3-layer ConvNet, ours", "ConvNet"])
def test_one_network_whose_best_rate_follows_the_width_contradicts_transfer(label):
    found = row(TRANSFER, power={label: -0.5})
    assert found["verdict"] == Verdict.CONTRADICTED and found["value"] == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("label", ["2-layer ConvNet, ours", "3-layer ConvNet, ours"])
def test_our_network_that_starts_as_far_from_the_edge_contradicts(label):
    found = row(EDGE, start={label: 0.1})
    assert found["verdict"] == Verdict.CONTRADICTED and found["value"] == pytest.approx(2, rel=0.05)
    assert "sharpness(0) * eta_0/2: SimpleConvNet: 0.05, 2-layer ConvNet, ours: 0." in found["note"]


def test_pooling_that_changes_the_start_as_much_takes_the_control_away():
    starts = {"SimpleConvNet, average pooling": 0.5, "ConvNet, average pooling": 0.5}
    found = row(EDGE, start=starts)
    assert found["verdict"] == Verdict.INCONCLUSIVE and "the negative control does not fail" in found["note"]


@pytest.mark.parametrize(
    ("claim", "label"),
    [(NINE, "ConvNet, without the nine"), (TRANSFER, "SimpleConvNet, stride 1"), (EDGE, "SimpleConvNet")],
)
def test_best_rates_at_an_end_of_the_grid_decide_nothing(claim, label):
    found = row(claim, {label: 4.0})
    assert found["verdict"] == Verdict.INCONCLUSIVE and f"{label}: best rates by width" in found["note"]


def test_a_run_without_the_variant_decides_nothing():
    table = conventions()
    spec = table.attrs["provenance"]["spec"]
    spec["base"] = {label: base for label, base in spec["base"].items() if label != "ConvNet, without the nine"}
    found, _ = ledger(CRITERIA[:1], {"sc_conventions": table}, "planted")
    assert found["verdict"].tolist() == [Verdict.INCONCLUSIVE]
    assert "none of them is 'ConvNet', without the nine" in found["note"].iloc[0]


def test_levels_do_not_depend_on_the_width_at_which_best_rates_move():
    """It is a share of 2/eta_0 at the best rate of each width: a rate and a sharpness that move together cancel."""
    still, moving = (variant(conventions(power={"ConvNet": p}), "ConvNet").levels() for p in (0.0, 0.5))
    assert moving == pytest.approx(still, rel=0.02)
