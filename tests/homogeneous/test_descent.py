"""Scaled descent: its updates, what it records, networks that fail, and a job that is killed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import sharpness
from featurespeed.homogeneous import probes
from featurespeed.homogeneous.losses import OUTPUT_LOSSES
from featurespeed.homogeneous.network import HomogeneousMLP, inputs_of
from featurespeed.homogeneous.soft_rank import soft_ranks
from featurespeed.homogeneous.spec import GradientScaling
from featurespeed.homogeneous.steps import first_failure, update
from featurespeed.randomness import derive_seed
from featurespeed.training.checkpoint import Checkpoint
from tests.homogeneous.cases import CLASSES, descend, make_descent, make_spec, make_stream, values


class ByHand:
    """One member of a job as one would train it with PyTorch's own layers."""

    def __init__(self, spec, member: int):
        seed = derive_seed(spec.seed, "member", spec.members[member][1])
        self.stream = make_stream(spec)
        self.batches = self.stream.for_seeds([seed])
        sizes = [16, *spec.hidden, CLASSES]
        drawn = HomogeneousMLP(sizes).double().initialise([seed]).weights
        layers = [nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in zip(sizes, sizes[1:], strict=False)]
        for layer, weight in zip(layers, drawn, strict=True):
            layer.weight.data.copy_(weight[0].detach())
        self.layers = layers

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Inputs and outputs of all layers."""
        a, seen, outputs = inputs_of(x.unsqueeze(0))[0], [], []
        for layer in self.layers:
            seen.append(a)
            outputs.append(layer(a))
            a = outputs[-1].relu()
        return seen, outputs

    def step(self, number: int, rate: float, factor) -> float:
        """One update; ``factor(|A|, |B|, |G|, |B_l|)`` is the scaling. Returns the loss before it."""
        x, y = self.batches.batch(number)
        seen, outputs = self.forward(x[0])
        loss = functional.cross_entropy(outputs[-1], y[0])
        backward = torch.autograd.grad(loss, outputs, retain_graph=True)
        gradients = torch.autograd.grad(loss, [layer.weight for layer in self.layers])
        for layer, a, b, g in zip(self.layers, seen, backward, gradients, strict=True):
            layer.weight.data -= rate * factor(a.norm(), b.norm(), g.norm(), backward[-1].norm()) * g
        return float(loss.detach())


SCALINGS = {
    "none": lambda a, b, g, last: 1.0,
    "norm1": lambda a, b, g, last: 1 / (a * b),
    "rel1": lambda a, b, g, last: last / (a * b),
    "norm2": lambda a, b, g, last: 1 / (a * b) ** 2,
    "rel2": lambda a, b, g, last: (last / (a * b)) ** 2,
    "gradn": lambda a, b, g, last: 1 / g,
    "fsf": lambda a, b, g, last: last**2 / (4 * g**2),
}


@pytest.mark.parametrize("scaling", list(GradientScaling))
def test_a_job_trains_each_network_as_one_would_by_hand(scaling):
    spec = make_spec(scaling=scaling, steps=10, probe_steps=[0, 10], kappas=[0.25, 0.5])
    rows = descend(spec)
    for member, (kappa, _) in enumerate(spec.members):
        rate = kappa * 2 / values(rows, "scaled_sharpness", member)[0]
        hand = ByHand(spec, member)
        losses = [hand.step(number, rate, SCALINGS[scaling]) for number in range(10)]
        found = values(rows, "training_loss", member)
        assert found == pytest.approx({5: np.mean(losses[:5]), 10: np.mean(losses[5:])}, rel=1e-10)


def test_the_first_learning_rate_is_kappa_times_the_edge_of_the_plain_hessian():
    spec = make_spec(scaling="none")
    rows = descend(spec)
    hand = ByHand(spec, 0)
    network = nn.Sequential(*[m for layer in hand.layers for m in (layer, nn.ReLU())][:-1])
    x, y = hand.stream.fixed_batch(12, derive_seed(spec.seed, "curvature"))
    found = sharpness(network, functional.cross_entropy, (inputs_of(x.unsqueeze(0))[0], y), tol=1e-6)
    assert values(rows, "sharpness")[0] == pytest.approx(found.eigenvalue, rel=1e-3)
    assert values(rows, "scaled_sharpness")[0] == pytest.approx(found.eigenvalue, rel=1e-3)


def test_beyond_the_edge_means_that_the_quadratic_model_grows():
    spec = make_spec(kappas=[0.1, 8.0], steps=10, probe_steps=[0, 10], record_every=5)
    rows = descend(spec)
    small, large = (values(rows, "curvature_ratio", member) for member in (0, 1))
    assert max(small.values()) < 1 < large[5]
    assert values(rows, "beyond_share", 0) == {5: 0.0, 10: 0.0} and values(rows, "beyond_share", 1)[5] > 0


def test_geometry_aware_steps_are_kappa_times_the_edge_of_the_minibatch():
    changes = {"schedule": "geometry-aware", "kappas": [0.5, 1.5], "largest_rate": 1e9, "record_every": 1}
    rows = descend(make_spec(**changes, steps=5, probe_steps=[0, 5]))
    for member, kappa in enumerate((0.5, 1.5)):
        ratio = values(rows, "curvature_ratio", member)
        assert all(value == pytest.approx(kappa, rel=1e-9) for value in ratio.values())
        assert set(values(rows, "beyond_share", member).values()) == {float(kappa > 1)}
    capped = descend(make_spec(**(changes | {"largest_rate": 1e-3}), steps=5, probe_steps=[0, 5]))
    assert values(capped, "step_size", 0) == pytest.approx(dict.fromkeys(range(1, 6), 0.5e-3))


def test_a_network_that_explodes_is_recorded_and_the_others_go_on():
    together = make_spec(scaling="none", kappas=[0.5, 1e9])
    rows, alone = descend(together), descend(make_spec(scaling="none", kappas=[0.5]))
    failed = {row["member"] for row in rows if row["quantity"] in ("diverged_step", "dead_step")}
    assert 3 in failed and failed <= {1, 3}  # one may come to rest with a loss that is finite
    for member in failed:
        last = max(row["step"] for row in rows if row["member"] == member)
        assert last < 20 and not values(rows, "test_accuracy", member)
        assert values(rows, "largest_loss_ratio", member)[last] > 1
    for member, lone in ((0, 0), (2, 1)):
        mine = [row | {"member": lone} for row in rows if row["member"] == member]
        other = [row for row in alone if row["member"] == lone]
        assert [row["quantity"] for row in mine] == [row["quantity"] for row in other]
        assert [row["value"] for row in mine] == pytest.approx([row["value"] for row in other], rel=1e-9)


def test_a_network_without_an_active_unit_is_dead_and_its_layer_named():
    descent = make_descent(make_spec(kappas=[0.5], record_every=5))
    build = descent.make_network

    def silent_first_seed(members):
        network = build(members)
        draw = network.initialise

        def initialise(seeds):
            draw(seeds)
            network.matrices[1].data[0] = -network.matrices[1].data[0].abs()
            return network

        network.initialise = initialise
        return network

    descent.make_network = silent_first_seed
    rows = descent.run()
    dead = [row for row in rows if row["quantity"] == "dead_step"]
    assert [(row["member"], row["step"]) for row in dead] == [(0, 0)]
    assert values(rows, "test_accuracy", 1) and not values(rows, "test_accuracy", 0)


def test_failures_name_what_came_first():
    good = {"loss": np.ones(4), "norm": np.ones(4), "dead": np.zeros(4)}
    assert first_failure(good) is None
    assert first_failure(good | {"dead": np.array([0, 0, 2, 2])}) == ("dead_step", 2, 2)
    assert first_failure(good | {"norm": np.array([1, np.inf, 1, 1])}) == ("diverged_step", 1, 0)
    both = {"loss": np.array([1, np.nan, 1, 1]), "dead": np.array([0, 3, 0, 0])}
    assert first_failure(good | both) == ("diverged_step", 1, 0)


def test_updates_have_the_cosine_with_all_before_them_and_bounded_steps():
    spec = make_spec(kappas=[2.0], seeds=2, record_every=1, steps=6, probe_steps=[0, 6])
    rows = descend(spec)
    rate = 2.0 * 2 / values(rows, "scaled_sharpness")[0]
    hand = ByHand(spec, 0)
    weights = [torch.cat([layer.weight.detach().flatten() for layer in hand.layers])]
    for number in range(6):
        hand.step(number, rate, SCALINGS["rel1"])
        weights.append(torch.cat([layer.weight.detach().flatten() for layer in hand.layers]))
    cosines = {
        k + 1: float(functional.cosine_similarity(weights[k + 1] - weights[k], weights[k] - weights[0], dim=0))
        for k in range(1, 6)
    }
    assert values(rows, "update_cosine") == pytest.approx(cosines, abs=1e-9)
    assert 0 < values(rows, "step_norm")[6] <= math.sqrt(2 / spec.batch_size)


def test_norm1_steps_are_at_most_the_learning_rate():
    rows = descend(make_spec(scaling="norm1"))
    assert all(0 < row["value"] <= 1 + 1e-12 for row in rows if row["quantity"] == "step_norm")


def test_an_exact_fit_gives_no_update():
    network = HomogeneousMLP([4, 3, 2]).double().initialise([0])
    network.matrices[1].data *= 1e6  # probabilities of exactly 0 and 1
    x = torch.rand(1, 5, 4, dtype=torch.float64)
    y = network(x).argmax(-1)
    for scaling in GradientScaling:
        found = network.evaluate(x, y, scaling, OUTPUT_LOSSES["cross_entropy"])
        assert not found.factors.any() and not found.dead_layer.any()


def test_ranks_of_all_hidden_layers_are_recorded_at_probe_steps():
    spec = make_spec(kappas=[0.5])
    rows = descend(spec)
    for layer in (1, 2, 3):
        found = values(rows, "participation_ratio", 0, layer=layer)
        assert set(found) == {0, 10, 20} and all(1 <= value <= spec.hidden[layer - 1] for value in found.values())
    stream, seed = make_stream(spec), derive_seed(spec.seed, "member", 0)
    network = HomogeneousMLP([16, *spec.hidden, CLASSES]).double().initialise([seed])
    x, _ = stream.fixed_batch(24, derive_seed(spec.seed, "ranks"))
    ranks = soft_ranks(network.hidden_features(x.unsqueeze(0))[-1])
    assert values(rows, "participation_ratio", 0, layer=3)[0] == pytest.approx(float(ranks.participation_ratio))
    assert values(rows, "entropy_rank", 0)[0] == pytest.approx(float(ranks.entropy_rank))


def test_updates_are_made_in_place_for_every_member_by_its_own_rate():
    network = HomogeneousMLP([4, 5, 3], members=2).double().initialise([0, 0])
    x, y = torch.rand(2, 6, 4, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.long)
    x[1] = x[0]
    found = network.evaluate(x, y, GradientScaling.REL1, OUTPUT_LOSSES["cross_entropy"])
    before = [weight.detach().clone() for weight in network.weights]
    moved = [torch.zeros_like(weight) for weight in before]
    update(network.weights, moved, found, torch.tensor([0.1, 0.3], dtype=torch.float64))
    for old, new, change in zip(before, network.weights, moved, strict=True):
        assert torch.allclose(new - old, change, atol=1e-15)
        assert torch.allclose(3 * change[0], change[1], rtol=1e-12)


def test_too_little_memory_halves_the_networks_that_are_measured_together(monkeypatch):
    spec = make_spec(kappas=[0.5, 1.0, 2.0])
    whole, together, sizes = descend(spec), probes._rows_together, []

    def small_memory(network, *arguments):
        sizes.append(network.members)
        if network.members > 1:
            raise torch.cuda.OutOfMemoryError
        return together(network, *arguments)

    monkeypatch.setattr(probes, "_rows_together", small_memory)
    rows = descend(spec)
    assert max(sizes) == 6 and sizes.count(1) == 2 + 6 + 6  # of two seeds before training, of all networks twice
    assert [row["quantity"] for row in rows] == [row["quantity"] for row in whole]
    assert [row["value"] for row in rows] == pytest.approx(
        [row["value"] for row in whole], rel=1e-4
    )  # tolerance of an eigenvalue


def test_one_network_that_does_not_fit_ends_the_job(monkeypatch):
    def no_memory(*arguments):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(probes, "_rows_together", no_memory)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        descend(make_spec())


def test_a_layer_that_no_gradient_reaches_is_named():
    """One image is fitted perfectly, the other has no active unit: no layer is silent, but no gradient passes."""
    network = HomogeneousMLP([2, 2, 2, 2]).double()
    for matrix, scale in zip(network.matrices, (1.0, 1e3, 1e3), strict=True):
        matrix.data[0] = scale * torch.eye(2, dtype=torch.float64)
    x, y = torch.tensor([[[1.0, 0.0], [-1.0, -1.0]]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.long)
    for scaling, last in (("norm1", 2), ("rel1", 2), ("gradn", 3), ("fsf", 3)):  # that of the readout is 0 as well
        found = network.evaluate(x, y, GradientScaling(scaling), OUTPUT_LOSSES["cross_entropy"])
        assert torch.isinf(found.factors).tolist() == [[True, True, last == 3]] and int(found.dead_layer) == last
    plain = network.evaluate(x, y, GradientScaling.NONE, OUTPUT_LOSSES["cross_entropy"])
    assert not plain.dead_layer.any() and torch.isfinite(plain.factors).all()


# --- a job that is killed ---------------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("schedule", [{}, {"schedule": "geometry-aware", "largest_rate": 10.0}])
def test_a_job_that_is_killed_goes_on_with_the_same_numbers(tmp_path, schedule):
    spec = make_spec(kappas=[0.5, 1e9] if not schedule else [0.5, 1.0], scaling="none", **schedule)
    whole = descend(spec)
    checkpoint = Checkpoint(tmp_path / "state.pt", "this job")

    def dies(at: int):
        descent = make_descent(spec, checkpoint=checkpoint, checkpoint_seconds=0.0)
        stretch = descent._stretch

        def count(state):
            if state.step >= at:
                raise Killed
            return stretch(state)

        descent._stretch = count
        return descent

    for at in (5, 15):
        with pytest.raises(Killed):
            dies(at).run()
    again = descend(spec, checkpoint=checkpoint)
    assert json.dumps(again) == json.dumps(whole)


def test_a_checkpoint_without_members_left_ends_the_job(tmp_path):
    spec = make_spec(kappas=[1e6], scaling="none")
    checkpoint = Checkpoint(tmp_path / "state.pt", "this job")
    rows = descend(spec, checkpoint=checkpoint, checkpoint_seconds=0.0)
    assert descend(spec, checkpoint=checkpoint) == json.loads(json.dumps(rows))
