"""Stage tables in which the claims about the edge of stability hold, and ways to break one of them."""

from __future__ import annotations

import math

import pandas as pd

from tests.papers.super_consistency.transfer_cases import transfer_table
from tests.sweeps.cases import WIDTHS, Formula, sweep_table
from tests.sweeps.spectra_cases import RATE, jitter, loss


def full_batch(late: float = 1.0, power: float = 0.0) -> pd.DataFrame:
    """The table of Figure 9: the sharpness goes from 0.3 to ``late`` times 2/eta_0, times (N / 16)^``power``."""

    def sharpness(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
        return [2 / rate * (late if step >= 30 else 0.3) * (width / 16) ** (power + 0.002 * seed) * jitter(seed)]

    return sweep_table(loss, {"sharpness": sharpness}, ("Depth-muP",), WIDTHS[:3], (RATE,))


def residuals(rises: dict[str, float] | None = None, share: float = 0.95, augmented: float = 1.05) -> pd.DataFrame:
    """The table of Figure 11: from 0.4 of the edge on, the eigenvalue rises as under muP at the smallest width, and to
    ``rises`` times its start at the largest. It is a ``share`` of the sharpness, and what is left the residual's.
    On augmented images the sharpness is ``augmented`` times as large.
    """
    rises = rises or {"muP": 2.0, "NTP": 0.5}

    def eigenvalue(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
        part = WIDTHS.index(width) / (len(WIDTHS) - 1)
        rise = rises["muP"] if label == "muP" else rises["muP"] * (rises["NTP"] / rises["muP"]) ** part
        own = 1 + 0.002 * math.sin(width + 7.0 * seed + len(label))  # of each network, from the first step on
        return [0.4 * own * 2 / rate * (own if step < 30 else rise) * jitter(seed)]

    def whole(*place) -> list[float]:
        return [eigenvalue(*place)[0] / (share * (1 + 0.001 * place[-1]))]

    def on_augmented(*place) -> list[float]:
        return [augmented * (1 + 0.001 * place[-1]) * whole(*place)[0]]

    def rest(*place) -> list[float]:
        return [eigenvalue(*place)[0] * (1 / share - 1)]

    def residual(label: str, width: int, rate: float, step: int, seed: int) -> float:
        return 1 / (1 + 0.02 * step) + 0.01 * seed

    quantities = {"gauss_newton_eigenvalue": eigenvalue, "residual_norm": residual}
    quantities |= {"sharpness": whole, "augmented_sharpness": on_augmented, "residual_eigenvalue": rest}
    return sweep_table(loss, quantities, ("muP", "NTP"), WIDTHS, {"muP": (RATE,), "NTP": (8.0,)})


def directional(slope: float = 0.0, sharpness: Formula | None = None) -> pd.DataFrame:
    """The table of Figure 27: curvature along the gradient, proportional to the size to the power of ``slope``: the
    width, or under Depth-muP the depth.
    """

    def curvature(label: str, width: int, rate: float, step: int, seed: int) -> float:
        return (30.0 if step == 0 else 2.0) * width ** (slope + 0.002 * seed) * jitter(seed)

    labels = ("muP, no skips", "Depth-muP")
    quantities = {"directional_sharpness": curvature, "sharpness": sharpness or begins_below}
    table = sweep_table(loss, quantities, labels, WIDTHS[:4], (RATE,))
    deep = table["series"] == "Depth-muP"
    depth = (3 * table["width"] // WIDTHS[0]).where(deep, table["depth"])
    return table.assign(depth=depth, width=table["width"].where(~deep, WIDTHS[1]))


def begins_below(label: str, width: int, rate: float, step: int, seed: int) -> list[float]:
    """A sharpness of 0.6 times 2/eta_0."""
    return [0.6 * 2 / rate * jitter(seed)]


def all_tables() -> dict[str, pd.DataFrame]:
    """Artefact -> table in which what the paper claims holds; NTP in the runs of Figure 1 is a control."""
    return {"sc_fig01": transfer_table(), "sc_fig09": full_batch(), "sc_fig11": residuals(), "sc_fig27": directional()}
