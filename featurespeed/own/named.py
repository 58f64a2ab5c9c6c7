"""Losses and optimizers that command lines and settings call by a name, with the options that settings may give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.own.making import MakeOptimizer

LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": nn.functional.cross_entropy,
    "mse": nn.functional.mse_loss,
}
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def with_options(kind: type[torch.optim.Optimizer], options: Mapping[str, Any]) -> MakeOptimizer:
    """An optimizer of all parameters with options of its class, such as ``{"weight_decay": 0.1}``."""
    if not options:
        return kind
    make: Callable[..., torch.optim.Optimizer] = kind

    def made(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return make(model.parameters(), lr=learning_rate, **options)

    return made


def token_cross_entropy(outputs: Any, targets: Tensor) -> Tensor:
    """Cross-entropy of every next token: logits ``[..., vocabulary]``, in a tensor or an object, targets ``[...]``."""
    logits = getattr(outputs, "logits", outputs)
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
