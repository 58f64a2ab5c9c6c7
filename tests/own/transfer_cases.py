"""A small task and networks for it, which the tests of the transfer check share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.own.transfer import TransferCheck, transfer_check

INPUTS, CLASSES, EXAMPLES = 16, 4, 1024
SIZES = (8, 16)
RATES = (0.01, 0.02, 0.1)


def task(examples: int = EXAMPLES, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Gaussian inputs with the class that a fixed random network of one hidden layer gives them."""
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(examples, INPUTS, generator=stream)
    hidden = torch.tanh(inputs @ torch.randn(INPUTS, 32, generator=stream) / INPUTS**0.5)
    return inputs.to(dtype), (hidden @ torch.randn(32, CLASSES, generator=stream)).argmax(1)


class Mlp(nn.Module):
    """Three hidden layers without biases; weights of variance 2 over fan-in, the readout's as told."""

    def __init__(self, width: int, readout_power: float = 0.5, dtype: torch.dtype = torch.float32):
        super().__init__()
        shapes = [(INPUTS, width), (width, width), (width, width), (width, CLASSES)]
        self.layers = nn.ModuleList(nn.Linear(*shape, bias=False, dtype=dtype) for shape in shapes)
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
        nn.init.normal_(self.layers[-1].weight, std=width**-readout_power)

    def forward(self, inputs: Tensor) -> Tensor:
        features = inputs
        for layer in self.layers[:-1]:
            features = torch.relu(layer(features))
        return self.layers[-1](features)


def net(width: int) -> nn.Module:
    """A small network in float64."""
    return nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, CLASSES)).double()


def check(make_model: Any = net, data: Any = None, **changes: Any) -> TransferCheck:
    """A quick check, quiet and without curvature."""
    settings = {
        "sizes": SIZES, "learning_rates": RATES, "loss": nn.functional.cross_entropy, "optimizer": torch.optim.Adam,
        "steps": 12, "seeds": 2, "sharpness_at": 0, "progress": False,
    }  # fmt: skip
    if data is None:
        data, settings["batch_size"] = task(128, torch.float64), 32
    return transfer_check(make_model, data=data, **(settings | changes))
