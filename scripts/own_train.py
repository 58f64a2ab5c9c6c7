"""Train one size of a user's own model: all learning rates and seeds of a transfer check (block ``own``).

What is trained, and how, is that of ``featurespeed.own.transfer.transfer_check``. A job that was killed goes on from
its last checkpoint and keeps finished networks, under ``checkpoints``, which is removed when the job has ended.

Inputs: ``data`` (npz), if it is a data set of this project. Output: ``losses`` (npz). Parameters: ``spec`` (settings of
the job), ``paths`` (key -> file of the user), ``files`` and ``code`` (hashes), ``checkpoints`` (folder).
"""

import gc
from pathlib import Path

from featurespeed.own.grid import train_grid
from featurespeed.own.jobs import job
from featurespeed.own.kept import write_losses
from featurespeed.pipeline.provenance import canonical_json
from featurespeed.pipeline.stage import Task, run_task


def main(task: Task) -> None:
    """Train the size and write its losses."""
    gc.enable()  # off for tasks of seconds; this one may take hours
    params, settings = task.params, task.params["spec"]
    identity = canonical_json([settings, params["files"], params["code"]])
    data = next(iter(task.files("data")), None)
    with job(settings, params["paths"], data, Path(params["checkpoints"]), identity) as own:
        trained = train_grid(own.recipe, own.grid, own.folder, settings["side_by_side"], True)
        write_losses(task.outputs["losses"], trained.losses[:, 0], trained.ways[0].as_dict())


if __name__ == "__main__":
    run_task(main)
