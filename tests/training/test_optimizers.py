"""Updates of an ensemble against torch.optim with parameter groups, and against loops written out."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featurespeed.training.ensemble import Ensemble, cross_entropy, mean_squared_error
from featurespeed.training.optimizers import warmup_factor
from featurespeed.training.spec import OptimizerSpec
from tests.training.cases import CONVNET, DOUBLE, MLP, RESIDUAL_MLP, images, initialised

STEPS = 8
RATES = {"sgd": [0.3, 0.05], "adam": [0.02, 0.003], "adamw": [0.02, 0.003]}
BATCHES = [images(12, "optimizers", step) for step in range(STEPS)]


def build(spec, seeds=(0, 1), model=MLP, parameterization="MUP", **options):
    """Two members with learning rates of their own."""
    network = initialised(model, parameterization, seeds=list(seeds), optimizer=spec.name, **options)
    return Ensemble(network, spec, RATES[spec.name][: len(seeds)], "cross_entropy")


def run(ensemble, steps=STEPS):
    """Both members on the same batches; the losses, ``[steps, members]``."""
    losses = []
    for step in range(steps):
        x, y = (t.expand(ensemble.members, *t.shape) for t in BATCHES[step])
        losses.append(ensemble.step(x, y, step))
    return torch.stack(losses)


def alone(spec, member, make_optimizer, warmup=lambda step: 1.0, **options):
    """One member, one batch after the other, by an optimizer of PyTorch; its losses and weights."""
    network = initialised(options.pop("model", MLP), "MUP", seeds=[member], optimizer=spec.name, **options)
    eta = RATES[spec.name][member]
    groups = [
        {"params": [layer.weight], "lr": eta * layer.rule.lr_scale, "scale": layer.rule.lr_scale, "rule": layer.rule}
        for layer in network.weighted.values()
    ]
    optimizer, losses = make_optimizer(groups), []
    for step, (x, y) in enumerate(BATCHES):
        for group in optimizer.param_groups:
            group["lr"] = eta * group["scale"] * warmup(step)
        loss = torch.nn.functional.cross_entropy(network(x[None])[0], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, [layer.weight.detach()[0] for layer in network.weighted.values()]


def assert_same(spec, make_optimizer, warmup=lambda step: 1.0, **options):
    ensemble = build(spec, **options)
    losses = run(ensemble)
    for member in (0, 1):
        expected, weights = alone(spec, member, make_optimizer, warmup, **options)
        assert losses[:, member].tolist() == pytest.approx(expected, rel=1e-11)
        for layer, weight in zip(ensemble.network.weighted.values(), weights, strict=True):
            torch.testing.assert_close(layer.weight.detach()[member], weight, rtol=1e-10, atol=1e-12)


# --- torch.optim ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MLP, CONVNET, RESIDUAL_MLP], ids=["MLP", "ConvNet", "residual MLP"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_torch(momentum, model):
    assert_same(
        OptimizerSpec(name="sgd", momentum=momentum),
        lambda groups: torch.optim.SGD(groups, lr=1.0, momentum=momentum),
        model=model,
    )


@pytest.mark.parametrize("model", [MLP, CONVNET], ids=["MLP", "ConvNet"])
@pytest.mark.parametrize(("betas", "epsilon"), [((0.9, 0.999), 1e-8), ((0.5, 0.9), 0.01)])
def test_adam_is_that_of_torch(model, betas, epsilon):
    assert_same(
        OptimizerSpec(name="adam", betas=betas, epsilon=epsilon, epsilon_by_layer=False),
        lambda groups: torch.optim.Adam(groups, betas=betas, eps=epsilon),
        model=model,
    )


def test_adam_with_epsilon_by_layer_is_that_of_torch_with_an_epsilon_for_each_group():
    assert_same(
        OptimizerSpec(name="adam", epsilon=1e-2),
        lambda groups: torch.optim.Adam([g | {"eps": 1e-2 * g["rule"].epsilon_scale} for g in groups]),
    )


def test_adamw_whose_decay_follows_the_layer_is_that_of_torch():
    assert_same(
        OptimizerSpec(name="adamw", weight_decay=0.5, decay_follows_layer=True, epsilon_by_layer=False),
        lambda groups: torch.optim.AdamW(groups, weight_decay=0.5, eps=1e-8),
    )


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_independent_decay_shrinks_every_layer_alike_before_the_step(name):
    """``W <- (1 - eta_0 weight_decay) W``, whatever the layer's factor on the learning rate; then the plain step."""

    class Decoupled(torch.optim.AdamW if name == "adamw" else torch.optim.SGD):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                group["params"][0].mul_(1 - 0.5 * group["lr"] / group["scale"])
            super().step()

    options = {"weight_decay": 0.0} if name == "sgd" else {"weight_decay": 0.0, "eps": 1e-8}
    assert_same(
        OptimizerSpec(name=name, weight_decay=0.5, epsilon_by_layer=False), lambda groups: Decoupled(groups, **options)
    )


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_warmup_raises_the_learning_rate_linearly_and_the_decay_with_it(name):
    """1/5, 2/5, ... of the rate in the first updates, all of it from the fifth on."""
    ramp = [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0]
    decay = {"weight_decay": 0.5, "decay_follows_layer": True} if name == "adamw" else {}
    assert_same(
        OptimizerSpec(name=name, warmup_steps=5, epsilon_by_layer=False, **decay),
        lambda groups: torch.optim.AdamW(groups, weight_decay=0.5) if decay else torch.optim.SGD(groups, lr=1.0),
        warmup=lambda step: ramp[step],
    )


