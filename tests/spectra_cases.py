"""Stage tables in which every claim about spectra and curves over the width holds, and ways to break one of them."""

from __future__ import annotations

import math

import pandas as pd
from sweep_cases import WIDTHS, Formula, sweep_table

STEPS = 100
RATE = 0.8
EDGE = 2 / RATE
PLAIN, SKIPS = "tau = 0", "tau = 1"


def jitter(seed: int) -> float:
    """The same factor at every width, so that seeds differ and coefficients of variation do not."""
    return 1 + 0.01 * seed


def loss(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Departs from the widest network like t."""
    return (0.5 + 0.004 * step / math.sqrt(width)) * jitter(seed)


def spectrum(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
    """Ten eigenvalues: the further down, the more they depend on the width; none moves in time."""
    return [2 / rate / k * (1 + 0.02 * k / math.sqrt(width)) * jitter(seed) for k in range(1, 11)]


def reversed_spectrum(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
    """The first eigenvalue depends most on the width."""
    return [2 / rate / k * (1 + 0.02 * (11 - k) / math.sqrt(width)) * jitter(seed) for k in range(1, 11)]


def ntk(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
    """Departs from the widest network like t^2."""
    return [(3 + (0.01 + 0.001 * step**2) / math.sqrt(width)) * jitter(seed) / k for k in range(1, 11)]


def trace(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Depends on the width at first."""
    return 10 * (1 + (1 - 0.8 * step / STEPS) / math.sqrt(width)) * jitter(seed)


SPECTRA: dict[str, Formula] = {"sharpness": spectrum, "ntk_eigenvalue": ntk, "hessian_trace": trace}


def spectra(labels: tuple[str, ...] = (PLAIN,), **changes: Formula) -> pd.DataFrame:
    """The table of Figure 2, 3 or 23; ``changes`` replace the loss or the formula of a quantity."""
    curve = changes.pop("loss", loss)
    widths = {PLAIN: WIDTHS, SKIPS: WIDTHS[:4]}
    return sweep_table(curve, SPECTRA | changes, labels, {label: widths[label] for label in labels}, (RATE,))


def full_batch(late: float = 1.0) -> pd.DataFrame:
    """The table of Figure 9: the sharpness goes from 0.3 to ``late`` times 2/eta_0."""

    def sharpness(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
        return [2 / rate * (late if step >= 30 else 0.3) * jitter(seed)]

    return sweep_table(loss, {"sharpness": sharpness}, ("Depth-muP",), WIDTHS[:3], (RATE,))


def residuals(rises: dict[str, float] | None = None) -> pd.DataFrame:
    """The table of Figure 11: at the largest width the eigenvalue ends at ``rises`` times its start."""
    rises = rises or {"muP": 2.0, "NTP": 0.5}

    def eigenvalue(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
        return [(1.0 if step < 30 else rises[label]) * jitter(seed)]

    def residual(label: str, width: int, rate: float, step: int, seed: int) -> float:
        return 1 / (1 + 0.02 * step) + 0.01 * seed

    quantities = {"gauss_newton_eigenvalue": eigenvalue, "residual_norm": residual}
    return sweep_table(loss, quantities, ("muP", "NTP"), WIDTHS, {"muP": (RATE,), "NTP": (8.0,)})


def directional(slope: float = 0.0) -> pd.DataFrame:
    """The table of Figure 27: curvature along the gradient, proportional to the width to the power of ``slope``."""

    def curvature(label: str, width: int, rate: float, step: int, seed: int) -> float:
        return (30.0 if step == 0 else 2.0) * width**slope * jitter(seed)

    labels = ("muP, no skips", "Depth-muP")
    return sweep_table(loss, {"directional_sharpness": curvature}, labels, WIDTHS[:4], (RATE,))


def all_tables() -> dict[str, pd.DataFrame]:
    """Artefact -> table in which what the paper claims holds."""
    return {
        "sc_fig02": spectra(),
        "sc_fig03": spectra(),
        "sc_fig23": spectra((PLAIN, SKIPS)),
        "sc_fig09": full_batch(),
        "sc_fig11": residuals(),
        "sc_fig27": directional(),
    }
