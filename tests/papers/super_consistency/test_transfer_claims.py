"""Claims on transfer and sharpness over the width: planted effects are found, what cannot decide says so."""

from __future__ import annotations

import math

import pytest

from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, ledger
from featurespeed.papers.super_consistency.transfer import claims as transfer
from featurespeed.papers.super_consistency.transfer import claims_early as early
from featurespeed.statistics import Interval
from tests.papers.cases import criteria_of
from tests.sweeps.cases import WIDTHS, sweep_table

CRITERIA = criteria_of("sc_transfer")
RATES = {
    "muP": (0.4, 0.8, 1.6, 3.2),
    "NTP": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
    "random features": (1.0, 2.0, 4.0, 8.0, 16.0),
}
SHOWN = {"muP": 0.8, "NTP": 2.0}


def octaves(width: int) -> float:
    """0 for the smallest width, 4 for the largest."""
    return math.log2(width / 8)


def loss(label, width, rate, step, seed):
    """Best rates: 0.8 under muP, from 2 to 8 under NTP, from 2 to 4 with random features; wider is better under muP."""
    best = {"muP": 0.8, "NTP": 2 * 2 ** (octaves(width) / 2), "random features": 2 * 2 ** (octaves(width) / 4)}[label]
    scale = 1 - 0.1 * octaves(width) if label == "muP" else 1.0
    return (0.2 + 0.05 * math.log2(rate / best) ** 2) * scale + 1.5 * math.exp(-step / 10) + 0.001 * seed


def sharpness(label, width, rate, step, seed):
    """Rises to 2/eta_0, under muP at the same pace everywhere, under NTP later and to less the wider the network."""
    level = {"muP": 1.0 + 0.01 * octaves(width), "NTP": 1.6 - 0.15 * octaves(width), "random features": 0.5}[label] * (
        1 + 0.01 * seed
    )
    pace = {"muP": 10, "NTP": 10 * 2 ** octaves(width), "random features": 10}[label]
    return level * 2 / rate * min(1.0, 0.2 + step / pace)


def table(change_loss=loss, change_sharpness=sharpness, **options):
    """The runs of all three figures; functions of a label may be changed for tests."""
    settings = {"labels": tuple(RATES), "rates": RATES, "shown": SHOWN, "early_steps": 50} | options
    return sweep_table(change_loss, {"sharpness": change_sharpness}, **settings)


def tables(*arguments, **options):
    found = table(*arguments, **options)
    return dict.fromkeys(("sc_fig01", "sc_fig24", "sc_fig26"), found)


def judged(stages) -> dict:
    claims, _ = ledger(CRITERIA, stages, "planted")
    return claims.set_index("claim_id")


def verdicts(*arguments, **options):
    return judged(tables(*arguments, **options))["verdict"]


def test_statistics_and_criteria_name_each_other():
    used = {c.compute for c in CRITERIA} | {c.control.compute for c in CRITERIA}
    modules = {transfer.__name__, early.__name__}
    assert used == {name for name, function in STATISTICS.items() if function.__module__ in modules}


def test_runs_as_claimed_confirm_every_claim_but_the_wrong_print():
    found = verdicts()
    assert found.pop("sc_discrepancy_mean_loss") == Verdict.CONTRADICTED
    assert len(found) == 12 and set(found) == {Verdict.CONFIRMED}


def test_networks_exchanged_contradict_what_sets_them_apart():
    other = {"muP": "NTP", "NTP": "muP", "random features": "random features"}
    stages = tables(labels=("muP", "NTP"))
    exchanged = {}
    for artefact, own in stages.items():
        exchanged[artefact] = own.assign(series=own["series"].map(other))
        spec = own.attrs["provenance"]["spec"] | {"shown": {"muP": 2.0, "NTP": 0.8}}
        exchanged[artefact].attrs = {"provenance": {"spec": spec}}
    found = judged(exchanged)["verdict"]
    for name in ("sharpness", "sharpness_ratio", "transfer_mup", "transfer_ntp", "wider_is_better"):
        assert found[f"sc_fig1_{name}"] == Verdict.CONTRADICTED
    assert found["sc_fig24_edge_mup"] == Verdict.CONTRADICTED


