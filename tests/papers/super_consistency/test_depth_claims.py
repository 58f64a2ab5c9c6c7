"""Claims about residual networks over their depth: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, decide, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.depth.spec import (
    ONE,
    TWO,
    DepthCurveSpec,
    DepthSpectrumSpec,
    DepthTransferSpec,
)
from featurespeed.papers.super_consistency.no_limit.spec import PLAIN
from featurespeed.sweeps.optima import slopes
from featurespeed.values import Spec
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency import depth_cases
from tests.papers.super_consistency.depth_cases import (
    CIFAR10,
    DEPTHS,
    LATE,
    MODELS,
    RATES,
    SHOWN,
    failing,
    ntk,
    octaves,
    sharpness,
    spectrum,
    spectrum_runs,
    wobble,
)
from tests.papers.super_consistency.no_limit_cases import bowl, growing, no_limit_tables, no_scaling, no_skips
from tests.sweeps.spec_cases import NETWORK, SWEEP

ROOM = "sc_depth"
CRITERIA = criteria_of(ROOM)
#: Controls of this room that are about networks without a limit of infinite depth, whose room has them.
NO_LIMIT = {
    "shift of the best learning rate for 8 times the depth, no skips",
    "absolute slope of the late sharpness in the depth, no 1/sqrt(L), warm-up",
}


def unscaled(label, depth, rate, step, seed):
    """Without 1/sqrt(L) the sharpness late in training falls with the depth."""
    return growing(label, depth, rate, step, seed) * 2 ** (-0.3 * octaves(depth) * (step > 0))


def loss(label, depth, rate, step, seed):
    """With one layer a block best rates are 0.4 at every depth, less than a factor 2 from the authors'."""
    return depth_cases.loss(label, depth, rate * (1.25 if label == ONE else 1.0), step, seed)


STEPS = {ONE: 4000, TWO: 8000}  # 10 and 20 epochs


def transfer_runs(change_loss=loss, change_sharpness=sharpness, network=None, **options) -> pd.DataFrame:
    """The runs of Figures 4 and 22, with settings in which they are the authors' networks, trained as long.

    Args:
        network: changes of the settings of networks, not of the runs.
    """
    table = depth_cases.transfer_runs(change_loss, change_sharpness, **options)
    for label, own in table.attrs["provenance"]["spec"]["networks"].items():
        own |= {"batch_size": 128, "steps": STEPS[label]} | (network or {})
    return table


OWN = dict.fromkeys(("sc_fig04", "sc_fig22"), transfer_runs()) | {"sc_fig25": spectrum_runs()}
TABLES = OWN | {"sc_fig06": no_scaling(change_sharpness=unscaled), "sc_fig08": no_limit_tables()["sc_fig08"]}
SHIFT = "shift of the best learning rate for 8 times the depth, {}"


