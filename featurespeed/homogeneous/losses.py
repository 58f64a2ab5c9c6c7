"""Losses with their first three derivatives by the outputs, for ensembles; means over the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional


class OutputLoss(ABC):
    """A mean loss of each member's outputs ``z [E, n, C]``, with targets ``y``, and its derivatives by ``z``.

    Directions ``u, v`` have the shape of ``z``; all numbers are ``[E]``. A loss without closed forms needs
    :meth:`value` only: the rest falls back on automatic differentiation of it.
    """

    @abstractmethod
    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """The loss ``L``."""

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """``dL/dz``, of the shape of ``z``."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            return torch.autograd.grad(self.value(leaf, y).sum(), leaf)[0]

    def second(self, z: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """``<u, H v>`` with the second derivatives ``H``."""
        return _along(self.value, z, y, (u, v))

    def third(self, z: Tensor, y: Tensor, u: Tensor) -> Tensor:
        """``T[u, u, u]`` with the third derivatives ``T``."""
        return _along(self.value, z, y, (u, u, u))


def _along(value: Callable[[Tensor, Tensor], Tensor], z: Tensor, y: Tensor, directions: tuple[Tensor, ...]) -> Tensor:
    """Derivative of the loss along one direction after the other."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        found = value(leaf, y)
        for direction in directions:
            if not found.requires_grad:  # the derivatives so far are constant
                return torch.zeros_like(found)
            slope = torch.autograd.grad(found.sum(), leaf, create_graph=True, materialize_grads=True)[0]
            found = (slope * direction).sum((1, 2))
        return found.detach()


class CrossEntropy(OutputLoss):
    """Cross-entropy of the softmax; ``y`` are classes, int64 ``[E, n]`` (or ``[1, n]``).

    Second and third derivatives along a direction are the variance and the third central moment of its entries under
    the predicted probabilities.
    """

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        return -z.log_softmax(-1).gather(-1, self._classes(z, y)).mean((1, 2))

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        p = z.softmax(-1)
        return p.scatter_add(-1, self._classes(z, y), -torch.ones_like(p[..., :1])) / z.shape[1]

    def second(self, z: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
        p = z.softmax(-1)
        return (p * _centred(p, u) * _centred(p, v)).sum(-1).mean(1)

    def third(self, z: Tensor, y: Tensor, u: Tensor) -> Tensor:
        p = z.softmax(-1)
        return (p * _centred(p, u) ** 3).sum(-1).mean(1)

    @staticmethod
    def _classes(z: Tensor, y: Tensor) -> Tensor:
        return y.expand(len(z), -1).unsqueeze(-1)


def _centred(p: Tensor, u: Tensor) -> Tensor:
    """Entries of a direction minus their mean under the probabilities."""
    return u - (p * u).sum(-1, keepdim=True)


class MeanSquaredError(OutputLoss):
    """Half the squared distance to the target; ``y`` are classes, as one-hot labels, or numbers ``[E, n, C]``."""

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (z - self._target(z, y)).square().sum(-1).mean(1)

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        return (z - self._target(z, y)) / z.shape[1]

    def second(self, z: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return (u * v).sum(-1).mean(1)

    def third(self, z: Tensor, y: Tensor, u: Tensor) -> Tensor:
        return z.new_zeros(len(z))

    @staticmethod
    def _target(z: Tensor, y: Tensor) -> Tensor:
        return y if y.is_floating_point() else functional.one_hot(y, z.shape[-1]).to(z.dtype)


class AnyLoss(OutputLoss):
    """A loss given as a function ``(outputs [n, C], targets) -> scalar``, a mean over the batch; one network."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]):
        self._function = function

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        return self._function(z[0], y).reshape(1)


OUTPUT_LOSSES: Mapping[str, OutputLoss] = {"cross_entropy": CrossEntropy(), "mse": MeanSquaredError()}
