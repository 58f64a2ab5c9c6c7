"""A user's networks and optimizers, made anew for every size, seed and learning rate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import nn

from featurespeed.measuring.errors import MeasurementError, first_line, kind_of
from featurespeed.measuring.model import checked_model
from featurespeed.own.seeds import own_streams, seed_everything

MakeModel = Callable[[int], nn.Module]
#: A class of ``torch.optim``, which gets all parameters, or ``(model, learning_rate) -> optimizer``.
MakeOptimizer = type[torch.optim.Optimizer] | Callable[[nn.Module, float], torch.optim.Optimizer]
OPTIMIZERS = "allowed: a class such as torch.optim.AdamW, or a function (model, learning_rate) -> optimizer"


def made_model(make_model: MakeModel, size: int, seed: int) -> nn.Module:
    """The network of one size, with the weights of one seed; the caller's random numbers go on as before.

    Weights may come from the global random numbers of PyTorch, NumPy or Python.

    Raises:
        MeasurementError: ``make_model`` fails, or what it returns is no module that can be trained.
    """
    with own_streams():
        seed_everything(seed, "model")
        try:
            found = make_model(size)
        except Exception as error:
            raise MeasurementError(
                f"make_model({size}): it raised {first_line(error)}, allowed: a function size -> torch.nn.Module"
            ) from error
    if not isinstance(found, nn.Module):
        raise MeasurementError(f"make_model({size}): returned {kind_of(found)}, allowed: a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in checked_model(found).parameters()):
        raise MeasurementError(f"make_model({size}): no parameter requires a gradient, at least one must")
    return found


def made_optimizer(make: MakeOptimizer, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """The optimizer of a network at one learning rate.

    Raises:
        MeasurementError: it cannot be made, or is no optimizer of this network's parameters.
    """
    try:
        found = make(model.parameters(), lr=learning_rate) if isinstance(make, type) else make(model, learning_rate)
    except Exception as error:
        raise MeasurementError(f"optimizer: it raised {first_line(error)}, {OPTIMIZERS}") from error
    if not isinstance(found, torch.optim.Optimizer):
        raise MeasurementError(f"optimizer: returned {kind_of(found)}, {OPTIMIZERS}")
    own = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in own for group in found.param_groups for parameter in group["params"]):
        raise MeasurementError("optimizer: it holds parameters of another model, allowed: those of the model it gets")
    return found


def checked_maker(name: str, make: Any, allowed: str) -> Callable[..., Any]:
    """What was given as a function; a module or an optimizer in its place is named."""
    if isinstance(make, (nn.Module, torch.optim.Optimizer)) or not callable(make):
        raise MeasurementError(f"{name}: {kind_of(make)}, {allowed}")
    return make


def takes_rate(make: MakeOptimizer) -> bool:
    """Whether an optimizer is made from a model and a learning rate, and not from a model alone."""
    if isinstance(make, type):
        return True
    try:
        inspect.signature(make).bind(None, 0.0)
    except TypeError:
        return False
    return True


def checked_sizes(name: str, sizes: Any, least: int) -> list[int]:
    """Ascending whole numbers above 0, at least so many."""
    values = _listed(name, sizes, "whole numbers, such as [64, 128, 256]")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise MeasurementError(f"{name}: {value!r}, allowed: whole numbers from 1 on")
    return [int(value) for value in _ascending(name, values, least)]


def checked_rates(name: str, rates: Any, least: int) -> list[float]:
    """Ascending numbers above 0, at least so many."""
    values = _listed(name, rates, "numbers above 0, such as [1e-3, 2e-3, 4e-3]")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < float("inf"):
            raise MeasurementError(f"{name}: {value!r}, allowed: finite numbers above 0")
    return [float(value) for value in _ascending(name, values, least)]


def checked_seeds(seeds: Any, least: int) -> list[int]:
    """The seeds: so many, counted from 0, or those that are listed."""
    if isinstance(seeds, Integral) and not isinstance(seeds, bool):
        seeds = list(range(int(seeds)))
    values = _listed("seeds", seeds, f"a number of seeds, at least {least}, or a list of them")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise MeasurementError(f"seeds: {value!r}, allowed: whole numbers from 0 on")
    if len(set(values)) < len(values) or len(values) < least:
        raise MeasurementError(f"seeds: {list(values)}, allowed: at least {least} different ones")
    return [int(value) for value in values]


def _listed(name: str, values: Any, allowed: str) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, range)) and not hasattr(values, "tolist"):
        raise MeasurementError(f"{name}: {kind_of(values)}, allowed: {allowed}")
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _ascending(name: str, values: list[Any], least: int) -> list[Any]:
    if len(values) < least:
        raise MeasurementError(f"{name}: {len(values)} of them, allowed: at least {least}")
    if any(a >= b for a, b in zip(values, values[1:], strict=False)):
        raise MeasurementError(f"{name}: {values}, allowed: ascending, each once")
    return values
