"""Claims about the two-layer linear network: a small run confirms what holds, and what is planted is found."""

from __future__ import annotations

import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.two_layer.spec import ToySpec, TwoLayerRunsSpec, TwoLayerTheorySpec
from tests.conftest import load_script
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.two_layer_cases import RUNS, THEORY, TOY

CRITERIA = criteria_of("sc_two_layer")
SMALL = {
    "sc_theory": ("two_layer_theory", TwoLayerTheorySpec, THEORY | {
        "seeds": 3,
        "edge": THEORY["edge"] | {"lowest": 0.9, "highest": 1.5, "shares": 21, "steps": 600},
        "initialisation": {"input_dim": 3, "widths": [16, 64, 256], "draws": 150},
        "limit": {"input_dim": 3, "widths": [16, 128, 1024], "learning_rate": 0.5, "steps": 8},
        "softmax": {"classes": 3, "margins": [0, 20]},
    }),
    "sc_fig05": ("two_layer", TwoLayerRunsSpec, RUNS | {
        "widths": [8, 32, 128, 512, 2048], "input_dim": 8, "samples": 32, "seeds": 3, "probe_steps": [0, 10, 60, 200]}),
    "sc_fig10": ("two_layer_toy", ToySpec, TOY | {
        "input_dim": 20, "widths": [64, 256, 1024], "learning_rates": {"MUP": [0.5, 0.9, 1.1], "NTP": [1, 2]},
        "seeds": 12, "steps": 200, "shown_steps": 1, "probes": 2}),
}  # fmt: skip


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: load_script(script).main(kind.model_validate(spec)) for name, (script, kind, spec) in SMALL.items()}


def verdicts(tables: dict[str, pd.DataFrame], *claims_judged: str) -> dict[str, str]:
    """Verdicts of the claims named, or of all."""
    criteria = [c for c in CRITERIA if not claims_judged or c.claim_id in claims_judged]
    claims, _ = ledger(criteria, tables, "small")
    return dict(zip(claims["claim_id"], claims["verdict"], strict=True))


def changed(table: pd.DataFrame, value: object, column: str = "value", **keys: object) -> pd.DataFrame:
    hit = pd.Series(True, index=table.index)
    for name, wanted in keys.items():
        hit &= table[name] == wanted
    assert hit.any()
    return table.assign(**{column: table[column].where(~hit, value)})


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) == statistics_of("sc_two_layer")


def test_small_runs_confirm_what_holds(tables):
    found = verdicts(tables)
    # The exponent -0.46 belongs to D = 100 and N from 64 to 4096; the others need more widths, draws and seeds.
    larger = {"sc_fig10_toy_ntp", "sc_prop_c1", "sc_prop_c1_w", "sc_cor54"} | {
        name for name in found if "variance" in name
    }
    assert found["sc_fig10_toy_ntp"] == Verdict.INCONCLUSIVE
    assert Verdict.CONTRADICTED not in found.values()
    assert {verdict for name, verdict in found.items() if name not in larger} == {Verdict.CONFIRMED}


def test_no_control_has_the_numbers_of_its_claim(tables):
    assert faults(CRITERIA, tables) == []


def test_printed_slips_would_be_confirmed_by_nothing_that_holds(tables):
    """What is printed lies outside the threshold of what holds: planted, it contradicts the row."""
    theory = tables["sc_theory"]
    wrong = theory.assign(value=theory["value"].where(theory["series"] != "H = G + R, residual f - y", 1.0))
    wrong = changed(wrong, 1 + 0.01 * wrong["seed"], series="cross-entropy", step=20)
    rate = theory["series"] == "e from its limit"
    wrong = wrong.assign(value=wrong["value"].where(~rate, theory["width"] ** 0.5 * (1 + 0.01 * theory["seed"])))
    toy = tables["sc_fig10"]
    edge = (toy["case"] == "terminal") & (toy["quantity"] == "sharpness")
    toy = toy.assign(value=toy["value"].where(~edge, 2 / toy["learning_rate"] + 0.01 * toy["seed"]))
    names = ("residual_sign", "appd_softmax", "c1_rate")
    found = verdicts(
        {"sc_theory": wrong, "sc_fig10": toy}, "sc_discrepancy_fig10_condition", *(f"sc_discrepancy_{n}" for n in names)
    )
    assert len(found) == 4 and set(found.values()) == {Verdict.CONTRADICTED}


