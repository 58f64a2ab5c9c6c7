"""Figures 12, 13 and 14 of the second paper (arXiv:2402.17457), drawn from artefact tables and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.plotting import UNORDERED, log_ticks
from featurespeed.drawing.transfer_panels import (
    STEP,
    draw_columns,
    draw_loss,
    draw_sharpness,
    estimate,
    name_line,
    network_names,
    panel,
    share_losses,
    size_colors,
)
from featurespeed.drawing.transfer_rows import STATISTICS
from featurespeed.drawing.width_curves import GREY, headroom, left_out, legend, width_axis, write
from featurespeed.drawing.width_rows import STATISTIC
from featurespeed.papers.super_consistency.batch_size.spec import AUGMENTED, PLAIN
from featurespeed.papers.super_consistency.batch_size.tables import (
    BATCH,
    DELAY,
    DEPTH_OF_FALL,
    FALLS,
    LESS,
    NEVER_FALLS,
    NEVER_RISES,
    ONSET_EXPONENT,
    RISES,
    TWICE_THE_EDGE,
)
from featurespeed.sweeps.dependence import NEVER

ORDER = (PLAIN, AUGMENTED)
KINDS = {FALLS: ("begins to fall", "D", "-"), RISES: ("rises to $0.9 \\cdot 2/\\eta_0$", "o", (0, (4, 2)))}
NOT_REACHED = {FALLS: NEVER_FALLS, RISES: NEVER_RISES}  # panels that count the seeds which do not
SHIFTED = {FALLS: 1.03, RISES: 1 / 1.03}  # factors by which points of one width are moved apart
STOPPED = "a seed has stopped or not converged"
#: Means over three probe steps may be largest before the curve of the mean over seeds is.
PEAK = "peak of the three-point mean, from which it falls (median step, mean height over seeds)"


def draw_fig12(table: pd.DataFrame, figure: Figure) -> None:
    """A line of panels a network: loss, sharpness, and the steps at which the sharpness rises and falls by width."""
    names, colors = [name for name in ORDER if len(panel(table, "loss", name))], size_colors(table)
    axes = figure.subplots(len(names), 3, squeeze=False, width_ratios=[1.0, 1.2, 1.0])
    for line, name in zip(axes, names, strict=True):
        draw_loss(line[0], table, name, colors)
        draw_fall(line[1], table, name, colors)
        draw_onset(line[2], table, name)
    share_losses([line[0] for line in axes])
    for ax, text in zip(axes[-1], (STEP, STEP, "width $N$"), strict=True):
        ax.set_xlabel(text)
    hollow = STOPPED if (table["flag"] != "").any() else ""
    fallen = PEAK if table["panel"].str.startswith("peak | ").any() else ""
    legend(figure, colors, band="range over seeds", end=fallen, hollow=hollow, left_out=left_out(table))


def draw_fall(ax: Axes, table: pd.DataFrame, name: str, colors: Mapping[str, object]) -> None:
    """Sharpness against the step, with diamonds at the peak from which it falls, and how far it does."""
    draw_sharpness(ax, table, name, colors, above=0.45)
    for row in panel(table, "peak", name).itertuples():
        ax.plot([row.x], [row.y], marker="D", markersize=6, color=colors[row.series], markeredgecolor="white",
                markeredgewidth=0.8, zorder=8)  # fmt: skip
    own = panel(table, STATISTICS, name)
    fallen = own[own["series"] == DEPTH_OF_FALL]
    lines = [f"log(last tenth / peak) at $N={row['x']:.0f}$: {estimate(row)}" for _, row in fallen.iterrows()]
    lines += [f"mean over $N$, minus without: {text}" for text in _between(table, LESS, name)]
    ax.texts[0].set_text("\n".join([line for line in (ax.texts[0].get_text(), *lines) if line]))


def draw_onset(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """Steps at which the sharpness rises to the edge and begins to fall, against the width."""
    own = panel(table, "onset", name)
    for (series, (text, marker, style)), color in zip(KINDS.items(), UNORDERED, strict=False):
        rows = own[own["series"] == series].sort_values("x")
        bars = [rows["y"] - rows["y_low"], rows["y_high"] - rows["y"]]
        ax.errorbar(rows["x"] * SHIFTED[series], rows["y"], yerr=bars, color=color, marker=marker, markersize=5,
                    linestyle=style, linewidth=1.2, elinewidth=0.8, label=text)  # fmt: skip
        late = rows[rows["x"].isin(_mostly(panel(table, NOT_REACHED[series], name)))]
        ax.plot(late["x"] * SHIFTED[series], late["y"], color=color, marker=marker, markersize=5, linestyle="",
                markerfacecolor="white", zorder=5)  # fmt: skip
    ax.set_title(f"{name}: steps against width")
    ax.set_ylabel("training step")
    if own.empty:
        ax.set(xticks=[], yticks=[])
        write(ax, "no fall can be told: a network failed")
        return
    ax.set_yscale("log")
    headroom(ax, above=0.62, below=0.3)
    log_ticks(ax.yaxis, pd.Series(ax.get_ylim()))
    width_axis(ax, own["x"], label=False)
    ax.legend(loc="lower left", ncols=2)
    write(ax, "\n".join(_onset_texts(table, name)), x=0.97)


def _mostly(never: pd.DataFrame) -> pd.Series:
    """Widths whose median step is the last one because more than half of the seeds do not get there."""
    return never.loc[2 * never["y"] > never["n"], "x"]


def _too_many(never: pd.DataFrame) -> bool:
    return bool(never["y"].sum() > NEVER * never["n"].sum())


def _onset_texts(table: pd.DataFrame, name: str) -> list[str]:
    own, never = panel(table, STATISTICS, name), panel(table, NEVER_FALLS, name)
    exponents = own[own["series"] == ONSET_EXPONENT]
    texts = [f"exponent in $N$ of the onset {estimate(row)}" for _, row in exponents.iterrows()]
    texts += _delay_texts(table, name)
    texts += _never_texts("do not fall", never)
    if exponents.empty and _too_many(never):
        texts.append("too many for an exponent of the onset")
    return texts + _never_texts("do not rise", panel(table, NEVER_RISES, name))


def _delay_texts(table: pd.DataFrame, name: str) -> list[str]:
    """By how much augmentation delays the fall: a bound where some do not fall with it, nothing if few do without."""
    if _too_many(panel(table, NEVER_FALLS, PLAIN)):
        return []
    least = "at least " if panel(table, NEVER_FALLS, AUGMENTED)["y"].any() else ""
    return [f"log(onset with / without): {least}{text}" for text in _between(table, DELAY, name)]


def _never_texts(what: str, never: pd.DataFrame) -> list[str]:
    if not never["y"].any():
        return []
    counts = ", ".join(f"{count:.0f}" for count in never.sort_values("x")["y"])
    place = "hollow: last step" if len(_mostly(never)) else "counted as the last step"
    return [f"{what} by $N$: {counts} of {never['n'].iloc[0]:.0f} ({place})"]


def _between(table: pd.DataFrame, series: str, name: str) -> list[str]:
    """A number that compares both networks, beside the one with augmentation."""
    own = table[(table["panel"] == STATISTIC) & (table["series"] == series)]
    return [estimate(row) for _, row in own.iterrows()] if name == AUGMENTED else []


def draw_fig13(table: pd.DataFrame, figure: Figure) -> None:
    """A column of panels a batch size: transfer of the learning rate above, sharpness along training below."""
    names = sorted(network_names(table, ()), key=_size)
    axes = draw_columns(table, figure, names)
    for ax, name in zip(axes[1], names, strict=True):
        draw_twice_the_edge(ax, panel(table, "sharpness", name))
        headroom(ax, above=0.1, below=0)  # what is written above must not touch the upper line


def _size(name: str) -> int:
    return int(name.removeprefix(f"{BATCH} "))


def draw_twice_the_edge(ax: Axes, own: pd.DataFrame) -> None:
    """The line that the paper draws, 4 over the learning rate, dashed and named."""
    line = own[own["series"] == TWICE_THE_EDGE].sort_values("x")
    ax.plot(line["x"], line["y"], color=GREY, linestyle=(0, (4, 2)), linewidth=1.2, zorder=5)
    name_line(ax, line, "$4/\\eta_0$")
