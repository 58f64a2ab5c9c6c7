"""Members that diverge or die, and memory that runs out: frozen or split, and nobody else notices."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional

from featurespeed.models.networks import Network
from featurespeed.training.ensemble import Ensemble
from featurespeed.training.groups import OutOfMemory
from featurespeed.training.trainer import TooLarge, Trainer
from tests.training.cases import (
    CONVNET,
    MLP,
    Batches,
    all_together,
    force_groups,
    make_job,
    make_network,
    make_spec,
    plain_loop,
    relative_difference,
    train,
)

# --- members that fail ------------------------------------------------------------------------------------------------


def dying_step(spec, member):
    """First step whose loss is that of a network with outputs 0 from there on."""
    losses, network = plain_loop(spec, member)
    assert float(network(Batches([0], 50).batch(0)[0]).detach().abs().max()) == 0.0
    silent = [loss == pytest.approx(math.log(5), rel=1e-15) for loss in losses]
    return len(silent) - silent[::-1].index(False)


def test_diverged_and_dead_members_are_frozen_with_their_step_and_disturb_nobody(monkeypatch):
    """ReLUs at a rate of 1e4 die, at a step that a plain loop finds too. Losses before stay; those after are NaN; the
    survivors are those of a job without the others."""
    spec = make_spec(learning_rates=[0.1, 1e4, 0.4])
    all_together(monkeypatch, spec)
    training = train(spec)
    assert {member: what for member, (what, _) in training.frozen.items()} == {1: "dead", 4: "dead"}
    for member in (1, 4):
        step = training.frozen[member][1]
        assert step == dying_step(spec, member) > 0
        assert np.isfinite(training.losses[member, : step + 1]).all()
        assert np.isnan(training.losses[member, step + 1 :]).all()
        assert training.losses[member, : step + 1].tolist() == pytest.approx(plain_loop(spec, member)[0][: step + 1])
    quiet = make_spec(learning_rates=[0.1, 0.4])
    all_together(monkeypatch, quiet)
    assert relative_difference(training.losses[[0, 2, 3, 5]], train(quiet).losses) < 1e-10
    assert [members for members, _ in training.final] == [[0, 2, 3, 5]]


@pytest.mark.parametrize("model", [MLP, CONVNET], ids=["MLP", "ConvNet"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_diverged_member_is_frozen_at_the_first_loss_that_is_not_finite(monkeypatch, alone, model):
    linear = model | {"activation": "linear"}
    spec = make_spec(model=linear, learning_rates=[1e-3, 1e20, 300.0], loss="mse", seeds=1, batch_size=8)
    force_groups(monkeypatch, [[0], [1], [2]] if alone else [[0, 1, 2]])
    training = train(spec)
    assert set(training.frozen) == {1, 2}
    for member in (1, 2):
        what, step = training.frozen[member]
        assert what == "diverged" and step == mse_divergence(spec, member)
        assert np.isfinite(training.losses[member, :step]).all() and np.isnan(training.losses[member, step:]).all()
    assert training.frozen[1][1] < training.frozen[2][1]
    quiet = make_spec(model=linear, learning_rates=[1e-3], loss="mse", seeds=1, batch_size=8)
    force_groups(monkeypatch, [[0]])
    assert relative_difference(training.losses[:1], train(quiet).losses) < 1e-10


def mse_divergence(spec, member):
    """Step of the first loss that is not finite, by hand."""
    (eta, _), seed = spec.members[member], make_job(spec).seeds([member])
    network, batches = make_network(spec, 1).initialise(seed), Batches(seed, spec.batch_size)
    for step in range(spec.steps):
        x, y = batches.batch(step)
        loss = 0.5 * (network(x)[0] - functional.one_hot(y[0], 5)).square().sum(1).mean()
        if not math.isfinite(float(loss.detach())):
            return step
        gradients = torch.autograd.grad(loss, network.trained)
        for layer, gradient in zip(network.weighted.values(), gradients, strict=True):
            layer.weight.data -= eta * layer.rule.lr_scale * gradient
    raise AssertionError("never")


def test_a_job_whose_members_all_fail_ends_early(monkeypatch):
    asked = []

    class Recording(Batches):
        def batch(self, step):
            asked.append(step)
            return super().batch(step)

    spec = make_spec(learning_rates=[1e4, 1e20], steps=400)
    all_together(monkeypatch, spec)
    training = Trainer(make_job(spec, lambda seeds: Recording(seeds, 16))).run()
    assert sorted(training.frozen) == [0, 1, 2, 3] and training.final == []
    assert max(asked) < 100


def test_a_network_that_learns_nothing_from_one_batch_is_not_called_dead():
    """Outputs that do not move because the rate is tiny: the losses of a full batch are all the same number."""
    training = train(make_spec(batch_size=None, learning_rates=[1e-30], seeds=1))
    assert np.ptp(training.losses) == 0.0 and training.frozen == {}


def test_dead_members_are_found_when_every_step_is_probed(monkeypatch):
    spec = make_spec(learning_rates=[1e4], seeds=1, probe_steps=list(range(51)))
    training = train(spec, on_probe=lambda probe: [])
    assert training.frozen == {0: ("dead", dying_step(spec, 0))}


def test_a_network_that_is_silent_for_a_few_batches_is_not_dead():
    """Momentum brings it back, or an image at which a unit is on: the outputs of this member are 0 at steps 38, 39 and
    40, where it is looked at; its loss falls below chance before it dies for good."""
    spec = make_spec(learning_rates=[2.0], seeds=1, steps=120, optimizer={"momentum": 0.9})
    losses, _ = plain_loop(spec, 0)
    assert losses[38:41] == pytest.approx([math.log(5)] * 3, rel=1e-15) and min(losses[41:]) < 1.4
    training = train(spec)
    assert training.frozen == {0: ("dead", dying_step(spec, 0))} and 60 < dying_step(spec, 0) < 80
    assert training.losses[0, :60].tolist() == pytest.approx(losses[:60], rel=1e-6)


# --- memory -----------------------------------------------------------------------------------------------------------


class Memory:
    """A GPU with room for the step of so many members, after so many steps; ``refused`` counts what did not fit."""

    def __init__(self, monkeypatch, room, after=0):
        self.refused, self.steps, inner = 0, 0, Ensemble.gradients

        def gradients(ensemble, x, y):
            self.steps += 1
            if ensemble.members > room and self.steps > after:
                self.refused += 1
                raise OutOfMemory("CUDA out of memory")
            return inner(ensemble, x, y)

        monkeypatch.setattr(Ensemble, "gradients", gradients)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("room", "after", "refusals"), [(3, 0, 1), (1, 0, 5), (2, 7, 3), (3, 33, 1)])
def test_members_that_do_not_fit_go_on_in_halves_without_losing_an_update(
    monkeypatch, capsys, optimizer, room, after, refusals
):
    """Six members; whenever memory runs out, the curves are those of an ensemble that was never split."""
    rates = [0.1, 0.2, 0.4] if optimizer == "sgd" else [0.003, 0.005, 0.01]
    spec = make_spec(learning_rates=rates, optimizer={"name": optimizer}, steps=40, probe_steps=[0, 35])
    all_together(monkeypatch, spec)
    whole = train(spec)
    seen = []
    memory = Memory(monkeypatch, room, after)
    split = train(spec, on_probe=lambda probe: seen.extend((probe.step, member) for member in probe.members) or [])
    assert memory.refused == refusals
    assert relative_difference(split.losses, whole.losses) < 1e-10
    assert sorted(seen) == [(step, member) for step in (0, 35) for member in range(6)]
    assert sorted(member for members, _ in split.final for member in members) == list(range(6))
    assert max(len(members) for members, _ in split.final) <= room
    assert "6 networks do not fit into memory, they go on in halves" in capsys.readouterr().out


def test_members_that_failed_before_memory_ran_out_stay_frozen_at_their_step(monkeypatch):
    spec = make_spec(model=MLP | {"activation": "linear"}, loss="mse", learning_rates=[0.02, 1e20], batch_size=8)
    all_together(monkeypatch, spec)
    whole = train(spec)
    Memory(monkeypatch, 1, after=10)
    split = train(spec)
    assert split.frozen == whole.frozen and len(whole.frozen) == 2
    assert relative_difference(split.losses, whole.losses) < 1e-10


def test_memory_that_runs_out_after_all_members_failed_does_no_harm(monkeypatch):
    spec = make_spec(model=MLP | {"activation": "linear"}, loss="mse", learning_rates=[1e20, 1e25], batch_size=8)
    all_together(monkeypatch, spec)
    whole = train(spec)
    Memory(monkeypatch, 1, after=15)
    split = train(spec)
    assert split.frozen == whole.frozen and len(whole.frozen) == 4 and split.final == []


def test_memory_that_runs_out_while_looking_for_dead_members_loses_no_failure(monkeypatch):
    """The check of a member whose loss does not move (here: its rate is tiny) needs the memory of a step once more."""
    settings = {"model": MLP | {"activation": "linear"}, "loss": "mse", "batch_size": None, "seeds": 1}
    spec = make_spec(learning_rates=[1e-3, 1e-30, 1e20], **settings)
    all_together(monkeypatch, spec)
    whole = train(spec)
    memory = Memory(monkeypatch, 2, after=20)  # the 21st call is that of the first look
    split = train(spec)
    assert memory.refused == 1 and [members for members, _ in split.final] == [[0, 1]]
    assert split.frozen == whole.frozen and whole.frozen[2][1] < 20
    assert relative_difference(split.losses, whole.losses) < 1e-10


def test_memory_that_runs_out_while_a_group_starts_leaves_no_weights_undrawn(monkeypatch):
    spec = make_spec(steps=25)
    all_together(monkeypatch, spec)
    whole = train(spec)
    inner = Network.initialise

    def initialise(network, seeds):
        if len(seeds) > 1:
            for layer in network.weighted.values():
                layer.weight.data.fill_(math.nan)
            raise OutOfMemory("CUDA out of memory")
        return inner(network, seeds)

    monkeypatch.setattr(Network, "initialise", initialise)
    assert relative_difference(train(spec).losses, whole.losses) < 1e-10


def test_the_activations_of_a_failed_step_are_gone_before_its_members_are_copied(monkeypatch):
    """Whoever handles an exception still holds its frames, and so the memory that was short."""
    spec = make_spec(steps=3)
    all_together(monkeypatch, spec)
    activations, alive = [], []
    inner, state = Ensemble.gradients, Ensemble.state

    def gradients(ensemble, x, y):
        large = torch.zeros(10)
        activations.append(weakref.ref(large))
        if ensemble.members > 2:
            raise OutOfMemory("CUDA out of memory")
        return inner(ensemble, x, y)

    def observed(ensemble):
        gc.collect()
        alive.append(activations[0]() is not None)
        return state(ensemble)

    monkeypatch.setattr(Ensemble, "gradients", gradients)
    monkeypatch.setattr(Ensemble, "state", observed)
    train(spec)
    assert alive == [False]


TOO_LARGE = (
    r"^run test: one network of width 12 does not fit into .* cpu; reduce width, batch_size or the depth of the model$"
)


def test_a_single_network_that_does_not_fit_is_one_line_with_what_to_reduce(monkeypatch):
    Memory(monkeypatch, 0)
    spec = make_spec()
    all_together(monkeypatch, spec)
    with pytest.raises(TooLarge, match=TOO_LARGE):
        train(spec)


def test_a_network_that_does_not_fit_when_its_memory_is_measured_is_the_same_line(monkeypatch):
    Memory(monkeypatch, 0)
    for name in ("reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    monkeypatch.setattr("featurespeed.training.trainer.plan_groups", lambda spec, device, measured: [[0], measured()])
    with pytest.raises(TooLarge, match=TOO_LARGE):
        train(make_spec())
