"""Figures 17, 18 and 19: what is tabulated was recorded; settings that cannot be drawn are refused."""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import pandas as pd
import pytest

from featurespeed.drawing.transfer_rows import SHIFT
from featurespeed.drawing.width_rows import EDGE
from featurespeed.ledger.engine import ledger
from featurespeed.papers.super_consistency.images.spec import (
    DEPTH_MUP,
    NO_ROOT,
    OnePassSpec,
    ResidualDepthSpec,
    ResidualWidthSpec,
)
from featurespeed.papers.super_consistency.images.tables import tabulate
from featurespeed.papers.super_consistency.shared import MUP, NTP
from featurespeed.pipeline.cost import config_of
from tests.papers.cases import criteria_of
from tests.papers.super_consistency.figure_cases import assert_made, draw, texts, values
from tests.papers.super_consistency.images_cases import LABELS, image_tables, loss, sharpness, table

pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")  # nothing empty is drawn
SPECS = {"sc_fig17": ResidualWidthSpec, "sc_fig18": ResidualDepthSpec, "sc_fig19": OnePassSpec}
TRANSFER_CLAIMS = {"sc_fig17": "sc_fig17_resnet", "sc_fig18": "sc_fig18_depth", "sc_fig19": "sc_fig19_imagenet"}


@cache
def made(name: str) -> pd.DataFrame:
    """The artefact table of the runs in which the claims hold."""
    return tabulate(image_tables()[name])


@pytest.mark.parametrize("name", LABELS)
def test_artefact_is_made_whatever_the_order_of_the_records(name, tmp_path):
    assert_made(name, image_tables()[name], tmp_path)


@pytest.mark.parametrize("name", LABELS)
def test_every_network_has_its_panels(name):
    panels = set(made(name)["panel"])
    for label in LABELS[name]:
        assert {f"{kind} | {label}" for kind in ("transfer", "best", "sharpness", "loss", "statistic")} <= panels


def test_sharpness_and_its_edge_are_those_at_the_best_measured_rate():
    own = made("sc_fig17")
    assert values(own, f"sharpness | {MUP}", EDGE) == pytest.approx([4, 4])  # 2 / 0.5
    row = own[(own["panel"] == f"sharpness | {MUP}") & (own["series"] == "N=64") & (own["x"] == 50)].iloc[0]
    measured = [sharpness(MUP, 64, 0.5, 50, seed) for seed in range(5)]
    assert (row["y"], row["y_low"], row["y_high"]) == pytest.approx((sum(measured) / 5, min(measured), max(measured)))


@pytest.mark.parametrize("name", LABELS)
def test_the_shift_of_the_claim_stands_in_the_table_and_in_the_figure(name):
    claim, label = TRANSFER_CLAIMS[name], LABELS[name][0]
    judged, _ = ledger([c for c in criteria_of("sc_images") if c.claim_id == claim], image_tables(), "x")
    own = made(name)
    row = own[(own["panel"] == f"statistic | {label}") & (own["series"] == SHIFT)].iloc[0]
    expected = judged[["value", "ci_low", "ci_high"]].iloc[0].tolist()
    assert row[["y", "y_low", "y_high"]].tolist() == pytest.approx(expected)
    assert row["x"] == (8 if name == "sc_fig18" else 16)
    assert f"log$_2$: {expected[0]:.2f}".replace("-", "−") in texts(draw(name, own))


def test_networks_stand_in_the_order_of_the_room():
    for name, expected in (("sc_fig17", ("μP", NTP)), ("sc_fig18", ("Depth-μP", "no $1/\\sqrt{L}$"))):
        axes = draw(name, made(name)).axes
        found = [axes[place].get_title(loc="left").split(":")[0] for place in (0, 3)]
        assert found == list(expected)


def test_a_rate_at_which_a_seed_diverged_is_marked_as_such():
    def diverging(label, size, rate, step, seed):
        stops = label == NO_ROOT and size == 24 and rate >= 0.5 and step > 30
        return math.inf if stops else loss(label, size, rate, step, seed)

    own = tabulate(table("sc_fig18", diverging))
    deep = own[(own["panel"] == f"transfer | {NO_ROOT}") & (own["series"] == "L=24")]
    assert set(deep.loc[deep["x"] >= 0.5, "flag"]) == {"diverged"} and set(deep.loc[deep["x"] < 0.5, "flag"]) == {""}
    assert values(own, f"statistic | {DEPTH_MUP}", SHIFT) == values(made("sc_fig18"), f"statistic | {DEPTH_MUP}", SHIFT)


