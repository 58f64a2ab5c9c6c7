"""Gather a transfer check of a user's own model: the record of ``transfer_check``, from the losses of every size.

Inputs: ``losses`` (npz, one a size), ``sharpness`` (json, one a size, or none). Outputs: ``table``, ``best``,
``sharpness`` (CSV), ``verdict`` (text), ``pdf``, ``svg``, ``png``. Parameters: ``grid`` (sizes, rates, seeds, steps).
"""

import json
import math
from pathlib import Path

import pandas as pd

from featurespeed.drawing.plotting import save_figure
from featurespeed.own.along import COLUMNS, no_sharpness, together
from featurespeed.own.choosing import Way
from featurespeed.own.grid import Grid, Trained, joined
from featurespeed.own.kept import read_losses, read_way
from featurespeed.own.transfer import TransferCheck, record_of
from featurespeed.pipeline.stage import Task, run_task

IMAGES = ("pdf", "svg", "png")


def read_sharpness(path: Path) -> tuple[pd.DataFrame, dict[int, str]]:
    """What was measured of one size."""
    found = json.loads(path.read_text(encoding="utf-8"))
    reasons = {int(size): why for size, why in found["reasons"].items()}
    return pd.DataFrame(found["rows"], columns=list(COLUMNS)), reasons


def check_of(task: Task) -> TransferCheck:
    """The record of all sizes."""
    grid = Grid(**{name: tuple(values) if isinstance(values, list) else values
                   for name, values in task.params["grid"].items()})  # fmt: skip
    trained = [Trained(read_losses(path)[:, None], (Way(**read_way(path)),)) for path in task.files("losses")]
    measured = [read_sharpness(path) for path in task.files("sharpness")]
    return record_of(grid, joined(trained), together([no_sharpness(), *measured]), math.nan)


def main(task: Task) -> None:
    """Write tables, figure and verdict."""
    check = check_of(task)
    for name, table in (("table", check.table), ("best", check.best), ("sharpness", check.sharpness)):
        table.to_csv(task.outputs[name], index=False)
    lines = [str(check), *(f"sharpness of size {size}: {why}" for size, why in check.sharpness_reasons.items())]
    task.outputs["verdict"].write_text("\n".join(lines) + "\n", encoding="utf-8")
    save_figure(check.plot(), {kind: task.outputs[kind] for kind in IMAGES})


if __name__ == "__main__":
    run_task(main)
