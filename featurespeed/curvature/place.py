"""An objective at other weights than the network's, or in another precision; both are as before afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featurespeed.curvature.objective import Objective
from featurespeed.machine.device import tf32
from featurespeed.measuring.exchange import exchanged
from featurespeed.measuring.trees import tensors

Found = TypeVar("Found")
CASTS = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)


class Place:
    """Copies of all that an objective holds, in a precision; or, without one, its own parameters with other values.

    Copies stand in the network's places only: what else holds a weight, such as a list or a closure, keeps it.

    Args:
        objective: of one network.
        dtype: of weights, buffers, inputs and targets; None: they are those of the network, moved for a while.

    Attributes:
        weights: of the objective's parameters.
    """

    def __init__(self, objective: Objective, dtype: torch.dtype | None):
        self._objective, self._dtype = objective, dtype
        self._modules = [part for part in (objective.model, objective.criterion) if isinstance(part, nn.Module)]
        held = (t for module in self._modules for t in (*module.parameters(), *module.buffers()))
        self._values = {} if dtype is None else {id(tensor): self._converted(tensor.detach()) for tensor in held}
        self.weights = [self._converted(parameter.detach()) for parameter in objective.parameters]

    @property
    def own_precision(self) -> torch.dtype:
        """The coarsest one of the network's weights."""
        return _coarsest(self._objective.parameters)

    @cached_property
    def precision(self) -> torch.dtype:
        """The coarsest one through which derivatives go here, also inside of the forward pass."""
        with _Watching() as seen:
            self.at(self.weights, Objective.gradient)
        return _coarsest([*self.weights, *(torch.empty(0, dtype=dtype) for dtype in seen.dtypes)])

    def at(self, weights: Sequence[Tensor], function: Callable[[Objective], Found]) -> Found:
        """``function`` of the objective whose weights are these."""
        with ExitStack() as stack:
            stack.enter_context(tf32(False))
            if self._dtype is None:
                stack.enter_context(_moved(self._objective.parameters, weights))
                return function(self._objective.by(self._objective.parameters, self._converted, as_given=True))
            leaves = [weight.detach().clone().requires_grad_() for weight in weights]
            own = {id(parameter): leaf for parameter, leaf in zip(self._objective.parameters, leaves, strict=True)}
            for module in self._modules:
                stack.enter_context(exchanged(module, self._values | own))
            stack.enter_context(_Widening(self._dtype))
            return function(self._objective.by(leaves, self._converted, as_given=False))

    def _converted(self, leaf: Any) -> Any:
        """A tensor of inputs, targets or weights in this precision; anything else as it is."""
        if self._dtype is None or not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_complex():
            return leaf.to(self._dtype.to_complex())
        return leaf.to(self._dtype) if leaf.is_floating_point() else leaf


@contextmanager
def _moved(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Other values in the same parameters; by ``data``, so that graphs which were built before do not take notice."""
    kept = [parameter.data for parameter in parameters]
    try:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value.detach()
        yield
    finally:
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.data = value


class _Widening(TorchFunctionMode):
    """Casts to other floating-point precisions, inside of a forward pass, become casts to one."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self._dtype = dtype

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function in CASTS:
            return args[0].to(self._dtype)
        return function(*map(self._wide, args), **{name: self._wide(value) for name, value in kwargs.items()})

    def _wide(self, value: Any) -> Any:
        return self._dtype if isinstance(value, torch.dtype) and value.is_floating_point else value


class _Watching(TorchFunctionMode):
    """Notes the precisions of all tensors that are made with a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        found = function(*args, **(kwargs or {}))
        self.dtypes |= {t.dtype.to_real() for t in tensors(found) if _inexact(t) and t.requires_grad}
        return found


def _inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _coarsest(found: Sequence[Tensor]) -> torch.dtype:
    return max((tensor.dtype.to_real() for tensor in found), key=lambda dtype: torch.finfo(dtype).eps)
