"""Stage tables of training beyond the edge of stability in which the claims hold, with networks that explode and die.

Numbers are planted, near those of the pre-study: without a scaling, or at r = 0, networks explode from some kappa on;
at r = 2 with rel1 they train up to kappa = 32, with larger ranks and smaller sharpness, and die at 48.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from featurespeed.records import frame

NARROW, MIDDLE, QUADRATIC, BASE = "r = 0", "r = 1", "r = 2", "r = 0, base width of r = 2"
NETWORKS = {NARROW: 168, MIDDLE: 86, QUADRATIC: 32, BASE: 32}  # label -> width of the first hidden layer
KAPPAS = (0.5, 2.0, 8.0, 16.0, 24.0, 32.0, 48.0)
GEOMETRIC_KAPPAS = (0.5, 1.0, 1.5)
EVERYWHERE, AT_QUADRATIC = ("none", "norm1", "rel1"), ("norm2", "rel2", "gradn", "fsf")
KINDS = ("rel1", "fsf", "norm1", "gradn", "none", "rel2", "norm2")  # scalings, from the largest ranks to the smallest
LAYERS, EDGE_AT_START = 5, 20.0  # weight matrices; lambda_Xi(0) of seed 0

#: Scaling -> kappa from which on a network explodes, at r = 0 (and near it) and at r = 2.
LIMITS = {
    "none": (16, 24), "norm1": (24, 48), "rel1": (16, math.inf), "norm2": (8, 8), "rel2": (16, 16), "gradn": (24, 24),
    "fsf": (48, 48),
}  # fmt: skip

#: What became of a network: which failure, and at which step; None if it was trained to the end.
Failure = tuple[str, int] | None


@dataclass(frozen=True)
class Case:
    """One run: its keys, and how long it lasts."""

    network: str
    scaling: str
    schedule: str
    kappa: float
    seed: int
    failure: Failure
    steps: int

    @property
    def end(self) -> int:
        """Last step that it reaches."""
        return self.failure[1] if self.failure else self.steps

    @property
    def jitter(self) -> float:
        """The same factor for all values of a run; another one for each seed and kappa."""
        return 1 + 0.03 * (self.seed % 10 - 1) + 0.02 * math.sin(5 * self.kappa + self.seed)

    @property
    def strength(self) -> float:
        """How far beyond the edge the run is; geometry-aware ones are in units of the edge of every step."""
        return self.kappa * 10 if self.schedule == "geometry-aware" else self.kappa


def fails(network: str, scaling: str, schedule: str, kappa: float, seed: int, steps: int) -> Failure:
    """Explosions sooner for larger kappa; the step from ``LIMITS`` has one seed that survives."""
    if schedule == "geometry-aware":
        return None
    if scaling == "rel1" and network == QUADRATIC:
        return ("dead_step", int(steps * (0.5 + 0.08 * (seed % 5)))) if kappa >= 48 else None
    limit = LIMITS[scaling][network == QUADRATIC]
    if kappa < limit or (kappa == limit and seed % 5 == 1):
        return None
    return "diverged_step", max(2, int(0.7 * steps * (0.6 + 0.1 * (seed % 5)) * limit / kappa))


# --- what is measured, at a step of a run -----------------------------------------------------------------------------

Formula = Callable[[Case, int], float]


def loss(run: Case, step: int) -> float:
    """Falls, faster for larger steps; noise beyond the edge, and up at the end of an explosion."""
    share = step / run.steps
    falling = 2.3 * run.jitter * math.exp(-4 * share * min(1, (0.4 + run.strength / 8)))
    noise = 1 + 0.15 * math.tanh(run.strength / 16) * math.sin(step * 1.7 + run.seed)
    exploding = run.failure and run.failure[0] == "diverged_step" and step > 0.8 * run.end
    return (falling + 0.02) * noise * (50 if exploding else 1)


def sharpness(run: Case, step: int) -> float:
    """Rises to the edge below it, falls beyond it; five times smaller at kappa = 32 than at 0.5."""
    share = step / run.steps
    own = (1 + 0.15 * KINDS.index(run.scaling)) * (1 if run.network == QUADRATIC else 1.3)
    return 15 * run.jitter * (1 + share * (own * 10 / (0.5 + run.strength**0.7) - 0.9))


def participation(run: Case, layer: int) -> float:
    """Rank at the end: grows with kappa, up to a network that dies."""
    growth = 2.2 * (1 - 0.12 * KINDS.index(run.scaling)) * (1 if run.network == QUADRATIC else 0.8)
    return (1.2 + growth * run.strength**0.4) * run.jitter * (1 - 0.06 * (LAYERS - 1 - layer))


def rank(run: Case, step: int, layer: int = LAYERS - 1) -> float:
    """From 3 at the start to that of the end."""
    share = 1 - math.exp(-5 * step / run.steps)
    return 3 * (1 - share) + participation(run, layer) * share


RECORDED: dict[str, Formula] = {
    "training_loss": loss,
    "beyond_share": lambda run, step: min(1.0, 0.1 + 0.12 * run.strength**0.6 * run.jitter),
    "update_cosine": lambda run, step: 0.3 / (run.strength * run.jitter) + 0.2 / (1 + step),
    "curvature_ratio": lambda run, step: (run.kappa if run.schedule == "geometry-aware" else
                                          0.5 * run.strength**0.5 * run.jitter * (1 + 0.2 * math.sin(step))),
}  # fmt: skip
PROBED: dict[str, Formula] = {
    "sharpness": sharpness,
    "scaled_sharpness": lambda run, step: (
        EDGE_AT_START * run.jitter * (1 + step / run.steps * (2 / (0.5 + run.strength**0.9) - 0.5))
    ),
    "stable_rank": lambda run, step: 1 + 0.2 * rank(run, step),
    "entropy_rank": lambda run, step: 2.5 * rank(run, step),
    "gradient_soft_rank": lambda run, step: 0.7 * rank(run, step),
}


@dataclass(frozen=True)
class Sweep:
    """What a table holds; change a part of it to break a claim."""

    kappas: Sequence[float] = KAPPAS
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    few_seeds: Sequence[int] = (0, 1, 2)
    steps: int = 200
    record_every: int = 10
    probes: Sequence[int] = (0, 10, 25, 50, 100, 150, 200)
    networks: Mapping[str, Sequence[str]] = field(default_factory=lambda: dict.fromkeys(NETWORKS, EVERYWHERE))
    few: Sequence[str] = AT_QUADRATIC
    geometric: Sequence[float] = GEOMETRIC_KAPPAS
    shown: Sequence[float] = (0.5, 8.0, 32.0)
    failure: Callable[..., Failure] = fails
    formulas: Mapping[str, Formula] = field(default_factory=dict)

    def runs(self) -> Iterator[Case]:
        """Every run, in the order of the networks."""
        groups = [(name, scaling, "constant", self.kappas, self.seeds) for name, own in self.networks.items()
                  for scaling in own]  # fmt: skip
        groups += [(QUADRATIC, scaling, "constant", self.kappas, self.few_seeds) for scaling in self.few]
        if self.geometric:
            groups.append((QUADRATIC, "rel1", "geometry-aware", self.geometric, self.seeds))
        for name, scaling, schedule, kappas, seeds in groups:
            for kappa in kappas:
                for seed in seeds:
                    failure = self.failure(name, scaling, schedule, kappa, seed, self.steps)
                    yield Case(name, scaling, schedule, kappa, seed, failure, self.steps)

    def table(self) -> pd.DataFrame:
        """The long table, with its settings as a file has them."""
        found = frame([row for run in self.runs() for row in self._rows(run)])
        found.attrs["provenance"] = {"spec": {
            "artefact": "beos_fig1", "steps": self.steps, "record_every": self.record_every,
            "probe_steps": list(self.probes), "kappas": list(self.kappas), "shown": list(self.shown),
            "seeds": len(self.seeds),
        }}  # fmt: skip
        return found

    def _rows(self, run: Case) -> Iterator[dict[str, object]]:
        geometric = run.schedule == "geometry-aware"
        rate = math.nan if geometric else run.kappa * 2 / (EDGE_AT_START * run.jitter)
        keys = {
            "series": run.network, "scaling": run.scaling, "case": run.schedule, "c": run.kappa, "seed": run.seed,
            "parameterization": "EOC", "optimizer": "sgd", "learning_rate": rate, "width": NETWORKS[run.network],
            "depth": LAYERS, "input_dim": 784, "output_dim": 10, "n_inputs": 128, "estimator": "training",
            "run_id": f"{run.network} {run.scaling} {run.schedule}",
        }  # fmt: skip
        for quantity, step, layer, value in self._values(run, geometric):
            own = {"estimator": "Lanczos", "index": 1} if quantity.endswith("sharpness") else {}
            yield keys | {"quantity": quantity, "step": step, "layer": layer, "value": float(value)} | own

    def _values(self, run: Case, geometric: bool) -> Iterator[tuple[str, int, int, float]]:
        # A network that fails has a record of the steps since the last one.
        partial = {run.end} if run.failure and run.end else set()
        for step in sorted({*range(self.record_every, run.end + 1, self.record_every)} | partial):
            for quantity, formula in (RECORDED | dict(self.formulas)).items():
                if quantity in RECORDED:
                    yield quantity, step, 0, formula(run, step)
            if geometric:
                yield "step_size", step, 0, run.kappa * 0.1 * run.jitter * (1 + 2 * step / run.steps)
        for step in (step for step in self.probes if step <= run.end):
            for quantity, formula in (PROBED | dict(self.formulas)).items():
                if quantity in PROBED:
                    yield quantity, step, LAYERS - 1 if "rank" in quantity else 0, formula(run, step)
            for layer in range(1, LAYERS):
                yield "participation_ratio", step, layer, rank(run, step, layer)
        yield from self._at_the_end(run)

    def _at_the_end(self, run: Case) -> Iterator[tuple[str, int, int, float]]:
        exploded = run.failure is not None and run.failure[0] == "diverged_step"
        yield "largest_loss_ratio", run.end, 0, 10.0 ** (4 + run.seed) if exploded else 1 + 0.05 * run.strength**0.8
        yield "step_norm", run.end, 0, 0.9 * run.jitter
        if run.failure is None:
            yield "test_loss", run.end, 0, 0.3 * run.jitter
            yield "test_accuracy", run.end, 0, 0.9 + 0.003 * run.seed
        else:
            layer = 2 + run.seed % 2 if run.failure[0] == "dead_step" else 0
            yield run.failure[0], run.failure[1], layer, float(run.failure[1])


FULL = Sweep()
#: Fast to build: all kinds of networks, four kappas, three seeds.
SMALL = Sweep(
    kappas=(0.5, 8.0, 32.0, 48.0), seeds=(0, 1, 2), steps=40, probes=(0, 20, 40), networks={
        NARROW: ("none", "rel1"), QUADRATIC: ("none", "rel1")
    }, few=("gradn",),
)  # fmt: skip


def broken(**changes: object) -> pd.DataFrame:
    """The small table with a part of it changed: ``formulas={quantity: formula}``, ``failure=...``, ``kappas=...``."""
    return replace(SMALL, **changes).table()


def never(*_: object) -> Failure:
    """No network fails."""
    return None


def equal(values: np.ndarray, expected: float) -> bool:
    """Whether all values that are there are the expected one."""
    return bool(np.allclose(values[~np.isnan(values)], expected))
