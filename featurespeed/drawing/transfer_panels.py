"""Panels about learning-rate transfer, drawn from rows of :mod:`featurespeed.drawing.transfer_rows`: losses over
learning rates, sharpness and loss along training, over widths or depths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from featurespeed.drawing.plotting import INK, log_ticks
from featurespeed.drawing.transfer_rows import (
    ADAM_EDGE,
    ARRIVAL_EXPONENT,
    BEST,
    CHANCE,
    RATE_SHOWN,
    SHARPNESS_EXPONENT,
    SHIFT,
    STATISTICS,
    TRANSFER,
)
from featurespeed.drawing.width_curves import (
    ENDED,
    GREY,
    HALO,
    draw_edge,
    draw_widths,
    headroom,
    left_out,
    legend_below,
    network_label,
    shown,
    width_colors,
    write,
)
from featurespeed.drawing.width_rows import EDGE, SYMBOLS

BELOW = 1.6  # room below the lowest line
MARGIN = 0.05  # of the height of a logarithmic panel, below its lowest line
EXPLODED = 2  # times the largest loss of the size that rises least: what lies above is left out
MOST_NAMED = 9  # learning rates of a panel that all have their number at their tick
LETTERS = 17  # an inch: of these numbers, with what lies between them
LONGEST = 7  # letters of a number that is written out
WHOLE = 0.05  # how far from a whole step of 2 a learning rate may be: grids are rounded
SIDE_BY_SIDE = 0.07  # how far, in factors of 2, the crosses of all sizes are spread at one learning rate
NARROW = 6  # factor below which a logarithmic axis has the evenly spaced ticks of a linear one
WIDE = 1000  # factor from which on numbers at decades are enough
LARGE = 1e5  # from here on, an axis over decades has powers of ten
TWO_DECIMALS = 0.0995  # rounds to 0.1: from here on, numbers have two decimals
GREYS = {"color": "#666666", "linestyle": ""}
CHANCE_LINE = {"color": "#bbbbbb", "linewidth": 0.9}
RATE, STEP = "base learning rate $\\eta_0$", "training step"


def draw_lines(table: pd.DataFrame, figure: Figure, order: Sequence[str]) -> np.ndarray:
    """A line of panels a network: transfer of the learning rate, sharpness and loss along training."""
    names, colors = network_names(table, order), size_colors(table)
    axes = figure.subplots(len(names), 3, squeeze=False, width_ratios=[1.12, 1.0, 1.0])
    for line, name in zip(axes, names, strict=True):
        for ax, draw in zip(line, (draw_transfer, draw_sharpness, draw_loss), strict=True):
            draw(ax, table, name, colors)
    share_losses([line[0] for line in axes])
    share_losses([line[2] for line in axes])
    for ax, text in zip(axes[-1], (RATE, STEP, STEP), strict=True):
        ax.set_xlabel(text)
    legends(figure, table, colors)
    return axes


def draw_columns(table: pd.DataFrame, figure: Figure, order: Sequence[str]) -> np.ndarray:
    """A column of panels a network: transfer of the learning rate above, sharpness along training below."""
    names, colors = network_names(table, order), size_colors(table)
    axes = figure.subplots(2, len(names), squeeze=False)
    for column, name in zip(axes.T, names, strict=True):
        draw_transfer(column[0], table, name, colors)
        draw_sharpness(column[1], table, name, colors)
        column[0].set_xlabel(RATE)
        column[1].set_xlabel(STEP)
        plain_ticks(column[0].yaxis)
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    legends(figure, table, colors)
    return axes


def network_names(table: pd.DataFrame, order: Sequence[str]) -> list[str]:
    """Labels of the networks in the table: those of the paper in its order, then others."""
    found = {panel.split(" | ")[1] for panel in table["panel"] if " | " in panel}
    return [name for name in order if name in found] + sorted(found - set(order))


def size_of(series: Iterable[str]) -> str:
    """Which size a network varies in, by the names of its series."""
    return next((kind for kind, symbol in SYMBOLS.items() if any(s.startswith(f"{symbol}=") for s in series)), "width")


def size_colors(table: pd.DataFrame) -> dict[str, object]:
    """Series -> colour of every size that is drawn, dark to light."""
    return width_colors(table, size_of(table["series"].unique()))


def panel(table: pd.DataFrame, kind: str, name: str) -> pd.DataFrame:
    """Rows of one panel."""
    return table[table["panel"] == f"{kind} | {name}"]


# --- learning-rate transfer -------------------------------------------------------------------------------------------


def draw_transfer(
    ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[str, object], kind: str = TRANSFER, best: str = BEST
) -> None:
    """Late loss against the learning rate, the best of every size marked and joined; failures are crosses on top."""
    own, best = panel(table, kind, name), panel(table, best, name)
    trained = own[~own["flag"].isin(ENDED)]
    draw_widths(ax, trained, colors, marker="o", markersize=2.6)
    chance = own[own["series"] == CHANCE]
    ax.plot(chance["x"], chance["y"], zorder=1, **CHANCE_LINE)
    draw_failures(ax, own, colors)
    rates = sorted(own["x"].unique())
    draw_best(ax, best, colors, rates)
    ax.set_yscale("log")
    ax.set_xscale("log", base=2)
    name_rates(ax, rates)
    ax.set_xlim(rates[0] / 2**0.4, rates[-1] * 2**0.4)
    headroom(ax, above=0.04, below=0.18)
    ax.set_ylabel("late training loss" if kind == TRANSFER else "training loss")
    ax.set_title(f"{network_label(name)}: loss against learning rate")
    if kind == TRANSFER:
        write(ax, shift_text(panel(table, STATISTICS, name), list(best["series"])), 0.03, 0.085)


def name_rates(ax: Axes, rates: list[float]) -> None:
    """A tick at every learning rate; of many, numbers only at those whole steps of 2 from the smallest, and of long
    numbers at every second one.
    """
    whole = [rate for rate in rates if abs(np.log2(rate / rates[0]) - round(np.log2(rate / rates[0]))) < WHOLE]
    named = rates if len(rates) <= MOST_NAMED else whole
    inches = ax.get_position().width * ax.figure.get_figure(root=True).get_size_inches()[0]
    if sum(len(rate_text(rate)) + 2 for rate in named) > LETTERS * inches:
        named = named[::2]
    ax.xaxis.set_major_locator(FixedLocator(named))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rate_text(value)))
    ax.xaxis.set_minor_locator(FixedLocator([rate for rate in rates if rate not in named]))
    ax.xaxis.set_minor_formatter(NullFormatter())


def rate_text(rate: float) -> str:
    """A learning rate as the settings have it, or with three digits if that is long."""
    text = f"{rate:g}"
    return text if len(text) <= LONGEST else f"{rate:.3g}"


def draw_failures(ax: Axes, own: pd.DataFrame, colors: Mapping[str, object]) -> None:
    """Learning rates at which a width failed, side by side: a cross where it diverged, a slanted one where it died."""
    for place, (series, color) in enumerate(colors.items()):
        rows = own[(own["series"] == series) & own["flag"].isin(ENDED)]
        offset = 2 ** (SIDE_BY_SIDE * (place - (len(colors) - 1) / 2))
        for flag, marker in (("diverged", "P"), ("dead", "X")):
            at = rows[rows["flag"] == flag]
            ax.plot(
                at["x"] * offset, at["y"], linestyle="", marker=marker, markersize=4.6, color=color, markeredgewidth=0,
                zorder=6,
            )  # fmt: skip


def draw_best(ax: Axes, best: pd.DataFrame, colors: Mapping[str, object], rates: Sequence[float]) -> None:
    """The best learning rates, from width to width; hollow at the edge of the grid (``rates``), and named there."""
    best = best.set_index("series").reindex([series for series in colors if series in set(best["series"])])
    ax.plot(best["x"], best["y"], color=INK, linewidth=0.8, linestyle=(0, (2, 1.4)), zorder=5)
    for row in best.itertuples():
        hollow = {"markerfacecolor": "white", "markeredgecolor": colors[row.Index], "markeredgewidth": 1.4}
        solid = {"color": colors[row.Index], "markeredgecolor": "white", "markeredgewidth": 0.8}
        ax.plot([row.x], [row.y], marker="D", markersize=6.4, zorder=8, **(hollow if row.flag else solid))
    flagged = best[best["flag"] != ""]
    if len(flagged):
        at = flagged.iloc[-1]
        # The words run into the panel: centred, they would lie on the axis.
        side, shift = ("left", -4) if at["x"] ** 2 < rates[0] * rates[-1] else ("right", 4)
        ax.annotate("grid edge", (at["x"], at["y"]), (shift, -9), textcoords="offset points", ha=side, va="top",
                    fontsize=8.5, color="#a04a1c", path_effects=HALO, zorder=9)  # fmt: skip


def shift_text(statistics: pd.DataFrame, series: Sequence[str]) -> str:
    """By how many factors of 2 the best learning rate moves over a ratio of sizes, with its interval."""
    own = statistics[statistics["series"] == SHIFT]
    if not len(own) or not len(series):
        return ""
    ratio = f"{own['x'].iloc[0]:g} ${SYMBOLS[size_of(series)]}$"
    return f"shift of best $\\eta_0$ for {ratio}, log$_2$: {estimate(own.iloc[0])}"


def number(value: float) -> str:
    """Two decimals, so that a bound of 1.01 does not read as 1, or two digits of what is smaller than 0.1; with a
    proper sign of minus and infinity.

    >>> [number(value) for value in (1.01, -7.5, 0.06, -0.0053, 0.0)]
    ['1.01', '−7.50', '0.060', '−0.0053', '0.00']
    """
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0 or abs(value) >= TWO_DECIMALS:
        return shown(value)
    return f"{value:#.2g}".replace("-", "−")


def estimate(row: pd.Series) -> str:
    """A statistic with its interval, which is open at an infinite end; with two of these nothing is known of it."""
    if np.isinf(row[["y_low", "y_high"]].astype(float)).all():
        return f"{number(row['y'])}, not decided"
    left, right = "(" if np.isinf(row["y_low"]) else "[", ")" if np.isinf(row["y_high"]) else "]"
    return f"{number(row['y'])} {left}{number(row['y_low'])}, {number(row['y_high'])}{right}"


# --- along training ---------------------------------------------------------------------------------------------------


def rate_of(table: pd.DataFrame, name: str) -> float:
    """The learning rate at which a network is drawn, by its threshold 2 / eta_0, which tables hold to six digits."""
    told = panel(table, STATISTICS, name)
    if (told["series"] == RATE_SHOWN).any():
        return float(told.loc[told["series"] == RATE_SHOWN, "y"].iloc[0])
    guide = panel(table, "sharpness", name)
    return float(f"{2 / guide.loc[guide['series'] == EDGE, 'y'].iloc[0]:.5g}")


def draw_sharpness(ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[str, object], above: float = 0.3) -> None:
    """Sharpness against the step at one learning rate, with its threshold, and the exponent in the size."""
    own, rate = panel(table, "sharpness", name), rate_of(table, name)
    told = statistics_text(panel(table, STATISTICS, name), rate, SYMBOLS[size_of(own["series"])])
    write(ax, told or without_exponent(own), 0.97, 0.97)
    draw_widths(ax, own, colors)
    draw_edge(ax, own, text="")
    name_line(ax, own[own["series"] == EDGE], "$2/\\eta_0$")
    draw_edge(ax, own, ADAM_EDGE, "$2(1+\\beta_1)/(1-\\beta_1)$")
    ax.set_yscale("log")
    # The lines fill the panel; a band of few seeds may leave it, when one of them has almost died, and dead ones do.
    alive = own.loc[own["y"] > 0, "y"]
    ax.set_ylim(alive.min() / BELOW, alive.max())
    headroom(ax, above)
    log_ticks(ax.yaxis, alive)
    short_numbers(ax.yaxis)
    adam = (own["series"] == ADAM_EDGE).any()
    ax.set_ylabel("sharpness $\\lambda_1(D P^{-1} H)$" if adam else "sharpness $\\lambda_1(\\gamma^2 H)$")
    ax.set_title(f"{network_label(name)}: sharpness at $\\eta_0={rate:g}$")


def statistics_text(statistics: pd.DataFrame, rate: float, symbol: str) -> str:
    """Exponents in the size: of the sharpness, at the rate drawn and the next one below; of the steps to the edge.

    Where no smaller rate is measured than the one drawn, the next larger one stands beside it.
    """
    known = statistics[statistics["series"] == SHARPNESS_EXPONENT].sort_values("x")
    small = known["x"] < rate * (1 + 1e-6)
    rates = known[small].iloc[::-1].head(2)
    if len(rates) == 1:
        rates = pd.concat([rates, known[~small].head(1)])
    lines = [f"exponent in ${symbol}$ {estimate(row)} at $\\eta_0={row['x']:g}$" for _, row in rates.iterrows()]
    arrivals = statistics[statistics["series"] == ARRIVAL_EXPONENT]
    lines += [f"exponent in ${symbol}$ of the steps to the edge {estimate(row)}" for _, row in arrivals.iterrows()]
    return "\n".join(lines)


def without_exponent(own: pd.DataFrame) -> str:
    """Why a panel has no exponent, where its lines tell."""
    return "no exponent: a seed failed" if own["flag"].isin(ENDED).any() else ""


def name_line(ax: Axes, line: pd.DataFrame, text: str) -> None:
    """The name of a level line right of the panel, where no curve can lie on it."""
    for height in line["y"].tail(1):
        ax.annotate(text, (1, height), (3, 0), ("axes fraction", "data"), "offset points", ha="left", va="center",
                    fontsize=9, color=GREY, annotation_clip=False)  # fmt: skip


def draw_loss(ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[str, object]) -> None:
    """Training loss against the step; what explodes leaves the panel, which shows the size that rises least."""
    own, rate = panel(table, "loss", name), rate_of(table, name)
    draw_widths(ax, own, colors)
    ax.set_yscale("log")
    leave_out_explosions(ax, own)
    plain_ticks(ax.yaxis)
    ax.set_xlim(left=0)
    ax.set_ylabel("training loss")
    ax.set_title(f"{network_label(name)}: loss at $\\eta_0={rate:g}$")


def leave_out_explosions(ax: Axes, own: pd.DataFrame) -> None:
    """Limits within which all losses of the size that rises least can be told from one another."""
    top = EXPLODED * own.groupby("series")["y"].max().min()
    if 0 < top < ax.get_ylim()[1]:
        losses = own[["y", "y_low"]]
        lowest = losses[losses > 0].min(axis=None)  # a loss may underflow
        ax.set_ylim(lowest * (lowest / top) ** MARGIN, top)


def share_losses(axes: list[Axes]) -> None:
    """One scale for the losses of all networks."""
    low, high = zip(*(ax.get_ylim() for ax in axes), strict=True)
    for ax in axes:
        ax.set_ylim(min(low), max(high))
        plain_ticks(ax.yaxis)


def plain_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis whose limits are set, enough of them also where it spans less than a decade.

    With ticks at 1, 2, 3 and 5, an axis from 0.9 to 2.5 would have two, as one over two decades with ticks at 1.
    """
    low, high = sorted(axis.get_view_interval())
    log_ticks(axis, pd.Series([low, high]))
    if high < NARROW * low:
        axis.set_major_locator(MaxNLocator(8 if high < NARROW * low / 2 else 5, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(NullLocator())
    elif 100 * low <= high < WIDE * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))


