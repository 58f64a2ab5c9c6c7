"""Eigenvalues of symmetric operators that are known by their products with vectors: Lanczos, fully reorthogonalised.

One vector, all of its predecessors kept and projected out twice: the only variant that needs few products and does not
invent copies of eigenvalues. Eigenvalues are algebraic, largest first: a dominant negative one is at the other end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from featurespeed.curvature.objective import CurvatureError
from featurespeed.curvature.operators import Negative, Operator
from featurespeed.machine.device import tf32
from featurespeed.randomness import generator

MAX_PRODUCTS = 300
COLD_PRODUCTS = 10  # at least so many from a random start: it may have next to nothing of the first eigenvector
# Further products that must leave the values where they are: so many, and from a random start at least this share of
# all, because close eigenvalues take many, and more to be told apart.
AGREEING = {"cold": 2, "warm": 1}
AGREEING_SHARE = {"cold": 0.25, "warm": 0.0}
# A residual r puts an eigenvalue within r, and within r^2 / gap if the gap to the next one is known. Up to this
# multiple of the tolerance, the second bound counts, with the gap between Ritz values and a margin.
SECOND_ORDER = 10.0
MARGIN = 0.1


@dataclass(frozen=True, eq=False)
class Eigenvalues:
    """Eigenvalues of one network's operator, with the evidence for them.

    Attributes:
        values: ``[k]``, largest first, float64.
        residuals: ``[k]``, norms of ``A v - value v`` for unit vectors v: some eigenvalue is at most that far away.
        vectors: ``[k, size]``, orthonormal, on the operator's device.
        products: products of the operator with a vector, all that were spent.
        converged: errors within ``tol`` by their bounds, and the last products left the values within ``tol``.
        dtype: of the products.
        runner_up: ``[size]``, the next vector after these; seldom accurate, but part of a warm start.
        warm: whether the start was the vectors of an earlier measurement.
        disagreement: ``|warm - cold|`` over the larger of the two first values, where both were measured; else NaN.
    """

    values: Tensor
    residuals: Tensor
    vectors: Tensor
    products: int
    converged: bool
    dtype: torch.dtype
    runner_up: Tensor
    warm: bool = False
    disagreement: float = math.nan

    @property
    def eigenvalue(self) -> float:
        """The first value."""
        return float(self.values[0])

    @property
    def residual(self) -> float:
        """The residual of the first value."""
        return float(self.residuals[0])


class Krylov:
    """The growing Krylov space of an operator, member by member: an orthonormal basis and the projection on it.

    ``A V = V T + beta v_next e^T`` with ``T`` tridiagonal. Where a space is exhausted (``beta = 0``) it goes on from a
    random vector that is orthogonal to all of it, and so finds what the start had nothing of.

    Args:
        operator: ``E`` members of ``size`` dimensions.
        start: ``[E, size]``, not 0.
        allow_tf32: whether products, not the algebra around them, may round to TF32 on a GPU.
    """

    def __init__(self, operator: Operator, start: Tensor, allow_tf32: bool = False):
        self.operator, self.allow_tf32 = operator, allow_tf32
        self._basis = start.new_empty(operator.members, 16, operator.size)
        self.steps = 0
        self.alpha: list[np.ndarray] = []
        self.beta: list[np.ndarray] = []
        self._spare = generator(0, "krylov", device=start.device)
        self._next = start / start.norm(dim=1, keepdim=True)

    @property
    def basis(self) -> Tensor:
        """``[E, steps, size]``."""
        return self._basis[:, : self.steps]

    def extend(self) -> None:
        """One product, one more dimension."""
        self._append(self._next)
        with tf32(self.allow_tf32):
            image = self.operator.matvec(self._next)
        with tf32(False):  # the projections need every digit
            inside = self._project_out(image)
            self.alpha.append(inside[:, -1].double().cpu().numpy())
            self._project_out(image)
            norms = image.norm(dim=1).double().cpu().numpy()
            self._check(norms)
            self._turn(image, norms)

    def tridiagonal(self) -> np.ndarray:
        """``T``, ``[E, steps, steps]``."""
        matrix = np.zeros((self.operator.members, self.steps, self.steps))
        for j, alpha in enumerate(self.alpha):
            matrix[:, j, j] = alpha
        for j, beta in enumerate(self.beta[: self.steps - 1]):
            matrix[:, j, j + 1] = matrix[:, j + 1, j] = beta
        return matrix

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values ``[E, steps]`` largest first, their residuals, and coordinates, columns ``[E, steps, steps]``."""
        values, coordinates = np.linalg.eigh(self.tridiagonal())
        values, coordinates = values[:, ::-1], coordinates[:, :, ::-1]
        return values, self.beta[-1][:, None] * np.abs(coordinates[:, -1]), coordinates

    def vectors(self, coordinates: np.ndarray) -> Tensor:
        """Unit vectors ``[E, k, size]`` with ``coordinates [E, steps, k]``."""
        weights = torch.from_numpy(coordinates.transpose(0, 2, 1).copy()).to(self._next)
        with tf32(False):
            return torch.bmm(weights, self.basis)

    def _append(self, vectors: Tensor) -> None:
        if self.steps == self._basis.shape[1]:
            more = torch.empty_like(self._basis)
            self._basis = torch.cat([self._basis, more], dim=1)
        self._basis[:, self.steps] = vectors
        self.steps += 1

    def _project_out(self, vectors: Tensor) -> Tensor:
        """Take what lies in the basis out of ``vectors``, in place; its coordinates ``[E, steps]``."""
        inside = torch.bmm(self.basis, vectors.unsqueeze(2))
        vectors.sub_(torch.bmm(inside.transpose(1, 2), self.basis).squeeze(1))
        return inside.squeeze(2)

    def _check(self, norms: np.ndarray) -> None:
        if not (np.isfinite(norms).all() and np.isfinite(self.alpha[-1]).all()):
            raise CurvatureError("a product with the operator is not finite: derivatives overflow at these weights")

    def _turn(self, image: Tensor, norms: np.ndarray) -> None:
        """The next basis vectors; random ones for members whose space is exhausted."""
        largest = np.max(np.abs([*self.alpha, *self.beta, norms]), axis=0)
        exhausted = norms <= 10 * torch.finfo(image.dtype).eps * largest
        if exhausted.any() and self.steps < self.operator.size:
            for member in np.flatnonzero(exhausted):
                image[member] = torch.randn(image.shape[1], generator=self._spare, device=image.device).to(image)
            self._project_out(image)
            self._project_out(image)
            norms = np.where(exhausted, 0.0, norms)
        self.beta.append(norms)
        self._next = image / image.norm(dim=1, keepdim=True).clamp(min=torch.finfo(image.dtype).tiny)


