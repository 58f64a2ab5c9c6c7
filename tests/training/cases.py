"""Small float64 training jobs on images that a network can learn, and the loops to compare them with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from featurespeed.models.networks import Network, build_network
from featurespeed.models.spec import ModelSpec
from featurespeed.randomness import generator
from featurespeed.training import trainer
from featurespeed.training.job import Job, Training
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.trainer import Trainer

DOUBLE = torch.float64
SHAPE = (2, 8, 8)
CLASSES = 5
MLP = {"kind": "mlp", "depth": 3}
CONVNET = {"kind": "convnet", "depth": 2}
RESIDUAL_MLP = {"kind": "mlp", "depth": 2, "tau": 1}
RESIDUAL_CONVNET = {"kind": "convnet", "depth": 2, "tau": 1, "layers_per_block": 2, "readout": "pooled"}


def images(count: int, *names: int | str) -> tuple[Tensor, Tensor]:
    """Noisy images of five classes ``[count, 2, 8, 8]`` and their labels; as in scans of digits, the rim is black."""
    prototypes = torch.randn(CLASSES, *SHAPE, generator=generator(0, "prototypes"), dtype=DOUBLE)
    stream = generator(0, "images", *names)
    y = torch.randint(CLASSES, (count,), generator=stream)
    x = prototypes[y] + 0.5 * torch.randn(count, *SHAPE, generator=stream, dtype=DOUBLE)
    x[..., 0] = 0.0
    return x, y


class Batches:
    """New images at every step, a function of seed and step; ``full`` gives the same ones, the data set, each time."""

    def __init__(self, seeds: Sequence[int], size: int, full: bool = False):
        if not seeds:
            raise ValueError("seeds = []: at least one stream")  # as the real ones do
        self.seeds, self.size, self.full = list(seeds), size, full

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        drawn = [images(self.size, *(["all"] if self.full else [seed, step])) for seed in self.seeds]
        x, y = zip(*drawn, strict=True)
        return torch.stack(x), torch.stack(y)


def make_spec(**changes: Any) -> TrainingSpec:
    """A job of four small MLPs, two learning rates and two seeds."""
    settings: dict[str, Any] = {
        "run": "test",
        "data": {"name": "digits"},
        "model": MLP,
        "width": 12,
        "parameterization": "MUP",
        "learning_rates": [0.1, 0.4],
        "seeds": 2,
        "batch_size": 16,
        "steps": 50,
        "seed": 1,
        "dtype": "float64",
    }
    return TrainingSpec.model_validate(settings | changes)


def make_network(spec: TrainingSpec, members: int) -> Network:
    """An uninitialised ensemble for the images above."""
    return build_network(
        spec.model,
        spec.width,
        spec.parameterization,
        input_shape=SHAPE,
        classes=CLASSES,
        members=members,
        optimizer=spec.optimizer.name,
        form=spec.form,
        gamma0=spec.gamma0,
        layer_rates=spec.optimizer.layer_rates,
        depth_rates=spec.optimizer.depth_rates,
    ).to(DOUBLE)


def make_job(spec: TrainingSpec, batches: Callable[[Sequence[int]], Any] | None = None) -> Job:
    """The job on the CPU; with ``batch_size: null`` the data set has 24 images."""
    size = spec.batch_size or 24

    def fresh(seeds: Sequence[int]) -> Batches:
        return Batches(seeds, size, full=spec.batch_size is None)

    return Job(spec, lambda count: make_network(spec, count), batches or fresh, size, torch.device("cpu"))


def train(spec: TrainingSpec, **options: Any) -> Training:
    """Train the job to its end."""
    return Trainer(make_job(spec), **options).run()


def force_groups(monkeypatch, groups: Sequence[Sequence[int]]) -> None:
    """From here on every job trains its members in these groups."""
    monkeypatch.setattr(trainer, "plan_groups", lambda *arguments: [list(group) for group in groups])


def all_together(monkeypatch, spec: TrainingSpec) -> None:
    """From here on all members of the job train side by side."""
    force_groups(monkeypatch, [range(len(spec.members))])


def weights_of_members(training: Training) -> dict[int, list[Tensor]]:
    """Member -> its weights at the end, from input to readout."""
    return {
        member: [layer.weight.detach()[index] for layer in network.weighted.values()]
        for members, network in training.final
        for index, member in enumerate(members)
    }


def initialised(model: dict[str, Any], parameterization: str = "MUP", **changes: Any) -> Network:
    """One network, or as many as there are ``seeds``, for the images above unless ``changes`` say otherwise."""
    options = {"width": 6, "input_shape": SHAPE, "classes": CLASSES, "seeds": [0], "dtype": DOUBLE} | changes
    width, seeds, dtype = (options.pop(name) for name in ("width", "seeds", "dtype"))
    spec = ModelSpec.model_validate(model)
    network = build_network(spec, width, parameterization, members=len(seeds), **options)
    return network.to(dtype).initialise(seeds)


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest relative difference of two loss tables, which must have NaN at the same places."""
    assert np.array_equal(np.isnan(one), np.isnan(other))
    return float(np.nanmax(np.abs(one - other) / np.abs(other)))


def plain_loop(spec: TrainingSpec, member: int, steps: int | None = None) -> tuple[list[float], Network]:
    """One member as one would train it by hand with SGD: losses up to one that is not finite, and the network."""
    eta, _ = spec.members[member]
    seed = make_job(spec).seeds([member])
    network, batches = make_network(spec, 1).initialise(seed), Batches(seed, spec.batch_size or 24, not spec.batch_size)
    groups = [{"params": [w.weight], "lr": eta * w.rule.lr_scale} for w in network.weighted.values()]
    optimizer, losses = torch.optim.SGD(groups, momentum=spec.optimizer.momentum), []
    for step in range(spec.steps if steps is None else steps):
        x, y = batches.batch(step)
        outputs = network(x)[0]
        loss = functional.cross_entropy(outputs, y[0])
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, network
