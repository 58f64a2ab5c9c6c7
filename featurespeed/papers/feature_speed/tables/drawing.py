"""Tables 1 and 2 of arXiv:2311.18718, drawn from their artefact tables."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurespeed.drawing.exponents import draw_measured, draw_stated, quantity_axis
from featurespeed.drawing.plotting import (
    evidence_legend,
    label_of,
)
from featurespeed.scalings import STATED_PROPERTIES

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
