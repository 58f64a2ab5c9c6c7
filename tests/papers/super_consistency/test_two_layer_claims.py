"""Claims about the two-layer linear network: a small run confirms what holds, and what is planted is found."""

from __future__ import annotations

import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, ledger
from featurespeed.papers.super_consistency.two_layer import claims as two_layer
from featurespeed.papers.super_consistency.two_layer.spec import ToySpec, TwoLayerRunsSpec, TwoLayerTheorySpec
from tests.conftest import load_script
from tests.papers.cases import criteria_of
from tests.papers.super_consistency.two_layer_cases import RUNS, THEORY, TOY

CRITERIA = criteria_of("sc_two_layer")
PRINTS = {  # what the paper prints and is not so
    "sc_discrepancy_residual_sign",
    "sc_discrepancy_prop53_edge",
    "sc_discrepancy_c1_rate",
    "sc_discrepancy_appd_softmax",
    "sc_discrepancy_fig10_condition",
}
SMALL = {
    "sc_theory": ("two_layer_theory", TwoLayerTheorySpec, THEORY | {
        "seeds": 3,
        "edge": THEORY["edge"] | {"lowest": 0.9, "highest": 1.02, "shares": 13, "steps": 600},
        "initialisation": {"input_dim": 3, "widths": [16, 64, 256], "draws": 150},
        "limit": {"input_dim": 3, "widths": [16, 128, 1024], "learning_rate": 0.5, "steps": 8},
        "softmax": {"classes": 3, "margins": [0, 20]},
    }),
    "sc_fig05": ("two_layer", TwoLayerRunsSpec, RUNS | {
        "widths": [8, 32, 128, 512, 2048], "input_dim": 8, "samples": 32, "seeds": 3, "probe_steps": [0, 200]}),
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
    used = {c.compute for c in CRITERIA} | {c.control.compute for c in CRITERIA}
    assert used == {name for name, function in STATISTICS.items() if function.__module__ == two_layer.__name__}


def test_small_runs_confirm_what_holds_and_contradict_what_is_printed(tables):
    found = verdicts(tables)
    # The exponent -0.46 belongs to D = 100 and N from 64 to 4096; the other three need more widths and seeds.
    expected = {name: Verdict.CONTRADICTED if name in PRINTS else Verdict.CONFIRMED for name in found}
    expected |= {name: found[name] for name in ("sc_fig10_toy_ntp", "sc_prop_c1", "sc_prop_c1_w", "sc_cor54")}
    assert found["sc_fig10_toy_ntp"] == Verdict.INCONCLUSIVE
    assert found == expected


@pytest.mark.parametrize(("exponent", "verdict"), [(-0.5, Verdict.CONFIRMED), (-1.0, Verdict.CONTRADICTED)])
def test_rates_of_concentration_are_those_that_are_planted(tables, exponent, verdict):
    table = tables["sc_theory"]
    rate = table["width"].astype(float) ** exponent * (1 + 0.01 * table["seed"])
    names = ["e from its limit", "v from its limit", "w", "from infinite width"]
    hit = table["series"].isin(names) & (table["parameterization"] == "MUP")
    planted = tables | {"sc_theory": table.assign(value=table["value"].where(~hit, rate))}
    found = verdicts(planted, "sc_prop_c1", "sc_prop_c1_kernel", "sc_prop_c1_w", "sc_discrepancy_c1_rate", "sc_cor54")
    assert found.pop("sc_discrepancy_c1_rate") == Verdict.CONTRADICTED
    assert found.pop("sc_cor54") == Verdict.CONFIRMED  # at least as fast as stated
    assert set(found.values()) == {verdict}


def test_one_wrong_step_of_the_laws_contradicts_the_theorem(tables):
    theory = changed(tables["sc_theory"], 1e-11, series="one step", step=3, width=4, seed=1)
    assert verdicts(tables | {"sc_theory": theory}, "sc_thm51")["sc_thm51"] == Verdict.CONTRADICTED


def test_one_gap_beyond_the_bound_contradicts_the_lemma(tables):
    theory = changed(tables["sc_theory"], 1.001, series="gap over bound", step=0, seed=1)
    found = verdicts(tables | {"sc_theory": theory}, "sc_lemma52", "sc_lemma52_attained")
    assert found["sc_lemma52"] == Verdict.CONTRADICTED and found["sc_lemma52_attained"] == Verdict.CONFIRMED


def test_runs_at_the_printed_edge_would_confirm_it(tables):
    theory = tables["sc_theory"]
    edges = theory[theory["series"] == "printed edge over 2/learning rate"]
    keys = ["parameterization", "width", "seed", "index"]
    planted = edges.assign(series="sharpness over 2/learning rate", value=edges["value"] * 0.99)
    kept = theory[theory["series"] != "sharpness over 2/learning rate"]
    assert not planted.duplicated(keys).any()
    edge = ("sc_discrepancy_prop53_edge", "sc_prop53", "sc_prop53_edge_reached")
    found = verdicts(tables | {"sc_theory": pd.concat([kept, planted])}, *edge)
    assert found["sc_discrepancy_prop53_edge"] == Verdict.CONFIRMED
    assert found["sc_prop53"] == found["sc_prop53_edge_reached"] == Verdict.CONTRADICTED


def test_runs_far_from_the_edge_cannot_say_where_it_is(tables):
    theory = changed(tables["sc_theory"], 0.9, series="sharpness over 2/learning rate")
    assert (
        verdicts(tables | {"sc_theory": theory}, "sc_discrepancy_prop53_edge")["sc_discrepancy_prop53_edge"]
        == Verdict.INCONCLUSIVE
    )


def test_sharpening_that_grows_with_the_width_contradicts_and_few_widths_cannot_decide(tables):
    table = tables["sc_fig05"]
    swapped = table.assign(parameterization=table["parameterization"].map({"MUP": "NTP", "NTP": "MUP"}))
    assert (
        verdicts(tables | {"sc_fig05": swapped}, "sc_fig5_ntp_sharpening")["sc_fig5_ntp_sharpening"]
        != Verdict.CONFIRMED
    )
    with pytest.raises(Undecidable, match="4 widths: at least 5"):
        STATISTICS["rank correlation of the sharpening factor with N, NTP"]({"sc_fig05": table[table["width"] > 8]})


def test_a_run_that_converges_above_one_counts_against_the_condition(tables):
    toy = changed(tables["sc_fig10"], True, "converged", parameterization="MUP", learning_rate=1.1)
    assert verdicts(tables | {"sc_fig10": toy}, "sc_fig10_cycles")["sc_fig10_cycles"] == Verdict.CONTRADICTED


def test_a_toy_that_has_not_converged_cannot_decide(tables):
    toy = changed(tables["sc_fig10"], False, "converged", parameterization="MUP", learning_rate=0.5, width=64, seed=0)
    assert verdicts(tables | {"sc_fig10": toy}, "sc_fig5_toy_mup")["sc_fig5_toy_mup"] == Verdict.INCONCLUSIVE
