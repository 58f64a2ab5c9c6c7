"""What several figures of the first paper (arXiv:2311.18718) draw with."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.plotting import (
    direct_labels,
    evidence_legend,
    ordered_colors,
)

#: Series in the order of their branch scale, smallest first.
BRANCH_ORDER = ("beta=1/L", "beta=0.5/sqrtL", "beta=1/sqrtL", "beta=2/sqrtL", "beta=1")


KINDS = {
    "dots": "one draw, dense network (exact tangent)",
    "cores": "the same, finite step (the paper's way)",
    "line": "mean of {n} exact samples",
    "band": "95% of single draws",
    "theory": "infinite width (ours)",
}


def series_names(table: pd.DataFrame, order: tuple[str, ...] = ()) -> list[str]:
    """Series that hold data, known ones first in their order; guides are no series."""
    names = [name for name in table["series"].unique() if not name.startswith("guide")]
    depth = {name: int(name[2:]) for name in names if name.startswith("L=") and name[2:].isdigit()}
    rank = {name: i for i, name in enumerate(order)}
    return sorted(names, key=lambda name: (rank.get(name, len(order)), depth.get(name, 0), name))


def _count(table: pd.DataFrame) -> str:
    n = table.loc[table["estimator"] == "sampler", "n"]
    return "" if n.empty else str(n.min()) if n.min() == n.max() else f"{n.min()} to {n.max()}"


def kinds_legend(
    table: pd.DataFrame, figure: Figure, texts: dict[str, str], columns: int = 3, colors: dict | None = None
) -> None:
    """Name the kinds of evidence that the table holds, and its flags."""
    guides = table["series"].str.startswith("guide")
    present = set(table.loc[~guides, "estimator"]) | ({"guide"} if guides.any() else set())
    needs = {"dots": "jvp", "points": "jvp", "cores": "finite step", "line": "sampler", "band": "sampler"}
    kinds = {kind: text.format(n=_count(table)) for kind, text in texts.items() if needs.get(kind, kind) in present}
    flags = sorted(set(table["flag"]) - {""})
    if flags:
        kinds["flagged"] = "flagged: " + ", ".join(flags)
    evidence_legend(figure, kinds, columns, colors)


def ends_of(table: pd.DataFrame, names: list[str]) -> dict[str, tuple[float, float]]:
    """Last point of each series: of its mean line where there is one."""
    ends = {}
    for name in names:
        own = table[(table["series"] == name) & np.isfinite(table["y"])]
        line = own[own["estimator"].isin(["sampler", "theory"])]
        last = (line if len(line) else own).sort_values("x").iloc[-1]
        ends[name] = (float(last["x"]), float(last["y"]))
    return ends


def label_series(ax: Axes, table: pd.DataFrame, order: tuple[str, ...] = BRANCH_ORDER) -> None:
    names = series_names(table, order)
    direct_labels(ax, ends_of(table, names), ordered_colors(names))
