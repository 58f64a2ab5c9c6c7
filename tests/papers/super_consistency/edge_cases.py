"""Stage tables in which the claims about the edge of stability hold, and ways to break one of them."""

from __future__ import annotations

import pandas as pd

from tests.sweeps.cases import WIDTHS, sweep_table
from tests.sweeps.spectra_cases import PLAIN, RATE, SKIPS, jitter, loss, spectra


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
    """Artefact -> table in which what the paper claims holds; one claim compares with minibatches of another room."""
    return {
        "sc_fig09": full_batch(),
        "sc_fig11": residuals(),
        "sc_fig27": directional(),
        "sc_fig23": spectra((PLAIN, SKIPS)),
    }
