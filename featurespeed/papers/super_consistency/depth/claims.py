"""Figures 4, 22 and 25: do the best learning rate and curvature depend on the depth, with one and two layers a block?

The unit is the seed: one exponent in the depth, one shift of the best learning rate, Student's t over seeds; distances
to the deepest network have jackknife intervals. Curvature is looked at at the learning rate that is best for all depths
of those where it was measured. Seeds of which a network failed there are left out, up to a fifth of those of a depth;
where two networks are compared seed by seed, so are those of the other one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable, premise
from featurespeed.ledger.evidence import Tables, as_estimate, largest_estimate, register
from featurespeed.papers.super_consistency.best_rates import Place, bounded_shift, from_published
from featurespeed.papers.super_consistency.depth.published import BEST_RATES, comparable
from featurespeed.papers.super_consistency.depth.spec import ONE, TWO
from featurespeed.papers.super_consistency.distances import exponent_gap, told_distances
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    LOSS,
    WITHOUT_SKIPS,
    best_measured,
    decidable,
    failed_seeds,
    late_exponents,
    levels,
    network,
    sharpens,
    simultaneous,
    smallest_of,
    trained,
    without_failed_seeds,
)
from featurespeed.papers.super_consistency.spread import below, more_spread
from featurespeed.statistics import mean_interval
from featurespeed.sweeps.convergence import Curves
from featurespeed.sweeps.transfer import settings

ARTEFACT, RATES, SPECTRUM = "sc_fig04", "sc_fig22", "sc_fig25"
SPAN = 8  # ratio of depths over which shifts are stated
LAST = 10  # the smallest eigenvalue that Figure 25 shows
NTK = "ntk_eigenvalue"

Curve = tuple[str, str, str]  # label of the network, quantity, artefact


def _late(
    tables: Tables, label: str, quantity: str = HESSIAN, index: int = 1, artefact: str = ARTEFACT
) -> tuple[Curves, str]:
    return trained(tables, artefact, label, quantity, index, HESSIAN, "depth")


def paired(tables: Tables, *places: Curve) -> tuple[list[Curves], str]:
    """Curves that are compared seed by seed, without the seeds of which any of their networks failed, and a note."""
    rows = [network(tables, artefact, label, "depth") for label, _, artefact in places]
    failed = {int(seed) for own in rows for seed in failed_seeds(own, HESSIAN, "depth")}
    seeds = {int(seed) for own in rows for seed in own["seed"].unique()}
    kept = [own[~own["seed"].isin(failed)] if failed else own for own in rows]
    found = [best_measured(own, place[1], 1, HESSIAN, "depth") for own, place in zip(kept, places, strict=True)]
    note = f"; without {len(failed)} of {len(seeds)} seeds, of which a network diverged, died or ended at chance"
    return found, note if failed else ""


def below_the_best(tables: Tables, label: str) -> Curves:
    """The sharpness at the next smaller of the measured rates."""
    rows, _ = without_failed_seeds(network(tables, ARTEFACT, label, "depth"), HESSIAN, "depth")
    return below(rows, HESSIAN, _late(tables, label)[0], "depth")


# --- Figure 4 ---------------------------------------------------------------------------------------------------------


def _two_rates(tables: Tables) -> Estimate:
    """Largest slope of the late sharpness in the depth, at the best of the measured rates and at the next below."""
    best, left_out = _late(tables, ONE)
    found = [best, below_the_best(tables, ONE)]
    slopes = np.column_stack([late_exponents(own, ONE) for own in found])
    return largest_estimate(slopes, note="; ".join(levels(own, ONE) for own in found) + left_out)


def _more_spread(other: Curves, label: str, own: Curves, left_out: str) -> Estimate:
    """How much more the late sharpness of another network depends on the depth than that with one layer a block."""
    note = f"{levels(other, label)}; {levels(own, ONE)}{left_out}"
    return more_spread(late_exponents(other, label), late_exponents(own, ONE), note)


def _more_with_two(tables: Tables) -> Estimate:
    (other, own), left_out = paired(tables, (TWO, HESSIAN, ARTEFACT), (ONE, HESSIAN, ARTEFACT))
    return _more_spread(other, TWO, own, left_out)


def _more_at_the_smaller_rate(tables: Tables) -> Estimate:
    own, left_out = _late(tables, ONE)
    return _more_spread(below_the_best(tables, ONE), ONE, own, left_out)


def _shift(label: str) -> Callable[[Tables], Estimate]:
    return lambda tables: bounded_shift(tables, ARTEFACT, label, SPAN, "depth")


@premise("sharpening from below the edge of stability, 1 layer a block of Fig. 4")
def sharpening(tables: Tables) -> Condition:
    """Every depth begins below 2/eta_0, and its sharpness at least doubles until the second half (means over seeds)."""
    return sharpens(_late(tables, ONE)[0])


def _from_published(label: str, place: Place) -> Callable[[Tables], Estimate]:
    """Distance of the best rates of a network from those of the authors' sweep of the network with this label."""

    def compute(tables: Tables) -> Estimate:
        artefact, own = place
        network(tables, artefact, own, "depth")
        if not comparable(settings(tables[ARTEFACT]), label):
            raise Undecidable(f"{label}: not their network or data, or less than a quarter of their epochs")
        return from_published(tables, artefact, own, BEST_RATES[label], "depth")

    return compute


