"""Dense residual MLPs, many series at once: one input, weights shared by all series of a draw.

A series is a branch scale and a readout scale. The hidden weights, which cost nearly everything, are drawn once and
multiply a matrix with one row a series. For one input the velocity ``-eta_l grad_l`` of a weight matrix has rank one,
so it acts as an additive velocity of the layer's output: tangents stay O(width) and no weight-sized tangent is built.
Series that share weights are correlated: dots of a figure, never an interval between series.

The forward pass, its transpose and its Jacobian-vector product are written out, one line each: on nets this deep and
narrow, generic forward-mode differentiation spends ten times longer on bookkeeping than on numbers. A test pins all
three to ``torch.func`` through :func:`featurespeed.probes.measure_feature_speed`.

Source: arXiv:2311.18718, Fig. 1 and 2: ``f_1 = W_1 x`` and the readout are not trained, loss ``|f_L - y|^2 / 2``,
``eta_l = dt/(L |grad_l|^2)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from featurespeed.models.mlp import hidden_std
from featurespeed.probes.feature_speed import backward_feature_angle


@dataclass(frozen=True)
class DenseNetwork:
    """Weights of one draw. ``input_weight [m, d]``, ``hidden [L-2, m, m]``, ``readout [k, m]`` with unit entries."""

    input_weight: Tensor
    hidden: Tensor
    readout: Tensor

    @property
    def depth(self) -> int:
        """L, embedding and readout included."""
        return self.hidden.shape[0] + 2


@dataclass(frozen=True)
class OneStep:
    """Layers ``v = 1..L-1`` of every series; tensors ``[L-1, series]``.

    Attributes:
        angle: backward-feature angle in radians; NaN at ``v = 1``, which does not move.
        feature_speed: ``|df_v/dt|`` (or the finite difference quotient).
        backward_norm: ``|b_v|`` before the step.
        loss_decay: ``(v - 1)/L``: each trained layer contributes 1/L.
    """

    angle: Tensor
    feature_speed: Tensor
    backward_norm: Tensor
    loss_decay: Tensor
    width: int

    @property
    def feature_sensitivity(self) -> Tensor:
        """``rms(df_v/dt) / loss_decay_v``."""
        return self.feature_speed / self.width**0.5 / self.loss_decay

    @property
    def inverse_backward_norm(self) -> Tensor:
        """``1/(|b_v| sqrt(m))``."""
        return 1.0 / (self.backward_norm * self.width**0.5)


def draw_dense_network(
    width: int,
    depth: int,
    input_dim: int,
    generator: torch.Generator,
    output_dim: int = 1,
    dtype: torch.dtype = torch.float32,
    buffer: Tensor | None = None,
) -> DenseNetwork:
    """Draw one network: embedding std ``1/sqrt(d)``, hidden std ``sqrt(2/m)``, readout std 1.

    ``buffer`` ``[>= (L-2) m^2]`` is reused for the hidden weights: fresh pages cost as much as the numbers themselves.
    """
    device = generator.device
    size = (depth - 2) * width * width
    if buffer is None:
        buffer = torch.empty(size, dtype=dtype, device=device)
    hidden = buffer[:size].normal_(0.0, hidden_std(width), generator=generator).view(depth - 2, width, width)
    input_weight = torch.empty(width, input_dim, dtype=dtype, device=device)
    input_weight.normal_(0.0, input_dim**-0.5, generator=generator)
    readout = torch.empty(output_dim, width, dtype=dtype, device=device).normal_(generator=generator)
    return DenseNetwork(input_weight, hidden, readout)


class SeriesProbe:
    """Measures all series of one network on one input ``x [d]`` with target ``y [k]``; features are ``[L-1, series,
    m]``.
    """

    def __init__(self, network: DenseNetwork, x: Tensor, y: Tensor, branch_scales: Sequence[float], readout_stds):
        like = network.readout
        self.network = network
        self.target = y
        branch = torch.as_tensor(branch_scales, dtype=torch.float64)[:, None]
        self.branch, self.skip = branch.to(like), (1.0 - branch.square()).sqrt().to(like)
        self.readout_std = torch.as_tensor(readout_stds, dtype=torch.float64)[:, None].to(like)
        self.features = like.new_empty(network.depth - 1, len(branch), like.shape[1])
        self.features[0] = network.input_weight @ x
        for index, weight in enumerate(network.hidden):
            f = self.features[index]
            self.features[index + 1] = self.skip * f + self.branch * linear(torch.relu(f), weight)
        self.backward = self._backward()
        #: loss decay of each layer: the embedding is frozen, every hidden layer contributes 1/L
        self.contribution = like.new_full((network.depth - 1,), 1.0 / network.depth)
        self.contribution[0] = 0.0

    def _backward(self) -> Tensor:
        """``b_1..b_{L-1}``; the readout of a series is ``readout_std`` times the drawn one."""
        outputs = self.readout_std * linear(self.features[-1], self.network.readout)
        backward = torch.empty_like(self.features)
        backward[-1] = self.readout_std * (outputs - self.target) @ self.network.readout
        for index in range(self.network.depth - 2, 0, -1):
            b, active = backward[index], self.features[index - 1] > 0
            backward[index - 1] = self.skip * b + active * (self.branch * (b @ self.network.hidden[index - 1]))
        return backward

    def _weight_velocity_on_features(self) -> Tensor:
        # -eta_l grad_l acts on the layer's own input as -(contribution_l / |b_l|^2) b_l: rank one, whatever beta is.
        return -self.contribution[:, None, None] * self.backward / self.backward.square().sum(-1, keepdim=True)

    def exact_tangent(self) -> OneStep:
        """The feature velocity as the exact Jacobian-vector product; no step size."""
        velocity = self._weight_velocity_on_features()
        for index, weight in enumerate(self.network.hidden):
            active = self.features[index] > 0
            through = self.skip * velocity[index] + self.branch * linear(active * velocity[index], weight)
            velocity[index + 1] += through
        return self._one_step(velocity)

    def finite_step(self, step: float, hold_relus: bool = False) -> OneStep:
        """The paper's own estimator: take the gradient step ``eta_l = step/(L |grad_l|^2)`` and subtract.

        ``hold_relus`` keeps every ReLU at its state before the step: what is left of the error is smooth curvature.
        """
        push = step * self._weight_velocity_on_features()
        moved = torch.empty_like(self.features)
        moved[0] = self.features[0]
        for index, weight in enumerate(self.network.hidden):
            before = torch.relu(self.features[index])
            after = moved[index] * (self.features[index] > 0) if hold_relus else torch.relu(moved[index])
            overlap = (before * after).sum(-1, keepdim=True) / before.square().sum(-1, keepdim=True)
            through = self.skip * moved[index] + self.branch * linear(after, weight)
            moved[index + 1] = through + push[index + 1] * overlap
        return self._one_step((moved - self.features) / step)

    def _one_step(self, velocity: Tensor) -> OneStep:
        angle = backward_feature_angle(velocity, self.backward)
        decay = torch.cumsum(self.contribution, 0)[:, None].expand_as(angle)
        return OneStep(angle, velocity.norm(dim=-1), self.backward.norm(dim=-1), decay, velocity.shape[-1])
