"""Claims beyond the edge of stability: statistics find what is planted, controls can fail, what is missing is said."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS, Verdict, ledger
from featurespeed.papers.edge_of_stability.descent import claims_features as features
from featurespeed.papers.edge_of_stability.descent import claims_rates as rates
from featurespeed.papers.edge_of_stability.descent import claims_stability as stability
from tests.papers.cases import criteria_of
from tests.papers.edge_of_stability.descent_claims_cases import (
    AWARE,
    FASHION,
    FLAT,
    GROUPS,
    KAPPAS,
    QUADRATIC,
    SEEDS,
    all_tables,
    failure,
    rank,
    sharpness_at_start,
    step_norm,
    sweep,
)

CRITERIA = criteria_of("beos_descent")
COMPUTED = [criterion for criterion in CRITERIA if criterion.compute]
MATCHED = ("beos_matched_rates", "beos_gain_in_learning_rate")
TABLES = all_tables()


def rows(*claims: str, **tables: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    found, _ = ledger(criteria, TABLES | tables, "planted")
    return found.set_index("claim_id")


def row(claim: str, **changes) -> pd.Series:
    """The ledger's row of one claim on descents with some formulas changed."""
    criterion = next(c for c in CRITERIA if c.claim_id == claim)
    found, _ = ledger([criterion], all_tables(**changes), "planted")
    return found.iloc[0]


def verdict(claim: str, **changes) -> str:
    return row(claim, **changes)["verdict"]


def test_tables_as_claimed_confirm_every_claim_and_fail_every_control():
    found = rows()
    assert found.pop("verdict").drop("beos_mse").eq(Verdict.CONFIRMED).all()
    assert found["control"].drop("beos_mse").str.endswith("fails, as it must").all()


def test_squared_error_is_listed_as_not_run_with_the_reason():
    found = rows("beos_mse").loc["beos_mse"]
    assert found["verdict"] == Verdict.NOT_RUN and "exploded at kappa = 16" in found["note"]


def test_statistics_and_criteria_name_each_other():
    used = {c.compute for c in COMPUTED} | {c.control.compute for c in COMPUTED}
    modules = {module.__name__ for module in (features, rates, stability)}
    assert used == {name for name, function in STATISTICS.items() if function.__module__ in modules}


def test_every_claim_says_what_the_abstract_states_and_what_is_ours():
    assert len(COMPUTED) == 26 and all("our" in c.source for c in CRITERIA)
    stated = {c.claim_id for c in CRITERIA if c.source.startswith("abstract (")}
    assert stated == {
        "beos_beyond_share",
        "beos_rel1_finite_r2",
        "beos_soft_rank",
        "beos_sharpness",
        "beos_sharpness_falls",
    }


# --- 2: bounds on the step --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scaling", "claim"), [("norm1", "beos_norm1_bound"), ("rel1", "beos_rel1_bound")])
def test_a_single_step_beyond_its_bound_contradicts_the_bound(scaling, claim):
    def once(run):
        return step_norm(run) * (2.1 if run.is_(FLAT, scaling, 8.0) and run.seed == 8 else 1)

    found = row(claim, step_norm=once)
    assert (found["verdict"], found["value"]) == (Verdict.CONTRADICTED, pytest.approx(1.05))


def test_the_bound_of_rel1_is_not_claimed_for_the_squared_error():
    found = row("beos_rel1_bound", loss="mse")
    assert found["verdict"] == Verdict.INCONCLUSIVE and "holds for cross_entropy" in found["note"]


# --- 3, 4, 8: who fails -----------------------------------------------------------------------------------------------


def failing(network: str, scaling: str, fates: dict[int, str | None], kappa: float = 32.0):
    """Planted failures, but of some seeds of one group."""
    return lambda run: fates.get(run.seed, failure(run)) if run.is_(network, scaling, kappa) else failure(run)


@pytest.mark.parametrize(("network", "claim"), [(FLAT, "beos_none_fails_r0"), (QUADRATIC, "beos_none_fails_r2")])
def test_networks_that_survive_without_a_scaling_contradict_their_failure(network, claim):
    survive = failing(network, "none", dict.fromkeys(SEEDS))
    assert verdict(claim, fails=survive) == Verdict.CONTRADICTED


def test_one_survivor_of_five_is_what_the_threshold_allows_and_the_interval_does_not():
    found = row("beos_none_fails_r0", fails=failing(FLAT, "none", {7: None}))
    assert (found["value"], found["verdict"]) == (0.8, Verdict.INCONCLUSIVE)
    assert "4 diverged, 0 died; Clopper-Pearson interval of the share [0.28, 0.99]" in found["note"]


