"""Sizes of what the modules of any model put out, and how far it has moved since a first look."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from featurespeed.measuring.errors import MeasurementError
from featurespeed.measuring.norms import norm
from featurespeed.measuring.trees import tensors

OUTPUT = "output"  # the node of what the model itself returns
NAMED = 12  # nodes that a message names


class Size(NamedTuple):
    """Root mean squares over all entries of a node: of its value, and of the value minus that of the first look."""

    activation: float
    update: float


class NodeSizes:
    """Looks at the nodes of a model, again and again on the same inputs.

    A node is what a module returns: its first tensor of floating-point numbers, if it returns several. A module that is
    called several times makes the nodes ``name``, ``name#2``, ...; one that stands at several places has the first of
    its names.

    Args:
        model: as it is called in ``forward``.
        forward: calls the model; the same inputs every time.
        patterns: names or shell patterns of nodes, of any modules; None: every module that has parameters of its own,
            and what the model returns if it is a tensor.
    """

    def __init__(self, model: nn.Module, forward: Callable[[], object], patterns: Sequence[str] | None = None):
        self._forward, self._patterns = forward, patterns
        names = {module: name for name, module in model.named_modules() if name}
        self._modules = names if patterns is not None else {m: name for m, name in names.items() if _own(m, name)}
        self._model, self._output = model, f"model.{OUTPUT}" if OUTPUT in names.values() else OUTPUT
        self._first: dict[str, Tensor] = {}
        #: Node -> whether it depends on a parameter that learns, in the order of their use.
        self.learning: dict[str, bool] = {}

    def look(self) -> dict[str, Size]:
        """Node -> size, in the order of their use.

        Raises:
            MeasurementError: a pattern that fits no node, other nodes or shapes than at the first look.
        """
        found: dict[str, Size] = {}
        learning: dict[str, bool] = {}
        with self._hooked(found, learning), torch.set_grad_enabled(not self.learning):
            self._forward()
        if not self.learning:
            self._check(found)
            self.learning = learning
        if list(found) != list(self.learning):
            raise MeasurementError(
                f"make_model: {_unlike(list(self.learning), list(found))} between two passes over the same batch,"
                " allowed: the same modules in the same order in every pass"
            )
        return found

    @contextmanager
    def _hooked(self, found: dict[str, Size], learning: dict[str, bool]) -> Iterator[None]:
        calls: dict[str, int] = {}

        def hook(name: str, module: nn.Module, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            node = name if calls[name] == 1 else f"{name}#{calls[name]}"
            value = _value(output, only_tensor=module is self._model and self._patterns is None)
            if value is not None and self._wanted(node):
                learning[node] = value.requires_grad
                found[node] = self._size(node, value.detach())

        modules = {**self._modules, self._model: self._output}
        handles = [
            module.register_forward_hook(lambda module, _inputs, output, name=name: hook(name, module, output))
            for module, name in modules.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _wanted(self, node: str) -> bool:
        return self._patterns is None or any(fnmatchcase(node, pattern) for pattern in self._patterns)

    def _size(self, node: str, value: Tensor) -> Size:
        """Computed at once: a later layer may change the tensor in place."""
        first = self._first.setdefault(node, value.clone()) if not self.learning else self._first.get(node, value)
        if first.shape != value.shape:
            raise MeasurementError(
                f"make_model: {node} has shape {list(first.shape)}, then {list(value.shape)}, for the same batch,"
                " allowed: the same shape in every pass"
            )
        moved = torch.zeros((), device=value.device) if first is value else _wide(value) - _wide(first)
        entries = math.sqrt(max(value.numel(), 1))
        return Size(norm(value) / entries, norm(moved) / entries)

    def _check(self, found: dict[str, Size]) -> None:
        known = ", ".join([*found][:NAMED]) + (", ..." if len(found) > NAMED else "")
        if not found and self._patterns is None:
            raise MeasurementError("make_model: no module with parameters returns a tensor, at least one must")
        for pattern in self._patterns or ():
            if not any(fnmatchcase(node, pattern) for node in found):
                names = known or ", ".join([*self._modules.values(), self._output][:NAMED])
                raise MeasurementError(f"nodes: {pattern!r} fits no module that is called, allowed: such as {names}")


def check_equal_nodes(first: Sequence[str], other: Sequence[str], one: str, another: str) -> None:
    """Raise :class:`MeasurementError` where two networks, ``one`` and ``another``, have other nodes."""
    if list(first) != list(other):
        raise MeasurementError(
            f"make_model: {_unlike(first, other)} between {one} and {another}, allowed: the same modules in the same"
            " order at every width"
        )


def _unlike(first: Sequence[str], other: Sequence[str]) -> str:
    place = next((k for k, (a, b) in enumerate(zip(first, other, strict=False)) if a != b), min(len(first), len(other)))
    told = [names[place] if place < len(names) else "nothing" for names in (first, other)]
    return f"node {place + 1} differs ({told[0]}, {told[1]})"


def _own(module: nn.Module, name: str) -> bool:
    """Whether a module has parameters of its own, also such that a parametrization makes; that one returns weights."""
    if "parametrizations" in name.split("."):
        return False
    return parametrize.is_parametrized(module) or any(True for _ in module.parameters(recurse=False))


def _value(output: Any, only_tensor: bool) -> Tensor | None:
    held = [output] if isinstance(output, Tensor) else [] if only_tensor else tensors(output)
    return next((tensor for tensor in held if tensor.is_floating_point() or tensor.is_complex()), None)


def _wide(value: Tensor) -> Tensor:
    """In at least float32: differences of half precision lose what is to be measured."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
