"""Eigenvalues along a trajectory: each measurement starts from the vectors of the one before it.

A warm start needs about half of the products and can be wrong in one way: it may follow an eigenvector that is no
longer the first. Against that, the next vector and noise are mixed into every start, and every few measurements one
from a random start, in full precision, is made as well. Their disagreement is in the record, which keeps the larger
values: Ritz values never exceed the eigenvalues that they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from featurespeed.curvature.lanczos import MAX_PRODUCTS, Eigenvalues, largest_eigenvalues
from featurespeed.curvature.objective import CurvatureError
from featurespeed.curvature.operators import Operator
from featurespeed.randomness import derive_seed, generator

NOISE = 0.03  # of the length of a warm start
RUNNER_UP = 0.3  # share of the next vector
COLD_EVERY = 5


class Tracker:
    """Measures the ``k`` largest eigenvalues of one operator after the other.

    Args:
        k, tol, max_products, allow_tf32: as for :func:`featurespeed.curvature.lanczos.largest_eigenvalues`.
        cold_every: measure from a random start, too, at every so many of the measurements; the first one is cold.
        noise: length of the random part of a warm start, relative to the rest.
        seed: of all random starts.
    """

    def __init__(
        self,
        k: int = 1,
        *,
        tol: float = 1e-3,
        cold_every: int = COLD_EVERY,
        noise: float = NOISE,
        seed: int = 0,
        max_products: int = MAX_PRODUCTS,
        allow_tf32: bool = False,
    ):
        if cold_every < 1:
            raise CurvatureError(f"cold_every = {cold_every}: allowed: at least 1")
        self.k, self.cold_every, self.noise, self.seed = k, cold_every, noise, seed
        self._options = {"tol": tol, "max_products": max_products}
        self._allow_tf32 = allow_tf32
        self._previous: dict[int, Eigenvalues] = {}
        self._measured = 0

    def measure(self, operator: Operator, members: Sequence[int] | None = None) -> list[Eigenvalues]:
        """One record a member.

        Args:
            operator: at the next point of the trajectory.
            members: which networks of the trajectory the operator holds (default: all, in order); some may have left.
        """
        members = list(range(operator.members)) if members is None else list(members)
        number, self._measured = self._measured, self._measured + 1
        known = all(member in self._previous for member in members)
        if not known:
            found = self._cold(operator, members, number, self._allow_tf32)  # there is nothing to be checked by it
        else:
            found = self._warm(operator, members, number)
            if number % self.cold_every == 0:
                found = [compare(w, c) for w, c in zip(found, self._cold(operator, members, number), strict=True)]
        self._previous = dict(zip(members, found, strict=True))
        return found

    def _cold(self, operator: Operator, members: list[int], number: int, allow_tf32: bool = False) -> list[Eigenvalues]:
        seeds = [derive_seed(self.seed, "cold", number, member) for member in members]
        return largest_eigenvalues(operator, self.k, seed=seeds, allow_tf32=allow_tf32, **self._options)

    def _warm(self, operator: Operator, members: list[int], number: int) -> list[Eigenvalues]:
        starts = [
            warm_start(self._previous[member], self.noise, derive_seed(self.seed, "noise", number, member))
            for member in members
        ]
        return largest_eigenvalues(
            operator, self.k, start=torch.stack(starts), allow_tf32=self._allow_tf32, **self._options
        )


def warm_start(previous: Eigenvalues, noise: float = NOISE, seed: int = 0) -> Tensor:
    """A start ``[size]`` from an earlier result: its vectors, the next one, which may now be the first, and noise."""
    vectors = previous.vectors.sum(0) + RUNNER_UP * previous.runner_up
    stream = generator(seed, "noise", device=vectors.device)
    drawn = torch.randn(vectors.shape, generator=stream, device=vectors.device, dtype=vectors.dtype)
    return vectors / vectors.norm() + noise * drawn / drawn.norm()


def compare(warm: Eigenvalues, cold: Eigenvalues) -> Eigenvalues:
    """Of two measurements of one operator the one with the larger first value, with the products of both."""
    scale = max(abs(cold.eigenvalue), abs(warm.eigenvalue), torch.finfo(torch.float64).tiny)
    apart = abs(warm.eigenvalue - cold.eigenvalue) / scale
    best = warm if warm.eigenvalue > cold.eigenvalue else cold
    return replace(best, products=warm.products + cold.products, disagreement=apart)
