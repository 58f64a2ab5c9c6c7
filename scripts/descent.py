"""One job of descent with depth-wise scaled gradients: all kappas and seeds of one network, scaling and schedule.

Reconstruction (ours) of the experiments of arXiv:2502.13110. The table has, for every network, means over the steps
since the last record (loss, share of steps beyond the edge of the minibatch's quadratic model, cosine of the update
with all before it), curvature and soft ranks at the probe steps, what holds for the whole run (largest loss, largest
step), scores on the test set, and the step at which a network diverged or died, if it did. The column c is kappa.

A job that was killed goes on from its last checkpoint, under ``checkpoints``, which is removed when the job has ended.

Inputs: ``data`` (npz).
"""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from featurespeed.data.store import ImageData, load_dataset
from featurespeed.errors import UserError
from featurespeed.homogeneous.build import network_builder
from featurespeed.homogeneous.descent import Descent, edge_of
from featurespeed.homogeneous.spec import DescentSpec, Schedule
from featurespeed.machine.device import acquire_device
from featurespeed.parameterization import Parameterization
from featurespeed.pipeline.provenance import canonical_json, table_metadata
from featurespeed.pipeline.stage import Task, run_stage
from featurespeed.records import frame
from featurespeed.training.job import Row
from featurespeed.training.resumable import Resumable, resumable
from featurespeed.training.setup import input_shape, make_stream

PARAMETERIZATIONS = {"mlp": "EOC", "convnet": str(Parameterization.MUP)}


def keys(spec: DescentSpec, data: ImageData) -> Row:
    """What all rows of the job have in common."""
    return {
        "run_id": spec.run,
        "case": str(spec.schedule),
        "series": spec.run,
        "scaling": str(spec.scaling),
        "parameterization": PARAMETERIZATIONS[spec.kind],
        "optimizer": "sgd",
        "width": spec.hidden[0],
        "depth": spec.layers,
        "input_dim": math.prod(input_shape(data, spec.data)),
        "output_dim": data.classes,
        "n_inputs": spec.batch_size,
        "estimator": "training",
    }


def records(spec: DescentSpec, rows: list[Row]) -> Iterator[Row]:
    """The rows with kappa, seed and learning rate in the place of the member."""
    first: dict[int, list[Row]] = {}
    for row in rows:
        if row["step"] == 0:
            first.setdefault(row["member"], []).append(row)
    constant = spec.schedule == Schedule.CONSTANT
    for row in rows:
        kappa, seed = spec.members[row["member"]]
        rate = kappa * edge_of(first.get(row["member"], [])) if constant else math.nan
        yield {"c": kappa, "seed": seed, "learning_rate": rate} | {k: v for k, v in row.items() if k != "member"}


def descend(spec: DescentSpec, data: ImageData, kept: Resumable) -> list[Row]:
    """Train the job, from its checkpoint if there is one."""
    with acquire_device() as device:
        try:
            stream = make_stream(data, spec, device)
        except ValueError as error:
            raise UserError(f"run {spec.run}: {data.name}: {error}") from None
        build = network_builder(spec, input_shape(data, spec.data), data.classes, stream.device, stream.dtype)
        return Descent(spec, build, stream, kept.checkpoint, kept.seconds).run()


def main(spec: DescentSpec, task: Task) -> pd.DataFrame:
    """The rows of the job as a long table."""
    data = load_dataset(task.inputs["data"])
    folder = Path(task.params.get("checkpoints", Path("checkpoints") / spec.run))
    identity = canonical_json(table_metadata(spec, __file__) | {"data": data.facts["content_sha256"]})
    with resumable(folder, identity, task.at_end) as kept:
        rows = descend(spec, data, kept)
    common = keys(spec, data)
    return frame([common | row for row in records(spec, rows)])


if __name__ == "__main__":
    run_stage(main, DescentSpec)
