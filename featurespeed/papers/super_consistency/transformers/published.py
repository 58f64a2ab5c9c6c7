"""What the authors' own runs of the ViT gave, and to which runs here it belongs.

Read off the notebook ``visualize vit`` of the repository lorenzonoci/nn_large_depth_width_landscape at 6c50081: final
training losses over learning rates (cell 2), and the largest eigenvalue of the Hessian along training (cell 3). Their
ViT on CIFAR-10 in patches of 4, 8 heads, 128 units, 6 to 96 branches under Depth-muP; Adam with one rate ``eta_0
gamma^2 / sqrt(L)`` for all layers, batches of 64, 20 epochs, 500 steps of warm-up, one initialisation. What could be
read stands in ``published.csv`` of this paper.

Plotted is ``N/sqrt(L)`` times the eigenvalue, ``N`` the width. With one rate for all layers that is the Hessian in
units of the learning rates, as ours is. Its points are means of three records, of which there is one or more an epoch;
they stand here by epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from featurespeed.data.spec import data_spec
from featurespeed.models.spec import ModelSpec
from featurespeed.papers.super_consistency.published import read_published

WIDTH = 128
RATE = 10 ** (-4 + 3 * 2 / 9)  # of the sharpness: the fourth step of their grid, 4.64e-4
EPOCHS = 20
LOSSES = "ViT LR transfer over depth (Depth-muP Adam with 1/sqrt L)"
SHARPNESS = "ViT sharpness times N/sqrt(L) against epoch"

_NETWORK = ModelSpec(kind="vit", depth=6, convention="authors")


def read_vit(panel: str) -> pd.DataFrame:
    """Points of one panel: columns ``depth, x, y, y_err``; ``x`` is the base learning rate, or the epoch."""
    points = read_published()
    points = points[(points["figure"] == "4c") & (points["panel"] == panel)]
    depth = points["series"].str.removeprefix("L=").astype(int)
    return points.assign(depth=depth)[["depth", "x", "y", "y_err"]].reset_index(drop=True)


def comparable(settings: Mapping[str, Any], label: str) -> bool:
    """Whether a network of a run, given by the settings and its label, is that of the authors, on the same data."""
    network = settings["networks"][label]
    data = data_spec(network.get("data") or settings["data"])
    model = ModelSpec.model_validate(network["model"] | {"depth": _NETWORK.depth})
    widths = network.get("widths") or settings["widths"]
    same_rates = network["optimizer"].get("layer_rates") == "common" and network["optimizer"].get("depth_rates")
    whole = data.name == "cifar10" and data.examples is None
    return whole and model == _NETWORK and list(widths) == [WIDTH] and bool(same_rates)


def share_of_training(epochs: pd.Series) -> pd.Series:
    """How much of their training the authors' networks have behind them, 0 to 1."""
    return epochs / EPOCHS
