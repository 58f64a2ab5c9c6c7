"""Backward-feature angle (BFA) of random dense networks, predicted without building a weight matrix.

Setting of arXiv:2311.18718, Figure 1: one input, the embedding W_1 and the readout W_L frozen, hidden layers
``f_l = a f_{l-1} + branch_scale W_l phi(f_{l-1})`` for l = 2..L-1 with ``a^2 = 1 - branch_scale^2``, layer-wise rates
``eta_l = 1/(L |grad_l|^2)`` and hidden variance 2/m (ReLU) or 1/m (linear). The formulas are ours, not the paper's;
docs/theory.md derives them.

Arrays over layers hold v = 2, ..., L-1: entry i belongs to layer v = i + 2, and the last one is the output BFA.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, special

Activation = Literal["relu", "linear"]

INVERSE_COS2_TAIL = 2 * math.log(2) - 1
"""Constant of the ReLU tail: ``1/cos^2 phi(c) = c^2 + INVERSE_COS2_TAIL + o(1)`` as c grows."""

# Beyond this value H(A) equals pi/4 to rounding: the remainder is below 3 exp(-3A/2).
_SATURATED = 40.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def cos_bfa_recursion(depth: int, branch_scale: float, activation: Activation = "relu") -> np.ndarray:
    """Return cos(theta_v) at infinite width, shape [depth - 2], for layers v = 2..depth-1.

    Takes O(depth^2) operations and O(depth) memory. ``branch_scale`` lies in [0, 1]; 1 is the MLP, and 0 gives cos = 1.
    Raises ValueError for depth < 3, a branch scale outside [0, 1] or an unknown activation.
    """
    _check_depth(depth)
    _check_activation(activation)
    if not 0 <= branch_scale <= 1:
        raise ValueError(f"branch_scale = {branch_scale!r} must lie in [0, 1]")
    beta2 = branch_scale**2
    n = np.arange(depth - 2, dtype=float)
    # (n+1)^2 - a^4 n^2, written so that nothing cancels when branch_scale is small.
    q = 2 * n + 1 + beta2 * (2 - beta2) * n**2
    squared_norm = np.cumsum(q)
    if activation == "relu":
        squared_norm[1:] += beta2 * np.cumsum(_mask_correlation(q, branch_scale))[:-1]
    return (n + 1) / np.sqrt(squared_norm)


def _mask_correlation(q: np.ndarray, branch_scale: float) -> np.ndarray:
    """Return E_k = 2|D_k U_k|^2 - |U_k|^2, shape [len(q)], for layers k = 2..len(q)+1.

    The backward vectors remember the masks of the layers above k, which agree with the mask D_k more often than not;
    that is why a mask does not halve the norm of the feature velocity. The entry of the last layer is unused.
    """
    layers = len(q)
    a = math.sqrt(1 - branch_scale**2)
    powers = np.power(a, np.arange(2 * layers))  # 0^0 = 1 gives the MLP
    agreement = (2 * branch_scale**2 / math.pi) * np.arcsin(powers[:layers])
    inner = np.zeros(layers)  # G_{kj}, all k at once; j runs downwards from the last masked layer
    excess = np.zeros(layers)
    for j in range(layers - 2, -1, -1):
        distance = np.abs(np.arange(layers) - j)
        inner = agreement[distance] + a**2 * inner
        excess[j:] += powers[2 * distance[j:]] * q[j] * inner[j:]
    return excess


def phi_limit(c: ArrayLike, activation: Activation = "relu") -> np.ndarray | float:
    """Return the output BFA in radians for width -> infinity, then depth L -> infinity, at branch_scale = c/sqrt(L).

    ``c`` >= 0 is a number or an array; the result has its shape. Relative accuracy about 1e-10 for any c.
    """
    excess = _tan2_limit(c, activation)
    angle = np.arctan(np.sqrt(excess))
    return float(angle) if angle.ndim == 0 else angle


def inverse_cos2_limit(c: ArrayLike, activation: Activation = "relu") -> np.ndarray | float:
    """Return ``1/cos^2 phi(c)``, dimensionless, with the shape of ``c``; see :func:`phi_limit`."""
    value = 1 + _tan2_limit(c, activation)
    return float(value) if value.ndim == 0 else value


def _tan2_limit(c: ArrayLike, activation: Activation) -> np.ndarray:
    _check_activation(activation)
    c = np.asarray(c, dtype=float)
    if not np.all(np.isfinite(c)) or np.any(c < 0):
        raise ValueError(f"c = {c!r} must be finite and >= 0")
    linear = 2 * c**2 / 3
    if activation == "linear":
        return linear
    return linear + np.vectorize(_relu_excess, otypes=[float])(c)


def _relu_excess(c: float) -> float:
    """Return (4/pi) * integral over t in [0, 1] of t (1 + c^2 t) H(c^2 (1 - t)), the ReLU part of tan^2 phi(c).

    With A = c^2 (1 - t) = s^2, the integrand is smooth in s and the saturated range of H is a polynomial.
    """
    if c == 0:
        return 0.0
    square = c * c
    edge = min(square, _SATURATED)

    def integrand(s: float) -> float:
        t = 1 - s * s / square
        return t * (1 + square * t) * _mask_integral(s * s) * 2 * s / square

    varying, _ = integrate.quad(integrand, 0, math.sqrt(edge), epsabs=0, epsrel=1e-11)
    rest = 1 - edge / square
    return 4 / math.pi * varying + rest**2 / 2 + square * rest**3 / 3


def _mask_integral(area: float) -> float:
    """Return H(A), the integral over [0, A]^2 of exp(-x-y) arcsin(exp(-|x-y|/2)) dx dy."""
    if area < 0.5:
        # The closed form cancels here. Its one-dimensional form with w = A s^2 has a positive, smooth integrand.
        s = (_NODES + 1) / 2
        w = area * s**2
        angle = math.pi / 2 - np.arcsin(np.sqrt(-np.expm1(-w)))
        return float(np.sum(_WEIGHTS * area * s * angle * np.exp(-w) * -np.expm1(2 * (w - area))))
    z = math.exp(-area / 2)
    return math.pi / 4 + math.pi / 2 * z**4 + (0.5 - 2 * z**2) * math.asin(z) - z * math.sqrt(1 - z**2) * (0.5 + z**2)


def sample_mlp_cos_bfa(width: int, depth: int, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Sample cos(theta_v) of finite ReLU MLPs exactly (branch_scale = 1), shape [n_samples, depth - 2].

    A row is one network: the layers v = 2..depth-1 have their joint law. Only norms are drawn, a few chi-square numbers
    and one binomial a layer. A network with a hidden layer below f_{L-1} without active units has no gradients, hence
    no angle: its row is NaN.
    """
    _check_depth(depth)
    if width < 1 or n_samples < 1:
        raise ValueError(f"width = {width!r} and n_samples = {n_samples!r} must be at least 1")
    cos = np.empty((n_samples, depth - 2))
    masked = np.zeros(n_samples)  # |b_l|^2 |D_l U_l|^2, zero at l = 1 because W_1 is frozen
    active = rng.binomial(width, 0.5, n_samples)
    dead = active == 0
    for n in range(1, depth - 1):  # n = v - 1 trained layers up to v
        carried = masked / np.where(active > 0, _chi2(active, rng), 1.0)
        active = rng.binomial(width, 0.5, n_samples)
        seen = _chi2(np.maximum(active - 1, 0), rng)
        # f_v itself carries no mask: the coordinates switched off after v count as well. The direction of b_v is
        # fixed by the feature speed formula, so m - 1 degrees of freedom remain in all.
        hidden = _chi2(np.where(active > 0, width - active, width - 1), rng)
        cos[:, n - 1] = n / np.sqrt(n**2 + carried * (seen + hidden))
        masked = n**2 + carried * seen
        if n < depth - 2:  # the readout sees f_{L-1} without a ReLU
            dead |= active == 0
    cos[dead] = np.nan
    return cos