def test_seeds_that_agree_have_no_bootstrap_width_and_the_note_says_what_five_can_tell():
    found = row("beos_rel1_finite_r2")
    assert found["ci_low"] == found["ci_high"] == 1 and found["n"] == 5
    assert "Clopper-Pearson interval of the share [0.48, 1.00]" in found["note"]
    assert "largest minibatch loss up to 1.2 times" in found["note"]


@pytest.mark.parametrize("fate", ["diverged_step", "dead_step"])
def test_networks_that_diverge_or_die_are_not_trained_to_the_end(fate):
    changes = {"fails": failing(QUADRATIC, "rel1", dict.fromkeys(SEEDS, fate))}
    assert verdict("beos_rel1_finite_r2", **changes) == Verdict.CONTRADICTED
    assert verdict("beos_rel1_accuracy_r2", **changes) == Verdict.CONTRADICTED
    assert verdict("beos_rel1_finite_r0", **changes) == Verdict.INCONCLUSIVE  # its control is gone


def test_networks_with_r0_that_survive_contradict_the_part_of_the_pattern():
    assert verdict("beos_rel1_finite_r0", fails=failing(FLAT, "rel1", dict.fromkeys(SEEDS))) == Verdict.CONTRADICTED


def test_low_accuracy_is_contradicted_and_a_failed_network_counts_as_one_that_guesses():
    assert verdict("beos_rel1_accuracy_r2", test_accuracy=lambda run: 0.8) == Verdict.CONTRADICTED
    found = row(
        "beos_rel1_accuracy_r2", fails=failing(QUADRATIC, "rel1", {7: "dead_step"}), test_accuracy=lambda _: 0.9
    )
    assert found["value"] == pytest.approx((4 * 0.9 + 0.1) / 5) and found["n"] == 5
    assert "1 of 5 networks failed" in found["note"]


def test_share_of_steps_beyond_decides_whether_training_is_beyond_the_edge():
    assert verdict("beos_beyond_share", beyond_share=lambda run: 0.3 if run.kappa > 1 else 0.0) == Verdict.CONTRADICTED
    assert verdict("beos_beyond_share", beyond_share=lambda run: 0.9) == Verdict.INCONCLUSIVE  # as does kappa = 0.5


def test_a_step_within_the_edge_contradicts_the_geometry_aware_schedule():
    def nearly(run):
        return 0.97 if run.kappa == 1.5 and run.schedule == AWARE else 0.0

    assert verdict("beos_aware_beyond", beyond_share=nearly) == Verdict.CONTRADICTED
    explode = {"fails": lambda run: "diverged_step" if run.schedule == AWARE and run.kappa == 1.5 else failure(run)}
    assert verdict("beos_aware_finite", **explode) == Verdict.CONTRADICTED
    left = row("beos_aware_soft_rank", **explode)
    assert left["verdict"] == Verdict.INCONCLUSIVE
    assert "of 5 seeds 0 were trained to the end, 2 are needed" in left["note"]


# --- 5, 6, 7: what is learned -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["beos_soft_rank", "beos_aware_soft_rank"])
def test_features_of_the_same_rank_contradict_better_features(claim):
    def flat(run):
        return (5 + math.log(run.kappa)) * run.jitter

    assert verdict(claim, participation_ratio=flat) == Verdict.CONTRADICTED


def test_ratios_are_paired_by_seed_and_leave_out_the_seeds_that_failed():
    def uneven(run):
        return 100.0 if run.seed == 7 and run.kappa == 0.5 else rank(run) / run.jitter

    found = row(
        "beos_soft_rank", fails=failing(QUADRATIC, "rel1", {7: "dead_step"}), participation_ratio=uneven
    )  # the other value of the failed seed would change the ratio
    assert found["value"] == pytest.approx(10 / 2.125) and found["n"] == 4
    assert "1 of 5 seeds left out, their networks failed" in found["note"]


def test_a_rank_that_falls_once_contradicts_its_increase_over_kappa():
    def dented(run):
        return rank(run) * (0.5 if run.kappa == 16 and run.schedule != AWARE else 1)

    found = row("beos_soft_rank_rises", participation_ratio=dented)
    assert (found["verdict"], found["value"]) == (Verdict.CONTRADICTED, pytest.approx(0.75))


