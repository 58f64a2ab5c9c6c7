"""Derivatives of operations that are not PyTorch's own, held against differences.

An operation that is written by hand may keep its gradient as a constant, as fused losses do; what is detached counts as
a constant, too. What is then missing of a matrix is symmetric, and no property of the products shows it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.curvature.place import Place
from featurespeed.curvature.reach import DETACHED
from featurespeed.measuring.norms import norm
from featurespeed.randomness import generator


@dataclass(frozen=True)
class Derivative:
    """A function of some tensors, and its derivative at these along directions of their shapes; both as one vector.

    ``first``: of the loss itself. Kinks are no matter there, and nothing is lost where it cannot be compared.
    """

    points: Sequence[Tensor]
    function: Callable[[Sequence[Tensor]], Tensor]
    along: Callable[[Sequence[Tensor]], Tensor]
    first: bool = False


#: What an operator is made of, at a place.
Parts = Callable[[Place], Sequence[Derivative]]


@dataclass(frozen=True)
class Accuracy:
    """How differences are taken in a precision.

    Attributes:
        steps: relative to the size of what moves. The smaller, the fewer kinks of an activation lie within; rounding
            sets the limit. The last ones serve where others show nothing.
        allowed: difference from a derivative, relative to the larger of the two.
    """

    steps: tuple[float, ...]
    allowed: float


ACCURACY = {
    torch.float64: Accuracy((1e-7, 1e-10, 1e-5, 1e-3), 1e-4),
    torch.float32: Accuracy((3e-3, 3e-4, 3e-2), 0.02),
    torch.bfloat16: Accuracy((0.1, 0.03, 0.3), 0.3),
    torch.float16: Accuracy((0.1, 0.03, 0.3), 0.3),
}
ROUNDING = 10.0  # errors of a function, in units of the last digit of its largest part
SEEN = 0.3  # with more rounding, relative to its size, a difference says nothing
#: Largest relative difference of a product from the same one at copies of the weights, by the network's precision.
SAME = {torch.float64: 1e-6, torch.float32: 1e-2}
ROUGH = 0.2  # in other precisions


def check_derivatives(
    objective: Objective, parts: Parts, operations: Mapping[str, str], is_same: Callable[[Objective], float]
) -> None:
    """Compare what products are made of with differences, along random directions.

    At copies of the weights in float64 if the operations know that, and if nothing else holds the weights; else at the
    weights themselves, moved for as long as it takes, in the network's own precision, where more is hidden.

    Args:
        objective: what is differentiated; it is as before afterwards.
        parts: what the operator is made of.
        operations: names of what is not PyTorch's, and whether it is of ``model`` or ``loss``.
        is_same: how far a product that was taken is from that of another objective.

    Raises:
        CurvatureError: differences at two steps agree with each other, and not with the derivative.

    Warns:
        RuntimeWarning: nothing can be said, because differences depend on the step, or cannot be taken; or only values
            that are detached are the reason, which many mean as constants.
    """
    apart = _first_that_says_something(objective, parts, is_same)
    named = {name: where for name, where in operations.items() if name != DETACHED}
    if not named and apart:
        _warn(
            f"{operations[DETACHED]}: {DETACHED} counts as a constant in second derivatives, while it moves with the"
            f" weights ({apart:.2g} of their size away from what differences say)"
        )
    if not named:
        return
    names, where = ", ".join(named), max(named.values())
    if apart is None:
        _warn(
            f"{where}: derivatives of {names} could not be checked by differences: these depend on the step, or cannot"
            " be taken at other weights"
        )
    elif apart:
        raise CurvatureError(
            f"{where}: {names} has a wrong first or second derivative (it is {apart:.2g} of its size away from what"
            " differences say), allowed: operations of PyTorch, or a backward that PyTorch can differentiate,"
            " without once_differentiable, detach or a gradient that forward has kept"
        )


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)


def _first_that_says_something(
    objective: Objective, parts: Parts, is_same: Callable[[Objective], float]
) -> float | None:
    """How far derivatives are from differences, in float64 if that can be said; None if in no precision."""
    for dtype in (torch.float64, None):
        try:
            apart = _farthest(Place(objective, dtype), parts, is_same)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:  # whatever operations say of a precision that they do not know
            continue
        if apart is not None:
            return apart
    return None


def _farthest(place: Place, parts: Parts, is_same: Callable[[Objective], float]) -> float | None:
    """The first disagreement of a part; None where one cannot be compared, or the place is not the network's."""
    if place.at(place.weights, is_same) > SAME.get(place.own_precision, ROUGH):
        return None
    found = []
    for part in parts(place):
        apart = _disagreement(part, place.precision)
        if apart and (part.first or place.precision == torch.float64):
            return apart
        if apart:  # in other precisions steps are so large that kinks make the difference, too
            return None
        found.append(0.0 if part.first else apart)
    return None if None in found else 0.0


def _disagreement(derivative: Derivative, precision: torch.dtype) -> float | None:
    """0 where a derivative and a difference agree; None where differences do not agree themselves."""
    accuracy, found = ACCURACY[precision], []
    directions = _directions(derivative.points)
    for step in accuracy.steps:
        difference, image, rounding = _both(derivative, directions, step, torch.finfo(precision).eps)
        size = max(norm(difference), norm(image))
        if rounding > SEEN * size:  # nothing can be seen at this step
            continue
        apart, allowed = norm(difference - image) / size, accuracy.allowed + rounding / size
        if apart > allowed:
            found.append((apart, allowed, difference))
        elif all(allowed < seen / 2 for seen, _, _ in found):  # else it is too coarse to say that all is well
            return 0.0
    for (_, some, one), (apart, more, other) in itertools.combinations(found, 2):
        if norm(one - other) <= (some + more) * max(norm(one), norm(other)):
            return apart
    return None if found or precision != torch.float64 else 0.0


def _both(
    derivative: Derivative, directions: Sequence[Tensor], step: float, eps: float
) -> tuple[Tensor, Tensor, float]:
    """Central difference, the derivative along where rounded points went, and the rounding of the difference."""
    pairs = list(zip(derivative.points, directions, strict=True))
    ends = [[point + sign * step * direction for point, direction in pairs] for sign in (1, -1)]
    values = [derivative.function(end) for end in ends]
    image = derivative.along([(a - b) / (2 * step) for a, b in zip(*ends, strict=True)])
    return (values[0] - values[1]) / (2 * step), image, ROUNDING * eps * norm(values[0]) / (2 * step)


def _directions(points: Sequence[Tensor]) -> list[Tensor]:
    """Gaussian, on each tensor as large as its entries are."""
    stream = generator(0, "differences", device=points[0].device)
    sizes = [float(point.detach().abs().double().mean()) for point in points]
    usual = sum(sizes) / len(sizes) or 1.0
    return [
        (size or usual) * torch.randn(point.shape, generator=stream, device=stream.device).to(point)
        for point, size in zip(points, sizes, strict=True)
    ]
