"""Training on a GPU: graphs, memory, TF32. Skipped where there is none."""

from __future__ import annotations

import dataclasses
import gc
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from featurespeed.errors import UserError
from featurespeed.training.ensemble import Ensemble
from featurespeed.training.job import Job
from featurespeed.training.trainer import Trainer
from tests.training.cases import Batches, make_network, make_spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CONVNET = {"kind": "convnet", "depth": 2}
MAX_POOLED = {**CONVNET, "pooling": "max"}  # trains with channels last


def job(spec) -> Job:
    """The job of a spec on the first GPU."""
    device = torch.device("cuda", 0)

    class OnDevice(Batches):
        def batch(self, step):
            return tuple(tensor.to(device) for tensor in super().batch(step))

    def batches(seeds):
        return OnDevice(seeds, spec.batch_size)

    return Job(spec, lambda members: make_network(spec, members).to(device), batches, spec.batch_size, device)


def on_cpu(made: Job) -> Job:
    """The same job on the CPU."""
    spec = made.spec
    return dataclasses.replace(
        made,
        make_network=lambda members: make_network(spec, members),
        make_batches=lambda seeds: Batches(seeds, spec.batch_size),
        device=torch.device("cpu"),
    )


@contextmanager
def at_most(more: float):
    """Only ``more`` bytes of GPU memory beyond what is taken now (graphs of other tests hold some)."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + more) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


OPTIMIZERS = {
    "sgd": {"name": "sgd", "momentum": 0.9, "warmup_steps": 10},
    "adam": {"name": "adam", "warmup_steps": 10},
    "adamw": {"name": "adamw", "weight_decay": 0.01},
}


@pytest.mark.parametrize("model", [CONVNET, MAX_POOLED], ids=["average pooling", "max pooling"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_captured_graph_trains_like_the_cpu(optimizer, model):
    rates = [0.02, 0.05] if optimizer["name"] == "sgd" else [0.002, 0.01]
    made = job(make_spec(model=model, optimizer=optimizer, learning_rates=rates))
    graph = Trainer(made).run().losses
    eager = Trainer(made, cuda_graph=False).run().losses
    cpu = Trainer(on_cpu(made)).run().losses
    assert np.isfinite(graph).all() and graph[:, -1].max() < graph[:, 0].min()
    assert np.allclose(graph, eager, rtol=1e-10) and np.allclose(graph, cpu, rtol=1e-8)


def test_a_member_of_an_ensemble_trains_like_the_same_member_alone():
    made = job(make_spec(model=CONVNET, learning_rates=[0.05, 0.1]))
    together = Trainer(made).run().losses
    for member, (rate, seed) in enumerate(made.spec.members):
        if seed == 0:
            alone = Trainer(job(make_spec(model=CONVNET, learning_rates=[rate], seeds=1))).run().losses[0]
            assert np.allclose(together[member], alone, rtol=1e-10)


def test_a_diverged_member_leaves_the_graph_and_the_others_go_on():
    made = job(make_spec(model=CONVNET, learning_rates=[0.05, 1e300]))
    found = Trainer(made).run()
    expected = Trainer(on_cpu(made)).run()
    assert found.frozen == expected.frozen and set(found.frozen) == {1, 3}
    assert np.allclose(found.losses, expected.losses, rtol=1e-8, equal_nan=True)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_when_memory_runs_out_the_members_go_on_in_halves_and_lose_nothing(monkeypatch, capsys, graph):
    # Weights that fill most of what is allowed: eight members do not fit together, fewer do.
    spec = make_spec(model={"kind": "mlp", "depth": 3}, width=1500, seeds=8, learning_rates=[0.05], steps=30)
    made = job(spec)
    expected = Trainer(made, cuda_graph=False).run().losses
    monkeypatch.setattr("featurespeed.training.trainer.plan_groups", lambda spec, device, measure: [list(range(8))])
    with at_most(0.45e9):
        found = Trainer(made, cuda_graph=graph).run().losses
    assert "go on in halves" in capsys.readouterr().out
    assert np.allclose(found, expected, rtol=1e-10)


def test_one_member_that_does_not_fit_is_told_in_one_line(monkeypatch):
    made = job(make_spec(model={"kind": "mlp", "depth": 3}, width=6000, seeds=1, learning_rates=[0.05], steps=2))
    with at_most(0.4e9), pytest.raises(UserError, match="does not fit into the memory"):
        Trainer(made).run()


def test_tf32_is_allowed_in_training_steps_and_in_probes_only_when_asked(monkeypatch):
    update, seen = Ensemble._update, {}

    def watched(self, x, y):
        seen[mode]["steps"].add(torch.backends.cudnn.allow_tf32)
        return update(self, x, y)

    def probe(_):
        seen[mode]["probes"].add(torch.backends.cudnn.allow_tf32)
        return []

    monkeypatch.setattr(Ensemble, "_update", watched)
    for mode in ("off", "train", "all"):
        seen[mode] = {"steps": set(), "probes": set()}
        Trainer(job(make_spec(model=CONVNET, tf32=mode, probe_steps=[0, 3], steps=3)), on_probe=probe).run()
    assert seen == {
        "off": {"steps": {False}, "probes": {False}},
        "train": {"steps": {True}, "probes": {False}},
        "all": {"steps": {True}, "probes": {True}},
    }
