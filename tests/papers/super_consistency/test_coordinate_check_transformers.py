"""The coordinate check of transformers: parts of updates of matrices and vectors, settings, and both stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call

from featurespeed.data.store import ImageData, TextData
from featurespeed.models.networks import Network, build_network
from featurespeed.models.spec import ModelSpec
from featurespeed.papers.super_consistency.coordinate_check.measuring import coordinate_rows
from featurespeed.papers.super_consistency.coordinate_check.spec import CoordinateSpec, ParameterizationSpec
from featurespeed.papers.super_consistency.coordinate_check.spec_transformers import (
    TransformerExponentSpec,
    TransformerSpec,
)
from featurespeed.pipeline.stage import Task
from featurespeed.probes.coordinate_check import compare, feature_update, snapshot
from tests.conftest import load_script

LETTERS, LENGTH, WIDTH, DEPTH = 7, 5, 8, 4
MODELS = {
    "ViT": {"kind": "vit", "depth": DEPTH, "heads": 2},
    "ViT of the authors": {"kind": "vit", "depth": DEPTH, "heads": 2, "convention": "authors"},
    "GPT": {"kind": "gpt", "depth": DEPTH, "heads": 2},
    "post-LN": {"kind": "post_ln", "depth": DEPTH},
}
PARTS = {
    "ViT": {"input", "token", "positions", "gain", "bias", "hidden", "readout"},
    "ViT of the authors": {"input", "token", "positions", "gain", "bias", "hidden", "readout"},
    "GPT": {"lookup", "positions", "gain", "bias", "hidden", "readout"},
    "post-LN": {"lookup", "positions", "gain", "bias", "hidden", "readout"},
}


def network_of(label: str, members: int = 2) -> Network:
    model = ModelSpec.model_validate(MODELS[label])
    shape = (LENGTH,) if model.reads_tokens else (1, 8, 8)
    network = build_network(
        model, WIDTH, "MUP", input_shape=shape, classes=LETTERS, members=members, optimizer="adam"
    ).double()
    return network.initialise(list(range(members)))


def batch_of(label: str, streams: int = 2) -> torch.Tensor:
    """Inputs ``[streams, 3, ...]``, others for each stream."""
    draws = torch.Generator().manual_seed(3)
    if MODELS[label]["kind"] in ("gpt", "post_ln"):
        return torch.randint(LETTERS, (streams, 3, LENGTH), generator=draws)
    return torch.randn(streams, 3, 1, 8, 8, generator=draws, dtype=torch.float64)


def move(network: Network) -> Network:
    """Other weights, all of them: by a tenth of a number of size 1."""
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in network.weighted.values():
            layer.weight += 0.1 * torch.randn(layer.weight.shape, dtype=torch.float64, generator=draws)
    return network


def rms(values: torch.Tensor) -> torch.Tensor:
    return torch.stack([member.square().mean().sqrt() for member in values])


@pytest.mark.parametrize("label", MODELS)
def test_parts_are_what_each_layer_says_of_old_and_new_weights_and_inputs(label):
    """Effective: f(W_t, x_t) - f(W_0, x_t); propagating: f(W_0, x_t) - f(W_0, x_0), with the layer itself as f."""
    network, x = network_of(label), batch_of(label)
    start = snapshot(network, x)
    now = snapshot(move(network), x)
    found = compare(network, now, start)
    assert {layer.name for layer in found} == set(network.weighted) and len(found) == len(network.weighted)
    for one in found:
        name, layer = one.name, network.weighted[one.name]
        old = functional_call(layer, {"weight": start.weights[name]}, (now.inputs[name],))
        assert torch.allclose(one.effective, rms(now.outputs[name] - old), rtol=1e-9, atol=1e-14), name
        assert torch.allclose(one.propagating, rms(old - start.outputs[name]), rtol=1e-9, atol=1e-14), name
        assert torch.allclose(one.update, rms(now.outputs[name] - start.outputs[name]), rtol=1e-12), name
        assert torch.allclose(one.activation, rms(now.outputs[name]), rtol=1e-12), name
        assert (one.effective > 0).all(), name
    assert {one.part for one in found} == PARTS[label]


@pytest.mark.parametrize("label", MODELS)
def test_layers_stand_in_the_order_of_their_use(label):
    """The first reads the data, the last is the readout; a normalisation behind a branch follows its matrices."""
    network, x = network_of(label), batch_of(label)
    start = snapshot(network, x)
    found = compare(network, snapshot(move(network), x), start)
    assert found[0].part in ("input", "lookup") and (found[0].propagating == 0).all()
    assert found[-1].part == "readout"
    second = [one.part for one in found if one.name.startswith("2.")]
    assert second == (
        ["hidden", "bias", "hidden", "bias", "gain", "bias"]
        if label == "post-LN"
        else ["gain", "bias", "hidden", "bias", "hidden", "bias"]
    )


@pytest.mark.parametrize("label", MODELS)
def test_each_member_is_measured_as_it_is_alone(label):
    network, x = network_of(label, members=3), batch_of(label, streams=3)
    start = snapshot(network, x)
    alone = [network.take([member]) for member in range(3)]
    together = compare(network, snapshot(move(network), x), start)
    features = feature_update(network, snapshot(network, x), start)
    for member, before in enumerate(alone):
        own = x[member : member + 1]
        first, after = snapshot(before, own), network.take([member])
        second = snapshot(after, own)
        assert torch.allclose(feature_update(after, second, first), features[member], rtol=1e-9)
        for mine, theirs in zip(compare(after, second, first), together, strict=True):
            assert mine.name == theirs.name
            for quantity in ("activation", "update", "effective", "propagating"):
                one, all_of_them = getattr(mine, quantity), getattr(theirs, quantity)[member]
                assert torch.allclose(one, all_of_them, rtol=1e-9, atol=1e-14), (mine.name, quantity)


@pytest.mark.parametrize("label", MODELS)
def test_a_batch_that_members_share_is_one_that_each_is_given(label):
    network, shared = network_of(label), batch_of(label, streams=1)
    given = shared.expand(2, *shared.shape[1:])
    starts = [snapshot(network, x) for x in (shared, given)]
    move(network)
    found = [compare(network, snapshot(network, x), s) for x, s in zip((shared, given), starts, strict=True)]
    for one, other in zip(*found, strict=True):
        assert one.update.shape == (2,) and torch.allclose(one.update, other.update, rtol=1e-9)
        assert torch.allclose(one.effective, other.effective, rtol=1e-9)


def test_sequences_are_no_images():
    """Two members whose batch is a multiple of both: cut as images, each would hold parts of the other."""
    network = network_of("GPT")
    sequences = torch.stack([torch.full((4, LENGTH, WIDTH), 1.0), torch.full((4, LENGTH, WIDTH), 5.0)])
    assert torch.equal(network.by_member(sequences), sequences)


def test_the_features_are_those_behind_the_last_branch():
    network, x = network_of("post-LN"), batch_of("post-LN")
    start = snapshot(network, x)
    move(network)
    h = x
    for module in list(network)[:-1]:
        h = module(h)
    assert h.shape == (2, 3, LENGTH, WIDTH)
    assert torch.allclose(feature_update(network, snapshot(network, x), start), rms(h - start.features[-2]))


# --- stages -----------------------------------------------------------------------------------------------------------


def text() -> TextData:
    letters = np.random.Philox(1).random_raw(400).astype(np.int64) % LETTERS
    return TextData("pydoc", letters[:300].astype(np.int32), letters[300:].astype(np.int32), tuple("abcdefg"), {})


def pictures() -> ImageData:
    pixels = (np.random.Philox(2).random_raw(40 * 64) % 17).astype(np.uint8).reshape(40, 1, 8, 8)
    labels = (np.arange(40) % 10).astype(np.uint8)
    return ImageData("digits", pixels, labels, pixels[:10], labels[:10], {"classes": 10, "pixel_maximum": 16})


SETS = {"digits": pictures(), "pydoc": text()}
SIZES = {"widths": [8, 16, 24], "learning_rate": 0.01, "seeds": 2, "batch_size": 4, "probe_examples": 3, "seed": 5}
NETWORKS = {
    "ViT": SIZES | {"data": {"name": "digits"}, "model": {"kind": "vit", "depth": 2, "patch": 4}},
    "GPT": SIZES | {"data": {"name": "pydoc", "length": LENGTH}, "model": {"kind": "gpt", "depth": 2}},
}
FIG28 = {
    "artefact": "sc_fig28", "data": {"name": "digits"}, "plain": {"kind": "convnet", "depth": 2},
    "residual": {"kind": "convnet", "depth": 2, "tau": 1}, "parameterizations": ["MUP"], "widths": [4, 6, 8],
    "learning_rates": {"sgd": 0.1}, "steps": [1, 2], "seeds": 2, "batch_size": 4, "probe_images": 4, "small_outputs": 2,
    "transformers": NETWORKS, "seed": 1,
}  # fmt: skip
TABLE1 = {
    "artefact": "sc_table1", "data": {"name": "digits"}, "parameterizations": ["MUP"], "widths": [4, 6, 8], "depth": 2,
    "learning_rates": {"sgd": 0.1, "adam": 0.01}, "over_depth": {"width": 4, "depths": [2, 3, 4]},
    "forms": {"width": 4, "depth": 2, "steps": 2, "learning_rates": {"sgd": 0.1, "adam": 0.01}}, "seeds": 2,
    "batch_size": 4, "probe_images": 4, "seed": 1,
    "transformers": {
        label: network | {"over_depth": {"width": 8, "depths": [2, 4, 6]}} for label, network in NETWORKS.items()
    },
}  # fmt: skip


def stage(name: str, spec, monkeypatch):
    """The table of a stage on the small data sets above."""
    script = load_script(name)
    monkeypatch.setattr(script, "load_dataset", lambda path: SETS[path.stem])
    files = [Path(f"{name}.npz") for name in spec.datasets]
    return script.main(spec, Task({"data": files}, {}))


def test_the_coordinate_check_looks_at_every_transformer_after_the_same_steps(monkeypatch):
    spec = CoordinateSpec.model_validate(FIG28)
    assert spec.datasets == ["digits", "pydoc"]
    table = stage("coordinate_check", spec, monkeypatch)
    for label in NETWORKS:
        own = table[table["case"] == f"transformer | {label}"]
        assert set(own["parameterization"]) == {"SP", "MUP", "DEPTH_MUP"} and set(own["optimizer"]) == {"adam"}
        assert set(own["width"]) == {8, 16, 24} and set(own["step"]) == {1, 2} and set(own["n_inputs"]) == {3}
        moved = own[own["quantity"] == "feature_update_rms"]
        assert len(moved) == 3 * 3 * 2 * 2 and (moved["value"] > 0).all()
    assert set(table.loc[table["case"] == "transformer | GPT", "output_dim"]) == {LETTERS}


def test_the_table_of_exponents_holds_widths_and_depths_of_every_transformer(monkeypatch):
    spec = ParameterizationSpec.model_validate(TABLE1)
    table = stage("parameterizations", spec, monkeypatch)
    wide, deep = (table[table["case"] == f"{size} | GPT"] for size in ("width", "depth"))
    assert set(wide["parameterization"]) == {"SP", "MUP"} and set(deep["parameterization"]) == {"DEPTH_MUP", "MUP"}
    assert set(wide["width"]) == {8, 16, 24} and set(deep["depth"]) == {2, 4, 6}
    biases = wide[(wide["series"] == "bias") & (wide["quantity"] == "effective_update_rms") & (wide["step"] == 1)]
    assert biases["value"].to_numpy() == pytest.approx(0.01, rel=1e-4)  # Adam's first step has the size of its rate


def test_rows_do_not_depend_on_the_other_seeds():
    spec = CoordinateSpec.model_validate(FIG28)
    job = next(job for case, job, _ in spec.transformer_runs if case.endswith("GPT"))
    both, more = (
        coordinate_rows(job.model_copy(update={"seeds": seeds}), SETS["pydoc"], torch.device("cpu"), 3)
        for seeds in (2, 3)
    )
    values = {tuple(row[k] for k in ("seed", "step", "layer", "series", "quantity")): row["value"] for row in more}
    for row in both:
        key = tuple(row[k] for k in ("seed", "step", "layer", "series", "quantity"))
        assert values[key] == pytest.approx(row["value"], rel=1e-4, abs=1e-9)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"kind": "mlp", "depth": 2}}, "model.kind = 'mlp': no transformer, allowed: vit, gpt, post_ln"),
        ({"widths": [8, 12, 20]}, "width = 12: a multiple of heads = 8 is needed"),
        ({"data": {"name": "digits"}}, "model.kind = 'gpt': reads a text, and the data are images"),
        ({"batch_size": 10**9}, "batch_size = 1000000000: larger than the"),
        ({"probe_examples": 10**9}, "probe_examples = 1000000000: larger than the"),
        ({"widths": [8, 8, 16]}, "values must not repeat"),
    ],
)
def test_faults_of_a_transformer_are_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        TransformerSpec.model_validate(NETWORKS["GPT"] | changes)


@pytest.mark.parametrize(
    ("depths", "message"),
    [
        ({"width": 8, "depths": [2, 3, 4]}, "depth = 3: branches of attention and MLP in turn"),
        ({"width": 12, "depths": [2, 4, 6]}, "width = 12: a multiple of heads = 8 is needed"),
        ({"width": 8, "depths": [2, 4, 4]}, "values must not repeat"),
    ],
)
def test_faults_of_its_depths_are_one_line(depths, message):
    with pytest.raises(ValueError, match=message):
        TransformerExponentSpec.model_validate(NETWORKS["GPT"] | {"over_depth": depths})


def test_a_label_that_tables_could_not_tell_is_refused():
    with pytest.raises(ValueError, match="transformers = 'a | b': a label must not hold"):
        CoordinateSpec.model_validate(FIG28 | {"transformers": {"a | b": NETWORKS["GPT"]}})


def test_without_transformers_one_data_set_is_read():
    spec = CoordinateSpec.model_validate(FIG28 | {"transformers": {}})
    assert spec.datasets == ["digits"] and spec.transformer_runs == []
