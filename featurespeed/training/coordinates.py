"""Coordinate checks of networks in training: a few steps of one job, looked at layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from featurespeed.data.store import ImageData
from featurespeed.models.networks import Network
from featurespeed.probes.coordinate_check import compare, feature_update, snapshot
from featurespeed.specs.training import TrainingSpec
from featurespeed.training.job import Probe, Row
from featurespeed.training.setup import make_job, make_stream
from featurespeed.training.trainer import Trainer


def coordinate_rows(
    spec: TrainingSpec,
    data: ImageData,
    device: torch.device,
    images: int,
    change: Callable[[Network], Network] | None = None,
) -> list[Row]:
    """Train a job and return the rows of a coordinate check at its probe steps.

    Args:
        spec: the job; a row is keyed by member (seed), step and layer.
        data, device: what to train on and where.
        images: size of the fixed batch, without augmentation, on which activations are compared.
        change: applied to every network that is made, for controls with a wrong rule.
    """
    job = make_job(spec, data, device)
    if change is not None:
        make = job.make_network
        job = dataclasses.replace(job, make_network=lambda members: change(make(members)))
    x, _ = make_stream(data, spec, device).fixed_batch(images, spec.seed)
    keys = {
        "parameterization": str(spec.parameterization),
        "optimizer": str(spec.optimizer.name),
        "width": spec.width,
        "depth": spec.model.depth,
        "input_dim": x[0].numel(),
        "output_dim": data.classes,
        "n_inputs": images,
        "estimator": "training",
    }
    rows = Trainer(job, on_probe=lambda probe: layer_rows(probe, x), cuda_graph=False).run().rows
    return [keys | row for row in rows]


def layer_rows(probe: Probe, x: Tensor) -> Iterator[Row]:
    """Rows of every layer and member at one step.

    The initialisation is drawn again, so that nothing need be kept since then. At step 0 there are activations only.
    """
    job, members = probe.job, probe.members
    batch = x.expand(len(members), *x.shape)
    start = snapshot(job.make_network(len(members)).initialise(job.seeds(members)), batch)
    now = snapshot(probe.network, batch)
    layers = compare(probe.network, now, start)
    features = feature_update(now, start, len(members)).tolist()
    for index, member in enumerate(members):
        rate, seed = job.spec.members[member]
        key = {"learning_rate": rate, "seed": seed, "step": probe.step}
        for number, layer in enumerate(layers, start=1):
            found = {"activation_rms": layer.activation}
            if probe.step:
                found["update_rms"] = layer.update
                found["effective_update_rms"] = layer.effective
                found["propagating_update_rms"] = layer.propagating
            place = {"layer": number, "series": str(layer.role)}
            for quantity, values in found.items():
                yield key | place | {"quantity": quantity, "value": float(values[index])}
        if probe.step:
            place = {"layer": len(layers) - 1, "series": "features"}
            yield key | place | {"quantity": "feature_update_rms", "value": features[index]}
