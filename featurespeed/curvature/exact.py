"""What exact products say of eigenvalues that were found with rounded ones (TF32 on a GPU).

One exact product for each vector settles it, at several times the price of a rounded one. Rounding, though, shifts all
eigenvalues by nearly the same share, and mixes vectors by less: factors are cut off, which makes every product a little
smaller. So for many values a few products are tried first, each with a combination of all vectors; where they agree
with each other they say what one product a vector would say, and where they do not, that is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featurespeed.curvature.basis import inner_products
from featurespeed.curvature.krylov import NOT_FINITE, Krylov
from featurespeed.curvature.objective import CurvatureError
from featurespeed.machine.device import tf32
from featurespeed.randomness import generator

FEWEST = 6  # values: of fewer, one product each costs hardly more
SMALLEST = 0.01  # value, relative to the first one: smaller ones drown in what rounding does to it
#: By how much a value may differ between combinations and their mean, relative to the tolerance. What mixes two vectors
#: differs by more than it moves the mean.
APART = 0.5
#: By how much all values may be shifted, and one more than the others, relative to the tolerance: what mixes many
#: vectors may move one value in all combinations alike.
COMMON_SHIFT, OWN_SHIFT = 2.0, 0.75


@dataclass(frozen=True)
class Ritz:
    """Values ``[E, k]``, norms of ``A v - value v`` ``[E, k]``, and vectors ``[E, k, size]``."""

    values: np.ndarray
    residuals: np.ndarray
    vectors: Tensor


def borne_out(
    krylov: Krylov, found: Ritz, tol: float, small: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[Ritz, int]:
    """What exact products make of Ritz values of rounded ones, and how many were taken.

    Args:
        krylov: where the values come from.
        found: the values, with residuals of the rounded products.
        tol: relative error that is allowed.
        small: which values ``[E, k]`` their residuals ``[E, k]`` put within it; those of combinations must.

    Returns:
        With one product for each vector, values and vectors of the exact operator in their space, and their residuals.
        With combinations, the same vectors, their Rayleigh quotients to about ``tol / 2``, and estimates of the
        residuals from above.
    """
    k, spent = found.values.shape[1], 0
    if k >= FEWEST and (found.values > SMALLEST * np.abs(found.values[:, :1])).all():
        corrected, spent = _by_combinations(krylov, found, tol)
        if corrected is not None and small(corrected.values, corrected.residuals).all():
            return corrected, spent
    return _one_by_one(krylov, found.vectors), spent + k


def _by_combinations(krylov: Krylov, found: Ritz, tol: float) -> tuple[Ritz | None, int]:
    """Rayleigh quotients from products with ``sum_i +-v_i / value_i``, None where these do not agree; how many.

    Along ``v_j`` the product has ``+-q_j / value_j``, with ``q_j`` the quotient, and what rounding has left between
    ``v_j`` and the others, with signs that differ from one combination to the next. Divided by their values, all
    vectors weigh the same.
    """
    signs, first = _signs(found.values.shape[1]), found.values[:, :1]
    weights = signs * (first / found.values)[:, None, :]  # no more than 100, whatever the values
    images, shifts = [], []
    for place, sign in enumerate(signs):
        image = krylov.multiplied(_combined(weights[:, place], found.vectors))
        if not torch.isfinite(image).all():  # it may be the combination that overflows
            return None, place + 1
        images.append(image)
        shifts.append(_dot(image, found.vectors) / first * sign - 1)
        if not _agree(np.stack(shifts, axis=1), tol):
            return None, place + 1
    shift = np.mean(shifts, axis=0)
    values, off = found.values * (1 + shift), _off(images, found.vectors, signs, shift, first)
    return _sorted(Ritz(values, values * np.maximum(off, found.residuals / found.values), found.vectors)), len(signs)


def _agree(shifts: np.ndarray, tol: float) -> bool:
    """Whether ``shifts [E, combinations, k]`` say the same of each value, and nearly the same of all."""
    mean = shifts.mean(axis=1, keepdims=True)
    common = np.median(mean, axis=2, keepdims=True)
    within = [(shifts - mean, APART), (mean - common, OWN_SHIFT), (common, COMMON_SHIFT)]
    return all((np.abs(difference) <= share * tol).all() for difference, share in within)


def _off(images: list[Tensor], vectors: Tensor, signs: np.ndarray, shift: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Residuals relative to the values, ``[E, k]``, estimated from above.

    What combinations leave is ``sum_i +-r_i``. Its mean with the signs of one vector has all of that vector's residual
    and of every other one a part: none where the signs of the two agree as often as they differ.
    """
    inside = first * (1 + shift)
    rests = [image - _combined(sign * inside, vectors) for image, sign in zip(images, signs, strict=True)]
    with tf32(False):
        rest = torch.stack(rests, dim=1) / torch.from_numpy(first[:, :, None].copy()).to(vectors)
        inner = _numbers(torch.bmm(rest, rest.transpose(1, 2)))
    return np.sqrt(np.maximum(np.einsum("mk,emn,nk->ek", signs, inner, signs), 0.0)) / len(signs)


