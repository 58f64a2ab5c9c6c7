"""Train one job: all learning rates and seeds of one architecture and size (arXiv:2402.17457, Sec. 2 and App. J.4).

The table has the training loss of every network (mean over the steps since the last record), its test loss and accuracy
at the end (of a text on at most as many sequences as training saw), and the step at which a network diverged or died.
The weights at the probe steps go into the folder of the output ``weights``, for the stages that measure them; with the
parameter ``kept_rates`` those at these learning rates only. Beside the weights lie Adam's second moments, and the whole
state of the optimizer if the spec says ``keep_state``.

A job that was killed goes on from its last checkpoint, under ``checkpoints``, which is removed when the job has ended.

Inputs: ``data`` (npz). Outputs: ``weights`` (folder) beside the table.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from featurespeed.data.spec import TextSpec
from featurespeed.data.store import load_dataset
from featurespeed.machine.device import acquire_device
from featurespeed.pipeline.provenance import canonical_json, table_metadata
from featurespeed.pipeline.stage import Task, run_stage
from featurespeed.records import frame
from featurespeed.training.evaluate import scores_on_test_set
from featurespeed.training.job import Job, Probe, Row, Training
from featurespeed.training.resumable import Resumable, resumable
from featurespeed.training.setup import input_dim, make_job, make_stream
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.trainer import Trainer
from featurespeed.training.weights import check_disk, link_weights, save_weights, weights_of


def records(job: Job, training: Training, scores: dict[int, dict[str, float]]) -> Iterator[Row]:
    """The rows of every member: losses by step, scores at the end, what froze it."""
    for member, (rate, seed) in enumerate(job.spec.members):
        keys = {"learning_rate": rate, "seed": seed}
        for step, value in mean_losses(training.losses[member], job.spec.record_every):
            yield keys | {"step": step, "quantity": "training_loss", "value": value}
        for quantity, value in scores.get(member, {}).items():
            yield keys | {"step": job.spec.steps, "quantity": quantity, "value": value}
        if member in training.frozen:
            what, step = training.frozen[member]
            yield keys | {"step": step, "quantity": f"{what}_step", "value": float(step)}


def mean_losses(losses: np.ndarray, every: int) -> Iterator[tuple[int, float]]:
    """(updates done, mean loss of the steps since the last record) while a member trained."""
    used = losses[np.isfinite(losses)]
    for start in range(0, len(used), every):
        part = used[start : start + every]
        yield start + len(part), float(part.mean())


def keep_weights(folder: Path, probe: Probe, rates: list[float]) -> list[Row]:
    """A probe that measures nothing: weights go to the disk, of the networks at these learning rates."""
    for index, member in enumerate(probe.members):
        if probe.job.spec.members[member][0] in rates:
            save_weights(folder, probe.network, index, member, probe.step, probe.kept)
    return []


def train(spec: TrainingSpec, job: Job, kept: Resumable, rates: list[float] | None = None) -> Training:
    """Train the job, from its checkpoint if there is one; the weights of these learning rates are kept, None is all."""
    rates = spec.learning_rates if rates is None else rates
    check_disk(spec, weights_of(job.make_network(1)), kept.folder, len(rates))
    trainer = Trainer(
        job,
        checkpoint=kept.checkpoint,
        checkpoint_seconds=kept.seconds,
        on_probe=lambda probe: keep_weights(kept.folder / "weights", probe, rates),
        cuda_graph=os.environ.get("FEATURESPEED_CUDA_GRAPH", "1") == "1",
    )
    return trainer.run()


def main(spec: TrainingSpec, task: Task) -> pd.DataFrame:
    """Train the job and return its records."""
    data, weights = load_dataset(task.inputs["data"]), task.outputs["weights"]  # asked for before hours of training
    folder = Path(task.params.get("checkpoints", Path("checkpoints") / spec.run))
    identity = canonical_json(table_metadata(spec, __file__) | {"data": data.facts["content_sha256"]})
    with resumable(folder, identity, task.at_end) as kept:
        with acquire_device() as device:
            job = make_job(spec, data, device)
            training = train(spec, job, kept, task.params.get("kept_rates"))
            # A short run on a text would take longer for its test set than for training.
            most = spec.steps * job.batch_size if isinstance(spec.data, TextSpec) else None
            scores = scores_on_test_set(training.final, make_stream(data, spec, device), spec.loss, most)
        link_weights(kept.folder / "weights", weights)
    sizes = {
        "run_id": spec.run,
        "case": spec.model.kind,
        "series": spec.run,
        "parameterization": str(spec.parameterization),
        "optimizer": str(spec.optimizer.name),
        "width": spec.width,
        "depth": spec.model.depth,
        "input_dim": input_dim(data, spec.data),
        "output_dim": data.classes,
        "n_inputs": job.batch_size,
        "estimator": "training",
    }
    return frame([sizes | row for row in records(job, training, scores)])


if __name__ == "__main__":
    run_stage(main, TrainingSpec)
