"""Figures 20 and 21: what is tabulated is what was recorded; settings of which nothing can be drawn are refused."""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing.published_rates import AUTHORS, PUBLISHED
from featurespeed.drawing.tabulate import read_csv, write_csv
from featurespeed.drawing.transfer_rows import ADAM_EDGE, RATE_SHOWN, SHARPNESS_EXPONENT, SHIFT
from featurespeed.ledger.engine import ledger
from featurespeed.papers.super_consistency.adam.published import BEST_RATES
from featurespeed.papers.super_consistency.adam.spec import (
    ADAM,
    ADAMW,
    COMMON,
    ONE,
    ONE_NO_ROOT,
    PRECONDITIONED,
    TWO,
    TWO_NO_ROOT,
    AdamDepthSpec,
    AdamWidthSpec,
)
from featurespeed.papers.super_consistency.adam.tables import tabulate_fig20, tabulate_fig21
from featurespeed.papers.super_consistency.preconditioned_panels import with_powers
from tests.papers.cases import criteria_of
from tests.papers.super_consistency.adam_cases import (
    OVER_DEPTH,
    OVER_WIDTH,
    TABLES,
    adam_tables,
    depth_table,
    loss,
    sharpness,
    width_table,
)
from tests.papers.super_consistency.figure_cases import assert_made, draw, legend_texts, texts, values
from tests.papers.super_consistency.no_limit_cases import no_limit_tables

FIGURES = {"sc_fig20": tabulate_fig20, "sc_fig21": tabulate_fig21}
MARKED = "best rate of the authors' sweep"
DIGITS = {"name": "digits", "pixels": "symmetric"}
SPECS = {"sc_fig20": (AdamDepthSpec, OVER_DEPTH), "sc_fig21": (AdamWidthSpec, OVER_WIDTH)}
SIZES = {"sc_fig20": "depth", "sc_fig21": "width"}
NETWORKS = [(name, label) for name, (_, labels) in SPECS.items() for label in labels]


@cache
def made(name: str) -> pd.DataFrame:
    """The artefact table of the runs in which the claims hold."""
    return FIGURES[name](TABLES[name])


