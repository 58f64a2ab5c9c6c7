"""The parameters by which is differentiated: which may be, which a derivative reaches, and vectors in their space."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.measuring.errors import MeasurementError, kind_of
from featurespeed.measuring.names import named

#: Some of a model's parameters, names or patterns of them, or of parts that hold them; None: all.
Parameters = Tensor | str | Iterable[Tensor | str] | None
PARAMETERS = "allowed: parameters of the model, such as list(model.readout.parameters()), or names, such as 'readout'"


def leaves_of(model: nn.Module, given: Any, checked: bool = True, argument: str = "parameters") -> list[Tensor]:
    """The parameters that require a gradient, of all or of those that were given; one that is named twice counts once.

    Args:
        model: whose parameters they are.
        given: a parameter, a name or pattern (:mod:`featurespeed.measuring.names`), or several of these; None: all.
        checked: whether it is refused what is none of the model's.
        argument: what messages call it.

    Raises:
        MeasurementError: an entry that is no parameter of the model, none left, or values that are not finite.
    """
    entries = list(model.parameters()) if given is None else _entries(model, given, checked, argument)
    distinct = {id(parameter): parameter for parameter in entries if parameter.requires_grad}
    found = list(distinct.values())
    if not found:
        raise MeasurementError(f"{argument}: none of the model's requires a gradient, at least one must")
    _check_finite(model, found)
    return found


def _entries(model: nn.Module, given: Any, checked: bool, argument: str) -> list[Any]:
    """What was given one by one, with parameters in the place of names."""
    if isinstance(given, (str, Tensor)):
        given = [given]
    if isinstance(given, (nn.Module, Mapping)) or not isinstance(given, Iterable):
        raise MeasurementError(f"{argument}: {kind_of(given)}, {PARAMETERS}")
    own = {id(parameter) for parameter in model.parameters()}
    found: list[Any] = []
    for place, entry in enumerate(given, 1):
        if isinstance(entry, str):
            found += [parameter for held in named(model, entry, argument).values() for parameter in held]
            continue
        if checked:
            _check_own(own, f"{argument}: entry {place}", entry)
        found.append(entry)
    return found


def _check_own(own: Collection[int], place: str, entry: Any) -> None:
    if not isinstance(entry, Tensor):
        raise MeasurementError(f"{place} is {kind_of(entry)}, {PARAMETERS}")
    if not entry.is_leaf:
        raise MeasurementError(f"{place}, {list(entry.shape)}, is a view or the result of an operation, {PARAMETERS}")
    if id(entry) not in own:
        raise MeasurementError(f"{place}, {list(entry.shape)}, is not one of this model's, {PARAMETERS}")


def _check_finite(model: nn.Module, parameters: list[Tensor]) -> None:
    names = {id(p): name for name, p in model.named_parameters()}
    for parameter in parameters:
        finite = torch.isfinite(parameter.detach())
        if not finite.all():
            name, bad = names.get(id(parameter), "parameter"), int((~finite).sum())
            raise MeasurementError(
                f"{name}: {bad} of {finite.numel()} weights are NaN or infinite; the network has diverged"
            )


class Space:
    """Vectors ``[E, P]`` for parameters of any shape, precision and device; real and imaginary parts count apart."""

    def __init__(self, parameters: Sequence[Tensor], members: int):
        self.members = members
        self.shapes = [parameter.shape for parameter in parameters]
        self.dtypes = [parameter.dtype for parameter in parameters]
        self.devices = [parameter.device for parameter in parameters]
        self.sizes = [p.numel() // members * (2 if p.is_complex() else 1) for p in parameters]
        self.size, self.device = sum(self.sizes), self.devices[0]
        self.dtype = _common([dtype.to_real() for dtype in self.dtypes])
        self._uniform = set(zip(self.dtypes, self.devices, strict=True)) == {(self.dtype, self.device)}

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as vectors ``[E, P]``."""
        if not self._uniform:
            tensors = [as_real(tensor).to(self.device, self.dtype) for tensor in tensors]
        return torch.cat([tensor.reshape(self.members, -1) for tensor in tensors], dim=1)

    def unflatten(self, vectors: Tensor) -> list[Tensor]:
        """Vectors ``[E, P]`` as tensors of the parameters' shapes."""
        parts = vectors.split(self.sizes, dim=1)
        if self._uniform:
            return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        found = []
        for part, shape, dtype, device in zip(parts, self.shapes, self.dtypes, self.devices, strict=True):
            part = part.to(device, dtype.to_real())
            real = part.reshape(*shape, 2) if dtype.is_complex else part.reshape(shape)
            found.append(torch.view_as_complex(real.contiguous()) if dtype.is_complex else real)
        return found

    def fill(self, values: Sequence[float]) -> Tensor:
        """A vector ``[1, P]`` that is constant on every parameter; ``values`` are one a parameter."""
        parts = [
            torch.full((1, size), float(v), dtype=torch.float64) for v, size in zip(values, self.sizes, strict=True)
        ]
        return torch.cat(parts, dim=1).to(device=self.device, dtype=self.dtype)


def as_real(tensor: Tensor) -> Tensor:
    """A complex tensor as real and imaginary parts, others as they are; sparse ones as plain ones."""
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _common(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    found = dtypes[0]
    for dtype in dtypes[1:]:
        found = torch.promote_types(found, dtype)
    return found