# --- settings ---------------------------------------------------------------------------------------------------------


def refused(name: str, label: str, **settings: Any) -> str:
    """What is said of the settings of a figure at scale laptop, with some of one network changed."""
    block = copy.deepcopy(config_of("laptop").params(name))
    block["networks"][label] |= settings
    with pytest.raises(ValueError) as caught:
        SPECS[name].model_validate(block)
    return caught.value.errors()[0]["msg"].removeprefix("Value error, ")


def model(name: str, label: str, **changes: Any) -> dict[str, Any]:
    return config_of("laptop").params(name)["networks"][label]["model"] | changes


@pytest.mark.parametrize("name", SPECS)
def test_settings_of_the_project_are_valid(name):
    assert SPECS[name].model_validate(config_of("laptop").params(name)).artefact == name


@pytest.mark.parametrize(
    ("name", "label", "settings", "expected"),
    [
        ("sc_fig17", MUP, {"parameterization": "NTP"}, f"networks.{MUP}.parameterization = NTP: must be MUP"),
        ("sc_fig19", NTP, {"parameterization": "MUP"}, f"networks.{NTP}.parameterization = MUP: must be NTP"),
        ("sc_fig18", NO_ROOT, {"parameterization": "DEPTH_MUP"}, f"networks.{NO_ROOT}.parameterization = DEPTH_MUP"),
        ("sc_fig17", NTP, {"batch_size": 5}, f"networks.{NTP}.batch_size = 5: must be that of networks.{MUP}, 8"),
        ("sc_fig18", DEPTH_MUP, {"depths": [3]}, f"networks.{DEPTH_MUP}.depths = [3]"),
    ],
)
def test_networks_that_are_not_what_their_label_says_are_refused(name, label, settings, expected):
    assert refused(name, label, **settings).startswith(expected)


@pytest.mark.parametrize(("name", "label"), [("sc_fig17", MUP), ("sc_fig18", NO_ROOT), ("sc_fig19", NTP)])
def test_networks_without_skip_connections_are_refused(name, label):
    message = refused(name, label, model=model(name, label, tau=0))
    assert message == f"networks.{label}.model.tau = 0.0: must be 1, as the label says"


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("key", "value", "expected"), [("layers_per_block", 2, "1"), ("convention", "ours", "authors")]
)
def test_other_residual_networks_than_those_of_the_criteria_are_refused(name, key, value, expected):
    block = copy.deepcopy(config_of("laptop").params(name))
    for network in block["networks"].values():
        network["model"] |= {key: value, "strides": None} if key == "convention" else {key: value}
    with pytest.raises(ValueError) as caught:
        SPECS[name].model_validate(block)
    message = caught.value.errors()[0]["msg"]
    assert f"{LABELS[name][0]}.model.{key} = {value}: must be {expected}, as the label says" in message


def test_more_than_one_pass_is_refused_where_no_image_may_come_twice():
    block = copy.deepcopy(config_of("laptop").params("sc_fig19"))
    block |= {"steps": 180, "probe_steps": [0, 90, 135, 180]}
    with pytest.raises(
        ValueError, match="steps = 180: at most 179, one pass over the 1437 training images of digits in"
    ):
        OnePassSpec.model_validate(block)
    ResidualWidthSpec.model_validate(block)
    for network in block["networks"].values():
        network["steps"] = 180
    with pytest.raises(ValueError, match="networks.muP.steps = 180: at most 179"):
        OnePassSpec.model_validate(block)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu", "paper"])
def test_what_stands_for_imagenet_is_seen_once_at_every_scale(scale):
    assert OnePassSpec.model_validate(config_of(scale).params("sc_fig19")).artefact == "sc_fig19"


def test_a_network_without_a_place_is_named():
    block = copy.deepcopy(config_of("laptop").params("sc_fig17"))
    block["networks"]["mup"] = block["networks"].pop(MUP)
    with pytest.raises(ValueError, match=r"networks = \['NTP', 'mup'\]: 'muP' is needed"):
        ResidualWidthSpec.model_validate(block)
