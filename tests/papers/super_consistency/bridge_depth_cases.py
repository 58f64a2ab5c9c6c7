"""Stage tables of ``sc_bridge_depth`` in which the angle at the start says how the best learning rate shifts."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from featurespeed.papers.super_consistency.bridge.spec import OVER_DEPTH
from tests.sweeps.cases import sweep_table

DEPTHS = (3, 6, 12, 24)
RATES = tuple(2.0**power for power in range(-6, 4))
#: Network -> exponent in the depth of its best learning rate, and minus that of 1/cos, S, speed and sharpness.
LAWS = dict(zip(OVER_DEPTH, (0.0, 0.5, -1.0, -0.25), strict=True))
Law = Callable[[str], float]


def law(label: str) -> float:
    """That of :data:`LAWS`."""
    return LAWS[label]


def noise(label: str, seed: int, quantity: int) -> float:
    """How much an exponent differs from seed to seed, each network and quantity in its own way."""
    return 0.02 * math.sin(1000.0 * seed + 7.0 * OVER_DEPTH.index(label) + 13.0 * quantity)


def depth_bridge_table(best: Law = law, start: Law = law, seeds: int = 4, depths=DEPTHS, **options) -> pd.DataFrame:
    """All four networks; ``best`` is the exponent of the best learning rate, ``start`` minus that of the rest."""

    def loss(label, depth, rate, step, seed):
        optimum = (depth / 3) ** (best(label) + noise(label, seed, 0))
        return 0.1 + 0.1 * math.log2(rate / optimum) ** 2 + math.exp(-step / 20)

    def power(label: str, depth: int, seed: int, quantity: int) -> float:
        exponent = -start(label) + noise(label, seed, quantity)
        return math.nan if math.isnan(exponent) else (depth / 3) ** exponent

    measured = {
        "sharpness": lambda label, depth, rate, step, seed: 1.5 * power(label, depth, seed, 1),
        "feature_sensitivity": lambda label, depth, rate, step, seed: 3 * power(label, depth, seed, 2),
        "feature_speed_rms": lambda label, depth, rate, step, seed: 0.2 * power(label, depth, seed, 3),
        "bfa": lambda label, depth, rate, step, seed: math.acos(0.05 / power(label, depth, seed, 4)),
        "loss_decay": lambda label, depth, rate, step, seed: 1.0,
    }
    settings = {"measured": dict.fromkeys(OVER_DEPTH, (0.25,)), "rates": RATES, "seeds": seeds} | options
    return sweep_table(loss, measured, OVER_DEPTH, widths=(8,), depths=depths, **settings)
