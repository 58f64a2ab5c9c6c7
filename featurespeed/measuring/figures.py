"""Figures of records: they belong to the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(columns: int, *, width: float = 3.6, height: float = 3.1) -> tuple[Figure, list[Axes]]:
    """A figure of some panels side by side that belongs to the caller: a notebook shows it once, nothing keeps it."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(width * columns, height), layout="constrained", squeeze=False)
    plt.close(figure)
    return figure, list(axes[0])


def named_ticks(ax: Axes, names: Sequence[str], most: int = 24) -> None:
    """Names of layers below an axis, of long lists every so many."""
    every = -(-len(names) // most)
    ax.set_xticks(range(0, len(names), every), list(names)[::every], rotation=90, fontsize="x-small")
