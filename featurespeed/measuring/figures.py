"""Figures of records: they belong to the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours of an ordered set of sizes, light to dark: parts of one map, so that sizes read as an order.
MAP, LIGHTEST, DARKEST = "viridis_r", 0.12, 0.95
GUIDE: dict[str, Any] = {"color": "0.45", "linewidth": 0.9, "linestyle": "--", "zorder": 0}


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


def size_colors(count: int) -> list[tuple[float, float, float, float]]:
    """One colour a size, ascending."""
    from matplotlib import colormaps

    steps = [LIGHTEST + (DARKEST - LIGHTEST) * k / max(count - 1, 1) for k in range(count)]
    return [colormaps[MAP](step) for step in steps]
