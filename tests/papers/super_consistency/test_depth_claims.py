"""Claims about residual networks over their depth: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.depth.spec import (
    ONE,
    TWO,
    DepthCurveSpec,
    DepthSpectrumSpec,
    DepthTransferSpec,
)
from featurespeed.sweeps.dependence import slopes
from featurespeed.values import Spec
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.depth_cases import (
    DEPTHS,
    LATE,
    SHOWN,
    depth_tables,
    loss,
    ntk,
    octaves,
    sharpness,
    spectrum,
    spectrum_runs,
    transfer_runs,
    wobble,
)
from tests.papers.super_consistency.no_limit_cases import no_limit_tables
from tests.sweeps.spec_cases import NETWORK, SWEEP

ROOM = "sc_depth"
CRITERIA = criteria_of(ROOM)
NOT_RUN = "sc_fig4c_transfer"
#: Controls of this room that are about networks without skip connections, whose room has them.
NO_SKIPS = {
    "shift of the best learning rate for 8 times the depth, no skips",
    "absolute slope of the late sharpness in the depth, no skips",
}
TABLES = depth_tables() | {"sc_fig08": no_limit_tables()["sc_fig08"]}
SHIFT = "shift of the best learning rate for 8 times the depth, {}"


def rows(*claims: str, **tables: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all that are judged."""
    criteria = [c for c in CRITERIA if (c.claim_id in claims if claims else c.claim_id != NOT_RUN)]
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
    assert used_by(CRITERIA) - NO_SKIPS == statistics_of(ROOM)


def test_runs_as_claimed_confirm_every_claim(planted):
    assert len(planted) == 8 and set(planted["verdict"]) == {Verdict.CONFIRMED}, planted[["verdict", "note"]]
    assert rows(NOT_RUN)["verdict"].tolist() == [Verdict.NOT_RUN]


def test_every_control_fails_and_has_other_data(planted):
    assert planted["control"].str.endswith("fails, as it must").all(), planted["control"].to_dict()
    assert faults(CRITERIA, TABLES) == []


def test_values_are_the_planted_ones(planted):
    value = planted["value"]
    assert value["sc_fig4a_transfer"] == pytest.approx(0.06, abs=0.05)
    assert value["sc_fig4b_transfer"] == pytest.approx(1.5, abs=0.05)
    assert value["sc_fig4a_sharpness"] == pytest.approx(0.04, abs=0.005)
    assert value["sc_fig4b_spread"] == pytest.approx(0.3 * LATE - 1.5 * 0.04, abs=0.02)
    assert value["sc_fig25_spectrum"] == pytest.approx(0.3 * LATE, abs=0.01)  # the first eigenvalue depends less
    assert value["sc_fig25_ntk"] == pytest.approx(0.4, abs=0.01)


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
    assert found["value"] == pytest.approx(0.3 - 1.5 * 0.04, abs=0.01) and found["verdict"] == Verdict.CONFIRMED


def test_two_layers_have_to_spread_more_than_one_and_a_half_times_as_much():
    def alike(label, depth, rate, step, seed):
        return sharpness(ONE, depth, rate, step, seed + 7 * (label == TWO)) ** (1.2 if label == TWO else 1.0)

    found = rows("sc_fig4b_spread", **of_runs(transfer_runs(loss, alike))).loc["sc_fig4b_spread"]
    assert found["value"] == pytest.approx(-0.3 * 0.04, abs=0.005) and found["verdict"] == Verdict.CONTRADICTED


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
    """The planted tables with these depths only."""
    return {name: table[table["depth"].isin(depths)] for name, table in TABLES.items() if name != "sc_fig08"}


def test_two_depths_are_judged_without_an_error_and_decide_nothing():
    found = rows(**of_depths(3, 24))
    exponents = ["sc_fig4a_sharpness", "sc_fig4b_spread", "sc_fig25_spectrum", "sc_fig25_ntk"]
    exponents += ["sc_fig22_rates", "sc_fig22_blocks"]
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found.loc[exponents, "note"].str.endswith("2 depths, at least 3 are needed").all(), found["note"].to_dict()
    assert found.loc["sc_fig4a_transfer", "note"] == f"{ONE}: depths 3, 24: three over a factor 8 are needed"


def test_less_than_a_factor_8_tells_no_shift_but_slopes():
    found = rows(**of_depths(3, 6, 12))
    shifts = found.loc[["sc_fig4a_transfer", "sc_fig4b_transfer"]]
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
    found = rows("sc_fig4a_transfer", **of_runs(transfer_runs(rates=(0.125, 0.25, 0.5), measured={})))
    assert found.loc["sc_fig4a_transfer", "verdict"] == Verdict.INCONCLUSIVE
    assert "100% at an end of what did not fail of the grid 0.125 to 0.5" in found.loc["sc_fig4a_transfer", "note"]


# --- seeds that are left out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "left"), [(2, 8), (3, 0)])
def test_seeds_of_which_a_network_diverged_are_left_out_up_to_a_fifth(lost, left):
    def diverging(label, depth, rate, step, seed):
        return math.inf if (depth, step) == (6, 60) and seed < lost else loss(label, depth, rate, step, seed)

    found = rows(**everywhere(diverging, seeds=10)).drop(index=["sc_fig4a_transfer", "sc_fig4b_transfer"])
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
    expected = -late_slopes(table, TWO, *both).mean() - 1.5 * late_slopes(table, ONE, *both).mean()
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
    "no depths": (EVERY, {}, {"depths": None, "widths": [4, 8]}, [f"networks.{TWO}.depths = None", "at least 2 are"]),
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
