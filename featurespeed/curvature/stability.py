"""What `sharpness` returns: eigenvalues, the threshold of the optimizer, and those of single blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import pandas as pd

from featurespeed.curvature.lanczos import Eigenvalues
from featurespeed.measuring.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE = "all"  # the name of the whole matrix in a table
ROW, HIGHEST = 0.18, 16.0  # inches
LONGEST = 36  # characters of a name in a figure


@dataclass(frozen=True, eq=False)
class Sharpness(Eigenvalues):
    """Eigenvalues of a curvature matrix in the units of an optimizer, with the threshold up to which it is stable.

    Attributes:
        learning_rate: in whose units eigenvalues are, the first one above 0 of the optimizer's groups; NaN without an
            optimizer.
        threshold: eigenvalue above which the optimizer is unstable on a quadratic; NaN without one.
        optimizer: name of its class; None without one.
        blocks: name of a diagonal block -> its first eigenvalue, with the evidence for it.

    The fields of :class:`Eigenvalues` come first; with an optimizer ``vectors`` are those of ``D^1/2 H D^1/2``.
    """

    learning_rate: float = math.nan
    threshold: float = math.nan
    optimizer: str | None = None
    blocks: Mapping[str, Sharpness] = field(default_factory=dict)

    @property
    def edge(self) -> float:
        """The first eigenvalue over the threshold: 1 at the edge of stability; NaN without an optimizer."""
        return self.eigenvalue / self.threshold

    @property
    def table(self) -> pd.DataFrame:
        """One row for the whole matrix, named ``all``, and one for each block.

        Columns: ``name``; ``eigenvalue``, the first one, with ``residual``, ``converged`` and ``products``, its
        evidence; ``threshold``, in the same units, and ``edge``, their ratio.
        """
        columns = ("eigenvalue", "residual", "converged", "products", "threshold", "edge")
        rows = [(WHOLE, self), *self.blocks.items()]
        return pd.DataFrame([{"name": name} | {c: getattr(record, c) for c in columns} for name, record in rows])

    def plot(self) -> Figure:
        """How near every block is to the edge of stability; without an optimizer its eigenvalue.

        Values that have not converged are hollow; the axis is logarithmic where all values are positive.
        """
        table = self.table
        values = table["eigenvalue" if self.optimizer is None else "edge"]
        figure, (ax,) = new_figure(1, width=5.0, height=min(1.2 + ROW * len(table), HIGHEST))
        for place, (value, converged) in enumerate(zip(values, table["converged"], strict=True)):
            color = "C3" if place == 0 else "C0"
            ax.plot(value, place, "o", color=color, markerfacecolor=color if converged else "none")
        ax.set_yticks(range(len(table)), [_shortened(name) for name in table["name"]], fontsize="x-small")
        ax.invert_yaxis()
        if self.optimizer is not None:
            ax.axvline(1.0, color="0.45", linestyle="--", linewidth=0.9, zorder=0)
        if (values > 0).all():
            ax.set_xscale("log")
        ax.set(xlabel="eigenvalue" if self.optimizer is None else "eigenvalue / threshold")
        ax.set_title("" if self.optimizer is None else f"{self.optimizer}, threshold {self.threshold:.4g}")
        return figure


def _shortened(name: str) -> str:
    """The end of a long name."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


def with_threshold(
    found: Eigenvalues, factor: float, learning_rate: float, threshold: float, optimizer: str | None
) -> Sharpness:
    """Eigenvalues, times a factor, beside the threshold for them."""
    kept = {each.name: getattr(found, each.name) for each in fields(Eigenvalues)}
    kept |= {"values": found.values * factor, "residuals": found.residuals * factor} if factor != 1 else {}
    return Sharpness(**kept, learning_rate=learning_rate, threshold=threshold, optimizer=optimizer)
