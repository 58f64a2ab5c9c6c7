"""Figures 12, 13 and 14: what is tabulated is what was recorded; settings of which nothing can be drawn are refused."""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing.transfer_panels import estimate
from featurespeed.drawing.transfer_rows import ARRIVAL_EXPONENT, SHARPNESS_EXPONENT, SHIFT
from featurespeed.drawing.width_rows import EDGE, LEFT_OUT
from featurespeed.ledger.engine import ledger
from featurespeed.papers.super_consistency.batch_size.spec import (
    AUGMENTED,
    BATCHES,
    PLAIN,
    AugmentedBatchSpec,
    LateSpec,
    PlainBatchSpec,
)
from featurespeed.papers.super_consistency.batch_size.tables import (
    DELAY,
    DEPTH_OF_FALL,
    FALLS,
    LESS,
    ONSET_EXPONENT,
    RISES,
    TWICE_THE_EDGE,
)
from featurespeed.sweeps.convergence import curves
from featurespeed.sweeps.late import fall
from tests.papers.cases import criteria_of, drawing_of
from tests.papers.super_consistency.batch_size_cases import (
    LATE_RATE,
    NETWORKS,
    SEEDS,
    WIDTHS,
    batch_loss,
    batch_runs,
    batch_size_tables,
    late_loss,
    late_runs,
    late_sharpness,
)
from tests.papers.super_consistency.figure_cases import assert_made, draw, legend_texts, texts, values

SPECS = {"sc_fig12": LateSpec, "sc_fig13": AugmentedBatchSpec, "sc_fig14": PlainBatchSpec}
FIGURES = {name: drawing_of(name) for name in SPECS}


@cache
def stages() -> dict[str, pd.DataFrame]:
    return batch_size_tables()


@cache
def table(name: str) -> pd.DataFrame:
    """The artefact table of the planted stage table."""
    return FIGURES[name].tabulate(stages()[name])


def panel(artefact: pd.DataFrame, name: str, series: str | None = None) -> pd.DataFrame:
    own = artefact[artefact["panel"] == name]
    return own if series is None else own[own["series"] == series]


def part(name: str, keep: pd.Series) -> pd.DataFrame:
    """Some rows of a stage table, with its settings."""
    found = stages()[name][keep]
    found.attrs = stages()[name].attrs
    return found


@pytest.mark.parametrize("name", ["sc_fig12", "sc_fig13"])
def test_artefact_is_made_and_its_table_does_not_depend_on_the_order_of_the_records(name, tmp_path):
    assert_made(name, stages()[name], tmp_path)


@pytest.mark.parametrize("name", ["sc_fig12", "sc_fig13"])
def test_two_widths_and_two_seeds_are_drawn(name):
    own = stages()[name]
    small = part(name, (own["width"] <= 16) & (own["seed"] < 2) & own["step"].isin((0, 20, 60, 100)))
    assert draw(name, FIGURES[name].tabulate(small)).axes


@pytest.mark.parametrize("name", ["sc_fig12", "sc_fig13"])
def test_nothing_measured_is_an_error(name):
    with pytest.raises(ValueError, match="nothing that this artefact draws"):
        FIGURES[name].tabulate(part(name, stages()[name]["quantity"] == "training_loss"))


@pytest.mark.parametrize(("name", "label"), [("sc_fig12", PLAIN), ("sc_fig12", AUGMENTED), ("sc_fig13", "2B")])
def test_a_network_of_which_nothing_was_measured_is_left_out(name, label):
    own = stages()[name]
    found = FIGURES[name].tabulate(part(name, (own["series"] != label) | (own["quantity"] == "training_loss")))
    shown = {text.split(" | ")[1] for text in found["panel"] if " | " in text}
    assert len(shown) == (1 if name == "sc_fig12" else 2) and not shown & {label, "batch size 16"}
    assert draw(name, found).axes


