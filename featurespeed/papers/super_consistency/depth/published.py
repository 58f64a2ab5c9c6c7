"""What the authors' own runs over the depth gave: best learning rates, eigenvalues along training, and to which runs
here they belong.

Read off plots of final training losses over learning rates in the notebooks of the repository
lorenzonoci/nn_large_depth_width_landscape at 6c50081. Their ConvNet with skip connections under Depth-muP on CIFAR-10:
one layer a block, 64 channels, batches of 128, 40 epochs (``visualize-Copy2``, cell 4); two layers a block, 16
channels, 80 epochs, batch size not printed (``visualize``, cell 5). The rates are those of grids, :data:`STEPS` apart:
a best one is known to half a step. The losses, as far as they could be read, stand in ``published.csv`` of this paper.

Eigenvalues (``visualize``, cell 5) are those of the network of two layers a block at :data:`RATE`, one record an epoch,
means of two successive ones; without the batch size they can only be set beside ours by epochs. The Hessian's are raw,
so that ours, of ``gamma^2 H`` with ``gamma^2 = N``, are ``N`` times as large; the NTK's are summed over 1024 images,
ours divided by their number and multiplied with the learning rates of the layers, ``N`` each.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from featurespeed.data.spec import data_spec
from featurespeed.models.spec import ModelSpec
from featurespeed.papers.super_consistency.depth.spec import ONE, TWO
from featurespeed.papers.super_consistency.published import IMAGES, INPUTS_PER_CHANNEL, read_published

#: Network -> depth L -> best base learning rate.
BEST_RATES: Mapping[str, Mapping[int, float]] = MappingProxyType(
    {
        ONE: MappingProxyType({3: 0.22, 6: 0.38, 12: 0.38, 24: 0.49, 48: 0.49}),
        TWO: MappingProxyType({3: 0.27, 6: 0.21, 12: 0.35, 24: 0.58, 48: 0.74, 96: 0.95, 192: 1.22}),
    }
)
STEPS: Mapping[str, float] = MappingProxyType({ONE: 10 ** (1.5 / 13), TWO: 10 ** (2.5 / 23)})  # ratios of neighbours

EPOCHS: Mapping[str, int] = MappingProxyType({ONE: 40, TWO: 80})
LENGTH = 0.25  # share of their epochs that a run must have: best rates are larger in short training
EXAMPLES = 50_000  # of CIFAR-10

_LAYERS, _SHALLOWEST = {ONE: 1, TWO: 2}, 3

RATE = 10 ** (-1 + 10 * 2.5 / 23)  # of the eigenvalues: the eleventh step of their grid, 1.2217
INPUTS = 16 * INPUTS_PER_CHANNEL  # N of that network
#: Panel of ``published.csv`` -> what it is called in Figure 25, and what its values are multiplied with.
EIGENVALUES: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "3rd Hessian eigenvalue over depth 2 layers/block": ("eigenvalue 3", INPUTS),
        "10th Hessian eigenvalue over depth 2 layers/block": ("eigenvalue 10", INPUTS),
        "NTK lambda_1 (not times N) over depth 2 layers/block": ("NTK eigenvalue 1", INPUTS / IMAGES),
    }
)


def eigenvalues_read() -> pd.DataFrame:
    """Eigenvalues of the authors' run in our units.

    Columns ``kind, depth, epoch, y, y_err``; ``y_err`` is the error of the reading.
    """
    points = read_published()
    points = points[(points["figure"] == "25") & points["panel"].isin(list(EIGENVALUES))]
    kinds, factors = zip(*points["panel"].map(EIGENVALUES), strict=True)
    depths = points["series"].str.removeprefix("L=").astype(int)
    return pd.DataFrame(
        {"kind": kinds, "depth": depths.to_numpy(), "epoch": points["x"].to_numpy() - 0.5}
        | {column: points[column].to_numpy() * factors for column in ("y", "y_err")}
    )


def comparable(settings: Mapping[str, Any], label: str) -> bool:
    """Whether a network of a run, given by the settings and its label, is that of the sweep, on the same data, and
    trained for a quarter of its epochs at least.
    """
    network = settings["networks"][label]
    data = data_spec(network.get("data") or settings["data"])
    model = ModelSpec.model_validate(network["model"] | {"depth": _SHALLOWEST})
    theirs = ModelSpec(
        kind="convnet", depth=_SHALLOWEST, tau=1, convention="authors", layers_per_block=_LAYERS.get(label, 1)
    )
    epochs = (network.get("steps") or settings["steps"]) * (network["batch_size"] or EXAMPLES) / EXAMPLES
    return data.name == "cifar10" and data.examples is None and model == theirs and epochs >= LENGTH * EPOCHS[label]
