"""The update that an optimizer is about to make, and the feature speed formula in it: the optimizer's form."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from featurespeed.models.networks import Network
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.feature_speed import cut_rates, feature_speed_in, feature_speed_of, next_update
from featurespeed.training.optimizers import layer_epsilon
from featurespeed.training.spec import OptimizerSpec
from featurespeed.training.trainer import Trainer
from featurespeed.training.weights import bytes_needed, load_state, load_weights, save_weights
from tests.training.cases import DOUBLE, Batches, initialised, make_job, make_network, make_spec

GPT = {"kind": "gpt", "depth": 2, "heads": 2}
VIT = {"kind": "vit", "depth": 2, "heads": 2, "patch": 4}
ADAM = OptimizerSpec(name="adam")
TOKENS = torch.randint(6, (3, 6), generator=torch.Generator().manual_seed(5))
TEXT = TOKENS[:, :-1], TOKENS[:, 1:]


def decoder(optimizer: str = "adam", width: int = 8) -> Network:
    return initialised(GPT, width=width, input_shape=(5,), classes=7, optimizer=optimizer)


def gradients(network: Network, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    layers = {name: layer.weight for name, layer in network.weighted.items()}
    loss = LOSSES["cross_entropy"](network(batch[0][None]), batch[1][None]).sum()
    return dict(zip(layers, torch.autograd.grad(loss, list(layers.values())), strict=True))


def kept_job(folder: Path, **changes):
    """A trained job, of which every probe keeps its weights and what the spec says of the state."""
    spec = make_spec(**{"learning_rates": [0.02], "steps": 12, "probe_steps": [0, 7, 8], "keep_state": True} | changes)

    def keep(probe):
        for index, member in enumerate(probe.members):
            save_weights(folder, probe.network, index, member, probe.step, probe.kept)
        return []

    Trainer(make_job(spec), on_probe=keep).run()
    return spec, make_job(spec)


# --- the update -------------------------------------------------------------------------------------------------------


def test_the_first_update_of_adam_is_the_gradient_over_its_size():
    """``-eta lr_scale g / (|g| + eps)``, each weight with its own factor and epsilon."""
    network = decoder()
    update = next_update(network, "cross_entropy", TEXT, ADAM, 0.01, {}, 0)
    factors = set()
    for name, gradient in gradients(network, TEXT).items():
        rule = network.weighted[name].rule
        factors.add(rule.lr_scale)
        expected = -0.01 * rule.lr_scale * gradient / (gradient.abs() + layer_epsilon(ADAM, rule))
        torch.testing.assert_close(update[name], expected, rtol=1e-9, atol=1e-15)
    assert len(factors) > 1
    assert not update["0.lookup"][0, 6].any()  # no text here has the last token


def test_an_update_leaves_network_and_state_alone():
    network, state = decoder(), {slot: {} for slot in ("first", "second")}
    for name, layer in network.weighted.items():
        state["first"][name] = torch.zeros_like(layer.weight)
        state["second"][name] = torch.ones_like(layer.weight)
    before = {name: layer.weight.detach().clone() for name, layer in network.weighted.items()}
    next_update(network, "cross_entropy", TEXT, ADAM, 0.01, state, 3)
    assert all(torch.equal(network.weighted[name].weight, old) for name, old in before.items())
    assert not any(t.any() for t in state["first"].values()) and all((t == 1).all() for t in state["second"].values())


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        ({"name": "sgd"}, ()),
        ({"name": "sgd", "momentum": 0.9}, ("momentum",)),
        ({"name": "adam", "warmup_steps": 10}, ("first", "second")),
        ({"name": "adamw", "weight_decay": 0.5, "betas": [0.5, 0.9]}, ("first", "second")),
    ],
)
def test_the_next_update_is_the_one_that_training_makes(tmp_path, optimizer, slots):
    """From what was kept after 7 updates to what was kept after 8; by another step's state it would be another one."""
    spec, job = kept_job(tmp_path, optimizer=optimizer)
    for member, (rate, _) in enumerate(spec.members):
        network, after = (load_weights(tmp_path, make_network(spec, 1), [member], step) for step in (7, 8))
        x, y = job.make_batches(job.seeds([member])).batch(7)
        state = load_state(tmp_path, network, [member], 7, slots)
        made = {name: layer.weight - network.weighted[name].weight for name, layer in after.weighted.items()}
        update = next_update(network, "cross_entropy", (x[0], y[0]), spec.optimizer, rate, state, 7)
        for name, change in made.items():
            torch.testing.assert_close(update[name], change.detach(), rtol=1e-9, atol=1e-15)
        if slots:
            wrong = next_update(network, "cross_entropy", (x[0], y[0]), spec.optimizer, rate, {}, 7)
            assert max(float((wrong[name] - change.detach()).abs().max()) for name, change in made.items()) > 1e-4


