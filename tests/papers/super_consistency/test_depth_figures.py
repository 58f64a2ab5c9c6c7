"""Figures 4, 22 and 25: tables hold what was measured, figures print the numbers of the claims and say what failed."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurespeed.drawing.distance_panels import draw_distances
from featurespeed.drawing.distance_rows import MOST_STEPS, distance_parts, shown_steps
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.published_rates import PUBLISHED, STACKED
from featurespeed.drawing.transfer_panels import estimate, number, plain_ticks, short_numbers
from featurespeed.drawing.transfer_rows import SHARPNESS_EXPONENT, SHIFT
from featurespeed.drawing.width_curves import shown
from featurespeed.drawing.width_rows import EDGE
from featurespeed.ledger.engine import ledger
from featurespeed.papers.super_consistency.depth import published, tables
from featurespeed.papers.super_consistency.depth.spec import ONE, TWO
from featurespeed.papers.super_consistency.depth.tables import PUBLISHED_POINTS
from featurespeed.statistics import jackknife_interval, mean_interval
from featurespeed.sweeps.convergence import Distances, curves, distances
from featurespeed.sweeps.transfer import of_network
from tests.papers.cases import STYLE, criteria_of, drawing_of
from tests.papers.super_consistency.depth_cases import (
    DEPTHS,
    MEASURED,
    PROBES,
    RATES,
    SEEDS,
    SHOWN,
    broken,
    depth_tables,
    failing,
    loss,
    ntk,
    sharpness,
    spectrum,
    spectrum_runs,
    transfer_runs,
    wobble,
)
from tests.papers.super_consistency.figure_cases import assert_made, draw, legend_texts, texts, values
from tests.papers.super_consistency.no_limit_cases import no_limit_tables

pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")  # nothing empty is drawn
FIGURES = {name: drawing_of(name) for name in ("sc_fig04", "sc_fig22", "sc_fig25")}
RUNS = {"sc_fig04": transfer_runs, "sc_fig22": transfer_runs, "sc_fig25": spectrum_runs}
TABLES = depth_tables() | {name: no_limit_tables()[name] for name in ("sc_fig06", "sc_fig08")}
BOUNDS = ["y", "y_low", "y_high"]
STOPPED = "a seed has diverged, died or not converged"


def stage(name: str) -> pd.DataFrame:
    return TABLES[name]


@cache
def table(name: str) -> pd.DataFrame:
    """The artefact table of the planted stage table."""
    return FIGURES[name].tabulate(stage(name))


@cache
def figure(name: str):
    return draw(name, table(name))


def titles(drawn) -> list[str]:
    return [ax.get_title(loc="left") for ax in drawn.axes]


def test_artefact_is_made_and_its_table_does_not_depend_on_the_order_of_the_records(tmp_path):
    assert_made("sc_fig22", stage("sc_fig22"), tmp_path)


@pytest.mark.parametrize("name", ["sc_fig04", "sc_fig25"])
def test_tables_do_not_depend_on_the_order_of_the_records(name):
    few = stage(name)[stage(name)["seed"] < 2]
    found, again = (FIGURES[name].tabulate(rows) for rows in (few, few.sample(frac=1, random_state=1)))
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.parametrize("name", FIGURES)
def test_two_depths_and_two_seeds_are_drawn(name):
    small = stage(name)[stage(name)["depth"].isin((3, 24)) & (stage(name)["seed"] < 2)]
    found = FIGURES[name].tabulate(small[small["step"].isin((0, 60, 100))])
    drawn = draw(name, found)
    assert {"$L=3$", "$L=24$"} <= {text.removesuffix(" (proxy)") for text in legend_texts(drawn)}
    assert not found["series"].str.contains("exponent of the sharpness|exponent in the depth, second half").any()


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("sc_fig04", "rates diverge"), ("sc_fig04", "chance"), ("sc_fig22", "sizes diverge"),
        ("sc_fig22", "rates diverge"), ("sc_fig22", "all die"), ("sc_fig25", "all die"),
    ],
)  # fmt: skip
def test_networks_of_no_use_are_drawn_as_they_are(name, case):
    few = {"rates": RATES[:3], "depths": (3, 6, 24), "seeds": 2}
    found = FIGURES[name].tabulate(RUNS[name](broken(case, loss, 3), **few))
    drawn = draw(name, found)
    if (name, case) == ("sc_fig22", "rates diverge"):  # where the least is left
        drawn.draw_without_rendering()
    assert {name.split(" | ")[-1] for name in found["panel"] if " | " in name} == {ONE, TWO}
    assert len(drawn.axes) == {"sc_fig04": 6, "sc_fig22": 8, "sc_fig25": 8}[name]
    if name != "sc_fig04":
        assert (found["flag"] != "").any()


@pytest.mark.parametrize(("name", "label"), [("sc_fig22", TWO), ("sc_fig25", ONE)])
def test_a_network_that_diverged_at_its_first_step_is_left_out(name, label):
    found = FIGURES[name].tabulate(RUNS[name](failing(loss, lambda own, *_: own == label), seeds=2))
    assert not found["panel"].str.endswith(f"| {label}").any() and draw(name, found).axes


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_measured_is_an_error(name):
    losses = stage(name)[stage(name)["quantity"] == "training_loss"]
    for nothing in (losses, losses.iloc[:0]):
        with pytest.raises(ValueError, match="nothing that this artefact draws"):
            FIGURES[name].tabulate(nothing)


def recorded(formula, label: str, depth: int, rate: float, step: int, index: int | None = None) -> list[float]:
    """What the runs recorded of every seed."""
    found = [formula(label, depth, rate, step, seed) for seed in range(SEEDS)]
    return found if index is None else [value[index - 1] for value in found]


def assert_over_seeds(row: pd.Series, expected: list[float]) -> None:
    """A point is the mean over seeds, its bounds the smallest and the largest seed."""
    assert row[BOUNDS].tolist() == pytest.approx([np.mean(expected), min(expected), max(expected)])
    assert (row["n"], row["flag"]) == (len(expected), "")


# --- Figure 4 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [ONE, TWO])
def test_transfer_has_the_late_loss_of_every_depth_and_rate(label):
    own = table("sc_fig04")[table("sc_fig04")["panel"] == f"transfer | {label}"]
    assert set(own["series"]) == {f"L={depth}" for depth in DEPTHS}
    for depth in DEPTHS:
        rows = own[own["series"] == f"L={depth}"].set_index("x")
        assert tuple(rows.index) == RATES
        for rate in RATES:
            assert_over_seeds(rows.loc[rate], recorded(loss, label, depth, rate, 100))


@pytest.mark.parametrize(("label", "rates"), [(ONE, [0.5, 0.5, 0.5, 0.5]), (TWO, [0.25, 0.25, 0.5, 0.5])])
def test_best_rates_are_those_of_the_least_mean_loss(label, rates):
    found = [values(table("sc_fig04"), f"best | {label}", f"L={depth}", "x") for depth in DEPTHS]
    least = [min(RATES, key=lambda rate, own=depth: np.mean(recorded(loss, label, own, rate, 100))) for depth in DEPTHS]
    assert found == [[rate] for rate in least] and found[0] + found[2] == [rates[0], rates[2]]


@pytest.mark.parametrize("quantity", ["sharpness", "loss"])
@pytest.mark.parametrize("label", [ONE, TWO])
def test_curves_are_those_at_the_best_of_the_measured_rates(quantity, label):
    formula = {"sharpness": sharpness, "loss": loss}[quantity]
    for depth in DEPTHS:
        own = table("sc_fig04")[table("sc_fig04")["panel"] == f"{quantity} | {label}"]
        rows = own[own["series"] == f"L={depth}"].set_index("x")
        for step in (20, 60, 100):
            assert_over_seeds(rows.loc[step], recorded(formula, label, depth, SHOWN, step))
    assert values(table("sc_fig04"), f"sharpness | {label}", EDGE) == [2 / SHOWN] * 2
    assert f"{label}: sharpness at $\\eta_0=0.5$" in titles(figure("sc_fig04"))


def late_slopes(label: str, rate: float, seeds=range(SEEDS), formula=sharpness) -> np.ndarray:
    """Slopes of the logarithm of a late quantity, the sharpness unless told, in log(L), seed by seed."""
    late = [step for step in PROBES if step >= 50]
    means = [[np.mean([formula(label, depth, rate, step, seed) for step in late]) for depth in DEPTHS]
             for seed in seeds]  # fmt: skip
    return np.polyfit(np.log(DEPTHS), np.log(means).T, 1)[0]


@pytest.mark.parametrize("label", [ONE, TWO])
def test_exponents_at_every_measured_rate_are_tabulated_and_printed(label):
    panel = table("sc_fig04")[table("sc_fig04")["panel"] == f"statistic | {label}"]
    own = panel[panel["series"] == SHARPNESS_EXPONENT].set_index("x")
    assert tuple(own.index) == MEASURED
    for rate in MEASURED:
        expected = mean_interval(late_slopes(label, rate))
        found = own.loc[rate, BOUNDS].tolist()
        assert found == pytest.approx([expected.value, expected.low, expected.high])
        assert f"exponent in $L$ {estimate(own.loc[rate])} at $\\eta_0={rate:g}$" in texts(figure("sc_fig04"))


@cache
def judged(claim: str) -> list[float]:
    """Value and bounds of a claim about the planted tables."""
    criteria = [criterion for criterion in criteria_of("sc_depth") if criterion.claim_id == claim]
    (found,) = ledger(criteria, TABLES, "planted")[0][["value", "ci_low", "ci_high"]].to_numpy(dtype=float).tolist()
    return found


@pytest.mark.parametrize(("label", "claim"), [(ONE, "sc_fig4a_transfer"), (TWO, "sc_fig4b_transfer")])
def test_shifts_are_those_of_the_claims(label, claim):
    own = table("sc_fig04")[table("sc_fig04")["panel"] == f"statistic | {label}"].set_index("series").loc[SHIFT]
    assert own["x"] == 8 and own[BOUNDS].tolist() == pytest.approx(judged(claim))
    assert f"shift of best $\\eta_0$ for 8 $L$, log$_2$: {estimate(own)}" in texts(figure("sc_fig04"))


def test_largest_exponent_in_the_table_is_that_of_the_claim():
    panel = table("sc_fig04")[table("sc_fig04")["panel"] == f"statistic | {ONE}"]
    assert panel.loc[panel["series"] == SHARPNESS_EXPONENT, "y"].abs().max() == pytest.approx(
        judged("sc_fig4a_sharpness")[0]
    )


def test_failures_stand_at_chance_as_crosses_and_are_named():
    def one(what: float, rate: float):
        return lambda label, depth, own, seed: (label, depth, own, seed) == (TWO, 6, rate, 1)

    lost = failing(failing(loss, one(math.inf, 2.0), since=90), one(math.nan, 1.0), math.nan, since=90)
    found = FIGURES["sc_fig04"].tabulate(transfer_runs(lost))
    rows = found[(found["panel"] == f"transfer | {TWO}") & (found["series"] == "L=6")].set_index("x")
    assert rows["flag"].to_dict() == {0.125: "", 0.25: "", 0.5: "", 1.0: "dead", 2.0: "diverged"}
    assert rows.loc[[1.0, 2.0], "y"].tolist() == pytest.approx([math.log(10)] * 2)
    drawn = draw("sc_fig04", found)
    for marker, rate in (("P", 2.0), ("X", 1.0)):
        crosses = [line for line in drawn.axes[3].lines if line.get_marker() == marker and len(line.get_xdata())]
        assert len(crosses) == 1 and crosses[0].get_xdata()[0] == pytest.approx(rate, rel=0.2)
        assert not [line for line in drawn.axes[0].lines if line.get_marker() == marker and len(line.get_xdata())]
    named = {"a seed diverged", "a seed died or ended at chance", "loss at chance, where failures are marked"}
    assert named < set(legend_texts(drawn)) and not named & set(legend_texts(figure("sc_fig04")))
    assert "a seed has stopped or not converged" not in legend_texts(drawn)  # at rates that are not shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0119, "1.01"), (1.0, "1.00"), (0.82, "0.82"), (-7.52, "−7.52"), (12.34, "12.3"), (0.0996, "0.10"),
        (0.0994, "0.099"), (0.06, "0.060"), (-0.0053, "−0.0053"), (0.0, "0.00"), (math.inf, "∞"), (-math.inf, "−∞"),
    ],
)  # fmt: skip
def test_numbers_are_printed_with_what_sets_them_apart(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("low", "high"), [(0.92, 2.5), (1.07, 2.45), (1.75, 2.4), (0.68, 2.52), (0.3, 1.7), (0.02, 3)])
def test_a_logarithmic_axis_has_enough_numbers_whatever_it_spans(low, high):
    ax = new_figure(STYLE, 4, 3).subplots()
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    plain_ticks(ax.yaxis)
    inside = [tick for tick in ax.yaxis.get_majorticklocs() if low <= tick <= high]
    assert 3 <= len(inside) <= 8
    assert all(ax.yaxis.get_major_formatter()(tick) == f"{tick:g}" for tick in inside)


@pytest.mark.parametrize(("high", "text"), [(1e6, "$10^{4}$"), (5e4, "10000")])
def test_large_numbers_of_an_axis_are_powers_of_ten(high, text):
    ax = new_figure(STYLE, 4, 3).subplots()
    ax.set_yscale("log")
    ax.set_ylim(1, high)
    plain_ticks(ax.yaxis)
    short_numbers(ax.yaxis)
    assert ax.yaxis.get_major_formatter()(1e4) == text


def test_the_edge_is_named_beside_the_panel():
    (edge,) = (text for text in figure("sc_fig04").axes[1].texts if text.get_text() == "$2/\\eta_0$")
    assert (edge.xy, edge.xycoords, edge.get_ha()) == ((1, 2 / SHOWN), ("axes fraction", "data"), "left")


# --- Figure 22 --------------------------------------------------------------------------------------------------------

QUANTITIES = {"training loss": "training_loss", "sharpness": "sharpness"}


def told(label: str, quantity: str):
    """The distances of one quantity at the rate that is shown."""
    rows = of_network(stage("sc_fig22"), label, "depth")
    return distances(curves(rows, QUANTITIES[quantity], SHOWN, size="depth"))


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("label", [ONE, TWO])
def test_distances_and_their_floor_are_those_of_the_runs(label, quantity):
    found, name = told(label, quantity), f"{quantity} | {label}"
    for place, depth in enumerate(DEPTHS[:-1]):
        seen = np.isfinite(found.values()[place])
        series = f"L={depth}"
        assert values(table("sc_fig22"), f"distance | {name}", series, "x") == found.steps[seen].tolist()
        middle, floor = found.values()[place][seen], found.floor()[place]
        assert values(table("sc_fig22"), f"distance | {name}", series) == pytest.approx(middle.tolist())
        high = (middle + floor[seen]).tolist()
        assert values(table("sc_fig22"), f"distance | {name}", series, "y_high") == pytest.approx(high)
        assert values(table("sc_fig22"), f"noise floor | {name}", series) == pytest.approx(floor.tolist())
    assert not values(table("sc_fig22"), f"distance | {name}", "L=24")
    formula = {"training loss": loss, "sharpness": sharpness}[quantity]
    at_60 = {depth: np.mean(recorded(formula, label, depth, SHOWN, 60)) for depth in DEPTHS}
    drawn = values(table("sc_fig22"), f"{quantity} | {label}", "L=3")
    steps = values(table("sc_fig22"), f"{quantity} | {label}", "L=3", "x")
    assert drawn[steps.index(60)] == pytest.approx(at_60[3])
    assert found.values()[0][list(found.steps).index(60)] == pytest.approx(abs(at_60[3] - at_60[24]), rel=0.01)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("label", [ONE, TWO])
def test_exponents_in_time_are_tabulated_by_depth_and_printed(label, quantity):
    found, name = told(label, quantity), f"{quantity} | {label}"
    own = table("sc_fig22")[table("sc_fig22")["panel"] == "exponent in time"]
    rows = own[own["series"] == name].set_index("x")
    assert rows["y"].to_dict() == pytest.approx(dict(zip(DEPTHS[:-1], found.laws()[:, 1], strict=True)))
    first = jackknife_interval(lambda seeds: float(found.laws(seeds)[0, 1]), SEEDS)
    assert rows.loc[3.0, ["y_low", "y_high"]].tolist() == pytest.approx([first.low, first.high])
    row = table("sc_fig22")[table("sc_fig22")["series"] == f"exponent in time | {name}"].iloc[0]
    together = jackknife_interval(found.exponent, SEEDS)
    assert [row.y, row.y_low, row.y_high] == pytest.approx([together.value, together.low, together.high])
    assert f"$b$ = {shown(row.y)} [{shown(row.y_low)}, {shown(row.y_high)}]" in texts(figure("sc_fig22"))


def test_claims_are_differences_of_the_exponents_in_the_table():
    own = table("sc_fig22").set_index("series")["y"]
    loss_one, sharpness_one = (own[f"exponent in time | {quantity} | {ONE}"] for quantity in QUANTITIES)
    assert judged("sc_fig22_rates")[0] == pytest.approx(loss_one - sharpness_one)
    assert judged("sc_fig22_blocks")[0] == pytest.approx(own[f"exponent in time | sharpness | {TWO}"] - sharpness_one)


def test_every_network_is_compared_with_its_own_deepest_one():
    deep = stage("sc_fig22")
    own = deep[(deep["series"] == TWO) | (deep["depth"] < 24)]
    drawn = draw("sc_fig22", FIGURES["sc_fig22"].tabulate(own))
    assert [title.split(": ")[1] for title in titles(drawn)[1:3]] == ["distance to $L=12$"] * 2
    assert [title.split(": ")[1] for title in titles(drawn)[5:7]] == ["distance to $L=24$"] * 2
    assert titles(drawn)[0::4] == [f"{ONE}: training loss", f"{TWO}: training loss"]
    assert "$L=24$ (proxy)" in legend_texts(drawn)


def test_quantities_in_the_noise_have_no_exponent_and_are_named():
    def noisy(label, depth, rate, step, seed):
        return 0.5 + 0.1 * wobble(seed, depth, label) if label == TWO else loss(label, depth, rate, step, seed)

    few = {"rates": RATES[:3]}
    drawn = draw("sc_fig22", FIGURES["sc_fig22"].tabulate(transfer_runs(noisy, **few)))
    assert in_noise(drawn) == ["", "in the noise: loss"]
    whole = draw("sc_fig22", FIGURES["sc_fig22"].tabulate(transfer_runs(noisy, noisy, **few)))
    assert in_noise(whole) == ["", "in the noise: loss; sharpness"]
    assert in_noise(figure("sc_fig22")) == ["", ""]


def in_noise(drawn) -> list[str]:
    """What is written in the panels of the exponents."""
    return ["".join(text.get_text() for text in ax.texts) for ax in (drawn.axes[3], drawn.axes[7])]


def test_depths_without_an_exponent_keep_their_place_and_are_named():
    planted = table("sc_fig22")
    loss_of_six = (planted["series"] == f"training loss | {TWO}") & (planted["x"] == 6)
    of_twelve = planted["series"].str.endswith(f" | {TWO}") & (planted["x"] == 12)
    exponents = planted["panel"] == "exponent in time"
    longer = draw("sc_fig22", planted[~(exponents & planted["series"].str.endswith(f" | {TWO}") & (planted["x"] > 3))])
    assert in_noise(longer) == ["", "in the noise: loss at $L=6, 12$;\nsharpness at $L=6, 12$"]
    drawn = draw("sc_fig22", planted[~(exponents & (loss_of_six | of_twelve))])
    assert in_noise(drawn) == ["", "in the noise: loss at $L=6, 12$; sharpness at $L=12$"]
    assert drawn.axes[7].get_xticks().tolist() == [3, 6, 12]
    assert [text.get_text() for text in drawn.axes[7].get_legend().get_texts()] == ["loss", "sharpness"]


def test_panels_of_figure_22_have_names_of_their_axes():
    assert [ax.get_ylabel() for ax in figure("sc_fig22").axes] == ["training loss", "distance", "", "exponent $b$"] * 2


def flagged(quantity: str, depth: int, step: int) -> pd.DataFrame:
    """The planted table with one point of a curve that did not converge."""
    found = table("sc_fig22").copy()
    at = (found["panel"] == f"{quantity} | {TWO}") & (found["series"] == f"L={depth}") & (found["x"] == step)
    assert at.sum() == 1
    found.loc[at, "flag"] = "unconverged"
    return found


def hollow(ax) -> list[tuple[float, float]]:
    lines = [line for line in ax.lines if line.get_marker() == "o" and line.get_markerfacecolor() == "white"]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


@pytest.mark.parametrize(("depth", "depths"), [(6, (6,)), (24, DEPTHS[:-1])])
def test_distances_of_what_did_not_converge_are_hollow(depth, depths):
    drawn, panel = draw("sc_fig22", flagged("sharpness", depth, 60)), f"distance | sharpness | {TWO}"
    own = table("sc_fig22")[(table("sc_fig22")["panel"] == panel) & (table("sc_fig22")["x"] == 60)]
    expected = own[own["series"].isin([f"L={one}" for one in depths])]
    assert len(expected) and sorted(hollow(drawn.axes[6])) == sorted(zip(expected["x"], expected["y"], strict=True))
    assert not any(hollow(ax) for place, ax in enumerate(drawn.axes) if place != 6)
    assert STOPPED in legend_texts(drawn) and STOPPED not in legend_texts(figure("sc_fig22"))


def test_hollow_points_are_in_the_legend_only_if_there_are_some():
    """The sharpness at the start is in the table, but a distance at step 0 has no place on the axis."""
    drawn = draw("sc_fig22", flagged("sharpness", 24, 0))
    assert not any(hollow(ax) for ax in drawn.axes) and STOPPED not in legend_texts(drawn)


def test_bars_lie_under_the_points():
    steps = np.arange(1.0, 21)
    rows = {"panel": "distance | loss", "series": "L=3", "x": steps, "y": 1.0, "y_low": 0.5, "y_high": 1.5, "flag": ""}
    ax = new_figure(STYLE, 4, 3).subplots()
    draw_distances(ax, pd.DataFrame(rows), "loss", {"L=3": "black"})
    (bars,), points = ax.collections, max(ax.lines, key=lambda line: len(line.get_xdata()))
    assert bars.get_zorder() < points.get_zorder()
    assert len(points.get_xdata()) == 20 == len(bars.get_segments())


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=400).map(sorted))
def test_distances_are_shown_at_few_steps_from_the_first_to_the_last(steps):
    steps = np.array(steps)
    places = shown_steps(steps)
    assert len(places) <= MOST_STEPS and places.tolist() == sorted(set(places))
    assert {0, len(steps) - 1} <= set(places)
    if len(steps) <= MOST_STEPS:
        assert len(places) == len(steps)
    else:  # evenly spaced, as far as there are steps
        every, few = (np.diff(np.log(some[some > 0])) for some in (steps, steps[places]))
        assert few.max() <= few.sum() / (MOST_STEPS - 2) + every.max() + 1e-9


def test_the_fits_are_those_of_all_steps():
    """However few of them are shown."""
    steps, noise = np.arange(10, 3001, 10), np.random.default_rng(0).normal(size=(6, 2, 300))
    gaps = np.array([0.2, 0.1])[:, None] * steps**0.5 + 0.02 * noise
    own = Distances(np.array([3, 6]), 24, steps, gaps, 3000)
    found = {part["panel"].iloc[0]: part for part in distance_parts("loss", own, "depth") if len(part)}
    rows = found["distance | loss"]
    assert 20 < rows.groupby("series").size().max() <= MOST_STEPS < len(own.steps)
    told = found["exponent in time"].set_index("x")["y"]
    assert told.to_dict() == pytest.approx(dict(zip(own.sizes, own.laws()[:, 1], strict=True)))


def test_a_network_without_distances_is_not_said_to_be_in_the_noise():
    lost = failing(loss, lambda label, depth, *_: (label, depth) == (TWO, 24), math.nan, since=60)
    found = FIGURES["sc_fig22"].tabulate(transfer_runs(lost))
    assert not (found["panel"] == f"distance | training loss | {TWO}").any()
    drawn = draw("sc_fig22", found)
    assert "in the noise" not in texts(drawn) and STOPPED in legend_texts(drawn)


# --- Figure 25 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "indices"), [(10, [1, 3, 10]), (3, [1, 3]), (1, [1])])
def test_the_eigenvalues_that_were_measured_are_drawn_and_named(last, indices):
    own = stage("sc_fig25")[stage("sc_fig25")["seed"] < 2]
    found = FIGURES["sc_fig25"].tabulate(own[(own["quantity"] != "sharpness") | (own["index"] <= last)])
    kinds = {panel.split(" | ")[0] for panel in found["panel"] if " | " in panel}
    assert kinds == {f"eigenvalue {index}" for index in indices} | {"NTK eigenvalue 1"}
    expected = [f"$\\lambda_{{{index}}}$ of $\\gamma^2 H$" for index in indices] + ["$\\lambda_{1}$ of the NTK"]
    drawn = figure("sc_fig25") if last == 10 else draw("sc_fig25", found)
    assert titles(drawn)[: len(expected)] == expected and len(drawn.axes) == 2 * len(expected)
    assert [ax.get_ylabel() for ax in drawn.axes[:: len(expected)]] == [
        f"{name}, $\\eta_0={SHOWN:g}$" for name in (ONE, TWO)
    ]


@pytest.mark.parametrize("label", [ONE, TWO])
@pytest.mark.parametrize(
    ("kind", "formula", "index"),
    [("eigenvalue 1", spectrum, 1), ("eigenvalue 10", spectrum, 10), ("NTK eigenvalue 1", ntk, 1)],
)
def test_eigenvalues_along_training_are_those_of_the_runs(label, kind, formula, index):
    own = table("sc_fig25")[table("sc_fig25")["panel"] == f"{kind} | {label}"]
    for depth in DEPTHS:
        rows = own[own["series"] == f"L={depth}"].set_index("x")
        for step in (0, 60, 100):
            assert_over_seeds(rows.loc[step], recorded(formula, label, depth, SHOWN, step, index))
    assert values(own, f"{kind} | {label}", EDGE) == ([2 / SHOWN] * 2 if kind == "eigenvalue 1" else [])


@pytest.mark.parametrize(
    ("kind", "claim", "sign"),
    [("eigenvalue 1", "sc_fig25_spectrum", -1), ("NTK eigenvalue 1", "sc_fig25_ntk", 1)],
)
def test_exponents_of_the_eigenvalues_are_those_of_the_claims(kind, claim, sign):
    own = table("sc_fig25")[table("sc_fig25")["panel"] == "statistic"].set_index("series")
    row = own.loc[f"exponent in the depth, second half | {kind} | {TWO}"]
    value, *bounds = judged(claim)
    assert row["y"] == pytest.approx(sign * value)
    if claim == "sc_fig25_ntk":  # the other one has simultaneous intervals
        assert [row["y_low"], row["y_high"]] == pytest.approx(bounds)
    printed = f"exponent in $L$, second half:\n{shown(row.y)} [{shown(row.y_low)}, {shown(row.y_high)}]"
    assert printed in texts(figure("sc_fig25"))
    assert len(own) == 8  # four eigenvalues of two networks


@pytest.mark.parametrize("label", [ONE, TWO])
def test_every_eigenvalue_has_its_own_exponent(label):
    own = table("sc_fig25").set_index("series")
    for index in (1, 3, 10):
        found = own.loc[f"exponent in the depth, second half | eigenvalue {index} | {label}", BOUNDS].tolist()
        slopes = late_slopes(label, SHOWN, formula=lambda *place, k=index: spectrum(*place)[k - 1])
        expected = mean_interval(slopes)
        assert found == pytest.approx([expected.value, expected.low, expected.high])


# --- seeds that are left out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_seeds_of_which_a_network_diverged_are_left_out_and_named(name):
    lost = failing(loss, lambda label, depth, rate, seed: (label, depth, seed) == (TWO, 6, 2), since=60)
    found = FIGURES[name].tabulate(RUNS[name](lost))
    curves_of = found["panel"].str.startswith(("eigenvalue", "NTK", "sharpness")) & (found["estimator"] == "Lanczos")
    by_network = found[curves_of].groupby(found["panel"].str.split(" | ", regex=False).str[-1])
    assert by_network["n"].unique().map(list).to_dict() == {ONE: [6], TWO: [5]}
    assert set(by_network["flag"].unique().map(tuple)) == {("",)}
    named = f"left out: seeds of which a network failed ({TWO}: 1 of 6)"
    assert named in legend_texts(draw(name, found))
    assert not any("left out: seeds" in text for text in legend_texts(figure(name)))
    assert any("diverged" in flag for flag in found["flag"]) == (name == "sc_fig04")  # a failure of its rate


def test_exponents_without_the_seeds_that_failed_are_those_of_the_others():
    lost = failing(loss, lambda label, depth, rate, seed: (label, depth, seed) == (ONE, 6, 2), since=60)
    found = FIGURES["sc_fig04"].tabulate(transfer_runs(lost))
    own = found[(found["panel"] == f"statistic | {ONE}") & (found["series"] == SHARPNESS_EXPONENT)].set_index("x")
    for rate in MEASURED:
        expected = mean_interval(late_slopes(ONE, rate, (0, 1, 3, 4, 5)))
        found = own.loc[rate, BOUNDS].tolist()
        assert found == pytest.approx([expected.value, expected.low, expected.high])


def test_best_rates_of_the_authors_stand_on_the_axis_of_runs_that_are_long_enough(monkeypatch):
    short = table("sc_fig04")
    assert not short["panel"].str.startswith(PUBLISHED).any()
    monkeypatch.setattr(published, "LENGTH", 0.0)
    long = FIGURES["sc_fig04"].tabulate(stage("sc_fig04"))
    for name, rates in published.BEST_RATES.items():
        rows = long[long["panel"] == f"{PUBLISHED} | {name}"]
        assert dict(zip(rows["x"], rows["y"], strict=True)) == rates
    before, after = figure("sc_fig04"), draw("sc_fig04", long)
    extra = [len(new.lines) - len(old.lines) for old, new in zip(before.axes, after.axes, strict=True)]
    shared = [[rate for depth, rate in published.BEST_RATES[name].items() if depth in DEPTHS] for name in (ONE, TWO)]
    assert [count for count in extra if count] == [len(rates) for rates in shared]
    drawn = [line.get_xdata()[0] for ax in after.axes for line in ax.lines if line.get_marker() == "d"]
    assert drawn == [rate for rates in shared for rate in rates]
    assert "best rate of the authors' sweep" in legend_texts(after)


def test_equal_best_rates_of_the_authors_stand_on_each_other(monkeypatch):
    monkeypatch.setattr(published, "LENGTH", 0.0)
    after = draw("sc_fig04", FIGURES["sc_fig04"].tabulate(stage("sc_fig04")))
    marks = [line for line in after.axes[0].lines if line.get_marker() == "d"]
    assert [line.get_xdata()[0] for line in marks] == [0.22, 0.38, 0.38, 0.49]
    assert [line.get_ydata()[0] for line in marks] == [0, 0, STACKED, 0]


def test_both_lines_of_figure_25_lie_within_the_axes_that_they_share():
    """Even if the upper one is much higher."""
    found = table("sc_fig25").copy()
    upper = found["panel"].str.endswith(f" | {ONE}") & (found["estimator"] == "Lanczos")
    found.loc[upper, BOUNDS] *= 30
    for ax in draw("sc_fig25", found).axes[:8]:
        low, high = ax.get_ylim()
        drawn = [value for line in ax.lines if len(line.get_xdata()) > 2 for value in line.get_ydata()]
        assert low <= min(drawn) and max(drawn) <= high


def test_points_of_the_authors_stand_beside_eigenvalues_at_their_rate(monkeypatch):
    plain = table("sc_fig25")
    assert not plain["panel"].str.startswith(PUBLISHED_POINTS).any()  # too short, and at another rate
    monkeypatch.setattr(published, "LENGTH", 0.0)
    assert not FIGURES["sc_fig25"].tabulate(stage("sc_fig25"))["panel"].str.startswith(PUBLISHED_POINTS).any()
    monkeypatch.setattr(tables, "RATE", SHOWN)
    points = published.eigenvalues_read()
    monkeypatch.setattr(tables, "eigenvalues_read", lambda: points.assign(epoch=points["epoch"] / 1e5))  # in our steps
    found = FIGURES["sc_fig25"].tabulate(stage("sc_fig25"))
    shared = points[points["depth"].isin(DEPTHS)]
    for kind, own in shared.groupby("kind"):
        rows = found[found["panel"] == f"{PUBLISHED_POINTS} | {kind} | {TWO}"]
        read = sorted(zip((f"L={depth}" for depth in own["depth"]), own["y"].round(4), strict=True))
        assert sorted(zip(rows["series"], rows["y"].round(4), strict=True)) == read
    before, after = figure("sc_fig25"), draw("sc_fig25", found)
    extra = sum(len(new.lines) - len(old.lines) for old, new in zip(before.axes, after.axes, strict=True))
    assert extra == len(shared) > 10
    assert "the authors' run, by epochs" in legend_texts(after) and "the authors' run" not in str(legend_texts(before))


def test_published_eigenvalues_are_in_our_units():
    points = published.eigenvalues_read().set_index(["kind", "depth", "epoch"])
    assert points.loc[("eigenvalue 3", 3, 19.5), "y"] == pytest.approx(0.03173 * 64)
    assert points.loc[("NTK eigenvalue 1", 3, 9.5), "y"] == pytest.approx(848.8 * 64 / 1024)
    assert {kind for kind, _, _ in points.index} == {"eigenvalue 3", "eigenvalue 10", "NTK eigenvalue 1"}
    assert pytest.approx(1.2217, abs=1e-4) == published.RATE


def test_where_every_network_fails_at_once_distances_and_exponents_are_said_to_be_missing():
    """With one step left there is no course of a distance, and nothing that lies in the noise."""
    planted = table("sc_fig22")
    gone = planted["panel"].str.startswith(("law | ", "distance | sharpness", "noise floor | sharpness"))
    first = planted["x"] <= planted.loc[planted["panel"].str.startswith("distance | ") & (planted["x"] > 0), "x"].min()
    along = planted["panel"].str.startswith(("distance | ", "noise floor | "))
    untold = planted[(planted["panel"] != "exponent in time") & ~planted["series"].str.startswith("exponent in time")]
    told = texts(draw("sc_fig22", untold[(~gone & (first | ~along)).loc[untold.index]]))
    assert told.count("no exponent: networks failed") == told.count("no distance: networks failed") == 2
    assert "in the noise" not in told and texts(draw("sc_fig22", untold)).count("in the noise: ") == 2
