"""Stage tables of ``sc_bridge`` in which the sensitivity says how the best learning rate shifts, or does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from featurespeed.papers.super_consistency.bridge.analysis import DECAYED, SHIFTED
from tests.sweeps.cases import sweep_table

WIDTHS, DEPTHS = (8, 16, 32, 64, 128), (2, 4, 8)
RATES = tuple(2.0**power for power in range(-5, 6))
PROBES = (0, 20, 40, 60, 80, 100)
#: Network -> power of the size with which its best learning rate and 1/S grow.
POWERS = {"muP": 0.0, "NTP": 0.5, "Depth-muP over depth": 0.0, "muP over depth": -1.0}
Power = Callable[[str], float]


def smallest(label: str) -> int:
    """The size at which the best learning rate is 1."""
    return DEPTHS[0] if "depth" in label else WIDTHS[0]


def bridge_table(power_of_best: Power | None = None, seeds: int = 3, **curvature: Callable) -> pd.DataFrame:
    """All six networks; ``power_of_best`` of the learning rate alone, ``curvature`` replaces quantities.

    The sharpness and the other quantities depend on the size in step, each network in its own time, and more in
    networks whose best learning rate moves more. All are below the edge; seeds differ a little.
    """

    def loss(label, size, rate, step, seed):
        best = (size / smallest(label)) ** ((power_of_best or power)(label) + 0.005 * seed)
        return 0.1 + 0.1 * math.log2(rate / best) ** 2 + math.exp(-step / 20)

    measured = {
        "sharpness": lambda label, size, rate, step, seed: 1.5 * wavering(label, size, step, seed),
        "feature_sensitivity": lambda label, size, rate, step, seed: (
            (size / smallest(label)) ** (0.002 * seed - power(label)) * grown(label, size, step)
        ),
        "feature_speed_rms": lambda label, size, rate, step, seed: grown(label, size, step),
        "bfa": lambda label, size, rate, step, seed: math.acos(0.1 * wavering(label, size, step, (seed + 1) % 3)),
        "loss_decay": lambda label, size, rate, step, seed: 1.0,
    }
    shared = {"loss": loss, "curvature": measured | curvature, "rates": RATES, "seeds": seeds, "probe_steps": PROBES}
    wide = [label for label in (*SHIFTED, *DECAYED.values()) if "depth" not in label]
    deep = [label for label in SHIFTED if "depth" in label]
    parts = [
        sweep_table(labels=wide, widths=WIDTHS, measured=dict.fromkeys(wide, (1.0,)), **shared),
        sweep_table(labels=deep, widths=(16,), depths=DEPTHS, measured=dict.fromkeys(deep, (1.0,)), **shared),
    ]
    return pd.concat(parts, ignore_index=True)


def power(label: str) -> float:
    """That of :data:`POWERS`; weight decay changes nothing."""
    return POWERS[label.split(", ")[0]]


def grown(label: str, size: int, step: int) -> float:
    """1 at the start and at the smallest size; a power of the size that grows with time, under muP hardly.

    Every second network has its largest one early, from where it falls.
    """
    name = label.split(", ")[0]
    speed = {"muP": 0.02, "NTP": 0.6, "Depth-muP over depth": 0.05, "muP over depth": 0.9}[name]
    late = step / 100 if name in ("muP", "Depth-muP over depth") or step == 0 else 1.2 - step / 100
    return (size / smallest(label)) ** (speed * late)


def wavering(label: str, size: int, step: int, seed: int) -> float:
    """:func:`grown`, but that seed 1 is late at the last step, and that seeds differ with weight decay."""
    decayed = (size / smallest(label)) ** (0.001 * seed * ("decay" in label))
    return decayed * grown(label, size, 70 if (step, seed) == (100, 1) else step)
