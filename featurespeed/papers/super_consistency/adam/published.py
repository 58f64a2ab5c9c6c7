"""Best learning rates of the authors' own sweep over the width with Adam, and which runs may be compared with it.

Read off a plot of final training losses over learning rates: notebook ``visualize``, cell 4, of the repository
lorenzonoci/nn_large_depth_width_landscape at 6c50081. Their ConvNet of three blocks without skip connections under muP,
CIFAR-10, batches of 256, 30 epochs, 100 steps of warm-up; one rate ``eta_0 gamma^2`` for all layers, one seed. The
rates are those of a grid, :data:`STEP` apart: the best one is known to half a step. The losses themselves, as far as
they could be read, stand in ``published.csv`` of this paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from featurespeed.data.spec import data_spec
from featurespeed.models.spec import ModelSpec
from featurespeed.papers.super_consistency.published import INPUTS_PER_CHANNEL

#: Channels -> best base learning rate.
BY_CHANNELS: Mapping[int, float] = MappingProxyType({16: 9e-4, 32: 4e-4, 64: 1.8e-4, 128: 7.8e-5, 256: 3.4e-5})
#: The same by ``N``, the inputs of the readout, as widths are counted here.
BEST_RATES: Mapping[int, float] = MappingProxyType(
    {INPUTS_PER_CHANNEL * channels: rate for channels, rate in BY_CHANNELS.items()}
)
STEP = 10 ** (2.5 / 14)  # ratio of neighbours: 15 rates from 10^-5 to 10^-2.5

_NETWORK = ModelSpec(kind="convnet", depth=3, convention="authors")


def comparable(settings: Mapping[str, Any], label: str) -> bool:
    """Whether a network of a run, given by the settings and its label, is that of the sweep, on the same data."""
    network = settings["networks"][label]
    data = data_spec(network.get("data") or settings["data"])
    return data.name == "cifar10" and ModelSpec.model_validate(network["model"]) == _NETWORK
