"""How to measure the sharpness: true error against cost of several methods (arXiv:2402.17457, App. J.1).

Reads the weights that training kept at its probe steps and measures the sharpness there, the largest eigenvalue of
gamma^2 H on one fixed batch, with the project's own Lanczos method (cold, warm-started, and warm-started with cold
checks), with power iteration under the stopping rule of the second paper, and with ARPACK. The true value is that of
double-precision Lanczos from two starts that must agree. Cost is counted in products of the Hessian with a vector.

Rows: for every start, the estimate (quantity ``sharpness``) and its error relative to the true value
(``relative_error``); the series is the method, ``truth`` the true value (and the ``smallest_eigenvalue``), and the seed
the number of the start.

Inputs: ``data`` (npz), ``records`` (tables of the training jobs), ``weights`` (their folders).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from featurespeed.curvature.lanczos import Eigenvalues, largest_eigenvalues, random_vectors, smallest_eigenvalues
from featurespeed.curvature.operators import Hessian, Operator, Scaled
from featurespeed.curvature.reference_methods import Measured, PowerIteration, arpack, true_largest_eigenvalue
from featurespeed.curvature.tracking import Tracker
from featurespeed.data.store import ImageData, load_dataset
from featurespeed.papers.super_consistency.curvature_methods.spec import MethodsRun, SharpnessMethodsSpec
from featurespeed.pipeline.stage import Task, progress, run_stage
from featurespeed.randomness import derive_seed
from featurespeed.records import frame, read_table
from featurespeed.training.curvature import layer_rates, objective_of
from featurespeed.training.job import Row
from featurespeed.training.setup import input_shape, make_network, make_stream
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.weights import load_weights

TOL = 1e-3
TIGHT, TIGHT_PRODUCTS = 1e-6, 500
ARPACK_VECTORS = 10  # SciPy's 20 are the least that a call can cost; fewer are enough at this tolerance
NEVER = 10**9  # more measurements than any trajectory has


@dataclass
class Trajectory:
    """The operators of one training run, at one probe step after the other."""

    spec: SharpnessMethodsSpec
    run: TrainingSpec
    data: ImageData
    folder: Path
    batch: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        stream = make_stream(self.data, self.run, torch.device("cpu"))
        self.batch = stream.fixed_batch(self.spec.images, self.run.seed)

    def operator(self, step: int, dtype: torch.dtype) -> Operator:
        """``gamma^2 H`` at the weights kept after ``step`` updates."""
        network = make_network(self.run, input_shape(self.data, self.run.data), self.data.classes, 1).to(dtype)
        load_weights(self.folder, network, [0], step)
        objective = objective_of(network, self.run.loss, (self.batch[0].to(dtype), self.batch[1]))
        return Scaled(Hessian(objective), objective.fill(layer_rates(network)))


def references(operator: Operator, start: Tensor) -> Iterator[tuple[str, Measured]]:
    """Name and outcome of every method but the project's own, from one start."""
    power = PowerIteration(operator, start)
    yield "power iteration, tol 1e-3", power.estimate(TOL, max_products=100)  # the second paper's settings
    yield "power iteration, tol 1e-6", power.estimate(TIGHT, TIGHT_PRODUCTS)
    yield "ARPACK LM, default", arpack(operator, start, "LM")
    yield "ARPACK LA, default", arpack(operator, start, "LA")
    yield "ARPACK LA, tuned", arpack(operator, start, "LA", TOL, min(ARPACK_VECTORS, operator.size))


def measured(record: Eigenvalues) -> Measured:
    """The evidence of one record of the project's own method."""
    return Measured(record.eigenvalue, record.products, record.converged, record.residual)


