"""Small stage tables in which every claim about scaled descent holds, and ways to break one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from featurespeed.records import frame

FLAT, QUADRATIC, FASHION, NARROW = "r = 0", "r = 2", "r = 2, Fashion-MNIST", "r = 0, base width of r = 2"
KAPPAS = (0.5, 2.0, 8.0, 16.0, 24.0, 32.0, 48.0)
AWARE = "geometry-aware"
GROUPS = tuple((network, scaling) for network in (FLAT, QUADRATIC) for scaling in ("none", "norm1", "rel1"))
EXTRA = ((FASHION, "rel1"), (NARROW, "rel1"))
SEEDS = tuple(range(7, 17))
STEPS, RECORD_EVERY, BATCH, LAYERS = 20, 10, 128, 5


@dataclass(frozen=True)
class Run:
    """Keys of one network."""

    network: str
    scaling: str
    schedule: str
    kappa: float
    seed: int

    @property
    def jitter(self) -> float:
        """A factor of its own for every run, near 1."""
        place = 3 * self.seed + sum(map(ord, self.network + self.scaling)) + math.log2(self.kappa)
        return 1 + 0.01 * math.sin(place)

    def is_(self, network: str, scaling: str, kappa: float | None = None) -> bool:
        """Whether it is a run at constant learning rate of this network and scaling, and of this kappa."""
        here = (self.network, self.scaling, self.schedule) == (network, scaling, "constant")
        return here and kappa in (None, self.kappa)


Formula = Callable[[Run], float]


def failure(run: Run) -> str | None:
    """Without a scaling r = 0 explodes from 16 on and r = 2 from 24; with one r = 0 from 16, and r = 2 dies at 48."""
    if run.schedule == AWARE:
        return None
    limits = {
        (FLAT, "none"): 16,
        (QUADRATIC, "none"): 24,
        (FLAT, "rel1"): 16,
        (FLAT, "norm1"): 16,
        (NARROW, "rel1"): 16,
    }
    if run.kappa < limits.get((run.network, run.scaling), 48):
        return None
    return "diverged_step" if run.scaling == "none" else "dead_step"


def rank(run: Run) -> float:
    """Soft rank after training."""
    grown = 1 + 1.5 * run.kappa**6 if run.schedule == AWARE else 2 + run.kappa / 4
    return run.jitter * grown * {FLAT: 0.5, NARROW: 0.3}.get(run.network, 1)


def step_norm(run: Run) -> float:
    """Largest step over the learning rate: half its bound, if there is one."""
    return {"none": 40.0, "norm1": 0.5, "rel1": 0.5 * math.sqrt(2 / BATCH)}[run.scaling]


def accuracy(run: Run) -> float:
    """Best at r = 2 and kappa = 32 with a scaling."""
    plain = run.network == FLAT or run.scaling == "none"
    return run.jitter * (0.9 if plain else 0.97 if run.kappa == 32 else 0.93)


def beyond_share(run: Run) -> float:
    """Grows with kappa; that of the geometry-aware schedule is all or nothing."""
    return float(run.kappa > 1) if run.schedule == AWARE else run.jitter * min(0.9, 0.03 * run.kappa)


def sharpness(run: Run) -> float:
    """Falls with kappa, ten times slower without a scaling."""
    return run.jitter * 60 / (1 + run.kappa / (40 if run.scaling == "none" else 4))


#: Quantity -> value: of every record, of the last probe step, of the last step reached, and of a network that finished.
PLANTED: Mapping[str, Formula] = {
    "training_loss": lambda run: 0.3 * run.jitter,
    "beyond_share": beyond_share,
    "update_cosine": lambda run: run.jitter * 0.3 / (run.kappa + 0.5),
    "participation_ratio": rank,
    "stable_rank": rank,
    "entropy_rank": rank,
    "sharpness": sharpness,
    "step_norm": step_norm,
    "largest_loss_ratio": lambda run: 1e6 if failure(run) else 1.2,
    "test_accuracy": accuracy,
}
RECORDED = ("training_loss", "beyond_share", "update_cosine")
PROBED = ("participation_ratio", "stable_rank", "entropy_rank", "sharpness")


def sharpness_at_start(run: Run) -> float:
    """lambda_Xi(0), the same at all kappas: largest at r = 2, smallest in the narrow network of r = 0."""
    own = Run(run.network, run.scaling, run.schedule, 1.0, run.seed).jitter
    return own * {FLAT: 8.0, NARROW: 6.0}.get(run.network, 10.0)


def sweep(
    fails: Callable[[Run], str | None] = failure,
    at_start: Formula = sharpness_at_start,
    kappas: Sequence[float] = KAPPAS,
    aware: Sequence[float] = (0.5, 1.0, 1.5),
    groups: Sequence[tuple[str, str]] = (*GROUPS, *EXTRA),
    seeds: Sequence[int] = SEEDS,
    data: str = "mnist",
    loss: str = "cross_entropy",
    **changes: Formula,
) -> pd.DataFrame:
    """The table of the artefacts on descent, with the settings among its attributes; ``changes`` replace a formula."""
    runs = [Run(*group, "constant", k, seed) for group in groups for k in kappas for seed in seeds]
    runs += [Run(QUADRATIC, "none", AWARE, k, seed) for k in aware for seed in seeds]
    planted = {**PLANTED, **changes}
    table = frame([row for run in runs for row in _rows(run, fails(run), at_start, planted)])
    networks = {label: {"pattern": 2 if label.startswith(QUADRATIC) else 0, "data": None} for label, _ in groups}
    if FASHION in networks:
        networks[FASHION]["data"] = {"name": "fashion_mnist"}
    table.attrs["provenance"] = {
        "spec": {"data": {"name": data}, "loss": loss, "networks": networks, "steps": STEPS, "kappas": list(kappas)}
    }
    return table


def _rows(run: Run, failed: str | None, at_start: Formula, planted: Mapping[str, Formula]) -> Iterator[dict]:
    rate = math.nan if run.schedule == AWARE else run.kappa * 2 / at_start(run)
    keys = {
        "run_id": f"{run.network} {run.scaling} {run.schedule}", "case": run.schedule, "series": run.network,
        "scaling": run.scaling, "parameterization": "EOC", "optimizer": "sgd", "learning_rate": rate, "c": run.kappa,
        "width": 32, "depth": LAYERS, "input_dim": 784, "output_dim": 10, "n_inputs": BATCH, "seed": run.seed,
    }  # fmt: skip
    last = STEPS if failed is None else RECORD_EVERY + 3
    for quantity, step, value in _values(run, failed, last, planted):
        probe = quantity in PROBED
        layer = LAYERS - 1 if probe and quantity != "sharpness" else 0
        own = {"estimator": "Lanczos", "index": 1} if quantity == "sharpness" else {"estimator": "training"}
        yield keys | {"quantity": quantity, "step": step, "layer": layer, "value": float(value)} | own


def _values(
    run: Run, failed: str | None, last: int, planted: Mapping[str, Formula]
) -> Iterator[tuple[str, int, float]]:
    for quantity in RECORDED:
        for step in range(RECORD_EVERY, last + 1, RECORD_EVERY):
            yield quantity, step, planted[quantity](run)
    for quantity in PROBED:
        yield quantity, 0, 15.0 if quantity == "sharpness" else 3.0
        if failed is None:
            yield quantity, STEPS, planted[quantity](run)
    for quantity in ("step_norm", "largest_loss_ratio"):
        yield quantity, last, planted[quantity](run)
    if failed is None:
        yield "test_accuracy", STEPS, planted["test_accuracy"](run)
    else:
        yield failed, last, last


def all_tables(**changes) -> dict[str, pd.DataFrame]:
    """Artefact -> table in which what is claimed holds; ``changes`` are those of :func:`sweep`."""
    table = sweep(**changes)
    artefacts = ("beos_fig1", "beos_fig2", "beos_fig3", "beos_fig4", "beos_fig5", "beos_table1")
    return dict.fromkeys(artefacts, table)