# --- the sharpness ----------------------------------------------------------------------------------------------------


def test_spread_one_step_below_the_best_rate_counts():
    def uneven(label, width, rate, step, seed):
        factor = 1 + 0.2 * octaves(width) if (label, rate) == ("muP", 0.4) else 1.0
        return factor * sharpness(label, width, rate, step, seed)

    found = judged(tables(loss, uneven))
    assert found.loc["sc_fig1_sharpness", "verdict"] == Verdict.CONTRADICTED
    assert "at 0.8 CV 0" in found.loc["sc_fig1_sharpness", "note"]
    assert found.loc["sc_fig1_sharpness_ratio", "verdict"] == Verdict.CONFIRMED  # at the best rates only


def test_a_rate_that_was_not_measured_is_named_with_those_that_were():
    found = judged(tables(measured={"muP": [0.8, 1.6]}))
    assert found.loc["sc_fig1_sharpness", "verdict"] == Verdict.INCONCLUSIVE
    assert "not measured at 0.4; networks.muP.measured = 0.8, 1.6" in found.loc["sc_fig1_sharpness", "note"]


def test_a_dead_network_is_not_low_sharpness():
    def dying(label, width, rate, step, seed):
        dead = (label, width, rate, seed) == ("muP", 8, 0.4, 1) and step > 60
        return math.nan if dead else loss(label, width, rate, step, seed)

    found = judged(tables(dying))
    assert found.loc["sc_fig1_sharpness", "verdict"] == Verdict.INCONCLUSIVE
    assert "not every network trains at 0.4" in found.loc["sc_fig1_sharpness", "note"]


def test_no_rate_at_which_all_train_cannot_decide():
    def failing(label, width, rate, step, seed):
        return math.inf if label == "NTP" and width == 8 else loss(label, width, rate, step, seed)

    name = "ratio of the spreads of the sharpness, NTP over muP, Fig. 1"
    with pytest.raises(Undecidable, match="NTP: no learning rate of 1 to 32 at which every network trains"):
        STATISTICS[name](tables(failing))


# --- transfer ---------------------------------------------------------------------------------------------------------


def test_an_optimum_at_the_edge_cannot_confirm_a_small_shift_and_is_named():
    rates = RATES | {"muP": (0.1, 0.2, 0.4, 0.8)}
    found = judged(tables(rates=rates))
    assert found.loc["sc_fig1_transfer_mup", "verdict"] == Verdict.INCONCLUSIVE
    assert (
        "that of N = 8, 16, 32, 64, 128 at the edge of the grid 0.1 to 0.8" in found.loc["sc_fig1_transfer_mup", "note"]
    )


def test_an_optimum_at_the_edge_decides_where_its_bound_does():
    """NTP's largest width would like at least 8: a shift of at least 2, though the grid ends there."""
    rates = RATES | {"NTP": (1.0, 2.0, 4.0, 8.0)}
    found = judged(tables(rates=rates)).loc["sc_fig1_transfer_ntp"]
    assert (found["verdict"], found["value"], found["ci_high"]) == (Verdict.CONFIRMED, 2.0, math.inf)
    short = judged(tables(rates=RATES | {"NTP": (1.0, 2.0, 4.0)})).loc["sc_fig1_transfer_ntp"]
    assert (short["verdict"], short["ci_low"]) == (Verdict.INCONCLUSIVE, 1.0)


def test_shift_is_stated_for_sixteen_times_the_width():
    wide = tables(widths=(8, 16, 32, 64, 512))
    estimate = STATISTICS["shift of the best learning rate for 16 times the width, NTP"](wide)
    assert estimate.value == pytest.approx(2.0)  # a factor 8 for 64 times the width
    narrow = tables(widths=(8, 16, 32, 64))
    with pytest.raises(Undecidable, match="widths from 8 to 64: a factor 16 at least"):
        STATISTICS["shift of the best learning rate for 16 times the width, NTP"](narrow)


