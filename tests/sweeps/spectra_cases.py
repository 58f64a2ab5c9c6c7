"""Spectra and curves over the width from formulas: distances that grow, spreads that are told apart, and opposites."""

from __future__ import annotations

import math

import pandas as pd

from tests.sweeps.cases import WIDTHS, Formula, sweep_table

STEPS = 100
RATE = 0.8
EDGE = 2 / RATE
BELOW = 0.9  # share of the edge at which the sharpness lies
PLAIN, SKIPS = "tau = 0", "tau = 1"


def jitter(seed: int) -> float:
    """The same factor at every width, so that seeds differ, but not in how a quantity depends on the width."""
    return 1 + 0.01 * seed


def loss(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Departs from the widest network like t."""
    return (0.5 + 0.004 * step / math.sqrt(width)) * jitter(seed)


def spectrum(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
    """Ten eigenvalues: the further down, the more they depend on the width; none moves in time."""
    return [BELOW * 2 / rate / k * _near(width) * (width / 8) ** (-0.02 * (k - 1)) * jitter(seed) for k in range(1, 11)]


def reversed_spectrum(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
    """The first eigenvalue depends most on the width."""
    return [
        BELOW * 2 / rate / k * _near(width) * (width / 8) ** (-0.02 * (10 - k) * jitter(seed)) * jitter(seed)
        for k in range(1, 11)
    ]


def _near(width: int) -> float:
    """Departs from infinite width, but too little to be called dependence on the width."""
    return 1 + 0.02 / math.sqrt(width)


def ntk(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
    """Departs from the widest network like t^2."""
    return [(3 + (0.01 + 0.001 * step**2) / math.sqrt(width)) * jitter(seed) / k for k in range(1, 11)]


def trace(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Depends on the width at first."""
    return 10 * (1 + 3 * (1 - 0.8 * step / STEPS) / math.sqrt(width)) * jitter(seed)


SPECTRA: dict[str, Formula] = {"sharpness": spectrum, "ntk_eigenvalue": ntk, "hessian_trace": trace}


def spectra(labels: tuple[str, ...] = (PLAIN,), seeds: int = 3, **changes: Formula) -> pd.DataFrame:
    """A table of spectra along training; ``changes`` replace the loss or the formula of a quantity."""
    curve = changes.pop("loss", loss)
    widths = {PLAIN: WIDTHS, SKIPS: WIDTHS[:4]}
    return sweep_table(
        curve, SPECTRA | changes, labels, {label: widths[label] for label in labels}, (RATE,), seeds=seeds
    )