def largest_eigenvalues(
    operator: Operator,
    k: int = 1,
    *,
    tol: float = 1e-3,
    start: Tensor | None = None,
    seed: int | Sequence[int] = 0,
    max_products: int = MAX_PRODUCTS,
    allow_tf32: bool = False,
) -> list[Eigenvalues]:
    """The ``k`` largest eigenvalues of every member, algebraically: one record a member.

    Stops when, for every member and value, the error is within ``tol`` by its residual r (``r``, or ``r^2 / gap`` with
    a margin) and the last products have left the value there; from a random start not before 10 products.

    Args:
        operator: symmetric.
        k: how many. One with several eigenvectors, which a single start does not tell apart, is sure to count as often
            as it has them only where products exhaust the space.
        tol: relative.
        start: ``[E, size]``, for a warm start.
        seed: of the random start; one for all members, or one each.
        max_products: stop there, ``converged = False``.
        allow_tf32: on a GPU, products in TF32, and at the end one in full precision for each of the k vectors: the
            Rayleigh quotient of a vector that is off by d is off by d^2 only.

    Raises:
        CurvatureError: k < 1 or larger than the operator, tol not positive, products that are not finite.
    """
    _check_request(operator, k, tol, max_products)
    kind = "cold" if start is None else "warm"
    krylov = Krylov(operator, random_vectors(operator, seed) if start is None else start, allow_tf32)
    least = min(max(k, COLD_PRODUCTS if start is None else 2), operator.size)
    history: list[np.ndarray] = []
    good = np.zeros(operator.members, dtype=bool)
    while krylov.steps < min(max_products, operator.size) and not good.all():
        krylov.extend()
        values, residuals, _ = krylov.ritz()
        history.append(values[:, :k])
        if krylov.steps >= least:
            back = max(AGREEING[kind], math.ceil(AGREEING_SHARE[kind] * krylov.steps))
            good = _settled(values, residuals, history[-1 - back :: back], k, tol, torch.finfo(operator.dtype).eps)
    good |= krylov.steps == operator.size
    values, residuals, coordinates = krylov.ritz()
    vectors = krylov.vectors(coordinates[:, :, : k + 1])
    found = values[:, :k], residuals[:, :k], vectors[:, :k]
    if allow_tf32:
        found = _in_full_precision(operator, found[2])
    next_ones = vectors[:, k] if vectors.shape[1] > k else torch.zeros_like(vectors[:, 0])
    products = krylov.steps + (k if allow_tf32 else 0)
    return [
        Eigenvalues(
            torch.from_numpy(found[0][e].copy()), torch.from_numpy(found[1][e].copy()), found[2][e], products,
            bool(good[e]), operator.dtype, next_ones[e], start is not None,
        )
        for e in range(operator.members)
    ]  # fmt: skip