@pytest.mark.parametrize("data", ["digits", "fashion_mnist"])
def test_increase_over_kappa_is_claimed_on_mnist_only(data):
    found = row("beos_soft_rank_rises", data=data)
    assert found["verdict"] == Verdict.INCONCLUSIVE and f"trained on {data}" in found["note"]


def test_a_sharpness_that_does_not_fall_contradicts_its_regularisation():
    assert verdict("beos_sharpness", sharpness=lambda run: run.jitter * 40 / (1 + run.kappa / 40)) == "contradicted"


def test_a_sharpness_that_rises_in_training_contradicts_its_fall():
    assert verdict("beos_sharpness_falls", sharpness=lambda run: run.jitter * 30) == Verdict.CONTRADICTED


def test_final_sharpness_that_has_not_converged_is_counted():
    table = sweep()
    last = (table["quantity"] == "sharpness") & (table["seed"] == 7) & (table["step"] == 20) & (table["c"] == 32)
    found = rows("beos_sharpness", beos_fig3=table.assign(converged=~last)).iloc[0]
    assert "1 of 30 final values have not converged" in found["note"]


def test_cosines_decide_each_side_of_the_edge():
    def same(run):
        return 0.06 * run.jitter

    assert verdict("beos_cosine_below", update_cosine=same) == Verdict.CONTRADICTED
    assert verdict("beos_cosine_beyond", update_cosine=same) == Verdict.CONTRADICTED


# --- 9: matched learning rates ----------------------------------------------------------------------------------------


def test_fates_between_tested_rates_are_open():
    survives, fails = np.array([False, False, False]), np.array([False, True, True])
    # Common range: 1.5, 2, 3 and 4. At 1.5 the first, tested at 1, 2 and 4, is open, and at 2 the second one.
    found = rates.matched_shares(np.array([1, 2, 4]), fails, np.array([1.5, 3, 6]), fails)
    assert found.tolist() == [[0.75, 1.0], [0.5, 0.75]]
    same = rates.matched_shares(np.array([1, 2, 4]), survives, np.array([1, 2, 4]), fails)
    assert same.ravel() == pytest.approx([0, 0, 2 / 3, 2 / 3])


def test_a_grid_too_coarse_to_compare_at_matched_rates_cannot_decide():
    def sharp(run):  # r = 2 fails at 6.4; of r = 0 only 4, where it survives, and 16, where it fails, were tested
        return run.jitter * (4.0 if run.network == FLAT else 10.0)

    def at_the_same(run):
        return "dead_step" if run.kappa == 32 else None

    found = row("beos_matched_rates", fails=at_the_same, at_start=sharp, kappas=(0.5, 8.0, 32.0))
    assert found["verdict"] == Verdict.INCONCLUSIVE and found["ci_low"] < 0 <= found["ci_high"]


def test_matched_shares_need_a_common_range():
    nothing = rates.matched_shares(np.array([1, 2]), np.zeros(2, bool), np.array([3, 4]), np.zeros(2, bool))
    assert np.isnan(nothing).all()
    found = row("beos_matched_rates", at_start=lambda run: 1000.0 if run.network == FLAT else 1.0)
    assert found["verdict"] == Verdict.INCONCLUSIVE and "no common range" in found["note"]


def test_a_gain_in_kappa_that_is_a_loss_in_learning_rates_is_contradicted():
    def sharp(run):
        return run.jitter * (1.0 if run.network == FLAT else 10.0)

    found = rows(*MATCHED, beos_fig1=sweep(at_start=sharp))
    assert set(found["verdict"]) == {Verdict.CONTRADICTED}
    assert found.loc["beos_gain_in_learning_rate", "value"] == pytest.approx(0.1)


def test_a_gain_that_is_smaller_in_learning_rates_but_real_keeps_claim_9():
    def sharper(run):
        return sharpness_at_start(run) * (0.4 if run.network == FLAT else 1)

    found = rows(*MATCHED, beos_fig1=sweep(at_start=sharper))
    assert found.loc["beos_matched_rates", "verdict"] == Verdict.CONFIRMED
    smaller = found.loc["beos_gain_in_learning_rate"]
    assert (smaller["verdict"], smaller["value"]) == (Verdict.CONTRADICTED, pytest.approx(0.8))
    assert "r = 0: 8, 8, 8, 8, 8; r = 2: 32, 32, 32, 32, 32" in smaller["note"]


# --- what the pre-study did not confirm -------------------------------------------------------------------------------


