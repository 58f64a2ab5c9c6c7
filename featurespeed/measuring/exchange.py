"""Other tensors in the place of a module's parameters, for one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.measuring.errors import MeasurementError


@contextmanager
def exchanged(module: nn.Module, values: Mapping[int, Tensor]) -> Iterator[None]:
    """While inside, parameters and buffers are the tensors that ``values`` holds for their ids, wherever they stand.

    Not ``torch.func.functional_call``, which leaves the values behind in a module that stands at two places.
    """
    places: list[tuple[dict[str, Any], str, Tensor, nn.Module]] = [
        (held, name, tensor, part)
        for part in module.modules()
        for held in (part._parameters, part._buffers)
        for name, tensor in held.items()
        if tensor is not None and id(tensor) in values
    ]
    if any(isinstance(part, torch.jit.ScriptModule) for *_, part in places):
        raise MeasurementError("layers: a scripted module, allowed: plain modules, whose weights can be exchanged")
    recurrent = [(part, part._flat_weights) for part in module.modules() if isinstance(part, nn.RNNBase)]
    try:
        for held, name, tensor, _ in places:
            held[name] = values[id(tensor)]
        for part, _ in recurrent:
            read_weights_anew(part)
        yield
    finally:
        for held, name, tensor, _ in places:
            held[name] = tensor
        for part, weights in recurrent:
            part._flat_weights = weights


def read_weights_anew(module: nn.Module) -> None:
    """Make a recurrent layer use its parameters as they are now: it keeps a list of them of its own."""
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [module._parameters.get(name) for name in module._flat_weights_names]
