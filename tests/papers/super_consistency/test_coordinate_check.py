"""The coordinate check: updates split into effective and propagating parts, for networks in training."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from featurespeed.data.store import ImageData
from featurespeed.papers.super_consistency.coordinate_check import measuring as coordinates
from featurespeed.papers.super_consistency.coordinate_check.measuring import coordinate_rows
from featurespeed.parameterization import Form, LayerRole
from featurespeed.probes.coordinate_check import compare, feature_update, member_rms, snapshot
from tests.conftest import load_script
from tests.training.cases import CLASSES, CONVNET, MLP, RESIDUAL_CONVNET, images, initialised, make_spec

MODELS = {"MLP": MLP, "ConvNet": CONVNET, "residual ConvNet": RESIDUAL_CONVNET}


@pytest.fixture
def data() -> ImageData:
    """Sixty images of five classes as a data set."""
    x, y = images(60, "coordinates")
    pixels = ((x - x.min()) / (x.max() - x.min()) * 255).to(torch.uint8).numpy()
    labels = y.to(torch.uint8).numpy()
    facts = {"classes": CLASSES, "pixel_maximum": 255}
    return ImageData("test", pixels, labels, pixels[:10], labels[:10], facts)


def moved(network, seed: int = 7):
    """The same network with other weights, and a snapshot of each on one batch."""
    x, _ = images(4, "coordinates")
    batch = x.expand(network.members, *x.shape)
    start = snapshot(network, batch)
    with torch.no_grad():
        for layer in network.weighted.values():
            noise = torch.randn(layer.weight.shape, dtype=layer.weight.dtype, generator=torch.manual_seed(seed))
            layer.weight += 0.1 * noise
    return snapshot(network, batch), start


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_both_parts_of_an_update_are_those_of_their_definition(model):
    network = initialised(model, seeds=[0, 1])
    now, start = moved(network)
    for found in compare(network, now, start):
        name, layer = found.name, network.weighted[found.name]
        effective = layer.apply_weight(now.weights[name] - start.weights[name], now.inputs[name])
        propagating = layer.apply_weight(start.weights[name], now.inputs[name] - start.inputs[name])
        update = now.outputs[name] - start.outputs[name]
        assert torch.allclose(effective + propagating, update, atol=1e-12)
        for mine, theirs in ((found.effective, effective), (found.propagating, propagating), (found.update, update)):
            assert torch.allclose(mine, member_rms(network.by_member(theirs)), rtol=1e-9, atol=1e-14)
        assert found.role == layer.role


def test_the_first_layer_has_an_effective_update_only():
    network = initialised(CONVNET, seeds=[0, 1])
    first = compare(network, *moved(network))[0]
    assert (first.propagating == 0).all() and torch.equal(first.effective, first.update)


def test_rms_is_that_of_each_member_alone():
    vectors = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]])  # two members, a batch of one
    assert torch.allclose(member_rms(vectors), torch.tensor([12.5, 2.0]).sqrt().double())
    pictures = torch.cat([torch.full((2, 3, 2, 2), 1.0), torch.full((2, 3, 2, 2), 5.0)], dim=1)
    network = initialised(CONVNET, seeds=[0, 1])
    assert torch.equal(member_rms(network.by_member(pictures)), torch.tensor([1.0, 5.0]).double())


def test_features_of_a_residual_network_hold_the_skip_connection():
    network = initialised(RESIDUAL_CONVNET)
    now, start = moved(network)
    h = images(4, "coordinates")[0][None]
    for module in list(network)[:-1]:
        h = module(h)
    assert torch.allclose(now.features[-2], h)
    expected = (h - start.features[-2]).square().mean().sqrt()
    assert torch.allclose(feature_update(network, now, start), expected)


def test_a_snapshot_leaves_the_network_as_it_was():
    network = initialised(CONVNET)
    before = [layer.weight.clone() for layer in network.weighted.values()]
    snapshot(network, images(4, "coordinates")[0][None])
    assert all(torch.equal(a, b.weight) for a, b in zip(before, network.weighted.values(), strict=True))
    assert not any(layer._forward_hooks for layer in network.weighted.values())


def rows_of(data, **changes):
    spec = make_spec(data={"name": "digits"}, learning_rates=[0.1], steps=3, batch_size=8, **changes)
    return coordinate_rows(spec, data, torch.device("cpu"), 6)


def value(rows, **keys) -> float:
    found = [row["value"] for row in rows if all(row[key] == keys[key] for key in keys)]
    assert len(found) == 1
    return found[0]


def test_a_job_is_looked_at_member_by_member_and_step_by_step(data):
    rows = rows_of(data, probe_steps=[0, 1, 3], model=MLP)
    assert {(row["seed"], row["step"]) for row in rows} == {(s, t) for s in (0, 1) for t in (0, 1, 3)}
    assert {row["quantity"] for row in rows if row["step"] == 0} == {"activation_rms"}
    early, late = (value(rows, quantity="feature_update_rms", step=step, seed=1) for step in (1, 3))
    assert 0 < early < late


def test_the_start_is_drawn_again_where_a_job_goes_on_after_its_first_probe(data, monkeypatch):
    whole = rows_of(data, probe_steps=[1, 3], model=MLP)
    call = coordinates.CoordinateProbe.__call__

    def forgetful(self, probe):
        self.members, self.start = [], None  # as in a process that has just read its checkpoint
        return call(self, probe)

    monkeypatch.setattr(coordinates.CoordinateProbe, "__call__", forgetful)
    assert rows_of(data, probe_steps=[1, 3], model=MLP) == whole


def test_random_features_stand_still_and_their_readout_moves(data):
    rows = rows_of(data, probe_steps=[3], parameterization="RANDOM_FEATURES", model=MLP)
    still = [row["value"] for row in rows if row["series"] != "readout" and "update" in row["quantity"]]
    assert still and set(still) == {0.0}
    assert value(rows, quantity="effective_update_rms", series="readout", seed=0) > 0
    assert value(rows, quantity="propagating_update_rms", series="readout", seed=0) == 0


def test_the_wrong_rule_is_the_readout_of_ntp(data):
    spoil = load_script("coordinate_check").spoil_readout
    network = spoil(initialised(MLP, width=16), 16)
    ntp = initialised(MLP, "NTP", width=16)
    mine, theirs = (list(n.weighted.values())[-1].rule.multiplier for n in (network, ntp))
    assert mine == pytest.approx(theirs) == pytest.approx(0.25)
    hidden = [layer.rule for layer in network.weighted.values() if layer.role is not LayerRole.READOUT]
    assert hidden == [layer.rule for layer in list(initialised(MLP, width=16).weighted.values())[:-1]]


def test_losses_of_the_first_step_agree_with_a_hand_written_network(data):
    """One SGD step of a two-layer linear network: h moves by -eta N dLoss/dh |x|^2 / D."""
    model = {"kind": "two_layer_linear", "depth": 1}
    spec = make_spec(model=model, learning_rates=[0.1], seeds=1, steps=1, batch_size=60, probe_steps=[1], width=32)
    job = coordinates.make_job(spec, data, torch.device("cpu"))
    network = job.make_network(1).initialise(job.seeds([0]))
    x, y = job.make_batches(job.seeds([0])).batch(0)
    first, last = (layer.weight[0].detach() for layer in network.weighted.values())
    flat = x[0].flatten(1)
    h = (flat @ first.T / flat.shape[1] ** 0.5).requires_grad_()
    loss = functional.cross_entropy(h @ last.T / 32, y[0])
    (by_h,) = torch.autograd.grad(loss, h)
    probe, _ = coordinates.make_stream(data, spec, torch.device("cpu")).fixed_batch(6, spec.seed)
    step = -0.1 * 32 * (probe.flatten(1) @ flat.T / flat.shape[1]) @ by_h
    rows = coordinate_rows(spec, data, torch.device("cpu"), 6)
    assert value(rows, quantity="update_rms", series="input") == pytest.approx(step.square().mean().sqrt().item())


def test_both_forms_of_one_seed_train_alike_and_those_of_different_seeds_do_not(data):
    script = load_script("parameterizations")
    jobs = {form: make_spec(model=MLP, learning_rates=[0.1], seeds=3, steps=4, batch_size=8, dtype="float64", form=form)
            for form in Form}  # fmt: skip
    rows = list(script.form_rows(jobs, "sgd", data, torch.device("cpu")))
    values = {case: [row["value"] for row in rows if row["case"] == case] for case in {row["case"] for row in rows}}
    assert max(values["forms"]) < 1e-12 and min(values["forms of different seeds"]) > 1e-3
    assert [row["seed"] for row in rows] == [0, 1, 2] * 2
