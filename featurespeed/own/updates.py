"""The step that an optimizer would make now, without making it."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from featurespeed.measuring.errors import MeasurementError, first_line

PLAIN = {"fused": None, "foreach": False, "capturable": False}


def next_update(optimizer: torch.optim.Optimizer, gradients: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """What the next step adds to each parameter if its gradient is the given one; ``id`` of the parameter -> change.

    A copy of the optimizer, with its state, makes the step on copies of the parameters in float64: momentum, weight
    decay, and whatever else it does are in the change, and nothing of the optimizer or the model moves.

    Raises:
        MeasurementError: it cannot be copied, or its step fails.
    """
    held = [p for group in optimizer.param_groups for p in group["params"]]
    copies = {id(p): _exact(p.detach().clone()).requires_grad_(p.requires_grad) for p in held}
    for key, moving in copies.items():
        gradient = gradients.get(key)
        moving.grad = None if gradient is None else gradient.to(moving)
    before = {key: moving.detach().clone() for key, moving in copies.items()}
    try:
        other = _copied(optimizer, copies)
        with torch.no_grad():
            type(other).step(other)  # not other.step: a scheduler puts a wrapper there that moves the original
    except Exception as error:
        raise MeasurementError(
            f"optimizer: a copy of {type(optimizer).__name__} could not make a step, allowed: step() without arguments;"
            f" it raised {first_line(error)}"
        ) from error
    found = {key: moving.detach() - before[key] for key, moving in copies.items()}
    wrong = [key for key, change in found.items() if not torch.isfinite(change).all()]
    if wrong:
        raise FloatingPointError(f"the step of {type(optimizer).__name__} is not finite")
    return found


def _copied(optimizer: torch.optim.Optimizer, copies: Mapping[int, Tensor]) -> torch.optim.Optimizer:
    """The optimizer with other parameters in the place of its own, in plain loops over them."""
    other = copy.deepcopy(optimizer, dict(copies))
    other.__dict__.pop("step", None)
    for group in other.param_groups:
        group.update({name: value for name, value in PLAIN.items() if name in group})
    for state in other.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.is_floating_point() and name != "step":
                state[name] = _exact(value)
            elif isinstance(value, Tensor) and name == "step":
                state[name] = value.cpu()
    return other


def _exact(tensor: Tensor) -> Tensor:
    """In float64, or complex128, as far as the device has it."""
    if tensor.device.type == "mps":
        return tensor
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.to(wide) if tensor.is_floating_point() or tensor.is_complex() else tensor
