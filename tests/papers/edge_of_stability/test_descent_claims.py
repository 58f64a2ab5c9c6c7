"""Claims beyond the edge of stability: statistics find what is planted, controls can fail, what is missing is said."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from featurespeed.ledger.engine import PREMISES, STATISTICS, Verdict, ledger
from featurespeed.papers.edge_of_stability.descent import claims_features as features
from featurespeed.papers.edge_of_stability.descent import claims_rates as rates
from featurespeed.papers.edge_of_stability.descent import claims_stability as stability
from featurespeed.papers.edge_of_stability.descent import networks
from tests.papers.cases import criteria_of
from tests.papers.edge_of_stability.descent_claims_cases import (
    AWARE,
    FASHION,
    FLAT,
    GROUPS,
    KAPPAS,
    QUADRATIC,
    SEEDS,
    Run,
    all_tables,
    beyond_share,
    failure,
    rank,
    sharpness,
    sharpness_at_start,
    step_norm,
    sweep,
)

CRITERIA = criteria_of("beos_descent")
COMPUTED = [criterion for criterion in CRITERIA if criterion.compute]
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


#: They need networks that train without a scaling where the others need them to fail.
OVER_NONE = [f"beos_{what}_over_none{reading}" for what in ("soft_rank", "sharpness") for reading in ("", "_norm1")]
UNSCALED = (*OVER_NONE, "beos_soft_rank_rises")


def survivors(run: Run) -> str | None:
    """Failures in which networks with r = 2 train without a scaling."""
    return None if run.is_(QUADRATIC, "none") else failure(run)


def falling(run: Run) -> float:
    """Ranks that fall with kappa without a scaling."""
    return run.jitter * 2.2 / (1 + run.kappa / 8) if run.is_(QUADRATIC, "none") else rank(run)


def steep(run: Run) -> float:
    """A sharpness that is the same below the edge with a scaling and without."""
    return sharpness(run) * (1.125 if run.scaling != "none" else 1)


WITHOUT_A_SCALING = {"fails": survivors, "participation_ratio": falling, "sharpness": steep}


def test_tables_as_claimed_confirm_every_claim_and_fail_every_control():
    found = rows().drop(["beos_mse", *UNSCALED])
    assert found["verdict"].eq(Verdict.CONFIRMED).all(), found["note"][found["verdict"] != Verdict.CONFIRMED]
    assert found["control"].str.endswith("fails, as it must").all()
    assert (found["n"] >= 10).all()


def test_claims_that_compare_with_no_scaling_hold_where_it_trains_and_does_less():
    found = rows(*UNSCALED, **all_tables(**WITHOUT_A_SCALING))
    assert found["verdict"].eq(Verdict.CONFIRMED).all(), found["note"]
    assert found["control"].str.endswith("fails, as it must").all()


def test_squared_error_is_listed_as_not_run_with_the_reason():
    found = rows("beos_mse").loc["beos_mse"]
    assert found["verdict"] == Verdict.NOT_RUN and "exploded at kappa = 16" in found["note"]


def test_statistics_and_criteria_name_each_other():
    used = {c.compute for c in COMPUTED} | {c.control.compute for c in COMPUTED}
    modules = {module.__name__ for module in (features, rates, stability)}
    assert used == {name for name, function in STATISTICS.items() if function.__module__ in modules}
    premises = {name for criterion in COMPUTED for name in criterion.premise}
    assert premises == {name for name, function in PREMISES.items() if function.__module__ == networks.__name__}


def test_every_claim_says_what_the_abstract_states_and_which_reading_it_rests_on():
    assert all("our" in c.source for c in CRITERIA)
    central = [c.claim_id for c in CRITERIA if c.kind == "central"]
    assert central == ["beos_rel1_finite_r2", "beos_norm1_finite_r2", "beos_soft_rank", "beos_sharpness"]
    assert all("abstract (" in c.source and "reading" in c.source for c in CRITERIA if c.claim_id in central)


@pytest.mark.parametrize(
    "claim",
    ["finite_r2", "finite_r0", "accuracy_r2", "soft_rank", "sharpness", "cosine_below",
     "cosine_beyond", "beyond_share"],
)  # fmt: skip
def test_claims_3_to_8_stand_under_both_readings(claim):
    ids = {c.claim_id for c in CRITERIA}
    assert {f"beos_rel1_{claim}", f"beos_norm1_{claim}"} <= ids or {f"beos_{claim}", f"beos_{claim}_norm1"} <= ids


# --- premises ---------------------------------------------------------------------------------------------------------

ABOUT_NETWORKS_BEYOND = [c.claim_id for c in COMPUTED if any(name.startswith("beyond") for name in c.premise)]
ABOUT_TRAINED_NETWORKS = [c.claim_id for c in COMPUTED if any(name.startswith("trained") for name in c.premise)]


def test_networks_that_leave_the_edge_decide_nothing_about_life_beyond_it():
    found = rows(*ABOUT_NETWORKS_BEYOND, **all_tables(beyond_share=lambda run: 0.19))
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    decided = found.drop(OVER_NONE)
    assert decided["note"].str.startswith("premise: the run is not beyond the edge on a fifth of their steps").all()
    assert decided["premise"].str.contains("19.0% of the steps, does not hold").all()


def test_networks_above_chance_decide_nothing_about_trained_ones():
    def exploded(run):
        return 1000.0 if run.kappa in (0.5, 1.5, 32) and run.seed > 13 else 0.3

    found = rows(*ABOUT_TRAINED_NETWORKS, **all_tables(training_loss=exploded))
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found["premise"].str.contains("7 of 10 networks end below chance, does not hold").all()


def test_networks_that_failed_count_with_the_steps_that_they_took():
    """All networks with r = 0 fail at kappa = 32: they were beyond the edge until then."""
    assert "90.1% of the steps, holds" in row("beos_rel1_finite_r0")["premise"]
    # Half of the networks with r = 2 take 20 steps, and half of them 10 of which there is a record.
    early = failing(QUADRATIC, "rel1", dict.fromkeys(SEEDS[:5], "dead_step"))
    found = row("beos_rel1_finite_r2", fails=early, beyond_share=lambda run: float(run.seed in SEEDS[:5]))
    assert f"{1 / 3:.1%} of the steps, holds" in found["premise"]


def test_means_over_networks_are_those_of_the_ones_that_trained_and_the_note_counts_them():
    def exploded(run):
        return 1000.0 if run.is_(QUADRATIC, "rel1", 32) and run.seed < 9 else 0.3

    steps = {"training_loss": exploded, "beyond_share": lambda run: 0.0 if exploded(run) > 1 else beyond_share(run)}
    found = row("beos_beyond_share", **steps)
    assert found["value"] == pytest.approx(0.9, rel=0.01) and found["n"] == 8
    assert "8 of 10 networks trained, the mean is over them" in found["note"]
    cosine = row("beos_cosine_beyond", training_loss=exploded)
    assert cosine["n"] == 8 and "8 of 10 networks end below chance, holds" in cosine["premise"]


# --- 2: bounds on the step --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scaling", "claim"), [("norm1", "beos_norm1_bound"), ("rel1", "beos_rel1_bound")])
def test_a_single_step_beyond_its_bound_contradicts_the_bound(scaling, claim):
    def once(run):
        return step_norm(run) * (2.1 if run.is_(FLAT, scaling, 8.0) and run.seed == 8 else 1)

    found = row(claim, step_norm=once)
    assert (found["verdict"], found["value"]) == (Verdict.CONTRADICTED, pytest.approx(1.05))


@pytest.mark.parametrize(("claim", "control"), [("beos_norm1_bound", "4"), ("beos_rel1_bound", "32")])
def test_the_control_of_a_bound_is_made_of_unscaled_networks_that_train(claim, control):
    def huge(run):
        return 1e19 if run.scaling == "none" and (run.kappa > 0.5 or run.seed == 8) else 0.1 * step_norm(run)

    found = row(claim, step_norm=huge, training_loss=lambda run: 9.0 if run.seed == 8 else 0.3)
    assert f"train at kappa = 0.5: {control}, fails, as it must" in found["control"]


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


def test_half_of_the_seeds_leave_it_open():
    found = row("beos_none_fails_r0", fails=failing(FLAT, "none", dict.fromkeys(SEEDS[:5])))
    assert (found["value"], found["verdict"]) == (0.5, Verdict.INCONCLUSIVE)
    assert "of 10 networks 5 diverged, 0 died, 0 ended at chance or above" in found["note"]


def test_a_share_of_all_has_the_exact_interval():
    found = row("beos_rel1_finite_r2")
    assert (found["value"], found["ci_high"], found["n"]) == (1, 1, 10)
    assert found["ci_low"] == pytest.approx(0.025**0.1)
    assert "largest minibatch loss up to 1.2 times" in found["note"]


def test_networks_that_train_without_a_scaling_leave_no_part_to_it():
    changes = {"fails": survivors}
    for claim in ("beos_rel1_finite_r2", "beos_norm1_finite_r2", "beos_rel1_accuracy_r2", "beos_aware_finite"):
        found = row(claim, **changes)
        assert found["verdict"] == Verdict.INCONCLUSIVE and "does not fail (confirmed)" in found["control"]


@pytest.mark.parametrize("fate", ["diverged_step", "dead_step"])
def test_networks_that_diverge_or_die_do_not_train(fate):
    changes = {"fails": failing(QUADRATIC, "rel1", dict.fromkeys(SEEDS, fate))}
    assert verdict("beos_rel1_finite_r2", **changes) == Verdict.CONTRADICTED
    assert verdict("beos_rel1_accuracy_r2", **changes) == Verdict.CONTRADICTED
    assert verdict("beos_rel1_finite_r0", **changes) == Verdict.INCONCLUSIVE  # its control is gone


#: Claims about who fails -> networks, scaling and kappas at which losses that explode without an overflow decide them.
WITHOUT_OVERFLOW = {
    "beos_none_fails_r0": (FLAT, "none", 32), "beos_none_fails_r2": (QUADRATIC, "none", 32),
    "beos_rel1_finite_r0": (FLAT, "rel1", 32), "beos_norm1_finite_r0": (FLAT, "norm1", 32),
}  # fmt: skip


@pytest.mark.parametrize("claim", WITHOUT_OVERFLOW)
def test_a_loss_that_explodes_without_an_overflow_is_a_failure(claim):
    network, scaling, kappa = WITHOUT_OVERFLOW[claim]
    survive = failing(network, scaling, dict.fromkeys(SEEDS))
    assert verdict(claim, fails=survive) == Verdict.CONTRADICTED
    exploded = {"training_loss": lambda run: 1000.0 if run.is_(network, scaling, kappa) else 0.3}
    found = row(claim, fails=survive, **exploded)
    assert found["verdict"] == Verdict.CONFIRMED
    if "finite" not in claim:
        assert "0 diverged, 0 died, 10 ended at chance or above" in found["note"]


@pytest.mark.parametrize("claim", ["beos_rel1_finite_r2", "beos_norm1_finite_r2", "beos_aware_finite"])
def test_networks_at_the_loss_of_chance_do_not_train(claim):
    found = row(claim, training_loss=lambda run: math.log(10))
    assert (found["verdict"], found["value"]) == (Verdict.CONTRADICTED, 0)


def test_exploded_losses_count_at_equal_kappa_and_at_matched_and_equal_learning_rates():
    def early(run):  # r = 0 explodes from kappa = 2 on, r = 2 nowhere: no overflow
        return 1000.0 if run.network == FLAT and run.kappa > 1 else 0.3

    finite = {"fails": lambda run: None, "at_start": lambda run: 10.0 * run.jitter}
    for claim in ("beos_matched_rates", "beos_pattern_alone"):
        assert row(claim, training_loss=early, **finite)["value"] == 1
        assert row(claim, **finite)["value"] == 0
    everywhere = {"training_loss": lambda run: 1000.0 if run.is_(QUADRATIC, "none", 32) else 0.3}
    assert row("beos_equal_rate_rel1", **finite, **everywhere)["value"] == 1


def test_a_table_without_a_final_training_loss_cannot_decide_who_trained():
    table = sweep()
    lost = table[~((table["quantity"] == "training_loss") & (table["step"] == 20))]
    found = rows("beos_rel1_finite_r2", beos_fig1=lost).iloc[0]
    assert found["verdict"] == Verdict.INCONCLUSIVE and "no training loss after the last step" in found["note"]


def test_networks_with_r0_that_survive_contradict_the_part_of_the_pattern():
    assert verdict("beos_rel1_finite_r0", fails=failing(FLAT, "rel1", dict.fromkeys(SEEDS))) == Verdict.CONTRADICTED


def test_a_network_that_failed_has_not_learned_the_task():
    assert verdict("beos_rel1_accuracy_r2", test_accuracy=lambda run: 0.8) == Verdict.CONTRADICTED
    found = row("beos_rel1_accuracy_r2", fails=failing(QUADRATIC, "rel1", {7: "dead_step"}))
    assert found["value"] == 0.9 and found["n"] == 10


def test_share_of_steps_beyond_decides_whether_training_is_beyond_the_edge():
    def little(run):
        return 0.3 * run.jitter if run.kappa > 1 else 0.0

    assert verdict("beos_beyond_share", beyond_share=little) == Verdict.CONTRADICTED
    without = row("beos_beyond_share", beyond_share=lambda run: 0.9 * run.jitter)
    assert without["verdict"] == Verdict.INCONCLUSIVE and "no scaling, kappa = 8" in without["control"]


def test_a_step_within_the_edge_contradicts_the_geometry_aware_schedule():
    def nearly(run):
        return 0.97 if run.kappa == 1.5 and run.schedule == AWARE else 0.0

    found = row("beos_aware_beyond", beyond_share=nearly)
    assert found["verdict"] == Verdict.CONTRADICTED and "97.0% of all steps" in found["note"]
    explode = {"fails": lambda run: "diverged_step" if run.schedule == AWARE and run.kappa == 1.5 else failure(run)}
    assert verdict("beos_aware_finite", **explode) == Verdict.CONTRADICTED
    left = row("beos_aware_soft_rank", **explode)
    assert left["verdict"] == Verdict.INCONCLUSIVE and "of 10 seeds 0 trained, 2 are needed" in left["note"]


# --- 5, 6, 7: what is learned -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["beos_soft_rank", "beos_aware_soft_rank"])
def test_features_of_the_same_rank_contradict_better_features(claim):
    def flat(run):
        return (5 + math.log(run.kappa)) * run.jitter

    assert verdict(claim, participation_ratio=flat) == Verdict.CONTRADICTED


def test_ratios_are_paired_by_seed_and_leave_out_the_seeds_that_failed():
    def uneven(run):
        grown = 1 + 0.1 * run.seed  # a factor of the seed, which a ratio of one seed does not have
        return grown * (100.0 if run.seed == 7 and run.kappa == 0.5 else rank(run) / run.jitter)

    found = row("beos_soft_rank", fails=failing(QUADRATIC, "rel1", {7: "dead_step"}), participation_ratio=uneven)
    assert found["value"] == pytest.approx(10 / 2.125) and found["ci_high"] == pytest.approx(10 / 2.125)
    assert found["n"] == 9 and "1 of 10 seeds left out, their networks failed" in found["note"]


@pytest.mark.parametrize("claim", OVER_NONE)
def test_a_scaling_that_does_no_more_than_none_at_equal_kappa_is_contradicted(claim):
    alike = {
        "participation_ratio": lambda run: run.jitter * (2 + run.kappa / 4),
        "sharpness": lambda run: run.jitter * 60 / (1 + run.kappa / 4),
    }
    assert verdict(claim, fails=survivors, **alike) == Verdict.CONTRADICTED


@pytest.mark.parametrize("claim", ["beos_soft_rank", "beos_sharpness"])
def test_no_scaling_that_does_the_same_leaves_no_part_to_the_scaling(claim):
    """The control takes kappa = 32 where half of the networks train there, else the largest kappa below."""
    alike = {
        "participation_ratio": lambda run: run.jitter * (2 + run.kappa / 4),
        "sharpness": lambda run: run.jitter * 60 / (1 + run.kappa / 4),
    }
    found = row(claim, fails=survivors, **alike)
    assert found["verdict"] == Verdict.INCONCLUSIVE and "does not fail (confirmed)" in found["control"]
    ended = row(claim, fails=lambda run: "diverged_step" if run.scaling == "none" and run.kappa > 1 else failure(run))
    assert "fewer than half of the networks train at every kappa above 1" in ended["control"]


def test_smallest_step_has_bounds_that_hold_for_all_steps():
    logs = np.array([[0.0, 0.1, 1.0], [0.0, 0.3, 1.2], [0.0, 0.2, 1.4]])
    found = features.smallest_ratio(np.exp(logs))
    half = stats.t.ppf(1 - 0.025 / 2, 2) * 0.1 / math.sqrt(3)
    assert (found.value, found.n) == (pytest.approx(math.exp(0.2)), 3)
    assert (found.low, found.high) == (pytest.approx(math.exp(0.2 - half)), pytest.approx(math.exp(0.2 + half)))


def test_a_rank_that_falls_once_contradicts_its_increase_over_kappa():
    def dented(run):
        return rank(run) * (0.5 if run.kappa == 16 and run.schedule != AWARE else 1)

    found = row("beos_soft_rank_rises", participation_ratio=dented)
    assert (found["verdict"], found["value"]) == (Verdict.CONTRADICTED, pytest.approx(0.75, rel=0.01))


@pytest.mark.parametrize("data", ["digits", "fashion_mnist"])
def test_increase_over_kappa_is_claimed_on_mnist_only(data):
    found = row("beos_soft_rank_rises", data=data)
    assert found["verdict"] == Verdict.INCONCLUSIVE and f"trained on {data}" in found["note"]


@pytest.mark.parametrize("reading", ["", "_norm1"])
def test_a_sharpness_that_does_not_fall_contradicts_its_regularisation(reading):
    flat = row(f"beos_sharpness{reading}", sharpness=lambda run: run.jitter * 40 / (1 + run.kappa / 40))
    assert flat["verdict"] == Verdict.CONTRADICTED


def test_final_sharpness_that_has_not_converged_is_counted():
    table = sweep()
    last = (table["quantity"] == "sharpness") & (table["seed"] == 7) & (table["step"] == 20) & (table["c"] == 32)
    found = rows("beos_sharpness", beos_fig3=table.assign(converged=~last)).iloc[0]
    assert "1 of 60 final values have not converged" in found["note"]


def test_cosines_decide_each_side_of_the_edge():
    def same(run):
        return 0.06 * run.jitter

    for claim in ("below", "below_norm1", "beyond", "beyond_norm1"):
        assert verdict(f"beos_cosine_{claim}", update_cosine=same) == Verdict.CONTRADICTED


# --- 9: matched learning rates ----------------------------------------------------------------------------------------


def test_fates_between_tested_rates_are_open():
    survives, fails = np.array([False, False, False]), np.array([False, True, True])
    # Common range: 1.5, 2, 3 and 4. At 1.5 the first, tested at 1, 2 and 4, is open, and at 2 the second one.
    found = rates.matched_shares(np.array([1, 2, 4]), fails, np.array([1.5, 3, 6]), fails)
    assert found.tolist() == [[0.75, 1.0], [0.5, 0.75]]
    same = rates.matched_shares(np.array([1, 2, 4]), survives, np.array([1, 2, 4]), fails)
    assert same.ravel() == pytest.approx([0, 0, 2 / 3, 2 / 3])


def test_a_grid_too_coarse_to_compare_at_matched_rates_cannot_decide():
    def sharp(
        run,
    ):  # r = 2 survives 1.6 and fails at 6.4; of r = 0 only 4, where it fails, and 1, where not, were tested
        return 16.0 if run.network == FLAT else 10.0

    def at_the_same(run):
        return "dead_step" if run.kappa == 32 else None

    found = row("beos_matched_rates", fails=at_the_same, at_start=sharp, kappas=(0.5, 8.0, 32.0))
    assert (found["verdict"], found["ci_low"], found["ci_high"]) == (Verdict.INCONCLUSIVE, 0.0, 1.0)


def test_networks_that_fail_alike_contradict_the_part_of_the_pattern_at_matched_rates():
    alike = {"fails": lambda run: "dead_step" if run.kappa == 48 else None, "at_start": lambda run: 10.0}
    found = row("beos_matched_rates", **alike)
    assert (found["value"], found["verdict"]) == (0.0, Verdict.CONTRADICTED)


def test_learning_rates_of_a_scaling_are_looked_up_without_one_by_seed():
    found = row("beos_equal_rate_rel1", at_start=lambda run: 40.0 if run.scaling == "rel1" else 10.0)
    assert found["value"] == 0.0 and "at kappa 8" in found["note"]  # a quarter of the rate: kappa 8 trains
    found = row("beos_equal_rate_norm1", at_start=lambda run: 0.1 if run.scaling == "norm1" else 10.0)
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert "66.7 times smaller, kappa = 3.2e+03 is needed" in found["note"]


def test_matched_shares_need_a_common_range():
    nothing = rates.matched_shares(np.array([1, 2]), np.zeros(2, bool), np.array([3, 4]), np.zeros(2, bool))
    assert np.isnan(nothing).all()
    found = row("beos_matched_rates", at_start=lambda run: 1000.0 if run.network == FLAT else 1.0)
    assert found["verdict"] == Verdict.INCONCLUSIVE and "no common range" in found["note"]


def flatter(factor: float):
    """lambda_Xi(0) of r = 0 multiplied by a factor."""
    return lambda run: sharpness_at_start(run) * (factor if run.network == FLAT else 1)


def test_a_gain_in_kappa_that_is_a_loss_in_learning_rates_is_contradicted():
    assert verdict("beos_matched_rates", at_start=flatter(0.1)) == Verdict.CONTRADICTED


def test_a_gain_that_is_smaller_in_learning_rates_but_real_keeps_claim_9():
    found = row("beos_matched_rates", at_start=flatter(0.8))
    assert (found["verdict"], found["value"]) == (Verdict.CONFIRMED, 1)


def test_initial_curvatures_of_r2_and_r0_are_compared_by_seed():
    found = row("beos_pattern_initial_curvature")
    assert (found["verdict"], found["value"]) == (Verdict.CONFIRMED, pytest.approx(1.25, rel=0.01))
    assert found["control"].endswith("fails, as it must")
    assert verdict("beos_pattern_initial_curvature", at_start=flatter(1.25)) == Verdict.CONTRADICTED
    narrow = row("beos_pattern_initial_curvature", at_start=lambda run: 5 * run.jitter if run.network == FLAT else 10.0)
    assert narrow["verdict"] == Verdict.INCONCLUSIVE and "does not fail" in narrow["control"]


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


def test_a_rank_that_peaks_early_on_fashion_mnist_is_contradicted():
    def peaked(run):
        return 3.0 * run.jitter if run.network == FASHION and run.kappa > 8 else rank(run)

    assert verdict("beos_fashion_soft_rank", participation_ratio=peaked) == Verdict.CONTRADICTED
    without = row("beos_fashion_soft_rank", groups=GROUPS)
    assert without["verdict"] == Verdict.INCONCLUSIVE and "no runs of r = 2, Fashion-MNIST, rel1" in without["note"]


def test_equal_accuracies_contradict_a_gain():
    changes = {"test_accuracy": lambda run: 0.9 + 0.05 * (run.jitter - 1)}
    assert verdict("beos_pattern_accuracy", **changes) == Verdict.CONTRADICTED
    assert verdict("beos_beyond_accuracy", **changes) == Verdict.CONTRADICTED


# --- what cannot be decided -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "kappa"),
    [
        ("beos_none_fails_r0", 32.0), ("beos_none_fails_r2", 32.0), ("beos_rel1_finite_r2", 32.0),
        ("beos_rel1_finite_r0", 32.0), ("beos_rel1_accuracy_r2", 32.0), ("beos_beyond_share", 32.0),
        ("beos_soft_rank", 32.0), ("beos_soft_rank", 0.5), ("beos_soft_rank_rises", 16.0), ("beos_sharpness", 0.5),
        ("beos_pattern_stable_rank", 8.0), ("beos_pattern_accuracy", 8.0), ("beos_equal_rate_norm1", 32.0),
        ("beos_cosine_below", 0.5), ("beos_cosine_beyond", 32.0), ("beos_beyond_accuracy", 32.0),
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