def test_shifts_are_compared_over_the_same_widths_only():
    stages = tables(widths={"muP": WIDTHS, "NTP": WIDTHS, "random features": (8, 16, 32)})
    with pytest.raises(Undecidable, match="random features and muP span different widths"):
        STATISTICS["difference of the shifts of the best learning rate, random features minus muP"](stages)


def test_mup_must_not_move_further_than_random_features_in_either_direction():
    def backwards(label, width, rate, step, seed):
        if label != "muP":
            return loss(label, width, rate, step, seed)
        return 0.2 + 0.05 * math.log2(rate / 3.2 * 2 ** (0.75 * octaves(width))) ** 2

    rates = RATES | {"muP": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)}
    name = "difference of the shifts of the best learning rate, {} minus {}"
    found = STATISTICS[name.format("random features", "muP")](tables(backwards, rates=rates))
    assert (found.value, found.ci_low, found.ci_high) == (-2.0, -2.0, -2.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-1, 2, (0, 2)), (-3, -1, (1, 3)), (1, math.inf, (1, math.inf)), (2, 3, (2, 3))]
)
def test_absolute_interval(low, high, expected):
    found = transfer.absolute(Interval(low, low, high, 3, ""))
    assert (found.low, found.high) == expected


# --- loss -------------------------------------------------------------------------------------------------------------


def test_fewer_than_five_widths_have_no_rank_correlation():
    found = verdicts(widths=(8, 16, 64, 128))
    assert found["sc_fig1_wider_is_better"] == found["sc_fig24_edge_ntp"] == Verdict.INCONCLUSIVE


def test_best_rate_of_the_sum_is_that_of_the_mean_over_the_batch_size():
    name = "log2 of the best learning rate over the paper's, {} loss"
    summed, mean = (STATISTICS[name.format(kind)](tables()) for kind in ("summed", "mean"))
    assert mean.value == pytest.approx(math.log2(0.8 / 0.75)) and summed.value == pytest.approx(mean.value - 6)
    edge = STATISTICS[name.format("summed")](tables(rates=RATES | {"muP": (0.2, 0.4, 0.8)}))
    assert (edge.value, edge.ci_low, edge.ci_high) == (summed.value, summed.value, math.inf)


def test_without_the_network_nothing_is_said_about_its_best_rate():
    others = tables(labels=("NTP", "random features"))
    for kind in ("summed", "mean"):
        with pytest.raises(Undecidable, match="muP"):
            STATISTICS[f"log2 of the best learning rate over the paper's, {kind} loss"](others)


# --- the first steps --------------------------------------------------------------------------------------------------


def test_widths_that_begin_above_the_edge_have_nothing_to_reach():
    found = judged(tables(loss, lambda *place: 4 / place[2]))
    assert "N = 8, 16, 32, 64, 128 is above the edge" in found.loc["sc_fig24_edge_ntp", "note"]


def test_networks_that_never_reach_the_edge_cannot_decide_and_some_that_do_not_are_last():
    found = judged(tables(loss, lambda *place: 1 / place[2]))
    assert "no width gets there in 100 steps" in found.loc["sc_fig24_edge_mup", "note"]

    def stuck(label, width, rate, step, seed):
        return (0.5 if label == "NTP" and width > 16 else 1.0) * sharpness(label, width, rate, step, seed)

    ranks = STATISTICS["rank correlation of width and steps to the edge, NTP"](tables(loss, stuck))
    assert ranks.value == pytest.approx(0.894, abs=1e-3)
    ratio = STATISTICS["largest over smallest number of steps to the edge, NTP"](tables(loss, stuck))
    assert ratio.ci_high == math.inf and "the value is a lower bound" in ratio.note


def test_a_network_that_is_not_shown_is_named():
    with pytest.raises(Undecidable, match="shown = {'muP': 0.8}: has no learning rate of NTP"):
        STATISTICS["spread of the sharpness over widths, NTP, early steps"](tables(shown={"muP": 0.8}))
