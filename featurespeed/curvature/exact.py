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

from featurespeed.curvature.krylov import NOT_FINITE, Krylov
from featurespeed.curvature.objective import CurvatureError
from featurespeed.machine.device import tf32
from featurespeed.randomness import generator

FEWEST = 6  # values: of fewer, one product each costs hardly more
SMALLEST = 0.01  # value, relative to the first one: smaller ones drown in what rounding does to it
#: By how much a value may differ between combinations and their mean, relative to the tolerance. What mixes two vectors
#: differs by more than it moves the mean.
APART = 0.5
LARGEST_SHIFT = 2.0  # by which they correct a value, relative to the tolerance: beyond it vectors are wrong, too


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
        With combinations, the same vectors, their Rayleigh quotients to about ``tol / 2``, and residuals to which what
        rounding has added is shared out evenly.
    """
    k, spent = found.values.shape[1], 0
    if k >= FEWEST and (found.values >= SMALLEST * found.values[:, :1]).all() and (found.values > 0).all():
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
    k = found.values.shape[1]
    signs = _signs(k)
    weights = torch.from_numpy(signs / found.values[:, None, :]).to(found.vectors)
    shifts, rests = np.empty((len(weights), 0, k)), []  # [E, combinations so far, k]
    for place in range(len(signs)):
        image = _image(krylov, weights[:, place], found.vectors)
        along = _numbers(_dot(image, found.vectors)) * signs[place]
        shifts = np.concatenate([shifts, along[:, None] - 1], axis=1)
        if not _agree(shifts, tol):
            return None, place + 1
        inside = torch.from_numpy(along * signs[place]).to(found.vectors)
        rests.append(_numbers((image - _combined(inside, found.vectors)).norm(dim=1)) ** 2)
    known = (found.residuals / found.values) ** 2
    added = np.maximum(np.mean(rests, axis=0) - known.sum(axis=1), 0.0)[:, None] / k
    values = found.values * (1 + shifts.mean(axis=1))
    return _sorted(Ritz(values, values * np.sqrt(known + added), found.vectors)), len(signs)


def _agree(shifts: np.ndarray, tol: float) -> bool:
    mean = shifts.mean(axis=1, keepdims=True)
    return bool((np.abs(shifts - mean) <= APART * tol).all() and (np.abs(mean) <= LARGEST_SHIFT * tol).all())


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


def _image(krylov: Krylov, weights: Tensor, vectors: Tensor) -> Tensor:
    """Exact product ``[E, size]`` with a combination of vectors, ``weights [E, k]``."""
    return _product(krylov, _combined(weights, vectors))


def _product(krylov: Krylov, vectors: Tensor) -> Tensor:
    """Exact product ``[E, size]``; CurvatureError if it is not finite."""
    image = krylov.multiplied(vectors)
    if not torch.isfinite(image).all():
        raise CurvatureError(NOT_FINITE)
    return image


def _combined(weights: Tensor, vectors: Tensor) -> Tensor:
    """``sum_i weights_i v_i``, ``[E, size]``, of ``vectors [E, k, size]``."""
    with tf32(False):
        return torch.bmm(weights[:, None], vectors)[:, 0]


def _dot(image: Tensor, vectors: Tensor) -> Tensor:
    """``[E, k]``, what an image ``[E, size]`` has along each vector."""
    with tf32(False):
        return torch.bmm(vectors, image[:, :, None])[:, :, 0]


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
