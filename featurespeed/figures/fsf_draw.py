"""Figures of the first paper (arXiv:2311.18718), drawn from artefact tables and from nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.figures.exponents import draw_measured, draw_stated, quantity_axis
from featurespeed.figures.fsf_tables import INFINITE
from featurespeed.plotting import (
    INK,
    angle_axis,
    direct_labels,
    draw_band,
    draw_cores,
    draw_dots,
    draw_flagged,
    draw_guide,
    draw_published,
    draw_theory,
    evidence_legend,
    label_of,
    log_ticks,
    ordered_colors,
    rows,
    unordered_colors,
)
from featurespeed.scalings import STATED_PROPERTIES

#: Series in the order of their branch scale, smallest first.
BRANCH_ORDER = ("beta=1/L", "beta=0.5/sqrtL", "beta=1/sqrtL", "beta=2/sqrtL", "beta=1")

KINDS = {
    "dots": "one draw, dense network (exact tangent)",
    "cores": "the same, finite step (the paper's way)",
    "line": "mean of {n} exact samples",
    "band": "95% of single draws",
    "theory": "infinite width (ours)",
}


def _series(table: pd.DataFrame, order: tuple[str, ...] = ()) -> list[str]:
    """Series that hold data, known ones first in their order; guides are no series."""
    names = [name for name in table["series"].unique() if not name.startswith("guide")]
    depth = {name: int(name[2:]) for name in names if name.startswith("L=") and name[2:].isdigit()}
    rank = {name: i for i, name in enumerate(order)}
    return sorted(names, key=lambda name: (rank.get(name, len(order)), depth.get(name, 0), name))


def _count(table: pd.DataFrame) -> str:
    n = table.loc[table["estimator"] == "sampler", "n"]
    return "" if n.empty else str(n.min()) if n.min() == n.max() else f"{n.min()} to {n.max()}"


def _legend(
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


def _draw_angles(table: pd.DataFrame, figure: Figure, xlabel: str, symbol: str, log_x: bool = False) -> Axes:
    ax = figure.add_subplot()
    names = _series(table, BRANCH_ORDER)
    colors = ordered_colors(names)
    if log_x:
        ax.set_xscale("log")
        log_ticks(ax.xaxis, table["x"])
    for name in names:
        color = colors[name]
        draw_dots(ax, rows(table, "jvp", "draws", name), color)
        draw_cores(ax, rows(table, "finite step", "draws", name))
        draw_band(ax, rows(table, "sampler", "draws", name).assign(y=np.nan), color, alpha=0.16)
        draw_band(ax, rows(table, "sampler", "mean", name), color, alpha=0.35)
        draw_published(ax, rows(table, "published", "mean", name), color)
    draw_theory(ax, rows(table, "theory", "mean"))
    ax.set_xlabel(xlabel)
    angle_axis(ax, symbol)
    return ax


def _ends(table: pd.DataFrame, names: list[str]) -> dict[str, tuple[float, float]]:
    """Last point of each series: of its mean line where there is one."""
    ends = {}
    for name in names:
        own = table[(table["series"] == name) & np.isfinite(table["y"])]
        line = own[own["estimator"].isin(["sampler", "theory"])]
        last = (line if len(line) else own).sort_values("x").iloc[-1]
        ends[name] = (float(last["x"]), float(last["y"]))
    return ends


def _label_series(ax: Axes, table: pd.DataFrame, order: tuple[str, ...] = BRANCH_ORDER) -> None:
    names = _series(table, order)
    direct_labels(ax, _ends(table, names), ordered_colors(names))


def draw_fig1a(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 1a: the angle through the layers."""
    ax = _draw_angles(table, figure, "layer $v$", r"backward-feature angle $\theta_v$")
    ax.set_xlim(0, table["x"].max() * 1.01)
    _legend(table, figure, KINDS | {"published": "the paper's figure ($L=m=200$), 95%"})
    _label_series(ax, table)


