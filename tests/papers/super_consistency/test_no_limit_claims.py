"""Claims about networks without a limit: planted effects are found, failures counted, what cannot decide says so."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats

from featurespeed.ledger.engine import PREMISES, STATISTICS, Undecidable, Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.depth.spec import ONE
from featurespeed.papers.super_consistency.no_limit.spec import (
    COLD,
    LONG,
    PLAIN,
    SHORT,
    WARM,
    NoScalingSpec,
    NoSkipsSpec,
    StandardSpec,
)
from featurespeed.values import Spec
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency import depth_cases
from tests.papers.super_consistency.no_limit_cases import (
    all_tables,
    bowl,
    falling,
    growing,
    growing_with_width,
    loss,
    loss_over_width,
    no_scaling,
    no_skips,
    standard,
)
from tests.papers.super_consistency.transfer_cases import transfer_table
from tests.sweeps.cases import WIDTHS
from tests.sweeps.spec_cases import NETWORK, SWEEP

ROOM = "sc_no_limit"
CRITERIA = criteria_of(ROOM)
#: Controls of this room that are about muP and Depth-muP, whose rooms have them.
OTHERS = {
    "shift of the best learning rate for 16 times the width, muP",
    "shift of the best learning rate for 8 times the depth, 1 layer a block",
}
#: Controls of other rooms that are about the networks of this one -> the room.
ABSOLUTE = "absolute slope of the late sharpness in the depth, no 1/sqrt(L), warm-up"
ELSEWHERE = {ABSOLUTE: "sc_depth", "shift of the best learning rate for 8 times the depth, no 1/sqrt(L)": "sc_adam"}
DEEPEST = "share of seeds of which the deepest network fails, no 1/sqrt(L)"
AS_DEEP = "share of seeds of which a network as deep fails, Depth-muP"
STABLE = "shift of the largest stable learning rate for 8 times the depth, {}"
RATES = tuple(2.0**power for power in range(-4, 5))


def to_the_edge(label, depth, rate, step, seed):
    """Without 1/sqrt(L) and warm-up networks diverge from 16 on at 3 layers, from 1 on at 24; with it, nowhere."""
    too_much = label == COLD and rate > 12 * 2 ** (-4 / 3 * depth_cases.octaves(depth)) and step >= 30
    return math.inf if too_much else bowl(label, depth, depth_cases.DEPTHS, rate, step, seed)


def unscaled(change_loss=to_the_edge, change_sharpness=growing, **options) -> pd.DataFrame:
    """The runs of Figure 6 up to rates at which all networks without warm-up diverge."""
    return no_scaling(change_loss, change_sharpness, **({"rates": RATES} | options))


def fails_at_two(label, depth, rate, seed):
    """Depth-muP: at 2 all networks fail, at 1 one in a seed at two of the depths."""
    return label == ONE and (rate > 1 or (rate == 1 and (depth, seed) in ((6, 0), (12, 3))))


SCALED = depth_cases.transfer_runs(depth_cases.failing(depth_cases.loss, fails_at_two, since=50))
TABLES = all_tables() | {"sc_fig04": SCALED, "sc_fig06": unscaled()}


def rows(*claims: str, **tables: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    return ledger(criteria, TABLES | tables, "planted")[0].set_index("claim_id")


def row(claim: str, **tables: pd.DataFrame) -> pd.Series:
    """The ledger of one claim."""
    return rows(claim, **tables).loc[claim]


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return rows()


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) - OTHERS == statistics_of(ROOM) - set(ELSEWHERE)
    assert all(name in used_by(criteria_of(room)) for name, room in ELSEWHERE.items())


def test_runs_as_claimed_confirm_every_claim(planted):
    assert len(planted) == 10 and set(planted["verdict"]) == {Verdict.CONFIRMED}, planted[["verdict", "note"]]


def test_every_control_fails_and_has_other_data(planted):
    assert planted["control"].str.endswith("fails, as it must").all(), planted["control"].to_dict()
    assert faults(CRITERIA, TABLES) == []


def test_values_are_the_planted_ones(planted):
    expected = {
        "fig6_initial": 1.5, "fig6_transfer": -1.5, "fig6_warmup": 0.9, "fig6_divergence": 1.0, "fig6_stable": -4.2,
        "fig7_initial": 0.5, "fig7_transfer": -2.0, "fig7_warmup": 1.2, "fig8_sharpness": -0.4, "fig8_plain": -1.5,
    }  # fmt: skip
    assert planted["value"].to_dict() == pytest.approx(
        {f"sc_{claim}": value for claim, value in expected.items()}, abs=0.05
    )


def test_networks_exchanged_contradict_what_sets_them_apart():
    """Networks without warm-up behave like those with the longest one, and the reverse."""
    other = {COLD: WARM, WARM: COLD}
    over_width = {COLD: LONG, LONG: COLD, SHORT: SHORT}
    found = rows(
        sc_fig06=no_scaling(lambda label, *place: loss(other[label], *place)),
        sc_fig07=standard(lambda label, *place: loss_over_width(over_width[label], *place)),
    )
    for claim, value in {"sc_fig6_warmup": -0.9, "sc_fig7_warmup": -1.2, "sc_fig7_transfer": -0.8}.items():
        assert found.loc[claim, "value"] == pytest.approx(value, abs=0.05)
        assert found.loc[claim, "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_fig6_transfer", "value"] == pytest.approx(-2.4, abs=0.06)


def test_networks_that_have_a_limit_contradict_every_claim():
    """The runs of Depth-muP over the depth, and of muP over the width, in the place of those without a limit."""

    def scaled(label, depth, rate, step, seed):
        lost = math.inf if rate > 1 else 0.0
        return depth_cases.loss(ONE, depth, rate, step, seed + 10 * (label == WARM)) + lost

    def kept(label, depth, rate, step, seed):
        return depth_cases.sharpness(ONE, depth, rate, step, seed)

    def narrow(label, width, rate, step, seed):
        return bowl(COLD, 8, WIDTHS, rate * (1 + 0.001 * math.sin(seed + width + len(label))), step, seed)

    def same(label, width, rate, step, seed):
        return growing_with_width(COLD, 8, rate, step, seed) * (1 + 0.001 * math.sin(seed + width))

    found = rows(sc_fig06=no_scaling(scaled, kept), sc_fig07=standard(narrow, same), sc_fig08=no_skips(scaled, kept))
    assert set(found["verdict"]) == {Verdict.CONTRADICTED}, found[["value", "verdict", "note"]]


# --- what fails -------------------------------------------------------------------------------------------------------


def failing_in(lost: int, what: float = math.inf, seeds_of: str = COLD):
    """At the best rate of the shallowest network, 1, the deepest fails in the first ``lost`` seeds; elsewhere nothing
    does.
    """

    def changed(label, depth, rate, step, seed):
        failed = (label, depth, rate) == (seeds_of, 24, 1.0) and seed < lost and step >= 50
        return what if failed else bowl(label, depth, depth_cases.DEPTHS, rate, step, seed)

    return changed


@pytest.mark.parametrize("what", [math.inf, math.nan, 3.0], ids=["diverged", "died", "at chance"])
@pytest.mark.parametrize(("lost", "verdict"), [(0, "contradicted"), (4, "inconclusive"), (6, "confirmed")])
def test_seeds_of_which_the_deepest_network_fails_are_counted(lost, verdict, what):
    found = row("sc_fig6_divergence", sc_fig06=no_scaling(failing_in(lost, what)))
    assert (found["value"], found["n"]) == (lost / 6, 6)
    low = stats.beta.ppf(0.025, lost, 7 - lost) if lost else 0.0
    high = stats.beta.ppf(0.975, lost + 1, 6 - lost) if lost < 6 else 1.0
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((low, high))
    assert found["verdict"] == verdict and f"{COLD}: L = 24 at 1, {lost} of 6 fail" in found["note"]


def test_failures_of_another_network_or_at_another_rate_do_not_count():
    def elsewhere(label, depth, rate, step, seed):
        failed = (label == WARM and rate == 1.0) or (label == COLD and (depth == 12) == (rate == 1.0) and rate >= 1.0)
        return math.inf if failed and depth > 3 else bowl(label, depth, depth_cases.DEPTHS, rate, step, seed)

    assert row("sc_fig6_divergence", sc_fig06=no_scaling(elsewhere))["value"] == 0


def test_a_scaled_network_that_fails_as_well_takes_the_control_away():
    def failing(label, depth, rate, step, seed):
        failed = (label, depth, rate) == (ONE, 24, 0.5) and step >= 50
        return math.inf if failed else depth_cases.loss(label, depth, rate, step, seed)

    found = row("sc_fig6_divergence", sc_fig04=depth_cases.transfer_runs(failing))
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert "the negative control does not fail: it is confirmed" in found["note"]


@pytest.mark.parametrize(("fails", "share"), [(24, 0), (48, 1), (96, 0)])
def test_a_scaled_network_is_looked_at_at_the_first_depth_that_is_as_large(fails, share):
    """Of depths 3, 12, 48 and 96 that is 48, if the deepest without 1/sqrt(L) has 24 layers."""

    def failing(label, depth, rate, step, seed):
        failed = (label, depth, rate) == (ONE, fails, 0.5) and step >= 50
        return math.inf if failed else depth_cases.loss(label, depth, rate, step, seed)

    scaled = depth_cases.transfer_runs(failing, depths=(3, 12, 48, 96))
    found = STATISTICS[AS_DEEP](TABLES | {"sc_fig04": scaled})
    assert found.value == share and f"{ONE}: L = 48 at 0.5, {6 * share} of 6 fail" in found.note


def test_without_a_scaled_network_as_deep_there_is_no_control():
    found = row("sc_fig6_divergence", sc_fig04=SCALED[SCALED["depth"] < 24])
    assert found["value"] == 1.0 and found["verdict"] == Verdict.INCONCLUSIVE
    assert f"not computed ({ONE}: no network is as deep as L = 24)" in found["control"]
    shallow = TABLES["sc_fig06"][TABLES["sc_fig06"]["depth"] < 24]  # then 12 layers are as deep
    assert STATISTICS[AS_DEEP]({"sc_fig04": SCALED[SCALED["depth"] < 24], "sc_fig06": shallow}).value == 0


def test_a_shallowest_network_that_fails_at_every_rate_cannot_decide():
    def failing(label, depth, rate, step, seed):
        return math.inf if depth == 3 and seed == 0 else loss(label, depth, rate, step, seed)

    with pytest.raises(Undecidable, match="no warm-up: at every learning rate some seed of L = 3 fails"):
        STATISTICS[DEEPEST]({"sc_fig06": no_scaling(failing)})


def failing_beyond(largest: float):
    """Every network of Figure 6 fails at larger rates, and trains best at the largest that are left."""

    def changed(label, depth, rate, step, seed):
        return math.inf if rate > largest and step >= 20 else 1 / (1 + rate) + 0.01 * depth_cases.wobble(seed, depth)

    return changed


def test_best_rates_next_to_those_at_which_networks_diverge_are_known_within_wide_bounds():
    found = rows(sc_fig06=no_scaling(failing_beyond(0.25)))
    # between the middle of 0.125 and 0.25 and 0.5 at every depth; of two networks each
    for claim, width in {"sc_fig6_transfer": 1.8, "sc_fig6_warmup": 3.6}.items():
        numbers = found.loc[claim, ["value", "ci_low", "ci_high"]].tolist()
        assert numbers == pytest.approx([0, -width, width]) and found.loc[claim, "verdict"] == Verdict.INCONCLUSIVE
        assert "warm-up 3: 0.177 to 0.5" in found.loc[claim, "note"].replace("by depth ", "")
    assert found.loc["sc_fig6_stable", ["ci_low", "ci_high"]].tolist() == pytest.approx([-1.2, 1.2])
    assert found.loc["sc_fig6_stable", "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_fig6_initial", "verdict"] == Verdict.CONFIRMED  # it is that before training


def test_best_rates_at_the_end_of_the_grid_decide_nothing():
    """At all but the smallest rate networks diverge: nothing is known below it."""
    found = rows(sc_fig06=no_scaling(failing_beyond(0.0625)))
    for claim in ("sc_fig6_transfer", "sc_fig6_warmup"):
        own = found.loc[claim]
        assert own["verdict"] == Verdict.INCONCLUSIVE and (own["ci_low"], own["ci_high"]) == (-math.inf, math.inf)
        assert own["note"].startswith("the interval straddles the threshold")
        assert "3: up to 0.125, 6: up to 0.125, 12: up to 0.125, 24: up to 0.125" in own["note"]


def test_a_best_rate_that_falls_below_the_grid_falls_by_two_steps_or_more():
    """Deep networks train best at the smallest rate of the grid, 0.5, or below it, and shallow ones at 4."""
    whole = rows("sc_fig6_transfer").loc["sc_fig6_transfer"]
    found = row("sc_fig6_transfer", sc_fig06=unscaled(falling_from_four, rates=RATES[3:]))
    assert found["ci_low"] == -math.inf and found["ci_high"] == pytest.approx(0.9 * (-0.5 - 2) + 0.3 * -1, abs=0.1)
    assert found["verdict"] == whole["verdict"] == Verdict.CONFIRMED and "24: up to 0.707" in found["note"]


def falling_from_four(label, depth, rate, step, seed):
    """Best rates 4, 2, 1, 0.5, which are the lowest points of parabolas, but for a little."""
    optimum = 4 * 2 ** (-1.02 * depth_cases.octaves(depth) + 0.01 * depth_cases.wobble(seed, depth))
    return 0.3 + 0.05 * math.log2(rate / optimum) ** 2


def test_a_best_rate_that_falls_by_more_than_its_bounds_is_confirmed():
    """Networks train best at the largest rate at which they train, which falls from 4 to 0.125."""

    def falling_best(label, depth, rate, step, seed):
        too_much = rate > 4.5 * 2 ** (-5 / 3 * depth_cases.octaves(depth)) and step >= 20
        return math.inf if too_much else 1 / (1 + rate) + 0.01 * depth_cases.wobble(seed, depth)

    found = row("sc_fig6_transfer", sc_fig06=unscaled(falling_best))
    # 4, 1, 0.25 (that is 0.45), 0.125 (0.14)
    shift = -0.9 * 2 - 0.3 * 0 + 0.3 * -2 + 0.9 * -3
    assert found[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([shift, shift - 1.8, shift + 1.8])
    assert found["verdict"] == Verdict.CONFIRMED


@pytest.mark.parametrize("edge", [1.0, 2.0])
def test_a_shift_whose_sign_is_not_known_may_be_as_large_on_the_other_side(edge):
    """With warm-up the two shallowest networks fail next to their best rates, which seem to grow a little: their shift
    may be more negative than it may be positive, and what warm-up takes away smaller than the estimate's sign says.
    """

    def growing_best(label, depth, rate, step, seed):
        if label == COLD:
            return bowl(COLD, depth, depth_cases.DEPTHS, rate, step, seed)
        failed = depth < 12 and rate > edge and step >= 20
        optimum = edge * (1.01 + 0.01 * depth_cases.wobble(seed, depth)) ** depth_cases.octaves(depth)
        return math.inf if failed else 0.3 + 0.05 * math.log2(rate / optimum) ** 2

    table = unscaled(growing_best)
    name = "shift of the best learning rate for 8 times the depth, no 1/sqrt(L){}"
    cold, warm = (STATISTICS[name.format(kind)]({"sc_fig06": table}) for kind in ("", ", warm-up"))
    assert warm.value > 0 and -warm.ci_low > warm.ci_high + 0.5 and warm.ci_low == pytest.approx(-1.2, abs=0.1)
    found = STATISTICS["what warm-up takes from the shift over the depth, no 1/sqrt(L)"]({"sc_fig06": table})
    assert found.value == pytest.approx(-cold.value - warm.value)
    assert found.ci_low == pytest.approx(-cold.value + warm.ci_low, abs=0.05)


# --- the largest stable rate ------------------------------------------------------------------------------------------


def test_the_largest_stable_rate_has_bounds_a_step_of_the_grid_apart(planted):
    found = planted.loc["sc_fig6_stable"]
    assert found[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([-4.2, -5.4, -3.0])
    assert f"{COLD}: from 3: 8 to 16, 6: 4 to 8, 12: 1 to 2, 24: 0.5 to 1 on networks fail" in found["note"]
    assert "Depth-muP (Fig. 4a): " in found["control"]


@pytest.mark.parametrize(
    ("power", "verdict"), [(0.0, "contradicted"), (2 / 3, "inconclusive"), (1.0, "inconclusive"), (4 / 3, "confirmed")]
)
def test_a_stable_rate_has_to_fall_by_two_steps_whatever_the_best_one_does(power, verdict):
    def to(label, depth, rate, step, seed):
        too_much = label == COLD and rate > 12 * 2 ** (-power * depth_cases.octaves(depth)) and step >= 30
        return math.inf if too_much else 0.3 + 0.05 * math.log2(rate) ** 2

    assert row("sc_fig6_stable", sc_fig06=unscaled(to))["verdict"] == verdict


def test_a_shallow_network_that_trains_at_every_rate_leaves_the_fall_without_a_lower_bound(planted):
    """Its largest stable rate is 8 or more: that of the others, less than it, falls by as much as is known, or more."""
    found = row("sc_fig6_stable", sc_fig06=unscaled(rates=RATES[:-1]))
    assert (found["ci_low"], found["ci_high"]) == (-math.inf, planted.loc["sc_fig6_stable", "ci_high"])
    assert found["verdict"] == Verdict.CONFIRMED and found["control"].endswith("fails, as it must")
    assert f"{COLD}: from 3: 8 or more, 6: 4 to 8, 12: 1 to 2, 24: 0.5 to 1 on networks fail" in found["note"]


def test_a_deep_network_that_trains_at_every_rate_contradicts_a_fall():
    """All others fail at 16, the deepest one nowhere: whatever its largest stable rate, it is no smaller one."""

    def to(label, depth, rate, step, seed):
        return to_the_edge(label, 3, rate, step, seed) if depth < 24 or rate < 10 else 0.3

    found = row("sc_fig6_stable", sc_fig06=unscaled(to))
    assert found["verdict"] == Verdict.CONTRADICTED and found["ci_high"] == math.inf
    assert "24: 16 or more on networks fail" in found["note"]


def test_a_grid_that_ends_too_early_has_no_largest_stable_rate():
    """Up to 1 networks train but the deepest ones: the rates of the others may be any larger ones."""
    found = row("sc_fig6_stable", sc_fig06=unscaled(rates=RATES[:5]))
    assert found["verdict"] == Verdict.INCONCLUSIVE and (found["ci_low"], found["ci_high"]) == (-math.inf, math.inf)
    assert "from 3: 1 or more, 6: 1 or more, 12: 1 or more, 24: 0.5 to 1 on networks fail" in found["note"]


def test_a_depth_that_trains_at_no_rate_is_named():
    def nowhere(label, depth, rate, step, seed):
        lost = (label, depth, seed) == (COLD, 12, 1) and step >= 20
        return math.inf if lost else to_the_edge(label, depth, rate, step, seed)

    found = row("sc_fig6_stable", sc_fig06=unscaled(nowhere))
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert found["note"].startswith(f"{COLD}: networks of a seed fail at every learning rate, of size 12")


def test_rates_too_small_to_learn_at_are_no_end_of_stability(planted):
    """At the smallest one networks stay at chance, whatever their depth."""

    def slow(label, depth, rate, step, seed):
        return 3.0 if rate < 0.1 else to_the_edge(label, depth, rate, step, seed)

    found = row("sc_fig6_stable", sc_fig06=unscaled(slow))
    numbers = ["value", "ci_low", "ci_high", "verdict"]
    assert found[numbers].tolist() == planted.loc["sc_fig6_stable", numbers].tolist()


def test_scaled_networks_of_which_none_fails_are_no_control_of_the_stable_rate():
    found = row("sc_fig6_stable", sc_fig04=all_tables()["sc_fig04"])
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert found["control"] == "Depth-muP (Fig. 4a): 0 [-inf, inf], does not fail (inconclusive)"
    assert STATISTICS[STABLE.format("Depth-muP")](TABLES).value == pytest.approx(0, abs=0.1)


def test_scaled_networks_whose_stable_rate_falls_as_well_take_the_control_away():
    def to(label, depth, rate, seed):
        return rate > 12 * 2 ** (-4 / 3 * depth_cases.octaves(depth))

    table = depth_cases.transfer_runs(depth_cases.failing(depth_cases.loss, to, since=50), rates=RATES)
    found = row("sc_fig6_stable", sc_fig04=table)
    assert found["verdict"] == Verdict.INCONCLUSIVE and "does not fail: it is confirmed" in found["note"]


def test_every_seed_has_its_own_largest_stable_rate():
    """One seed of which the deepest network fails one step earlier, and one of which it does two steps earlier."""

    def earlier(label, depth, rate, step, seed):
        factor = {0: 2, 1: 4}.get(seed, 1) if depth == 24 else 1
        return to_the_edge(label, depth, rate if rate < 0.1 else rate * factor, step, seed)

    found = STATISTICS[STABLE.format("no 1/sqrt(L)")]({"sc_fig06": unscaled(earlier)})
    assert sorted(found.sample) == pytest.approx([-4.2 - 0.9 * 2, -4.2 - 0.9, *[-4.2] * 4])


@pytest.mark.parametrize("what", [math.inf, math.nan, 3.0], ids=["diverged", "died", "at chance"])
def test_networks_that_fail_in_all_seeds_have_no_best_rate_and_no_sharpness(what):
    def deep(label, depth, rate, step, seed):
        return what if depth == 24 else loss(label, depth, rate, step, seed)

    def wide(label, width, rate, step, seed):
        return what if width == 128 else loss_over_width(label, width, rate, step, seed)

    found = rows(sc_fig06=no_scaling(deep), sc_fig07=standard(wide), sc_fig08=no_skips(deep))
    shifts = [f"sc_{claim}" for claim in ("fig6_transfer", "fig6_warmup", "fig7_transfer", "fig7_warmup", "fig8_plain")]
    assert set(found.loc[[*shifts, "sc_fig8_sharpness"], "verdict"]) == {Verdict.INCONCLUSIVE}
    assert found.loc[shifts, "note"].str.contains("no rate is left at (?:24|128)").all()
    failed = f"{PLAIN}: at every measured learning rate some network diverged, died or ended at chance"
    assert failed in found.loc["sc_fig8_sharpness", "note"]
    assert found.loc["sc_fig6_divergence", "value"] == 1.0


# --- before training --------------------------------------------------------------------------------------------------


def test_only_the_sharpness_before_training_counts_as_the_initial_one():
    def later(label, size, rate, step, seed):
        return growing(label, size, rate, 0, seed) if step else 1 + 0.01 * depth_cases.wobble(seed, size)

    found = rows("sc_fig6_initial", "sc_fig7_initial", sc_fig06=no_scaling(loss, later), sc_fig07=standard(
        loss_over_width, later))  # fmt: skip
    assert set(found["verdict"]) == {Verdict.CONTRADICTED} and found["value"].abs().max() < 0.02


def test_a_sharpness_that_was_not_measured_before_training_decides_nothing():
    for artefact, claim in {"sc_fig06": "sc_fig6_initial", "sc_fig07": "sc_fig7_initial"}.items():
        table = TABLES[artefact]
        found = row(claim, **{artefact: table[table["step"] > 0]})
        assert found["verdict"] == Verdict.INCONCLUSIVE
        assert found["note"] == f"{COLD}: the sharpness was not measured at step 0"
        found = row(claim, **{artefact: table[table["quantity"] != "sharpness"]})
        assert found["note"] == f"{COLD}: the sharpness was measured nowhere"


# --- the sharpness without skips --------------------------------------------------------------------------------------


def test_a_sharpness_that_grows_with_the_depth_contradicts_the_signed_slope():
    def rising(label, depth, rate, step, seed):
        return 0.1 / falling(label, depth, 1.0, step, seed)

    found = row("sc_fig8_sharpness", sc_fig08=no_skips(loss, rising))
    assert found["value"] == pytest.approx(0.4, abs=0.01) and found["verdict"] == Verdict.CONTRADICTED


@pytest.mark.parametrize("power", [0.4, -0.4])
def test_the_slope_without_scaling_is_that_with_warm_up_and_has_no_sign(power):
    def changed(label, depth, rate, step, seed):
        own = (power + 0.01 * depth_cases.wobble(seed, "power")) * depth_cases.octaves(depth)
        return growing(label, depth, rate, step, seed) * (2**own if label == WARM and step else 1.0)

    found = STATISTICS[ABSOLUTE]({"sc_fig06": unscaled(change_sharpness=changed)})
    assert found.value == pytest.approx(0.4, abs=0.01) and 0.38 < found.ci_low < found.ci_high < 0.42
    assert f"{WARM} at 0.0625, times eta_0/2 by size 3: 0.9" in found.note


@pytest.mark.parametrize(
    ("first", "others", "holds"), [(0.9, 0.9, True), (0.97, 0.97, False), (0.9, 0.99, False), (0.97, 0.5, False)]
)
def test_networks_that_learn_nothing_do_not_have_the_premise(first, others, holds):
    """At 0.97 of the loss of chance no seed has failed, but none has learned; every network counts."""

    def stuck(label, depth, rate, step, seed):
        bottom = bowl(label, depth, depth_cases.DEPTHS, rate, 100, seed)
        return math.log(10) * (others if seed else first) + 0.01 * (bottom - 0.3) if depth == 24 else bottom

    name = "trained below the loss of chance, no skips of Fig. 8"
    table = no_skips(stuck)
    condition = PREMISES[name](TABLES | {"sc_fig08": table})
    said = float(condition.note.removeprefix("loss at most ").removesuffix(", chance 2.3"))
    assert said == pytest.approx(max(first, others) * math.log(10), abs=0.01) and condition.holds is holds
    found = row("sc_fig8_sharpness", sc_fig08=table)
    assert found["verdict"] == (Verdict.CONFIRMED if holds else Verdict.INCONCLUSIVE)
    assert found["note"].startswith(f"premise: the run is not {name}") is not holds


@pytest.mark.parametrize(("lost", "left"), [(2, 8), (3, 0)])
def test_seeds_that_failed_are_left_out_of_the_sharpness_up_to_a_fifth(lost, left):
    def dying(label, depth, rate, step, seed):
        return math.nan if (depth, step) == (6, 60) and seed < lost else loss(label, depth, rate, step, seed)

    found = row("sc_fig8_sharpness", sc_fig08=no_skips(dying, seeds=10))
    told = f"without {lost} of 10 seeds, of which a network diverged, died or ended at chance" in found["note"]
    assert (found["n"], told) == (left, bool(left))
    assert found["verdict"] == (Verdict.CONFIRMED if left else Verdict.INCONCLUSIVE)


# --- what cannot be decided -------------------------------------------------------------------------------------------


def of_sizes(*places: int, sizes=depth_cases.DEPTHS, widths=WIDTHS) -> dict[str, pd.DataFrame]:
    """The planted tables with these sizes only, counted from 0."""
    kept = {sizes[k] for k in places if k < len(sizes)}, {widths[k] for k in places}
    own = {name: TABLES[name][TABLES[name]["depth"].isin(kept[0])] for name in ("sc_fig06", "sc_fig08")}
    return own | {"sc_fig07": TABLES["sc_fig07"][TABLES["sc_fig07"]["width"].isin(kept[1])]}


def test_two_sizes_are_judged_without_an_error_and_tell_failures_only():
    found = rows(**of_sizes(0, 3)).drop(index="sc_fig6_divergence")
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    exponents = ["sc_fig6_initial", "sc_fig7_initial", "sc_fig8_sharpness"]
    assert found.loc[exponents, "note"].str.contains("2 (?:sizes|depths).*at least 3 are needed").all()
    shifts = found["note"].drop(index=exponents)
    assert shifts.str.contains("(?:depths 3, 24|widths 8, 64): three over a factor 8 are needed").all()


def test_less_than_a_factor_8_tells_no_shift_but_slopes():
    found = rows(**of_sizes(0, 1, 2))
    shifts = [f"sc_{claim}" for claim in ("fig6_transfer", "fig6_warmup", "fig7_transfer", "fig7_warmup", "fig8_plain")]
    shifts.append("sc_fig6_stable")
    assert set(found.loc[shifts, "verdict"]) == {Verdict.INCONCLUSIVE}
    assert found.loc[shifts, "note"].str.contains("(?:depths 3, 6, 12|widths 8, 16, 32): three over a factor 8").all()
    slopes = ["sc_fig6_initial", "sc_fig7_initial", "sc_fig8_sharpness"]
    assert set(found.loc[slopes, "verdict"]) == {Verdict.CONFIRMED}


def test_a_factor_8_of_widths_is_stated_for_16():
    eighth = standard(widths=WIDTHS[:4])
    name = "shift of the best learning rate for 16 times the width, SP"
    assert STATISTICS[name]({"sc_fig07": eighth}).value == pytest.approx(-2.0, abs=0.05)


def test_two_seeds_are_judged_without_an_error():
    found = rows(**{name: table[table["seed"] < 2] for name, table in TABLES.items()})
    assert set(found["n"]) == {2} and found.loc["sc_fig6_divergence", "verdict"] == Verdict.INCONCLUSIVE


def test_one_measured_rate_suffices():
    one = {COLD: (0.125,), WARM: (0.125,), PLAIN: (0.125,)}
    found = rows(sc_fig06=unscaled(measured=one), sc_fig08=no_skips(measured=one))
    assert set(found["verdict"]) == {Verdict.CONFIRMED}
    assert "no skips at 0.125, times eta_0/2 by size" in found.loc["sc_fig8_sharpness", "note"]


def test_runs_with_other_numbers_of_seeds_are_not_paired():
    more = {"sc_fig01": transfer_table(labels=("muP",), seeds=4), "sc_fig04": depth_cases.transfer_runs(seeds=5)}
    found = rows("sc_fig6_warmup", "sc_fig7_warmup", **more)
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert f"not computed (5 of {ONE} and 6 of {WARM}: seeds" in found.loc["sc_fig6_warmup", "control"]
    assert f"not computed (4 of muP and 3 of {LONG}: seeds" in found.loc["sc_fig7_warmup", "control"]


def test_a_network_that_was_not_run_is_named():
    without = TABLES["sc_fig06"][TABLES["sc_fig06"]["series"] != WARM]
    found = rows("sc_fig6_transfer", "sc_fig6_warmup", sc_fig06=without)
    assert set(found["note"]) == {f"this run has no rows with series = {WARM}"}
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}


# --- settings ---------------------------------------------------------------------------------------------------------

PLAIN_DEEP = NETWORK | {"depths": [2, 3], "widths": [4]}
DEEP = PLAIN_DEEP | {"model": NETWORK["model"] | {"tau": 1}}
STANDARD = NETWORK | {"parameterization": "SP"}
WARMED = {"optimizer": {"warmup_steps": 5}}
LABELS = {NoScalingSpec: (COLD, WARM), StandardSpec: (COLD, LONG), NoSkipsSpec: (PLAIN,)}


def settings(kind: type[Spec], changes: dict | None = None, network: dict | None = None) -> Spec:
    """Settings of one of the figures, changed; ``network`` changes its last network."""
    labels = LABELS[kind]
    networks = dict.fromkeys(labels, {NoScalingSpec: DEEP, StandardSpec: STANDARD, NoSkipsSpec: PLAIN_DEEP}[kind])
    networks[labels[-1]] = networks[labels[-1]] | (WARMED if len(labels) > 1 else {}) | (network or {})
    own = {"networks": networks} | ({"first_steps": 10} if kind is NoScalingSpec else {})
    return kind.model_validate(SWEEP | own | (changes or {}))


NO_SHARPNESS = {"curvature": {"quantities": ["hessian_trace"], "images": 16}}
REFUSED = {
    "no warm-up": (NoScalingSpec, {"networks": {WARM: DEEP}}, {}, [f"networks = ['{WARM}']: '{COLD}' is needed"]),
    "no network with warm-up": (
        NoScalingSpec, {"networks": {COLD: DEEP}}, {}, [f"networks = ['{COLD}']: '{WARM}' is needed"],
    ),
    "no long warm-up": (
        StandardSpec, {"networks": {COLD: NETWORK, SHORT: NETWORK}}, {},
        [f"networks = ['{COLD}', '{SHORT}']: '{LONG}' is needed"],
    ),
    "another label": (NoSkipsSpec, {"networks": {COLD: DEEP}}, {}, [f"networks = ['{COLD}']: '{PLAIN}' is needed"]),
    "one depth, no scaling": (
        NoScalingSpec, {}, {"depths": [3], "widths": [4, 8]}, [f"networks.{WARM}.depths = [3]", "at least 2 are"],
    ),
    "one depth, no skips": (
        NoSkipsSpec, {}, {"depths": None, "widths": [4, 8]}, [f"networks.{PLAIN}.depths = null", "at least 2 are"],
    ),
    "depths in SP": (
        StandardSpec, {}, {"depths": [2, 3], "widths": [4]},
        [f"networks.{LONG}.depths = [2, 3]: the figure is over the width", "leave depths out"],
    ),
    "width and depth, no scaling": (
        NoScalingSpec, {}, {"widths": [4, 8]}, [f"networks.{WARM}.depths = [2, 3]: with widths = [4, 8]", "give one"],
    ),
    "width and depth, no skips": (
        NoSkipsSpec, {}, {"widths": [4, 8]}, [f"networks.{PLAIN}.depths = [2, 3]: with widths = [4, 8]", "give one"],
    ),
    "no sharpness over the depth": (NoScalingSpec, NO_SHARPNESS, {}, ["['hessian_trace']: must hold sharpness"]),
    "no sharpness over the width": (StandardSpec, NO_SHARPNESS, {}, ["['hessian_trace']: must hold sharpness"]),
    "no sharpness without skips": (NoSkipsSpec, NO_SHARPNESS, {}, ["['hessian_trace']: must hold sharpness"]),
    "first steps beyond the last": (
        NoScalingSpec, {"first_steps": 30}, {},
        ["first_steps = 30: allowed: from record_every = 10 to steps = 20"],
    ),
    "first steps before a record": (
        NoScalingSpec, {"first_steps": 9}, {}, ["first_steps = 9: allowed: from record_every = 10 to steps = 20"],
    ),
    "too coarse": (NoSkipsSpec, {}, {"learning_rates": [0.5, 2.0]}, [f"networks.{PLAIN}.learning_rates = [0.5, 2.0]"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_cannot_be_drawn_are_refused_in_one_line(case):
    kind, changes, network, words = REFUSED[case]
    assert settings(kind)
    with pytest.raises(ValueError) as fault:
        settings(kind, changes, network)
    message = fault.value.errors()[0]["msg"]
    assert "\n" not in message and [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("steps", [10, 20])
def test_first_steps_may_be_the_first_record_or_all_of_training(steps):
    assert settings(NoScalingSpec, {"first_steps": steps}).first_steps == steps