def rows(*claims: str, **tables: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all that are judged."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    return ledger(criteria, TABLES | tables, "planted")[0].set_index("claim_id")


def of_runs(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Figures 4 and 22 have the same runs."""
    return {"sc_fig04": table, "sc_fig22": table}


def everywhere(change_loss, **options) -> dict[str, pd.DataFrame]:
    """All tables of the room with another loss."""
    return of_runs(transfer_runs(change_loss, **options)) | {"sc_fig25": spectrum_runs(change_loss, **options)}


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return rows()


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) - NO_LIMIT == statistics_of(ROOM)


def test_runs_as_claimed_confirm_every_claim(planted):
    assert len(planted) == 10 and set(planted["verdict"]) == {Verdict.CONFIRMED}, planted[["verdict", "note"]]


def test_every_control_fails_and_has_other_data(planted):
    assert planted["control"].str.endswith("fails, as it must").all(), planted["control"].to_dict()
    assert faults(CRITERIA, TABLES) == []


def test_values_are_the_planted_ones(planted):
    value = planted["value"]
    assert value["sc_fig4a_transfer"] == pytest.approx(0.06, abs=0.05)
    assert value["sc_fig4b_transfer"] == pytest.approx(1.5, abs=0.05)
    assert value["sc_fig4a_sharpness"] == pytest.approx(0.04, abs=0.005)
    assert value["sc_fig4b_spread"] == pytest.approx(0.3 * LATE - 0.1, abs=0.02)  # 1.5 times 0.04 is less than 0.1
    assert value["sc_fig25_spectrum"] == pytest.approx(0.3 * LATE, abs=0.01)  # the first eigenvalue depends less
    assert value["sc_fig25_ntk"] == pytest.approx(0.4, abs=0.01)
    assert value["sc_fig4a_published"] == pytest.approx(math.log2(0.4 / 0.22), abs=0.02)
    assert value["sc_fig4b_published"] == pytest.approx(math.log2(0.25 * 2**0.5 / 0.21), abs=0.02)


def test_networks_exchanged_contradict_what_sets_them_apart():
    """One layer a block behaves like two, and the reverse."""
    other = {ONE: TWO, TWO: ONE}

    def exchanged(formula):
        return lambda label, *place: formula(other[label], *place)

    runs = transfer_runs(exchanged(loss), exchanged(sharpness))
    eigenvalues = {"sharpness": exchanged(spectrum), "ntk_eigenvalue": exchanged(ntk)}
    found = rows(**of_runs(runs), sc_fig25=spectrum_runs(exchanged(loss), **eigenvalues))["verdict"]
    apart = ["fig4a_transfer", "fig4a_sharpness", "fig4b_transfer", "fig4b_spread"]
    apart += ["fig22_blocks", "fig25_spectrum", "fig25_ntk"]
    assert set(found[[f"sc_{claim}" for claim in apart]]) == {Verdict.CONTRADICTED}, found


def late_slopes(table: pd.DataFrame, label: str, *seeds: int) -> np.ndarray:
    """Slopes of the sharpness at the rate that is shown, seed by seed."""
    own = table[(table["series"] == label) & (table["quantity"] == "sharpness") & (table["step"] >= 50)]
    own = own[np.isclose(own["learning_rate"], SHOWN) & own["seed"].isin(seeds)]
    means = own.pivot_table(index="seed", columns="depth", values="value")
    return slopes(np.log(DEPTHS), np.log(means.to_numpy()))


# --- Figure 4 ---------------------------------------------------------------------------------------------------------


def test_slope_at_the_next_smaller_rate_counts():
    def uneven(label, depth, rate, step, seed):
        return depth ** (0.2 if (label, rate) == (ONE, 0.25) else 0.0) * sharpness(label, depth, rate, step, seed)

    found = rows("sc_fig4a_sharpness", **of_runs(transfer_runs(loss, uneven))).loc["sc_fig4a_sharpness"]
    assert found["value"] == pytest.approx(0.24, abs=0.01) and found["verdict"] == Verdict.CONTRADICTED


@pytest.mark.parametrize("sign", [1, -1])
def test_dependence_on_the_depth_has_no_sign(sign):
    def signed(label, depth, rate, step, seed):
        power = sign * (0.3 + 0.01 * wobble(seed, "signed")) * octaves(depth) if label == TWO else 0.0
        return 2**power * (sharpness(ONE, depth, rate, step, seed) if label == ONE else 1 / rate)

    found = rows("sc_fig4b_spread", **of_runs(transfer_runs(loss, signed))).loc["sc_fig4b_spread"]
    assert found["value"] == pytest.approx(0.3 - 0.1, abs=0.01) and found["verdict"] == Verdict.CONFIRMED


def powers(one: float, two: float):
    """A sharpness with these exponents in the depth, at every rate, times ln 2."""

    def changed(label, depth, rate, step, seed):
        power = {ONE: one, TWO: two}[label] + 0.005 * wobble(seed, label, rate)
        return 0.9 / rate * min(1.0, 0.2 + 0.02 * step) * 2 ** (power * octaves(depth))

    return changed


@pytest.mark.parametrize(
    ("one", "two", "value", "verdict"),
    [
        (0.2, 0.24, -0.06, Verdict.CONTRADICTED),  # 1.2 times as much
        (0.2, -0.5, 0.2, Verdict.CONFIRMED),
        (0.01, 0.04, -0.06, Verdict.CONTRADICTED),  # four times as much, but both are flat
        (0.0, 0.0, -0.1, Verdict.CONTRADICTED),
    ],
)
def test_two_layers_have_to_spread_more_than_one_and_a_half_times_as_much_and_more_than_nothing(
    one, two, value, verdict
):
    other = transfer_runs(loss, powers(one, two))
    found = STATISTICS["what 2 layers a block add to the dependence of the sharpness on the depth"]({"sc_fig04": other})
    assert found.value == pytest.approx(value, abs=0.01)
    threshold = next(c.threshold for c in CRITERIA if c.claim_id == "sc_fig4b_spread")
    assert decide(found, threshold) == verdict


def test_a_smaller_rate_at_which_one_layer_spreads_as_much_takes_the_control_of_the_spread_away():
    def uneven(label, depth, rate, step, seed):
        return depth ** (0.4 if (label, rate) == (ONE, 0.25) else 0.0) * sharpness(label, depth, rate, step, seed)

    found = rows("sc_fig4b_spread", **of_runs(transfer_runs(loss, uneven))).loc["sc_fig4b_spread"]
    assert found["verdict"] == Verdict.INCONCLUSIVE and "does not fail: it is confirmed" in found["note"]


def test_networks_without_scaling_whose_sharpness_is_the_same_at_every_depth_take_its_control_away():
    found = rows("sc_fig4a_sharpness", sc_fig06=no_scaling()).loc["sc_fig4a_sharpness"]
    assert found["verdict"] == Verdict.INCONCLUSIVE and "does not fail: it is confirmed" in found["note"]
    assert found["control"].startswith("without 1/sqrt(L), with warm-up (Fig. 6)")


@pytest.mark.parametrize(("fallen", "verdict"), [(ONE, Verdict.INCONCLUSIVE), (TWO, Verdict.CONFIRMED)])
def test_with_one_layer_a_block_the_sharpness_has_to_rise_from_below_the_edge(fallen, verdict):
    def falling(label, depth, rate, step, seed):
        level = 2 / rate * (3.0 if step < 30 else 1.0) * (1 + 0.01 * wobble(seed, depth))
        return level if label == fallen else sharpness(label, depth, rate, step, seed)

    found = rows("sc_fig4a_sharpness", **of_runs(transfer_runs(loss, falling))).loc["sc_fig4a_sharpness"]
    assert found["verdict"] == verdict and ("from 3-3 to 1-1 of 2/eta_0, does not" in found["premise"]) == (
        fallen == ONE
    )
    reason = "premise: the run is not sharpening from below the edge of stability, 1 layer a block of Fig. 4"
    assert found["note"].startswith(reason) == (fallen == ONE)


def test_shift_is_signed_and_stated_for_eight_times_the_depth():
    def backwards(label, depth, rate, step, seed):
        rate = rate if label == ONE else 0.25**2 / rate * 2**1.5
        return loss(label, depth, rate, step, seed)

    found = rows("sc_fig4b_transfer", **of_runs(transfer_runs(backwards))).loc["sc_fig4b_transfer"]
    assert found["value"] == pytest.approx(-1.5, abs=0.05) and found["verdict"] == Verdict.CONTRADICTED
    deep = transfer_runs(depths=(3, 12, 48), rates=(0.125, 0.25, 0.5, 1.0, 2.0))  # 16 times the depth
    assert STATISTICS[SHIFT.format(TWO)]({"sc_fig04": deep}).value == pytest.approx(1.5, abs=0.05)


# --- the authors' sweeps ----------------------------------------------------------------------------------------------

PUBLISHED = ["sc_fig4a_published", "sc_fig4b_published"]


@pytest.mark.parametrize(("label", "claim", "value"), [(ONE, PUBLISHED[0], 1.86), (TWO, PUBLISHED[1], 1.75)])
def test_best_rates_twice_as_large_are_not_those_of_the_authors(label, claim, value):
    """The furthest of all depths counts: 3 with one layer a block, 6 with two."""

    def moved(name, depth, rate, step, seed):
        return loss(name, depth, rate / (2 if name == label else 1), step, seed)

    found = rows(*PUBLISHED, **of_runs(transfer_runs(moved, rates=(*RATES, 4.0))))
    assert found.loc[claim, "value"] == pytest.approx(value, abs=0.02)
    assert found.loc[claim, "verdict"] == Verdict.CONTRADICTED
    assert found["verdict"].tolist().count(Verdict.CONFIRMED) == 1
    assert "theirs 3: 0.2" in found.loc[claim, "note"]


OTHERS = {
    "other data": {"data": {"name": "mnist"}},
    "some of the images": {"data": CIFAR10 | {"examples": 1000}},
    "another network": {"network": {"model": MODELS[ONE] | {"gain": 1}}},
    "no skips": {"network": {"model": MODELS[ONE] | {"tau": 0}}},
    "less than a quarter of their epochs": {"network": {"steps": 3900}},
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_networks_data_and_shorter_training_are_not_compared(case):
    found = rows(*PUBLISHED, **of_runs(transfer_runs(**OTHERS[case])))
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found["note"].str.contains("not their network or data, or less than a quarter of their epochs").all()


def test_layers_a_block_are_part_of_the_network():
    swapped = transfer_runs()
    networks = swapped.attrs["provenance"]["spec"]["networks"]
    networks[ONE], networks[TWO] = networks[TWO], networks[ONE]
    assert set(rows(*PUBLISHED, **of_runs(swapped))["verdict"]) == {Verdict.INCONCLUSIVE}


def test_networks_without_skips_that_train_best_where_the_authors_do_take_the_control_away():
    def theirs(label, depth, rate, step, seed):
        return bowl(PLAIN, 3, DEPTHS, rate / (0.7 + 0.01 * wobble(seed, depth)), step, seed)

    found = rows(*PUBLISHED, sc_fig08=no_skips(theirs))
    assert found.loc[PUBLISHED[0], "verdict"] == Verdict.INCONCLUSIVE
    assert "the negative control does not fail: it is confirmed" in found.loc[PUBLISHED[0], "note"]


def test_two_depths_of_the_authors_are_too_few():
    found = rows(*PUBLISHED, **of_runs(transfer_runs(depths=(3, 5, 10, 24))))
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found["note"].str.contains("2 depths of the authors' sweep, 3 are needed").all()


def test_distances_from_the_authors_are_known_within_bounds_next_to_a_rate_that_failed():
    """At 24 layers 0.5 is the best rate and 1 fails: between 0.35 and 1, theirs is 0.49."""
    runs = transfer_runs(failing(loss, lambda label, depth, rate, _: (label, depth) == (ONE, 24) and rate > 0.5))
    found = rows(*PUBLISHED, **of_runs(runs)).loc[PUBLISHED[0]]
    assert found["ci_high"] == pytest.approx(math.log2(1 / 0.49)) and found["verdict"] == Verdict.INCONCLUSIVE
    assert "24: 0.354 to 1; theirs" in found["note"]


# --- Figures 22 and 25 ------------------------------------------------------------------------------------------------


def test_a_loss_that_comes_closer_contradicts_its_faster_drift():
    def closing(label, depth, rate, step, seed):
        return 0.5 + (1 + 0.02 * wobble(seed, "closing")) / math.sqrt(step) / depth

    runs = of_runs(transfer_runs(closing, measured={ONE: (SHOWN,), TWO: (SHOWN,)}))
    found = rows("sc_fig22_rates", **runs).loc["sc_fig22_rates"]
    assert found["value"] == pytest.approx(-0.5 - 0.24, abs=0.03) and found["verdict"] == Verdict.CONTRADICTED
    assert "1 layer a block, sharpness: proxy L = 24; b by depth 3: 0.24, 6: 0.24, 12: 0.24" in found["note"]


def test_an_ntk_that_stays_close_takes_the_control_of_the_drift_away():
    def still(label, depth, rate, step, seed):
        return [3 + step ** (0.1 + 0.01 * wobble(seed, "still")) / depth]

    found = rows("sc_fig22_rates", sc_fig25=spectrum_runs(ntk_eigenvalue=still)).loc["sc_fig22_rates"]
    assert found["verdict"] == Verdict.INCONCLUSIVE and "does not fail" in found["control"]


def test_a_sharpness_that_drifts_alike_with_both_contradicts_the_difference():
    def alike(label, depth, rate, step, seed):
        return sharpness(ONE, depth, rate, step, seed + 7 * (label == TWO))

    found = rows("sc_fig22_blocks", **of_runs(transfer_runs(loss, alike))).loc["sc_fig22_blocks"]
    assert found["value"] == pytest.approx(0, abs=0.02) and found["verdict"] == Verdict.CONTRADICTED


def test_distances_below_the_noise_floor_decide_nothing():
    def noisy(label, depth, rate, step, seed):
        return loss(label, depth, rate, step, seed) + 0.3 * wobble(seed, depth, step)

    found = rows("sc_fig22_rates", **of_runs(transfer_runs(noisy))).loc["sc_fig22_rates"]
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert "1 layer a block, training_loss: below the noise floor of 6 seeds at L = 3, 6, 12" in found["note"]


def test_four_seeds_are_too_few_for_a_distance():
    found = rows("sc_fig22_rates", "sc_fig22_blocks", **of_runs(transfer_runs(seeds=4)))
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found["note"].str.contains("units = 4: a jackknife needs at least 5").all()


def test_both_eigenvalues_have_to_depend_on_the_depth():
    """The tenth alone does not suffice, nor does the first alone."""
    for power in (lambda k: (k - 1) / 9, lambda k: (10 - k) / 9):

        def uneven(label, depth, rate, step, seed, power=power):
            tilt = (0.4 + 0.01 * wobble(seed, "tilt")) * octaves(depth)
            return [2 ** (tilt * power(k)) / k * (1 + 0.001 * wobble(seed, depth, k)) for k in range(1, 11)]

        found = rows("sc_fig25_spectrum", sc_fig25=spectrum_runs(sharpness=uneven)).loc["sc_fig25_spectrum"]
        assert found["value"] == pytest.approx(0, abs=0.01) and found["verdict"] == Verdict.CONTRADICTED


def test_the_smaller_of_two_dependences_has_intervals_that_hold_together(planted):
    own = TABLES["sc_fig25"]
    each = [-late_slopes(own[own["index"].isin((0, index))], TWO, *range(6)) for index in (1, 10)]
    bounds = [stats.t.interval(0.975, 5, slope.mean(), stats.sem(slope)) for slope in each]
    expected = [min(slope.mean() for slope in each), *map(min, zip(*bounds, strict=True))]
    assert planted.loc["sc_fig25_spectrum", ["value", "ci_low", "ci_high"]].tolist() == pytest.approx(expected)


def test_an_ntk_that_falls_with_the_depth_depends_on_it_as_well():
    def inverse(label, depth, rate, step, seed):
        return [1 / ntk(label, depth, rate, step, seed)[0]]

    found = rows("sc_fig25_ntk", sc_fig25=spectrum_runs(ntk_eigenvalue=inverse)).loc["sc_fig25_ntk"]
    assert found["value"] == pytest.approx(0.4, abs=0.01) and found["verdict"] == Verdict.CONFIRMED


def test_eigenvalues_that_were_not_measured_are_named():
    few = TABLES["sc_fig25"][TABLES["sc_fig25"]["index"] < 10]
    found = rows("sc_fig25_spectrum", "sc_fig25_ntk", sc_fig25=few)
    assert found.loc["sc_fig25_spectrum", "note"] == f"this run has no sharpness 10 of {TWO}"
    without = TABLES["sc_fig25"][TABLES["sc_fig25"]["quantity"] != "ntk_eigenvalue"]
    found = rows("sc_fig25_ntk", "sc_fig22_rates", sc_fig25=without)
    assert found.loc["sc_fig25_ntk", "note"] == f"this run has no ntk_eigenvalue 1 of {TWO}"
    assert f"not computed (this run has no ntk_eigenvalue 1 of {ONE})" in found.loc["sc_fig22_rates", "control"]


# --- what cannot be decided -------------------------------------------------------------------------------------------


def of_depths(*depths: int) -> dict[str, pd.DataFrame]:
    """The planted tables of the room with these depths only."""
    return {name: table[table["depth"].isin(depths)] for name, table in OWN.items()}


def test_two_depths_are_judged_without_an_error_and_decide_nothing():
    found = rows(**of_depths(3, 24))
    exponents = ["sc_fig4a_sharpness", "sc_fig4b_spread", "sc_fig25_spectrum", "sc_fig25_ntk"]
    exponents += ["sc_fig22_rates", "sc_fig22_blocks"]
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found.loc[exponents, "note"].str.endswith("2 depths, at least 3 are needed").all(), found["note"].to_dict()
    assert found.loc["sc_fig4a_transfer", "note"] == f"{ONE}: depths 3, 24: three over a factor 8 are needed"


def test_less_than_a_factor_8_tells_no_shift_but_slopes():
    found = rows(**of_depths(3, 6, 12))
    shifts = found.loc[["sc_fig4a_transfer", "sc_fig4b_transfer", *PUBLISHED]]
    assert set(shifts["verdict"]) == {Verdict.INCONCLUSIVE}
    assert shifts["note"].str.contains("a block: depths 3, 6, 12: three over a factor 8 are needed").all()
    assert set(found.drop(index=shifts.index)["verdict"]) == {Verdict.CONFIRMED}


def test_two_seeds_are_judged_without_an_error():
    few = {name: table[table["seed"] < 2] for name, table in TABLES.items()}
    found = ledger([c for c in CRITERIA if c.compute], few, "planted")[0].set_index("claim_id")
    assert "a jackknife needs at least 5" in found.loc["sc_fig22_rates", "note"]
    assert found.loc["sc_fig4a_sharpness", "n"] == 2


@pytest.mark.parametrize(
    ("label", "what"), [(ONE, math.nan), (ONE, 3.0), (TWO, math.inf)], ids=["died", "chance", "diverged"]
)
def test_a_depth_that_fails_in_all_seeds_is_no_evidence(label, what):
    """It diverges, dies, or ends at chance: never a low sharpness, and never a best learning rate."""

    def failing(name, depth, rate, step, seed):
        return what if (name, depth) == (label, 24) else loss(name, depth, rate, step, seed)

    found = rows(**everywhere(failing))
    own = {ONE: ["sc_fig4a_transfer", "sc_fig4a_sharpness", "sc_fig22_rates"], TWO: ["sc_fig4b_transfer"]}[label]
    own += {ONE: [], TWO: ["sc_fig25_spectrum", "sc_fig25_ntk"]}[label]
    own += ["sc_fig4b_spread", "sc_fig22_blocks"]  # which compare both
    assert set(found.loc[own, "verdict"]) == {Verdict.INCONCLUSIVE}
    transfer = found.loc["sc_fig4a_transfer" if label == ONE else "sc_fig4b_transfer", "note"]
    assert "no rate is left at 24" in transfer
    failed = f"{label}: at every measured learning rate some network diverged, died or ended at chance"
    rest = found.loc[[claim for claim in own if "transfer" not in claim], "note"]
    assert rest.str.contains(failed, regex=False).all(), rest.to_dict()


def test_one_measured_rate_has_none_below_it():
    one = {ONE: (SHOWN,), TWO: (SHOWN,)}
    found = rows(**of_runs(transfer_runs(measured=one)))
    needed = f"{ONE}: the sharpness was measured at no rate below 0.5, the best of the measured"
    assert found.loc["sc_fig4a_sharpness", "note"] == needed
    assert needed in found.loc["sc_fig4b_spread", "control"]
    assert set(found.loc[["sc_fig4a_sharpness", "sc_fig4b_spread"], "verdict"]) == {Verdict.INCONCLUSIVE}
    assert found.loc["sc_fig22_rates", "verdict"] == Verdict.CONFIRMED


def test_a_network_that_was_not_run_is_named():
    without = {name: table[table["series"] != TWO] for name, table in TABLES.items()}
    for name in (SHIFT.format(TWO), "slope in the depth of the late NTK eigenvalue, 2 layers a block"):
        with pytest.raises(Undecidable, match=f"this run has no rows with series = {TWO}"):
            STATISTICS[name](without)


def test_best_rates_at_the_end_of_their_grid_decide_nothing():
    """They may lie anywhere above, at every depth."""
    found = rows("sc_fig4a_transfer", **of_runs(transfer_runs(rates=(0.125, 0.25, 0.5), measured={})))
    own = found.loc["sc_fig4a_transfer"]
    assert own["verdict"] == Verdict.INCONCLUSIVE and own["note"].startswith("the interval straddles the threshold")
    assert (own["ci_low"], own["ci_high"]) == (-math.inf, math.inf)
    assert "by depth 3: 0.354 or more, 6: 0.354 or more, 12: 0.354 or more, 24: 0.354 or more" in own["note"]


@pytest.mark.parametrize(
    ("start", "power", "low", "verdict"), [(0.18, 1.0, 2.07, "contradicted"), (0.435, 0.3, 0.72, "inconclusive")]
)
def test_best_rates_of_the_deepest_networks_at_the_end_of_their_grid_tell_a_least_shift(start, power, low, verdict):
    """They lie above the middle of 0.5 and 1, the largest rate: if that alone is more than a step, so is the shift."""

    def rising(label, depth, rate, step, seed):
        optimum = start * 2 ** (power * octaves(depth) + 0.02 * wobble(seed, label, "best"))
        bowl = 0.05 * math.log2(rate / (optimum if label == ONE else depth_cases.best(label, depth, seed))) ** 2
        return 0.3 + (step / 100) * (bowl + 0.4 / math.sqrt(depth))

    found = rows("sc_fig4a_transfer", **of_runs(transfer_runs(rising, rates=RATES[:4]))).loc["sc_fig4a_transfer"]
    assert found["ci_low"] == pytest.approx(low, abs=0.1) and found["ci_high"] == math.inf
    assert found["verdict"] == verdict and "24: 0.707 or more" in found["note"]


def test_best_rates_next_to_a_rate_that_failed_are_known_within_wide_bounds():
    """One layer a block trains best at 0.5 and fails at 1: between the middle to 0.25 and 1 at every depth."""
    runs = of_runs(transfer_runs(failing(loss, lambda label, depth, rate, _: label == ONE and rate > 0.5)))
    found = rows("sc_fig4a_transfer", **runs).loc["sc_fig4a_transfer"]
    assert found[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([0, -1.8, 1.8])
    assert found["verdict"] == Verdict.INCONCLUSIVE and found["note"].startswith("the interval straddles")
    assert "3: 0.354 to 1, 6: 0.354 to 1" in found["note"]


def test_one_depth_that_fails_next_to_its_best_rate_leaves_the_shift_decidable():
    """Of 12 layers: a slope has 0.3 times the bounds, 0.35 and 1, on top of what other depths say."""
    runs = of_runs(
        transfer_runs(failing(loss, lambda label, depth, rate, _: (label, depth) == (ONE, 12) and rate > 0.5))
    )
    found = rows("sc_fig4a_transfer", **runs).loc["sc_fig4a_transfer"]
    assert found["verdict"] == Verdict.CONFIRMED and found["control"].endswith("fails, as it must")
    known = rows("sc_fig4a_transfer").loc["sc_fig4a_transfer"]
    width, without = (one["ci_high"] - one["ci_low"] for one in (found, known))
    assert width == pytest.approx(0.3 * 1.5 + without, abs=0.05) and "12: 0.354 to 1" in found["note"]


@pytest.mark.parametrize(("steps", "verdict"), [(1, Verdict.CONFIRMED), (0.5, Verdict.INCONCLUSIVE)])
def test_bounds_suffice_where_best_rates_move_by_more_than_their_width(steps, verdict):
    """Two layers a block: the deeper, the larger the rate up to which networks train, and they train best there."""

    def growing_best(label, depth, rate, step, seed):
        if label == ONE:
            return loss(label, depth, rate, step, seed)
        too_large = rate > 0.3 * 2 ** math.floor(steps * octaves(depth))
        return math.inf if too_large and step > 20 else 1 / (1 + rate) + 0.01 * wobble(seed, depth)

    runs = of_runs(transfer_runs(growing_best, rates=(*RATES, 4.0, 8.0), measured={}))
    found = rows("sc_fig4b_transfer", **runs).loc["sc_fig4b_transfer"]
    shift = {1: 3.0, 0.5: 1.2}[steps]
    numbers = found[["value", "ci_low", "ci_high"]].tolist()
    assert numbers == pytest.approx([shift, shift - 1.8, shift + 1.8]) and found["verdict"] == verdict


# --- seeds that are left out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "left"), [(2, 8), (3, 0)])
def test_seeds_of_which_a_network_diverged_are_left_out_up_to_a_fifth(lost, left):
    def diverging(label, depth, rate, step, seed):
        return math.inf if (depth, step) == (6, 60) and seed < lost else loss(label, depth, rate, step, seed)

    of_rates = ["sc_fig4a_transfer", "sc_fig4b_transfer", *PUBLISHED]
    found = rows(**everywhere(diverging, seeds=10)).drop(index=of_rates)
    if left:
        assert set(found["verdict"]) == {Verdict.CONFIRMED} and set(found["n"]) == {left}
        assert found["note"].str.contains(f"without {lost} of 10 seeds, of which a network diverged").all()
    else:
        assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
        assert found["note"].str.contains("at every measured learning rate some network diverged").all()


@pytest.mark.parametrize("lost", [{TWO: 3}, {ONE: 0, TWO: 3}])
def test_networks_that_lost_different_seeds_are_compared_over_those_that_both_have(lost):
    def diverging(label, depth, rate, step, seed):
        gone = seed == lost.get(label) and (depth, step) == (6, 60)
        return math.inf if gone else loss(label, depth, rate, step, seed)

    table = transfer_runs(diverging, seeds=8)
    found = rows("sc_fig4b_spread", "sc_fig22_blocks", **of_runs(table))
    both = sorted(set(range(8)) - set(lost.values()))
    two, one = (abs(late_slopes(table, label, *both).mean()) for label in (TWO, ONE))
    expected = two - max(1.5 * one, 0.1)
    assert found.loc["sc_fig4b_spread", "value"] == pytest.approx(expected)
    assert set(found["n"]) == {len(both)} and set(found["verdict"]) == {Verdict.CONFIRMED}
    assert found["note"].str.contains(f"without {len(lost)} of 8 seeds, of which a network diverged").all()
    whole = transfer_runs(seeds=8)
    alone = rows("sc_fig22_blocks", **of_runs(whole[whole["seed"].isin(both)])).loc["sc_fig22_blocks"]
    numbers = ["value", "ci_low", "ci_high"]
    assert found.loc["sc_fig22_blocks", numbers].tolist() == pytest.approx(alone[numbers].tolist())


# --- settings ---------------------------------------------------------------------------------------------------------


def over_depth(kind: type[Spec], changes: dict | None = None, network: dict | None = None) -> Spec:
    """Settings of one of the figures, changed; ``network`` changes that with two layers a block."""
    networks = {ONE: residual(1), TWO: residual(2) | (network or {})}
    shown = quantities("sharpness", *(["ntk_eigenvalue"] if kind is DepthSpectrumSpec else []))
    return kind.model_validate(
        SWEEP | {"networks": networks} | shown | (changes or {}),
    )


def residual(layers: int) -> dict:
    """Settings of a network with so many layers a block."""
    model = {"kind": "convnet", "depth": 2, "tau": 1, "layers_per_block": layers}
    return NETWORK | {"model": model, "parameterization": "DEPTH_MUP", "depths": [2, 3], "widths": [4]}


def only(label: str) -> dict:
    """The settings of this network alone."""
    return {"networks": {label: residual(1)}}


def quantities(*names: str) -> dict:
    """Settings in which these are measured."""
    return {"curvature": {"quantities": list(names), "images": 16}}


EVERY = (DepthTransferSpec, DepthCurveSpec, DepthSpectrumSpec)
REFUSED = {
    "one network": (EVERY, only(ONE), {}, [f"networks = ['{ONE}']: '{TWO}' is needed"]),
    "the other network": (EVERY, only(TWO), {}, [f"networks = ['{TWO}']: '{ONE}' is needed"]),
    "one depth": (EVERY, {}, {"depths": [3], "widths": [4, 8]}, [f"networks.{TWO}.depths = [3]", "at least 2 are"]),
    "no depths": (EVERY, {}, {"depths": None, "widths": [4, 8]}, [f"networks.{TWO}.depths = null", "at least 2 are"]),
    "width and depth": (
        EVERY,
        {},
        {"widths": [4, 8]},
        [f"networks.{TWO}.depths = [2, 3]: with widths = [4, 8]", "give one width or leave depths out"],
    ),
    "no sharpness": (
        EVERY,
        quantities("ntk_eigenvalue"),
        {},
        ["curvature.quantities = ['ntk_eigenvalue']: must hold sharpness"],
    ),
    "no NTK": (
        (DepthSpectrumSpec,),
        quantities("sharpness"),
        {},
        ["curvature.quantities = ['sharpness']: must hold ntk_eigenvalue"],
    ),
    "too coarse": (
        (DepthTransferSpec,),
        {},
        {"learning_rates": [0.5, 2.0]},
        [f"networks.{TWO}.learning_rates = [0.5, 2.0]: too coarse", "at least 3 rates"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_cannot_be_drawn_are_refused_in_one_line(case):
    kinds, changes, network, words = REFUSED[case]
    for kind in kinds:
        assert over_depth(kind)
        with pytest.raises(ValueError) as fault:
            over_depth(kind, changes, network)
        message = fault.value.errors()[0]["msg"]
        assert "\n" not in message and [word for word in words if word not in message] == [], message
