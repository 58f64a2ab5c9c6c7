"""Stage tables in which the claims about residual networks on larger images hold (Figures 17, 18 and 19)."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pandas as pd

from featurespeed.papers.super_consistency.images.spec import DEPTH_MUP, NO_ROOT
from featurespeed.papers.super_consistency.shared import MUP, NTP
from tests.papers.super_consistency.transfer_cases import jitter
from tests.sweeps.cases import Formula, sweep_table

WIDTHS, DEPTHS = (16, 32, 64, 128), (3, 6, 12, 24)
LABELS = {"sc_fig17": (MUP, NTP), "sc_fig18": (DEPTH_MUP, NO_ROOT), "sc_fig19": (MUP, NTP)}
RATES = {
    MUP: (0.125, 0.25, 0.5, 1.0, 2.0), NTP: (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0),
    DEPTH_MUP: (0.125, 0.25, 0.5, 1.0, 2.0), NO_ROOT: (0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0),
}  # fmt: skip
MEASURED = {MUP: (0.25, 0.5), NTP: (2.0, 4.0), DEPTH_MUP: (0.25, 0.5), NO_ROOT: (0.0625, 0.125)}
#: Best rate of the smallest size; exponents in the size of the best rate and of the sharpness late in training.
SMALLEST = {MUP: 0.5, NTP: 8.0, DEPTH_MUP: 0.5, NO_ROOT: 0.5}
SHIFTS = {MUP: 0.05, NTP: 0.8, DEPTH_MUP: -0.1, NO_ROOT: -0.7}
SLOPES = {MUP: 0.02, NTP: -0.5, DEPTH_MUP: -0.03, NO_ROOT: 0.4}


def grown(label: str, size: int, exponents: dict[str, float]) -> float:
    """The size over the smallest one, to a power."""
    return (size / (WIDTHS if label in (MUP, NTP) else DEPTHS)[0]) ** exponents[label]


def loss(label: str, size: int, rate: float, step: int, seed: int) -> float:
    """A parabola in the logarithms around the best rate; larger networks are the better ones."""
    best = SMALLEST[label] * grown(label, size, SHIFTS)
    late = (0.8 + 0.05 * math.log2(rate / best) ** 2) * size**-0.05
    return (late + 0.9 * math.exp(-step / 10)) * jitter(label, size, rate, step, seed)


def sharpness(label: str, size: int, rate: float, step: int, seed: int) -> float:
    """Rises from a tenth of 2/eta_0 nearly to that, of NTP at the rate 2; less, and later, in wider networks of NTP."""
    level = 0.9 * (min(rate, 4.0) / 2 if label == NTP else 1.0)
    own = level * 2 / rate * grown(label, size, SLOPES)
    return own * min(1.0, 0.1 + step / 40) * jitter(label, size, rate, step, seed)


def table(
    name: str, change_loss: Formula = loss, change_sharpness: Formula = sharpness, **options: Any
) -> pd.DataFrame:
    """The runs of one figure; functions of a label may be changed for tests."""
    labels, over_depth = LABELS[name], name == "sc_fig18"
    change_loss, change_sharpness = (_of_seeds(name, formula) for formula in (change_loss, change_sharpness))
    chosen = {"labels": labels, "rates": {label: RATES[label] for label in labels}, "measured": MEASURED, "seeds": 5}
    chosen |= {"widths": (32,), "depths": DEPTHS} if over_depth else {"widths": WIDTHS, "depths": (3,)}
    return sweep_table(change_loss, {"sharpness": change_sharpness}, **(chosen | options))


def _of_seeds(name: str, formula: Formula) -> Formula:
    """Figures 17 and 19 are alike: one has other seeds."""
    first = 10 if name == "sc_fig19" else 0
    return lambda label, size, rate, step, seed: formula(label, size, rate, step, first + seed)


@cache
def image_tables() -> dict[str, pd.DataFrame]:
    """Artefact -> table."""
    return {name: table(name) for name in LABELS}