for _label in (ONE, TWO):
    register(f"shift of the best learning rate for 8 times the depth, {_label}", _shift(_label))
    register(
        f"largest distance of the best learning rates from those of the authors' sweep, {_label}",
        _from_published(_label, (ARTEFACT, _label)),
    )
    register(
        f"largest distance of the best learning rates from those of the authors' sweep, no skips for {_label}",
        _from_published(_label, WITHOUT_SKIPS),
    )
register("largest slope of the late sharpness in the depth, 1 layer a block, two rates", _two_rates)
register("what 2 layers a block add to the dependence of the sharpness on the depth", _more_with_two)
register("what the next smaller rate adds to the dependence of the sharpness on the depth", _more_at_the_smaller_rate)


# --- Figure 22 --------------------------------------------------------------------------------------------------------


def _gap(*places: Curve) -> Callable[[Tables], Estimate]:
    """Exponent in time of one distance to the deepest network minus that of another."""

    def compute(tables: Tables) -> Estimate:
        found, left_out = paired(tables, *places)
        names = [f"{label}, {quantity}" for label, quantity, _ in places]
        (first, one), (second, other) = (
            told_distances(own, name, left_out, "L") for own, name in zip(found, names, strict=True)
        )
        with decidable(f"{one}; {other}"):
            return as_estimate(exponent_gap(first, second), f"{one}; {other}")

    return compute


register(
    "exponent in time of the distance to the deepest network, loss minus sharpness, 1 layer a block",
    _gap((ONE, LOSS, RATES), (ONE, HESSIAN, RATES)),
)
register(
    "exponent in time of the distance to the deepest network, loss minus NTK, 1 layer a block",
    _gap((ONE, LOSS, SPECTRUM), (ONE, NTK, SPECTRUM)),
)
register(
    "exponent in time of the distance to the deepest network, sharpness, 2 layers a block minus 1",
    _gap((TWO, HESSIAN, RATES), (ONE, HESSIAN, RATES)),
)
register(
    "exponent in time of the distance to the deepest network, loss, 2 layers a block minus 1",
    _gap((TWO, LOSS, RATES), (ONE, LOSS, RATES)),
)


# --- Figure 25 --------------------------------------------------------------------------------------------------------


def _spread(label: str, *kinds: tuple[str, int]) -> Callable[[Tables], Estimate]:
    """The smallest |slope| in the depth of several eigenvalues over the second half, simultaneous t intervals."""

    def compute(tables: Tables) -> Estimate:
        together = [_late(tables, label, quantity, index, SPECTRUM) for quantity, index in kinds]
        found, left_out = [own for own, _ in together], together[0][1]
        level = simultaneous(len(kinds))
        each = []
        for own, (quantity, index) in zip(found, kinds, strict=True):
            slopes = late_exponents(own, f"{label}, {quantity} {index}")
            each.append(mean_interval(slopes if slopes.mean() >= 0 else -slopes, level))
        names = (f"{quantity} {index}" for quantity, index in kinds)
        note = ", ".join(f"{name}: {one.value:.3g}" for name, one in zip(names, each, strict=True))
        return smallest_of(each, f"{label} at {found[0].rate:g}, |slope| in the depth of {note}{left_out}")

    return compute


for _label in (ONE, TWO):
    register(
        f"smallest slope in the depth of the late eigenvalues 1 and {LAST}, {_label}",
        _spread(_label, (HESSIAN, 1), (HESSIAN, LAST)),
    )
    register(f"slope in the depth of the late NTK eigenvalue, {_label}", _spread(_label, (NTK, 1)))
