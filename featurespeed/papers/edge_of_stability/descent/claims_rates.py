"""The width patterns r = 0 and r = 2 against each other: at equal kappa, and at matched absolute learning rates.

Learning rates are kappa times 2/lambda_Xi(0), which differs between networks: what a pattern survives in units of kappa
is not what it survives in learning rates. The unit is the seed, of which both networks have one each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, register
from featurespeed.papers.edge_of_stability.descent.networks import (
    FEWEST_SEEDS,
    FLAT,
    MAP,
    NONE,
    QUADRATIC,
    REL1,
    group,
    of_both,
    of_seeds,
)
from featurespeed.papers.edge_of_stability.shared import Runs
from featurespeed.sweeps.transfer import over_seeds


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


def _pair(tables: Tables, scaling: str) -> tuple[Runs, Runs, tuple[np.ndarray, ...]]:
    flat, quadratic = (group(tables, MAP, network, scaling) for network in (FLAT, QUADRATIC))
    return flat, quadratic, of_both(flat, quadratic)


def _at_matched_rates(swapped: bool) -> Callable[[Tables], Estimate]:
    """Failing share of r = 0 minus that of r = 2 at matched learning rates, rel1, mean over seeds.

    What is open counts half in the value; the interval goes from the lower end of the bootstrap over seeds of the least
    difference to the upper end of that of the largest one.
    """

    def compute(tables: Tables) -> Estimate:
        flat, quadratic, (first, second, *_) = _pair(tables, REL1)
        shares = np.array([
            matched_shares(flat.rates[i], ~flat.finite[i], quadratic.rates[j], ~quadratic.finite[j])
            for i, j in zip(first, second, strict=True)
        ])  # fmt: skip
        shares = shares[~np.isnan(shares).any((1, 2))]
        if len(shares) < FEWEST_SEEDS:
            raise Undecidable("the learning rates of r = 0 and r = 2 have no common range")
        names = "failing shares {:.2f} to {:.2f} of r = 0, {:.2f} to {:.2f} of r = 2".format(*shares.mean(0).ravel())
        above, below = (shares[:, 1], shares[:, 0]) if swapped else (shares[:, 0], shares[:, 1])
        least, most = above[:, 0] - below[:, 1], above[:, 1] - below[:, 0]
        low, high = (
            over_seeds(lambda chosen, ends=ends: float(ends[chosen].mean()), len(ends)) for ends in (least, most)
        )
        return Estimate((low.value + high.value) / 2, low.low, high.high, low.n, names)

    return compute


def _at_equal_kappa(scaling: str, sign: int) -> Callable[[Tables], Estimate]:
    """Failing share of r = 0 minus that of r = 2, mean over the kappas beyond the edge."""

    def compute(tables: Tables) -> Estimate:
        flat, quadratic, (first, second, *kappas) = _pair(tables, scaling)
        past = flat.kappas[kappas[0]] > 1
        if not past.any():
            raise Undecidable(f"{MAP}: no kappa above 1 with scaling {scaling}")
        failed = [
            ~found.finite[np.ix_(seeds, own[past])]
            for found, seeds, own in ((flat, first, kappas[0]), (quadratic, second, kappas[1]))
        ]
        by_kappa = ", ".join(
            f"{k:g}: {a:.0%} and {b:.0%}"
            for k, a, b in zip(flat.kappas[kappas[0][past]], *(one.mean(0) for one in failed), strict=True)
        )
        difference = sign * (failed[0].mean(1) - failed[1].mean(1))
        note = f"failing of r = 0 and r = 2 by kappa {by_kappa}"
        return of_seeds(lambda chosen: float(difference[chosen].mean()), len(difference), note)

    return compute


def _gain_in_units(sign: int) -> Callable[[Tables], Estimate]:
    """What r = 2 gains over r = 0 in absolute learning rates, over what it gains in kappa.

    A largest kappa that r = 2 survives and another one of r = 0 give the gain in kappa; with ``eta = 2 kappa /
    lambda_Xi(0)`` that in learning rates is larger by lambda_Xi(0) of r = 0 over that of r = 2, whatever they survive.
    """

    def compute(tables: Tables) -> Estimate:
        flat, quadratic, (first, second, *_) = _pair(tables, REL1)
        sharpness = [
            2 * found.kappas[0] / found.rates[seeds, 0] for found, seeds in ((flat, first), (quadratic, second))
        ]
        logs = sign * (np.log(sharpness[0]) - np.log(sharpness[1]))
        medians = "lambda_Xi(0), medians over seeds: {:.3g} of r = 0, {:.3g} of r = 2".format(
            *map(np.median, sharpness)
        )
        survived = "; ".join(f"{found.key.network}: {_survived(found)}" for found in (flat, quadratic))
        note = f"largest kappa survived with all smaller ones, by seed, {survived}"
        return of_seeds(lambda chosen: float(np.exp(logs[chosen].mean())), len(logs), medians, note)

    return compute


def _survived(found: Runs) -> str:
    counts = np.logical_and.accumulate(found.finite, axis=1).sum(1)
    return ", ".join(f"{found.kappas[count - 1]:g}" if count else "none" for count in counts)


for _sign, _suffix in ((1, ""), (-1, ", swapped")):
    register(f"failing at matched learning rates, r = 0 minus r = 2{_suffix}", _at_matched_rates(_sign < 0))
    register(f"failing at equal kappa, none, r = 0 minus r = 2{_suffix}", _at_equal_kappa(NONE, _sign))
    register(f"gain of r = 2 in learning rates over that in kappa{_suffix}", _gain_in_units(_sign))
