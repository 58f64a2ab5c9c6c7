"""What the figures of the tools for one's own networks share."""

from __future__ import annotations

from typing import Any

from featurespeed.measuring.figures import named_ticks, new_figure

__all__ = ["DARKEST", "GUIDE", "LIGHTEST", "MAP", "named_ticks", "new_figure", "size_colors"]

#: Colours of an ordered set of sizes, light to dark: parts of one map, so that sizes read as an order.
MAP, LIGHTEST, DARKEST = "viridis_r", 0.12, 0.95
GUIDE: dict[str, Any] = {"color": "0.45", "linewidth": 0.9, "linestyle": "--", "zorder": 0}


def size_colors(count: int) -> list[tuple[float, float, float, float]]:
    """One colour a size, ascending."""
    from matplotlib import colormaps

    steps = [LIGHTEST + (DARKEST - LIGHTEST) * k / max(count - 1, 1) for k in range(count)]
    return [colormaps[MAP](step) for step in steps]
