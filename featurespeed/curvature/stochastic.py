"""Trace and spectral density of a symmetric operator from products with random vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featurespeed.curvature.basis import foresee
from featurespeed.curvature.krylov import Krylov, Products
from featurespeed.curvature.lanczos import measuring, random_vectors
from featurespeed.curvature.objective import CurvatureError
from featurespeed.curvature.operators import Operator
from featurespeed.measuring.arguments import whole_number
from featurespeed.randomness import derive_seed, generator


@dataclass(frozen=True)
class Trace:
    """A trace and how well it is known.

    Attributes:
        value: mean of ``z^T A z`` over random signs z, an unbiased estimate.
        standard_error: of the mean, from the spread over the vectors.
        products: number of vectors.
        dtype: of the products.
        asymmetry: root mean square of ``z^T A z' - z'^T A z`` over that of these products: 0 but for rounding if all
            products are those of one symmetric matrix.
    """

    value: float
    standard_error: float
    products: int
    dtype: torch.dtype
    asymmetry: float = math.nan


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """Distribution of the eigenvalues as point masses, one set a random vector.

    Attributes:
        nodes: ``[vectors, steps]``, Ritz values.
        weights: ``[vectors, steps]``, their masses, which sum to 1 for every vector.
        products: products spent.
        dtype: of the products.
        asymmetry: as for eigenvalues, the largest one of all vectors.
    """

    nodes: Tensor
    weights: Tensor
    products: int
    dtype: torch.dtype
    asymmetry: float = math.nan

    def mean(self) -> float:
        """Mean eigenvalue: the trace over the dimension."""
        return float((self.nodes * self.weights).sum(1).mean())

    def smoothed(self, points: int = 1000, width: float | None = None) -> tuple[Tensor, Tensor]:
        """Density on a grid ``[points]``, as a sum of Gaussians of standard deviation ``width``.

        The default width is 1% of the range of the nodes. The density integrates to 1.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        if width is None:
            size = max(abs(low), abs(high)) or 1.0
            width = 0.01 * (high - low if high - low > 1e-6 * size else size)  # one eigenvalue and its rounding
        grid = torch.linspace(low - 5 * width, high + 5 * width, points, dtype=torch.float64)
        bumps = torch.exp(-0.5 * ((grid - self.nodes.unsqueeze(-1)) / width) ** 2) / (width * math.sqrt(2 * math.pi))
        return grid, (self.weights.unsqueeze(-1) * bumps).sum(1).mean(0)


def trace(operator: Operator, vectors: int = 30, seed: int = 0) -> list[Trace]:
    """Hutchinson's estimate with random signs, of a fixed number of vectors; one record a member.

    Raises:
        CurvatureError: fewer than two vectors, which have no standard error.
    """
    vectors = whole_number("vectors", vectors, 1)
    if vectors < 2:
        raise CurvatureError(f"vectors = {vectors}: allowed: at least 2, for a standard error")
    with measuring(operator):
        first = _signs(operator, seed, 0)
        products = Products(operator)
        first_image = products(first)
        found, apart, sizes = [_inner(first, first_image)], [], []
        for i in range(1, vectors):
            signs = _signs(operator, seed, i)
            image = products(signs)
            found.append(_inner(signs, image))
            apart.append(_inner(first, image) - _inner(signs, first_image))
            sizes.append(_inner(image, image))
    values = np.stack(found)
    errors = values.std(axis=0, ddof=1) / math.sqrt(vectors) / products.scale
    uneven = np.sqrt(np.mean(np.square(apart), axis=0) / np.maximum(np.mean(sizes, axis=0), np.finfo(float).tiny))
    return [
        Trace(float(v), float(e), vectors, operator.dtype, float(a))
        for v, e, a in zip(values.mean(axis=0) / products.scale, errors, uneven, strict=True)
    ]


def _signs(operator: Operator, seed: int, index: int) -> Tensor:
    stream = generator(seed, "trace", index, device=operator.device)
    drawn = torch.randint(0, 2, (operator.members, operator.size), generator=stream, device=operator.device)
    return (2 * drawn - 1).to(operator.dtype)


def _inner(a: Tensor, b: Tensor) -> np.ndarray:
    """``[E]``, float64."""
    return (a * b).sum(1, dtype=torch.float64).cpu().numpy()


def spectral_density(operator: Operator, vectors: int = 4, steps: int = 60, seed: int = 0) -> list[SpectralDensity]:
    """Stochastic Lanczos quadrature (Golub and Meurant 2010; arXiv:1901.10159): one record a member.

    A random vector's measure over the eigenvalues is that of the Gauss rule which ``steps`` products give; its moments
    up to ``2 steps - 1`` are exact for this vector, and the mean over vectors is unbiased.

    Raises:
        CurvatureError: no vectors or no steps.
    """
    vectors = whole_number("vectors", vectors, 1)
    steps = min(whole_number("steps", steps, 1), operator.size)
    nodes, weights, uneven = [], [], []
    foresee(operator.members, operator.size, operator.dtype, operator.device, steps)
    for i in range(vectors):
        with measuring(operator):
            krylov = Krylov(operator, random_vectors(operator, derive_seed(seed, "density", i)))
            for _ in range(steps):
                krylov.extend()
        values, _, coordinates = krylov.ritz()
        nodes.append(values.copy())
        weights.append(coordinates[:, 0] ** 2)
        uneven.append(krylov.asymmetry)
    return [
        SpectralDensity(
            torch.from_numpy(np.stack([n[member] for n in nodes])),
            torch.from_numpy(np.stack([w[member] for w in weights])), vectors * steps, operator.dtype,
            float(np.max([a[member] for a in uneven])),
        )
        for member in range(operator.members)
    ]  # fmt: skip


def directional_sharpness(operator: Operator, gradient: Tensor) -> Tensor:
    """``g^T A g / |g|^2`` of every member, ``[E]`` in float64: curvature along the gradient; one product.

    For an operator ``D^1/2 H D^1/2`` pass ``D^1/2 g``, the gradient in the same units. NaN where the gradient is 0.
    """
    along = (gradient * operator.matvec(gradient)).sum(1, dtype=torch.float64)
    return along / gradient.double().square().sum(1)
