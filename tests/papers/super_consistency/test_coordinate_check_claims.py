"""Claims of the coordinate check: statistics find what is planted, controls can fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, decide, ledger
from featurespeed.papers.super_consistency.coordinate_check import claims_exponents as exponents
from featurespeed.papers.super_consistency.coordinate_check import claims_forms as forms
from featurespeed.papers.super_consistency.coordinate_check.analysis import Exponent
from featurespeed.papers.super_consistency.coordinate_check.spec import FORM_VARIANTS
from featurespeed.statistics import mean_interval
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.coordinate_check_cases import fig28_records, table1_records

CRITERIA = criteria_of("sc_coordinate_check")
TABLES = {"sc_fig28": fig28_records(), "sc_table1": table1_records()}


def verdicts(tables: dict) -> dict[str, str]:
    """Verdicts of the claims on these stage tables."""
    claims, _ = ledger([c for c in CRITERIA if c.compute and c.artefact in tables], tables, "planted")
    return dict(zip(claims["claim_id"], claims["verdict"], strict=True))


def test_tables_as_stated_confirm_every_claim():
    assert set(verdicts(TABLES).values()) == {Verdict.CONFIRMED}


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) == statistics_of("sc_coordinate_check")


# --- Figure 28 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "expected"), [(0.0, "confirmed"), (0.3, "contradicted"), (-0.3, "contradicted")])
def test_slope_of_mup_decides_its_claim(slope, expected):
    table = fig28_records()
    mup = (table["case"] == "convnet") & (table["parameterization"] == "MUP") & (table["optimizer"] == "sgd")
    tilted = table.assign(value=table["value"].where(~mup, table["value"] * table["width"] ** slope))
    found = verdicts({"sc_fig28": tilted})
    assert found["sc_fig28_mup"] == found["sc_fig28_mup_readout"] == expected
    assert found["sc_fig28_mup_adam"] == Verdict.CONFIRMED


@pytest.mark.parametrize("label", ["ViT", "GPT", "post-LN"])
@pytest.mark.parametrize(("name", "claim"), [("MUP", "mup"), ("DEPTH_MUP", "depth_mup")])
def test_slope_of_a_transformer_decides_its_own_claim_alone(label, name, claim):
    table = fig28_records()
    own = (table["case"] == f"transformer | {label}") & (table["parameterization"] == name)
    tilted = table.assign(value=table["value"].where(~own, table["value"] * table["width"] ** 0.2))
    found = verdicts({"sc_fig28": tilted})
    judged = f"sc_fig28_{label.lower().replace('-', '_')}_{claim}"
    assert {name for name, verdict in found.items() if verdict != Verdict.CONFIRMED} == {judged}
    assert found[judged] == Verdict.CONTRADICTED


def test_a_transformer_in_sp_that_comes_out_flat_leaves_its_claims_open():
    table = fig28_records()
    own = (table["case"] == "transformer | GPT") & (table["parameterization"] == "SP")
    flat = table.assign(value=table["value"].where(~own, table["value"] / table["width"]))
    found = verdicts({"sc_fig28": flat})
    assert found["sc_fig28_gpt_mup"] == found["sc_fig28_gpt_depth_mup"] == Verdict.INCONCLUSIVE
    assert found["sc_fig28_sp_adam"] == found["sc_fig28_vit_mup"] == Verdict.CONFIRMED


def test_a_wrong_rule_that_comes_out_flat_leaves_nothing_confirmed():
    found = verdicts({"sc_fig28": fig28_records(wrong_rule=0.0)})
    assert found["sc_discrepancy_sec2_readout"] == Verdict.CONTRADICTED
    assert found["sc_fig28_mup"] == found["sc_fig28_depth_mup"] == Verdict.INCONCLUSIVE


def test_two_widths_or_a_dead_seed_cannot_decide_a_slope():
    table, statistic = fig28_records(), STATISTICS["slope of the feature update in N, muP, SGD"]
    with pytest.raises(Undecidable, match="2 widths"):
        statistic({"sc_fig28": table[table["width"] < 200]})
    dead = (table["seed"] == 1) & (table["quantity"] == "feature_update_rms")
    with pytest.raises(Undecidable, match="1 seeds have an update of exactly 0"):
        statistic({"sc_fig28": table.assign(value=table["value"].where(~dead, 0.0))})


# --- Table 1 ----------------------------------------------------------------------------------------------------------


def tilted(power: float, **keys: object) -> dict:
    """Table 1 as stated, but for updates of the first step that grow by another power of the size."""
    table = table1_records()
    hit = table["quantity"].isin([*exponents.OUTCOMES, "feature_update_rms"])
    for name, wanted in keys.items():
        hit &= table[name] == wanted
    size = table["depth" if keys.get("case") == "depth" else "width"]
    return {"sc_table1": table.assign(value=table["value"].where(~hit, table["value"] * size**power))}


def test_one_layer_off_by_half_contradicts_its_parameterization_alone():
    found = verdicts(tilted(0.5, parameterization="NTP", quantity="effective_update_rms", layer=3))
    assert {claim for claim, verdict in found.items() if verdict == Verdict.CONTRADICTED} == {"sc_table1_ntp_sgd"}


def test_sizes_at_initialisation_are_not_judged():
    table = table1_records()
    start = table["quantity"] == "activation_rms"
    found = verdicts({"sc_table1": table.assign(value=table["value"].where(~start, table["width"]))})
    assert set(found.values()) == {Verdict.CONFIRMED}


def exponent(name: str, stated: float | None, values: list[float], left_out: int = 0) -> Exponent:
    return Exponent(name, "update", stated, mean_interval(values), 1.0, left_out)


def test_distance_names_the_farthest_exponent_and_bounds_all_of_them():
    seeds = np.array([-0.1, 0.0, 0.1])
    found = [exponent("hidden 1", 0.0, 0.1 + seeds), exponent("hidden 2", 0.5, 0.9 + seeds)]
    estimate = exponents.distance([*found, Exponent("input", "update", None, None, 0.0)])
    below, above = (stats.t.ppf(1 - 0.025 / n, 2) * 0.1 / 3**0.5 for n in (2, 1))  # Bonferroni below
    assert (estimate.value, estimate.ci_low, estimate.ci_high) == pytest.approx((0.4, 0.4 - below, 0.4 + above))
    assert estimate.n == 3 and "hidden 2, update, 0.900, stated 0.5" in estimate.note


def test_a_seed_that_is_left_out_cannot_be_decided():
    with pytest.raises(Undecidable, match="readout, update: some values are exactly 0"):
        exponents.distance([exponent("readout", 0.0, [0.1, 0.2], left_out=1)])


def test_a_layer_that_should_move_and_does_not_cannot_be_decided():
    table = table1_records()
    still = (table["parameterization"] == "MUP") & (table["series"] == "hidden") & (table["optimizer"] == "sgd")
    with pytest.raises(Undecidable, match="hidden 1, effective_update_rms: some values are exactly 0"):
        STATISTICS["distance from the exponents in N of MUP, MUP with sgd"](
            {"sc_table1": table.assign(value=table["value"].where(~still, 0.0))}
        )


def test_updates_of_another_parameterization_fail_against_stated_exponents():
    for name, other in exponents.OTHER.items():
        control = STATISTICS[f"distance from the exponents in N of {name}, {other} with sgd"](TABLES)
        assert decide(control, Threshold(-np.inf, 0.25)) is Verdict.CONTRADICTED


def test_depth_claims_fail_where_updates_grow_with_the_depth():
    claims = ("sc_table1_depth_sgd", "sc_table1_depth_adam", "sc_discrepancy_j4_rate")
    found = verdicts(tilted(1.0, case="depth"))
    assert {found[claim] for claim in claims} == {Verdict.CONTRADICTED}
    # Features alone are a claim of their own under SGD.
    found = verdicts(tilted(0.5, case="depth", series="features"))
    assert [found[claim] for claim in claims] == ["confirmed", "contradicted", "contradicted"]


@pytest.mark.parametrize("series", ["hidden", "readout", "features"])
def test_a_matrix_or_the_features_of_a_transformer_off_by_half_contradict_it(series):
    found = verdicts(tilted(0.5, case="width | GPT", parameterization="MUP", series=series))
    assert {claim for claim, verdict in found.items() if verdict != Verdict.CONFIRMED} == {"sc_table1_gpt_width"}
    assert found["sc_table1_gpt_width"] == Verdict.CONTRADICTED


@pytest.mark.parametrize("series", ["bias", "gain", "positions"])
def test_vectors_of_a_transformer_are_not_judged(series):
    found = verdicts(tilted(0.5, case="width | post-LN", series=series))
    assert set(found.values()) == {Verdict.CONFIRMED}


def test_features_of_a_transformer_that_grow_with_the_depth_contradict_it_alone():
    table = table1_records()
    own = (
        (table["case"] == "depth | ViT") & (table["parameterization"] == "DEPTH_MUP") & (table["series"] == "features")
    )
    grown = table.assign(value=table["value"].where(~own, table["value"] * table["depth"]))
    found = verdicts({"sc_table1": grown})
    assert {claim for claim, verdict in found.items() if verdict != Verdict.CONFIRMED} == {"sc_table1_vit_depth"}


@pytest.mark.parametrize(
    ("size", "key"), [("width", "N of muP, GPT, MUP"), ("depth", "L of Depth-muP, GPT, DEPTH_MUP")]
)
def test_a_transformer_of_two_sizes_cannot_be_decided(size, key):
    table = table1_records()
    own = table["case"] == f"{size} | GPT"
    few = table[~own | (table[size] != table.loc[own, size].min())]
    with pytest.raises(Undecidable, match=f"2 {size}s: at least 3"):
        STATISTICS[f"distance from the exponents in {key} with adam"]({"sc_table1": few})


def test_forms_of_the_ledger_are_those_that_the_stage_compares():
    assert {*forms.SAME, *forms.DIFFERENT} == set(FORM_VARIANTS)


def test_forms_that_differ_where_they_must_not_and_agree_where_they_must_differ_are_contradicted():
    table = table1_records()
    swap = {"sgd": 1e-3, "adam, one eps": 1e-15}
    value = table["series"].map(swap).where(table["case"] == "forms").fillna(table["value"])
    value *= 1 + 0.1 * table["seed"]
    found = verdicts({"sc_table1": table.assign(value=value)})
    assert found["sc_table1_forms_sgd"] == found["sc_table1_forms_one_eps"] == Verdict.CONTRADICTED
    assert found["sc_table1_forms_adam"] == Verdict.CONFIRMED


def test_curves_that_do_not_depend_on_the_seed_confirm_nothing():
    table = table1_records()
    alike = table["value"].where(table["case"] != "forms of different seeds", 1e-15)
    assert verdicts({"sc_table1": table.assign(value=alike)})["sc_table1_forms_sgd"] == Verdict.INCONCLUSIVE


def test_least_parameterization_counts_where_forms_must_differ():
    table = table1_records()
    one = (table["series"] == "adam, one eps") & (table["parameterization"] == "MUP")
    tables = {"sc_table1": table.assign(value=table["value"].where(~one, 0.0))}
    found = STATISTICS["difference of the training curves, adam, one eps"](tables)
    assert found.value == pytest.approx(forms.SMALLEST) and found.ci_high < 1e-6
