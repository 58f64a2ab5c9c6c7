"""The feature speed formula measured on any chain of layers (arXiv:2311.18718, Sec. 2 and 3).

A network is a sequence of modules ``f_l = T_l(f_{l-1}, w_l)``; its features ``f_1, ..., f_L`` are the cut nodes.
Under layer-wise gradient descent ``dw_l/dt = -eta_l grad_l`` the feature velocity is the exact forward-mode
derivative (``torch.func.jvp``), no step size enters. Sign convention: the angle is taken between ``df_v/dt`` and
``-b_v``, so it is below pi/2 and the loss decays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

Loss = Callable[[Tensor, Tensor], Tensor]


def backward_feature_angle(feature_velocity: Tensor, backward: Tensor) -> Tensor:
    """Angle in radians between ``feature_velocity`` and ``-backward`` over the last dimension; ``[...]``.

    Uses Kahan's formula ``2 atan2(|u - w|, |u + w|)`` on the unit vectors, which is accurate at angles near 0 where the
    arc cosine loses half of the digits. NaN where either vector is zero (the angle is not defined there).
    Source: arXiv:2311.18718, Thm 2.1.
    """
    u = feature_velocity / feature_velocity.norm(dim=-1, keepdim=True)
    w = -backward / backward.norm(dim=-1, keepdim=True)
    return 2.0 * torch.atan2((u - w).norm(dim=-1), (u + w).norm(dim=-1))


@dataclass(frozen=True)
class FeatureSpeed:
    """What the formula relates, at every cut node ``v = 1..L``; tensors ``[L]``, norms are Euclidean over the batch.

    Attributes:
        angle: backward-feature angle theta_v in radians (NaN where the feature does not move).
        feature_speed: ``|df_v/dt|``.
        backward_norm: ``|b_v|``, ``b_v = dLoss/df_v``.
        loss_decay: ``sum_{l <= v} eta_l |grad_l|^2``.
        feature_rms: ``rms(f_v)``.
        size: number of entries of ``f_v``.
        gradient_norm: ``|grad_l|`` of layer ``l = v``.
        learning_rate: ``eta_l`` of layer ``l = v``.
    """

    angle: Tensor
    feature_speed: Tensor
    backward_norm: Tensor
    loss_decay: Tensor
    feature_rms: Tensor
    size: Tensor
    gradient_norm: Tensor
    learning_rate: Tensor

    @property
    def cos(self) -> Tensor:
        """``cos theta_v``."""
        return torch.cos(self.angle)

    @property
    def feature_sensitivity(self) -> Tensor:
        """``S_v = rms(df_v/dt) / loss_decay_v`` (Sec. 4)."""
        return self.feature_speed / self.size.sqrt() / self.loss_decay

    @property
    def inverse_backward_norm(self) -> Tensor:
        """``1/(|b_v| sqrt(m_v))``: what the sensitivity would be at angle 0."""
        return 1.0 / (self.backward_norm * self.size.sqrt())

    @property
    def contribution(self) -> Tensor:
        """``eta_l |grad_l|^2``: what each layer adds to the decay of the loss."""
        return self.learning_rate * self.gradient_norm**2

    @property
    def formula_error(self) -> Tensor:
        """Relative error of Thm 2.1, ``| |df_v/dt| cos(theta_v) |b_v| / loss_decay_v - 1 |``; NaN where both are 0."""
        return (self.feature_speed * self.cos * self.backward_norm / self.loss_decay - 1.0).abs()


class Chain:
    """Features of a sequence of layers as a function of parameters and of additive perturbations of the features.

    A perturbation ``e_v`` added to ``f_v`` has the derivative ``dLoss/de_v = b_v``: one reverse pass gives the
    gradients and the backward pass at every cut node.
    """

    def __init__(self, layers: Sequence[nn.Module]):
        self.layers = list(layers)
        self.parameters = [
            {name: p.detach() for name, p in layer.named_parameters() if p.requires_grad} for layer in self.layers
        ]

    def features(self, parameters: list[dict[str, Tensor]], x: Tensor, perturbations: Sequence = ()) -> list[Tensor]:
        """``[f_1, ..., f_L]``."""
        f, features = x, []
        for index, (layer, values) in enumerate(zip(self.layers, parameters, strict=True)):
            # A copy goes in: a layer that works in place (ReLU(inplace=True)) must not change the feature before it.
            f = functional_call(layer, values, (f.clone(),))
            if perturbations:
                f = f + perturbations[index]
            features.append(f)
        return features

    def loss_at(self, parameters: list[dict[str, Tensor]], perturbations: Sequence, x: Tensor, y: Tensor, loss: Loss):
        """The loss, a scalar, at these parameters and with these perturbations of the features."""
        value = loss(self.features(parameters, x, perturbations)[-1], y)
        if value.ndim:
            raise ValueError(f"loss: returns shape {tuple(value.shape)}, allowed: a scalar")
        return value

    def backward(self, parameters: list[dict[str, Tensor]], x: Tensor, y: Tensor, loss: Loss):
        """``(features, [b_1, ..., b_L], gradients)`` of the loss at these parameters.

        Not by ``torch.func``: its reverse mode imports PyTorch's compiler first, more than a second of every process.
        """
        features = self.features(parameters, x)
        zeros = [torch.zeros_like(f, requires_grad=True) for f in features]
        with torch.enable_grad():
            leaves = [{name: p.detach().requires_grad_() for name, p in layer.items()} for layer in parameters]
            value = self.loss_at(leaves, zeros, x, y, loss)
        wanted = [*zeros, *(leaf for layer in leaves for leaf in layer.values())]
        if value.requires_grad:
            found = torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True)
        else:  # a loss that does not look at the outputs
            found = [torch.zeros_like(tensor) for tensor in wanted]
        gradients = iter(found[len(zeros) :])
        return features, list(found[: len(zeros)]), [{name: next(gradients) for name in layer} for layer in leaves]

    def velocity(self, parameters, x: Tensor, weight_velocity: list[dict[str, Tensor]]) -> list[Tensor]:
        """``[df_1/dt, ..., df_L/dt]`` when the weights move with ``weight_velocity``; exact."""
        return jvp(lambda p: self.features(p, x), (parameters,), (weight_velocity,))[1]


def gradient_norms(gradients: list[dict[str, Tensor]], like: Tensor) -> Tensor:
    """``|grad_l|`` of each layer, ``[L]``; 0 for a layer without trained parameters."""
    return torch.stack(
        [sum((g.square().sum() for g in layer.values()), like.new_zeros(())) for layer in gradients]
    ).sqrt()


def balanced_learning_rates(gradient_norm: Tensor, depth: int) -> Tensor:
    """``eta_l = 1/(L |grad_l|^2)``: every trained layer contributes 1/L; 0 where the gradient is 0 (Sec. 4)."""
    rates = 1.0 / (depth * gradient_norm.square())
    return torch.where(gradient_norm > 0, rates, torch.zeros_like(rates))


def descent_velocity(gradients: list[dict[str, Tensor]], learning_rates: Sequence[float] | Tensor):
    """``-eta_l grad_l`` for every layer, in the structure of the gradients."""
    return [
        {name: -rate * g for name, g in layer.items()} for rate, layer in zip(learning_rates, gradients, strict=True)
    ]


def measure_feature_speed(
    layers: Sequence[nn.Module],
    loss: Loss,
    batch: tuple[Tensor, Tensor],
    learning_rates: Sequence[float] | Tensor | None = None,
) -> FeatureSpeed:
    """Feature speed, backward-feature angle and loss decay at every cut node of a chain of layers.

    Args:
        layers: modules ``T_1, ..., T_L``, applied one after the other (an ``nn.Sequential`` will do). Only parameters
            that require a gradient move. A layer may be any module: a block of a ResNet, of a transformer, ...
        loss: ``loss(outputs, targets) -> scalar``.
        batch: ``(inputs, targets)``; the features of the whole batch count as one vector.
        learning_rates: one ``eta_l`` a layer; the default is ``1/(L |grad_l|^2)`` (balanced contributions).

    Returns:
        :class:`FeatureSpeed`, tensors ``[L]`` in the network's dtype.

    Raises:
        ValueError: no layer, a loss that is not a scalar, or not one learning rate a layer.
        FloatingPointError: the loss or a gradient is not finite.

    Source: arXiv:2311.18718, Thm 2.1; the formula itself is ``formula_error == 0`` to rounding.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> result = measure_feature_speed(net, nn.MSELoss(), (torch.ones(4, 3), torch.ones(4, 1)))
        >>> result.angle.shape
        torch.Size([3])
    """
    chain = Chain(layers)
    if not chain.layers:
        raise ValueError("layers: empty, at least one layer is needed")
    features, backwards, gradients = chain.backward(chain.parameters, *batch, loss)
    norms = gradient_norms(gradients, features[-1])
    if not torch.isfinite(norms).all() or not torch.isfinite(features[-1]).all():
        raise FloatingPointError("the outputs or the gradients of the network are not finite")
    rates = _learning_rates(learning_rates, norms)
    velocities = chain.velocity(chain.parameters, batch[0], descent_velocity(gradients, rates))
    flat = [(v.flatten(), b.flatten()) for v, b in zip(velocities, backwards, strict=True)]
    return FeatureSpeed(
        angle=torch.stack([backward_feature_angle(v, b) for v, b in flat]),
        feature_speed=torch.stack([v.norm() for v, _ in flat]),
        backward_norm=torch.stack([b.norm() for _, b in flat]),
        loss_decay=torch.cumsum(rates * norms.square(), 0),
        feature_rms=torch.stack([f.norm() / math.sqrt(f.numel()) for f in features]),
        size=norms.new_tensor([f.numel() for f in features]),
        gradient_norm=norms,
        learning_rate=rates,
    )


def _learning_rates(given: Sequence[float] | Tensor | None, norms: Tensor) -> Tensor:
    if given is None:
        return balanced_learning_rates(norms, len(norms))
    rates = torch.as_tensor(given, dtype=norms.dtype, device=norms.device)
    if rates.shape != norms.shape:
        raise ValueError(f"learning_rates: shape {tuple(rates.shape)}, allowed: one a layer, {tuple(norms.shape)}")
    return rates