@pytest.mark.parametrize("name", FIGURES)
def test_artefact_is_made_whatever_the_order_of_the_records(name, tmp_path):
    assert_made(name, TABLES[name], tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_every_network_has_its_panels_without_the_loss_along_training(name):
    panels = set(made(name)["panel"])
    kinds = {panel.split(" | ")[0] for panel in panels}
    assert kinds - {PUBLISHED} == {"transfer", "best", "sharpness", "statistic"}
    for label in TABLES[name]["series"].unique():
        assert {f"transfer | {label}", f"sharpness | {label}"} <= panels


def test_sharpness_is_that_of_the_records_with_the_range_over_seeds():
    table = made("sc_fig20")
    measured = [sharpness(TWO, 6, 0.5, 50, seed) for seed in range(4)]
    row = table[(table["panel"] == f"sharpness | {TWO}") & (table["series"] == "L=6") & (table["x"] == 50)].iloc[0]
    assert (row["y"], row["y_low"], row["y_high"]) == pytest.approx((np.mean(measured), min(measured), max(measured)))
    assert values(table, f"sharpness | {TWO}", "L=6", "x")[0] == 5  # Adam has no preconditioner at step 0


def test_losses_are_those_of_the_last_tenth():
    table = made("sc_fig21")
    late = np.mean([loss(ADAM, 32, 0.25, 100, seed) for seed in range(4)])
    assert values(table, f"transfer | {ADAM}", "N=128")[2] == pytest.approx(late)  # 32 channels, four inputs each


def test_the_threshold_is_38_and_the_rate_that_is_drawn_is_told():
    table = made("sc_fig20")
    assert values(table, f"sharpness | {ONE}", ADAM_EDGE) == pytest.approx([38, 38])
    assert values(table, f"statistic | {ONE}", RATE_SHOWN) == [0.5]
    figure = draw("sc_fig20", table)
    assert [ax.get_title(loc="left") for ax in figure.axes[4:]] == ["sharpness at $\\eta_0=0.5$"] * 4
    assert texts(figure).count("$2(1+\\beta_1)/(1-\\beta_1)$") == 4


def test_columns_stand_in_the_order_of_the_room_under_titles_that_fit():
    titles = [ax.get_title(loc="left") for ax in draw("sc_fig20", made("sc_fig20")).axes[:4]]
    without = ",\nno $1/\\sqrt{L}$ in the rate"
    assert titles == [ONE, TWO, ONE + without, TWO + without]
    titles = [ax.get_title(loc="left") for ax in draw("sc_fig21", made("sc_fig21")).axes[:3]]
    assert titles == [ADAM, ADAMW, COMMON]


@pytest.mark.parametrize(
    ("name", "label", "series", "rate", "claim"),
    [
        ("sc_fig20", ONE, SHIFT, 8.0, "sc_fig20_transfer"),
        ("sc_fig21", ADAM, SHIFT, 16.0, "sc_fig21_adam"),
        ("sc_fig21", ADAMW, SHIFT, 16.0, "sc_fig21_adamw"),
        ("sc_fig21", COMMON, SHIFT, 16.0, "sc_fig21_common"),
    ],
)
def test_numbers_of_the_claims_stand_in_the_tables(name, label, series, rate, claim):
    tables = adam_tables(sc_fig06=no_limit_tables()["sc_fig06"])  # of gradient descent, a control
    judged, _ = ledger([c for c in criteria_of("sc_adam") if c.claim_id == claim], tables, "planted")
    table = made(name)
    own = table[(table["panel"] == f"statistic | {label}") & (table["series"] == series)].set_index("x")
    expected = judged[["value", "ci_low", "ci_high"]].iloc[0].tolist()
    assert own.loc[rate, ["y", "y_low", "y_high"]].tolist() == pytest.approx(expected)


def test_exponents_are_printed_at_both_measured_rates():
    table = made("sc_fig20")
    assert values(table, f"statistic | {ONE}", SHARPNESS_EXPONENT) == pytest.approx([-0.04, -0.1], abs=0.005)
    drawn = texts(draw("sc_fig20", table))
    assert "exponent in $L$" in drawn and "at $\\eta_0=0.125$" in drawn and "at $\\eta_0=0.5$" in drawn


def test_seeds_that_are_left_out_are_counted():
    def dying(label, size, rate, step, seed):
        dead = (label, size, seed) == (TWO, 24, 2) and step > 60
        return math.nan if dead else loss(label, size, rate, step, seed)

    table = tabulate_fig20(depth_table(dying, seeds=5))
    row = table[table["series"].str.startswith("seeds left out")].iloc[0]
    assert (row["y"], row["n"]) == (1, 5)
    own = table[(table["panel"] == f"sharpness | {TWO}") & (table["series"] == "L=24")]
    assert set(own["n"]) == {4} and set(own["flag"]) == {""}
    assert any("failed (2 layers a block: 1 of 5)" in text for text in legend_texts(draw("sc_fig20", table)))


# --- networks that failed before they could be measured ---------------------------------------------------------------


def of(table: pd.DataFrame, label: str) -> pd.Series:
    """Whether rows are in the panels of a network."""
    return table["panel"].str.endswith(f" | {label}")


def failed_at_once(label: str, size: int | None = None):
    """Losses and sharpness of runs in which a network, or its networks of one size, diverged before the first probe."""

    def fails(own: str, width: int) -> bool:
        return own == label and size in (None, width)

    return (
        lambda own, width, *place: math.inf if fails(own, width) else loss(own, width, *place),
        lambda own, width, *place: math.nan if fails(own, width) else sharpness(own, width, *place),
    )


@pytest.mark.parametrize(
    ("name", "make", "label"), [("sc_fig20", depth_table, ONE_NO_ROOT), ("sc_fig21", width_table, ADAMW)]
)
def test_a_network_that_failed_before_it_was_measured_is_shown_with_its_failures(name, make, label):
    """As one trained by gradient descent is, of which there is a sharpness at step 0."""
    table = FIGURES[name](make(*failed_at_once(label)))
    transfer = table[(table["panel"] == f"transfer | {label}") & (table["estimator"] == "training")]
    assert len(transfer) == 6 * TABLES[name][SIZES[name]].nunique() and set(transfer["flag"]) == {"diverged"}
    assert values(table, f"statistic | {label}", RATE_SHOWN) == [0.125]  # the smallest measured one
    assert values(table, f"sharpness | {label}", ADAM_EDGE, "x") == [0, 100]
    figure, (_, labels) = draw(name, table), SPECS[name]
    below = figure.axes[len(labels) :][labels.index(label)]
    assert below.get_title(loc="left") == "sharpness at $\\eta_0=0.125$"
    assert texts(figure).count("every network failed\nbefore it was measured") == 1
    assert "every network failed\nbefore it was measured" in [text.get_text() for text in below.texts]
    others, expected = (own[~of(own, label)].reset_index(drop=True) for own in (table, made(name)))
    pd.testing.assert_frame_equal(others, expected)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_failures_only_is_drawn(name):
    """Rates of 10^30: no network of any kind was measured."""
    make = {"sc_fig20": depth_table, "sc_fig21": width_table}[name]
    table = FIGURES[name](make(lambda *_: math.inf, lambda *_: math.nan))
    labels = SPECS[name][1]
    assert {panel.split(" | ")[1] for panel in table["panel"]} == set(labels)
    assert texts(draw(name, table)).count("every network failed") == len(labels)


def test_sizes_that_failed_before_they_were_measured_are_named():
    drawn = texts(draw("sc_fig21", tabulate_fig21(width_table(*failed_at_once(ADAM, 32)))))
    assert drawn.count("every network failed") == 1
    assert "$N=128$: every network failed\nbefore it was measured" in drawn


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_measured_although_nothing_failed_is_an_error(name):
    losses = TABLES[name][TABLES[name]["quantity"] == "training_loss"]
    for nothing in (losses, losses.iloc[:0]):
        with pytest.raises(ValueError, match="nothing that this artefact draws"):
            FIGURES[name](nothing)


def test_large_learning_rates_are_powers_of_ten():
    assert with_powers("at $\\eta_0=2e+30$, $1.5e-05$") == "at $\\eta_0=2 \\cdot 10^{30}$, $1.5 \\cdot 10^{-5}$"


# --- the authors' sweep -----------------------------------------------------------------------------------------------


def test_best_rates_of_the_authors_stand_on_the_axis_in_the_colours_of_the_widths(tmp_path):
    write_csv(tabulate_fig21(width_table(widths=(16, 32, 64, 128))), tmp_path / "a.csv")
    table = read_csv(tmp_path / "a.csv")
    assert values(table, f"{PUBLISHED} | {COMMON}", AUTHORS) == list(BEST_RATES.values())
    assert values(table, f"{PUBLISHED} | {COMMON}", AUTHORS, "x") == list(BEST_RATES)
    figure = draw("sc_fig21", table)
    ax = figure.axes[2]
    marks = [line for line in ax.lines if line.get_marker() == "d"]
    assert [line.get_xdata()[0] for line in marks] == list(BEST_RATES.values())[:4]  # no run has 256 channels
    assert {(line.get_markerfacecolor(), line.get_ydata()[0]) for line in marks} == {("white", 0)}
    assert len({tuple(line.get_markeredgecolor()) for line in marks}) == 4
    assert legend_texts(figure)[4] == "range over seeds" and legend_texts(figure)[-1] == MARKED


def test_no_rates_of_the_authors_stand_beside_another_network():
    model = {"kind": "simple_convnet", "depth": 2, "convention": "authors", "strides": [1, 2]}
    table = tabulate_fig21(width_table(data=DIGITS, model=model))
    assert not table["panel"].str.startswith(PUBLISHED).any()
    assert MARKED not in legend_texts(draw("sc_fig21", table))


def test_small_learning_rates_are_counted_in_powers_of_ten():
    figure = draw("sc_fig21", made("sc_fig21"))
    figure.canvas.draw()
    axis = figure.axes[2].xaxis
    assert [text.get_text() for text in axis.get_majorticklabels()] == [str(4**k) for k in range(5)]
    assert axis.get_label_text().endswith("in $10^{-5}$") and "10^" not in figure.axes[0].xaxis.get_label_text()
    assert figure.axes[5].get_title(loc="left") == "sharpness at $\\eta_0=8 \\cdot 10^{-5}$"
    assert "at $\\eta_0=2 \\cdot 10^{-5}$" in texts(figure) and "e-05" not in texts(figure)


# --- settings ---------------------------------------------------------------------------------------------------------


#: What sets networks apart, but for their layers a block.
OPTIMIZERS = {
    **dict.fromkeys((ONE_NO_ROOT, TWO_NO_ROOT), {"depth_rates": False}),
    ADAMW: {"name": "adamw", "weight_decay": 0.001},
    COMMON: {"layer_rates": "common"},
}


def settings(name: str) -> dict[str, Any]:
    """Settings of one of the figures that are accepted."""
    deep = {"kind": "convnet", "depth": 3, "tau": 1, "convention": "authors", "strides": [1]}
    wide = {"kind": "simple_convnet", "depth": 2, "convention": "authors", "strides": [1, 2]}
    shared = {"learning_rates": [0.1, 0.2, 0.4], "measured": [0.2], "batch_size": 16, "optimizer": {"name": "adam"}}
    networks: dict[str, Any] = (
        {label: shared | {"model": deep, "parameterization": "DEPTH_MUP", "depths": [3, 6]} for label in OVER_DEPTH}
        if name == "sc_fig20"
        else {label: shared | {"model": wide, "parameterization": "MUP"} for label in OVER_WIDTH}
    )
    for label, network in networks.items():
        network["model"] = network["model"] | ({"layers_per_block": 2} if label.startswith("2") else {})
        network["optimizer"] = network["optimizer"] | OPTIMIZERS.get(label, {})
    return copy.deepcopy(
        {"artefact": name, "data": DIGITS, "networks": networks, "widths": [8] if name == "sc_fig20" else [8, 16]}
        | {"steps": 20, "probe_steps": [0, 10, 20], "seeds": 2, "seed": 0}
        | {"curvature": {"quantities": [PRECONDITIONED], "images": 8}}
    )


def refusal(name: str, params: dict[str, Any]) -> str:
    """The one line in which settings are refused."""
    with pytest.raises(ValueError) as fault:
        SPECS[name][0].model_validate(params)
    (error,) = fault.value.errors()
    assert "\n" not in error["msg"]
    return error["msg"]


@pytest.mark.parametrize(("name", "label"), NETWORKS)
def test_a_missing_network_is_named(name, label):
    params = settings(name)
    assert SPECS[name][0].model_validate(params).artefact == name
    del params["networks"][label]
    assert f"{label!r} is needed" in refusal(name, params)


@pytest.mark.parametrize("name", SPECS)
def test_a_missing_quantity_is_named(name):
    params = settings(name)
    params["curvature"]["quantities"] = ["gamma_sharpness"]
    assert refusal(name, params).endswith(
        "curvature.quantities = ['gamma_sharpness']: must hold preconditioned_sharpness, which the figure shows"
    )


def test_figure_20_is_over_the_depth_and_figure_21_over_the_width():
    params = settings("sc_fig20")
    params["networks"][TWO] |= {"depths": [3], "widths": [8, 16]}
    assert f"networks.{TWO}.depths = [3]: the figure is over the depth" in refusal("sc_fig20", params)
    params = settings("sc_fig21")
    deep = settings("sc_fig20")["networks"][ONE]
    params["networks"][ADAMW] = deep
    assert f"networks.{ADAMW}.depths = [3, 6]: the figure is over the width" in refusal("sc_fig21", params)


def test_a_sgd_network_has_no_preconditioner():
    params = settings("sc_fig21")
    params["networks"][ADAM]["optimizer"] = {"name": "sgd"}
    assert "sgd has no preconditioner; use adam or adamw" in refusal("sc_fig21", params)
