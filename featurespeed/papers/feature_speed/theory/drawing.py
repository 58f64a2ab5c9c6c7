"""The infinite-width theory (ours), drawn from its artefact table."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.plotting import (
    INK,
    angle_axis,
    draw_flagged,
    draw_guide,
    draw_theory,
    evidence_legend,
    label_of,
    log_ticks,
    rows,
    unordered_colors,
)
from featurespeed.papers.feature_speed.drawing import series_names
from featurespeed.papers.feature_speed.theory.tables import INFINITE

# --- our theory -------------------------------------------------------------------------------------------------------


def draw_theory_figure(table: pd.DataFrame, figure: Figure) -> None:
    """Closed forms of phi(c), the correction at finite width, and the tail of cos phi(c)."""
    left, middle, right = figure.subplots(1, 3)
    for ax, case in ((left, "phi"), (middle, "finite width"), (right, "tail")):
        own = table[table["panel"] == case]
        sampled = own[own["estimator"] == "sampler"]
        colors = unordered_colors(series_names(sampled, ("ReLU", "linear", "MLP")))
        for name, color in colors.items():
            _draw_points(ax, rows(own, "sampler", case, name), color)
        lines = rows(own, "theory", case)
        guide = lines["series"].str.startswith("guide")
        chain = (lines["panel"] == "finite width") & ~lines["series"].str.endswith(INFINITE)
        draw_theory(ax, lines[~guide & ~chain])
        ax.plot(lines[chain]["x"], lines[chain]["y"], color=INK, linewidth=0.9, zorder=6)
        draw_guide(ax, lines[guide])
        ax.set_xscale("log")
        log_ticks(ax.xaxis, own["x"])
        if len(colors) > 1:
            ax.legend(loc="lower right" if case == "phi" else "best")
    angle_axis(left, r"$\varphi(c)$")
    left.set(title="limit angle", xlabel=r"$c=\sqrt{L}\,\beta$")
    middle.set(
        title="finite width", xlabel="width $m$", ylabel=r"$\cos\theta_{L-1}\,/\,\cos\theta_{L-1}^{\,m=\infty}-1$"
    )
    right.set(title=r"tail, $c\gg 1$", xlabel=r"$c=\sqrt{L}\,\beta$", ylabel=r"$\cos\varphi(c)$", yscale="log")
    log_ticks(right.yaxis, table.loc[table["panel"] == "tail", "y"])
    kinds = {
        "interval": "mean of exact samples, 95%",
        "theory": "infinite width, closed form or recursion (ours)",
        "chain": "exact law of the MLP at finite width",
        "guide": "powers of $c$: the paper's text has $1/\\sqrt{c}$",
    }
    evidence_legend(figure, kinds, columns=2)


def _draw_points(ax: Axes, table: pd.DataFrame, color: object) -> None:
    clean, name = table[table["flag"] == ""], label_of(table["series"].iloc[0]) if len(table) else ""
    error = [clean["y"] - clean["y_low"], clean["y_high"] - clean["y"]]
    style = {"linestyle": "", "marker": "o", "markersize": 4, "color": color, "zorder": 4}
    ax.errorbar(clean["x"], clean["y"], yerr=error, label=name, **style)
    draw_flagged(ax, table, color)
