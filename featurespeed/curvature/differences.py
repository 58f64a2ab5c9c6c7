"""Second derivatives of operations that are not PyTorch's own, held against differences of gradients.

An operation that is written by hand may keep its gradient as a constant, as fused losses do. What is then missing of
the Hessian is symmetric, and no property of the products shows it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.curvature.place import Place
from featurespeed.measuring.norms import norm
from featurespeed.randomness import generator

#: ``(objective, vectors [1, P]) -> [1, P]``.
Product = Callable[[Objective, Tensor], Tensor]


@dataclass(frozen=True)
class Accuracy:
    """How differences are taken in a precision.

    Attributes:
        steps: of the weights, relative to their size. The smaller, the fewer kinks of an activation lie within;
            rounding of gradients sets the limit.
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
            apart = _disagreement(Place(objective, dtype), product)
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


def _disagreement(place: Place, product: Product) -> float | None:
    """0 where a product and a difference of gradients agree; None where differences do not agree themselves."""
    accuracy, found = ACCURACY[place.precision], []
    for step in accuracy.steps:
        difference, went, rounding = _difference(place, step)
        image = place.at(place.weights, lambda here, went=went: product(here, here.flatten(went)))
        apart = _apart(difference, image, rounding)
        if apart <= accuracy.allowed:
            return 0.0
        found.append(difference)
    return apart if _apart(*found, rounding) <= accuracy.allowed else None


def _difference(place: Place, step: float) -> tuple[Tensor, list[Tensor], float]:
    """Central difference of gradients, the directions that rounded weights went, and the rounding of gradients."""
    directions = _directions(place)
    ends = [[w + sign * step * d for w, d in zip(place.weights, directions, strict=True)] for sign in (1, -1)]
    gradients = [place.at(end, Objective.gradient) for end in ends]
    went = [(a - b) / (2 * step) for a, b in zip(*ends, strict=True)]
    rounding = ROUNDING * torch.finfo(place.precision).eps * norm(gradients[0]) / (2 * step)
    return (gradients[0] - gradients[1]) / (2 * step), went, rounding


def _directions(place: Place) -> list[Tensor]:
    """Gaussian directions, on each parameter as large as its weights are."""
    stream = generator(0, "differences", device=place.weights[0].device)
    sizes = [weight.abs().double().mean() for weight in place.weights]
    usual = sum(size.cpu() for size in sizes) / len(sizes) or 1.0
    return [
        (size or usual) * torch.randn(weight.shape, generator=stream, device=stream.device).to(weight)
        for weight, size in zip(place.weights, sizes, strict=True)
    ]


def _apart(a: Tensor, b: Tensor, rounding: float) -> float:
    """Difference relative to the larger of the two, without what rounding explains."""
    size = max(norm(a), norm(b))
    return max(norm(a - b) - rounding, 0.0) / size if size else 0.0
