"""Figures 4c, 15, 16 and CompleteP: what is tabulated was recorded; settings that cannot be drawn are refused."""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing.transfer_rows import ADAM_EDGE, RATE_SHOWN, SHIFT
from featurespeed.ledger.engine import ledger
from featurespeed.papers.super_consistency.transformers.published import LOSSES, SHARPNESS, comparable, read_vit
from featurespeed.papers.super_consistency.transformers.spec import (
    COMPLETE_P,
    DEPTH_MUP,
    GPT,
    GPT_NO_ROOT,
    POST_LN,
    POST_LN_SP,
    U_MUP,
    VIT,
    VIT_NO_ROOT,
    CompletePSpec,
    GptDepthSpec,
    PostLnWidthSpec,
    VitDepthSpec,
)
from featurespeed.papers.super_consistency.transformers.tables import (
    PLAIN,
    PLAIN_EXPONENT,
    PUBLISHED_LOSSES,
    PUBLISHED_SHARPNESS,
    tabulate_fig04c,
    tabulate_fig15,
    tabulate_sizes,
)
from featurespeed.pipeline.cost import config_of
from tests.papers.cases import criteria_of
from tests.papers.super_consistency.depth_cases import depth_tables
from tests.papers.super_consistency.figure_cases import assert_made, draw, legend_texts, texts, values
from tests.papers.super_consistency.transformers_cases import (
    LABELS,
    MEASURED,
    TABLES,
    gamma_sharpness,
    loss,
    table,
    transformer_tables,
)

FIGURES = {
    "sc_fig04c": tabulate_fig04c,
    "sc_fig15": tabulate_fig15,
    "sc_fig16": tabulate_sizes,
    "sc_completep": tabulate_sizes,
}
MARKED = "the authors' run of 20 epochs; along training at the same share of it"
SPECS = {
    "sc_fig04c": VitDepthSpec, "sc_fig15": GptDepthSpec, "sc_fig16": PostLnWidthSpec, "sc_completep": CompletePSpec
}  # fmt: skip


@cache
def block_of(name: str) -> dict[str, Any]:
    """The settings of a figure at scale laptop."""
    return config_of("laptop").params(name)


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
    shown = {"transfer", "best", "sharpness", "statistic"} | ({PLAIN} if name in ("sc_fig04c", "sc_fig15") else set())
    assert kinds - {PUBLISHED_LOSSES, PUBLISHED_SHARPNESS} == shown
    for label in LABELS[name]:
        assert {f"transfer | {label}", f"sharpness | {label}"} <= panels


@pytest.mark.parametrize(("name", "label", "root"), [("sc_fig04c", VIT, 12**0.5), ("sc_fig15", GPT_NO_ROOT, 1.0)])
def test_the_hessian_is_shown_in_units_of_the_rate(name, label, root):
    """Divided by the root of the depth where the rates carry it, and at the rate at which the preconditioned one is."""
    (rate,) = values(made(name), f"statistic | {label}", RATE_SHOWN)
    measured = [gamma_sharpness(label, 12, rate, 50, seed) / root for seed in range(4)]
    own = made(name)
    row = own[(own["panel"] == f"{PLAIN} | {label}") & (own["series"] == "L=12") & (own["x"] == 50)].iloc[0]
    assert (row["y"], row["y_low"], row["y_high"]) == pytest.approx((np.mean(measured), min(measured), max(measured)))


def test_its_exponent_is_printed_as_the_claim_has_it():
    tables = transformer_tables(sc_fig04=depth_tables()["sc_fig04"])
    judged, _ = ledger([c for c in criteria_of("sc_transformers") if c.claim_id == "sc_fig4c_sharpness"], tables, "x")
    own = made("sc_fig04c")
    row = own[own["series"] == f"{PLAIN_EXPONENT} | {VIT}"].iloc[0]
    expected = judged[["value", "ci_low", "ci_high"]].iloc[0].tolist()
    assert row[["y", "y_low", "y_high"]].tolist() == pytest.approx(expected)
    assert "exponent in $L$, second half:\n−0.40" in texts(draw("sc_fig04c", own))


