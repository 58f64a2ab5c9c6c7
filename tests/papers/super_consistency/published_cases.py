"""Stage tables of runs like the authors', whose curves go through the points read off their plots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from featurespeed.papers.super_consistency.published import published_points
from tests.sweeps.cases import Formula, sweep_table
from tests.sweeps.spectra_cases import PLAIN

WIDTHS = (8, 16, 32, 64, 128, 256, 512)
EIGENVALUES = range(1, 11)
STEPS = 1960
PROBES = (0, *range(100, STEPS, 100), STEPS)
SPREAD = 0.06  # of the seeds, relative

MODEL = {
    "kind": "convnet", "convention": "authors", "depth": 3, "tau": 0.0, "layers_per_block": 1, "activation": "relu",
    "readout": "flat",
}  # fmt: skip
NETWORK = {
    "model": MODEL, "parameterization": "MUP", "batch_size": 256,
    "optimizer": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0},
}  # fmt: skip
DATA = {"name": "cifar10", "pixels": "symmetric", "examples": None, "downscale": 1}


def seed_factor(seed: int) -> float:
    """1 - SPREAD, 1, 1 + SPREAD for the first three seeds, so that this is their standard deviation."""
    return 1 + SPREAD * (seed - 1)


@cache
def means(figure: str, quantity: str, width: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and mean points of a width, or of the nearest one that has some."""
    points = published_points(figure)
    own = points[(points["quantity"] == quantity) & (points["index"] == index)]
    nearest = min(own["width"].unique(), key=lambda other: abs(np.log(other / width)))
    found = own[own["width"] == nearest].groupby("step")["y"].mean()
    return found.index.to_numpy(), found.to_numpy()


def through(figure: str, quantity: str, width: int, step: float, index: int = 0) -> float:
    """The curve of a width through its points, linear between them."""
    return float(np.interp(step, *means(figure, quantity, width, index)))


def eigenvalues(quantity: str) -> Formula:
    """All eigenvalues of Figure 2, those that were not read between those that were."""
    points = published_points("2")
    known = sorted(points.loc[points["quantity"] == quantity, "index"].unique())

    def formula(_: str, width: int, rate: float, step: int, seed: int) -> list[float]:
        logs = [np.log(through("2", quantity, width, step, index)) for index in known]
        return [float(np.exp(np.interp(k, known, logs))) * seed_factor(seed) for k in EIGENVALUES]

    return formula


def loss(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """The widest network through its points, the others as far above as the gaps say that they are in the end."""
    gap = 0.0 if width >= 256 else through("3", "training_loss_gap", width, step) * min(step / 1000, 1.0)
    return (through("3", "training_loss", 512, step) + gap) * seed_factor(seed)


def kernel(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
    """Ten times the same eigenvalue, as far below that of the widest network as the gaps say."""
    gap = 0.0 if width >= 512 else through("23", "ntk_eigenvalue_gap", width, step, 1)
    return [(400 - gap) * (1 + SPREAD * (seed - 1) * gap / 400)] * len(EIGENVALUES)


def trace(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Through the points of Figure 23."""
    return through("23", "hessian_trace", width, step) * seed_factor(seed)


def like_theirs(
    curve: Formula = loss,
    seeds: int = 3,
    rate: float = 0.7,
    widths: Sequence[int] = WIDTHS,
    data: dict | None = None,
    **curvature: Formula,
) -> pd.DataFrame:
    """A table with the settings of the authors' runs."""
    network = NETWORK | {"learning_rates": [rate], "measured": None}
    return sweep_table(
        curve, {"sharpness": eigenvalues("sharpness")} | curvature, (PLAIN,), widths, (rate,), seeds=seeds,
        steps=STEPS, probe_steps=PROBES, networks={PLAIN: network}, data=DATA | (data or {}),
    )  # fmt: skip


@cache
def tables_like_theirs() -> dict[str, pd.DataFrame]:
    """Artefact -> table in which our curves go through the points."""
    return {
        "sc_fig02": like_theirs(ntk_eigenvalue=eigenvalues("ntk_eigenvalue"), hessian_trace=trace),
        "sc_fig03": like_theirs(ntk_eigenvalue=kernel, hessian_trace=trace),
        "sc_fig23": like_theirs(ntk_eigenvalue=kernel, hessian_trace=trace),
    }
