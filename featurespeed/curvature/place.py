"""An objective at other weights than the network's, or in another precision, without touching either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from featurespeed.curvature.objective import Objective
from featurespeed.machine.device import tf32
from featurespeed.measuring.exchange import exchanged

Found = TypeVar("Found")


class Place:
    """Copies of all that an objective holds, in a precision.

    Args:
        objective: of one network.
        dtype: of weights, buffers, inputs and targets; None: as they are.

    Attributes:
        weights: of the objective's parameters.
        precision: the coarsest one among them.
    """

    def __init__(self, objective: Objective, dtype: torch.dtype | None):
        self._objective, self._dtype = objective, dtype
        self._modules = [part for part in (objective.model, objective.criterion) if isinstance(part, nn.Module)]
        tensors = (t for module in self._modules for t in (*module.parameters(), *module.buffers()))
        self._values = {id(tensor): self._converted(tensor.detach()) for tensor in tensors}
        self.weights = [self._values[id(parameter)] for parameter in objective.parameters]
        self.precision = max((w.dtype.to_real() for w in self.weights), key=lambda found: torch.finfo(found).eps)

    def at(self, weights: Sequence[Tensor], function: Callable[[Objective], Found]) -> Found:
        """``function`` of the objective whose weights are these."""
        leaves = [weight.detach().clone().requires_grad_() for weight in weights]
        own = {id(parameter): leaf for parameter, leaf in zip(self._objective.parameters, leaves, strict=True)}
        with ExitStack() as stack:
            for module in self._modules:
                stack.enter_context(exchanged(module, self._values | own))
            stack.enter_context(tf32(False))
            return function(self._objective.by(leaves, self._converted, as_given=self._dtype is None))

    def _converted(self, leaf: Any) -> Any:
        """A tensor of inputs, targets or weights in this precision; anything else as it is."""
        if self._dtype is None or not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_complex():
            return leaf.to(self._dtype.to_complex())
        return leaf.to(self._dtype) if leaf.is_floating_point() else leaf
