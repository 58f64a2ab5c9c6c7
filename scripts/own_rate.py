"""The learning rate of a transfer check's grid that is best for all sizes together, at which sharpness is measured.

Inputs: ``losses`` (npz, one a size). Output: ``rate`` (json). Parameters: ``sizes``, ``learning_rates``.
"""

import json

import numpy as np

from featurespeed.own.kept import read_losses
from featurespeed.own.transfer_verdict import common_rate, final_losses
from featurespeed.pipeline.stage import Task, run_task


def main(task: Task) -> None:
    """Write the rate."""
    losses = np.stack([read_losses(path) for path in task.files("losses")], axis=1)
    sizes, rates = task.params["sizes"], task.params["learning_rates"]
    found = rates[common_rate(final_losses(np.array(sizes), np.array(rates), losses).fitted)]
    task.outputs["rate"].write_text(json.dumps({"learning_rate": found}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_task(main)
