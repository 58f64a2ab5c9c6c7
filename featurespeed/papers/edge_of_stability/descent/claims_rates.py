"""The width patterns r = 0 and r = 2 against each other: at equal kappa, and at matched absolute learning rates.

Learning rates are kappa times 2/lambda_Xi(0), which differs between networks: what a pattern survives in units of kappa
is not what it survives in learning rates. The unit is the seed, of which both networks have one each. A network fails
if it diverges, dies, or ends at the loss of chance or above.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, register
from featurespeed.papers.edge_of_stability.counts import share_estimate, trains
from featurespeed.papers.edge_of_stability.descent.networks import (
    BEYOND,
    FEWEST_SEEDS,
    FLAT,
    MAP,
    NARROW,
    NONE,
    QUADRATIC,
    READINGS,
    REL1,
    group,
    of_both,
)
from featurespeed.papers.edge_of_stability.shared import Runs
from featurespeed.statistics import ratio_interval

FURTHEST = 2.0  # ratio of two learning rates that still count as equal: one step of the grid of kappas


def matched_shares(rates: np.ndarray, failed: np.ndarray, others: np.ndarray, fate: np.ndarray) -> np.ndarray:
    """Least and largest failing shares of two networks of one seed at the learning rates tested with either of them.

    Learning rates differ between networks, so that hardly any is tested with both. Both are looked at over the union of
    the tested rates that lie in the common range of the two. There each has a fate at the nearest rate below and one at
    the nearest rate above that it was tested at; where these differ, what would become of it is open.

    Args:
        rates, failed: ``[K]`` learning rates of the first, ascending, and whether it failed there.
        others, fate: the same of the second one.

    Returns:
        ``[2, 2]``: least and largest share of the first, then of the second; NaN if the ranges do not overlap.
    """
    union = np.unique(np.concatenate([rates, others]))
    low, high = max(rates[0], others[0]), min(rates[-1], others[-1])
    common = union[(union >= low) & (union <= high)]
    if not len(common):
        return np.full((2, 2), np.nan)
    return np.array([_bounds(rates, failed, common), _bounds(others, fate, common)])


def _bounds(rates: np.ndarray, failed: np.ndarray, common: np.ndarray) -> tuple[float, float]:
    below = failed[np.searchsorted(rates, common, side="right") - 1]
    above = failed[np.searchsorted(rates, common, side="left")]
    return float((below & above).mean()), float((below | above).mean())


def _pair(tables: Tables, scaling: str, one: str, other: str) -> tuple[Runs, Runs, np.ndarray, np.ndarray]:
    """Two groups with the places of the seeds that both have."""
    first, second = (group(tables, MAP, network, scaling) for network in (one, other))
    return first, second, *of_both(first, second)


def _at_matched_rates(one: str, other: str) -> Callable[[Tables], Estimate]:
    """Share of the seeds in which one network fails at more of the matched learning rates than another, rel1.

    A seed counts where that holds whatever becomes of the networks between the rates tested; where it may hold, it is
    open.
    """

    def compute(tables: Tables) -> Estimate:
        first, second, places, others = _pair(tables, REL1, one, other)
        failed, fate = ~trains(first), ~trains(second)
        shares = np.array([
            matched_shares(first.rates[i], failed[i], second.rates[j], fate[j])
            for i, j in zip(places, others, strict=True)
        ])  # fmt: skip
        shares = shares[~np.isnan(shares).any((1, 2))]
        if len(shares) < FEWEST_SEEDS:
            raise Undecidable(f"the learning rates of {one} and {other} have no common range")
        names = "mean failing shares {:.2f} to {:.2f} and {:.2f} to {:.2f}".format(*shares.mean(0).ravel())
        sure, possible = shares[:, 0, 0] > shares[:, 1, 1], shares[:, 0, 1] > shares[:, 1, 0]
        return share_estimate(sure, names, possible)

    return compute


def _at_equal_kappa(one: str) -> Callable[[Tables], Estimate]:
    """Share of the seeds in which one network fails at more kappas, beyond 1 and up to 32, than r = 2 does, none.

    r = 2 itself is compared with that of the next seed.
    """

    def compute(tables: Tables) -> Estimate:
        first, second, places, others = _pair(tables, NONE, one, QUADRATIC)
        if one == QUADRATIC:
            others = np.roll(others, -1)
        kappas = [k for k in first.kappas if second.has(k) and 1 < k <= BEYOND]
        if not kappas:
            raise Undecidable(f"{MAP}: no kappa between 1 and {BEYOND:g} without a scaling")
        failed = [
            np.stack([~found.at(trains(found), k)[seeds] for k in kappas], 1)
            for found, seeds in ((first, places), (second, others))
        ]
        by_kappa = ", ".join(
            f"{k:g}: {a:.0%} and {b:.0%}" for k, a, b in zip(kappas, *(own.mean(0) for own in failed), strict=True)
        )
        more = failed[0].sum(1) > failed[1].sum(1)
        return share_estimate(more, f"failing of {one} and r = 2 by kappa {by_kappa}")

    return compute


def _initial_curvature(one: str) -> Callable[[Tables], Estimate]:
    """lambda_Xi(0) of one network over that of r = 0, rel1: where it is above 1, equal kappa is a smaller rate."""

    def compute(tables: Tables) -> Estimate:
        first, second, places, others = _pair(tables, REL1, one, FLAT)
        curvatures = [
            2 * found.kappas[0] / found.rates[seeds, 0] for found, seeds in ((first, places), (second, others))
        ]
        note = "medians over seeds {:.3g} and {:.3g}".format(*map(np.median, curvatures))
        return as_estimate(ratio_interval(*curvatures), note)

    return compute


def _none_at_equal_rates(scaling: str) -> Callable[[Tables], Estimate]:
    """Share of the networks without a scaling that fail at the learning rate of another scaling's at kappa = 32."""

    def compute(tables: Tables) -> Estimate:
        plain, scaled = group(tables, MAP, QUADRATIC, NONE), group(tables, MAP, QUADRATIC, scaling, (BEYOND,))
        places, others = of_both(plain, scaled)
        gaps = np.abs(np.log(plain.rates[places] / scaled.at(scaled.rates, BEYOND)[others, None]))
        nearest = gaps.argmin(1)
        if gaps.min(1).max() > np.log(FURTHEST):
            factor = np.exp(np.median(gaps.min(1)))
            kappa = plain.kappas[-1] * factor
            raise Undecidable(
                f"{MAP}: no run without a scaling is within a factor of {FURTHEST:g} of the learning rates of {scaling}"
                f" at kappa = {BEYOND:g}; the nearest are {factor:.3g} times smaller, kappa = {kappa:.2g} is needed"
            )
        failed = ~trains(plain)[places, nearest]
        return share_estimate(failed, f"at kappa {', '.join(f'{k:g}' for k in np.unique(plain.kappas[nearest]))}")

    return compute


register(
    "share of seeds in which r = 0 fails at more matched learning rates than r = 2, rel1",
    _at_matched_rates(FLAT, QUADRATIC),
)
register(
    "share of seeds in which r = 2 fails at more matched learning rates than its narrow network, rel1",
    _at_matched_rates(QUADRATIC, NARROW),
)
register("share of seeds in which r = 0 fails at more kappas than r = 2, none", _at_equal_kappa(FLAT))
register(
    "share of seeds in which r = 2 fails at more kappas than that of the next seed, none", _at_equal_kappa(QUADRATIC)
)
register("initial curvature of r = 2 over that of r = 0, rel1", _initial_curvature(QUADRATIC))
register("initial curvature of the narrow network over that of r = 0, rel1", _initial_curvature(NARROW))
for _scaling in READINGS:
    register(
        f"share of networks that fail at the learning rates of {_scaling} at kappa 32, r = 2, none",
        _none_at_equal_rates(_scaling),
    )
