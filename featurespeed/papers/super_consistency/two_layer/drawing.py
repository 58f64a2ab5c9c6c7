"""Figures of the two-layer linear network, drawn from artefact tables and from nothing else."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from featurespeed.drawing.plotting import GUIDE, INK, UNORDERED, draw_band, draw_flagged, log_ticks, ordered_colors
from featurespeed.papers.super_consistency.two_layer.tables import INITIAL, LIMITS, MUP, NTP

BLUE, ORANGE, GREEN, PINK = UNORDERED[:4]
NOTE = {"fontsize": 8.5, "color": "#666666"}
LABELS = {MUP: "μP", NTP: "NTP"}
DOTTED = {"color": GUIDE, "linestyle": ":", "linewidth": 1.2, "zorder": 1}
THRESHOLD = "$2/\\eta_0$"


def widths_of(table: pd.DataFrame) -> dict[str, tuple]:
    """Series ``N=...`` of a table, ascending, with the colours of the palette of widths."""
    names = {name for name in table["series"] if name.startswith("N=")}
    return ordered_colors(sorted(names, key=lambda name: int(name[2:])))


def _panel(table: pd.DataFrame, panel: str) -> pd.DataFrame:
    return table[table["panel"] == panel]


def _text(ax: Axes, x: float, y: float, text: str, **style: object) -> None:
    ax.text(x, y, text, transform=ax.transAxes, **(NOTE | style))


# --- theory -----------------------------------------------------------------------------------------------------------


def draw_theory(table: pd.DataFrame, figure: Figure) -> None:
    """Six panels: laws, bound, edge; initialisation, limit, softmax."""
    axes = figure.subplots(2, 3)
    _draw_laws(axes[0, 0], _panel(table, "laws"))
    _draw_bound(axes[0, 1], _panel(table, "bound"))
    _draw_edge(axes[0, 2], _panel(table, "edge"))
    _draw_over_width(axes[1, 0], table, "initialisation", list(INITIAL.values()))
    axes[1, 0].set(title="Prop. C.1: initialisation", ylabel="relative distance, or norm")
    _draw_over_width(axes[1, 1], table, "limit", list(LIMITS.values()))
    axes[1, 1].set(title="Cor. 5.4: distance of $e+v$ along training", ylabel="largest relative distance")
    _draw_softmax(axes[1, 2], _panel(table, "softmax"))


def _draw_laws(ax: Axes, table: pd.DataFrame) -> None:
    styles = {
        "one step": (BLUE, "one step"),
        "free running": (GREEN, "free running"),
        "one step, first order only": (ORANGE, "one step, first order only (control)"),
    }
    for series, (color, label) in styles.items():
        own = table[table["series"] == series].sort_values("x")
        draw_band(ax, own, color, alpha=0.15)
        ax.lines[-2].set_label(label)
    guide = table[table["series"] == "guide exact"]
    ax.plot(guide["x"], guide["y"], **DOTTED)
    ax.annotate("threshold $10^{-13}$", (guide["x"].max(), guide["y"].iloc[0]), (0, 3), textcoords="offset points",
                ha="right", **NOTE)  # fmt: skip
    ax.set(yscale="log", xlabel="step", ylabel="relative error of $(w, e, v)$", title="Thm 5.1: evolution laws")
    ax.set_ylim(3e-18, 1e5)
    ax.yaxis.set_major_locator(LogLocator(base=1e4, numticks=20))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(loc="upper left")


def _draw_bound(ax: Axes, table: pd.DataFrame) -> None:
    ax.axhline(1.0, **DOTTED)
    ax.annotate("bound", (0.0, 1.0), (1, 3), ("axes fraction", "data"), "offset points", **NOTE)
    for name, color in ((MUP, BLUE), (NTP, ORANGE)):
        gap = table[table["series"] == f"gap, {name}"]
        ax.plot(gap["x"], gap["y"], linestyle="", marker="o", markersize=3, color=color, alpha=0.5,
                markeredgewidth=0, label=f"{LABELS[name]}: gap of $H$ and $G$")  # fmt: skip
    dense = table[table["series"].str.startswith("residual")]
    ax.plot(dense["x"], dense["y"], linestyle="", marker="D", markersize=5, markerfacecolor="white",
            markeredgecolor=INK, markeredgewidth=0.9, label="$\\lambda_{\\max}(R)$")  # fmt: skip
    gaps = table[table["series"].str.startswith("gap")]["y"]
    ax.set(xlabel="step", ylabel="over the bound", title="Lemma 5.2: residual part", ylim=(-0.03, 1.5))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper right", title=f"largest gap: {gaps.max():.3f} of the bound", title_fontsize=8.5)


def _draw_edge(ax: Axes, table: pd.DataFrame) -> None:
    lines = {
        "guide edge": (INK, "-"),
        "guide printed edge": (ORANGE, (0, (4, 2.2))),
        "guide least sharpness": (GUIDE, ":"),
    }
    for series, (color, dashes) in lines.items():
        own = table[table["series"] == series].sort_values("x")
        ax.plot(own["x"], own["y"], color=color, linestyle=dashes, linewidth=1.2, zorder=2)
    runs = table[~table["series"].str.startswith("guide")]
    markers = {MUP: (BLUE, "o"), NTP: (GREEN, "^")}
    for name, (color, marker) in markers.items():
        own = runs[runs["series"].str.startswith(name)]
        ax.plot(own["x"], own["y"], linestyle="", marker=marker, markersize=3.4, color=color, alpha=0.55,
                markeredgewidth=0, label=LABELS[name])  # fmt: skip
    ax.annotate(
        "edge as printed", (0.62, 1.19), (-6, 4), textcoords="offset points", ha="right", color=ORANGE, fontsize=8.5
    )
    ax.annotate("edge $2/\\eta_0$", (0.0, 1.0), (3, -4), textcoords="offset points", va="top", color=INK, fontsize=8.5)
    ax.annotate("flattest minimiser", (0.28, 0.28), (5, -4), textcoords="offset points", va="top", **NOTE)
    ax.set(xlabel="$\\eta_0\\,\\gamma |w_*| / \\sqrt{ND}$", ylabel="$\\lambda\\,\\eta_0/2$ of converged runs")
    ax.set(title="Prop. 5.3: edge of stability", xlim=(0, 1.03), ylim=(0, 1.53))
    ax.legend(loc="lower right", title=f"{len(runs)} runs, largest {runs['y'].max():.3f}", title_fontsize=8.5)


def _draw_over_width(ax: Axes, table: pd.DataFrame, case: str, series: list[str]) -> None:
    """Means with intervals on logarithmic axes; the exponent of each line in its label."""
    own, numbers = _panel(table, case), _panel(table, f"statistic | {case}").set_index("series")
    for name, color in zip(series, UNORDERED, strict=False):
        line, found = own[own["series"] == name].sort_values("x"), numbers.loc[name]
        draw_band(ax, line, color, alpha=0.2, marker="o")
        half = (found.y_high - found.y_low) / 2
        ax.lines[-2].set_label(f"{name}: $N^{{{found.y:.2f}}}$ ± {half:.2f}")
    ax.set(xscale="log", yscale="log", xlabel="width $N$")
    _width_axis(ax, own)
    low, high = own["y"].min(), own["y"].max()
    ax.set_ylim(low / 1.6, high * (high / low) ** 0.5)
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(loc="upper right", ncols=1)


def _width_axis(ax: Axes, rows: pd.DataFrame) -> None:
    widths = sorted(rows["x"].unique())
    shown = widths if len(widths) <= 4 else widths[::2]
    ax.set_xticks(shown, [f"{width:g}" for width in shown])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks([], minor=True)


def _draw_softmax(ax: Axes, table: pd.DataFrame) -> None:
    own = table[table["series"] == "largest eigenvalue"].sort_values("x")
    draw_band(ax, own, BLUE, alpha=0.2, marker="o")
    guide = table[table["series"].str.startswith("guide")].sort_values("x")
    ax.plot(guide["x"], guide["y"], color=ORANGE, linestyle=(0, (4, 2.2)), linewidth=1.2)
    ax.annotate("limit as printed", (guide["x"].max(), 1.0), (0, 4), textcoords="offset points", ha="right",
                fontsize=8.5, color=ORANGE)  # fmt: skip
    ax.set(yscale="log", xlabel="margin of the true class", ylabel="largest eigenvalue of $\\mathrm{diag}(p)-pp^T$")
    ax.set(title="App. D: softmax as the fit gets perfect", ylim=(own["y"].min() / 5, 20))
    end = own.iloc[-1]
    ax.annotate(f"{end.y:.0e}", (end.x, end.y), (-5, -1), textcoords="offset points", ha="right", va="top", **NOTE)


# --- Figure 5 ---------------------------------------------------------------------------------------------------------

COLUMNS = {
    "training_loss": "loss",
    "sharpness": "$\\lambda_{\\max}(\\gamma^2 H)$",
    "gauss_newton_eigenvalue": "$\\lambda_{\\max}(\\gamma^2 G)$",
    "residual_eigenvalue": "$\\lambda_{\\max}(\\gamma^2 R)$",
}


def draw_fig05(table: pd.DataFrame, figure: Figure) -> None:
    """A line of panels a parameterization: loss and eigenvalues; below, what the width does to them."""
    colors = widths_of(table)
    grid = figure.add_gridspec(3, 1, height_ratios=[1, 1, 1])
    for line, name in enumerate((MUP, NTP)):
        axes = grid[line].subgridspec(1, 4).subplots()
        axes[2].sharey(axes[1])
        axes[3].sharey(axes[1])
        for ax, (quantity, title) in zip(axes, COLUMNS.items(), strict=True):
            own = _panel(table, f"{quantity} | {name}")
            for series, color in colors.items():
                draw_band(ax, own[own["series"] == series].sort_values("x"), color, alpha=0.2)
            ax.set(title=f"{LABELS[name]}: {title}", xlabel="step")
        axes[0].set(yscale="log", ylabel="training loss")
        axes[1].set_ylabel("1 / learning rate")
        _eigenvalue_axis(axes[1], table, name)
        gone = _panel(table, f"diverged | {name}")
        if len(gone):
            _text(axes[0], 0.98, 0.98, f"diverged: {', '.join(gone['series'])}", ha="right", va="top")
    left, right = grid[2].subgridspec(1, 2).subplots()
    _draw_share(left, _panel(table, "share"))
    _draw_sharpening(right, table)
    handles = [Line2D([], [], color=color, linewidth=2.6) for color in colors.values()]
    figure.legend(handles, [f"${name}$" for name in colors], loc="outside upper center", ncols=len(colors))


def _eigenvalue_axis(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """The threshold where it is near; a note where it is far above all that is measured."""
    own = _panel(table, f"sharpness | {name}")
    guide, top = own[own["series"].str.startswith("guide")], own[own["n"] > 0]["y"].max()
    edge = guide["y"].iloc[0]
    if edge <= 3 * top:
        ax.plot(guide["x"], guide["y"], **DOTTED)
        ax.annotate(THRESHOLD, (guide["x"].max(), edge), (0, 2), textcoords="offset points", ha="right", **NOTE)
        ax.set_ylim(0, 1.12 * max(edge, top))
    else:
        ax.set_ylim(0, 1.12 * top)
        _text(ax, 0.98, 0.98, f"{THRESHOLD} = {edge:g}", ha="right", va="top")


def _draw_share(ax: Axes, table: pd.DataFrame) -> None:
    for name, color in ((MUP, BLUE), (NTP, ORANGE)):
        for when, dashes in (("end", "-"), ("start", (0, (2, 1.6)))):
            own = table[table["series"] == f"{name}, {when}"].sort_values("x")
            draw_band(ax, own, color, alpha=0.2, marker="o")
            ax.lines[-2].set(linestyle=dashes, label=f"{LABELS[name]}, {when} of training")
    ax.axhline(0.9, **DOTTED)
    smallest = table[table["series"].str.endswith("end")]["y"].min()
    ax.annotate("threshold 0.9", (0.0, 0.9), (2, -3), ("axes fraction", "data"), "offset points", va="top", **NOTE)
    ax.set(xscale="log", xlabel="width $N$", ylabel="$\\lambda_{\\max}(G)\\,/\\,\\lambda_{\\max}(H)$", ylim=(0, 1.06))
    ax.set_title(f"Gauss-Newton share; smallest at the end: {smallest:.4f}")
    _width_axis(ax, table)
    ax.legend(loc="center", bbox_to_anchor=(0.3, 0.42))


def _draw_sharpening(ax: Axes, table: pd.DataFrame) -> None:
    own, numbers = _panel(table, "sharpening"), _panel(table, "statistic | sharpening").set_index("series")
    for name, color in ((MUP, BLUE), (NTP, ORANGE)):
        draw_band(ax, own[own["series"] == name].sort_values("x"), color, alpha=0.2, marker="o")
        law = f", rise $N^{{{numbers.loc[name, 'y']:.2f}}}$" if name in numbers.index else ""
        ax.lines[-2].set_label(f"{LABELS[name]}{law}")
    ax.axhline(1.0, **DOTTED)
    ax.set(xscale="log", xlabel="width $N$", ylabel="$\\lambda_{\\max}(H)$, last step over first")
    ax.set_title("Sharpening factor")
    ax.set_ylim(0.95, None)
    _width_axis(ax, own)
    ax.legend(loc="center right")


# --- Figure 10 --------------------------------------------------------------------------------------------------------


def draw_fig10(table: pd.DataFrame, figure: Figure) -> None:
    """Loss and sharpness against the step at each learning rate shown; below, terminal sharpness against the width."""
    colors = widths_of(table)
    shown = [panel.split(" | ")[1:] for panel in sorted(table["panel"].unique()) if panel.startswith("loss")]
    shown.sort(key=lambda pair: (pair[0] != MUP, float(pair[1])))
    grid = figure.add_gridspec(3, 1, height_ratios=[1, 1, 1.25])
    upper = grid[0].subgridspec(1, len(shown)).subplots(squeeze=False)[0]
    lower = grid[1].subgridspec(1, len(shown)).subplots(squeeze=False)[0]
    for column, (name, rate) in enumerate(shown):
        for ax, kind in ((upper[column], "loss"), (lower[column], "sharpness")):
            own = _panel(table, f"{kind} | {name} | {rate}")
            for series, color in colors.items():
                draw_band(ax, own[own["series"] == series].sort_values("x"), color, alpha=0.25)
            ax.set_yscale("log")
        upper[column].set_title(f"{LABELS[name]}, $\\eta_0={rate}$")
        lower[column].set_xlabel("step")
        _toy_axes(upper[column], lower[column], _panel(table, f"sharpness | {name} | {rate}"))
    upper[0].set_ylabel("loss")
    lower[0].set_ylabel("sharpness $\\lambda_{\\max}(\\gamma^2H)$")
    left, right = grid[2].subgridspec(1, 2).subplots()
    _draw_terminal(left, table, MUP)
    _draw_terminal(right, table, NTP)
    left.set_ylabel("terminal sharpness")
    handles = [Line2D([], [], color=color, linewidth=2.6) for color in colors.values()]
    figure.legend(handles, [f"${name}$" for name in colors], loc="outside upper center", ncols=len(colors))


def _toy_axes(loss: Axes, sharp: Axes, own: pd.DataFrame) -> None:
    loss.set_ylim(1e-8, 1e4)
    guide = own[own["series"].str.startswith("guide")]
    sharp.plot(guide["x"], guide["y"], **DOTTED)
    sharp.annotate(THRESHOLD, (guide["x"].min(), guide["y"].iloc[0]), (2, 2), textcoords="offset points", **NOTE)
    values = pd.concat([own["y"], guide["y"]])
    log_ticks(sharp.yaxis, values)
    sharp.set_ylim(values.min() / 1.2, values.max() * 1.5)


MARKERS = ("o", "s", "^", "D", "v", "P")


def _draw_terminal(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """One line a learning rate: hollow where a run still cycles, a cross at ``2 / eta_0`` where one diverged."""
    own = _panel(table, f"terminal | {name}")
    rates = sorted({s for s in own["series"] if s.startswith("eta_0")}, key=lambda s: float(s.split("=")[1]))
    handles = []
    for (series, color), marker in zip(ordered_colors(rates).items(), MARKERS * 3, strict=False):
        rows = own[own["series"] == series].sort_values("x")
        clean, gone = rows[rows["flag"] == ""], rows[rows["flag"] == "diverged"]
        style = {"color": color, "marker": marker, "markersize": 4.5, "linewidth": 1.0}
        ax.plot(clean["x"], clean["y"], zorder=4, **style)
        draw_flagged(ax, rows[rows["flag"] == "unconverged"], color)
        ax.plot(gone["x"], gone["y"], linestyle="", marker="x", markersize=6, color=color, zorder=7)
        handles.append(Line2D([], [], label=f"$\\eta_0={series.split('=')[1]}$", **style))
    guide = own[own["series"] == "guide least"].sort_values("x")
    least = {**DOTTED, "zorder": 5, "color": INK, "label": "$2\\gamma|w_*|/\\sqrt{ND}$"}
    handles += ax.plot(guide["x"], guide["y"], **least)
    ax.set(xscale="log", yscale="log", xlabel="width $N$")
    values = own["y"]
    log_ticks(ax.yaxis, pd.concat([values, pd.Series([1.0, 5.0])]) if name == MUP else values)
    ax.set_ylim(values.min() / 1.35, values.max() * (2.0 if name == MUP else 1.35))
    _width_axis(ax, own[~own["series"].str.startswith("guide")])
    ax.set_title(f"{LABELS[name]}{_slope_text(table, name)}")
    _terminal_legend(ax, own, handles)


def _slope_text(table: pd.DataFrame, name: str) -> str:
    found = _panel(table, f"statistic | terminal | {name}")
    if found.empty:
        return ": terminal sharpness"
    half = (found["y_high"].iloc[0] - found["y_low"].iloc[0]) / 2
    return f": slope in $N$ at the smallest $\\eta_0$ {round(found['y'].iloc[0], 3) + 0.0:.3f} ± {half:.3f}"


def _terminal_legend(ax: Axes, own: pd.DataFrame, handles: list[Line2D]) -> None:
    point = {"linestyle": "", "color": INK}
    if (own["flag"] == "unconverged").any():
        handles.append(Line2D([], [], marker="o", markersize=5, markerfacecolor="white", label="cycles", **point))
    if (own["flag"] == "diverged").any():
        handles.append(Line2D([], [], marker="x", markersize=6, label="a seed diverged", **point))
    ax.legend(handles=handles, ncols=3, loc="upper right")