@pytest.mark.parametrize(
    ("name", "label", "span", "claim"),
    [
        ("sc_fig16", POST_LN, 16.0, "sc_fig16_transformer"),
    ],
)
def test_shifts_of_the_claims_stand_in_the_tables(name, label, span, claim):
    judged, _ = ledger([c for c in criteria_of("sc_transformers") if c.claim_id == claim], transformer_tables(), "x")
    own = made(name)
    own = own[(own["panel"] == f"statistic | {label}") & (own["series"] == SHIFT)].set_index("x")
    expected = judged[["value", "ci_low", "ci_high"]].iloc[0].tolist()
    assert own.loc[span, ["y", "y_low", "y_high"]].tolist() == pytest.approx(expected)


def test_networks_stand_in_the_order_of_the_room():
    titles = [ax.get_title(loc="left") for ax in draw("sc_completep", made("sc_completep")).axes[:3]]
    assert titles == ["Depth-μP", COMPLETE_P, "u-μP"]
    titles = [ax.get_title(loc="left") for ax in draw("sc_fig16", made("sc_fig16")).axes[:2]]
    assert titles == ["μP", POST_LN_SP]
    figure = draw("sc_fig15", made("sc_fig15"))
    assert [figure.axes[place].get_title(loc="left") for place in (0, 3)] == [
        "GPT, no $1/\\sqrt{L}$ in the rate", GPT
    ]  # fmt: skip
    assert [figure.axes[place].get_ylabel() for place in (1, 4)] == [
        "sharpness $N\\,\\lambda_1(H)$", "sharpness $N L^{-1/2}\\,\\lambda_1(H)$"
    ]  # fmt: skip


def test_the_threshold_of_adam_is_drawn_beside_the_preconditioned_sharpness_alone():
    own = made("sc_fig04c")
    assert values(own, f"sharpness | {VIT}", ADAM_EDGE) == pytest.approx([38, 38])
    assert values(own, f"{PLAIN} | {VIT}", ADAM_EDGE) == []
    assert texts(draw("sc_fig04c", own)).count("$2(1+\\beta_1)/(1-\\beta_1)$") == 2


def test_seeds_of_which_a_network_failed_are_left_out_of_both_sharpnesses():
    def dying(label, size, rate, step, seed):
        dead = (label, size, seed) == (VIT, 48, 2) and step > 60
        return math.nan if dead else loss(label, size, rate, step, seed)

    own = tabulate_fig04c(table("sc_fig04c", dying, seeds=5))
    for panel in (f"sharpness | {VIT}", f"{PLAIN} | {VIT}"):
        chosen = own[(own["panel"] == panel) & (own["series"] == "L=12") & (own["x"] > 0)]
        assert len(chosen) and set(chosen["n"]) == {4}


# --- the authors' own run ---------------------------------------------------------------------------------------------


def test_points_of_the_authors_stand_where_network_and_data_are_theirs():
    own = made("sc_fig04c")
    read = read_vit(LOSSES)
    assert len(read) == 12 and set(read["depth"]) == {6, 12, 24, 48, 96}
    for depth in (6, 12, 24, 48):
        theirs = read[read["depth"] == depth].sort_values("x")
        assert values(own, f"{PUBLISHED_LOSSES} | {VIT}", f"L={depth}", "x") == pytest.approx(theirs["x"].tolist())
        assert values(own, f"{PUBLISHED_LOSSES} | {VIT}", f"L={depth}") == pytest.approx(theirs["y"].tolist())
    assert not (own["series"] == "L=96").any()  # there is no such network here
    figure = draw("sc_fig04c", own)
    assert MARKED in legend_texts(figure)
    assert figure.axes[0].get_ylim()[0] < theirs["y"].min()


def test_along_training_they_stand_at_the_same_share_of_it():
    """100 steps stand for their 20 epochs: epoch 17 at step 85."""
    own, read = made("sc_fig04c"), read_vit(SHARPNESS)
    theirs = read[(read["depth"] == 6) & (read["x"] == 17)]
    found = own[(own["panel"] == f"{PUBLISHED_SHARPNESS} | {VIT}") & (own["series"] == "L=6") & (own["x"] == 85)]
    assert found["y"].tolist() == theirs["y"].tolist() == [10.17]