def test_a_network_that_has_diverged_has_no_update():
    network = decoder()
    network.weighted["0.lookup"].weight.data[:] = math.inf
    with pytest.raises(FloatingPointError, match="not finite"):
        next_update(network, "cross_entropy", TEXT, ADAM, 0.01, {}, 0)


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_whole_state_is_kept_only_where_a_job_says_so(tmp_path):
    spec, _ = kept_job(tmp_path, optimizer={"name": "adam"}, keep_state=False)
    network = make_network(spec, 1)
    assert load_state(tmp_path, network, [0], 7, ("second",)).keys() == {"second"}
    with pytest.raises(KeyError):
        load_state(tmp_path, network, [0], 7, ("first",))
    whole, _ = kept_job(tmp_path / "whole", optimizer={"name": "adam"})
    for step in (0, 7):
        first = load_state(tmp_path / "whole", network, [0, 1], step, ("first",))["first"]
        assert all(tensor.shape[0] == 2 and bool(tensor.any()) == (step > 0) for tensor in first.values())


def test_disk_needed_counts_the_whole_state():
    """An Adam's probe with its first moments is half as large again; plain SGD has no state."""
    spec, plain = (make_spec(optimizer={"name": name}, probe_steps=[0, 10]) for name in ("adam", "sgd"))
    more = [
        bytes_needed(s.model_copy(update={"keep_state": True}), 1000) - bytes_needed(s, 1000) for s in (spec, plain)
    ]
    assert more == [4 * 2 * 8000, 0]


def test_jobs_that_keep_no_state_are_named_as_before():
    spec = make_spec(optimizer={"name": "adam"})
    assert "keep_state" not in spec.model_dump(mode="json")
    kept = make_spec(optimizer={"name": "adam"}, keep_state=True)
    assert kept.model_dump(mode="json")["keep_state"] is True
    assert type(kept).model_validate(kept.model_dump(mode="json")) == kept


# --- the formula ------------------------------------------------------------------------------------------------------


def test_each_weight_of_a_transformer_moves_at_its_own_rate():
    """Under Adam's factors those of one branch differ; the decay is ``sum eta lr_scale |grad|^2`` all the same."""
    network = decoder()
    assert cut_rates(network) is None and cut_rates(decoder("sgd")) == pytest.approx([8.0] * 4)
    found = feature_speed_of(network, "cross_entropy", TEXT, 0.1)
    grads = gradients(network, TEXT)
    decay = sum(0.1 * network.weighted[name].rule.lr_scale * float(g.square().sum()) for name, g in grads.items())
    assert float(found.loss_decay[-1]) == pytest.approx(decay, rel=1e-12)
    assert float(found.formula_error.max()) < 1e-11 and bool((found.angle < math.pi / 2).all())
    assert all(p.grad is None for p in network.parameters())


def test_rates_and_velocities_measure_the_same():
    network = decoder("sgd")
    by_rates = feature_speed_of(network, "cross_entropy", TEXT, 0.1)
    update = {name: -0.1 * 8.0 * g for name, g in gradients(network, TEXT).items()}
    by_velocities = feature_speed_in(network, "cross_entropy", TEXT, update)
    torch.testing.assert_close(by_velocities.angle, by_rates.angle, rtol=1e-9, atol=0)
    torch.testing.assert_close(by_velocities.loss_decay, by_rates.loss_decay, rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_optimizers_form_holds_at_every_cut_node_of_a_vit_at_an_update_of_another_batch(seed):
    """Which may raise the loss of this batch: angles on both sides of pi/2."""
    network = initialised(VIT, width=8, seeds=[seed], optimizer="adam")
    own, other = (tuple(t[0] for t in Batches([seed], 4).batch(step)) for step in (0, 1))
    update = next_update(network, "cross_entropy", other, ADAM, 0.01, {}, 0)
    found = feature_speed_in(network, "cross_entropy", own, update)
    assert found.angle.shape == (4,) and found.angle.dtype == DOUBLE
    assert float(found.cosine_error.max()) < 1e-13
    expected = -sum(float((update[name] * g).sum()) for name, g in gradients(network, own).items())
    assert float(found.loss_decay[-1]) == pytest.approx(expected, rel=1e-11)
