"""Training of many networks at once: the same as one at a time, whatever happens to some of them."""

import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from featurespeed.training import progress as progress_module
from featurespeed.training.groups import (
    CPU_GROUPED_WORK,
    GPU_GROUPED_WORK,
    chunks,
    plan_groups,
    side_by_side,
)
from featurespeed.training.operations import layers_of_job
from featurespeed.training.trainer import Trainer
from tests.training.cases import (
    CONVNET,
    DOUBLE,
    MLP,
    RESIDUAL_CONVNET,
    RESIDUAL_MLP,
    Batches,
    all_together,
    force_groups,
    make_job,
    make_spec,
    plain_loop,
    relative_difference,
    train,
    weights_of_members,
)

CPU = torch.device("cpu")


# --- one network at a time, side by side ------------------------------------------------------------------------------


# Learning rates below the edge of stability, at which the loss falls within 50 steps.
SGD_RATES = {
    "MLP": (MLP, [0.4, 1.0]),
    "residual MLP": (RESIDUAL_MLP, [0.2, 0.4]),
    "ConvNet": (CONVNET, [0.05, 0.1]),
    "residual ConvNet": (RESIDUAL_CONVNET, [0.02, 0.05]),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("name", SGD_RATES)
def test_a_member_of_an_ensemble_trains_as_it_does_alone(monkeypatch, name, optimizer):
    """Four members, 50 steps: losses and weights to 1e-10."""
    model, rates = SGD_RATES[name]
    rates = rates if optimizer == "sgd" else [0.02, 0.04]
    decay = {"weight_decay": 0.1} if optimizer == "adamw" else {}
    spec = make_spec(model=model, width=6, optimizer={"name": optimizer, **decay}, learning_rates=rates, batch_size=8)
    all_together(monkeypatch, spec)
    together = train(spec)
    force_groups(monkeypatch, [[member] for member in range(4)])
    alone = train(spec)
    assert relative_difference(together.losses, alone.losses) < 1e-10
    one, other = weights_of_members(together), weights_of_members(alone)
    assert sorted(one) == sorted(other) == [0, 1, 2, 3]
    for member in one:
        for a, b in zip(one[member], other[member], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert (alone.losses[:, -10:].mean(1) < 0.9 * alone.losses[:, :3].mean(1)).all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("model", [MLP, CONVNET], ids=["MLP", "ConvNet"])
def test_a_job_is_the_plain_loop_of_each_member(monkeypatch, model, momentum):
    spec = make_spec(model=model, width=6, steps=30, optimizer={"momentum": momentum}, learning_rates=[0.02, 0.05])
    all_together(monkeypatch, spec)
    training = train(spec)
    final = weights_of_members(training)
    for member in range(4):
        losses, network = plain_loop(spec, member)
        assert training.losses[member].tolist() == pytest.approx(losses, rel=1e-10)
        for found, layer in zip(final[member], network.weighted.values(), strict=True):
            torch.testing.assert_close(found, layer.weight.detach()[0], rtol=1e-9, atol=1e-10)


def test_the_full_batch_is_plain_gradient_descent_and_lowers_the_loss_at_every_step(monkeypatch):
    spec = make_spec(batch_size=None, learning_rates=[0.2, 0.4])
    training = train(spec)
    assert training.losses[1].tolist() == pytest.approx(plain_loop(spec, 1)[0], rel=1e-10)
    assert (np.diff(training.losses, axis=1) < 0).all()


def test_learning_rates_of_a_seed_see_the_same_weights_and_batches():
    """Common random numbers: the first loss, before any update, is bitwise that of the other rate, and seeds differ."""
    spec = make_spec(learning_rates=[0.1, 0.2, 0.4], seeds=2, steps=2)
    asked = []

    class Recording(Batches):
        def batch(self, step):
            asked.append((tuple(self.seeds), step))
            return super().batch(step)

    job = make_job(spec, lambda seeds: Recording(seeds, 16))
    losses = Trainer(job).run().losses
    assert len(set(losses[:3, 0])) == len(set(losses[3:, 0])) == 1
    assert losses[0, 0] != losses[3, 0] and len(set(losses[:, 1])) == 6
    streams = tuple(dict.fromkeys(job.seeds(range(6))))
    assert len(streams) == 2 and {seeds for seeds, _ in asked} == {streams}


def test_the_order_of_members_is_seed_by_seed():
    assert make_spec(learning_rates=[0.1, 0.4], seeds=2).members == [(0.1, 0), (0.4, 0), (0.1, 1), (0.4, 1)]


# --- the two forms of a parameterization ------------------------------------------------------------------------------

ADAM = {"name": "adam", "epsilon": 1e-3}
ADAMW = {"name": "adamw", "epsilon": 1e-3, "weight_decay": 0.3}
COMMON = {"layer_rates": "common"}
SAME_CURVE = {
    "muP, SGD": ("MUP", MLP, {}),
    "muP, SGD, ConvNet": ("MUP", CONVNET, {"momentum": 0.5}),
    "NTP, SGD": ("NTP", MLP, {}),
    "Depth-muP, SGD": ("DEPTH_MUP", RESIDUAL_MLP, {}),
    "muP, Adam, eps = 0": ("MUP", MLP, ADAM | {"epsilon": 0.0}),
    "muP, Adam, eps by layer": ("MUP", MLP, ADAM),
    "Depth-muP, Adam, eps by layer": ("DEPTH_MUP", RESIDUAL_CONVNET, ADAM),
    "muP, AdamW, independent decay": ("MUP", MLP, ADAMW),
    "Depth-muP, AdamW, independent decay": ("DEPTH_MUP", RESIDUAL_MLP, ADAMW),
    "muP, Adam, common rates": ("MUP", MLP, ADAM | COMMON),
    "Depth-muP, Adam, common rates with depth": ("DEPTH_MUP", RESIDUAL_CONVNET, ADAM | COMMON | {"depth_rates": True}),
}
OTHER_CURVE = {
    "muP, Adam, one eps": ("MUP", MLP, ADAM | {"epsilon_by_layer": False}),
    "Depth-muP, Adam, one eps": ("DEPTH_MUP", RESIDUAL_MLP, ADAM | {"epsilon_by_layer": False}),
    "muP, AdamW, decay that follows the layer": ("MUP", MLP, ADAMW | {"decay_follows_layer": True}),
}


def both_forms(parameterization, model, optimizer):
    rates = [0.05 if model is CONVNET else 0.8] if optimizer.get("name", "sgd") == "sgd" else [0.03]
    if "layer_rates" in optimizer:
        rates = [0.002]  # in units of the common rate, which is N times that of the table or more
    rest = {"parameterization": parameterization, "model": model, "optimizer": optimizer, "learning_rates": rates}
    return [train(make_spec(form=form, seeds=1, **rest)).losses for form in ("multipliers", "rescaled")]


@pytest.mark.parametrize("case", SAME_CURVE)
def test_both_forms_give_the_same_training_curve(case):
    """50 steps in float64 at a width, a depth and an input dimension that all differ from 1; the loss falls."""
    one, other = both_forms(*SAME_CURVE[case])
    assert relative_difference(one, other) < 1e-9
    assert one[0, -10:].mean() < 0.8 * one[0, :3].mean()


@pytest.mark.parametrize("case", OTHER_CURVE)
def test_the_forms_differ_where_a_constant_is_not_rescaled(case):
    one, other = both_forms(*OTHER_CURVE[case])
    assert one[0, 0] == pytest.approx(other[0, 0], rel=1e-12)
    assert relative_difference(one, other) > 1e-4


# --- probes -----------------------------------------------------------------------------------------------------------


def test_probes_come_at_their_steps_with_the_weights_after_so_many_updates_and_the_next_batch(monkeypatch):
    spec = make_spec(learning_rates=[0.1], seeds=1, steps=30, probe_steps=[0, 7, 20, 30])
    seen = []

    def on_probe(probe):
        seen.append(probe.step)
        _, expected = plain_loop(spec, 0, probe.step)
        for found, layer in zip(probe.network.weighted.values(), expected.weighted.values(), strict=True):
            torch.testing.assert_close(found.weight, layer.weight, rtol=1e-10, atol=1e-12)
        x, y = Batches(probe.job.seeds(probe.members), 16).batch(probe.step)
        assert torch.equal(probe.batch[0], x) and torch.equal(probe.batch[1], y)
        return [{"step": probe.step, "loss": float(functional.cross_entropy(probe.network(x)[0].detach(), y[0]))}]

    training = train(spec, on_probe=on_probe)
    assert seen == [0, 7, 20, 30]
    assert [row["step"] for row in training.rows] == seen
    assert [row["loss"] for row in training.rows[:-1]] == pytest.approx([training.losses[0, s] for s in (0, 7, 20)])


def test_probes_see_the_members_that_still_train_each_with_its_own_batch(monkeypatch):
    spec = make_spec(learning_rates=[0.1, 1e4, 0.4], probe_steps=[0, 45])
    all_together(monkeypatch, spec)
    seen = {}

    def on_probe(probe):
        seen[probe.step] = list(probe.members)
        assert probe.network.members == len(probe.members) == len(probe.batch[0]) == len(probe.batch[1])
        for index, seed in enumerate(probe.job.seeds(probe.members)):
            assert torch.equal(probe.batch[0][index], Batches([seed], 16).batch(probe.step)[0][0])
        return []

    train(spec, on_probe=on_probe)
    assert seen == {0: [0, 1, 2, 3, 4, 5], 45: [0, 2, 3, 5]}


def test_probes_do_not_change_the_training(monkeypatch):
    """Gradients left behind, evaluation mode, random numbers drawn: the curves stay bitwise the same."""

    def on_probe(probe):
        torch.randn(3)
        probe.network.eval()
        functional.cross_entropy(probe.network(probe.batch[0]).flatten(0, 1), probe.batch[1].flatten()).backward()
        with torch.no_grad():
            probe.network.take([0]).trained[0].zero_()
        return [{"step": probe.step}]

    spec = make_spec(optimizer={"name": "adam"}, learning_rates=[0.01], probe_steps=[0, 13, 50])
    probed = train(spec, on_probe=on_probe)
    assert np.array_equal(probed.losses, train(make_spec(optimizer={"name": "adam"}, learning_rates=[0.01])).losses)
    assert len(probed.rows) == 3


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_lines_tell_share_step_speed_losses_frozen_members_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "LOG_SECONDS", 0.0)
    spec = make_spec(learning_rates=[0.1, 1e4], steps=80)
    all_together(monkeypatch, spec)
    training = train(spec)
    *lines, last = capsys.readouterr().err.splitlines()
    pattern = r"test: (\d+)%, step (\d+), [\d,]+ images/s, loss (\S+) to ([^\s,]+)(?:, (\d) frozen)?, \d:\d\d:\d\d left"
    told = [re.fullmatch(pattern, line).groups() for line in lines]
    assert [row[1] for row in told] == ["20", "40", "60", "80"] and [row[4] for row in told[1:]] == ["2"] * 3
    assert [row[0] for row in told[::3]] == ["25", "100"]
    running = training.losses[[0, 2]][:, [59, 79]]
    for row, losses in zip(told[2:], running.T, strict=True):
        assert row[2:4] == (f"{losses.min():.3g}", f"{losses.max():.3g}")
    assert re.fullmatch(r"test: \d+ updates in \d+\.\d s, [\d,]+ images/s", last)


def test_progress_is_silent_between_its_lines(capsys):
    train(make_spec())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("test: 200 updates in ")


def test_skipped_updates_count_as_done_but_not_as_speed(monkeypatch):
    clock = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    bar = progress_module.Progress("test", updates=100, batch=8)
    bar.skip(50)
    bar.done = 25
    assert bar.rate() == pytest.approx(25 * 8 / 10)
    assert bar.left().total_seconds() == 10  # the other 25, at 2.5 a second


# --- groups -----------------------------------------------------------------------------------------------------------


@settings(derandomize=True, database=None, deadline=None)
@given(members=st.lists(st.integers(), min_size=1, max_size=60, unique=True), size=st.integers(1, 70))
def test_groups_keep_the_order_fit_and_are_as_few_and_as_even_as_possible(members, size):
    groups = list(chunks(members, size))
    assert [member for group in groups for member in group] == members
    assert len(groups) == math.ceil(len(members) / size)
    lengths = [len(group) for group in groups]
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1


def never():
    raise AssertionError("memory is not measured on a CPU")


def test_on_a_cpu_small_networks_train_together_and_all_others_one_by_one():
    together, alone = [[0, 1, 2, 3]], [[0], [1], [2], [3]]
    assert plan_groups(make_spec(width=32), CPU, never) == together
    assert plan_groups(make_spec(width=1024), CPU, never) == alone
    assert plan_groups(make_spec(model=CONVNET, width=4), CPU, never) == together
    assert plan_groups(make_spec(model=CONVNET, width=512), CPU, never) == alone


def test_on_a_gpu_convolutions_that_fill_it_are_measured_one_by_one():
    gpu, together, alone = torch.device("cuda"), [[0, 2, 3]], [[0], [2], [3]]
    job = partial(make_spec, model=CONVNET, data={"name": "cifar10"})
    assert side_by_side(job(width=128), 128, gpu, [0, 2, 3]) == together
    assert side_by_side(job(width=256), 128, gpu, [0, 2, 3]) == alone
    assert side_by_side(job(width=256), 32, gpu, [0, 2, 3]) == together
    assert side_by_side(make_spec(width=4096), 128, gpu, [0, 2, 3]) == together


@pytest.mark.parametrize(
    ("device", "data", "strides", "width", "images", "most"),
    [("cpu", "digits", [1], 16, 64, CPU_GROUPED_WORK), ("cuda", "cifar10", None, 64, 512, GPU_GROUPED_WORK)],
)
def test_what_one_layer_has_to_do_counts_and_not_how_many_layers_there_are(device, data, strides, width, images, most):
    model = {"kind": "convnet", "depth": 48, "tau": 1.0, "convention": "authors", "strides": strides}
    deep = make_spec(model=model, data={"name": data}, width=width)
    assert images * sum(layer.forward for layer in layers_of_job(deep)) > most
    assert side_by_side(deep, images, torch.device(device), [0, 2, 3]) == [[0, 2, 3]]


@pytest.mark.parametrize(
    ("bytes_per_member", "sizes"), [(10, [4]), (150, [2, 2]), (200, [2, 2]), (201, [1] * 4), (9999, [1] * 4)]
)
def test_on_a_gpu_members_are_grouped_by_the_memory_of_one(monkeypatch, bytes_per_member, sizes):
    """40% of 1000 free bytes; a member that does not fit is still tried, and then says so."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    groups = plan_groups(make_spec(), torch.device("cuda"), lambda: bytes_per_member)
    assert [len(group) for group in groups] == sizes


def test_float64_is_kept_throughout():
    training = train(make_spec(steps=1))
    assert training.losses.dtype == np.float64
    assert {p.dtype for _, network in training.final for p in network.parameters()} == {DOUBLE}