@pytest.mark.parametrize(
    ("name", "where", "series", "claim"),
    [
        ("sc_fig12", f"statistic | {PLAIN}", ONSET_EXPONENT, "sc_fig12_late"),
        ("sc_fig12", f"statistic | {PLAIN}", DEPTH_OF_FALL, "sc_fig12_fall"),
        ("sc_fig12", "statistic", DELAY, "sc_fig12_augmentation"),
        ("sc_fig12", "statistic", LESS, "sc_discrepancy_fig13_augmentation"),
    ],
)
def test_numbers_of_the_claims_stand_in_the_table_and_are_printed(name, where, series, claim):
    judged, _ = ledger([c for c in criteria_of("sc_batch_size") if c.claim_id == claim], stages(), "planted")
    row = panel(table(name), where, series).iloc[0]
    expected = judged[["value", "ci_low", "ci_high"]].iloc[0].tolist()
    assert row[["y", "y_low", "y_high"]].tolist() == pytest.approx(expected)
    assert f" {estimate(row)}" in texts(draw(name, table(name)))


# --- Figure 12 --------------------------------------------------------------------------------------------------------


def test_diamonds_mark_the_median_onset_of_widths_that_fall():
    rows = stages()["sc_fig12"]
    found = fall(curves(rows[rows["series"] == PLAIN], "sharpness", LATE_RATE))
    own = panel(table("sc_fig12"), f"peak | {PLAIN}").set_index("series")
    for place, width in enumerate(WIDTHS):
        expected = (found.medians()[place], found.peaks[:, place].mean())
        assert own.loc[f"N={width}", ["x", "y"]].tolist() == pytest.approx(expected)
    assert panel(table("sc_fig12"), f"peak | {AUGMENTED}").empty
    marks = [line for line in draw("sc_fig12", table("sc_fig12")).axes[1].lines if line.get_marker() == "D"]
    assert sorted(line.get_xdata()[0] for line in marks) == sorted(own["x"])


def test_the_legend_says_of_what_the_diamonds_are_the_peak():
    told = "peak of the three-point mean, from which it falls (median step, mean height over seeds)"
    assert told in legend_texts(draw("sc_fig12", table("sc_fig12")))
    without = table("sc_fig12")[~table("sc_fig12")["panel"].str.startswith("peak | ")]
    assert told not in legend_texts(draw("sc_fig12", without))


def hollow(ax, marker: str) -> list[int]:
    """Widths at which the points of this marker are hollow."""
    lines = [line for line in ax.lines if line.get_marker() == marker and line.get_markerfacecolor() == "white"]
    return [min(WIDTHS, key=lambda width, own=x: abs(width - own)) for line in lines for x in line.get_xdata()]


