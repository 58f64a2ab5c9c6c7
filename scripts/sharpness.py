"""Hessian sharpness along one training job (arXiv:2402.17457, Sec. 2 and App. J.1).

Reads the weights that training kept at its probe steps and measures, on one fixed batch, what the spec asks for:
largest and smallest eigenvalues of the Hessian, of its Gauss-Newton and residual parts, of its blocks by layer, of
the NTK and of the Adam-preconditioned Hessian, the trace, and the curvature along the gradient. Every eigenvalue comes
with its residual, the number of products spent and whether it converged; those from a warm start are checked by cold
ones every few probe steps.

Inputs: ``data`` (npz), ``records`` (the job's table), ``weights`` (folder).
"""

import pandas as pd

from featurespeed.data.store import load_dataset
from featurespeed.device import acquire_device
from featurespeed.records import frame, read_table
from featurespeed.specs.curvature import SharpnessSpec
from featurespeed.stage import Task, progress, run_stage
from featurespeed.training.curvature import curvature_rows
from featurespeed.training.ensemble import fast_kernels
from featurespeed.training.job import Row


def main(spec: SharpnessSpec, task: Task) -> pd.DataFrame:
    """All members and probe steps of the job as a long table."""
    run = spec.training
    data = load_dataset(task.inputs["data"])
    records = read_table(task.inputs["records"])
    keys = {
        "run_id": run.run,
        "series": run.run,
        "parameterization": str(run.parameterization),
        "optimizer": str(run.optimizer.name),
        "width": run.width,
        "depth": run.model.depth,
        "input_dim": data.x_train[0].size,
        "output_dim": data.classes,
        "n_inputs": spec.curvature.images,
    }
    rows: list[Row] = []
    with acquire_device() as device, fast_kernels(allow_tf32=False):
        groups = curvature_rows(run, spec.curvature, data, records, task.inputs["weights"], device, spec.members)
        for found in progress(groups, f"{spec.name}, curvature"):
            rows += [keys | row for row in found]
    return frame(rows)


if __name__ == "__main__":
    run_stage(main, SharpnessSpec)
