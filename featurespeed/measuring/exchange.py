"""Other tensors in the place of a module's parameters, for one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from featurespeed.measuring.errors import MeasurementError


@contextmanager
def exchanged(module: nn.Module, values: Mapping[int, Tensor]) -> Iterator[None]:
    """While inside, parameters are the tensors that ``values`` holds for their ids, wherever in the module they stand.

    Not ``torch.func.functional_call``, which leaves the values behind in a module that stands at two places.
    """
    places = [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part._parameters.items()
        if parameter is not None and id(parameter) in values
    ]
    if any(isinstance(part, torch.jit.ScriptModule) for part, *_ in places):
        raise MeasurementError("layers: a scripted module, allowed: plain modules, whose weights can be exchanged")
    try:
        for part, name, parameter in places:
            part._parameters[name] = values[id(parameter)]
        yield
    finally:
        for part, name, parameter in places:
            part._parameters[name] = parameter
