"""The growing Krylov space of an operator: an orthonormal basis, kept in pieces, and the projection on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurespeed.curvature.basis import Basis
from featurespeed.curvature.objective import CurvatureError
from featurespeed.curvature.operators import Multiple, Operator
from featurespeed.machine.device import tf32
from featurespeed.measuring.norms import norm, power_of_two
from featurespeed.randomness import generator

#: Norms of a product within which neither it nor squares of its entries over- or underflow, by precision.
COMFORTABLE = {
    torch.float16: (2.0**-6, 2.0**8),
    torch.bfloat16: (1e-12, 1e12),
    torch.float32: (1e-12, 1e12),
    torch.float64: (1e-120, 1e120),
}
ROOM = 32  # dimensions of a projection at first
TINY = float(np.finfo(float).tiny)
#: What a projection takes, squared, relative to what it leaves: above it is made again.
TAKEN = 1.0
#: Factors that are tried one after the other where a product is 0, and, inverted, where it is not finite.
FAR = {
    torch.float16: (2.0**12, 2.0**40, 2.0**80),
    torch.bfloat16: (2.0**80,),
    torch.float32: (2.0**80,),
    torch.float64: (2.0**600,),
}
NOT_FINITE = "a product with the operator is not finite: derivatives overflow at these weights"
HIGHEST = {torch.float16: 2.0**15}  # factor on a loss of that precision, which has no larger number


class Products:
    """Products with ``scale`` times an operator: a power of two, found at the first one, that keeps them in range.

    Args:
        operator: what to multiply with.
        allow_tf32: whether products may round to TF32 on a GPU.
    """

    def __init__(self, operator: Operator, allow_tf32: bool = False):
        self.operator, self.allow_tf32, self.scale, self.taken = operator, allow_tf32, 1.0, 0

    def __call__(self, vectors: Tensor) -> Tensor:
        """``scale`` times the operator times ``vectors [E, size]``."""
        image = self._product(vectors)
        if self.taken > 1:
            return image
        for factor in _far(image):
            found = self._rescaled(vectors, factor)
            if found is not None:
                image = found
                break
        factor = _near(image)
        for tried in (factor, min(factor, HIGHEST.get(image.dtype, factor) / self.scale)) if factor != 1 else ():
            found = self._rescaled(vectors, tried)
            if found is not None:
                return found
        return image

    def _product(self, vectors: Tensor) -> Tensor:
        self.taken += 1
        with tf32(self.allow_tf32):
            return self.operator.matvec(vectors)

    def _rescaled(self, vectors: Tensor, factor: float) -> Tensor | None:
        """The product with ``factor`` times the operator, which stays so if that has one; else None."""
        before = self.operator, self.scale
        self.operator, self.scale = scaled(self.operator, factor), self.scale * factor
        found = self._product(vectors)
        if torch.isfinite(found).all() and found.any():
            return found
        self.operator, self.scale = before
        return None


def _far(image: Tensor) -> Iterator[float]:
    """Factors by which an operator may have a product where this one has none."""
    if not torch.isfinite(image).all():
        yield from (1 / factor for factor in FAR[image.dtype])
    elif not image.any():
        yield from FAR[image.dtype]


def _near(image: Tensor) -> float:
    """The factor that brings a product into the range of numbers; 1 where it is in it."""
    size = norm(image)
    low, high = COMFORTABLE[image.dtype]
    return 1.0 if low <= size <= high or not 0 < size < np.inf else power_of_two(size)


@dataclass
class _End:
    """Where a chain was left.

    Attributes:
        place: of its last vector.
        left: ``[E, size]``, what the image of that had outside of the space then.
        outside: ``[E]``, the square of what it still has.
    """

    place: int
    left: Tensor
    outside: np.ndarray


class Krylov:
    """The growing Krylov space of an operator, member by member: an orthonormal basis and the projection on it.

    ``A V = V T + beta v_next e^T`` with ``T`` tridiagonal. Where a space is exhausted (``beta = 0``) it goes on from a
    random vector that is orthogonal to all of it, and so finds what the start had nothing of; :meth:`restart` does so
    before, and the chain that it leaves has an open end, whose image the later vectors take up.

    Inside, everything is of ``scale`` times the operator (:class:`Products`); what the methods return is of itself.

    Args:
        operator: ``E`` members of ``size`` dimensions.
        start: ``[E, size]``, not 0.
        allow_tf32: whether products, not the algebra around them, may round to TF32 on a GPU.

    Attributes:
        asymmetry: ``[E]``, largest part of a product, relative to the operator, along basis vectors along which that of
            a symmetric matrix that stays the same has none; rounding if all is well.
    """

    def __init__(self, operator: Operator, start: Tensor, allow_tf32: bool = False):
        self._product = Products(operator, allow_tf32)
        self.members, self.size = operator.members, operator.size
        self._basis = Basis(operator.members, operator.size, start)
        self.beta: list[np.ndarray] = []
        self.asymmetry = np.zeros(operator.members)
        self._size = np.zeros(operator.members)  # lower bound of the operator's norm
        self._matrix = np.zeros((operator.members, ROOM, ROOM))  # the projection, with room for more dimensions
        self._ends: list[_End] = []  # of the chains that were left
        self._spare = generator(0, "krylov", device=start.device)
        self._next = start / start.norm(dim=1, keepdim=True)
        self._previous = self._next  # in the same chain, if that has one

    @property
    def products(self) -> int:
        """All that were taken."""
        return self._product.taken

    @property
    def scale(self) -> float:
        """By which the operator is multiplied inside."""
        return self._product.scale

    def multiplied(self, vectors: Tensor) -> Tensor:
        """The operator, not a multiple, times ``vectors [E, size]``, in full precision."""
        with tf32(False):
            return self._product.operator.matvec(vectors) / self.scale

    @property
    def steps(self) -> int:
        """Dimensions so far."""
        return self._basis.steps

    @property
    def basis(self) -> Tensor:
        """``[E, steps, size]``."""
        return self._basis.joined()

    @property
    def chain(self) -> int:
        """Dimensions of the present chain, since the last :meth:`restart`."""
        return self.steps - (self._ends[-1].place + 1 if self._ends else 0)

    def extend(self) -> None:
        """One product, one more dimension."""
        self._basis.append(self._next)
        image = self._image()
        with tf32(False):  # the projections need every digit
            inside, norms = self._outside_of_basis(image)
            self._check(inside, norms)
            self._enter(inside)
            self._size = np.maximum(self._size, np.maximum(np.abs(inside[:, -1]), norms))
            self._watch(inside)
            self._turn(image, norms)

    def _outside_of_basis(self, image: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Take an image's part in the space out of it, in place; its coordinates ``[E, steps]``, and the norm left.

        Along the last two vectors first, where nearly all of it is; then along all, and once more if that has taken
        much, because what is left then is not orthogonal to all digits (Daniel, Gragg, Kaufman and Stewart 1976).
        """
        alpha = (self._next * image).sum(dim=1, keepdim=True)
        image.sub_(alpha * self._next)
        if self.chain > 1:
            image.sub_(self._last_beta() * self._previous)
        taken = self._basis.project_out(image)
        numbers = torch.cat([taken, alpha, _lengths(image)], dim=1).double().cpu().numpy()  # a single wait for a GPU
        inside, alphas, after = numbers[:, :-2], numbers[:, -2], numbers[:, -1]
        if not ((inside * inside).sum(axis=1) <= TAKEN * after * after).all():
            inside = inside + self._basis.project_out(image).double().cpu().numpy()
            after = _norms(image)
        inside[:, -1] += alphas
        if self.chain > 1:
            inside[:, -2] += self.beta[-1]
        self._previous = self._next
        return inside, after

    def _image(self) -> Tensor:
        try:
            return self._product(self._next)
        except torch.OutOfMemoryError:
            if not self._basis.to_host():
                raise
        return self._product(self._next)

    def restart(self) -> None:
        """Go on from a random vector that is orthogonal to all of the space, as if that were exhausted."""
        fresh = torch.stack([self._random() for _ in range(self.members)])
        self._leave()
        self._next = self._orthogonal(fresh)

    def resume(self, place: int) -> None:
        """Go on with what the image of ``place``, the last vector of an earlier chain, has outside of the space."""
        (left,) = (end.left for end in self._ends if end.place == place)
        rest = self._outside_of_space(left)
        for member in np.flatnonzero(self._exhausted(_norms(rest))):
            rest[member] = self._random()
        self._leave()
        self._next = self._orthogonal(rest)

    def open_end(self, k: int, members: np.ndarray) -> int | None:
        """The earlier chain, by its last vector, that adds most to residuals of the first ``k`` values of ``members``.

        None where it is the present one.
        """
        coordinates = np.abs(self.ritz()[2][members, :, :k])
        present = (self.beta[-1][members, None] / self.scale * coordinates[:, -1]).max()
        added = {e.place: (self._outside(e)[members, None] * coordinates[:, e.place]).max() for e in self._ends}
        place = max(added, key=added.__getitem__, default=None)
        return place if place is not None and added[place] > present else None

    def _leave(self) -> None:
        """End the present chain."""
        self._ends.append(_End(self.steps - 1, self._next * self._last_beta(), self.beta[-1] ** 2))

    def _enter(self, inside: np.ndarray) -> None:
        """One more row and column of the projection, from the coordinates of an image ``[E, steps]``."""
        new = self.steps - 1
        if new == self._matrix.shape[1]:
            wider = np.zeros((self.members, 2 * new, 2 * new))
            wider[:, :new, :new] = self._matrix
            self._matrix = wider
        self._matrix[:, new, new] = inside[:, new]
        if self.chain > 1:
            self._matrix[:, new, new - 1] = self._matrix[:, new - 1, new] = self.beta[-1]
        for end in self._ends:
            self._matrix[:, end.place, new] = self._matrix[:, new, end.place] = inside[:, end.place]
            end.outside = end.outside - inside[:, end.place] ** 2

    def projection(self) -> np.ndarray:
        """``V^T A V``, ``[E, steps, steps]``: tridiagonal but for the open ends of earlier chains."""
        return self._matrix[:, : self.steps, : self.steps] / self.scale

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values ``[E, steps]`` largest first, their residuals, and coordinates, columns ``[E, steps, steps]``."""
        values, coordinates = np.linalg.eigh(self.projection())
        values, coordinates = values[:, ::-1], coordinates[:, :, ::-1]
        residuals = self.beta[-1][:, None] / self.scale * np.abs(coordinates[:, -1])
        for end in self._ends:
            residuals = residuals + self._outside(end)[:, None] * np.abs(coordinates[:, end.place])
        return values, residuals, coordinates

    def residuals(self, coordinates: np.ndarray) -> np.ndarray:
        """Norms of ``A v - value v`` for Ritz vectors with ``coordinates [E, steps, k]``, ``[E, k]``."""
        outside = [(self.steps - 1, self._next * self._last_beta())]
        outside += [(end.place, self._outside_of_space(end.left)) for end in self._ends]
        weights = torch.from_numpy(np.stack([coordinates[:, place] for place, _ in outside], axis=2)).to(self._next)
        with tf32(False):
            rest = torch.bmm(weights, torch.stack([vector for _, vector in outside], dim=1))
        return torch.linalg.vector_norm(rest, dim=2).double().cpu().numpy() / self.scale

    def chain_top(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Largest Ritz value of the present chain alone, its residual and its distance to the next, ``[E]`` each."""
        first = self.steps - self.chain
        values, coordinates = np.linalg.eigh(self.projection()[:, first:, first:])
        gap = values[:, -1] - values[:, -2] if self.chain > 1 else np.zeros(self.members)
        return values[:, -1], self.beta[-1] / self.scale * np.abs(coordinates[:, -1, -1]), gap

    def vectors(self, coordinates: np.ndarray) -> Tensor:
        """Unit vectors ``[E, k, size]`` with ``coordinates [E, steps, k]``."""
        weights = torch.from_numpy(coordinates.transpose(0, 2, 1).copy()).to(self._next)
        with tf32(False):
            return self._basis.combined(weights)

    # --- the space ----------------------------------------------------------------------------------------------------

    def _check(self, inside: np.ndarray, norms: np.ndarray) -> None:
        if not (np.isfinite(norms).all() and np.isfinite(inside[:, -1]).all()):
            raise CurvatureError(NOT_FINITE)

    def _watch(self, inside: np.ndarray) -> None:
        """Note what a product has along vectors that it should be orthogonal to."""
        if self.chain < 2:
            return
        before = inside[:, -2] - self.beta[-1]  # a part along the vector before, which had the same along this one
        older = inside[:, :-2]
        if self._ends:
            older = older.copy()
            older[:, [end.place for end in self._ends if end.place < self.steps - 2]] = 0
        others = np.sqrt((older * older).sum(axis=1) + before * before)
        self.asymmetry = np.maximum(self.asymmetry, others / np.maximum(self._size, TINY))

    def _turn(self, image: Tensor, norms: np.ndarray) -> None:
        """The next basis vectors; random ones for members whose space is exhausted."""
        exhausted, lengths = self._exhausted(norms), norms
        if exhausted.any() and self.steps < self.size:
            for member in np.flatnonzero(exhausted):
                image[member] = self._random()
            self._basis.project_out(image)
            self._basis.project_out(image)
            norms, lengths = np.where(exhausted, 0.0, norms), _norms(image)
        self.beta.append(norms)
        least = torch.finfo(image.dtype).tiny
        self._next = image / torch.from_numpy(np.maximum(lengths, least)[:, None]).to(image)

    def _exhausted(self, norms: np.ndarray) -> np.ndarray:
        """Where so little is left of images that it is rounding, ``[E]``."""
        return norms <= 10 * torch.finfo(self._next.dtype).eps * self._size

    def _last_beta(self) -> Tensor:
        return torch.from_numpy(self.beta[-1][:, None]).to(self._next)

    def _random(self) -> Tensor:
        like = self._next
        return torch.randn(like.shape[1], generator=self._spare, device=like.device).to(like)

    def _outside_of_space(self, vectors: Tensor) -> Tensor:
        found = vectors.clone()
        with tf32(False):
            self._basis.project_out(found)
            self._basis.project_out(found)
        return found

    def _orthogonal(self, vectors: Tensor) -> Tensor:
        found = self._outside_of_space(vectors)
        return found / _lengths(found).clamp(min=torch.finfo(found.dtype).tiny)

    def _outside(self, end: _End) -> np.ndarray:
        """What the image of a chain's last vector still has outside of the space, ``[E]``."""
        return np.sqrt(np.maximum(end.outside, 0)) / self.scale


def _lengths(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True)


def _norms(vectors: Tensor) -> np.ndarray:
    return _lengths(vectors)[:, 0].double().cpu().numpy()


def scaled(operator: Any, factor: float) -> Operator:
    """``factor`` times an operator, also one that is not of this package."""
    return operator.scaled(factor) if isinstance(operator, Operator) else Multiple(operator, factor)
