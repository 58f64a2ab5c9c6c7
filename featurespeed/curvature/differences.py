"""Second derivatives of operations that are not PyTorch's own, held against differences of gradients.

An operation that is written by hand may keep its gradient as a constant, as fused losses do. What is then missing of the
Hessian is symmetric, and no property of the products shows it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.machine.device import tf32
from featurespeed.measuring.exchange import exchanged
from featurespeed.measuring.norms import norm
from featurespeed.randomness import generator

#: ``(objective, vectors [1, P]) -> [1, P]``.
Product = Callable[[Objective, Tensor], Tensor]


@dataclass(frozen=True)
class Accuracy:
    """How differences are taken in a precision.

    Attributes:
        steps: of the weights, relative to their size. The smaller, the fewer kinks of an activation lie within; rounding
            of gradients sets the limit.
        allowed: difference from a product, relative to the larger of the two.
    """

    steps: tuple[float, float]
    allowed: float


ACCURACY = {
    torch.float64: Accuracy((1e-7, 1e-10), 1e-2),
    torch.float32: Accuracy((3e-3, 3e-4), 0.1),
    torch.bfloat16: Accuracy((0.1, 0.03), 0.5),
    torch.float16: Accuracy((0.1, 0.03), 0.5),
}
ROUNDING = 10.0  # errors of a gradient, in units of the last digit of its largest part


def check_second_derivatives(objective: Objective, product: Product, operations: Mapping[str, str]) -> None:
    """Compare a product along a random direction with how gradients differ along it.

    In float64 if the operations know that, else in the network's own precision, where kinks and rounding hide more.

    Args:
        objective: what is differentiated; it stays as it is.
        product: with the Hessian of an objective.
        operations: their names, and whether they are of ``model`` or ``loss``.

    Raises:
        CurvatureError: differences at two steps agree with each other, and not with the product.

    Warns:
        RuntimeWarning: nothing can be said, because gradients nearby differ too much, or cannot be taken.
    """
    names, where = ", ".join(operations), max(operations.values())
    apart = None
    for dtype in (torch.float64, None):
        try:
            apart = _Place(objective, dtype).disagreement(product)
        except (RuntimeError, TypeError, ValueError):  # the operations do not know this precision
            continue
        break
    if apart is None:
        warnings.warn(
            f"{where}: second derivatives of {names} could not be checked by differences of gradients: these depend on"
            " the step, or cannot be taken at other weights",
            RuntimeWarning, stacklevel=2,
        )  # fmt: skip
    elif apart:
        raise CurvatureError(
            f"{where}: {names} has a wrong second derivative (a product and a difference of gradients are {apart:.2g}"
            " of their size apart), allowed: operations of PyTorch, or a backward that PyTorch can differentiate,"
            " without once_differentiable and without a gradient that forward has kept"
        )


class _Place:
    """An objective at copies of all weights, in a precision (None: as they are), and near to them."""

    def __init__(self, objective: Objective, dtype: torch.dtype | None):
        self._objective, self._dtype = objective, dtype
        held = (part for part in (objective.model, objective.criterion) if isinstance(part, nn.Module))
        self._modules = list(held)
        tensors = (t for module in self._modules for t in (*module.parameters(), *module.buffers()))
        self._values = {id(tensor): self._converted(tensor.detach()) for tensor in tensors}
        self._weights = [self._values[id(parameter)] for parameter in objective.parameters]
        coarsest = max((w.dtype.to_real() for w in self._weights), key=lambda found: torch.finfo(found).eps)
        self._eps, self._accuracy = torch.finfo(coarsest).eps, ACCURACY[coarsest]

    def disagreement(self, product: Product) -> float | None:
        """0 where a product and a difference of gradients agree; None where differences do not agree themselves."""
        allowed, found = self._accuracy.allowed, []
        for step in self._accuracy.steps:
            difference, moved, rounding = self._difference(step)
            apart = _apart(difference, self._at(self._weights, lambda here, v=moved: product(here, v)), rounding)
            if apart <= allowed:
                return 0.0
            found.append(difference)
        return apart if _apart(*found, rounding) <= allowed else None

    def _difference(self, step: float) -> tuple[Tensor, Tensor, float]:
        """Central difference of gradients, the direction that rounded weights went, and the rounding of gradients."""
        ends = [[w + sign * step * d for w, d in self._directions()] for sign in (1, -1)]
        gradients = [self._at(end, Objective.gradient) for end in ends]
        went = [(a - b) / (2 * step) for a, b in zip(*ends, strict=True)]
        moved = self._at(self._weights, lambda here: here.flatten(went))
        rounding = ROUNDING * self._eps * norm(gradients[0]) / (2 * step)
        return (gradients[0] - gradients[1]) / (2 * step), moved, rounding

    def _directions(self) -> list[tuple[Tensor, Tensor]]:
        """Weights, and Gaussian directions on each as large as they are."""
        stream = generator(0, "differences", device=self._objective.device)
        sizes = [weight.abs().double().mean() for weight in self._weights]
        usual = sum(sizes) / len(sizes) or 1.0
        return [
            (w, (size or usual) * torch.randn(w.shape, generator=stream, device=stream.device).to(w))
            for w, size in zip(self._weights, sizes, strict=True)
        ]

    def _at(self, weights: list[Tensor], function: Callable[[Objective], Tensor]) -> Tensor:
        """``function`` of the objective whose weights are these."""
        leaves = [weight.detach().clone().requires_grad_() for weight in weights]
        own = {id(parameter): leaf for parameter, leaf in zip(self._objective.parameters, leaves, strict=True)}
        with ExitStack() as stack:
            for module in self._modules:
                stack.enter_context(exchanged(module, self._values | own))
            stack.enter_context(tf32(False))
            return function(self._objective.by(leaves, self._converted, as_given=self._dtype is None))

    def _converted(self, leaf: object) -> object:
        """A tensor of inputs, targets or weights in this precision."""
        if self._dtype is None or not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_complex():
            return leaf.to(self._dtype.to_complex())
        return leaf.to(self._dtype) if leaf.is_floating_point() else leaf


def _apart(a: Tensor, b: Tensor, rounding: float) -> float:
    """Difference relative to the larger of the two, without what rounding explains."""
    size = max(norm(a), norm(b))
    return max(norm(a - b) - rounding, 0.0) / size if size else 0.0
