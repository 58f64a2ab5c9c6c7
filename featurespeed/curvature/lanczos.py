"""Eigenvalues of symmetric operators that are known by their products with vectors: Lanczos, fully reorthogonalised.

One vector at a time, all of its predecessors kept and projected out twice: the only variant that needs few products and
does not invent copies of eigenvalues. Eigenvalues are algebraic, largest first: a dominant negative one is at the other
end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurespeed.curvature.basis import foresee
from featurespeed.curvature.exact import Ritz, borne_out
from featurespeed.curvature.krylov import Krylov
from featurespeed.curvature.objective import CurvatureError
from featurespeed.curvature.operators import Negative, Operator
from featurespeed.machine.device import tf32
from featurespeed.measuring.arguments import positive, whole_number
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
# A further chain of products, for k > 1, has at least so many, and from a random start at least this share of all
# before it, up to so many values. Of few values each is missed more easily. Of random spectra, most of them with many
# values within 10% of the first, these had an error above 0.2%: at k = 2, 3 and 5 with a share of 0.2 10 of 1200 and
# with 0.4 none, at k = 8 with 0.2 1 of 600, and at k = 10 with 0.12 2 of 600 and with 0.2 none, for 8% more products.
CHECKING = {"cold": 6, "warm": 8}
CHECKING_SHARES = ((5, 0.4), (9, 0.2), (math.inf, 0.12))
WARM_SHARE = 0.2
TYPICAL = 15  # products, and 5 for each eigenvalue, to foresee how much memory they take
# Largest asymmetry of products that are believed. Sound networks reach 1e-15 in float64, 1e-7 in float32, 3e-3 in
# bfloat16; forward passes that are random or differ from time to time, and wrong second derivatives, 0.1 and more.
ASYMMETRY = 0.03
EXACT_ASYMMETRY = 1e-4  # in float64


@dataclass(frozen=True, eq=False)
class Eigenvalues:
    """Eigenvalues of one network's operator, with the evidence for them.

    Attributes:
        values: ``[k]``, largest first, float64.
        residuals: ``[k]``, norms of ``A v - value v`` for unit vectors v: some eigenvalue is at most that far away. Of
            six and more values in TF32 they may be estimates of that from above.
        vectors: ``[k, size]``, orthonormal, on the operator's device.
        products: products of the operator with a vector, all that were spent.
        converged: errors within ``tol`` by their bounds, and the last products, for k > 1 or from an earlier result
            those of a chain of their own, left the values within ``tol``; never with an asymmetry above 0.03 (1e-4 in
            float64).
        dtype: of the products.
        runner_up: ``[size]``, the next vector after these; seldom accurate, but part of a warm start.
        warm: whether the start was the vectors of an earlier measurement.
        disagreement: ``|warm - cold|`` over the larger of the two first values, where both were measured; else NaN.
        asymmetry: largest part of a product, relative to the matrix, that products of one symmetric matrix do not have:
            rounding, or the sign of a matrix that changes between products or has wrong derivatives.
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
    asymmetry: float = math.nan

    @property
    def eigenvalue(self) -> float:
        """The first value."""
        return float(self.values[0])

    @property
    def residual(self) -> float:
        """The residual of the first value."""
        return float(self.residuals[0])


def largest_eigenvalues(
    operator: Operator,
    k: int = 1,
    *,
    tol: float = 1e-3,
    start: Tensor | None = None,
    seed: int | Sequence[int] = 0,
    max_products: int = MAX_PRODUCTS,
    allow_tf32: bool = False,
    second_start: bool = False,
) -> list[Eigenvalues]:
    """The ``k`` largest eigenvalues of every member, algebraically: one record a member.

    Stops when, for every member and value, the error is within ``tol`` by its residual r (``r``, or ``r^2 / gap`` with
    a margin) and the last products have left the value there; from a random start not before 10 products. For ``k > 1``
    these last products are those of a new chain, from a random vector that is orthogonal to all that was found: one
    start has a single direction in the space of a repeated eigenvalue, and next to nothing of one of two close ones.
    Chains follow each other until one of them adds nothing to the first ``k``.
    For ``k = 1`` there is one chain, unless ``second_start`` asks for more: from a warm start it stays at the
    eigenvalue that was the first, and may miss one that has overtaken it by a few percent.

    Args:
        operator: symmetric.
        k: how many; one with several eigenvectors counts as often as it has them.
        tol: relative.
        start: ``[E, size]``, for a warm start.
        seed: of the random start; one for all members, or one each.
        max_products: stop there, ``converged = False``.
        allow_tf32: on a GPU, products in TF32, and at the end some in full precision
            (:func:`featurespeed.curvature.exact.borne_out`): the Rayleigh quotient of a vector that is off by d is off
            by d^2 only. Where they do not bear out what the rounded ones said, nothing has converged.

    Raises:
        CurvatureError: k < 1 or larger than the operator, tol not positive, products that are not finite.
    """
    _check_request(operator, k, tol, max_products)
    k = int(k)
    foresee(operator.members, operator.size, operator.dtype, operator.device, min(TYPICAL + 5 * k, max_products))
    with measuring(operator), tf32(False):
        first = random_vectors(operator, seed) if start is None else start
        kind = "cold" if start is None else "warm"
        search = _Search(operator, k, tol, max_products, first, kind, allow_tf32, k > 1 or second_start)
        good = search.run()
        return _records(search, good, start is not None)