class Methods:
    """All methods along one trajectory; those that start warm remember the step before."""

    def __init__(self, spec: SharpnessMethodsSpec, run: MethodsRun, label: str):
        self.run, self._seed = run, derive_seed(spec.seed, label, "starts")
        kinds = {
            "Lanczos, warm": (NEVER, run.reference_starts),
            "Lanczos, warm with checks": (spec.cold_every, run.starts),
        }
        self._trackers = {
            (name, start): Tracker(tol=TOL, cold_every=every, seed=self.start_seed(start))
            for name, (every, starts) in kinds.items()
            for start in range(starts)
        }
        self._warm = False

    def start_seed(self, start: int, step: int = 0) -> int:
        """Seed of the random start number ``start`` at a probe step."""
        return derive_seed(self._seed, step, start)

    def measure(self, operator: Operator, step: int) -> Iterator[tuple[str, int, Measured]]:
        """``(method, start, outcome)``; the first step has no warm start."""
        for start in range(self.run.starts):
            seed = self.start_seed(start, step)
            yield "Lanczos, cold", start, measured(largest_eigenvalues(operator, tol=TOL, seed=seed)[0])
            if start < self.run.reference_starts:
                for name, found in references(operator, random_vectors(operator, seed)):
                    yield name, start, found
        for (name, start), tracker in self._trackers.items():
            found = tracker.measure(operator)[0]
            if self._warm:
                yield name, start, measured(found)
        self._warm = True


def step_rows(methods: Methods, trajectory: Trajectory, step: int) -> Iterator[Row]:
    """Rows of one probe step: the true value, and every method's estimate with its error."""
    double = trajectory.operator(step, torch.float64)
    truth, lowest = true_largest_eigenvalue(double), measured(smallest_eigenvalues(double, tol=TOL)[0])
    yield _row("truth", step, 0, "sharpness", truth.value, truth)
    yield _row("truth", step, 0, "smallest_eigenvalue", lowest.value, lowest)
    for name, start, found in methods.measure(trajectory.operator(step, torch.float32), step):
        yield _row(name, step, start, "sharpness", found.value, found)
        error = abs(found.value - truth.value) / abs(truth.value)
        yield _row(name, step, start, "relative_error", error, found)


def _row(series: str, step: int, start: int, quantity: str, value: float, found: Measured) -> Row:
    estimator = next((name for name in ("power iteration", "ARPACK") if series.startswith(name)), "Lanczos")
    return {
        "series": series, "step": step, "seed": start, "quantity": quantity, "value": value, "estimator": estimator,
        "products": found.products, "converged": found.converged, "residual": found.residual,
    }  # fmt: skip


def run_rows(spec: SharpnessMethodsSpec, label: str, data: ImageData, records: pd.DataFrame, folder: Path) -> list[Row]:
    """Rows of one training run, up to the step where it was frozen if it was."""
    run, methods = spec.training_runs[label], Methods(spec, spec.runs[label], label)
    stopped = records.loc[records["quantity"].isin(["diverged_step", "dead_step"]), "step"]
    last = int(stopped.min()) if len(stopped) else run.steps
    trajectory = Trajectory(spec, run, data, folder)
    keys = {
        "run_id": run.run,
        "case": label,
        "parameterization": str(run.parameterization),
        "optimizer": str(run.optimizer.name),
        "learning_rate": run.learning_rates[0],
        "width": run.width,
        "depth": run.model.depth,
        "input_dim": math.prod(data.shape),
        "output_dim": data.classes,
        "n_inputs": spec.images,
    }
    steps = [step for step in sorted(run.probe_steps) if step <= last]
    return [keys | row for step in progress(steps, run.run) for row in step_rows(methods, trajectory, step)]


def main(spec: SharpnessMethodsSpec, task: Task) -> pd.DataFrame:
    """All runs, steps, methods and starts as a long table."""
    data = load_dataset(task.inputs["data"])
    tables, folders = task.by_name("records"), task.by_name("weights", suffix="")
    rows: list[Row] = []
    for label, run in spec.training_runs.items():
        rows += run_rows(spec, label, data, read_table(tables[run.run]), folders[run.run])
    return frame(rows)


if __name__ == "__main__":
    run_stage(main, SharpnessMethodsSpec)
