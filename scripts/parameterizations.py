"""What Table 1 of arXiv:2402.17457 states, measured: exponents in width and depth, and its two published forms.

- ``width``: one step of MLPs of several widths, for every parameterization and optimizer: activations at
  initialisation, effective and propagating updates of every layer.
- ``depth``: one step of residual MLPs of several depths under Depth-muP, and under muP as a control.
- ``width | <label>``: one step of Adam of a transformer of several widths, under muP and SP.
- ``depth | <label>``: the same of several depths under Depth-muP, and under muP as a control.
- ``forms``: the largest relative difference between the training curves of the two forms of one parameterization
  (multipliers; rescaled initialisation and learning rates), in double precision: for settings under which they are
  the same network, and for two settings under which they are not (one epsilon for all layers; weight decay that
  follows the layer's learning rate);
- ``forms of different seeds``: the same between the first form of one seed and the second form of the next.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from featurespeed.data.store import ImageData, load_dataset
from featurespeed.machine.device import acquire_device
from featurespeed.papers.super_consistency.coordinate_check.measuring import coordinate_rows
from featurespeed.papers.super_consistency.coordinate_check.spec import FORM_VARIANTS, ParameterizationSpec
from featurespeed.parameterization import Form
from featurespeed.pipeline.stage import Task, progress, run_stage
from featurespeed.records import frame
from featurespeed.training.job import Row
from featurespeed.training.setup import make_job
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.trainer import Trainer


def form_rows(specs: dict[Form, TrainingSpec], variant: str, data: ImageData, device) -> Iterator[Row]:
    """How far the training curves of the two forms are apart, one row a seed; then the pairs of different seeds."""
    first, second = (Trainer(make_job(spec, data, device)).run().losses for spec in specs.values())
    spec = specs[Form.MULTIPLIERS]
    for case, other in (("forms", second), ("forms of different seeds", np.roll(second, -1, axis=0))):
        difference = np.nanmax(np.abs(first - other) / first, axis=1)
        for (rate, seed), value in zip(spec.members, difference, strict=True):
            yield {
                "case": case,
                "series": variant,
                "parameterization": str(spec.parameterization),
                "optimizer": str(spec.optimizer.name),
                "learning_rate": rate,
                "width": spec.width,
                "depth": spec.model.depth,
                "input_dim": math.prod(data.shape),
                "output_dim": data.classes,
                "n_inputs": spec.batch_size,
                "step": spec.steps,
                "seed": seed,
                "estimator": "training",
                "quantity": "curve_difference",
                "value": float(value),
            }


def main(spec: ParameterizationSpec, task: Task) -> pd.DataFrame:
    """All cases as a long table."""
    files = task.by_name("data", suffix=".npz")
    sets = {name: load_dataset(files[name]) for name in spec.datasets}
    data = sets[spec.data.name]
    rows: list[Row] = []
    with acquire_device() as device:
        for case, training in progress(spec.exponent_runs, f"{spec.artefact}, exponents"):
            rows += [{"case": case} | row for row in coordinate_rows(training, data, device, spec.probe_images)]
        for case, training, examples in progress(spec.transformer_runs, f"{spec.artefact}, transformers"):
            found = coordinate_rows(training, sets[training.data.name], device, examples)
            rows += [{"case": case} | row for row in found]
        for variant in progress(FORM_VARIANTS, f"{spec.artefact}, forms"):
            for specs in spec.form_runs(variant):
                rows += form_rows(specs, variant, data, device)
    return frame(rows)


if __name__ == "__main__":
    run_stage(main, ParameterizationSpec)
