"""The feature speed formula along training (arXiv:2311.18718, Thm 2.1).

Reads the weights that training kept at its probe steps and measures, at every cut node of every network, the feature
speed under the learning rates of that training (each layer's own), the backward-feature angle, the norm of the backward
pass, the loss decay, and the relative error of the formula that relates them; of every network also its loss. In double
precision, on a fixed batch.
"""

import math
from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from featurespeed.data.store import ImageData, load_dataset
from featurespeed.models.networks import Network
from featurespeed.papers.feature_speed.along_training.spec import AlongTrainingSpec
from featurespeed.pipeline.stage import Task, progress, run_stage
from featurespeed.records import frame, read_table
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.feature_speed import feature_speed_of
from featurespeed.training.job import Row
from featurespeed.training.setup import input_shape, make_network, make_stream
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.weights import load_weights


def measure(network: Network, rate: float, loss: str, batch: tuple[Tensor, Tensor]) -> Iterator[Row]:
    """Rows of one network and of its nodes; ``batch`` is ``x [B, C, H, W], y [B]``."""
    x, y = batch
    with torch.no_grad():
        yield {"quantity": "batch_loss", "value": float(LOSSES[loss](network(x[None]), y[None]))}
    found = feature_speed_of(network, loss, batch, rate)
    quantities = {
        "formula_error": found.formula_error,
        "bfa": found.angle,
        "feature_speed": found.feature_speed,
        "loss_decay": found.loss_decay,
        "backward_norm": found.backward_norm,
    }
    for quantity, values in quantities.items():
        for layer, value in enumerate(values.tolist(), start=1):
            yield {"layer": layer, "quantity": quantity, "value": value}


def run_rows(run: TrainingSpec, data: ImageData, images: int, records: pd.DataFrame, weights) -> Iterator[Row]:
    """Rows of all networks of one training job at all its probe steps, but for networks that were frozen by then."""
    stopped = records[records["quantity"].isin(["diverged_step", "dead_step"])]
    end = {(row.learning_rate, row.seed): row.step for row in stopped.itertuples()}
    shape = input_shape(data, run.data)
    batch = make_stream(data, run, torch.device("cpu")).fixed_batch(images, run.seed)
    batch = (batch[0].double(), batch[1])
    for member, (rate, seed) in enumerate(run.members):
        for step in run.probe_steps:
            if step >= end.get((rate, seed), run.steps + 1):  # its outputs are all 0, or no numbers
                continue
            network = load_weights(weights, make_network(run, shape, data.classes, 1), [member], step).double()
            keys = {"learning_rate": rate, "seed": seed, "step": step}
            yield from (keys | row for row in measure(network, rate, run.loss, batch))


def main(spec: AlongTrainingSpec, task: Task) -> pd.DataFrame:
    """All models as a long table; the series are their labels."""
    data = load_dataset(task.inputs["data"])
    tables, folders = task.by_name("records"), task.by_name("weights", suffix="")
    rows: list[Row] = []
    for label, run in progress(spec.training_runs.items(), spec.artefact, len(spec.models)):
        keys = {
            "case": "along training",
            "series": label,
            "parameterization": str(run.parameterization),
            "optimizer": str(run.optimizer.name),
            "width": run.width,
            "depth": run.model.depth,
            "input_dim": math.prod(data.shape),
            "output_dim": data.classes,
            "n_inputs": spec.images,
            "estimator": "jvp",
        }
        found = run_rows(run, data, spec.images, read_table(tables[run.run]), folders[run.run])
        rows += [keys | row for row in found]
    return frame(rows)


if __name__ == "__main__":
    run_stage(main, AlongTrainingSpec)