def test_their_sharpness_is_left_out_at_another_rate():
    elsewhere = table("sc_fig04c", lambda label, size, rate, *rest: loss(label, size, 2 * rate, *rest))
    panels = set(tabulate_fig04c(elsewhere)["panel"])
    assert f"{PUBLISHED_LOSSES} | {VIT}" in panels and f"{PUBLISHED_SHARPNESS} | {VIT}" not in panels


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"name": "digits"}},
        {"data": {"name": "cifar10", "examples": 1000}},
        {"networks": {"model": {"kind": "vit", "depth": 6}}},
        {"networks": {"model": {"kind": "vit", "depth": 6, "convention": "authors", "patch": 8}}},
        {"networks": {"optimizer": {"name": "adam", "layer_rates": "table", "depth_rates": True}}},
        {"networks": {"optimizer": {"name": "adam", "layer_rates": "common", "depth_rates": False}}},
        {"widths": [64]},
    ],
)
def test_another_run_has_no_points_beside_it(changed):
    told = copy.deepcopy(dict(TABLES["sc_fig04c"].attrs["provenance"]["spec"])) | {"widths": [128]}
    assert comparable(told, VIT)
    told["networks"][VIT] |= changed.get("networks", {})
    told |= {key: value for key, value in changed.items() if key != "networks"}
    assert not comparable(told, VIT)


# --- settings ---------------------------------------------------------------------------------------------------------


def refused(name: str, **changes: Any) -> str:
    """What is said of the settings of a figure at scale laptop, some of which are changed; keys with dots."""
    settings = copy.deepcopy(block_of(name))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = settings
        for part in parents:
            place = place[part]
        place[last] = value
    with pytest.raises(ValueError) as caught:
        SPECS[name].model_validate(settings)
    return caught.value.errors()[0]["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize("name", SPECS)
def test_settings_of_the_project_are_valid(name):
    assert SPECS[name].model_validate(block_of(name)).artefact == name


def network(name: str, label: str, **settings: Any) -> dict[str, Any]:
    """The networks of a figure, with some settings of one of them changed."""
    networks = copy.deepcopy(block_of(name)["networks"])
    networks[label] = networks[label] | settings
    return networks


@pytest.mark.parametrize(
    ("name", "label", "settings", "expected"),
    [
        ("sc_fig04c", VIT, {"parameterization": "MUP"}, f"networks.{VIT}.parameterization = MUP: must be DEPTH_MUP"),
        ("sc_fig15", GPT, {"parameterization": "SP"}, f"networks.{GPT}.parameterization = SP: must be DEPTH_MUP"),
        ("sc_fig16", POST_LN, {"parameterization": "SP"}, f"networks.{POST_LN}.parameterization = SP: must be MUP"),
        ("sc_completep", U_MUP, {"batch_size": 5}, f"networks.{U_MUP}.batch_size = 5: must be that of"),
        ("sc_completep", DEPTH_MUP, {"depths": [4]}, f"networks.{DEPTH_MUP}.depths = [4]"),
    ],
)
def test_networks_that_are_not_what_their_label_says_are_refused(name, label, settings, expected):
    assert refused(name, networks=network(name, label, **settings)).startswith(expected)


def test_a_rate_with_the_root_of_the_depth_where_the_label_says_without_is_refused():
    optimizer = {"name": "adam", "layer_rates": "common", "depth_rates": True}
    message = refused("sc_fig04c", networks=network("sc_fig04c", VIT_NO_ROOT, optimizer=optimizer))
    assert message == f"networks.{VIT_NO_ROOT}.optimizer.depth_rates = true: must be false, as the label says"


def test_gradient_descent_is_refused():
    message = refused("sc_fig16", networks=network("sc_fig16", POST_LN, optimizer={"name": "sgd"}))
    assert "sgd" in message


@pytest.mark.parametrize("name", ["sc_fig04c", "sc_fig15"])
def test_both_sharpnesses_are_needed_over_the_depth(name):
    message = refused(name, curvature__quantities=["preconditioned_sharpness"])
    assert message.endswith("must hold gamma_sharpness, which the figure shows")


def test_measured_rates_of_the_planted_tables_hold_theirs():
    assert MEASURED[1] == pytest.approx(4.64e-4)
