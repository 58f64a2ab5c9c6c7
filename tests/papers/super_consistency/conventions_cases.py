"""Networks of the comparison of conventions, and stage tables in which its claims hold."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from tests.papers.super_consistency.transfer_cases import transfer_table
from tests.sweeps.cases import sweep_table

SIMPLE = {"kind": "simple_convnet", "depth": 2, "convention": "authors", "strides": [1, 2]}
CONVNET = {"kind": "convnet", "depth": 3, "convention": "authors", "strides": [1]}
MODELS = {
    "2-layer ConvNet, ours": {"kind": "convnet", "depth": 2, "convention": "ours"},
    "3-layer ConvNet, ours": {"kind": "convnet", "depth": 3, "convention": "ours"},
    "ConvNet": CONVNET,
    "ConvNet, average pooling": CONVNET | {"pooling": "average"},
    "ConvNet, without the nine": CONVNET | {"fan_in": "channels"},
    "SimpleConvNet": SIMPLE,
    "SimpleConvNet, average pooling": SIMPLE | {"pooling": "average"},
    "SimpleConvNet, stride 1": SIMPLE | {"strides": [1, 1]},
    "SimpleConvNet, without the nine": SIMPLE | {"fan_in": "channels"},
}
BASE = {label: "SimpleConvNet" if "Simple" in label or "2" in label else "ConvNet" for label in MODELS}
BASE = {label: base for label, base in BASE.items() if label != base}
#: log2 of the best learning rate, and the share of 2/eta_0 there at step 0.
BEST = {label: -2.0 if "nine" in label else 1.0 if "average" in label else 0.0 for label in MODELS}
START = {label: 0.5 if "ours" in label else 0.05 for label in MODELS}
WIDTHS = (8, 16, 32)
RATES = tuple(2.0**k for k in range(-4, 4))


def noise(label: str, width: int, seed: int) -> float:
    """Of the logarithms, by which seeds differ."""
    return 0.05 * math.sin(1000.0 * seed + 7.0 * width + sum(map(ord, label)))


def conventions(
    best: Mapping[str, float] | None = None,
    start: Mapping[str, float] | None = None,
    power: Mapping[str, float] | None = None,
    **options,
) -> pd.DataFrame:
    """The stage table.

    Args:
        best, start: instead of those of :data:`BEST` and :data:`START`.
        power: label -> exponent of the best learning rate in the width, 0 for the others.
    """
    best, start, power = BEST | dict(best or {}), START | dict(start or {}), power or {}

    def log2_best(label: str, width: int, seed: int) -> float:
        return best[label] + power.get(label, 0.0) * math.log2(width / 16) + noise(label, width, seed)

    def loss(label: str, width: int, rate: float, step: int, seed: int) -> float:
        return 0.2 + 0.02 * (math.log2(rate) - log2_best(label, width, seed)) ** 2 + 1.5 * math.exp(-step / 5)

    def sharpness(label: str, width: int, rate: float, step: int, seed: int) -> float:
        return start[label] * 2 / 2 ** log2_best(label, width, seed) * (1 + 0.1 * noise(label, width + 1, seed))

    networks = {label: {"model": model, "learning_rates": list(RATES)} for label, model in MODELS.items()}
    settings = {"data": {"name": "digits"}, "networks": networks, "base": BASE} | options
    return sweep_table(loss, {"sharpness": sharpness}, tuple(MODELS), WIDTHS, RATES, probe_steps=(0, 100), **settings)


def conventions_tables(*arguments, **options) -> dict[str, pd.DataFrame]:
    """Artefact -> table, with that of the runs that a control is taken from."""
    return {"sc_conventions": conventions(*arguments, **options), "sc_fig01": transfer_table()}