@pytest.mark.parametrize(("exponent", "verdict"), [(-0.5, Verdict.CONFIRMED), (-1.0, Verdict.CONTRADICTED)])
def test_rates_of_concentration_are_those_that_are_planted(tables, exponent, verdict):
    table = tables["sc_theory"]
    rate = table["width"].astype(float) ** exponent * (1 + 0.01 * table["seed"])
    names = ["e from its limit", "v from its limit", "w", "from infinite width"]
    hit = table["series"].isin(names) & (table["parameterization"] == "MUP")
    planted = tables | {"sc_theory": table.assign(value=table["value"].where(~hit, rate))}
    found = verdicts(planted, "sc_prop_c1", "sc_prop_c1_w", "sc_discrepancy_c1_rate", "sc_cor54")
    assert found.pop("sc_cor54") == Verdict.CONFIRMED  # at least as fast as stated
    assert set(found.values()) == {verdict}


def test_spread_of_v_is_judged_about_the_mean_that_is_stated(tables):
    """Twice the variance is found, and so is a mean elsewhere, which the variance of the sample would not see."""
    theory = tables["sc_theory"]
    v = (theory["case"] == "initialisation") & (theory["series"] == "v") & (theory["parameterization"] == "SP")
    for value in (1 + (theory["value"] - 1) * 2**0.5, theory["value"] + 1):
        planted = theory.assign(value=theory["value"].where(~v, value))
        found = verdicts({"sc_theory": planted}, "sc_discrepancy_c3_variance")
        assert found["sc_discrepancy_c3_variance"] == Verdict.CONTRADICTED


def test_one_wrong_step_of_the_laws_contradicts_the_theorem(tables):
    theory = changed(tables["sc_theory"], 1e-11, series="one step", step=3, width=4, seed=1)
    assert verdicts(tables | {"sc_theory": theory}, "sc_thm51")["sc_thm51"] == Verdict.CONTRADICTED


def test_one_gap_beyond_the_bound_contradicts_the_lemma(tables):
    theory = changed(tables["sc_theory"], 1.001, series="gap over bound", step=0, seed=1)
    found = verdicts(tables | {"sc_theory": theory}, "sc_lemma52", "sc_lemma52_attained")
    assert found["sc_lemma52"] == Verdict.CONTRADICTED and found["sc_lemma52_attained"] == Verdict.CONFIRMED


def test_runs_at_the_printed_edge_contradict_what_holds(tables):
    theory = tables["sc_theory"]
    edges = theory[theory["series"] == "printed edge over 2/learning rate"]
    planted = edges.assign(series="sharpness over 2/learning rate", value=edges["value"] * 0.99)
    kept = theory[theory["series"] != "sharpness over 2/learning rate"]
    found = verdicts({"sc_theory": pd.concat([kept, planted])}, "sc_discrepancy_prop53_edge")
    assert found["sc_discrepancy_prop53_edge"] == Verdict.CONTRADICTED


def test_runs_that_converge_where_only_the_printed_edge_lets_them_contradict_what_holds(tables):
    theory, seeds = tables["sc_theory"], range(3)
    edge = theory[(theory["case"] == "edge") & (theory["parameterization"] == "MUP")]
    tried = edge[(edge["series"] == "least sharpness over 2/learning rate") & edge["value"].between(1.2, 1.3)]
    hit = theory["case"].eq("edge") & theory["learning_rate"].isin(tried["learning_rate"])
    converged = theory["value"].where(~(hit & (theory["series"] == "run")), 1.0)
    converged = converged.where(~(hit & (theory["series"] == "sharpness over 2/learning rate")), 1.25)
    estimate = STATISTICS["largest sharpness of converged runs over 2/eta_0"](
        {"sc_theory": theory.assign(value=converged)}
    )
    assert estimate.sample == (1.25,) * len(seeds)


