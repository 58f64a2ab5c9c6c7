"""A motion of the parameters of a chain as somebody gives it, checked: the velocity of each parameter that moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from featurespeed.measuring.errors import MeasurementError, kind_of

#: Parameter -> velocity of its shape; or one list a layer, of the parameters that require a gradient, in their order.
Velocities = Mapping[Tensor, Tensor] | Sequence[Sequence[Tensor]]

ALLOWED = "allowed: a mapping, parameter -> tensor, or one list of tensors a layer"


def motion_of(given: Any, layers: Sequence[Mapping[str, Tensor]]) -> dict[int, Tensor]:
    """``id`` of a parameter -> its velocity, in its precision and on its device; of those that move.

    Args:
        given: as :data:`Velocities`.
        layers: name -> parameter that requires a gradient, of each layer.

    Raises:
        MeasurementError: velocities of something else, of another shape, or not finite.
    """
    parameters = {id(p): (f"{index}.{name}", p) for index, layer in enumerate(layers) for name, p in layer.items()}
    found: dict[int, Tensor] = {}
    for key, velocity in _pairs(given, layers):
        if key not in parameters:
            raise MeasurementError(
                "velocities: of a tensor that is no parameter of the layers or needs no gradient,"
                f" allowed: parameters that require one, {len(parameters)}"
            )
        name, parameter = parameters[key]
        velocity = _checked(name, parameter, velocity)
        if key in found and not torch.equal(found[key], velocity):
            raise MeasurementError(f"velocities: {name}, which several layers use, has two, allowed: one")
        found[key] = velocity
    return found


def _pairs(given: Any, layers: Sequence[Mapping[str, Tensor]]) -> Iterator[tuple[int, Any]]:
    """``(id of a parameter, its velocity)``."""
    if isinstance(given, Mapping):
        yield from ((id(parameter), velocity) for parameter, velocity in given.items())
        return
    if isinstance(given, (str, Tensor)) or not isinstance(given, Sequence):
        raise MeasurementError(f"velocities: {kind_of(given)}, {ALLOWED}")
    if len(given) != len(layers):
        raise MeasurementError(f"velocities: {len(given)} lists, allowed: one a layer, {len(layers)}")
    for place, (own, layer) in enumerate(zip(given, layers, strict=True), 1):
        if isinstance(own, (str, Tensor)) or not isinstance(own, Sequence):
            raise MeasurementError(f"velocities: entry {place} is {kind_of(own)}, {ALLOWED}")
        if len(own) != len(layer):
            raise MeasurementError(
                f"velocities: entry {place} has {len(own)} tensors, allowed: one a parameter that requires a gradient,"
                f" {len(layer)}"
            )
        yield from ((id(parameter), velocity) for parameter, velocity in zip(layer.values(), own, strict=True))


def _checked(name: str, parameter: Tensor, velocity: Any) -> Tensor:
    if not isinstance(velocity, Tensor):
        raise MeasurementError(f"velocities: of {name} is {kind_of(velocity)}, allowed: a tensor")
    if velocity.shape != parameter.shape:
        shapes = f"shape {tuple(velocity.shape)}, allowed: that of the parameter, {tuple(parameter.shape)}"
        raise MeasurementError(f"velocities: of {name} has {shapes}")
    if velocity.is_complex() and not parameter.is_complex():
        raise MeasurementError(f"velocities: of {name} is complex, allowed: real, as the parameter")
    velocity = velocity.detach().to(parameter)
    if not torch.isfinite(velocity).all():
        raise MeasurementError(f"velocities: of {name} is not finite, allowed: finite")
    return velocity
