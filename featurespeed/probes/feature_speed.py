"""The feature speed formula measured on any chain of layers (arXiv:2311.18718, Sec. 2 and 3).

A network is a sequence of modules ``f_l = T_l(f_{l-1}, w_l)``; its features ``f_1, ..., f_L`` are the cut nodes.
Under layer-wise gradient descent ``dw_l/dt = -eta_l grad_l`` the feature velocity is the exact forward-mode
derivative, no step size enters. Sign convention: the angle is taken between ``df_v/dt`` and ``-b_v``, so it is below
pi/2 and the loss decays.

The optimizer's form: the proof of Thm 2.1 needs gradient descent in its last line only. In any motion ``dw_l/dt`` of
the parameters the chain rule gives, at every cut node, ``<df_v/dt, b_v> = sum_{l <= v} <dw_l/dt, grad_l>``. With the
loss decay up to v defined as minus this sum, and the angle as above,

    |df_v/dt| cos(theta_v) |b_v| = loss decay up to v.

Under gradient descent the sum is ``-sum_{l <= v} eta_l |grad_l|^2``, and this the formula of the paper. Under Adam
``dw_l/dt`` is an update, ``-eta lr_scale_l m / (sqrt(v) + eps)``; the loss decay may then pass 0, and the angle pi/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.measuring.batches import parts_of
from featurespeed.measuring.context import evaluation, undisturbed
from featurespeed.measuring.errors import MeasurementError, kind_of, reported_as
from featurespeed.measuring.model import checked_loss, takes_batch
from featurespeed.measuring.norms import norm, power_of_two
from featurespeed.probes.chain import Chain, layers_of
from featurespeed.probes.descent import Descent, descend
from featurespeed.probes.motion import Velocities, motion_of

Loss = Callable[[Any, Any], Tensor]


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
    """What the formula relates, at every cut node ``v = 1..L``; float64 ``[L]``, norms are Euclidean over the batch.

    Attributes:
        angle: backward-feature angle theta_v in radians (NaN where the feature does not move).
        feature_speed: ``|df_v/dt|``.
        backward_norm: ``|b_v|``, ``b_v = dLoss/df_v``.
        loss_decay: ``sum_{l <= v}`` of the contributions; below 0 where a motion that was given raises the loss.
        feature_rms: ``rms(f_v)``.
        size: number of entries of ``f_v``.
        gradient_norm: ``|grad_l|`` of the parameters of layer ``l = v``; one that several layers use belongs to the
            first of them, with its whole gradient.
        learning_rate: ``eta_l`` of layer ``l = v``; NaN where velocities were given.
        contribution: what each layer adds to the decay of the loss, ``eta_l |grad_l|^2`` or ``-<dw_l/dt, grad_l>``; for
            a parameter that several layers use, each of these adds the part of the gradient that comes through it.
    """

    angle: Tensor
    feature_speed: Tensor
    backward_norm: Tensor
    loss_decay: Tensor
    feature_rms: Tensor
    size: Tensor
    gradient_norm: Tensor
    learning_rate: Tensor
    contribution: Tensor

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
    def formula_error(self) -> Tensor:
        """Relative error of Thm 2.1, ``| |df_v/dt| cos(theta_v) |b_v| / loss_decay_v - 1 |``; NaN where both are 0."""
        return (self.feature_speed * self.cos * self.backward_norm / self.loss_decay - 1.0).abs()

    @property
    def cosine_error(self) -> Tensor:
        """Error of Thm 2.1 as one of the cosine, ``| cos(theta_v) - loss_decay_v / (|df_v/dt| |b_v|) |``: for motions
        in which the loss decay passes 0. NaN where the feature does not move.
        """
        return (self.cos - self.loss_decay / (self.feature_speed * self.backward_norm)).abs()


def balanced_learning_rates(gradient_norm: Tensor, depth: int) -> Tensor:
    """``eta_l = 1/(L |grad_l|^2)``: every trained layer contributes 1/L; 0 where the gradient is 0 (Sec. 4)."""
    rates = 1.0 / (depth * gradient_norm.square())
    return torch.where(gradient_norm > 0, rates, torch.zeros_like(rates))


def measure_feature_speed(
    layers: Sequence[nn.Module],
    loss: Loss,
    batch: Any,
    learning_rates: Sequence[float] | Tensor | None = None,
    *,
    velocities: Velocities | None = None,
) -> FeatureSpeed:
    """Feature speed, backward-feature angle and loss decay at every cut node of a chain of layers.

    Measured in evaluation mode; modes, buffers, gradients and the caller's tensors are left alone. Speeds are those of
    a real step: what a layer detaches from the gradient moves with the weights all the same (the formula then does not
    hold, and ``formula_error`` says so), and a parameter that several layers use moves once, by its whole gradient.

    Args:
        layers: modules ``T_1, ..., T_L``, applied one after the other (an ``nn.Sequential`` will do). Only parameters
            that require a gradient move. A layer may be any module: a block of a ResNet, of a transformer, ...
        loss: ``loss(outputs, targets) -> scalar``, or ``loss(model, batch)``, in which ``model`` is the chain.
        batch: one batch, ``(inputs, targets)`` or another form of :mod:`featurespeed.measuring.batches`; the features
            of all of it count as one vector.
        learning_rates: one ``eta_l`` a layer; the default is ``1/(L |grad_l|^2)`` (balanced contributions).
        velocities: how the parameters move, in place of learning rates: parameter -> ``dw/dt`` of its shape, or one
            list a layer with the velocities of its parameters that require a gradient, in their order. Parameters that
            a mapping does not name stand still. This is the optimizer's form of the formula (above): an update by Adam
            is such a motion. ``cosine_error`` then tells the error, also where the loss decay is 0.

    Returns:
        :class:`FeatureSpeed`, tensors ``[L]`` in float64, whatever the network's precision.

    Raises:
        ValueError: what cannot be measured, one line that names the argument and what is allowed.
        FloatingPointError: the loss or a gradient is not finite.

    Source: arXiv:2311.18718, Thm 2.1; the formula itself is ``formula_error == 0`` to rounding.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> result = measure_feature_speed(net, nn.MSELoss(), (torch.ones(4, 3), torch.ones(4, 1)))
        >>> result.angle.shape
        torch.Size([3])
        >>> batch, shrinking = (torch.ones(4, 3), torch.ones(4, 1)), {p: -p.detach() for p in net.parameters()}
        >>> decaying = measure_feature_speed(net, nn.MSELoss(), batch, velocities=shrinking)  # as weight decay does
        >>> bool(decaying.cosine_error.max() < 1e-5)
        True
    """
    with reported_as(ValueError), undisturbed(layers, loss):
        modules, loss = layers_of(layers), checked_loss(loss)
        chain = Chain(modules)
        parts = parts_of(batch, chain.device, takes_batch(loss))
        if len(parts) > 1:
            raise MeasurementError(f"batch: {len(parts)} batches, allowed: one, whose features count as one vector")
        with evaluation([*modules, *([loss] if isinstance(loss, nn.Module) else [])]):
            if velocities is not None and learning_rates is not None:
                raise MeasurementError("learning_rates, velocities: both given, allowed: one of them")
            motion = None if velocities is None else motion_of(velocities, chain.sources)
            descent = descend(chain, parts[0], loss)
            return _descending(descent, learning_rates) if motion is None else _moving(descent, motion)


def _descending(descent: Descent, given: Any) -> FeatureSpeed:
    """Under layer-wise gradient descent."""
    rates = _learning_rates(given, descent.norms)
    scale = _scale(rate * size for rate, size in zip(rates, descent.norms, strict=True))
    return _result(descent, rates, descent.contributions(rates), descent.feature_velocities(rates, scale), scale)


def _moving(descent: Descent, motion: Mapping[int, Tensor]) -> FeatureSpeed:
    """In a motion of the parameters that is given."""
    scale = _scale(norm(velocity) for velocity in motion.values())
    rates = [math.nan] * len(descent.norms)
    velocities = descent.feature_velocities_in(motion, scale)
    return _result(descent, rates, descent.contributions_in(motion), velocities, scale)


def _scale(speeds: Iterable[float]) -> float:
    """A factor on all velocities, so that none of them leaves the range of numbers."""
    fastest = max(speeds, default=0.0)
    return power_of_two(fastest) if fastest else 1.0


def _result(
    descent: Descent, rates: list[float], contributions: list[float], velocities: list[Tensor], scale: float
) -> FeatureSpeed:
    decay = [math.fsum(contributions[: v + 1]) for v in range(len(contributions))]
    return speeds_of(
        descent.features, velocities, scale, descent.backward, descent.scale, decay, contributions, descent.norms, rates
    )


def speeds_of(
    features: Sequence[Tensor],
    velocities: Sequence[Tensor],
    velocity_scale: float,
    backward: Sequence[Tensor],
    backward_scale: float,
    loss_decay: Sequence[float],
    contributions: Sequence[float],
    gradient_norms: Sequence[float],
    rates: Sequence[float],
) -> FeatureSpeed:
    """The record of what was found at every cut node; velocities and backward passes are given times their scales."""
    sizes = [float(f.numel()) for f in features]
    found = {
        "angle": [float(_angle(v, b)) for v, b in zip(velocities, backward, strict=True)],
        "feature_speed": [norm(v) / velocity_scale for v in velocities],
        "backward_norm": [norm(b) / backward_scale for b in backward],
        "loss_decay": loss_decay,
        "feature_rms": [norm(f) / math.sqrt(size) for f, size in zip(features, sizes, strict=True)],
        "size": sizes,
        "gradient_norm": gradient_norms,
        "learning_rate": rates,
        "contribution": contributions,
    }
    device = features[-1].device
    return FeatureSpeed(**{n: torch.tensor(v, dtype=torch.float64, device=device) for n, v in found.items()})


def _angle(velocity: Tensor, backward: Tensor) -> Tensor:
    """The angle of two vectors of any size and precision."""

    def unit(vector: Tensor) -> Tensor:
        vector = (torch.view_as_real(vector) if vector.is_complex() else vector).flatten().double()
        return vector / vector.abs().max() if vector.numel() else vector

    return backward_feature_angle(unit(velocity), unit(backward))


def _learning_rates(given: Any, norms: list[float]) -> list[float]:
    if given is None:
        balanced = balanced_learning_rates(torch.tensor(norms, dtype=torch.float64), len(norms))
        if not torch.isfinite(balanced).all():
            raise FloatingPointError(
                f"gradient norms {norms}: 1/(L |grad|^2) overflows, allowed: learning_rates of your own"
            )
        return list(balanced.tolist())
    try:
        rates = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise MeasurementError(
            f"learning_rates: {kind_of(given)}, allowed: numbers, one a layer, {len(norms)}"
        ) from None
    if rates.shape != (len(norms),):
        raise MeasurementError(f"learning_rates: shape {tuple(rates.shape)}, allowed: one a layer, ({len(norms)},)")
    if not (torch.isfinite(rates).all() and (rates >= 0).all()):
        raise MeasurementError(f"learning_rates: {rates.tolist()}, allowed: finite, at least 0")
    return list(rates.tolist())
