"""Sharpness along the training of one size of a user's own model, at the learning rate that is best for all sizes.

The run of the first seed is trained once more, and measured on the way, as ``featurespeed.own.transfer.transfer_check``
does. A job that was killed goes on from its last checkpoint.

Inputs, parameters: as those of own_train.py. Output: ``sharpness`` (json).
"""

import gc
import json
from pathlib import Path

from featurespeed.own.along import sharpness_of
from featurespeed.own.jobs import job
from featurespeed.pipeline.provenance import canonical_json
from featurespeed.pipeline.stage import Task, run_task


def main(task: Task) -> None:
    """Measure the size and write its rows, and why they end early if they do."""
    gc.enable()  # off for tasks of seconds; this one may take hours
    params, settings = task.params, task.params["spec"]
    identity = canonical_json([settings, params["files"], params["code"]])
    data = next(iter(task.files("data")), None)
    with job(settings, params["paths"], data, Path(params["checkpoints"]), identity) as own:
        rows, reasons = sharpness_of(own.recipe, own.grid, own.grid.rates[0], settings["sharpness_at"], own.folder)
        found = {"rows": rows.to_dict("records"), "reasons": {str(size): why for size, why in reasons.items()}}
        task.outputs["sharpness"].write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_task(main)