def test_onsets_that_stand_for_networks_that_never_fall_are_hollow():
    axes = draw("sc_fig12", table("sc_fig12")).axes
    assert hollow(axes[2], "D") == [] and hollow(axes[5], "D") == list(WIDTHS)
    few = table("sc_fig12").copy()
    never = few["panel"] == f"never | {AUGMENTED}"
    few.loc[never, "y"] = few.loc[never, "x"].map(dict(zip(WIDTHS, (SEEDS, SEEDS // 2, 0, 0), strict=True)))
    assert hollow(draw("sc_fig12", few).axes[5], "D") == [WIDTHS[0]]


def test_networks_that_never_fall_stand_at_the_last_step_and_are_counted():
    artefact = table("sc_fig12")
    for column in ("y", "y_low", "y_high"):
        assert values(artefact, f"onset | {AUGMENTED}", FALLS, column) == [100] * 4
    assert panel(artefact, f"never | {AUGMENTED}")["y"].tolist() == [SEEDS] * 4
    assert panel(artefact, f"statistic | {AUGMENTED}", ONSET_EXPONENT).empty
    drawn = texts(draw("sc_fig12", artefact))
    assert f"do not fall by $N$: 6, 6, 6, 6 of {SEEDS} (hollow: last step)" in drawn
    assert drawn.count("do not fall") == drawn.count("too many for an exponent of the onset") == 1
    assert max(values(artefact, f"onset | {PLAIN}", RISES, "y_high")) < 12


def test_networks_that_never_rise_to_the_edge_are_hollow_and_counted():
    def sharpness(label, width, rate, step, seed):
        low = label == AUGMENTED and (width in WIDTHS[:2] or seed == 0)
        return late_sharpness(label, width, rate, step, seed) * (0.1 if low else 1.0)

    artefact = FIGURES["sc_fig12"].tabulate(late_runs(change_sharpness=sharpness))
    counts = panel(artefact, f"never rises | {AUGMENTED}").sort_values("x")["y"].tolist()
    assert counts == [SEEDS, SEEDS, 1, 1]
    assert not panel(artefact, f"never rises | {PLAIN}")["y"].any()
    drawn = draw("sc_fig12", artefact)
    assert hollow(drawn.axes[2], "o") == [] and hollow(drawn.axes[5], "o") == list(WIDTHS[:2])
    assert texts(drawn).count(f"do not rise by $N$: {SEEDS}, {SEEDS}, 1, 1 of {SEEDS} (hollow: last step)") == 1


def test_a_delay_is_a_bound_where_networks_never_fall_with_augmentation_and_nothing_where_they_do_not_without():
    own = table("sc_fig12")[table("sc_fig12")["series"] == DELAY].iloc[0]
    assert f"log(onset with / without): at least {estimate(own)}" in texts(draw("sc_fig12", table("sc_fig12")))
    few = table("sc_fig12").copy()
    few.loc[few["panel"] == f"never | {AUGMENTED}", "y"] = 0
    assert f"log(onset with / without): {estimate(own)}" in texts(draw("sc_fig12", few))
    few.loc[few["panel"] == f"never | {PLAIN}", "y"] = 3
    assert "log(onset" not in texts(draw("sc_fig12", few))


def test_the_slope_of_the_rise_is_printed_beside_the_sharpness():
    row = panel(table("sc_fig12"), f"statistic | {PLAIN}", ARRIVAL_EXPONENT).iloc[0]
    assert (
        f"of the steps to the edge {estimate(row)}" in draw("sc_fig12", table("sc_fig12")).axes[1].texts[0].get_text()
    )


def test_both_networks_are_drawn_at_the_rate_that_is_best_without_augmentation():
    def loss(label, width, rate, step, seed):
        worse = (rate == 0.25) == (label == PLAIN)
        return late_loss(label, width, rate, step, seed) * (1.5 if worse else 1.0)

    artefact = FIGURES["sc_fig12"].tabulate(late_runs(loss, rates=(0.25, 0.5)))
    for label in (PLAIN, AUGMENTED):
        assert set(panel(artefact, f"sharpness | {label}", EDGE)["y"]) == {2 / 0.5}


def test_seeds_of_which_a_network_failed_are_left_out_and_named():
    def dying(label, width, rate, step, seed):
        dead = step == 60 and (label, width, seed) == (AUGMENTED, 64, 4)
        return math.nan if dead else late_loss(label, width, rate, step, seed)

    artefact = FIGURES["sc_fig12"].tabulate(late_runs(dying))
    row = artefact[artefact["series"].str.startswith(LEFT_OUT)].iloc[0]
    assert (row["y"], row["n"]) == (1, SEEDS)
    assert set(panel(artefact, f"sharpness | {PLAIN}", "N=8")["n"]) == {SEEDS - 1}
    written = legend_texts(draw("sc_fig12", artefact))[-1]
    assert written == f"left out: seeds of which a network failed (with or without augmentation: 1 of {SEEDS})"


def test_a_network_that_stops_has_curves_but_no_fall():
    def dying(label, width, rate, step, seed):
        return math.nan if step == 60 and label == AUGMENTED else late_loss(label, width, rate, step, seed)

    artefact = FIGURES["sc_fig12"].tabulate(late_runs(dying))
    assert "dead" in set(panel(artefact, f"sharpness | {AUGMENTED}")["flag"])
    assert panel(artefact, f"onset | {AUGMENTED}").empty and panel(artefact, "statistic").empty
    figure = draw("sc_fig12", artefact)
    assert "a seed has stopped or not converged" in legend_texts(figure)
    assert texts(figure).count("no fall can be told: a network failed") == 1


# --- Figures 13 and 14 ------------------------------------------------------------------------------------------------


def test_columns_are_batch_sizes_in_ascending_order():
    figure = draw("sc_fig14", table("sc_fig14"))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:3] == [f"batch size {size}: loss against learning rate" for size in (8, 16, 32)]
    rates = [f"batch size {size}: sharpness at $\\eta_0={rate}$" for size, rate in ((8, 0.25), (16, 0.5), (32, 1))]
    assert titles[3:] == rates
    assert not table("sc_fig14")["panel"].str.startswith("loss").any()


def test_transfer_and_statistics_are_those_of_the_batch_size():
    loss = batch_loss(True)
    artefact = table("sc_fig13")
    row = panel(artefact, "transfer | batch size 32", "N=16").set_index("x").loc[2.0]
    assert row["y"] == pytest.approx(np.mean([loss("4B", 16, 2.0, 100, seed) for seed in range(SEEDS)]))
    shift = panel(artefact, "statistic | batch size 8", SHIFT).iloc[0]
    assert shift["y"] == pytest.approx(0.12, abs=0.05)
    slopes = panel(artefact, "statistic | batch size 16", SHARPNESS_EXPONENT)
    assert slopes["x"].tolist() == NETWORKS["2B"]["measured"]


def test_the_line_of_the_paper_is_dashed_at_twice_the_edge():
    artefact = table("sc_fig13")
    for size, rate in ((8, 0.25), (16, 0.5), (32, 1.0)):
        edge = panel(artefact, f"sharpness | batch size {size}", EDGE)["y"]
        assert set(edge) == {2 / rate}
        assert set(panel(artefact, f"sharpness | batch size {size}", TWICE_THE_EDGE)["y"]) == {4 / rate}
    ax = draw("sc_fig13", artefact).axes[4]
    assert {text.get_text() for text in ax.texts} >= {"$2/\\eta_0$", "$4/\\eta_0$"}
    heights = [line.get_ydata()[0] for line in ax.lines if line.is_dashed()]
    assert 8.0 in heights and ax.get_ylim()[1] > 8.0
    assert [text.xy for text in ax.texts if text.get_text() == "$4/\\eta_0$"] == [(1, 8.0)]  # right of the panel


def test_seeds_that_are_left_out_are_named_by_batch_size():
    def dying(label, width, rate, step, seed):
        dead = (label, width, rate, seed) == ("2B", 8, 0.5, 1) and step > 60
        return math.nan if dead else batch_loss(True)(label, width, rate, step, seed)

    artefact = FIGURES["sc_fig13"].tabulate(batch_runs(True, dying))
    assert panel(artefact, "statistic", f"{LEFT_OUT} | batch size 16")["y"].tolist() == [1]
    assert legend_texts(draw("sc_fig13", artefact))[-1].endswith(f"(batch size 16: 1 of {SEEDS})")


def test_sharpness_is_that_of_the_records():
    artefact = table("sc_fig12")
    own = [late_sharpness(PLAIN, 32, LATE_RATE, 40, seed) for seed in range(SEEDS)]
    row = panel(artefact, f"sharpness | {PLAIN}", "N=32").set_index("x").loc[40.0]
    assert row[["y", "y_low", "y_high"]].tolist() == pytest.approx([np.mean(own), min(own), max(own)])


# --- settings ---------------------------------------------------------------------------------------------------------

DIGITS = {"name": "digits", "pixels": "symmetric"}
MOVED = {"crop": 1, "rotation": 10}


def settings(name: str) -> dict[str, Any]:
    """Settings of one of the figures that are accepted."""
    model = {"kind": "simple_convnet", "depth": 2, "convention": "authors", "strides": [1, 2]}
    shared = {"model": model, "parameterization": "MUP", "learning_rates": [0.25, 0.5, 1.0]}
    if name == "sc_fig12":
        networks = {label: shared | {"batch_size": 8} for label in (PLAIN, AUGMENTED)}
        networks[AUGMENTED]["data"] = DIGITS | MOVED
    else:
        networks = {label: shared | {"batch_size": 4 * k, "steps": 20 // k} for label, k in BATCHES.items()}
    return copy.deepcopy(
        {"artefact": name, "data": DIGITS | (MOVED if name == "sc_fig13" else {}), "networks": networks}
        | {"widths": [4, 8], "steps": 20, "probe_steps": [0, 2, 5, 10, 20], "seeds": 2, "seed": 0}
        | {"curvature": {"quantities": ["sharpness"], "images": 8}}
    )


def refusal(name: str, params: dict[str, Any]) -> str:
    """The one line in which settings are refused."""
    with pytest.raises(ValueError) as fault:
        SPECS[name].model_validate(params)
    (error,) = fault.value.errors()
    assert "\n" not in error["msg"]
    return error["msg"]


@pytest.mark.parametrize(("name", "label"), [("sc_fig12", AUGMENTED), ("sc_fig13", "2B"), ("sc_fig14", "4B")])
def test_a_missing_network_or_quantity_is_named(name, label):
    params = settings(name)
    assert SPECS[name].model_validate(params).artefact == name
    params["curvature"]["quantities"] = ["hessian_trace"]
    assert "must hold sharpness, which the figure shows" in refusal(name, params)
    params = settings(name)
    del params["networks"][label]
    assert f"{label!r} is needed" in refusal(name, params)


def test_augmentation_is_where_the_figure_says():
    params = settings("sc_fig12")
    params["networks"][AUGMENTED]["data"] = DIGITS
    assert f"networks.{AUGMENTED}.data: crop = 0, flip = false, rotation = 0: must augment" in refusal(
        "sc_fig12", params
    )
    params = settings("sc_fig12")
    params["data"] |= {"crop": 1}
    assert f"networks.{PLAIN}.data: crop = 1, flip = false, rotation = 0: must not aug" in refusal("sc_fig12", params)
    for name, other in (("sc_fig13", "sc_fig14"), ("sc_fig14", "sc_fig13")):
        params = settings(name) | {"data": settings(other)["data"]}
        assert ("data: crop = 0" if name == "sc_fig13" else "data: crop = 1") in refusal(name, params)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("batch_size", 16, "batch_size = 16"),
        ("learning_rates", [0.25], "learning_rates = [0.25]"),
        ("data", DIGITS | MOVED | {"examples": 100}, "data.examples = 100"),
    ],
)
def test_networks_of_figure_12_differ_in_augmentation_only(key, value, text):
    params = settings("sc_fig12")
    params["networks"][AUGMENTED][key] = value
    found = refusal("sc_fig12", params)
    assert f"networks.{AUGMENTED}.{text}: must be that of networks.{PLAIN}" in found
    assert "; only crop, flip, rotation may differ" in found


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("batch_size", 12, "networks.4B.batch_size = 12: must be 4 times that of networks.B, 4"),
        ("batch_size", None, "networks.4B.batch_size = null: must be 4 times that of networks.B, 4"),
        ("steps", 10, "networks.4B.steps = 10: must be 5, as many epochs as networks.B has"),
        ("parameterization", "NTP", "networks.4B.parameterization = NTP: must be that of networks.B, MUP"),
        ("widths", [4, 16], "networks.4B.widths = [4, 16]: must be that of networks.B, null"),
    ],
)
def test_batch_sizes_have_equal_epochs_and_nothing_else_differs(key, value, text):
    params = settings("sc_fig14")
    params["networks"]["4B"][key] = value
    assert text in refusal("sc_fig14", params)


@pytest.mark.parametrize(
    ("steps", "own", "text"),
    [
        (21, None, "steps = 21: must be a multiple of 4, or networks.2B would need 10.5 steps for as many epochs"),
        (22, None, "steps = 22: must be a multiple of 4, or networks.4B would need 5.5 steps for as many epochs"),
        (24, 22, "networks.B.steps = 22: must be a multiple of 4, or networks.4B would need 5.5 steps"),
        (24, None, "networks.2B.steps = 10: must be 12, as many epochs as networks.B has"),
    ],
)
def test_larger_batches_have_as_many_epochs_in_whole_steps(steps, own, text):
    params = settings("sc_fig13")
    params["steps"], params["networks"]["B"]["steps"] = steps, own
    assert text in refusal("sc_fig13", params)


def test_batch_sizes_are_numbers():
    params = settings("sc_fig14")
    for network in params["networks"].values():
        network["batch_size"] = None
    assert "networks.B.batch_size = null: must be a number" in refusal("sc_fig14", params)
