"""The backward speed formula (arXiv:2311.18718, Prop. 6.1), for layers that are positively homogeneous in their input.

With a linear loss, ``<f_v, db_v/dt> = -sum_{l > v} eta_l |grad_l|^2``: homogeneity gives ``<f_v, b_v> = <f_L, b_L>``
(Euler), and only the layers above v change ``b_v``. Hence ``|db_v/dt| = loss_decay_above / (cos(angle) |f_v|)`` with
the angle between ``f_v`` and ``-db_v/dt``. With another loss the output's own gradient moves too and the angle may
exceed pi/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad, jvp

from featurespeed.probes.chain import Chain, descent_velocity, gradient_norms
from featurespeed.probes.feature_speed import Loss, backward_feature_angle, balanced_learning_rates


@dataclass(frozen=True)
class BackwardSpeed:
    """Cut nodes ``v = 1..L-1``; tensors ``[L-1]``.

    Attributes:
        angle: between ``f_v`` and ``-db_v/dt``, radians in [0, pi]; NaN where the backward pass does not move.
        alignment: ``-<f_v, db_v/dt>``.
        loss_decay_above: ``sum_{l > v} eta_l |grad_l|^2``.
    """

    angle: Tensor
    alignment: Tensor
    loss_decay_above: Tensor

    @property
    def formula_error(self) -> Tensor:
        """Relative error of Prop. 6.1, ``|alignment / loss_decay_above - 1|``."""
        return (self.alignment / self.loss_decay_above - 1.0).abs()


def measure_backward_speed(layers: Sequence[nn.Module], loss: Loss, batch: tuple[Tensor, Tensor]) -> BackwardSpeed:
    """Velocity of the backward pass under balanced layer-wise descent, ``eta_l = 1/(L |grad_l|^2)``; exact tangents."""
    chain = Chain(layers)
    features, _, gradients = chain.backward(chain.parameters, *batch, loss)
    norms = gradient_norms(gradients, features[-1])
    rates = balanced_learning_rates(norms, len(norms))
    velocity = descent_velocity(gradients, rates)

    def backward_pass(parameters: list[dict[str, Tensor]]) -> list[Tensor]:
        zeros = [torch.zeros_like(f) for f in features]
        return grad(lambda perturbations: chain.loss_at(parameters, perturbations, *batch, loss))(zeros)

    speeds = jvp(backward_pass, (chain.parameters,), (velocity,))[1]
    pairs = [(f.flatten(), speed.flatten()) for f, speed in zip(features[:-1], speeds[:-1], strict=True)]
    decay = (rates * norms.square()).cumsum(0)
    return BackwardSpeed(
        angle=torch.stack([backward_feature_angle(f, speed) for f, speed in pairs]),
        alignment=torch.stack([-torch.dot(f, speed) for f, speed in pairs]),
        loss_decay_above=decay[-1] - decay[:-1],
    )
