"""What a variant is compared by: the best learning rate of every seed and width, and where it lets training start.

One number a seed, means over the widths being those of logarithms. Variants and their base share seeds and batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurespeed.sweeps.optima import Optima, optima
from featurespeed.sweeps.transfer import late_losses, of_network, settings

SPAN = 16  # ratio of widths over which shifts are stated
HESSIAN = "sharpness"


@dataclass(frozen=True)
class Variant:
    """One network.

    Attributes:
        optima: its best learning rates, ``[seeds, S]``.
        sharpness: at step 0, ``[seeds, S]``, the same at every learning rate.
        converged: whether all of these eigenvalues are.
    """

    label: str
    optima: Optima
    sharpness: np.ndarray
    converged: bool

    def log2_rates(self) -> np.ndarray:
        """Logarithm to base 2 of the best learning rate, mean over widths, ``[seeds]``."""
        return self.optima.log2_rates.mean(1)

    def levels(self) -> np.ndarray:
        """``sharpness(0) * eta_0 / 2`` at the best learning rate, geometric mean over widths, ``[seeds]``.

        1 at the edge of stability.
        """
        return np.exp((np.log(self.sharpness / 2) + np.log(2) * self.optima.log2_rates).mean(1))

    def shifts(self) -> np.ndarray:
        """Shift of the best learning rate over a factor 16 in the width, in steps of 2, ``[seeds]``."""
        return self.optima.shifts(SPAN)


def families(table: pd.DataFrame) -> dict[str, list[str]]:
    """Label of a base -> the networks of its family: the base, what differs in one choice, then other conventions.

    Shallow families come first.
    """
    spec = settings(table)
    models = {label: network["model"] for label, network in spec["networks"].items()}

    def place(label: str) -> tuple[bool, str]:
        return models[label]["convention"] != models[spec["base"][label]]["convention"], label

    bases = sorted(set(spec["base"].values()), key=lambda base: (models[base]["depth"], base))
    return {base: [base, *sorted((k for k, v in spec["base"].items() if v == base), key=place)] for base in bases}


def variant(table: pd.DataFrame, label: str) -> Variant:
    """One network of a stage table.

    Raises:
        ValueError: its sharpness at step 0 is not there.
    """
    rows = of_network(table, label)
    start = rows[(rows["quantity"] == HESSIAN) & (rows["step"] == 0)]
    if start.empty:
        raise ValueError(f"{label}: no sharpness at step 0")
    start = start[start["learning_rate"] == start["learning_rate"].min()]  # the same at all of them
    sharpness = start.pivot(index="seed", columns="width", values="value").to_numpy()
    return Variant(label, optima(late_losses(rows)), sharpness, bool(start["converged"].all()))
