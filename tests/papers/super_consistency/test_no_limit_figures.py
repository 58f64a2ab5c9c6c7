"""Figures 6, 7 and 8: tables hold what was measured and how many failed, figures print the numbers of the claims."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing.transfer_panels import estimate
from featurespeed.drawing.transfer_rows import CHANCE, SHARPNESS_EXPONENT, SHIFT
from featurespeed.drawing.width_rows import EDGE
from featurespeed.ledger.engine import ledger
from featurespeed.papers.super_consistency.no_limit.spec import COLD, LONG, PLAIN, SHORT, WARM
from featurespeed.papers.super_consistency.no_limit.tables import INITIAL_EXPONENT
from featurespeed.statistics import mean_interval, proportion_interval
from featurespeed.sweeps.dependence import exponents
from tests.papers.cases import criteria_of, drawing_of
from tests.papers.super_consistency.depth_cases import DEPTHS, SEEDS, broken, failing
from tests.papers.super_consistency.figure_cases import assert_made, draw, legend_texts, texts, values
from tests.papers.super_consistency.no_limit_cases import (
    FIRST_STEPS,
    MEASURED,
    RATES,
    SEEDS_OVER_WIDTH,
    TOO_MUCH,
    all_tables,
    best,
    falling,
    growing,
    growing_with_width,
    loss,
    loss_over_width,
    no_scaling,
    no_skips,
    standard,
)
from tests.sweeps.cases import WIDTHS

pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")  # nothing empty is drawn
FIGURES = {name: drawing_of(name) for name in ("sc_fig06", "sc_fig07", "sc_fig08")}
RUNS = {"sc_fig06": no_scaling, "sc_fig07": standard, "sc_fig08": no_skips}
LOSSES = {"sc_fig06": loss, "sc_fig07": loss_over_width, "sc_fig08": loss}
NETWORKS = {"sc_fig06": (COLD, WARM), "sc_fig07": (COLD, SHORT, LONG), "sc_fig08": (PLAIN,)}
SIZES = {"sc_fig06": ("L", DEPTHS), "sc_fig07": ("N", WIDTHS), "sc_fig08": ("L", DEPTHS)}
COUNT = {"sc_fig06": SEEDS, "sc_fig07": SEEDS_OVER_WIDTH, "sc_fig08": SEEDS}  # of seeds
AXES = {"sc_fig06": 10, "sc_fig07": 8, "sc_fig08": 4}
TABLES = all_tables()
BOUNDS = ["y", "y_low", "y_high"]
CROSSES = ("P", "X")  # markers of networks that diverged, and of those that died


@cache
def table(name: str) -> pd.DataFrame:
    """The artefact table of the planted stage table."""
    return FIGURES[name].tabulate(TABLES[name])


@cache
def figure(name: str):
    return draw(name, table(name))


@cache
def claims() -> pd.DataFrame:
    return ledger(criteria_of("sc_no_limit"), TABLES, "planted")[0].set_index("claim_id")


def panel(found: pd.DataFrame, name: str, series: str | None = None) -> pd.DataFrame:
    own = found[found["panel"] == name]
    return own if series is None else own[own["series"] == series]


def statistic(found: pd.DataFrame, label: str, series: str, x: float = 0.0) -> pd.Series:
    """A number that is printed."""
    return panel(found, f"statistic | {label}", series).set_index("x").loc[x]


def titles(drawn) -> list[str]:
    return [ax.get_title(loc="left") for ax in drawn.axes]


def crosses(ax, marker: str) -> list[float]:
    """Learning rates at which there is a cross, next to one of the grid."""
    drawn = [float(x) for line in ax.lines if line.get_marker() == marker for x in line.get_xdata()]
    return [min(RATES, key=lambda rate, own=x: abs(math.log2(rate / own))) for x in drawn]


def test_artefact_is_made_and_its_table_does_not_depend_on_the_order_of_the_records(tmp_path):
    assert_made("sc_fig08", TABLES["sc_fig08"], tmp_path)


@pytest.mark.parametrize("name", ["sc_fig06", "sc_fig07"])
def test_tables_do_not_depend_on_the_order_of_the_records(name):
    few = TABLES[name][TABLES[name]["seed"] < 2]
    found, again = (FIGURES[name].tabulate(rows) for rows in (few, few.sample(frac=1, random_state=1)))
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.parametrize("name", FIGURES)
def test_two_sizes_and_two_seeds_are_drawn(name):
    symbol, sizes = SIZES[name]
    column = {"L": "depth", "N": "width"}[symbol]
    small = TABLES[name][TABLES[name][column].isin(sizes[:2]) & (TABLES[name]["seed"] < 2)]
    drawn = draw(name, FIGURES[name].tabulate(small[small["step"].isin((0, 20, 60, 100))]))
    assert legend_texts(drawn)[:2] == [f"${symbol}={size}$" for size in sizes[:2]]
    assert "exponent in" not in texts(drawn) and len(drawn.axes) == AXES[name]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("sc_fig06", "rates diverge"), ("sc_fig06", "all die"),
        ("sc_fig07", "sizes diverge"), ("sc_fig08", "rates diverge"), ("sc_fig08", "chance"),
    ],
)  # fmt: skip
def test_networks_of_no_use_are_drawn_as_they_are(name, case):
    few = {"widths": WIDTHS[:3]} if name == "sc_fig07" else {"depths": DEPTHS[:3]}
    few |= {"rates": RATES[:3], "seeds": 2}
    found = FIGURES[name].tabulate(RUNS[name](broken(case, LOSSES[name], SIZES[name][1][0]), **few))
    drawn = draw(name, found)
    assert len(drawn.axes) == AXES[name]
    flags = set(found.loc[found["panel"].str.startswith("transfer"), "flag"])
    assert flags - {""} == {"diverged" if "diverge" in case else "dead"}


@pytest.mark.parametrize(("name", "label"), [("sc_fig06", COLD), ("sc_fig07", LONG)])
def test_a_network_that_diverged_at_its_first_step_is_left_out(name, label):
    diverging = failing(LOSSES[name], lambda own, *_: own == label)
    found = FIGURES[name].tabulate(RUNS[name](diverging, rates=RATES[:3], probe_steps=(0, 50, 100), seeds=2))
    assert not found["panel"].str.endswith(f"| {label}").any()
    assert len(draw(name, found).axes) == {"sc_fig06": 5, "sc_fig07": 6}[name]


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_measured_is_an_error(name):
    losses = TABLES[name][TABLES[name]["quantity"] == "training_loss"]
    for nothing in (losses, losses.iloc[:0]):
        nothing.attrs |= TABLES[name].attrs
        with pytest.raises(ValueError, match="nothing that this artefact draws"):
            FIGURES[name].tabulate(nothing)


def assert_over_seeds(row: pd.Series, expected: list[float]) -> None:
    """A point is the mean over seeds, its bounds the smallest and the largest seed."""
    assert row[BOUNDS].tolist() == pytest.approx([np.mean(expected), min(expected), max(expected)])
    assert (row["n"], row["flag"]) == (len(expected), "")


# --- all figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "label"), [(name, label) for name in FIGURES for label in NETWORKS[name]])
def test_transfer_has_the_late_loss_of_every_size_and_rate(name, label):
    symbol, sizes = SIZES[name]
    own = panel(table(name), f"transfer | {label}")
    failed = any(own["flag"].isin(("diverged", "dead")))
    assert set(own["series"]) == {*(f"{symbol}={size}" for size in sizes), *[CHANCE] * failed}
    for size in sizes:
        rows = own[own["series"] == f"{symbol}={size}"].set_index("x")
        assert tuple(rows.index) == RATES
        for rate in RATES:
            expected = [LOSSES[name](label, size, rate, 100, seed) for seed in range(COUNT[name])]
            if math.inf in expected:
                assert (rows.loc[rate, "y"], rows.loc[rate, "flag"]) == (pytest.approx(math.log(10)), "diverged")
            else:
                assert_over_seeds(rows.loc[rate], expected)


@pytest.mark.parametrize(("name", "label"), [(name, label) for name in FIGURES for label in NETWORKS[name]])
def test_sharpness_along_training_is_that_of_the_runs(name, label):
    formula = {"sc_fig06": growing, "sc_fig07": growing_with_width, "sc_fig08": falling}[name]
    (symbol, sizes), rate = SIZES[name], max(MEASURED[label])
    for size in sizes:
        rows = panel(table(name), f"sharpness | {label}", f"{symbol}={size}").set_index("x")
        for step in (0, 20, 60, 100):
            assert_over_seeds(rows.loc[step], [formula(label, size, rate, step, seed) for seed in range(COUNT[name])])
    assert values(table(name), f"sharpness | {label}", EDGE) == [2 / rate] * 2
    assert f"{label}: sharpness at $\\eta_0={rate:g}$" in titles(figure(name))


@pytest.mark.parametrize(
    ("name", "label", "series", "x", "claim"),
    [
        ("sc_fig06", WARM, SHIFT, 8.0, "sc_fig6_transfer"),
        ("sc_fig06", COLD, INITIAL_EXPONENT, 0.0, "sc_fig6_initial"),
        ("sc_fig07", COLD, SHIFT, 16.0, "sc_fig7_transfer"),
        ("sc_fig07", COLD, INITIAL_EXPONENT, 0.0, "sc_fig7_initial"),
        ("sc_fig08", PLAIN, SHIFT, 8.0, "sc_fig8_plain"),
        ("sc_fig08", PLAIN, SHARPNESS_EXPONENT, 0.25, "sc_fig8_sharpness"),
    ],
)
def test_numbers_of_the_claims_stand_in_the_tables_and_are_printed(name, label, series, x, claim):
    row = statistic(table(name), label, series, x)
    assert row[BOUNDS].tolist() == pytest.approx(claims().loc[claim, ["value", "ci_low", "ci_high"]].tolist())
    symbol, _ = SIZES[name]
    printed = {
        SHIFT: f"shift of best $\\eta_0$ for {x:g} ${symbol}$, log$_2$: {estimate(row)}",
        INITIAL_EXPONENT: f"exponent in ${symbol}$ {estimate(row)}",
        SHARPNESS_EXPONENT: f"exponent in ${symbol}$ {estimate(row)} at $\\eta_0={x:g}$",
    }
    assert printed[series] in texts(figure(name))


def test_differences_of_the_shifts_in_the_tables_are_those_of_the_claims():
    for claim, name, label, ratio in (
        ("sc_fig6_warmup", "sc_fig06", WARM, 8),
        ("sc_fig7_warmup", "sc_fig07", LONG, 16),
    ):
        cold, warm = (statistic(table(name), own, SHIFT, ratio)["y"] for own in (COLD, label))
        assert claims().loc[claim, "value"] == pytest.approx(abs(cold) - abs(warm))


@pytest.mark.parametrize("name", ["sc_fig06", "sc_fig07"])
def test_best_rates_are_drawn_against_the_size(name):
    lower = figure(name).axes[-1]
    symbol, sizes = SIZES[name]
    lines = [line for line in lower.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == list(NETWORKS[name])
    for line, label in zip(lines, NETWORKS[name], strict=True):
        expected = [values(table(name), f"best | {label}", f"{symbol}={size}", "x")[0] for size in sizes]
        assert line.get_xdata().tolist() == list(sizes) and line.get_ydata().tolist() == expected
    assert lower.get_xlabel() == {"L": "depth $L$", "N": "width $N$"}[symbol]


def test_best_rates_at_the_edge_of_the_grid_are_hollow_against_the_size_too():
    planted = table("sc_fig06")
    at = (planted["panel"] == f"best | {WARM}") & (planted["series"] == "L=12")
    drawn = draw("sc_fig06", planted.assign(flag=planted["flag"].where(~at, "grid edge")))
    edges = {label: set(planted.loc[(planted["panel"] == f"best | {label}") & (planted["flag"] != ""), "series"])
             for label in (COLD, WARM)}  # fmt: skip
    edges[WARM].add("L=12")
    hollow = [line for line in drawn.axes[-1].lines if line.get_markerfacecolor() == "white"]
    found = sorted(x for line in hollow for x in line.get_xdata())
    assert found == sorted(int(series[2:]) for own in edges.values() for series in own)


@pytest.mark.parametrize(("rate", "side"), [(RATES[0], "left"), (RATES[-1], "right")])
def test_the_words_at_the_edge_of_the_grid_run_into_the_panel(rate, side):
    planted = table("sc_fig06")
    own = planted["panel"] == f"best | {COLD}"
    found = planted.assign(x=planted["x"].where(~own, rate), flag=planted["flag"].where(~own, "grid edge"))
    words = [text for text in draw("sc_fig06", found).axes[1].texts if text.get_text() == "grid edge"]
    assert [text.get_ha() for text in words] == [side]


# --- the first steps --------------------------------------------------------------------------------------------------


def early(label, depth, rate, step, seed):
    """After the first steps, the least rate is the best one; later, as planted."""
    return 1 + rate + 0.01 * seed if step <= FIRST_STEPS else loss(label, depth, rate, step, seed)


def test_first_steps_use_no_later_record():
    planted = table("sc_fig06")
    found = FIGURES["sc_fig06"].tabulate(no_scaling(lambda *place: loss(*place) if place[3] <= FIRST_STEPS else 0.7))
    first, later = (own["panel"].str.startswith("first") for own in (planted, found))
    assert first.sum() == 2 * (len(DEPTHS) * len(RATES) + len(DEPTHS))
    pd.testing.assert_frame_equal(planted[first].reset_index(drop=True), found[later].reset_index(drop=True))
    assert set(planted.loc[first, "flag"]) <= {"", "grid edge"}  # networks diverge at step 30


@pytest.mark.parametrize(("first", "used"), [(10, 10), (19, 10), (100, 100)])
def test_first_steps_end_with_the_last_record_among_them(first, used):
    found = FIGURES["sc_fig06"].tabulate(no_scaling(first_steps=first, record_every=10, probe_steps=(0, 100), seeds=2))
    for label in (COLD, WARM):
        row = panel(found, f"first transfer | {label}", "L=3").set_index("x").loc[1.0]
        assert_over_seeds(row, [loss(label, 3, 1.0, used, seed) for seed in range(2)])
        failed = panel(found, f"first transfer | {label}", "L=24").set_index("x").loc[2.0, "flag"]
        assert failed == ("diverged" if first == 100 else "")


def test_best_rates_after_the_first_steps_are_others_than_those_at_the_end():
    found = FIGURES["sc_fig06"].tabulate(no_scaling(early, probe_steps=(0, 100)))
    for series in (f"L={depth}" for depth in DEPTHS):
        assert values(found, f"first best | {COLD}", series, "x") == [RATES[0]]
        assert values(found, f"best | {COLD}", series) == values(table("sc_fig06"), f"best | {COLD}", series)
    drawn = draw("sc_fig06", found)
    diamonds = [[float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "D"] for ax in drawn.axes[:2]]
    assert diamonds[0] == [RATES[0]] * 4 and diamonds[1][0] == 1.0
    assert titles(drawn)[:2] == [f"{COLD}: after the first steps", f"{COLD}: at the end"]


def test_what_failed_in_the_first_steps_only_is_named():
    """At chance after the first steps, trained at the end."""

    def late(label, depth, rate, step, seed):
        return 3.0 if (label, rate) == (WARM, 2.0) and step <= FIRST_STEPS else growth(label, depth, rate, step, seed)

    def growth(label, depth, rate, step, seed):
        return 0.3 + 0.05 * math.log2(rate / best(label, depth, DEPTHS, seed)) ** 2

    found = FIGURES["sc_fig06"].tabulate(no_scaling(late, probe_steps=(0, 100), seeds=2))
    assert set(panel(found, f"transfer | {WARM}")["flag"]) == {""}
    rows = panel(found, f"first transfer | {WARM}")
    assert rows.loc[rows["flag"] == "dead", "x"].tolist() == [2.0] * 4
    drawn = draw("sc_fig06", found)
    assert crosses(drawn.axes[5], "X") == [2.0] * 4 and not crosses(drawn.axes[6], "X")
    assert "a seed died or ended at chance" in legend_texts(drawn)
    assert "a seed has stopped or not converged" not in legend_texts(drawn)


# --- what failed ------------------------------------------------------------------------------------------------------


def unlucky(formula, label: str, size: int, rate: float, lost: int, what: float):
    """The first ``lost`` seeds of one network fail at one rate, near the end."""
    return failing(formula, lambda *place: place[:3] == (label, size, rate) and place[3] < lost, what, since=90)


@pytest.mark.parametrize(("lost", "what"), [(1, math.inf), (2, 3.0), (5, math.nan)])
def test_share_that_failed_is_that_of_the_seeds(lost, what):
    found = FIGURES["sc_fig08"].tabulate(no_skips(unlucky(loss, PLAIN, 6, 0.5, lost, what), probe_steps=(0, 100)))
    share = panel(found, f"share that failed | {PLAIN}", "L=6").set_index("x")
    expected = proportion_interval(lost, SEEDS)
    assert share.loc[0.5, BOUNDS].tolist() == pytest.approx([lost / SEEDS, expected.low, expected.high])
    assert share.loc[0.5, "n"] == SEEDS and share.loc[0.25, "y"] == 0
    row = panel(found, f"transfer | {PLAIN}", "L=6").set_index("x").loc[0.5]
    assert row["y"] == pytest.approx(math.log(10)) and row["flag"] == ("diverged" if what == math.inf else "dead")


@pytest.mark.parametrize("label", [COLD, WARM])
def test_shares_over_all_rates_are_those_of_the_runs_and_are_drawn(label):
    ax = figure("sc_fig06").axes[{COLD: 2, WARM: 7}[label]]
    lines = [line for line in ax.lines if len(line.get_xdata()) == len(RATES)]
    for line, depth in zip(lines, DEPTHS, strict=True):
        expected = [float(rate > TOO_MUCH * best(label, depth, DEPTHS, 0)) for rate in RATES]
        assert values(table("sc_fig06"), f"share that failed | {label}", f"L={depth}") == expected
        assert line.get_xdata().tolist() == list(RATES) and line.get_ydata().tolist() == expected
    assert ax.get_title(loc="left") == f"{label}: share that failed" and ax.get_ylabel() == "share of seeds"


def test_rates_at_which_networks_diverged_are_crosses_at_the_end_and_named():
    expected = {
        label: [rate for depth in DEPTHS for rate in RATES if rate > TOO_MUCH * best(label, depth, DEPTHS, 0)]
        for label in (COLD, WARM)
    }
    for label, place in ((COLD, 0), (WARM, 5)):
        assert crosses(figure("sc_fig06").axes[place + 1], "P") == expected[label] != []
        assert not any(crosses(figure("sc_fig06").axes[place], marker) for marker in CROSSES)
    assert "a seed diverged" in legend_texts(figure("sc_fig06"))
    assert "a seed died or ended at chance" not in legend_texts(figure("sc_fig06"))
    assert not any("diverged" in text for text in legend_texts(figure("sc_fig08")))


def test_one_seed_that_fails_is_a_cross():
    lost = unlucky(loss_over_width, LONG, 16, 2.0, 1, math.nan)
    found = FIGURES["sc_fig07"].tabulate(
        standard(lost, widths=WIDTHS[:3], rates=RATES[3:], measured={}, probe_steps=(0, 100))
    )
    axes = draw("sc_fig07", found).axes
    assert crosses(axes[2], "X") == [2.0] and not any(crosses(ax, own) for ax in axes[:2] for own in CROSSES)


def test_where_some_network_fails_at_every_measured_rate_the_smallest_is_drawn_until_it_ends():
    diverging = failing(loss, lambda label, depth, *_: (label, depth) == (COLD, 24), since=50)
    found = FIGURES["sc_fig06"].tabulate(no_scaling(diverging, measured={COLD: (0.0625, 0.125), WARM: (0.0625, 0.125)}))
    assert values(found, f"sharpness | {COLD}", EDGE) == [2 / 0.0625] * 2
    own = panel(found, f"sharpness | {COLD}", "L=24")
    assert own["x"].tolist() == [0, 20, 40] and own["flag"].tolist() == ["", "", "diverged"]
    drawn = draw("sc_fig06", found)
    assert "a seed has stopped or not converged" in legend_texts(drawn)
    assert not any("left out" in text for text in legend_texts(drawn))
    hollow = [line for line in drawn.axes[3].lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [line.get_xdata().tolist() for line in hollow] == [[40]]
    assert drawn.axes[3].texts[0].get_text() == "no exponent: a seed failed"
    assert "no exponent" not in texts(figure("sc_fig06"))


# --- the initial sharpness --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sc_fig06", "sc_fig07"])
def test_initial_sharpness_is_that_before_training_at_the_smallest_measured_rate(name):
    def other(label, size, rate, step, seed):
        formula = growing if name == "sc_fig06" else growing_with_width
        return formula(label, size, rate, step, seed) * (7.0 if rate == RATES[1] else 1.0)

    own = {"measured": dict.fromkeys(NETWORKS[name], RATES[:2]), "rates": RATES[:3], "seeds": 3}
    found = FIGURES[name].tabulate(RUNS[name](LOSSES[name], other, probe_steps=(0, 50, 100), **own))
    _, sizes = SIZES[name]
    for label in NETWORKS[name]:
        rows = panel(found, "initial sharpness", label).set_index("x")
        assert tuple(rows.index) == sizes
        expected = np.array([[other(label, size, RATES[0], 0, seed) for size in sizes] for seed in range(3)])
        for size, own in zip(sizes, expected.T, strict=True):
            assert_over_seeds(rows.loc[size], own.tolist())
        told = mean_interval(exponents(np.array(sizes), expected))
        row = statistic(found, label, INITIAL_EXPONENT)
        assert row[BOUNDS].tolist() == pytest.approx([told.value, told.low, told.high])
    ax = draw(name, found).axes[4 if name == "sc_fig06" else len(NETWORKS[name])]
    assert [line.get_ydata().tolist() for line in ax.lines] == [panel(found, "initial sharpness", COLD)["y"].tolist()]


@pytest.mark.parametrize("name", ["sc_fig06", "sc_fig07"])
def test_a_sharpness_that_was_not_measured_before_training_is_no_initial_one(name):
    later = TABLES[name][(TABLES[name]["step"] > 0) & (TABLES[name]["seed"] < 2)]
    found = FIGURES[name].tabulate(later)
    assert panel(found, "initial sharpness").empty and not (found["series"] == INITIAL_EXPONENT).any()
    assert "not measured" in texts(draw(name, found)) and "not measured" not in texts(figure(name))


# --- seeds that are left out ------------------------------------------------------------------------------------------


def test_seeds_that_failed_are_left_out_of_figure_8_as_in_the_claim_and_named():
    lost = failing(loss, lambda label, depth, rate, seed: (depth, rate, seed) == (6, 0.25, 2), math.nan, since=60)
    stage = no_skips(lost)
    found = FIGURES["sc_fig08"].tabulate(stage)
    criteria = [c for c in criteria_of("sc_no_limit") if c.claim_id == "sc_fig8_sharpness"]
    claim = ledger(criteria, TABLES | {"sc_fig08": stage}, "planted")[0].iloc[0]
    row = statistic(found, PLAIN, SHARPNESS_EXPONENT, 0.25)
    assert row[BOUNDS].tolist() == pytest.approx(claim[["value", "ci_low", "ci_high"]].tolist())
    assert row["n"] == claim["n"] == 5
    along = found["panel"].isin((f"sharpness | {PLAIN}", f"loss | {PLAIN}")) & found["series"].str.startswith("L=")
    assert set(found.loc[along, "n"]) == {5} and set(found.loc[along, "flag"]) == {""}
    share = panel(found, f"share that failed | {PLAIN}", "L=6").set_index("x")
    assert (share.loc[0.25, "y"], share.loc[0.25, "n"]) == (pytest.approx(1 / 6), 6)
    assert panel(found, f"transfer | {PLAIN}", "L=6").set_index("x").loc[0.25, "flag"] == "dead"
    drawn = draw("sc_fig08", found)
    assert f"left out: seeds of which a network failed ({PLAIN}: 1 of 6)" in legend_texts(drawn)
    assert not any("left out" in text for text in legend_texts(figure("sc_fig08")))
