"""What products of the operators are made of, each as a function and its derivative, to be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from featurespeed.curvature.differences import Derivative
from featurespeed.curvature.jacobian import Jacobian, by_output, of_the_outputs, pull_back
from featurespeed.curvature.objective import Objective
from featurespeed.curvature.parameters import as_real
from featurespeed.curvature.place import Place

#: ``(objective, vectors [1, P]) -> [1, P]``.
ProductOf = Callable[[Objective, Tensor], Tensor]


def derivative_of(place: Place, function: Callable[[Objective], Tensor], product: ProductOf) -> Derivative:
    """Of a function of the weights, ``[1, P]``, whose derivative an operator is."""
    return Derivative(
        place.weights,
        lambda weights: place.at(weights, function),
        lambda directions: place.at(place.weights, lambda here: product(here, here.flatten(directions))),
    )


def pulled_back_slopes(place: Place) -> Callable[[Objective], Tensor]:
    """``sum_i u_i df_i/dw`` with the slopes ``u = dL/df`` at the place: its derivative is the residual part."""

    def slopes(here: Objective) -> list[Tensor]:
        with here.replacing():
            return [by_output(here, of_the_outputs(here, chunk), chunk)[1].detach() for chunk in here.chunks]

    def pulled_back(here: Objective) -> Tensor:
        with here.replacing():
            outputs = [of_the_outputs(here, chunk) for chunk in here.chunks]
            return here.flatten(pull_back(outputs, fixed, here.parameters))

    fixed = place.at(place.weights, slopes)
    return pulled_back


def loss_by_weights(place: Place) -> Derivative:
    """Where gradients are not those of the loss's values, as behind a hook that changes them, neither are products."""

    def value(here: Objective) -> Tensor:
        with here.replacing():
            return torch.stack([here.value(chunk) for chunk in here.chunks]).sum().reshape(1)

    def along(here: Objective, directions: Sequence[Tensor]) -> Tensor:
        return (here.gradient() * here.flatten(directions)).sum().reshape(1)

    return Derivative(
        place.weights,
        lambda weights: place.at(weights, value),
        lambda directions: place.at(place.weights, lambda here: along(here, directions)),
        first=True,
    )


def outputs_by_weights(place: Place) -> Derivative:
    """The Jacobian of the outputs."""

    def outputs(here: Objective) -> Tensor:
        with here.replacing():
            return torch.cat([as_real(of_the_outputs(here, chunk).detach()).flatten() for chunk in here.chunks])

    def along(here: Objective, directions: Sequence[Tensor]) -> Tensor:
        with here.replacing():
            jacobians = [Jacobian(here, of_the_outputs(here, chunk)) for chunk in here.chunks]
            return torch.cat([as_real(j.times(here.flatten(directions))).flatten() for j in jacobians])

    return Derivative(
        place.weights,
        lambda weights: place.at(weights, outputs),
        lambda directions: place.at(place.weights, lambda here: along(here, directions)),
    )


def loss_by_outputs(place: Place) -> Derivative:
    """Second derivatives of the loss by the outputs."""

    def outputs(here: Objective) -> list[Tensor]:
        with here.replacing():
            return [of_the_outputs(here, chunk).detach() for chunk in here.chunks]

    def slopes(here: Objective, points: Sequence[Tensor]) -> Tensor:
        with here.replacing():
            pairs = zip(points, here.chunks, strict=True)
            return torch.cat([as_real(by_output(here, z, chunk)[1].detach()).flatten() for z, chunk in pairs])

    def along(here: Objective, directions: Sequence[Tensor]) -> Tensor:
        found = []
        with here.replacing():
            for z, direction, chunk in zip(points, directions, here.chunks, strict=True):
                leaf, slope = by_output(here, z, chunk)
                moves = slope.requires_grad
                found.append(pull_back([slope], [direction], [leaf])[0] if moves else torch.zeros_like(leaf))
        return torch.cat([as_real(part).flatten() for part in found])

    points = place.at(place.weights, outputs)
    return Derivative(
        points,
        lambda moved: place.at(place.weights, lambda here: slopes(here, moved)),
        lambda directions: place.at(place.weights, lambda here: along(here, directions)),
    )
