"""Figure of the ConvNets beyond their edge of stability, drawn from its artefact table and from nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from featurespeed.drawing.plotting import GUIDE, UNORDERED, log_ticks
from featurespeed.papers.edge_of_stability.bridge.analysis import FAR, NETWORKS, QUADRATIC, SCALINGS, UNIFORM
from featurespeed.papers.edge_of_stability.bridge.tables import AT_REACH, REACH, STATISTIC, TRAINS

COLORS = {"none": "#555555", "rel1": UNORDERED[0], "fsf": UNORDERED[1]}
MARKERS = {"none": "o", "rel1": "s", "fsf": "^"}
LEGENDS = {"none": "no scaling", "rel1": r"rel1, $|B_l|/(|A_{k-1}||B_k|)$", "fsf": r"fsf, $|B_l|^2/(l\,|G_k|^2)$"}
TITLES = {
    TRAINS: "share of seeds that train", "training loss": "training loss at the end", "test accuracy": "test accuracy",
    "steps beyond the edge": "share of steps beyond the edge",
    "sharpness": r"sharpness $\lambda_{\max}$ at the end [1/rate]",
    "participation ratio": "participation ratio at the end",
}  # fmt: skip
SHARES = (TRAINS, "test accuracy", "steps beyond the edge")
PATTERNS = {UNIFORM: "uniform $r=0$", QUADRATIC: "quadratic $r=2$"}
ASIDE = {"none": 0.96, "rel1": 1.0, "fsf": 1.04}  # factors on kappa: scalings that agree would hide each other
NOTE = {"fontsize": 8.5, "color": "#555555"}


def draw_beos_bridge(table: pd.DataFrame, figure: Figure) -> None:
    """Six quantities against kappa, both patterns side by side; below how far each scaling reaches, and the gains."""
    whole = GridSpec(2, 1, figure=figure, height_ratios=(2, 1))
    above, below = whole[0].subgridspec(2, 6), whole[1].subgridspec(1, 2, width_ratios=(1.1, 1), wspace=0.14)
    kappas = sorted(table.loc[table["panel"].str.startswith(TRAINS), "x"].unique())
    for number, name in enumerate(TITLES):
        left = None
        for place, network in enumerate(NETWORKS):
            ax = figure.add_subplot(above[number // 3, 2 * (number % 3) + place], sharey=left)
            _draw_panel(ax, table[table["panel"] == f"{name} | {network}"], kappas)
            ax.set_xlabel(rf"$\kappa$, {PATTERNS[network]}")
            ax.tick_params(labelleft=place == 0)
            left = left or ax
        left.set_title(TITLES[name])
        _y_axis(left, table[table["panel"].str.startswith(f"{name} | ")], name)
    _draw_reach(figure.add_subplot(below[0]), table, kappas)
    _draw_gains(figure.add_subplot(below[1]), table[table["panel"] == STATISTIC])
    _legend(figure)


def _draw_panel(ax: Axes, table: pd.DataFrame, kappas: list[float]) -> None:
    """A line a scaling; hollow where some seeds failed, so that a mean leaves them out."""
    for scaling in SCALINGS:
        own, color = table[table["series"] == scaling].sort_values("x"), COLORS[scaling]
        x = own["x"] * ASIDE[scaling]
        ax.vlines(x, own["y_low"], own["y_high"], color=color, linewidth=1.0, alpha=0.6, zorder=3)
        ax.plot(x, own["y"], color=color, linewidth=1.2, zorder=4)
        for hollow in (False, True):
            part = (own["flag"] != "") == hollow
            ax.plot(
                x[part], own["y"][part], linestyle="", marker=MARKERS[scaling], markersize=4.4, color=color,
                markerfacecolor="white" if hollow else color, zorder=5,
            )  # fmt: skip
    _kappa_axis(ax, kappas)
    ax.axvline(1.0, color=GUIDE, linestyle=":", linewidth=1.2, zorder=1)


def _kappa_axis(ax: Axes, kappas: list[float]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xlim(kappas[0] / 1.3, kappas[-1] * 1.3)
    ax.xaxis.set_major_locator(FixedLocator(kappas))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda kappa, _: "½" if kappa == 0.5 else f"{kappa:g}"))


def _y_axis(ax: Axes, table: pd.DataFrame, name: str) -> None:
    if name in SHARES:
        ax.set_ylim(-0.04, 1.04)
    elif name == "participation ratio":
        ax.set_ylim(0, None)
    elif (positive := table.loc[table["y"] > 0, "y"]).any():
        ax.set_yscale("log")
        # Whiskers that reach down to nearly 0 would take all of the axis.
        low, high = positive.min(), max(positive.max(), table["y_high"].max())
        ax.set_ylim(low / 1.6, high * 1.3)
        log_ticks(ax.yaxis, pd.Series([low, high]))


def _draw_reach(ax: Axes, table: pd.DataFrame, kappas: list[float]) -> None:
    """The largest kappa at which all seeds train, and the share of steps beyond the edge there."""
    lines = [(network, scaling) for network in NETWORKS for scaling in SCALINGS]
    for height, (network, scaling) in enumerate(reversed(lines)):
        own = table[(table["panel"] == f"{REACH} | {network}") & (table["series"] == scaling)]
        if own.empty:
            continue
        row, color = own.iloc[0], COLORS[scaling]
        low, high = _ends(row, kappas[0] / 2, kappas[-1] * 2)
        ax.hlines(height, low, high, color=color, linewidth=1.2, zorder=3)
        ax.plot(
            row["y"], height, marker=MARKERS[scaling], markersize=7, color=color,
            markerfacecolor="white" if row["flag"] else color, zorder=4,
        )  # fmt: skip
        if np.isnan(row["y_high"]):
            ax.plot(high, height, marker=">", markersize=5, color=color, zorder=4)
        ax.text(1.02, height, _reach_text(table, row, network, scaling), transform=ax.get_yaxis_transform(),
                va="center", color=color, fontsize=9)  # fmt: skip
    ax.axhline(2.5, color="#dddddd", linewidth=0.8)
    ax.set_yticks(range(len(lines)), [f"{PATTERNS[n].split()[1]}, {s}" for n, s in reversed(lines)])
    ax.set_ylim(-0.6, len(lines) - 0.4)
    _kappa_axis(ax, kappas)
    ax.set_xlim(kappas[0] / 2.4, kappas[-1] * 2.4)
    ax.axvline(1.0, color=GUIDE, linestyle=":", linewidth=1.2, zorder=1)
    ax.set_title(r"largest $\kappa$ up to which all seeds train; share of steps beyond the edge there")
    ax.set_xlabel(r"$\kappa$ (the edge at initialisation is 1)")


def _ends(row: pd.Series, low: float, high: float) -> tuple[float, float]:
    """Ends of an interval; where it is open, those of the axis."""
    return row["y_low"] if row["y_low"] > 0 else low, row["y_high"] if np.isfinite(row["y_high"]) else high


def _reach_text(table: pd.DataFrame, row: pd.Series, network: str, scaling: str) -> str:
    there = table[(table["panel"] == f"{AT_REACH} | {network}") & (table["series"] == scaling)]
    if there.empty:
        return f"below {2 * row['y']:g}"
    sign = "at least " if row["flag"] else ""
    return f"{sign}{row['y']:g}, {there.iloc[0]['y']:.0%} beyond"


def _draw_gains(ax: Axes, table: pd.DataFrame) -> None:
    """Steps of 2 by which the largest kappa grows; shaded: the claims' region."""
    rows = table.sort_values("order", ascending=False)
    closed = rows[["y", "y_low", "y_high"]].stack()
    low, high = min(closed.min(), 0.0) - 0.7, max(closed.max(), FAR) + 1.2
    ax.axvspan(FAR, high, color="#ededed", linewidth=0, zorder=0)
    ax.axvline(0.0, color=GUIDE, linestyle=":", linewidth=1.2, zorder=1)
    for height, row in enumerate(rows.itertuples()):
        color = next(color for scaling, color in COLORS.items() if scaling in row.series.replace("over none", ""))
        ends = [end if np.isfinite(end) else open_ for end, open_ in ((row.y_low, low), (row.y_high, high))]
        ax.hlines(height, *ends, color=color, linewidth=1.2, zorder=3)
        ax.plot(row.y, height, marker="D", markersize=6, color=color,
                markerfacecolor="white" if row.flag else color, zorder=4)  # fmt: skip
        text = " ".join(f"{end:.1f}" if np.isfinite(end) else "–" for end in (row.y_low, row.y_high))
        ax.text(1.02, height, f"{row.y:.1f} [{text.replace(' ', ', ')}]", transform=ax.get_yaxis_transform(),
                va="center", color=color, fontsize=9)  # fmt: skip
    ax.set_yticks(range(len(rows)), [series.replace("r = ", "r=") for series in rows["series"]])
    ax.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    ax.set_xlim(low, high)
    ax.set_title(r"gain in the largest $\kappa$ [steps of 2]")
    ax.set_xlabel(r"$\log_2$ of the ratio")


def _legend(figure: Figure) -> None:
    handles = [Line2D([], [], color=COLORS[s], marker=MARKERS[s], markersize=5) for s in SCALINGS]
    texts = [LEGENDS[s] for s in SCALINGS]
    handles += [
        Line2D([], [], linestyle="", marker="o", markersize=5, color="#666666", markerfacecolor="white"),
        Line2D([], [], color=GUIDE, linestyle=":", linewidth=1.2),
    ]
    texts += ["some seeds failed, mean of the others; below: only a bound", "edge at initialisation"]
    figure.legend(handles, texts, loc="outside upper center", ncols=len(texts), fontsize=9)