def short_numbers(axis: Axis) -> None:
    """Powers of ten on an axis over decades up to large numbers, of which some would be 100000 and some 1e+06."""
    low, high = sorted(axis.get_view_interval())
    if high >= LARGE and high >= 100 * low:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{round(np.log10(value))}}}$"))


# --- legends ----------------------------------------------------------------------------------------------------------


def legends(figure: Figure, table: pd.DataFrame, colors: Mapping[str, object]) -> None:
    """Sizes above the panels; below them the other marks, those that are drawn."""
    lines = [Line2D([], [], color=color, linewidth=2.6) for color in colors.values()]
    figure.legend(
        lines, [f"${series}$" for series in colors], loc="outside upper center", ncols=len(lines), fontsize=10
    )
    kinds, flags = table["panel"].str.split(" | ", regex=False).str[0], set(table["flag"])
    handles = {"range over seeds": Patch(facecolor="#666666", alpha=0.22, linewidth=0)}
    if (kinds == "best").any():
        handles["best learning rate"] = Line2D([], [], marker="D", markersize=6, **GREYS)
    if (kinds == "arrival").any():
        handles["rises to $0.9 \\cdot 2/\\eta_0$ (median over seeds)"] = Line2D(
            [], [], marker="D", markersize=6, **GREYS
        )
    if "grid edge" in flags:
        handles["at the edge of the grid"] = Line2D([], [], marker="D", markersize=6, markerfacecolor="white", **GREYS)
    crosses = kinds.str.endswith(TRANSFER)  # of the end of training, and of other moments
    failed = set(table.loc[crosses, "flag"]) & set(ENDED)
    if (table["series"] == CHANCE).any():
        handles["loss at chance, where failures are marked"] = Line2D([], [], **CHANCE_LINE)
    if "diverged" in failed:
        handles["a seed diverged"] = Line2D([], [], marker="P", markersize=6, markeredgewidth=0, **GREYS)
    if "dead" in failed:
        handles["a seed died or ended at chance"] = Line2D([], [], marker="X", markersize=6, markeredgewidth=0, **GREYS)
    if set(table.loc[~crosses, "flag"]) - {"", "grid edge"}:
        handles["a seed has stopped or not converged"] = Line2D(
            [], [], marker="o", markersize=5, markerfacecolor="white", **GREYS
        )
    missing = left_out(table)
    if missing:
        handles[missing] = Line2D([], [], linestyle="")
    legend_below(figure, list(handles.items()))
