"""How a quantity depends on the size of a network: one number a seed.

The unit is the seed: a quantity has one exponent in the size for each. Means over seeds have t intervals, differences
between networks are paired by seed. Arrays have the shape ``[seeds, sizes, ...]``; sizes are widths or depths. What the
runs cannot say raises ValueError with the reason. Best learning rates: :mod:`featurespeed.sweeps.optima`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from featurespeed.sweeps.convergence import EARLY, TENTH, Curves
from featurespeed.sweeps.optima import slopes
from featurespeed.sweeps.transfer import Arrival

MATCHING = 1.5  # factor by which the level of a matched network may differ from the one to compare with
NEVER = 0.2  # share of networks that never rise to the edge of stability above which their steps say nothing
FEWEST_SIZES = 3


# --- exponents in the size --------------------------------------------------------------------------------------------


def exponents(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Exponent in the size of every seed, ``[seeds, S] -> [seeds]``: least squares of the logarithms.

    >>> exponents(np.array([1, 2, 4]), np.array([[3.0, 6.0, 12.0]]))
    array([1.])

    Raises:
        ValueError: fewer than three sizes, or a value that is not positive and finite.
    """
    if len(sizes) < FEWEST_SIZES:
        raise ValueError(f"{len(sizes)} sizes: at least {FEWEST_SIZES} are needed for an exponent")
    if not (np.isfinite(values).all() and (values > 0).all()):
        bad = values[~(np.isfinite(values) & (values > 0))][0]
        raise ValueError(f"values must be positive and finite for an exponent, found {bad:g}")
    return slopes(np.log(sizes), np.log(values))


def early_exponents(found: Curves) -> np.ndarray:
    """Exponent in the size of the mean over the first quarter of training without the initial network, ``[seeds]``."""
    return exponents(found.sizes, found.over(0.0, EARLY, initial=False))


def late_exponents(found: Curves) -> np.ndarray:
    """Exponent in the size of the mean over the second half of training, ``[seeds]``."""
    return exponents(found.sizes, found.late())


def exponents_at_the_ends(found: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Exponents in the size at the first and at the last step, ``[seeds]`` each."""
    first, last = (exponents(found.sizes, found.values[..., place]) for place in (0, -1))
    return first, last


def exponents_of_tenths(found: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Exponents in the size of the means over the first and over the last tenth of training, ``[seeds]`` each."""
    first, last = (exponents(found.sizes, found.over(*part)) for part in ((0.0, TENTH), (1 - TENTH, 1.0)))
    return first, last


def steeper(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How much larger the exponent of one quantity is than that of another one, signs aside, seed by seed, ``[seeds]``.

    The sign is that of the mean over seeds: absolute values of single seeds would count their noise as dependence.
    """
    return _upwards(first) - _upwards(second)


def _upwards(values: np.ndarray) -> np.ndarray:
    return values if values.mean() >= 0 else -values


def departures(values: np.ndarray) -> np.ndarray:
    """Logarithm of the value at every size over the geometric mean of all sizes, ``[seeds, S]``, seed by seed."""
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("values must be positive and finite for a logarithm")
    logs = np.log(values)
    return logs - logs.mean(1, keepdims=True)


def growth(late: np.ndarray, early: np.ndarray) -> np.ndarray:
    """Geometric mean over sizes of ``late / early``, both ``[seeds, S]``, seed by seed."""
    if not ((late > 0).all() and (early > 0).all()):
        raise ValueError("values must be positive for a ratio")
    return np.exp((np.log(late) - np.log(early)).mean(1))


def ordered_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where one quantity of a network is larger, how much larger is the other one? ``[seeds, K] -> [seeds]``.

    Mean over all pairs of the ``K`` networks of the difference of ``second``, the network with the larger mean over
    seeds of ``first`` minus the other; both without their signs, which are those of the means over seeds. Ties count 0.
    """
    size = np.abs(first.mean(0))
    oriented = np.column_stack([_upwards(column) for column in second.T])
    weights = np.sign(size[:, None] - size[None, :]).sum(1)
    return oriented @ weights / (len(size) * (len(size) - 1) / 2)


# --- networks at matched learning rates -------------------------------------------------------------------------------


def edge_level(found: Curves) -> float:
    """Mean over seeds of ``value * eta_0 / 2`` in the second half, at the smallest size: 1 at the edge of stability."""
    return float(found.late()[:, 0].mean() * found.rate / 2)


def adam_threshold(beta1: float) -> float:
    """Largest stable eigenvalue of Adam's preconditioned Hessian times its learning rate (arXiv:2207.14484, Sec. 3).

    >>> round(adam_threshold(0.9), 9)
    38.0
    """
    return 2 * (1 + beta1) / (1 - beta1)


def start_levels(found: Curves) -> np.ndarray:
    """Mean over seeds of ``value * eta_0 / 2`` at step 0, of every size, ``[S]``; NaN if it was not measured there."""
    level = found.values[..., 0].mean(0) * found.rate / 2
    return level if found.steps[0] == 0 else np.full_like(level, np.nan)


def matched(candidates: Iterable[Curves], level: float) -> Curves:
    """The same quantity at the learning rate that brings the smallest network nearest to a level, below the edge.

    One rate for all sizes: matched at every size, the effect of the size would be hidden. Beyond the edge all networks
    have much the same sharpness, whatever their parameterization, and so have those that came down from there in a
    catapult: the level, and the smallest network from the first step on, must be below the edge.

    Args:
        candidates: one network at several learning rates.
        level: of :func:`edge_level`, that of the network to compare with.

    Raises:
        ValueError: the level is not below the edge, or no rate comes within a factor 1.5 of it from below the edge.
    """
    if not 0 < level < 1:
        raise ValueError(f"nothing can be matched below the edge to a network at {level:.3g} of 2/eta_0")
    known = [(found, float(start_levels(found)[0]), edge_level(found)) for found in candidates]
    distances = {k: abs(np.log(late / level)) for k, (_, first, late) in enumerate(known) if first < 1 and 0 < late < 1}
    best = min(distances, key=distances.__getitem__, default=None)
    if best is None or distances[best] > np.log(MATCHING):
        levels = ", ".join(f"{found.rate:g}: from {first:.3g} to {late:.3g}" for found, first, late in known)
        raise ValueError(
            f"no learning rate at which the smallest begins below the edge and ends there within a factor {MATCHING:g}"
            f" of {level:.3g} of 2/eta_0; at those at which all train it goes {levels or 'nowhere: there are none'}"
        )
    return known[best][0]


def arrival_exponents(found: Arrival) -> np.ndarray:
    """Exponent in the size of the steps until the sharpness rises to nine tenths of its edge, ``[seeds]``.

    A network that never does counts with the last step that was measured.

    Raises:
        ValueError: some networks begin above the edge, or too many never rise to it.
    """
    above = found.sizes[(found.steps == 0).any(0)]
    if len(above):
        raise ValueError(f"N = {', '.join(map(str, above))} is above the edge from the beginning on")
    never = np.isinf(found.steps).mean()
    if never > NEVER:
        raise ValueError(f"{never:.0%} of the networks do not rise to the edge in {found.last} steps")
    return exponents(found.sizes, np.minimum(found.steps, found.last))
