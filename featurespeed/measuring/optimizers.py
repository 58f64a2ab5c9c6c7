"""Which optimizers are measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from featurespeed.measuring.errors import MeasurementError, kind_of

LIVE = "allowed: a torch.optim optimizer of this model's parameters, such as torch.optim.AdamW(model.parameters())"
#: Classes of accelerate and lightning that make the steps of the optimizer that they hold, and no others.
WRAPPERS = ("AcceleratedOptimizer", "LightningOptimizer")


def checked_optimizer(optimizer: Any, model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer that has parameters of the model and no others, without the wrapper of a training library.

    Raises:
        MeasurementError: a class, another object, or parameters of another model.
    """
    if any(kind.__name__ in WRAPPERS for kind in type(optimizer).__mro__):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise MeasurementError(f"optimizer: {kind_of(optimizer)}, {LIVE}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise MeasurementError("optimizer: LBFGS calls the loss several times a step, allowed: one that does not")
    own = {id(parameter) for parameter in model.parameters()}
    foreign = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in own]
    if foreign:
        raise MeasurementError(f"optimizer: {len(foreign)} of its parameters are not this model's, {LIVE}")
    return optimizer
