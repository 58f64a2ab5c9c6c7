"""Claims of the coordinate check: statistics find what is planted, controls can fail."""

from __future__ import annotations

import numpy as np
import pytest

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import STATISTICS, Estimate, Undecidable, Verdict, decide, ledger
from featurespeed.papers.super_consistency.coordinate_check import claims as coordinates
from featurespeed.papers.super_consistency.coordinate_check import claims_exponents as exponents
from featurespeed.papers.super_consistency.coordinate_check import claims_forms as forms
from featurespeed.papers.super_consistency.coordinate_check.analysis import Exponent, width_table
from featurespeed.papers.super_consistency.coordinate_check.spec import FORM_VARIANTS
from featurespeed.statistics import Interval
from tests.papers.cases import criteria_of
from tests.papers.super_consistency.coordinate_check_cases import fig28_records, table1_records

CRITERIA = criteria_of("sc_coordinate_check")
TABLES = {"sc_fig28": fig28_records(), "sc_table1": table1_records()}


def verdicts(tables: dict) -> dict[str, str]:
    """Verdicts of the claims on these stage tables."""
    claims, _ = ledger([c for c in CRITERIA if c.compute and c.artefact in tables], tables, "planted")
    return dict(zip(claims["claim_id"], claims["verdict"], strict=True))


def test_tables_as_stated_confirm_every_claim_but_the_wrong_print():
    found = verdicts(TABLES)
    assert found.pop("sc_discrepancy_sec2_readout") == Verdict.CONTRADICTED
    assert set(found.values()) == {Verdict.CONFIRMED}


# --- Figure 28 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "expected"), [(0.0, "confirmed"), (0.3, "contradicted"), (-0.3, "contradicted")])
def test_slope_of_mup_decides_its_claim(slope, expected):
    table = fig28_records()
    mup = (table["case"] == "convnet") & (table["parameterization"] == "MUP") & (table["optimizer"] == "sgd")
    tilted = table.assign(value=table["value"].where(~mup, table["value"] * table["width"] ** slope))
    found = verdicts({"sc_fig28": tilted})
    for claim in ("sc_fig28_mup", "sc_fig28_mup_first", "sc_fig28_mup_readout"):
        assert found[claim] == expected
    assert found["sc_fig28_mup_adam"] == Verdict.CONFIRMED


def test_a_wrong_rule_that_comes_out_flat_leaves_nothing_confirmed():
    found = verdicts({"sc_fig28": fig28_records(wrong_rule=0.0)})
    assert found["sc_fig28_wrong_rule"] == Verdict.CONTRADICTED
    assert found["sc_fig28_mup"] == found["sc_fig28_depth_mup"] == Verdict.INCONCLUSIVE


def test_random_features_that_move_are_contradicted_however_little():
    table = fig28_records()
    moved = (table["parameterization"] == "RANDOM_FEATURES") & (table["quantity"] == "feature_update_rms")
    found = verdicts({"sc_fig28": table.assign(value=table["value"].where(~moved, 1e-12))})
    assert found["sc_fig28_random_features"] == Verdict.CONTRADICTED


def test_two_widths_or_a_dead_seed_cannot_decide_a_slope():
    table, statistic = fig28_records(), STATISTICS["slope of the feature update in N, muP, SGD, last step"]
    with pytest.raises(Undecidable, match="2 widths"):
        statistic({"sc_fig28": table[table["width"] < 200]})
    dead = (table["seed"] == 1) & (table["quantity"] == "feature_update_rms")
    with pytest.raises(Undecidable, match="1 seeds have an update of exactly 0"):
        statistic({"sc_fig28": table.assign(value=table["value"].where(~dead, 0.0))})


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((0.3, 0.2, 0.5), (0.3, 0.2, 0.5)), ((-0.3, -0.5, -0.2), (0.3, 0.2, 0.5)), ((-0.1, -0.4, 0.2), (0.1, 0.0, 0.4))],
)
def test_absolute_value_of_an_interval(interval, expected):
    found = coordinates.absolute(Estimate(*interval, 9))
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(expected)