def draw_fig1b(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 1b: the output angle against depth."""
    ax = _draw_angles(table, figure, "depth $L$", r"output angle $\theta_{L-1}$")
    ax.set_xlim(0, table["x"].max() * 1.01)
    _legend(table, figure, KINDS | {"published": "the paper's figure ($m=200$), 95%"})
    _label_series(ax, table)


def draw_fig1c(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 1c: the output angle collapses on a function of c = sqrt(L) beta."""
    ax = _draw_angles(table, figure, r"$c=\sqrt{L}\,\beta$", r"output angle $\theta_{L-1}$", log_x=True)
    measured = table[table["estimator"] != "theory"]
    colors = ordered_colors(_series(measured, BRANCH_ORDER))
    for name, color in colors.items():
        mean = rows(table, "jvp", "mean", name)
        ax.plot(mean["x"], mean["y"], linestyle="", marker="o", markersize=4.4, color=color, zorder=5)
    average = {"points": "mean of the draws, as in the paper"} if len(rows(table, "jvp", "mean")) else {}
    _legend(table, figure, average | KINDS, colors=colors)


# --- Figure 2 ---------------------------------------------------------------------------------------------------------

SENSITIVITY_TITLES = {
    "feature_sensitivity": r"sensitivity $S=\mathrm{rms}(\dot f_{L-1})/\dot{\mathcal{L}}_{\leq L-1}$",
    "inverse_backward_norm": r"inverse backward norm $1/(|b_{L-1}|\sqrt{m})$",
}
MEDIAN_KINDS = KINDS | {
    "line": "median of {n} exact samples",
    "band": "95% interval of the median",
    "guide": "power of the depth stated by the paper",
}


def _draw_sensitivities(table: pd.DataFrame, figure: Figure, colors: dict) -> list[Axes]:
    panels = figure.subplots(1, len(SENSITIVITY_TITLES), sharex=True, sharey=True)
    for ax, (panel, title) in zip(panels, SENSITIVITY_TITLES.items(), strict=True):
        for name, color in colors.items():
            draw_dots(ax, rows(table, "jvp", panel, name), color, size=3.6)
            draw_cores(ax, rows(table, "finite step", panel, name), size=1.2)
            draw_band(ax, rows(table, "sampler", panel, name), color, alpha=0.28, marker="s")
        lines = rows(table, "theory", panel)
        guide = lines["series"].str.startswith("guide")
        draw_theory(ax, lines[~guide])
        draw_guide(ax, lines[guide])
        ax.set_title(title)
        ax.set_xlabel("depth $L$")
    return list(panels)


def draw_fig2a(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 2a: sensitivity of the MLP against depth, both axes logarithmic."""
    colors = unordered_colors(_series(table, ("NTK", "MF+muP", "FSC")))
    panels = _draw_sensitivities(table, figure, colors)
    for ax in panels:
        ax.set(xscale="log", yscale="log")
        log_ticks(ax.xaxis, table["x"])
        log_ticks(ax.yaxis, table["y"])
    _legend(table, figure, MEDIAN_KINDS, colors=colors)


def draw_fig2b(table: pd.DataFrame, figure: Figure) -> None:
    """Figure 2b: sensitivity of the ResNet, constant in depth."""
    colors = unordered_colors(_series(table, ("beta=1/sqrtL", "beta=1/L")))
    panels = _draw_sensitivities(table, figure, colors)
    for ax in panels:
        ax.set_ylim(0, None)
    _legend(table, figure, MEDIAN_KINDS, colors=colors)


# --- Tables 1 and 2 ---------------------------------------------------------------------------------------------------

QUANTITY_LABELS = {
    "init_std_input": r"$\sigma_1$",
    "init_std_hidden": r"$\sigma_{\mathrm{hid}}$",
    "init_std_readout": r"$\sigma_L$",
    "learning_rate_input": r"$\eta_1$",
    "learning_rate_hidden": r"$\eta_{\mathrm{hid}}$",
    "learning_rate_readout": r"$\eta_L$",
    "forward_rms": r"SP  $\mathrm{rms}(f)$",
    "feature_speed_rms": r"FL  $\mathrm{rms}(\dot f_{L-1})$",
    "loss_decay": r"LD  $-\dot{\mathcal{L}}$",
    "contribution_ratio": r"BC  largest/smallest",
}
PROPERTIES = {"forward_rms": "SP", "feature_speed_rms": "FL", "loss_decay": "LD", "contribution_ratio": "BC"}
SIZE_TITLES = {"m": "width $m$", "L": "depth $L$", "d": "input dimension $d$", "k": "output dimension $k$"}


def draw_scaling_table(table: pd.DataFrame, figure: Figure) -> None:
    """Tables 1 and 2: measured exponents with intervals beside the stated ones, one row of panels a scaling."""
    scalings = _in_order([panel.split(" | ")[0] for panel in table["panel"].unique()], ("NTK", "MF+muP", "FSC"))
    axes = figure.subplots(len(scalings), len(SIZE_TITLES), sharex="col", sharey="row", squeeze=False)
    for scaling, line in zip(scalings, axes, strict=True):
        for size, ax in zip(SIZE_TITLES, line, strict=True):
            _draw_exponents(ax, table[table["panel"] == f"{scaling} | exponent of {size}"], scaling)
        line[0].set_title(label_of(scaling), fontweight="bold", x=-0.55)
    for top, bottom, (size, title) in zip(axes[0], axes[-1], SIZE_TITLES.items(), strict=True):
        top.set_title(title, loc="center")
        bottom.set_xlabel(f"exponent of ${size}$")
    _exponent_legend(table, figure)


def _in_order(names: list[str], order: tuple[str, ...]) -> list[str]:
    return sorted(set(names), key=lambda name: (order.index(name) if name in order else len(order), name))


def _exponent_legend(table: pd.DataFrame, figure: Figure) -> None:
    texts = {
        "interval": f"measured, 95% interval over {table['n'].min()} seeds",
        "stated": "stated by the paper (0 = does not depend on this size)",
    }
    if (table["flag"] != "").any():
        texts["flagged"] = "flagged: " + ", ".join(sorted(set(table["flag"]) - {""}))
    evidence_legend(figure, texts)


def _draw_exponents(ax: Axes, table: pd.DataFrame, scaling: str) -> None:
    """One panel: quantities downwards, hyper-parameters above the four properties."""
    quantities = [name for name in QUANTITY_LABELS if name in set(table["series"])]
    y = [-i - (0.6 if name in PROPERTIES else 0.0) for i, name in enumerate(quantities)]
    own = table.set_index("series").loc[quantities]
    draw_measured(ax, own, y, ["#009e73" if name in PROPERTIES else "#0072b2" for name in quantities])
    draw_stated(ax, own, y)
    quantity_axis(ax, y, [_quantity_label(name, scaling) for name in quantities])
    low, high = min(own["x"].min(), own["y_low"].min(), -0.25), max(own["x"].max(), own["y_high"].max(), 0.25)
    left, right = ax.get_xlim() if ax.get_autoscalex_on() is False else (low, high)
    ax.set_xlim(min(left, low - 0.15), max(right, high + 0.15))


def _quantity_label(quantity: str, scaling: str) -> str:
    """A property that the paper says this scaling lacks is named so: its exponent need not be 0."""
    stated = STATED_PROPERTIES.get(scaling, {}).get(PROPERTIES.get(quantity, ""), True)
    return QUANTITY_LABELS[quantity] + ("" if stated else " (stated to fail)")


# --- our theory -------------------------------------------------------------------------------------------------------


def draw_theory_figure(table: pd.DataFrame, figure: Figure) -> None:
    """Closed forms of phi(c), the correction at finite width, and the tail of cos phi(c)."""
    left, middle, right = figure.subplots(1, 3)
    for ax, case in ((left, "phi"), (middle, "finite width"), (right, "tail")):
        own = table[table["panel"] == case]
        sampled = own[own["estimator"] == "sampler"]
        colors = unordered_colors(_series(sampled, ("ReLU", "linear", "MLP")))
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
