"""Figure 3 of training beyond the edge of stability, and what all figures of it share.

Drawn from artefact tables and from nothing else. Whatever the abstract of arXiv:2502.13110 does not state is marked
"(ours)": it is our reconstruction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from featurespeed.drawing.plotting import INK, ordered_colors
from featurespeed.drawing.width_curves import logarithmic, numbers, write
from featurespeed.papers.edge_of_stability.descent.tables import (
    DEAD,
    DIVERGED,
    ENTROPY,
    FIG3,
    PARTICIPATION,
    SEPARATOR,
    SHARPNESS,
    STABLE,
    STATISTIC,
    TRAINED,
    UNCONVERGED,
)
from featurespeed.papers.edge_of_stability.shared import CONSTANT, SCALING_COLORS, SCALINGS, Key, networks, scalings

OURS = "(ours): our reconstruction, from the abstract of arXiv:2502.13110; not the author's formula"
FAR_ABOVE = 1e4  # times the median: beyond it lie networks that have run away
MAIN_SCALING, MAIN_NETWORK = "rel1", "r = 2"
FAILURE_COLORS = {DIVERGED: "#e57439", DEAD: "#555555"}


# --- names ------------------------------------------------------------------------------------------------------------


def network_label(network: str) -> str:
    """A network as a reader should see it, its exponents as mathematics."""
    return re.sub(r"\br = ([\d.]+)", r"$r=\1$", network)


def short_network(network: str) -> str:
    """A network where there is little room."""
    return network_label(network.replace(", base width of r = 2", " (base width)"))


def plain_scaling(scaling: str) -> str:
    """A gradient scaling where it is said elsewhere that it is ours."""
    return scaling.replace("none", "no scaling")


def scaling_label(scaling: str) -> str:
    """A gradient scaling; all but the absence of one are ours."""
    return "no scaling" if scaling == "none" else f"{scaling} (ours)"


def key_of(series: str) -> Key:
    """Network, scaling and schedule of a series, or the rest of a panel."""
    return Key(*series.split(SEPARATOR)[-3:])


def keys_of(table: pd.DataFrame) -> list[Key]:
    """Every group of runs of a table, in order: constant schedules first, then networks, then scalings."""
    found = {key_of(series) for series in table.loc[table["panel"] == TRAINED, "series"]}
    order = [*SCALINGS, *sorted({key.scaling for key in found} - set(SCALINGS))]
    return sorted(found, key=lambda key: (key.schedule != CONSTANT, key.network, order.index(key.scaling)))


def of_key(table: pd.DataFrame, panel: str, key: Key) -> pd.DataFrame:
    """Rows of one group of runs against kappa."""
    return table[(table["panel"] == panel) & (table["series"] == SEPARATOR.join(key))].sort_values("x")


def power(value: float) -> str:
    """Two digits, large numbers as a power of ten."""
    if value < 999.5:
        return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
    return f"$10^{{{round(np.log10(value))}}}$"


def of_one_network(keys: Sequence[Key]) -> dict[Key, object]:
    """The constant schedules of the quadratic pattern, or else of the last network, and a colour for each scaling."""
    named = networks(keys)
    network = MAIN_NETWORK if MAIN_NETWORK in named else named[-1]
    return {
        key: SCALING_COLORS.get(key.scaling, INK) for key in keys if (key.network, key.schedule) == (network, CONSTANT)
    }


def of_one_scaling(keys: Sequence[Key]) -> dict[Key, object]:
    """The constant schedules of the main scaling, or else of the first one, and a colour for each network."""
    named = scalings(keys)
    scaling = MAIN_SCALING if MAIN_SCALING in named else named[0]
    members = [key for key in keys if (key.scaling, key.schedule) == (scaling, CONSTANT)]
    return dict(zip(members, ordered_colors(list(map(str, members))).values(), strict=True))


def kappa_axis(axis: Axis, kappas: Sequence[float], rotate: bool = False) -> None:
    """A logarithmic axis with the kappas themselves as ticks."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(FixedLocator(list(kappas)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_tick_params(labelsize=8, labelrotation=60 if rotate else 0)
    getattr(axis.axes, f"set_{axis.axis_name}lim")(min(kappas) / 1.3, max(kappas) * 1.25)


def ours_note(figure: Figure, handles: Mapping[str, object], columns: int | None = None) -> None:
    """Legend below all panels, with what "(ours)" means as its title."""
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns or max(len(handles), 1),
        title=OURS, title_fontsize=8.5,
    )  # fmt: skip


# --- Figure 3 ---------------------------------------------------------------------------------------------------------

FIG3_TITLES = {
    PARTICIPATION: "participation ratio (ours)", STABLE: "stable rank (ours)", ENTROPY: "entropy rank (ours)",
    SHARPNESS: "sharpness $\\lambda_{\\max}(H)$",
}  # fmt: skip