def test_warmup_factor():
    assert [warmup_factor(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmup_factor(0, 0) == warmup_factor(0, 1) == 1.0


# --- Adam with eps = 0 ------------------------------------------------------------------------------------------------


def test_a_weight_that_never_has_a_gradient_stays_where_it_is_without_epsilon():
    """The rim of the images is black: the input weights of its pixels have no gradient, and 0/0 must not spread."""
    ensemble = build(OptimizerSpec(name="adam", epsilon=0.0))
    layer = ensemble.network.weighted["0.layer"]
    rim = torch.zeros(2, 8, 8, dtype=torch.bool)
    rim[..., 0] = True
    before = layer.weight.detach().clone()
    assert bool(run(ensemble).isfinite().all())
    moved = layer.weight.detach() != before
    assert not moved[..., rim.flatten()].any()
    # A hidden unit that is off on all examples has no gradient at all; every other one moves.
    assert moved[..., ~rim.flatten()].double().mean() > 0.8


@pytest.mark.parametrize(
    ("layer_rates", "factors"),
    [("table", [1, 6**-0.5, 6**-0.5, 1]), ("common", [0.25 * 6] * 4)],
    ids=["table", "common"],
)
def test_the_first_step_without_epsilon_has_the_size_of_the_learning_rate_everywhere(layer_rates, factors):
    """At gamma_0 = 0.5, N = 6: each layer's own factor, or gamma^2 for all of them."""
    spec = OptimizerSpec(name="adam", epsilon=0.0, layer_rates=layer_rates)
    ensemble = build(spec, gamma0=0.5, layer_rates=layer_rates)
    before = [w.detach().clone() for w in ensemble.optimizer.weights]
    x, y = (t.expand(2, *t.shape) for t in BATCHES[0])
    _, gradients = ensemble.gradients(x, y)
    ensemble.step(x, y, 0)
    layers = ensemble.network.weighted.values()
    for old, gradient, layer, factor in zip(before, gradients, layers, factors, strict=True):
        for member, eta in enumerate(RATES["adam"]):
            step = layer.weight.detach()[member] - old[member]
            expected = -eta * factor * gradient[member].sign()
            torch.testing.assert_close(step, expected, rtol=1e-10, atol=1e-15)


def test_a_gradient_that_is_not_a_number_is_not_hidden_without_epsilon():
    ensemble = build(OptimizerSpec(name="adam", epsilon=0.0))
    ensemble.optimizer.prepare(0)
    ensemble.optimizer.step([torch.full_like(w, math.nan) for w in ensemble.optimizer.weights])
    assert all(bool(w.isnan().all()) for w in ensemble.optimizer.weights)


# --- what learns, and members -----------------------------------------------------------------------------------------


def test_random_features_change_only_the_readout():
    ensemble = build(OptimizerSpec(name="sgd", momentum=0.5, weight_decay=0.1), parameterization="RANDOM_FEATURES")
    before = [layer.weight.detach().clone() for layer in ensemble.network.weighted.values()]
    run(ensemble)
    changed = [
        not torch.equal(layer.weight.detach(), old)
        for layer, old in zip(ensemble.network.weighted.values(), before, strict=True)
    ]
    assert changed == [False, False, False, True]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_taken_members_go_on_with_their_own_rate_and_state(name):
    spec = OptimizerSpec(name=name, **({"momentum": 0.9} if name == "sgd" else {}))
    whole, other = build(spec), build(spec)
    expected = run(whole)
    run(other, steps=4)
    part = other.take([1])
    for step in range(4, STEPS):
        x, y = (t[None] for t in BATCHES[step])
        assert float(part.step(x, y, step)) == pytest.approx(float(expected[step, 1]), rel=1e-12)


class Allocations(TorchDispatchMode):
    """Sizes of the new tensors that operations make, other than views and results in place."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((arguments, options)) if isinstance(t, Tensor)}
        result = operation(*arguments, **(options or {}))
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in given]
        self.sizes += [t.numel() for t in made]
        return result


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "sgd"},
        {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1, "warmup_steps": 5},
        {"name": "adam"},
        {"name": "adam", "epsilon": 0.0},
        {"name": "adamw", "weight_decay": 0.1},
    ],
    ids=str,
)
def test_an_update_needs_no_memory_of_the_size_of_a_weight(settings):
    """It could run out between two layers, and the update would be half done; a few numbers a member are all."""
    ensemble = build(OptimizerSpec.model_validate(settings))
    run(ensemble, steps=2)
    x, y = (t.expand(2, *t.shape) for t in BATCHES[2])
    _, gradients = ensemble.gradients(x, y)
    ensemble.optimizer.prepare(2)
    with Allocations() as allocations:
        ensemble.optimizer.step(gradients)
    assert max(allocations.sizes, default=0) <= 4 < min(w.numel() for w in ensemble.optimizer.weights)


def test_the_state_of_an_optimizer_holds_what_it_needs_and_no_more():
    slots = {
        name: list(build(OptimizerSpec.model_validate(settings)).optimizer.state)
        for name, settings in {
            "plain": {"name": "sgd"},
            "momentum": {"name": "sgd", "momentum": 0.9},
            "adam": {"name": "adam"},
        }.items()
    }
    assert slots == {"plain": [], "momentum": ["momentum"], "adam": ["first", "second"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adam", "momentum": 0.9}, "only sgd has one; adam has betas"),
        ({"name": "adam", "weight_decay": 0.1}, "adam has none; use adamw"),
        ({"name": "sgd", "betas": [0.8, 0.99]}, r"betas = \[0.8, 0.99\]: only adam and adamw have it, and name = sgd"),
        ({"name": "sgd", "epsilon": 1e-6}, "epsilon = 1e-06: only adam and adamw"),
        ({"name": "sgd", "momentum": 1.0}, "less than 1"),
        ({"name": "lion"}, "'sgd', 'adam' or 'adamw'"),
        ({"name": "adam", "epsilon": -1e-8}, "greater than or equal to 0"),
        (
            {"name": "sgd", "layer_rates": "common"},
            "layer_rates = 'common': sgd has 'table' alone; leave it out, or use",
        ),
        (
            {"name": "sgd", "depth_rates": True},
            "depth_rates = true: no rate of sgd carries the depth; leave it out, or",
        ),
        ({"name": "adam", "layer_rates": "authors"}, "'table' or 'common'"),
    ],
)
def test_optimizers_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        OptimizerSpec.model_validate(settings)


def test_choices_of_rates_that_are_not_made_leave_the_settings_by_which_runs_are_named():
    """A run from before there was a choice keeps its name; one that makes it has another."""
    assert not {"layer_rates", "depth_rates"} & set(OptimizerSpec(name="adam").model_dump())
    for choice in ({"layer_rates": "common"}, {"depth_rates": False}, {"depth_rates": True}):
        spec = OptimizerSpec(name="adam", **choice)
        dumped = spec.model_dump(mode="json")
        assert choice.items() <= dumped.items()
        assert OptimizerSpec.model_validate(dumped) == spec


# --- losses -----------------------------------------------------------------------------------------------------------


def test_losses_are_means_over_the_batch_of_each_member():
    outputs = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    labels = torch.arange(14).reshape(2, 7) % 5
    for member in (0, 1):
        own, right = outputs[member], labels[member]
        entropy = torch.nn.functional.cross_entropy(own, right)
        assert float(cross_entropy(outputs, labels)[member]) == pytest.approx(float(entropy), rel=1e-14)
        distance = sum(0.5 * float((own[i] - torch.eye(5, dtype=DOUBLE)[right[i]]).square().sum()) for i in range(7))
        assert float(mean_squared_error(outputs, labels)[member]) == pytest.approx(distance / 7, rel=1e-14)
