"""How the parameters move: by layer-wise gradient descent at balanced rates, or by the step of an optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featurespeed.measuring.norms import exact, norm, power_of_two
from featurespeed.own.nodes import Node
from featurespeed.own.tracing import Place
from featurespeed.own.updates import next_update
from featurespeed.probes.feature_speed import balanced_learning_rates


@dataclass(frozen=True, eq=False)
class Motion:
    """The gradient of every parameter, and its velocity.

    Attributes:
        gradients: ``id`` of a parameter -> gradient of the loss, over all of its places.
        velocities: ``id`` of a parameter that moves -> ``dw/dt`` times ``scale``, in its own precision.
        scale: a power of two that keeps velocities within the numbers of that precision.
        owner: ``id`` of a parameter -> index of the first node that it stands behind.
        rates: learning rate of every node's layer; NaN where an optimizer moves the weights.
    """

    gradients: Mapping[int, Tensor]
    velocities: Mapping[int, Tensor]
    scale: float
    owner: Mapping[int, int]
    rates: Sequence[float]


def motion_of(
    model: nn.Module,
    nodes: Sequence[Node],
    at_places: Mapping[int, Tensor],
    optimizer: torch.optim.Optimizer | None,
    scale: float,
) -> Motion:
    """The motion of the weights; ``at_places``: ``scale`` times the gradient at each place, by its leaf's ``id``."""
    gradients = whole_gradients([place for node in nodes for place in node.places], at_places, scale)
    owner: dict[int, int] = {}
    for index, node in enumerate(nodes):
        for place in node.places:
            owner.setdefault(id(place.parameter), index)
    parameters = {id(p): p for p in model.parameters() if p.requires_grad}
    if optimizer is None:
        sizes = [norm(*(gradients[key] for key, own in owner.items() if own == k)) for k in range(len(nodes))]
        rates = _balanced(sizes)
        found = {key: gradients[key] * -rates[own] for key, own in owner.items()}
    else:
        rates = [math.nan] * len(nodes)
        found = next_update(optimizer, gradients)
    fastest = max((norm(change) for change in found.values()), default=0.0)
    factor = power_of_two(fastest) if fastest else 1.0
    velocities = {k: (change * factor).to(parameters[k].dtype) for k, change in found.items() if k in parameters}
    return Motion(gradients, velocities, factor, owner, rates)


def whole_gradients(places: Sequence[Place], at_places: Mapping[int, Tensor], scale: float) -> dict[int, Tensor]:
    """Gradient of every parameter, summed over its places, in float64; each place once."""
    found: dict[int, Tensor] = {}
    for place in {id(place.leaf): place for place in places}.values():
        key, gradient = id(place.parameter), exact(at_places[id(place.leaf)]) / scale
        found[key] = found[key] + gradient if key in found else gradient
    return found


def _balanced(sizes: Sequence[float]) -> list[float]:
    """``1/(L |grad_l|^2)``.

    Raises:
        FloatingPointError: they overflow.
    """
    rates: list[float] = balanced_learning_rates(torch.tensor(sizes, dtype=torch.float64), len(sizes)).tolist()
    if not all(math.isfinite(rate) for rate in rates):
        raise FloatingPointError(
            f"gradient norms {[f'{size:.3g}' for size in sizes]}: 1/(L |grad|^2) overflows, allowed: an optimizer"
        )
    return rates
