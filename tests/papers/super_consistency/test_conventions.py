"""Settings of the comparison of conventions: what has no base, or does not differ from it, is refused in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from featurespeed.papers.super_consistency.conventions.spec import ConventionsSpec
from tests.papers.super_consistency.conventions_cases import BASE, CONVNET, MODELS
from tests.pipeline.test_config import load

SETTINGS = {
    "artefact": "sc_conventions",
    "data": {"name": "digits", "pixels": "symmetric"},
    "networks": {
        label: {"model": model, "parameterization": "MUP", "learning_rates": [0.5, 1.0, 2.0], "batch_size": 8}
        for label, model in MODELS.items()
    },
    "base": BASE,
    "widths": [4, 8],
    "steps": 10,
    "probe_steps": [0, 10],
    "curvature": {"quantities": ["sharpness"], "images": 8},
    "seeds": 2,
    "seed": 0,
}
POOLED = "ConvNet, average pooling"


def changed(edit: Callable[[dict], object]) -> ConventionsSpec:
    settings = copy.deepcopy(SETTINGS)
    edit(settings)
    return ConventionsSpec.model_validate(settings)


def network(label: str, **changes) -> Callable[[dict], object]:
    """An edit of one network."""
    return lambda settings: settings["networks"][label].update(changes)


def model(label: str, **choices) -> Callable[[dict], object]:
    return network(label, model=MODELS[label] | choices)


REFUSED = {
    "a base that is not there": (
        lambda settings: settings["base"].update({POOLED: "ConvNets"}),
        [f"base.{POOLED}: unknown network 'ConvNets'", "allowed: 2-layer ConvNet, ours; ", "did you mean 'ConvNet'?"],
    ),
    "a variant that is not there": (
        lambda settings: settings["base"].update({"ConvNet, gain 1": "ConvNet"}),
        ["base.ConvNet, gain 1: unknown network 'ConvNet, gain 1'"],
    ),
    "a base with a base": (
        lambda settings: settings["base"].update({"ConvNet": "SimpleConvNet"}),
        ["base.", "= 'ConvNet': has a base of its own, 'SimpleConvNet'"],
    ),
    "its own base": (
        lambda settings: settings["base"].update({"SimpleConvNet": "SimpleConvNet"}),
        ["= 'SimpleConvNet': has a base of its own"],
    ),
    "a network of which nothing is said": (
        lambda settings: settings["base"].pop(POOLED),
        [f"nothing is said of network {POOLED!r}", "give its base, or leave it out"],
    ),
    "a choice made as in the base": (
        model(POOLED, pooling="max"),
        [f"networks.{POOLED}.model: the same network as its base 'ConvNet' on images of 8 x 8"],
    ),
    "a choice that makes no difference on these images": (
        network(POOLED, model=CONVNET | {"gamma_fan_in": "channels"}),
        [f"networks.{POOLED}.model: the same network as its base 'ConvNet' on images of 8 x 8"],
    ),
    "two choices": (
        model(POOLED, gain=1.0),
        [f"networks.{POOLED}.model", "in pooling and gain", "allowed: one of them"],
    ),
    "another parameterization": (
        network(POOLED, parameterization="NTP"),
        [f"networks.{POOLED}.parameterization = NTP: must be that of its base 'ConvNet', MUP"],
    ),
    "another batch": (
        network(POOLED, batch_size=16),
        [f"networks.{POOLED}.batch_size = 16: must be that of its base 'ConvNet', 8; only the model and its"],
    ),
    "another warm-up": (
        network(POOLED, optimizer={"warmup_steps": 5}),
        [f"networks.{POOLED}.optimizer.warmup_steps = 5: must be that of its base 'ConvNet', 0; only the model"],
    ),
    "the full batch": (network(POOLED, batch_size=None), ["batch_size = null: must be that of its base 'ConvNet', 8"]),
    "other widths": (network(POOLED, widths=[4, 16]), [f"networks.{POOLED}.widths = [4, 16]: must be that"]),
    "no step 0": (
        lambda settings: settings.update(probe_steps=[5, 10]),
        ["probe_steps = [5, 10]: must hold 0"],
    ),
    "no sharpness": (
        lambda settings: settings.update(curvature={"quantities": ["hessian_trace"], "images": 8}),
        ["curvature.quantities = ['hessian_trace']: must hold sharpness"],
    ),
    "several depths": (
        network("2-layer ConvNet, ours", depths=[2, 3]),
        ["networks.2-layer ConvNet, ours.depths = [2, 3]", "over the width"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_compare_nothing_are_refused_in_one_line(case):
    edit, words = REFUSED[case]
    assert changed(lambda settings: None)
    with pytest.raises(ValueError) as fault:
        changed(edit)
    message = fault.value.errors()[0]["msg"]
    assert "\n" not in message and [word for word in words if word not in message] == [], message


def test_a_variant_may_have_learning_rates_of_its_own():
    assert changed(network(POOLED, learning_rates=[2.0, 4.0, 8.0], measured=[4.0]))


@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu", "paper"])
def test_both_families_have_what_the_claims_ask_for_at_every_scale(scale):
    spec = load({"scale": scale}).block("sc_conventions")
    for base in ("SimpleConvNet", "ConvNet"):
        labels = [label for label, own in spec.base.items() if own == base]
        assert {f"{base}, without the nine", f"{base}, average pooling"} <= set(labels)
        assert sum(label.endswith(", ours") for label in labels) == 1
    beyond_digits = {"ConvNet, stride 1", "ConvNet, gamma of channels"}
    assert beyond_digits <= set(spec.base) if spec.data.name == "cifar10" else not beyond_digits & set(spec.base)
