"""The two-layer linear network in closed form (arXiv:2402.17457, Sec. 5 and App. C), beside gradient descent itself.

``f(x) = V . W x s / gamma`` with ``W`` of shape [N, D], ``V`` of shape [N] and ``s = 1/sqrt(N D)`` under NTP
(``gamma = gamma_0``) and muP (``gamma = gamma_0 sqrt(N)``), both with standard normal weights. SP has ``s = gamma = 1``
and variances 1/D and 1/N. A quadratic loss sees the weights through the effective map ``w = s W^T V / gamma`` only, and
its Hessian, in units of the learning rate (``gamma^2 H``, which compares with ``2 / eta_0``), through

    w [D],   e = s^2 W^T W [D, D],   v = s^2 |V|^2.

With ``eta = eta_0 gamma^2``, ``q`` the gradient of the loss by ``w`` and ``k = gamma^2 s^2``, one step of gradient
descent is exactly (Thm 5.1; there the inputs are white, so ``q = w - w*``)

    w <- w - eta_0 (e + v) q + eta_0^2 k (w . q) q
    e <- e - eta_0 k (w q^T + q w^T) + eta_0^2 k v q q^T
    v <- v - 2 eta_0 k w . q + eta_0^2 k q^T e q

All tensors are float64 and may have leading batch dimensions: [..., N, D], [..., N] and so on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from featurespeed.parameterization import Parameterization

EXACT = torch.float64


@dataclass(frozen=True)
class TwoLayerNet:
    """Sizes and scales of one network.

    Attributes:
        width, input_dim: ``N`` and ``D``.
        gamma: divides the output; the learning rate is ``eta_0 gamma^2``.
        scale: ``s``, the other factor of the output.
        stds: standard deviations of ``W`` and ``V`` at initialisation.
    """

    width: int
    input_dim: int
    gamma: float
    scale: float
    stds: tuple[float, float] = (1.0, 1.0)

    @property
    def coupling(self) -> float:
        """``k = gamma^2 s^2``: how strongly (e, v) follow w; ``gamma_0^2 / D`` under muP, 1/N of that under NTP."""
        return self.gamma**2 * self.scale**2


def two_layer_net(parameterization: Parameterization, width: int, input_dim: int, gamma0: float = 1.0) -> TwoLayerNet:
    """The network of a parameterization: MUP, NTP or SP (whose ``gamma0`` must be 1).

    Raises:
        ValueError: another parameterization, or SP with a ``gamma0``.
    """
    name = Parameterization(parameterization)
    both = 1.0 / math.sqrt(width * input_dim)
    if name is Parameterization.MUP:
        return TwoLayerNet(width, input_dim, gamma0 * math.sqrt(width), both)
    if name is Parameterization.NTP:
        return TwoLayerNet(width, input_dim, gamma0, both)
    if name is Parameterization.SP and gamma0 == 1.0:
        return TwoLayerNet(width, input_dim, 1.0, 1.0, (input_dim**-0.5, width**-0.5))
    raise ValueError(f"parameterization = {name}, gamma0 = {gamma0}: allowed are MUP, NTP, and SP with gamma0 = 1")


@dataclass(frozen=True)
class Weights:
    """``hidden`` is ``W`` [..., N, D] and ``readout`` is ``V`` [..., N]."""

    hidden: Tensor
    readout: Tensor


@dataclass(frozen=True)
class State:
    """``w`` [..., D], ``e`` [..., D, D] and ``v`` [...]."""

    w: Tensor
    e: Tensor
    v: Tensor


@dataclass(frozen=True)
class Quadratic:
    """The loss ``least + (w - minimiser)^T moment (w - minimiser) / 2``.

    Attributes:
        moment: [D, D], the second moment of the inputs.
        minimiser: [D].
        least: the smallest loss.
    """

    moment: Tensor
    minimiser: Tensor
    least: float = 0.0

    @cached_property
    def root(self) -> Tensor:
        """Symmetric square root of ``moment``, [D, D]."""
        values, vectors = torch.linalg.eigh(self.moment)
        return vectors * values.clamp(min=0.0).sqrt() @ vectors.T

    def loss(self, w: Tensor) -> Tensor:
        """Loss at ``w`` [..., D]."""
        return self.least + 0.5 * ((w - self.minimiser) * self.gradient(w)).sum(-1)

    def gradient(self, w: Tensor) -> Tensor:
        """``q``: gradient by ``w``, [..., D]."""
        return (w - self.minimiser) @ self.moment


def population(target: Tensor) -> Quadratic:
    """Loss ``|w - w*|^2 / 2`` of white inputs and the linear target ``w*`` [D] (the setting of Sec. 5)."""
    return Quadratic(torch.eye(len(target), dtype=EXACT), target)


def regression(inputs: Tensor, targets: Tensor) -> Quadratic:
    """Mean loss ``|X w - y|^2 / (2 n)`` on inputs [n, D] and targets [n]; its minimiser of least norm."""
    best = torch.linalg.pinv(inputs) @ targets
    least = float((inputs @ best - targets).square().mean()) / 2
    return Quadratic(inputs.T @ inputs / len(inputs), best, least)


def initial_weights(net: TwoLayerNet, stream: torch.Generator) -> Weights:
    """Gaussian weights with the standard deviations of the network."""
    hidden = torch.randn(net.width, net.input_dim, dtype=EXACT, generator=stream)
    readout = torch.randn(net.width, dtype=EXACT, generator=stream)
    return Weights(hidden * net.stds[0], readout * net.stds[1])


def uniform_weights(net: TwoLayerNet, stream: torch.Generator) -> Weights:
    """Weights of the same standard deviations from a uniform law: (w, e, v) concentrate on the same limits.

    The variance of v, which a fourth moment decides, is 2/5 of that of Gaussian weights.
    """
    hidden = torch.rand(net.width, net.input_dim, dtype=EXACT, generator=stream)
    readout = torch.rand(net.width, dtype=EXACT, generator=stream)
    spread = math.sqrt(12.0)  # 1 over the standard deviation on [0, 1]
    return Weights((hidden - 0.5) * (spread * net.stds[0]), (readout - 0.5) * (spread * net.stds[1]))


def compressed(weights: Weights) -> Weights:
    """The same network with at most D + 1 hidden units; its scales stay those of the width that it had.

    Gradient descent commutes with rotations of the hidden units, and one of them moves all weights [N, D + 1] into the
    first D + 1 rows: the triangle of a QR decomposition. (w, e, v) and their whole trajectory are unchanged.
    """
    both = torch.cat([weights.hidden, weights.readout.unsqueeze(-1)], dim=-1)
    if both.shape[-2] <= both.shape[-1]:
        return weights
    triangle = torch.linalg.qr(both, mode="r").R
    return Weights(triangle[..., :-1], triangle[..., -1])


def state_of(net: TwoLayerNet, weights: Weights) -> State:
    """(w, e, v) of weights."""
    w = (weights.readout.unsqueeze(-2) @ weights.hidden).squeeze(-2) * (net.scale / net.gamma)
    e = weights.hidden.transpose(-1, -2) @ weights.hidden * net.scale**2
    return State(w, e, weights.readout.square().sum(-1) * net.scale**2)


def infinite_width(net: TwoLayerNet) -> State:
    """(w, e, v) that initialisation concentrates on as N grows (Prop. C.1, App. C.3): ``w = 0``, e a multiple of I.

    Under NTP and muP ``e = I/D`` and ``v = 1/D``; under SP ``e = I N/D`` and ``v = 1``. Under NTP ``w`` keeps a random
    part of variance ``1 / (gamma_0^2 D)`` an entry.
    """
    size = net.width * net.scale**2
    identity = torch.eye(net.input_dim, dtype=EXACT)
    w = torch.zeros(net.input_dim, dtype=EXACT)
    return State(w, identity * size * net.stds[0] ** 2, torch.tensor(size * net.stds[1] ** 2, dtype=EXACT))


def gradient_step(net: TwoLayerNet, weights: Weights, loss: Quadratic, rate: float | Tensor) -> Weights:
    """One step of gradient descent on the weights with ``eta = rate gamma^2``; ``rate`` is a number or [...]."""
    w = (weights.readout.unsqueeze(-2) @ weights.hidden).squeeze(-2) * (net.scale / net.gamma)
    q = loss.gradient(w)
    length = torch.as_tensor(rate, dtype=EXACT)[..., None] * (net.gamma * net.scale)
    hidden = weights.hidden - weights.readout.unsqueeze(-1) * (length * q).unsqueeze(-2)
    return Weights(hidden, weights.readout - length * (weights.hidden @ q.unsqueeze(-1)).squeeze(-1))


def law_step(coupling: float, state: State, loss: Quadratic, rate: float, second_order: bool = True) -> State:
    """The evolution laws of Thm 5.1 (see the head of this module); without ``second_order``, their first-order part."""
    w, e, v = state.w, state.e, state.v
    q = loss.gradient(w)
    along, e_q = (w * q).sum(-1), (e @ q.unsqueeze(-1)).squeeze(-1)
    outer = w.unsqueeze(-1) * q.unsqueeze(-2)
    new_w = w - rate * (e_q + v.unsqueeze(-1) * q)
    new_e = e - rate * coupling * (outer + outer.transpose(-1, -2))
    new_v = v - 2 * rate * coupling * along
    if second_order:
        second = rate**2 * coupling
        new_w = new_w + second * along.unsqueeze(-1) * q
        new_e = new_e + second * v[..., None, None] * q.unsqueeze(-1) * q.unsqueeze(-2)
        new_v = new_v + second * (q * e_q).sum(-1)
    return State(new_w, new_e, new_v)


def map_jacobian(coupling: float, state: State, loss: Quadratic, rate: float) -> Tensor:
    """Jacobian [D, D] by ``w`` of the map ``w -> w`` of one step, for white inputs (Prop. 5.3).

    ``I - eta_0 (e + v) + eta_0^2 k ((w . r) I + r (2 w - w*)^T)`` with ``r = w - w*``: the last term vanishes at the
    minimiser, where the Jacobian is ``I - eta_0 (e + v)`` and the edge of stability is exactly ``2 / eta_0``.
    """
    w, r = state.w, state.w - loss.minimiser
    identity = torch.eye(len(w), dtype=EXACT)
    second = (w @ r) * identity + torch.outer(r, w + r)
    return identity - rate * (state.e + state.v * identity) + rate**2 * coupling * second


def printed_jacobian(coupling: float, state: State, loss: Quadratic, rate: float) -> Tensor:
    """The Jacobian at the minimiser with the correction that Prop. 5.3 prints, ``eta_0^2 k w* w*^T``."""
    star = loss.minimiser
    exact = torch.eye(len(star), dtype=EXACT) * (1 - rate * state.v) - rate * state.e
    return exact + rate**2 * coupling * torch.outer(star, star)


def printed_correction(coupling: float, target: Tensor, rate: float) -> float:
    """By what share of ``2 / eta_0`` that correction would move the edge: ``eta_0^2 k |w*|^2 / 2``."""
    return float(rate**2 * coupling * target.square().sum() / 2)


def least_sharpness(net: TwoLayerNet, target: Tensor) -> float:
    """``2 gamma s |w*|``: no minimiser has a smaller sharpness (white inputs), whatever the learning rate.

    ``gamma |w*| = s |W^T V| <= sqrt(lambda_max(e) v) / s``, and a sum is at least twice the geometric mean.
    """
    return 2 * net.gamma * net.scale * float(target.norm())