def mlp_mean_inverse_cos2(width: int, depth: int) -> np.ndarray:
    """Return the exact mean of 1/cos^2(theta_v) over ReLU MLPs of this width, shape [depth - 2], v = 2..depth-1.

    Conditional on at least three active units in every hidden layer: without that condition the mean is infinite at
    every width, through events of probability at most depth * width^2 / 2^width. Raises ValueError for width < 3.
    """
    _check_depth(depth)
    if width < 3:
        raise ValueError(f"width = {width!r} must be at least 3: the mean is infinite below")
    active = np.arange(3, width + 1)
    log_law = special.gammaln(width + 1) - special.gammaln(active + 1) - special.gammaln(width - active + 1)
    law = np.exp(log_law - log_law.max())
    inverse = float(np.sum(law / (active - 2)) / law.sum())  # E[1/(n_k - 2)] = E[1/chi2]
    mean = np.ones(depth - 2)
    carried = 0.0  # E[s_k / (n_k - 2)]
    for n in range(2, depth - 1):
        carried = inverse * (n - 1) ** 2 + (1 + inverse) * carried
        mean[n - 1] = 1 + (width - 1) * carried / n**2
    return mean


def _chi2(degrees: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 2 * rng.standard_gamma(degrees / 2)  # unlike Generator.chisquare, defined (zero) at no degree of freedom


def _check_depth(depth: int) -> None:
    if depth < 3:
        raise ValueError(f"depth = {depth!r} must be at least 3: one trained layer between embedding and readout")


def _check_activation(activation: str) -> None:
    if activation not in ("relu", "linear"):
        raise ValueError(f"activation = {activation!r} must be 'relu' or 'linear'")
