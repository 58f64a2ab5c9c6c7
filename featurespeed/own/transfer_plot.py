"""The figure of a transfer check: sharpness and loss along training, and the loss at the end over the learning rate.

The three panels are those of arXiv:2402.17457, Figure 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurespeed.measuring.figures import GUIDE, new_figure, size_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurespeed.own.transfer import TransferCheck

Colors = dict[Any, tuple[float, float, float, float]]  # of every size
WINDOW = 0.02  # share of the steps over which a training loss is averaged
FEW_DECADES = 30.0  # ratio of an axis' ends below which 2 and 5 are told, too
BAND: dict[str, Any] = {"alpha": 0.18, "linewidth": 0}


def draw(check: TransferCheck) -> Figure:
    """Sharpness along training (if it was measured), loss along training, final loss over the learning rate."""
    sizes = sorted(check.table["size"].unique())
    colors = dict(zip(sizes, size_colors(len(sizes)), strict=True))
    measured = len(check.sharpness) > 0
    figure, axes = new_figure(3 if measured else 2)
    if measured:
        draw_sharpness(check.sharpness, axes[0], colors)
    draw_curves(check.curves, axes[-2], colors)
    draw_final(check.table, check.best, axes[-1], colors)
    handles = [axes[-2].plot([], [], color=color, label=str(size))[0] for size, color in colors.items()]
    figure.legend(handles=handles, title="size", loc="outside right center", frameon=False)
    figure.suptitle(check.sentence.split("; what would")[0], fontsize="medium")
    return figure


def draw_sharpness(rows: pd.DataFrame, ax: Axes, colors: Colors) -> None:
    """Sharpness over its threshold, where the optimizer has one that is known; else the sharpness."""
    known = bool(np.isfinite(rows["edge"]).all())
    column = "edge" if known else "eigenvalue"
    for size, own in rows.groupby("size"):
        filled = [colors[size] if converged else "white" for converged in own["converged"]]
        ax.plot(own["step"], own[column], color=colors[size])
        ax.scatter(own["step"], own[column], facecolors=filled, edgecolors=[colors[size]], s=16, zorder=3)
    if known:
        ax.axhline(1.0, **GUIDE)
    if (rows[column] > 0).all():
        _log_axis(ax)
    ax.set(xlabel="step", ylabel="sharpness / edge of stability" if known else "sharpness (largest eigenvalue)")
    ax.set_title(f"sharpness at learning rate {rows['learning_rate'].iloc[0]:.3g}", fontsize="small")


def draw_curves(curves: pd.DataFrame, ax: Axes, colors: Colors) -> None:
    """Training losses at the common best rate, mean over seeds and the range of them."""
    for size, own in curves.groupby("size"):
        wide = own.pivot(index="step", columns="seed", values="loss")
        window = max(1, round(WINDOW * len(wide)))
        smooth = wide.rolling(window, min_periods=1, center=True).mean()
        ax.plot(smooth.index, smooth.mean(axis=1), color=colors[size])
        ax.fill_between(smooth.index, smooth.min(axis=1), smooth.max(axis=1), color=colors[size], **BAND)
    if (curves["loss"].dropna() > 0).all():
        _log_axis(ax)
    ax.set(xlabel="step", ylabel="training loss")
    ax.set_title(f"loss at learning rate {curves['learning_rate'].iloc[0]:.3g} (band: seeds)", fontsize="small")


def draw_final(table: pd.DataFrame, best: pd.DataFrame, ax: Axes, colors: Colors) -> None:
    """Final loss over the learning rate: mean over the seeds that train and their range; best rates are marked.

    Rates at which a seed failed are crosses at the upper end.
    """
    kept = table[~table["failed"]]
    failing = table.loc[table["failed"], ["size", "learning_rate"]].drop_duplicates()
    for size, own in kept.groupby("size"):
        losses = own.groupby("learning_rate")["final_loss"]
        ax.plot(losses.mean().index, losses.mean(), color=colors[size], marker=".", markersize=4)
        ax.fill_between(losses.min().index, losses.min(), losses.max(), color=colors[size], **BAND)
    ax.set_xscale("log", base=2)
    if (kept["final_loss"] > 0).all() and len(kept):
        _log_axis(ax)
    _mark_best(kept, best, ax, colors)
    for size, rate in failing.itertuples(index=False):
        ax.plot(rate, 0.97, "x", color=colors[size], transform=ax.get_xaxis_transform(), markersize=4)
    ax.set(xlabel="learning rate", ylabel="loss at the end of training")
    told = ["stars: best rates", "hollow: bounds only" * bool(best["censored"].any()), "x: failed" * bool(len(failing))]
    ax.set_title(", ".join(part for part in told if part), fontsize="small")
    _plain_rates(ax, sorted(table["learning_rate"].unique()))


def _mark_best(kept: pd.DataFrame, best: pd.DataFrame, ax: Axes, colors: Colors) -> None:
    """A star at the geometric mean over seeds of the best rate; hollow if that lies next to an end or a failure."""
    for size, own in best.dropna(subset=["learning_rate"]).groupby("size"):
        rate = float(np.exp(np.log(own["learning_rate"]).mean()))
        losses = kept[kept["size"] == size].groupby("learning_rate")["final_loss"].mean()
        loss = float(np.interp(np.log(rate), np.log(losses.index), losses))
        face = "white" if own["censored"].mean() > 0.5 else colors[size]
        ax.plot(rate, loss, "*", markersize=11, markerfacecolor=face, markeredgecolor="black", markeredgewidth=0.6)


def _log_axis(ax: Axes) -> None:
    """A logarithmic axis with plain numbers, between powers of ten where there are few of these."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < FEW_DECADES * low else (1.0,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _plain_rates(ax: Axes, rates: list[float]) -> None:
    """Ticks at some of the rates, as numbers."""
    every = -(-len(rates) // 5)
    ax.set_xticks(rates[::every], [f"{rate:.2g}" for rate in rates[::every]], fontsize="small")
    ax.minorticks_off()