def draw_fig3(table: pd.DataFrame, figure: Figure) -> None:
    """Ranks and sharpness at the end against kappa: above all scalings of one network, below one scaling of all."""
    keys = keys_of(table)
    above, below = of_one_network(keys), of_one_scaling(keys)
    network, scaling = next(iter(above)).network, next(iter(below)).scaling
    grid = figure.add_gridspec(2, 5, width_ratios=[1.05, 1.25, 1, 1, 1])
    titles = f"{network_label(network)}: who trained", f"{scaling_label(scaling)}: who trained"
    for line, (colors, title) in enumerate(zip((above, below), titles, strict=True)):
        labels = [plain_scaling(key.scaling) if line == 0 else short_network(key.network) for key in colors]
        who = figure.add_subplot(grid[line, 0])
        draw_who_trained(who, table, colors, labels)
        who.set_title(title)
        for column, name in enumerate(FIG3, start=1):
            ax = figure.add_subplot(grid[line, column])
            draw_against_kappa(ax, table, name, colors)
            values = pd.concat([of_key(table, name, key)["y"] for key in colors])
            logarithmic(ax.yaxis, values)
            _cut(ax, values)
            ax.set_title(FIG3_TITLES[name])
            if line:
                ax.set_xlabel("$\\kappa$ (ours)")
            if name in (PARTICIPATION, SHARPNESS):
                _write_ratios(ax, table, name, colors, network if line == 0 else None)
        if line:
            who.set_xlabel("$\\kappa$ (ours)")
    ours_note(figure, kappa_marks("mean, range over the seeds that trained", (table["flag"] == UNCONVERGED).any()))


def _cut(ax: Axes, values: pd.Series) -> None:
    """The axis ends far above the middle of the values; what lies beyond it is said in the corner."""
    most = FAR_ABOVE * values[values > 0].median()
    if len(values) and values.max() > most:
        ax.set_ylim(top=most)
        write(ax, f"beyond the axis: up to {values.max():.0e}".replace("e+", "e"), 0.03, 0.1, fontsize=8)


def draw_who_trained(ax: Axes, table: pd.DataFrame, colors: Mapping[Key, object], labels: Sequence[str]) -> None:
    """One line a group of runs: a disc where all seeds trained, hollow where some did, a cross where none did."""
    kappas = []
    for line, (key, color) in enumerate(colors.items()):
        own = of_key(table, TRAINED, key)
        kappas += list(own["x"])
        for row in own.itertuples():
            style = {"marker": "o", "markersize": 5.5, "color": color}
            if row.y == 0:
                style = {"marker": "x", "markersize": 5.5, "color": color, "markeredgewidth": 1.5}
            elif row.y < 1:
                style |= {"markerfacecolor": "white", "markeredgewidth": 1.3}
                ax.annotate(f"{round(row.y * row.n)}/{row.n}", (row.x, -line), (0, 5), textcoords="offset points",
                            ha="center", fontsize=7.5, color="#444444")  # fmt: skip
            ax.plot([row.x], [-line], linestyle="", **style)
    kappa_axis(ax.xaxis, sorted(set(kappas)), rotate=True)
    ax.set_ylim(-len(colors) + 0.4, 0.7)
    ax.set_yticks(-np.arange(len(colors)), labels, fontsize=9.5)
    for tick, color in zip(ax.get_yticklabels(), colors.values(), strict=True):
        tick.set_color(color)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def draw_against_kappa(ax: Axes, table: pd.DataFrame, panel: str, colors: Mapping[Key, object]) -> None:
    """Points joined along kappa with their bounds; hollow where a seed failed."""
    kappas = set()
    for key, color in colors.items():
        kappas |= set(of_key(table, TRAINED, key)["x"])
        own = of_key(table, panel, key)
        ax.fill_between(own["x"], own["y_low"], own["y_high"], color=color, alpha=0.13, linewidth=0, zorder=2)
        strong = key.scaling == MAIN_SCALING
        ax.plot(own["x"], own["y"], color=color, linewidth=1.7 if strong else 1.2, linestyle=line_style(key),
                marker="o", markersize=3.4, zorder=5 if strong else 4)  # fmt: skip
        some = own[own["flag"] != ""]
        ax.plot(some["x"], some["y"], linestyle="", marker="o", markersize=4.6, markerfacecolor="white",
                markeredgecolor=color, markeredgewidth=1.2, zorder=7)  # fmt: skip
    kappa_axis(ax.xaxis, sorted(kappas), rotate=True)


def line_style(key: Key) -> object:
    """Dashed for a control at another number of parameters."""
    return (0, (3, 1.5)) if "base width" in key.network else "-"


def _write_ratios(ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[Key, object], network: str | None) -> None:
    """Ratio of the values at two kappas, of the main scaling."""
    own = table[(table["panel"] == STATISTIC) & table["series"].str.startswith(f"{name}, ")]
    lines = []
    for row in own.itertuples():
        key = key_of(row.series)
        if key in colors and key.scaling == MAIN_SCALING and network in (None, key.network):
            kappas = row.series.split(SEPARATOR)[0].removeprefix(f"{name}, ").replace(" over ", " / ")
            label = "rel1" if network else network_label(key.network)
            lines.append(f"{label}, $\\kappa=$ {kappas}: {numbers(row)}")
    if lines:
        write(ax, "\n".join(lines), 0.03, 0.98, fontsize=8)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** (0.05 + 0.09 * len(lines)))


def kappa_marks(text: str, poor: bool = False) -> dict[str, object]:
    """Marks of what is drawn against kappa; ``poor``: some eigenvalue has not converged."""
    grey = "#666666"
    hollow = {"linestyle": "", "marker": "o", "markersize": 5, "markerfacecolor": "white", "color": grey}
    return {
        text: Line2D([], [], color=grey, marker="o", markersize=3.6, linewidth=1.2),
        "some seeds failed: mean over the others" + (", or not converged" if poor else ""): Line2D([], [], **hollow),
        "no seed was trained to the end": Line2D([], [], linestyle="", marker="x", markersize=5.5, color=grey),
    }
