"""Hessian sharpness along one training job (arXiv:2402.17457, Sec. 2 and App. J.1).

Reads the weights that training kept at its probe steps and measures, on one fixed batch, what the spec asks for:
largest and smallest eigenvalues of the Hessian, of its Gauss-Newton and residual parts, of its blocks by layer, of
the NTK and of the Adam-preconditioned Hessian, the trace, and the curvature along the gradient. Every eigenvalue comes
with its residual, the number of products spent and whether it converged; those from a warm start are checked by cold
ones every few probe steps.

A job that was killed goes on with the networks that it had not measured at its last checkpoint, under ``checkpoints``,
which is removed when the job has ended.

Inputs: ``data`` (npz), ``records`` (the job's table), ``weights`` (folder).
"""

import json
import math
import time
from hashlib import sha256
from pathlib import Path

import pandas as pd

from featurespeed.data.store import ImageData, load_dataset
from featurespeed.machine.device import acquire_device
from featurespeed.pipeline.provenance import canonical_json, table_metadata
from featurespeed.pipeline.stage import Counter, Task, run_stage
from featurespeed.records import frame, read_table
from featurespeed.training.curvature import Part, curvature_rows
from featurespeed.training.curvature_spec import SharpnessSpec
from featurespeed.training.ensemble import fast_kernels
from featurespeed.training.job import Row
from featurespeed.training.resumable import Resumable, resumable


class Measured:
    """The members that are done, and their rows; at first those of the checkpoint, if there is one."""

    def __init__(self, kept: Resumable):
        state = kept.checkpoint.load() or {"members": [], "rows": "[]"}
        self.members: list[int] = state["members"]
        self.rows: list[Row] = json.loads(state["rows"])
        self._kept, self._saved = kept, time.monotonic()

    def add(self, part: Part) -> None:
        """More members are done; saves if it is time."""
        self.members += part.members
        self.rows += part.rows
        if time.monotonic() - self._saved >= self._kept.seconds:
            self._kept.checkpoint.save({"members": self.members, "rows": json.dumps(self.rows)})
            self._saved = time.monotonic()


def all_rows(spec: SharpnessSpec, data: ImageData, task: Task, kept: Resumable) -> list[Row]:
    """The rows of all members; those that the checkpoint has are not measured again."""
    measured, records = Measured(kept), read_table(task.inputs["records"])
    with acquire_device() as device, fast_kernels(allow_tf32=False):
        steps = len(spec.curvature.at(spec.training.probe_steps))
        with Counter(f"{spec.name}, curvature", (len(spec.members) - len(measured.members)) * steps) as counter:
            parts = curvature_rows(
                spec.training, spec.curvature, data, records, task.inputs["weights"], device, spec.members,
                measured.members, counter.count,
            )  # fmt: skip
            for part in parts:
                measured.add(part)
    return measured.rows


def main(spec: SharpnessSpec, task: Task) -> pd.DataFrame:
    """All members and probe steps of the job as a long table."""
    run = spec.training
    data = load_dataset(task.inputs["data"])
    keys = {
        "run_id": run.run,
        "series": run.run,
        "parameterization": str(run.parameterization),
        "optimizer": str(run.optimizer.name),
        "width": run.width,
        "depth": run.model.depth,
        "input_dim": math.prod(data.shape),
        "output_dim": data.classes,
        "n_inputs": spec.curvature.images,
    }
    folder = Path(task.params.get("checkpoints", Path("checkpoints") / spec.name))
    inputs = {"data": data.facts["content_sha256"], "records": sha256(task.inputs["records"].read_bytes()).hexdigest()}
    identity = canonical_json(table_metadata(spec, __file__) | inputs)
    with resumable(folder, identity, task.at_end) as kept:
        return frame([keys | row for row in all_rows(spec, data, task, kept)])


if __name__ == "__main__":
    run_stage(main, SharpnessSpec)
