"""Curvature of the two-layer linear network, from (w, e, v) alone or from its weights (arXiv:2402.17457, Sec. 5).

Everything is in units of the learning rate, ``gamma^2 H = gamma^2 G + gamma^2 R``, and compares with ``2 / eta_0``. The
Gauss-Newton part ``G`` is the outer product of the Jacobian of ``w``; the residual part is ``R = sum_j q_j D^2 w_j``
with ``q`` the gradient of the loss by ``w``, so the sign of a residual is that of output minus target. Let ``M`` be the
second moment of the inputs, ``rho = gamma s |q|`` and ``u = q / |q|``. Then

- the eigenvalues of ``gamma^2 G`` that are not 0 are those of ``M^1/2 (e + v) M^1/2``;
- those of ``gamma^2 R`` are ``rho`` and ``-rho``, each N times: every hidden unit couples ``V_k`` with ``W_k . u``;
- ``lambda > rho`` is an eigenvalue of ``gamma^2 H`` exactly if 1 is one of the D x D matrix

      K(lambda) = M^1/2 [ lambda (e + v u u^T) + gamma s rho (w u^T + u w^T) ] M^1/2 / (lambda^2 - rho^2)
                + M^1/2 v (I - u u^T) M^1/2 / lambda,

  which is ``A (lambda - R)^-1 A^T`` for ``G = A^T A`` and decreases in lambda: the sharpness is one root.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.optimize import brentq
from torch import Tensor
from torch.func import hessian, jacfwd

from featurespeed.theory.two_layer import EXACT, Quadratic, State, TwoLayerNet, Weights

NEAREST = 1e-13  # how close to rho, relative to it, a root is looked for


def gauss_newton_eigenvalue(state: State, loss: Quadratic) -> float:
    """Largest eigenvalue of ``gamma^2 G``; at a minimiser that is the sharpness."""
    root = loss.root.numpy()
    return _largest(root @ (state.e.numpy() + float(state.v) * np.eye(len(state.w))) @ root)


def residual_bound(net: TwoLayerNet, state: State, loss: Quadratic) -> float:
    """``rho = gamma s |q|``: the largest eigenvalue of ``gamma^2 R``, and so a bound on what it adds (Lemma 5.2).

    ``|lambda_max(gamma^2 H) - lambda_max(gamma^2 G)| <= rho`` by Weyl's inequality; for white inputs
    ``rho = sqrt(k) |w - w*|`` with ``k = gamma^2 / (N D)``.
    """
    return net.gamma * net.scale * float(loss.gradient(state.w).norm())


def sharpness(net: TwoLayerNet, state: State, loss: Quadratic) -> float:
    """Largest eigenvalue of ``gamma^2 H``, to rounding, in O(D^3) whatever the width; N must exceed 1.

    Args:
        net: gives ``gamma s``.
        state: one (w, e, v), without batch dimensions.
        loss: white or measured inputs.
    """
    rho, top = residual_bound(net, state, loss), gauss_newton_eigenvalue(state, loss)
    if rho <= 1e-15 * top:
        return top
    root, w, q = loss.root.numpy(), state.w.numpy(), loss.gradient(state.w).numpy()
    e, v, u = state.e.numpy(), float(state.v), q / np.linalg.norm(q)
    both = root @ (e + v * np.outer(u, u)) @ root
    mixed = net.gamma * net.scale * rho * (root @ (np.outer(w, u) + np.outer(u, w)) @ root)
    alone = v * (root @ (np.eye(len(w)) - np.outer(u, u)) @ root)

    def excess(value: float) -> float:
        return _largest((value * both + mixed) / (value**2 - rho**2) + alone / value) - 1.0

    low, high = max(rho * (1 + NEAREST), top - rho), (top + rho) * (1 + NEAREST)
    if excess(low) <= 0.0:  # the residual part alone
        return low
    return float(brentq(excess, low, high, xtol=1e-16 * high, rtol=4 * np.finfo(float).eps))


def _largest(matrix: np.ndarray) -> float:
    last = len(matrix) - 1
    return float(eigh(matrix, eigvals_only=True, subset_by_index=[last, last])[0])


# --- dense matrices by automatic differentiation, for small networks --------------------------------------------------


def flat(weights: Weights) -> Tensor:
    """All weights of one network as a vector, [N D + N]."""
    return torch.cat([weights.hidden.flatten(), weights.readout])


def effective_map(net: TwoLayerNet, parameters: Tensor) -> Tensor:
    """``w`` [D] as a function of :func:`flat` weights; the width is what fits them, so compressed ones will do."""
    units = len(parameters) // (net.input_dim + 1)
    hidden = parameters[: units * net.input_dim].view(units, net.input_dim)
    return parameters[units * net.input_dim :] @ hidden * (net.scale / net.gamma)


def dense_hessian(net: TwoLayerNet, weights: Weights, loss: Quadratic) -> Tensor:
    """``gamma^2 H`` as a matrix [P, P], P = N D + N, by automatic differentiation of the loss."""
    return net.gamma**2 * hessian(lambda parameters: loss.loss(effective_map(net, parameters)))(flat(weights))


def dense_parts(net: TwoLayerNet, weights: Weights, loss: Quadratic) -> tuple[Tensor, Tensor]:
    """``gamma^2 G`` and ``gamma^2 R`` as matrices [P, P], from first and second derivatives of the map w alone."""
    parameters = flat(weights).to(EXACT)
    jacobian = jacfwd(lambda p: effective_map(net, p))(parameters)
    curvature = hessian(lambda p: effective_map(net, p))(parameters)
    q = loss.gradient(effective_map(net, parameters))
    gauss_newton = jacobian.T @ loss.moment @ jacobian
    return net.gamma**2 * gauss_newton, net.gamma**2 * torch.einsum("j,jab->ab", q, curvature)