class _Search:
    """The chains of products of one call, and whether their first Ritz values may be believed."""

    def __init__(
        self,
        operator: Operator,
        k: int,
        tol: float,
        max_products: int,
        start: Tensor,
        kind: str,
        allow_tf32: bool,
        several_chains: bool,
    ):
        self.operator, self.k, self.tol, self.kind, self.allow_tf32 = operator, k, tol, kind, allow_tf32
        self.several_chains = several_chains
        self._share = next(share for most, share in CHECKING_SHARES if k <= most) if kind == "cold" else WARM_SHARE
        self.krylov = Krylov(operator, start, allow_tf32)
        self._eps = torch.finfo(operator.dtype).eps
        self._most = min(max_products, operator.size)
        self._history: list[np.ndarray] = []

    def run(self) -> np.ndarray:
        """Products until all is settled; ``[E]``, whether it is."""
        least = min(max(self.k, COLD_PRODUCTS if self.kind == "cold" else 2), self.operator.size)
        good = self._first_chain(least)
        while self.several_chains and good.all() and self.krylov.steps < self._most:
            before = self.krylov.ritz()[0][:, : self.k]
            if not self._another_chain():
                good[:] = False
            elif self._unchanged(before):
                break
        else:  # no chain has said that nothing is missing
            good &= not self.several_chains
        good |= self.krylov.steps == self.operator.size
        return good & (self.krylov.asymmetry <= largest_asymmetry(self.operator.dtype))

    def _first_chain(self, least: int) -> np.ndarray:
        good = np.zeros(self.operator.members, dtype=bool)
        unread = min(least, self._most) - self._back(least)  # values of so few products are compared with no others
        while self.krylov.steps < unread:
            self.krylov.extend()
        while self.krylov.steps < self._most and not good.all():
            values, residuals = self._extend()
            if self.krylov.steps >= least:
                good = self._settled(values, residuals, self._back(self.krylov.steps))
        return good

    def _another_chain(self) -> bool:
        """Whether it came to an end within the products that are allowed."""
        least = max(CHECKING[self.kind], math.ceil(self._share * self.krylov.steps))
        self.krylov.restart()
        self._history.clear()
        while self.krylov.chain < least - AGREEING["warm"] and self.krylov.steps < self._most:
            self.krylov.extend()
        while self.krylov.steps < self._most:
            values, residuals = self._extend()
            if self.krylov.chain < least:
                continue
            top, residual, gap = self.krylov.chain_top()
            bound = self._bound(values)
            room = values[:, self.k - 1] - bound - top  # below it stays what the chain may still find
            if ((residual < room) | _second_order(residual, room, gap) | (residual <= bound)).all():
                return self._finished(values, residuals)
        return self.krylov.steps == self.operator.size

    def _finished(self, values: np.ndarray, residuals: np.ndarray) -> bool:
        """Whether all values are accurate in the end: chains that were left too early go on.

        What a further chain finds may lie so close to a value that this must be known better than before.
        """
        while True:
            good = self._settled(values, residuals, AGREEING["warm"])
            if good.all() or self.krylov.steps == self._most:
                return good.all() or self.krylov.steps == self.operator.size
            end = self.krylov.open_end(self.k, ~good)
            if end is not None:
                self.krylov.resume(end)
            values, residuals = self._extend()

    def _extend(self) -> tuple[np.ndarray, np.ndarray]:
        self.krylov.extend()
        values, residuals, _ = self.krylov.ritz()
        self._history.append(values[:, : self.k])
        return values, residuals

    def _back(self, steps: int) -> int:
        """So many products ago values must have been where they are; further chains do the same for k > 1."""
        share = 0.0 if self.several_chains else AGREEING_SHARE[self.kind]
        return max(AGREEING[self.kind], math.ceil(share * steps))

    def _settled(self, values: np.ndarray, residuals: np.ndarray, back: int) -> np.ndarray:
        return _settled(values, residuals, self._history[-1 - back :: back], self.k, self.tol, self._eps)

    def small(self, values: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        """Which of the first k values are within ``tol`` by their residuals, ``[E, k]``."""
        return _small(*_in_units(values, residuals), self.k, self.tol, self._eps)

    def _bound(self, values: np.ndarray) -> np.ndarray:
        """Error that is allowed for the k-th value, ``[E]``."""
        return _bounds(values[:, self.k - 1], self.tol, self._eps, np.abs(values).max(axis=1))

    def _unchanged(self, before: np.ndarray) -> bool:
        values = self.krylov.ritz()[0]
        allowed = np.maximum(self.tol * np.abs(before), self._bound(values)[:, None])
        return bool((np.abs(values[:, : self.k] - before) <= allowed).all())


def _records(search: _Search, good: np.ndarray, warm: bool) -> list[Eigenvalues]:
    krylov, k, operator = search.krylov, search.k, search.operator
    values, residuals, coordinates = krylov.ritz()
    vectors = krylov.vectors(coordinates[:, :, : k + 1])
    exact = krylov.residuals(coordinates[:, :, :k]) if search.several_chains else residuals[:, :k]
    found, spent = Ritz(values[:, :k], exact, vectors[:, :k]), 0
    if search.allow_tf32:

        def small(first: np.ndarray, off: np.ndarray) -> np.ndarray:
            return search.small(np.concatenate([first, values[:, k:]], axis=1), off)

        found, spent = borne_out(krylov, found, search.tol, small)
        if krylov.steps < operator.size:
            good = good & small(found.values, found.residuals).all(axis=1)
    next_ones = vectors[:, k] if vectors.shape[1] > k else torch.zeros_like(vectors[:, 0])
    products = krylov.products + spent
    return [
        Eigenvalues(
            torch.from_numpy(found.values[e].copy()), torch.from_numpy(found.residuals[e].copy()), found.vectors[e],
            products, bool(good[e]), operator.dtype, next_ones[e], warm, asymmetry=float(krylov.asymmetry[e]),
        )
        for e in range(operator.members)
    ]  # fmt: skip


def largest_asymmetry(dtype: torch.dtype) -> float:
    """Up to which products in a precision are believed."""
    return EXACT_ASYMMETRY if dtype == torch.float64 else ASYMMETRY


def measuring(operator: Any) -> AbstractContextManager[None]:
    """What an operator wants to hold while products are taken; nothing for one that is not of this package."""
    return operator.measuring() if isinstance(operator, Operator) else nullcontext()


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
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= operator.size:
        raise CurvatureError(f"k = {k!r}: allowed: 1 to the {operator.size} dimensions of the operator")
    positive("tol", tol)
    if whole_number("max_products", max_products, 1) < k:
        raise CurvatureError(f"max_products = {max_products}: allowed: at least k = {k}")


def _settled(
    values: np.ndarray, residuals: np.ndarray, history: list[np.ndarray], k: int, tol: float, eps: float
) -> np.ndarray:
    """Which members' first k values are within ``tol`` and have stopped moving, ``[E]``.

    ``history``: first values some products ago, and now.
    """
    if len(history) < 2 or history[0].shape[1] < k:
        return np.zeros(len(values), dtype=bool)
    values, residuals, before = _in_units(values, residuals, history[0])
    still = np.abs(values[:, :k] - before) <= _bounds(values[:, :k], tol, eps)
    return (_small(values, residuals, k, tol, eps) & still).all(axis=1)


def _in_units(values: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """In units of each member's largest value, in which no square underflows."""
    size = np.abs(values).max(axis=1, keepdims=True)
    size = np.where(size > 0, size, 1.0)
    return tuple(each / size for each in (values, *others))


def _bounds(values: np.ndarray, tol: float, eps: float, largest: np.ndarray | float = 1.0) -> np.ndarray:
    """Errors that are allowed for values beside a largest one: not less than the rounding of the products."""
    return np.maximum(tol * np.abs(values), 4 * eps * largest)


def _small(values: np.ndarray, residuals: np.ndarray, k: int, tol: float, eps: float) -> np.ndarray:
    """Which of the first k values are that accurate by their residuals, ``[E, k]``."""
    bound, r = _bounds(values[:, :k], tol, eps), residuals[:, :k]
    return (r <= bound) | _second_order(r, bound, _gaps(values, k))


def _second_order(residual: np.ndarray, bound: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Whether an error is within a bound by ``residual^2 / gap``."""
    ratio = np.minimum(residual / np.maximum(bound, np.finfo(float).tiny), 2 * SECOND_ORDER)  # no square overflows
    return (ratio <= SECOND_ORDER) & (residual * ratio <= MARGIN * gap)


def _gaps(values: np.ndarray, k: int) -> np.ndarray:
    """Distance of each of the first k Ritz values to its nearest neighbour, ``[E, k]``; 0 where there is none."""
    if values.shape[1] < 2:
        return np.zeros_like(values[:, :k])
    below = values[:, :-1] - values[:, 1:]
    last = below[:, -1:] if values.shape[1] == k else below[:, k - 1 : k]
    above = np.concatenate([np.full((len(values), 1), np.inf), below], axis=1)[:, :k]
    return np.minimum(above, np.concatenate([below[:, : k - 1], last], axis=1))