# --- Table 1 ----------------------------------------------------------------------------------------------------------


def test_one_layer_off_by_half_contradicts_its_parameterization_alone():
    table = table1_records()
    off = (table["parameterization"] == "NTP") & (table["quantity"] == "effective_update_rms") & (table["layer"] == 3)
    tilted = table.assign(value=table["value"].where(~off, table["value"] * table["width"] ** 0.5))
    found = verdicts({"sc_table1": tilted})
    assert {claim for claim, verdict in found.items() if verdict == Verdict.CONTRADICTED} == {"sc_table1_ntp_sgd"}


def test_distance_names_the_farthest_exponent_and_bounds_all_of_them():
    measured = {0.0: Interval(0.1, -0.1, 0.3, 9, ""), 0.5: Interval(0.9, 0.7, 1.1, 7, "")}
    found = [Exponent(f"hidden {i}", "update", s, m, 1.0) for i, (s, m) in enumerate(measured.items())]
    estimate = exponents.distance([*found, Exponent("input", "update", None, None, 0.0)], strict=True)
    assert (estimate.value, estimate.ci_low, estimate.ci_high, estimate.n) == pytest.approx((0.4, 0.2, 0.6, 7))
    assert "hidden 1, update, 0.900, stated 0.5" in estimate.note


def test_a_layer_that_should_move_and_does_not_cannot_be_decided_and_is_no_zero():
    table = table1_records()
    still = (table["parameterization"] == "MUP") & (table["series"] == "hidden") & (table["optimizer"] == "sgd")
    tables = {"sc_table1": table.assign(value=table["value"].where(~still, 0.0))}
    with pytest.raises(Undecidable, match="hidden 1, activation_rms: some values are exactly 0"):
        STATISTICS["distance from the stated exponents in N, MUP, sgd"](tables)
    assert STATISTICS["largest of the updates that are stated to be 0"](tables).value == 0.0


def test_every_parameterization_and_optimizer_has_a_claim_and_a_control_with_other_exponents():
    threshold = Threshold(-np.inf, 0.25)
    for name, other in exponents.OTHER.items():
        rows = width_table(TABLES["sc_table1"], str(name), "sgd", str(other))
        assert decide(exponents.distance(rows, strict=False), threshold) is Verdict.CONTRADICTED


def test_depth_claims_fail_where_updates_grow_with_the_depth():
    table = table1_records()
    rows = table["case"] == "depth"
    found = verdicts(
        TABLES | {"sc_table1": table.assign(value=table["value"].where(~rows, table["value"] * table["depth"]))}
    )
    for claim in ("sc_table1_depth_sgd", "sc_table1_depth_adam", "sc_discrepancy_j4_rate"):
        assert found[claim] == Verdict.CONTRADICTED


def test_forms_of_the_ledger_are_those_that_the_stage_compares():
    assert {*forms.SAME, *forms.DIFFERENT} == set(FORM_VARIANTS)


def test_forms_that_differ_where_they_must_not_and_agree_where_they_must_differ_are_contradicted():
    table = table1_records()
    swap = {"sgd": 1e-3, "adam, one eps": 1e-15}
    value = table["series"].map(swap).where(table["case"] == "forms").fillna(table["value"])
    found = verdicts({"sc_table1": table.assign(value=value)})
    assert found["sc_table1_forms_sgd"] == found["sc_table1_forms_one_eps"] == Verdict.CONTRADICTED
    # Their control no longer fails, so these are confirmed by nothing.
    assert found["sc_table1_forms_adam"] == Verdict.INCONCLUSIVE


def test_least_parameterization_counts_where_forms_must_differ():
    table = table1_records()
    one = (table["series"] == "adam, one eps") & (table["parameterization"] == "MUP")
    tables = {"sc_table1": table.assign(value=table["value"].where(~one, 0.0))}
    found = STATISTICS["difference of the training curves, adam, one eps"](tables)
    assert found.value == pytest.approx(forms.SMALLEST) and found.ci_high < 1e-6
