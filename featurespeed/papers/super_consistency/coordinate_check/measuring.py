"""Coordinate checks of networks in training: a few steps of one job, looked at layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from featurespeed.models.networks import Network
from featurespeed.probes.coordinate_check import Snapshot, compare, feature_update, snapshot
from featurespeed.training.job import Probe, Row
from featurespeed.training.setup import Data, make_job, make_stream
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.trainer import Trainer


def coordinate_rows(
    spec: TrainingSpec,
    data: Data,
    device: torch.device,
    examples: int,
    change: Callable[[Network], Network] | None = None,
) -> list[Row]:
    """Train a job and return the rows of a coordinate check at its probe steps.

    Args:
        spec: the job; a row is keyed by member (seed), step and layer.
        data, device: what to train on and where.
        examples: size of the fixed batch, without augmentation, on which activations are compared.
        change: applied to every network that is made, for controls with a wrong rule.
    """
    job = make_job(spec, data, device)
    if change is not None:
        make = job.make_network
        job = dataclasses.replace(job, make_network=lambda members: change(make(members)))
    x, _ = make_stream(data, spec, device).fixed_batch(examples, spec.seed)
    keys = {
        "parameterization": str(spec.parameterization),
        "optimizer": str(spec.optimizer.name),
        "width": spec.width,
        "depth": spec.model.depth,
        "input_dim": x[0].numel(),
        "output_dim": data.classes,
        "n_inputs": examples,
        "estimator": "training",
    }
    rows = Trainer(job, on_probe=CoordinateProbe(x), cuda_graph=False).run().rows
    return [keys | row for row in rows]


class CoordinateProbe:
    """Called at probe steps: compares a group of members with its initialisation on one batch, ``[B, ...]``.

    The initialisation is drawn again when a group is first met, so that nothing need be kept in a checkpoint.
    """

    def __init__(self, x: Tensor):
        self.x = x
        self.members: list[int] = []
        self.start: Snapshot | None = None

    def __call__(self, probe: Probe) -> list[Row]:
        batch = self.x.expand(len(probe.members), *self.x.shape)
        if probe.members != self.members:
            self.start = None  # before the next one is made
            network = probe.job.make_network(len(probe.members)).initialise(probe.job.seeds(probe.members))
            self.members, self.start = list(probe.members), snapshot(network, batch, kept=False)
        return list(layer_rows(probe, snapshot(probe.network, batch, kept=False), self.start))


def layer_rows(probe: Probe, now: Snapshot, start: Snapshot) -> Iterator[Row]:
    """Rows of every layer and member at one step; at step 0 there are activations only."""
    job, members = probe.job, probe.members
    layers = compare(probe.network, now, start)
    features = feature_update(probe.network, now, start).tolist()
    for index, member in enumerate(members):
        rate, seed = job.spec.members[member]
        key = {"learning_rate": rate, "seed": seed, "step": probe.step}
        for number, layer in enumerate(layers, start=1):
            found = {"activation_rms": layer.activation}
            if probe.step:
                found["update_rms"] = layer.update
                found["effective_update_rms"] = layer.effective
                found["propagating_update_rms"] = layer.propagating
            place = {"layer": number, "series": layer.part}
            for quantity, values in found.items():
                yield key | place | {"quantity": quantity, "value": float(values[index])}
        if probe.step:
            place = {"layer": len(layers) - 1, "series": "features"}
            yield key | place | {"quantity": "feature_update_rms", "value": features[index]}