def smallest_eigenvalues(operator: Operator, k: int = 1, **options) -> list[Eigenvalues]:
    """The ``k`` smallest eigenvalues, smallest first; options as for :func:`largest_eigenvalues`."""
    found = largest_eigenvalues(Negative(operator), k, **options)
    return [replace(record, values=-record.values) for record in found]


def random_vectors(operator: Operator, seed: int | Sequence[int]) -> Tensor:
    """Gaussian vectors ``[E, size]``; a member's own seed makes its vector independent of who is beside it."""
    seeds = [seed] * operator.members if isinstance(seed, int) else list(seed)
    if len(seeds) != operator.members:
        raise CurvatureError(f"seed: {len(seeds)} given, allowed: one, or one a member, {operator.members}")
    drawn = [
        torch.randn(
            operator.size, generator=generator(s, "start", device=operator.device), device=operator.device,
            dtype=operator.dtype,
        )
        for s in seeds
    ]  # fmt: skip
    return torch.stack(drawn)


def _check_request(operator: Operator, k: int, tol: float, max_products: int) -> None:
    if not 1 <= k <= operator.size:
        raise CurvatureError(f"k = {k}: allowed: 1 to the {operator.size} dimensions of the operator")
    if not tol > 0:
        raise CurvatureError(f"tol = {tol}: allowed: above 0")
    if max_products < k:
        raise CurvatureError(f"max_products = {max_products}: allowed: at least k = {k}")


def _settled(
    values: np.ndarray, residuals: np.ndarray, history: list[np.ndarray], k: int, tol: float, eps: float
) -> np.ndarray:
    """Which members' first k values are within ``tol`` and have stopped moving, ``[E]``.

    ``history``: first values some products ago, and now.
    """
    if len(history) < 2 or history[0].shape[1] < k:
        return np.zeros(len(values), dtype=bool)
    floor = 4 * eps * np.abs(values).max(axis=1, keepdims=True)  # rounding of the products
    first, r = values[:, :k], residuals[:, :k]
    bound = np.maximum(tol * np.abs(first), floor)
    second_order = (r <= SECOND_ORDER * bound) & (r**2 <= MARGIN * bound * _gaps(values, k))
    small = (r <= bound) | second_order
    return (small & (np.abs(first - history[0]) <= bound)).all(axis=1)


def _gaps(values: np.ndarray, k: int) -> np.ndarray:
    """Distance of each of the first k Ritz values to its nearest neighbour, ``[E, k]``; 0 where there is none."""
    if values.shape[1] < 2:
        return np.zeros_like(values[:, :k])
    below = values[:, :-1] - values[:, 1:]
    last = below[:, -1:] if values.shape[1] == k else below[:, k - 1 : k]
    above = np.concatenate([np.full((len(values), 1), np.inf), below], axis=1)[:, :k]
    return np.minimum(above, np.concatenate([below[:, : k - 1], last], axis=1))


def _in_full_precision(operator: Operator, vectors: Tensor) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Rayleigh-Ritz on ``vectors [E, k, size]`` with exact products."""
    with tf32(False):
        images = torch.stack([operator.matvec(vectors[:, i]) for i in range(vectors.shape[1])], dim=1)
        small = torch.bmm(vectors, images.transpose(1, 2)).double().cpu().numpy()
        exact, turn = np.linalg.eigh((small + small.transpose(0, 2, 1)) / 2)
        exact, turn = exact[:, ::-1].copy(), turn[:, :, ::-1]
        weights = torch.from_numpy(turn.transpose(0, 2, 1).copy()).to(vectors)
        vectors, images = torch.bmm(weights, vectors), torch.bmm(weights, images)
        off = (images - torch.from_numpy(exact).to(vectors)[:, :, None] * vectors).norm(dim=2)
    return exact, off.double().cpu().numpy(), vectors
