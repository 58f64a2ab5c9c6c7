"""Layer-wise learning rates that follow the gradients: every layer lowers the loss alike at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from featurespeed.measuring.arguments import positive, whole_number
from featurespeed.measuring.errors import MeasurementError, kind_of, reported_as
from featurespeed.measuring.norms import norm

KEPT = 0.9  # share of the earlier squares of the gradient that a step keeps
MOST = 10.0  # times its first value that a rate may become


class BalancedRates:
    """An optimizer whose groups are layers, at the rates ``eta_l = eta_0/(L |grad_l|^2)`` (arXiv:2311.18718, Sec. 4).

    Before every step (or every so many) the rates are set anew from the gradients that are there. Squares of gradients
    are averaged over steps, and no rate grows beyond ten times its first value: where gradients vanish, at the end of
    training, the rule alone would let it grow without bound.

    Args:
        optimizer: with one group a layer, such as SGD; without its own per-weight scale.
        learning_rate: ``eta_0``, the decay of the loss by one step, to first order.
        every: steps between two changes of the rates.

    Attributes:
        optimizer: what makes the steps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, learning_rate: float, every: int = 1):
        with reported_as(ValueError):
            if not isinstance(optimizer, torch.optim.Optimizer):
                raise MeasurementError(f"optimizer: {kind_of(optimizer)}, allowed: one of torch.optim")
            if "betas" in optimizer.defaults or len(optimizer.param_groups) < 2:
                raise MeasurementError(
                    f"optimizer: {type(optimizer).__name__} with {len(optimizer.param_groups)} groups, allowed: SGD"
                    " with a group a layer, at least 2"
                )
            self.learning_rate, self._every = positive("learning_rate", learning_rate), whole_number("every", every, 1)
        self.optimizer = optimizer
        self._steps = 0
        self._squares: list[float | None] = [None] * len(optimizer.param_groups)
        self._first: list[float | None] = [None] * len(optimizer.param_groups)

    @property
    def rates(self) -> list[float]:
        """Of the layers, as they are now."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Set the rates and make a step; a closure is called once before, for the gradients."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        if self._steps % self._every == 0:
            self._set()
        self._steps += 1
        self.optimizer.step()
        return value

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As that of the optimizer."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        own = {"steps": self._steps, "squares": list(self._squares), "first": list(self._first)}
        return {"optimizer": self.optimizer.state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._steps = state["steps"]
        self._squares, self._first = list(state["squares"]), list(state["first"])

    def _set(self) -> None:
        layers = len(self.optimizer.param_groups)
        for k, group in enumerate(self.optimizer.param_groups):
            square = _square(group["params"])
            if not math.isfinite(square):  # a step that a scaler of the loss will leave out
                continue
            before = self._squares[k]
            self._squares[k] = kept = square if before is None else KEPT * before + (1 - KEPT) * square
            if not kept:
                group["lr"] = 0.0
                continue
            rate = self.learning_rate / (layers * kept)
            first = self._first[k]
            self._first[k] = first = rate if first is None else first
            group["lr"] = min(rate, MOST * first)


def _square(parameters: Iterable[Tensor]) -> float:
    """Of the norm of a layer's gradient; not finite where an entry is not."""
    return norm(*(p.grad for p in parameters if p.grad is not None)) ** 2