@pytest.mark.parametrize("share", [0.97, 1.2])
def test_rates_on_one_side_of_the_edge_only_leave_it_open(tables, share):
    theory = changed(tables["sc_theory"], share, series="least sharpness over 2/learning rate")
    found = verdicts({"sc_theory": theory}, "sc_discrepancy_prop53_edge")
    assert found["sc_discrepancy_prop53_edge"] == Verdict.INCONCLUSIVE


def test_runs_that_settle_far_below_the_edge_contradict_that_it_is_there(tables):
    theory = tables["sc_theory"]
    ratio = theory["series"] == "sharpness over 2/learning rate"
    lower = theory["value"].where(~ratio, 0.8 * theory["value"])
    found = verdicts({"sc_theory": theory.assign(value=lower)}, "sc_discrepancy_prop53_edge")
    assert found["sc_discrepancy_prop53_edge"] == Verdict.CONTRADICTED


@pytest.mark.parametrize(("step", "verdict"), [(60, Verdict.CONTRADICTED), (10, Verdict.CONFIRMED)])
def test_the_gauss_newton_share_is_judged_over_the_last_three_quarters(tables, step, verdict):
    table = tables["sc_fig05"]
    hit = (table["quantity"] == "gauss_newton_eigenvalue") & (table["step"] == step) & (table["width"] == 32)
    planted = table.assign(value=table["value"].where(~hit, 1.3 * table["value"]))
    assert verdicts({"sc_fig05": planted}, "sc_fig5_gauss_newton")["sc_fig5_gauss_newton"] == verdict


def test_sharpening_that_does_not_fade_contradicts_and_few_widths_or_a_fall_cannot_decide(tables):
    table, name = tables["sc_fig05"], "exponent in N of the rise of the sharpness, NTP"
    swapped = table.assign(parameterization=table["parameterization"].map({"MUP": "NTP", "NTP": "MUP"}))
    found = verdicts({"sc_fig05": swapped}, "sc_fig5_ntp_sharpening")
    assert found["sc_fig5_ntp_sharpening"] == Verdict.CONTRADICTED
    with pytest.raises(Undecidable, match="2 widths: at least 3"):
        STATISTICS[name]({"sc_fig05": table[table["width"] > 128]})
    flat = changed(table, 1e-3, quantity="sharpness", step=200, width=8, seed=1)
    with pytest.raises(Undecidable, match="the sharpness of a run does not rise"):
        STATISTICS[name]({"sc_fig05": flat})


def test_seeds_count_once_however_many_of_their_runs_converge(tables):
    """One seed of twelve that converges leaves the claim open; all of them, at one width only, contradict it."""
    keys = {"parameterization": "MUP", "learning_rate": 1.1, "width": 64}
    one = STATISTICS["share of seeds of the toy that converge above eta_0 = 1"](
        {"sc_fig10": changed(tables["sc_fig10"], True, "converged", seed=3, **keys)}
    )
    assert (one.value, one.n) == (pytest.approx(1 / 12), 12)
    toy = changed(tables["sc_fig10"], True, "converged", **keys)
    assert verdicts({"sc_fig10": toy}, "sc_fig10_cycles")["sc_fig10_cycles"] == Verdict.CONTRADICTED


def test_a_toy_that_has_not_converged_cannot_decide(tables):
    toy = changed(tables["sc_fig10"], False, "converged", parameterization="MUP", learning_rate=0.5, width=64, seed=0)
    assert (
        verdicts(tables | {"sc_fig10": toy}, "sc_discrepancy_fig10_condition")["sc_discrepancy_fig10_condition"]
        == Verdict.INCONCLUSIVE
    )
