"""The comparison of conventions, drawn from its artefact table and from nothing else: one row a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from featurespeed.drawing.plotting import INK, UNORDERED
from featurespeed.drawing.width_curves import GREY, HALO
from featurespeed.papers.super_consistency.conventions.tables import LEVEL, NOTHING, OVER_BASE, RATE, SHIFT

GAP = 0.9  # between families, in rows
ONE_CHOICE, ALL_CHOICES = UNORDERED[0], UNORDERED[1]
BAND = (-1, 1)  # where a shift counts as transfer
APART = 0.17  # of the two widths of a network, up and down from the middle of its row, in rows
FACTORS = 1.015  # where factors on the base stand, as a share of the axes
BEYOND, BEYOND_TEXT = "#f6e3d8", "#a04a1c"


@dataclass(frozen=True)
class Row:
    """Where a network is drawn, and how."""

    base: str
    label: str
    y: float

    @property
    def color(self) -> str:
        """Of a base, of what differs from it in one choice, or of another convention."""
        if self.label == self.base:
            return INK
        return ONE_CHOICE if self.label.startswith(f"{self.base}, ") else ALL_CHOICES

    @property
    def text(self) -> str:
        """Its name, without that of its base."""
        return self.label.removeprefix(f"{self.base}, ")


def rows_of(table: pd.DataFrame) -> list[Row]:
    """The networks from the first family to the last, downwards."""
    own = table[table["panel"].str.startswith(f"{LEVEL} | ")].sort_values("order")
    bases = own["panel"].str.split(" | ", regex=False).str[1]
    families = {base: place for place, base in enumerate(bases.unique())}
    return [
        Row(base, label, -(order + GAP * families[base]))
        for base, label, order in zip(bases, own["series"], own["order"], strict=True)
    ]


def draw(table: pd.DataFrame, figure: Figure) -> None:
    """Where training starts, the best learning rate of the narrowest and the widest network, and its shift."""
    rows = rows_of(table)
    level, rate, shift = figure.subplots(1, 3, sharey=True, width_ratios=[1.15, 1.15, 1.0])
    _draw_levels(level, table, rows)
    _draw_rates(rate, table, rows)
    _draw_shifts(shift, table, rows)
    level.set_yticks([row.y for row in rows], [row.text for row in rows])
    for label, row in zip(level.get_yticklabels(), rows, strict=True):
        label.set(color=row.color, fontweight="bold" if row.label == row.base else "normal", fontsize=10)
    level.set_ylim(rows[-1].y - 0.6, rows[0].y + 0.6)
    for ax in (level, rate, shift):
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="#eeeeee", linewidth=0.8)
        ax.set_axisbelow(True)
    _legend(figure, table)


def _draw_levels(ax: Axes, table: pd.DataFrame, rows: list[Row]) -> None:
    for row in rows:
        _draw_point(ax, _find(table, LEVEL, row), row, row.y)
    _draw_bases(ax, table, rows, LEVEL)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(low, max(high, 2.0))
    ax.axvspan(1, max(high, 2.0), color=BEYOND, linewidth=0, zorder=0)
    ax.axvline(1, color=GREY, linestyle=(0, (1, 1.6)), linewidth=1.3, zorder=1)
    ax.text(
        1, 1.0, " beyond\n the edge", transform=ax.get_xaxis_transform(), fontsize=8.5, color=BEYOND_TEXT, va="top",
        path_effects=HALO,
    )  # fmt: skip
    _write_factors(ax, table, rows, LEVEL)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_title("where training starts")
    ax.set_xlabel("$\\lambda_1(\\gamma^2 H) \\cdot \\eta_0/2$ at step 0, at the best $\\eta_0$")


def _draw_rates(ax: Axes, table: pd.DataFrame, rows: list[Row]) -> None:
    """The narrowest network above, small; the widest below."""
    for row in rows:
        found = _find(table, RATE, row).sort_values("x")
        _draw_point(ax, found.head(1), row, row.y + APART, size=3.6)
        _draw_point(ax, found.tail(1), row, row.y - APART)
        missing = found.loc[found["flag"] == NOTHING, "x"]
        if len(missing):
            which = "" if len(missing) == len(found) else f"$N={missing.iloc[0]:g}$ "
            ax.text(0.02, row.y, f"{which}trains at no rate", transform=ax.get_yaxis_transform(), va="center",
                    fontsize=8.5, color=row.color, path_effects=HALO)  # fmt: skip
    _draw_bases(ax, table, rows, RATE)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    _write_factors(ax, table, rows, RATE)
    ax.set_title("best learning rate")
    ax.set_xlabel("base learning rate $\\eta_0$")


def _draw_shifts(ax: Axes, table: pd.DataFrame, rows: list[Row]) -> None:
    ax.axvspan(*BAND, color="#e8efe8", linewidth=0, zorder=0)
    ax.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=1)
    ax.set_xlim(-3, 3)
    known = table[table["panel"].str.startswith(f"{SHIFT} | ") & np.isfinite(table["y_low"])]
    furthest = float(np.nanmax(np.abs(known[["y_low", "y_high"]].to_numpy()))) if len(known) else 0.0
    ax.set_xlim(-max(2.0, 1.1 * furthest), max(2.0, 1.1 * furthest))
    for row in rows:
        _draw_point(ax, _find(table, SHIFT, row), row, row.y)
    ax.set_title("its transfer")
    ax.set_xlabel("shift for $16\\times$ the width, factors of 2")


def _draw_point(ax: Axes, own: pd.DataFrame, row: Row, y: float, size: float = 5.6) -> None:
    """A point with its interval, hollow if it is flagged; an open interval goes to the ends of the axes."""
    for found in own.itertuples():
        if np.isinf(found.y_low):
            ax.plot(ax.get_xlim(), [y, y], color=row.color, linewidth=1.0, linestyle=(0, (1, 1.6)), zorder=3)
        else:
            ax.hlines(y, found.y_low, found.y_high, color=row.color, linewidth=1.5, zorder=4)
        face = "white" if found.flag else row.color
        ax.plot([found.y], [y], marker="o", markersize=size, color=row.color, markerfacecolor=face, zorder=5)


def _draw_bases(ax: Axes, table: pd.DataFrame, rows: list[Row], quantity: str) -> None:
    """The base of every family as a line down its rows; of several widths, that of the widest."""
    for base in dict.fromkeys(row.base for row in rows):
        own = [row for row in rows if row.base == base]
        found = _find(table, quantity, own[0]).sort_values("x")["y"].iloc[-1]
        ax.vlines(found, own[-1].y - 0.4, own[0].y + 0.4, color=INK, linewidth=0.9, alpha=0.55, zorder=2)


def _write_factors(ax: Axes, table: pd.DataFrame, rows: list[Row], quantity: str) -> None:
    """Right of the axes, how many times that of its base every network has."""
    for row in rows:
        found = _find(table, quantity + OVER_BASE, row)["y"]
        factor = "1" if row.label == row.base else _two_digits(found.iloc[0]) if len(found) else ""
        if factor:
            ax.text(FACTORS, row.y, f"×{factor}", transform=ax.get_yaxis_transform(), fontsize=9, color=row.color,
                    va="center")  # fmt: skip


def _find(table: pd.DataFrame, quantity: str, row: Row) -> pd.DataFrame:
    return table[(table["panel"] == f"{quantity} | {row.base}") & (table["series"] == row.label)]


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):g}" if value < 1e4 else f"{value:.0e}".replace("e+0", "e")


def _legend(figure: Figure, table: pd.DataFrame) -> None:
    point = {"linestyle": "", "marker": "o", "markersize": 5.6}
    handles = {
        "the authors' network": Line2D([], [], color=INK, linewidth=0.9, marker="o", markersize=5.6),
        "one choice changed": Line2D([], [], color=ONE_CHOICE, **point),
        "our reading of the text": Line2D([], [], color=ALL_CHOICES, **point),
        "narrowest": Line2D([], [], color=GREY, **(point | {"markersize": 3.6})),
        "widest": Line2D([], [], color=GREY, **point),
        "95% interval over seeds": Line2D([], [], color=GREY, linewidth=1.5),
        "within a factor 2": Patch(facecolor="#d5e3d5", linewidth=0),
    }
    if (table["flag"] != "").any():
        handles["best rate not bracketed"] = Line2D([], [], color=GREY, markerfacecolor="white", **point)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles))
