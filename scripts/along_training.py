"""The feature speed formula along training (arXiv:2311.18718, Thm 2.1).

Reads the weights that training kept at its probe steps and measures, at every cut node of every network, the feature
speed, the backward-feature angle, the norm of the backward pass and the loss decay, and the error of the formula that
relates them; of every network also its loss, and of its data the entropy of the frequencies of the labels, which is the
loss of who knows nothing else. In double precision, on a fixed batch.

Networks that SGD trains are measured under the learning rates of that training, each weight's own: the loss decay is
positive, and ``formula_error`` relative to it. Networks that Adam trains are measured in the optimizer's form
(:mod:`featurespeed.probes.feature_speed`): the weights move by Adam's own next update, from the moments that training
kept and the batch that came next. On the fixed batch such an update may raise the loss, and the loss decay pass 0: the
error is ``cosine_error = |cos theta - loss decay / (|df/dt| |b|)|``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurespeed.data.store import ImageData, load_dataset
from featurespeed.models.networks import Network
from featurespeed.papers.feature_speed.along_training.spec import AlongTrainingSpec
from featurespeed.parameterization import OptimizerName
from featurespeed.pipeline.stage import Task, progress, run_stage
from featurespeed.probes.feature_speed import FeatureSpeed
from featurespeed.records import frame, read_table
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.feature_speed import Batch, feature_speed_in, feature_speed_of, next_update
from featurespeed.training.job import Job, Row
from featurespeed.training.setup import Data, input_dim, input_shape, make_job, make_network, make_stream
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.weights import load_state, load_weights

CPU = torch.device("cpu")
ADAM_STATE = ("first", "second")


def label_entropy(data: Data) -> float:
    """Entropy of the frequencies of the labels, or of the tokens of the text, of the training set, in nats."""
    counts = np.unique(data.y_train if isinstance(data, ImageData) else data.train, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def rows_of_network(network: Network, loss: str, batch: Batch, found: FeatureSpeed, error: str) -> Iterator[Row]:
    """Rows of one network and of its nodes; ``error`` is the quantity that tells that of the formula."""
    x, y = batch
    with torch.no_grad():
        yield {"quantity": "batch_loss", "value": float(LOSSES[loss](network(x[None]), y[None]))}
    quantities = {
        error: getattr(found, error),
        "bfa": found.angle,
        "feature_speed": found.feature_speed,
        "loss_decay": found.loss_decay,
        "backward_norm": found.backward_norm,
    }
    for quantity, values in quantities.items():
        for layer, value in enumerate(values.tolist(), start=1):
            yield {"layer": layer, "quantity": quantity, "value": value}


def doubled(batch: Batch) -> Batch:
    """The batch in double precision; numbers of tokens stay what they are."""
    x, y = batch
    return x.double() if x.is_floating_point() else x, y


def adam_update(job: Job, weights: Path, network: Network, member: int, step: int) -> Mapping[str, Tensor]:
    """What Adam adds to the weights of a member in the update after ``step`` others."""
    run = job.spec
    state = load_state(weights, network, [member], step, ADAM_STATE)
    x, y = job.make_batches(job.seeds([member])).batch(step)
    return next_update(network, run.loss, doubled((x[0], y[0])), run.optimizer, run.members[member][0], state, step)


def run_rows(run: TrainingSpec, data: Data, images: int, records: pd.DataFrame, weights: Path) -> Iterator[Row]:
    """Rows of all networks of one training job at all its probe steps, but for networks that were frozen by then."""
    stopped = records[records["quantity"].isin(["diverged_step", "dead_step"])]
    end = {(row.learning_rate, row.seed): row.step for row in stopped.itertuples()}
    shape, job, entropy = input_shape(data, run.data), make_job(run, data, CPU), label_entropy(data)
    batch = doubled(make_stream(data, run, CPU).fixed_batch(images, run.seed))
    for member, (rate, seed) in enumerate(run.members):
        for step in run.probe_steps:
            if step >= end.get((rate, seed), run.steps + 1):  # its outputs are all 0, or no numbers
                continue
            network = load_weights(weights, make_network(run, shape, data.classes, 1), [member], step).double()
            if run.optimizer.name == OptimizerName.SGD:
                found, error = feature_speed_of(network, run.loss, batch, rate), "formula_error"
            else:
                update = adam_update(job, weights, network, member, step)
                found, error = feature_speed_in(network, run.loss, batch, update), "cosine_error"
            keys = {"learning_rate": rate, "seed": seed, "step": step}
            yield keys | {"quantity": "label_entropy", "value": entropy}
            yield from (keys | row for row in rows_of_network(network, run.loss, batch, found, error))


def main(spec: AlongTrainingSpec, task: Task) -> pd.DataFrame:
    """All networks as a long table; the series are their labels."""
    files = task.by_name("data", suffix=".npz")
    sets = {name: load_dataset(files[name]) for name in spec.datasets}
    tables, folders = task.by_name("records"), task.by_name("weights", suffix="")
    rows: list[Row] = []
    for label, run in progress(spec.training_runs.items(), spec.artefact):
        data = sets[run.data.name]
        keys = {
            "case": "along training",
            "series": label,
            "parameterization": str(run.parameterization),
            "optimizer": str(run.optimizer.name),
            "width": run.width,
            "depth": run.model.depth,
            "input_dim": input_dim(data, run.data),
            "output_dim": data.classes,
            "n_inputs": spec.images,
            "estimator": "jvp",
        }
        found = run_rows(run, data, spec.images, read_table(tables[run.run]), folders[run.run])
        rows += [keys | row for row in found]
    return frame(rows)


if __name__ == "__main__":
    run_stage(main, AlongTrainingSpec)