def combinations(k: int) -> int:
    """How many tell all of k vectors apart: of every two, the signs agree in some and differ in others."""
    return 1 + (k - 1).bit_length()


def _signs(k: int) -> np.ndarray:
    """``[combinations, k]``: random ones, then turned round where a binary digit of the vector's number is 1."""
    first = torch.randint(0, 2, (k,), generator=generator(0, "signs")).numpy() * 2 - 1
    digits = [np.arange(k) >> place & 1 for place in range(combinations(k) - 1)]
    return np.stack([first, *(first * (1 - 2 * digit) for digit in digits)]).astype(float)


def _one_by_one(krylov: Krylov, vectors: Tensor) -> Ritz:
    """Rayleigh-Ritz on ``vectors [E, k, size]`` with an exact product for each."""
    images = torch.stack([_product(krylov, vectors[:, i]) for i in range(vectors.shape[1])], dim=1)
    with tf32(False):
        small = _numbers(torch.bmm(vectors, images.transpose(1, 2)))
        exact, turn = np.linalg.eigh((small + small.transpose(0, 2, 1)) / 2)
        exact, turn = exact[:, ::-1].copy(), turn[:, :, ::-1]
        weights = torch.from_numpy(turn.transpose(0, 2, 1).copy()).to(vectors)
        vectors, images = torch.bmm(weights, vectors), torch.bmm(weights, images)
        off = (images - torch.from_numpy(exact).to(vectors)[:, :, None] * vectors).norm(dim=2)
    return Ritz(exact, _numbers(off), vectors)


def _product(krylov: Krylov, vectors: Tensor) -> Tensor:
    """Exact product ``[E, size]``; CurvatureError if it is not finite."""
    image = krylov.multiplied(vectors)
    if not torch.isfinite(image).all():
        raise CurvatureError(NOT_FINITE)
    return image


def _combined(weights: np.ndarray, vectors: Tensor) -> Tensor:
    """``sum_i weights_i v_i``, ``[E, size]``, of ``weights [E, k]`` and ``vectors [E, k, size]``."""
    with tf32(False):
        return torch.bmm(torch.from_numpy(weights[:, None].copy()).to(vectors), vectors)[:, 0]


def _dot(image: Tensor, vectors: Tensor) -> np.ndarray:
    """``[E, k]``, what an image ``[E, size]`` has along each vector."""
    with tf32(False):
        return _numbers(inner_products(vectors, image))


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()


def _sorted(found: Ritz) -> Ritz:
    """Largest value first."""
    order = np.argsort(-found.values, axis=1, kind="stable")
    places = torch.from_numpy(order).to(found.vectors.device)[:, :, None].expand_as(found.vectors)
    return Ritz(
        np.take_along_axis(found.values, order, axis=1), np.take_along_axis(found.residuals, order, axis=1),
        found.vectors.gather(1, places),
    )  # fmt: skip
