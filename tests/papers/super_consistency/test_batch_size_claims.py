"""Claims on late training and the batch size: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math
from functools import cache

import pandas as pd
import pytest

from featurespeed.ledger.engine import PREMISES, STATISTICS, Undecidable, Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.batch_size.spec import AUGMENTED, PLAIN
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.batch_size_cases import (
    SEEDS,
    batch_loss,
    batch_runs,
    batch_size_tables,
    best,
    late_loss,
    late_runs,
    late_sharpness,
    octaves,
    onset,
    wobble,
)

ROOM = "sc_batch_size"
CRITERIA = criteria_of(ROOM)
ONSET = "slope of the onset of the fall in the width, no augmentation"
DELAY = "delay of the fall by augmentation"
GROWTH = "growth of the best learning rate from B to 4B, Fig. 13"
FALLING = "falling at the two largest widths, no augmentation of Fig. 12"


@cache
def tables() -> dict[str, pd.DataFrame]:
    return batch_size_tables()


def judged(**changed: pd.DataFrame) -> pd.DataFrame:
    """Rows of the ledger, by claim; ``changed`` are stage tables."""
    claims, _ = ledger(CRITERIA, tables() | changed, "planted")
    return claims.set_index("claim_id")


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return judged()


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) == statistics_of(ROOM)


def test_runs_as_claimed_confirm_every_claim(planted):
    assert len(planted) == 8 and set(planted["verdict"]) == {Verdict.CONFIRMED}, planted[["verdict", "note"]]


def test_every_control_fails_and_has_other_data(planted):
    assert planted["control"].str.endswith("fails, as it must").all(), planted["control"].tolist()
    assert faults(CRITERIA, tables()) == []


# --- Figure 12 --------------------------------------------------------------------------------------------------------


def test_onsets_are_those_that_were_planted(planted):
    row = planted.loc["sc_fig12_late"]
    assert row["value"] == pytest.approx(-0.42, abs=0.06) and row["n"] == SEEDS
    assert "median onset by width 8: 68, 16: 50" in row["note"] and "never" not in row["note"]
    assert f"{4 * SEEDS} of {4 * SEEDS} networks never fall" in planted.loc["sc_fig12_augmentation", "note"]


def test_a_delay_is_that_to_the_last_step_where_nothing_falls(planted):
    """Smoothed, a curve that falls faster than it rose has its peak a little before."""
    each = [math.log(100 / onset(PLAIN, width, seed)) for width in (8, 16, 32, 64) for seed in range(SEEDS)]
    assert planted.loc["sc_fig12_augmentation", "value"] == pytest.approx(sum(each) / len(each), abs=0.2)


def exchanged(label, *place):
    """With augmentation what should be without, as the captions have it."""
    return late_sharpness(AUGMENTED if label == PLAIN else PLAIN, *place)


def test_captions_that_are_right_contradict_the_text():
    found = judged(sc_fig12=late_runs(late_loss, exchanged))
    assert found.loc["sc_discrepancy_fig13_augmentation", "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_fig12_fall", "verdict"] == Verdict.CONTRADICTED
    row = found.loc["sc_fig12_augmentation"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and row["note"].startswith(f"premise: the run is not {FALLING}")
    assert "share of seeds that fall 32: 0, 64: 0, does not hold" in row["premise"]
    assert "100% of the networks do not fall in 100 steps" in found.loc["sc_fig12_late", "note"]


def test_a_fall_that_begins_later_in_wider_networks_is_contradicted():
    def later(label, width, *place):
        return late_sharpness(label, 512 // width, *place)

    found = judged(sc_fig12=late_runs(late_loss, later))
    assert found.loc["sc_fig12_late", "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_fig12_augmentation", "control"].endswith("fails, as it must")  # it is about seeds


def test_halves_of_the_seeds_that_fall_at_other_times_take_the_control_of_the_delay_away():
    """The second half falls as the narrowest network does, the first as the widest: a delay without augmentation."""

    def uneven(label, width, rate, step, seed):
        return late_sharpness(label, 8 if seed >= SEEDS // 2 else 64, rate, step, seed)

    found = judged(sc_fig12=late_runs(late_loss, uneven)).loc["sc_fig12_augmentation"]
    assert found["verdict"] == Verdict.INCONCLUSIVE and "does not fail: it is confirmed" in found["note"]
    assert found["control"].startswith("one half of the seeds in place of augmentation")
    control = STATISTICS["delay of the fall in one half of the seeds against the other, no augmentation"]
    assert control({"sc_fig12": late_runs(late_loss, uneven)}).n == SEEDS // 2


def test_a_single_pair_of_seeds_is_no_control():
    found = judged(sc_fig12=late_runs(seeds=3)).loc["sc_fig12_augmentation", "control"]
    assert "not computed (1 seed, at least 2 are needed for an interval)" in found


def test_a_few_that_never_fall_count_with_the_last_step():
    def stuck(label, width, rate, step, seed):
        own = AUGMENTED if (width, seed) == (8, 0) else label
        return late_sharpness(own, width, rate, step, seed)

    found = STATISTICS[ONSET]({"sc_fig12": late_runs(late_loss, stuck)})
    assert f"1 of {4 * SEEDS} networks never fall and count with step 100" in found.note
    assert PREMISES[FALLING]({"sc_fig12": late_runs(late_loss, stuck)}).holds


def test_seeds_that_failed_with_or_without_augmentation_are_left_out_of_both():
    def dying(label, width, rate, step, seed):
        dead = step == 60 and (label, width, seed) in ((PLAIN, 8, 1), (AUGMENTED, 64, 4))
        return math.nan if dead else late_loss(label, width, rate, step, seed)

    stage = {"sc_fig12": late_runs(dying)}
    for name in (ONSET, DELAY):
        found = STATISTICS[name](stage)
        assert found.n == SEEDS - 2 and f"without 2 of {SEEDS} seeds" in found.note


def test_more_failures_cannot_decide():
    def dying(label, width, rate, step, seed):
        return math.nan if step == 60 and label == AUGMENTED else late_loss(label, width, rate, step, seed)

    stage = {"sc_fig12": late_runs(dying)}
    with pytest.raises(Undecidable, match=f"{AUGMENTED}: at 0.5 some network diverged, died"):
        STATISTICS[DELAY](stage)
    assert STATISTICS[ONSET](stage).n == SEEDS


def test_without_a_network_or_its_sharpness_nothing_is_said():
    with pytest.raises(Undecidable, match=AUGMENTED):
        STATISTICS[DELAY]({"sc_fig12": late_runs(labels=(PLAIN,))})
    own = tables()["sc_fig12"]
    bare = own[(own["series"] != AUGMENTED) | (own["quantity"] != "sharpness")]
    bare.attrs = own.attrs
    with pytest.raises(Undecidable, match=f"{AUGMENTED}: the sharpness was not measured"):
        STATISTICS[DELAY]({"sc_fig12": bare})
    nothing = own[own["quantity"] != "sharpness"]
    nothing.attrs = own.attrs
    with pytest.raises(Undecidable, match="the sharpness was not measured"):
        STATISTICS[ONSET]({"sc_fig12": nothing})


# --- Figures 13 and 14 ------------------------------------------------------------------------------------------------


def test_four_times_the_batch_has_four_times_the_best_rate(planted):
    for figure in (13, 14):
        row = planted.loc[f"sc_fig{figure}_batch"]
        assert row["value"] == pytest.approx(2, abs=0.1) and "best rates at 4B by width 8: 1.1" in row["note"]


def test_a_best_rate_that_does_not_follow_the_batch_contradicts():
    def same(label, width, rate, step, seed):
        bowl = 0.05 * math.log2(rate / (0.6 + 0.02 * wobble(seed, label, width))) ** 2
        return 0.6 + bowl + 1.5 * math.exp(-step / 10)

    grid = (0.125, 0.25, 0.5, 1.0, 2.0)
    rates = dict.fromkeys(("B", "2B", "4B"), grid)
    found = judged(sc_fig13=batch_runs(True, same, rates=rates))
    assert found.loc["sc_fig13_batch", "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_fig13_width", "verdict"] == Verdict.CONFIRMED


def test_one_batch_size_whose_best_rate_follows_the_width_contradicts_transfer():
    def following(label, width, rate, step, seed):
        moved = rate / 2 ** (0.6 * octaves(width) - 0.9) if label == "2B" else rate
        return batch_loss(False)(label, width, moved, step, seed)

    found = judged(sc_fig14=batch_runs(False, following, rates={
        "B": (0.125, 0.25, 0.5, 1.0), "2B": (0.125, 0.25, 0.5, 1.0, 2.0, 4.0), "4B": (0.5, 1.0, 2.0, 4.0),
    }))  # fmt: skip
    row = found.loc["sc_fig14_width"]
    assert row["value"] == pytest.approx(4 * 0.64, abs=0.1) and row["verdict"] == Verdict.CONTRADICTED


def test_a_best_rate_at_the_end_of_its_grid_bounds_the_growth_on_one_side():
    """That of B lies at 0.5, the smallest of its grid, or below: the growth is what it is from there, or more."""
    narrow = {"B": (0.5, 1.0, 2.0), "2B": (0.5, 1.0, 2.0), "4B": (0.5, 1.0, 2.0, 4.0)}
    found = judged(sc_fig13=batch_runs(True, rates=narrow))
    row = found.loc["sc_fig13_batch"]
    assert row["ci_low"] == pytest.approx(math.log2(1.2 / 0.5**0.5), abs=0.15) and row["ci_high"] == math.inf
    # nor is anything known of its shift over the width, which is that row's control
    assert row["control"].endswith("[-inf, inf], does not fail (inconclusive)")
    assert row["verdict"] == Verdict.INCONCLUSIVE and "B by width 8: up to 0.707, 16: up to 0.707" in row["note"]
    assert found.loc["sc_fig13_width", "verdict"] == Verdict.INCONCLUSIVE
    assert found.loc["sc_fig13_width", "ci_high"] == math.inf


def test_best_rates_at_opposite_ends_of_their_grids_cannot_decide():
    """That of B may be below 0.5, that of 4B below 2: the growth between them may be anything."""
    narrow = {"B": (0.5, 1.0, 2.0), "2B": (0.25, 0.5, 1.0), "4B": (2.0, 4.0, 8.0)}
    own = STATISTICS[GROWTH]({"sc_fig13": batch_runs(True, rates=narrow)})
    assert (own.ci_low, own.ci_high) == (-math.inf, math.inf) and own.value == 2
    row = judged(sc_fig13=batch_runs(True, rates=narrow)).loc["sc_fig13_batch"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and row["note"].startswith("the interval straddles the threshold")


def failing_next_to(best_rates: dict[str, float]):
    """Every batch size trains best at its rate of these, and fails at the next larger one."""

    def changed(label, width, rate, step, seed):
        late = 0.3 - 0.02 * octaves(width) + 0.1 / (1 + rate) + 0.001 * wobble(seed, label, width)
        return math.inf if rate > best_rates[label] and step > 50 else late + 1.5 * math.exp(-step / 10)

    return changed


def test_best_rates_next_to_a_rate_that_failed_are_known_within_wide_bounds():
    """Those of B and 4B between -0.5 and 1 steps of theirs; the growth between them is one of 1.5 steps either way."""
    found = judged(sc_fig13=batch_runs(True, failing_next_to({"B": 0.25, "2B": 0.5, "4B": 1.0})))
    row = found.loc["sc_fig13_batch"]
    assert row[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([2, 0.5, 3.5])
    assert "B by width 8: 0.177 to 0.5" in row["note"]
    # over a factor 16 in the width four steps: 4 * 0.4 * 1.5, of each batch size
    row = found.loc["sc_fig13_width"]
    assert row[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([0, 0, 2.4], abs=1e-9)
    assert row["verdict"] == Verdict.INCONCLUSIVE
    name = "shift of the best learning rate for 4 times the width at B, Fig. 13"
    own = STATISTICS[name]({"sc_fig13": batch_runs(True, failing_next_to({"B": 0.5, "2B": 0.5, "4B": 1.0}))})
    assert (own.ci_low, own.ci_high) == pytest.approx((-1.2, 1.2))


def test_failures_at_the_largest_batch_alone_bound_the_growth_on_their_side():
    def changed(label, width, rate, step, seed):
        failed = label == "4B" and rate > 1 and step > 50
        return math.inf if failed else batch_loss(True)(label, width, rate, step, seed)

    own = STATISTICS[GROWTH]({"sc_fig13": batch_runs(True, changed)})
    smallest = sum(math.log2(best("B", width, seed, True)) for width in (8, 16, 32, 64) for seed in range(SEEDS)) / 24
    assert (own.value, own.ci_low, own.ci_high) == pytest.approx((-smallest, -smallest - 0.5, -smallest + 1), abs=0.15)


def test_planted_best_rates_do_not_depend_on_the_width():
    assert best("4B", 64, 0, True) / best("4B", 8, 0, True) == pytest.approx(1.1, abs=0.1)