def test_a_pattern_that_fails_as_often_without_a_scaling_is_no_gain():
    def alike(run):
        return ("diverged_step" if run.kappa > 8 else None) if run.scaling == "none" else failure(run)

    found = row("beos_pattern_alone", fails=alike)
    assert (found["value"], found["verdict"]) == (0.0, Verdict.CONTRADICTED)


@pytest.mark.parametrize("quantity", ["participation_ratio", "stable_rank", "entropy_rank"])
def test_ranks_that_are_higher_at_r0_contradict_the_pattern(quantity):
    claims = {name: f"beos_pattern_{name}" for name in ("participation_ratio", "stable_rank", "entropy_rank")}
    found = rows(*claims.values(), beos_fig3=sweep(**{quantity: lambda run: 1 / rank(run)}))
    for name, claim in claims.items():
        expected = Verdict.CONTRADICTED if name == quantity else Verdict.CONFIRMED
        assert found.loc[claim, "verdict"] == expected
    assert found.loc[claims[quantity], "note"].startswith("by kappa 0.5: ")
    assert ", 8: " in found.loc[claims[quantity], "note"]
    assert "16: " not in found.loc[claims[quantity], "note"]  # there r = 0 fails


def test_a_rank_that_peaks_early_on_fashion_mnist_is_contradicted():
    def peaked(run):
        return 3.0 * run.jitter if run.network == FASHION and run.kappa > 8 else rank(run)

    assert verdict("beos_fashion_soft_rank", participation_ratio=peaked) == Verdict.CONTRADICTED
    without = row("beos_fashion_soft_rank", groups=GROUPS)
    assert without["verdict"] == Verdict.INCONCLUSIVE and "no network with r = 2 on fashion_mnist" in without["note"]


def test_equal_accuracies_contradict_a_gain():
    changes = {"test_accuracy": lambda run: 0.9 + 0.001 * (run.seed - 9)}
    assert verdict("beos_pattern_accuracy", **changes) == Verdict.CONTRADICTED
    assert verdict("beos_beyond_accuracy", **changes) == Verdict.CONTRADICTED


# --- what cannot be decided -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "kappa"),
    [
        ("beos_none_fails_r0", 32.0), ("beos_none_fails_r2", 32.0), ("beos_rel1_finite_r2", 32.0),
        ("beos_rel1_finite_r0", 32.0), ("beos_rel1_accuracy_r2", 32.0), ("beos_beyond_share", 32.0),
        ("beos_soft_rank", 32.0), ("beos_soft_rank", 0.5), ("beos_soft_rank_rises", 16.0), ("beos_sharpness", 0.5),
        ("beos_cosine_below", 0.5), ("beos_cosine_beyond", 32.0), ("beos_beyond_accuracy", 32.0),
        ("beos_sharpness_falls", 32.0),
    ],
)  # fmt: skip
def test_a_kappa_that_was_not_run_is_named_in_one_line(claim, kappa):
    found = row(claim, kappas=[k for k in KAPPAS if k != kappa])
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert f"was not run at kappa = {kappa:g}; there are " in found["note"] and "\n" not in found["note"]


def test_a_run_without_the_geometry_aware_schedule_decides_nothing_about_it():
    claims = [criterion.claim_id for criterion in CRITERIA if criterion.artefact == "beos_fig5"]
    aware = rows(*claims, beos_fig5=sweep(aware=()))
    assert len(aware) == 3 and set(aware["verdict"]) == {Verdict.INCONCLUSIVE}
    assert aware["note"].str.contains("no runs of r = 2, none, geometry-aware").all()


def test_one_seed_decides_nothing_about_training_and_raises_nothing():
    found, _ = ledger(CRITERIA, all_tables(seeds=SEEDS[:1]), "planted")
    found = found.set_index("claim_id").drop("beos_mse")
    bounds = ["beos_norm1_bound", "beos_rel1_bound"]
    assert set(found.drop(bounds)["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found.drop(bounds)["note"].str.contains("has 1 seed, at least 2 are needed").all()


def test_a_run_of_one_network_and_scaling_is_judged_without_an_error():
    found, _ = ledger(CRITERIA, all_tables(groups=((QUADRATIC, "rel1"),)), "planted")
    found = found.set_index("claim_id")
    assert found.loc["beos_matched_rates", "note"] == "beos_fig1: no runs of r = 0, rel1"
    assert set(found["verdict"]) <= {Verdict.CONFIRMED, Verdict.INCONCLUSIVE, Verdict.NOT_RUN}
