"""Figure of the Taylor coefficients, drawn from its artefact table and from nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter

from featurespeed.drawing.plotting import GUIDE, INK, UNORDERED
from featurespeed.papers.edge_of_stability.coefficients.tables import (
    COEFFICIENTS,
    CONTROLS,
    CROSSING,
    FAILED,
    FLOOR,
    IDENTITIES,
    LINEAR,
    MEASURED,
    NO_EDGE,
    ORDERS,
    THRESHOLD,
    THRESHOLDS,
)
from featurespeed.papers.edge_of_stability.shared import SCALING_COLORS, SCALINGS

NOTE = {"fontsize": 8.5, "color": "#555555"}
DOTTED = {"color": GUIDE, "linestyle": ":", "linewidth": 1.2, "zorder": 1}
ORDER_COLORS = dict(zip(ORDERS, (UNORDERED[0], UNORDERED[1], UNORDERED[2]), strict=True))
LABELS = {
    "c0": "$c_0$",
    "c1": "$c_1$",
    "c2": "$c_2 = F + N$",
    "c3": "$c_3$",
    "curvature form of c2": "$c_2=\\frac{1}{2}\\,g^{T}\\Xi H\\Xi g$",
    "directional sharpness at most lambda_Xi": "$\\lambda_{\\mathrm{dir}}\\leq\\lambda_{\\Xi}$, excess",
    "backward feature identity": "$\\langle B_k,Z_k^{(1)}\\rangle=-\\Sigma_{j\\leq k}\\,\\xi_j|G_j|^2$",
    "Euler identity": "$\\langle W_k,G_k\\rangle=\\langle B_l,Z_l\\rangle$",
    "soft rank identity": "$\\lambda_{\\mathrm{dir}}=(\\mathrm{tr}\\,K/n)\\,/\\,\\mathrm{SR}_B$, MSE",
    "c1, another network's": "$c_1$",
    "c2, another network's": "$c_2$",
    "c3, another network's": "$c_3$",
    "backward feature identity, another network's": "$\\langle B_k,Z_k^{(1)}\\rangle$",
}
GROUPS = {
    "against automatic differentiation": COEFFICIENTS,
    "identities": IDENTITIES,
    "of another network, must fail": CONTROLS,
}
GAP = 0.75  # between two groups, in rows
PARTED = 10.0  # ratio of two errors from which on they differ
MOST_STEPS = 5  # probe steps that are shown
FAR, LOW, HIGH = 2.5, -1.15, 0.9  # what a panel of loss changes shows


def draw_taylor(table: pd.DataFrame, figure: Figure) -> None:
    """Errors by coefficient and scaling; errors by order over the step; loss changes at probe steps of training."""
    grid = figure.add_gridspec(2, 1, height_ratios=[1.45, 1])
    upper = grid[0].subgridspec(1, 2, width_ratios=[1.15, 1])
    left, right = figure.add_subplot(upper[0]), figure.add_subplot(upper[1])
    _draw_errors(left, table)
    _draw_orders(right, table)
    steps = _shown(table)
    axes = grid[1].subgridspec(1, len(steps)).subplots(sharey=True, squeeze=False)[0]
    for ax, step in zip(axes, steps, strict=True):
        _draw_changes(ax, table, step)
    axes[0].set_ylabel("change of the loss, over $c_1^2/|c_2|$")
    axes[0].set_ylim(LOW, HIGH)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=6)


def _panel(table: pd.DataFrame, panel: str) -> pd.DataFrame:
    return table[table["panel"] == panel]


# --- errors of the formulas -------------------------------------------------------------------------------------------


def _draw_errors(ax: Axes, table: pd.DataFrame) -> None:
    """One row a coefficient or identity; in it one dot a scaling, the median, with a line to the largest error."""
    there = [name for name in SCALINGS if name in set(table["series"])]
    heights, y = {}, 0.0
    for title, names in GROUPS.items():
        ax.text(
            1.0, y - 0.62, title, transform=ax.get_yaxis_transform(), ha="right", va="center", style="italic", **NOTE
        )
        for name in names:
            heights[name] = y
            y += 1
        y += GAP
    for name, height in heights.items():
        own = _panel(table, f"error | {name}").set_index("series")
        for place, scaling in enumerate(there):
            if scaling in own.index:
                row, at = own.loc[scaling], height + 0.62 * ((place + 0.5) / len(there) - 0.5)
                color = SCALING_COLORS[scaling]
                ax.plot([row.y, row.y_high], [at, at], color=color, linewidth=1.1, zorder=3)
                ax.plot(row.y, at, marker="o", markersize=3.1, color=color, markeredgewidth=0, zorder=4)
        ax.plot([THRESHOLDS[name]] * 2, [height - 0.45, height + 0.45], color=INK, linewidth=1.3, zorder=2)
    ax.set_yticks(list(heights.values()), [LABELS[name] for name in heights])
    ax.set_ylim(y - GAP - 0.4, -1.0)
    ax.tick_params(axis="y", length=0)
    ax.set(xscale="log", xlim=(FLOOR / 1.6, 10), xlabel="relative error")
    ax.xaxis.set_major_locator(FixedLocator([FLOOR, 1e-14, 1e-12, 1e-10, 1e-7, 1e-4, 1]))
    ax.set_xticklabels(["0", *(f"$10^{{{power}}}$" for power in (-14, -12, -10, -7, -4)), "1"])
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.annotate("threshold", (THRESHOLDS["c0"], 0), (4, 0), textcoords="offset points", va="center", **NOTE)
    cases = int(table[table["panel"].isin(["error | c0"]) & (table["series"] != THRESHOLD)]["n"].sum())
    ax.set_title(f"Errors of the formulas (ours) on {cases} random networks")
    colors = [Line2D([], [], marker="o", markersize=4, color=SCALING_COLORS[name], linewidth=1.1) for name in there]
    ax.legend(colors, there, title="scaling", loc="upper left", bbox_to_anchor=(0.5, 0.93), ncols=2, title_fontsize=8.5)


# --- errors of the orders ---------------------------------------------------------------------------------------------


def _draw_orders(ax: Axes, table: pd.DataFrame) -> None:
    """Error of each order over the step: of the network as it is, and as if its linear region never ended."""
    for truth, dashes in ((MEASURED, "-"), (LINEAR, (0, (2.2, 1.6)))):
        own = _panel(table, f"error of the order | {truth}")
        for name, color in ORDER_COLORS.items():
            line = own[own["series"] == name].sort_values("x")
            if truth == MEASURED:
                ax.fill_between(
                    line["x"], line["y_low"], line["y_high"], color=color, alpha=0.09, linewidth=0, zorder=2
                )
            ax.plot(line["x"], line["y"], color=color, linestyle=dashes, linewidth=1.5, zorder=4)
    rows = table[table["panel"].str.startswith("error of the order")]
    ax.axvline(1.0, **DOTTED)
    ax.annotate("edge $-c_1/c_2$", (1.0, 0.0), (-3, 4), ("data", "axes fraction"), "offset points", ha="right", **NOTE)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="step, over $-c_1/|c_2|$",
        ylabel="$|$predicted $-$ measured$|$ $/$ $|c_1 s|$",
    )
    ax.set_ylim(max(rows["y"].min() / 3, 1e-13), rows["y_high"].max() * 2)
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.yaxis.set_major_locator(LogLocator(base=100, numticks=12))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_title("How far each order reaches")
    _mark_the_end(ax, table)
    dashes = {"network as it is": "-", "if its linear region never ended": (0, (2.2, 1.6))}
    handles = [Line2D([], [], color="#666666", linestyle=style, label=label) for label, style in dashes.items()]
    ax.legend(handles=handles, loc="upper left")


def _mark_the_end(ax: Axes, table: pd.DataFrame) -> None:
    """Where the two errors of order 3 part: the first units have crossed the kink of their activation."""
    lines = [
        own[own["series"] == ORDERS[-1]].set_index("x")["y"]
        for own in (_panel(table, f"error of the order | {truth}") for truth in (MEASURED, LINEAR))
    ]
    parted = lines[0][lines[0] > PARTED * lines[1]].sort_index()
    if len(parted):
        end, style = (parted.index[0], parted.iloc[0]), {"arrowstyle": "-", "color": "#888888", "linewidth": 0.7}
        ax.annotate(
            "first units cross their kink", end, (0.03, 0.72), textcoords="axes fraction", arrowprops=style, **NOTE
        )


# --- loss changes -----------------------------------------------------------------------------------------------------


def _shown(table: pd.DataFrame) -> list[int]:
    """Probe steps, at most :data:`MOST_STEPS` of them, the first and the last included."""
    names = table["panel"][table["panel"].str.startswith("loss change")].unique()
    steps = sorted(int(name.rsplit(" ", 1)[1]) for name in names)
    places = np.unique(np.linspace(0, len(steps) - 1, min(MOST_STEPS, len(steps))).round().astype(int))
    return [steps[place] for place in places]


def _draw_changes(ax: Axes, table: pd.DataFrame, step: int) -> None:
    own = _panel(table, f"loss change | step {step}")
    ax.axhline(0.0, color="#cccccc", linewidth=0.7, zorder=0)
    ax.axvline(1.0, **DOTTED)
    for name, color in ORDER_COLORS.items():
        line = own[own["series"] == name].sort_values("x")
        start = pd.DataFrame({"x": [0.0], "y": [0.0], "y_low": [0.0], "y_high": [0.0]})
        line = pd.concat([start, line[list(start)]], ignore_index=True)
        ax.fill_between(line["x"], line["y_low"], line["y_high"], color=color, alpha=0.09, linewidth=0, zorder=2)
        ax.plot(line["x"], line["y"], color=color, linewidth=1.3, zorder=3)
    line = own[(own["series"] == MEASURED) & (own["x"] >= 0.05)].sort_values("x")
    ax.errorbar(line["x"], line["y"], yerr=[line["y"] - line["y_low"], line["y_high"] - line["y"]], color=INK,
                marker="o", markersize=3.2, linewidth=0.8, elinewidth=0.8, zorder=5)  # fmt: skip
    ax.set(xlim=(0, min(FAR, own["x"].max())), xlabel="step, over $-c_1/|c_2|$")
    ax.set_title(f"after {step} updates" if step else "at initialisation")
    _write_numbers(ax, _panel(table, "statistic").set_index("series"), step)


def _write_numbers(ax: Axes, numbers: pd.DataFrame, step: int) -> None:
    row, lines = numbers.loc[f"{CROSSING} | step {step}"], []
    above = "≥ " if row.flag else ""
    lines.append(f"loss is back at {above}{row.y:.2f}")
    for name, text in ((FAILED, "runs failed"), (NO_EDGE, "batches had no edge")):
        found = numbers.loc[name]
        if found.y and step == 0:
            lines.append(f"{found.y:.0f} of {found.n:.0f} {text}")
    ax.text(0.98, 0.02, "\n".join(lines), transform=ax.transAxes, ha="right", va="bottom", **NOTE)


def _legend() -> list[object]:
    orders = [Line2D([], [], color=color, linewidth=2, label=name) for name, color in ORDER_COLORS.items()]
    measured = Line2D([], [], color=INK, marker="o", markersize=3.2, linewidth=0.8, label="measured, range over seeds")
    return [*orders, measured, Patch(facecolor="#666666", alpha=0.2, linewidth=0, label="range")]
