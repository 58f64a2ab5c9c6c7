"""Figures 4, 22 and 25: do the best learning rate and curvature depend on the depth, with one and two layers a block?

The unit is the seed: one exponent in the depth, one shift of the best learning rate, Student's t over seeds; distances
to the deepest network have jackknife intervals. Curvature is looked at at the learning rate that is best for all depths
of those where it was measured. Seeds of which a network failed there are left out, up to a fifth of those of a depth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable, premise
from featurespeed.ledger.evidence import Tables, as_estimate, largest_estimate, mean_estimate, register
from featurespeed.papers.super_consistency.best_rates import shift
from featurespeed.papers.super_consistency.depth.spec import ONE, TWO
from featurespeed.papers.super_consistency.distances import exponent_gap, told_distances
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    LOSS,
    curves_at,
    decidable,
    late_exponents,
    levels,
    measured_rates,
    network,
    sharpens,
    simultaneous,
    smallest_of,
    trained,
    without_failed_seeds,
)
from featurespeed.statistics import mean_interval
from featurespeed.sweeps import dependence
from featurespeed.sweeps.convergence import Curves, Distances

ARTEFACT, RATES, SPECTRUM = "sc_fig04", "sc_fig22", "sc_fig25"
SPAN = 8  # ratio of depths over which shifts are stated
LAST = 10  # the smallest eigenvalue that Figure 25 shows
NTK = "ntk_eigenvalue"
MORE = 1.5  # by how much two layers a block should spread the sharpness more than one


def _late(tables: Tables, label: str, quantity: str = HESSIAN, index: int = 1, artefact: str = ARTEFACT) -> Curves:
    return trained(tables, artefact, label, quantity, index, HESSIAN, "depth")[0]


def below_the_best(tables: Tables, label: str) -> Curves:
    """The sharpness at the next smaller of the measured rates."""
    rows, _ = without_failed_seeds(network(tables, ARTEFACT, label, "depth"), HESSIAN, "depth")
    best = _late(tables, label).rate
    smaller = [rate for rate in measured_rates(rows, HESSIAN) if rate < best * (1 - 1e-6)]
    if not smaller:
        raise Undecidable(f"{label}: the sharpness was measured at no rate below {best:g}, the best of the measured")
    return curves_at(rows, HESSIAN, smaller[-1], size="depth")


# --- Figure 4 ---------------------------------------------------------------------------------------------------------


def _two_rates(tables: Tables) -> Estimate:
    """Largest slope of the late sharpness in the depth, at the best of the measured rates and at the next below."""
    found = [_late(tables, ONE), below_the_best(tables, ONE)]
    slopes = np.column_stack([late_exponents(own, ONE) for own in found])
    return largest_estimate(slopes, note="; ".join(levels(own, ONE) for own in found))


def _more_spread(tables: Tables, other: Curves, label: str) -> Estimate:
    """|slope| of the late sharpness in the depth of another network minus 1.5 |slope| with one layer a block."""
    own = _late(tables, ONE)
    values = dependence.steeper(late_exponents(other, label), MORE * late_exponents(own, ONE))
    return mean_estimate(values, f"{levels(other, label)}; {levels(own, ONE)}")


def _shift(label: str) -> Callable[[Tables], Estimate]:
    return lambda tables: shift(tables, ARTEFACT, label, SPAN, "depth")


@premise("sharpening from below the edge of stability, 1 layer a block of Fig. 4")
def sharpening(tables: Tables) -> Condition:
    """Every depth begins below 2/eta_0, and its sharpness at least doubles until the second half (means over seeds)."""
    return sharpens(_late(tables, ONE))


for _label in (ONE, TWO):
    register(f"shift of the best learning rate for 8 times the depth, {_label}", _shift(_label))
register("largest slope of the late sharpness in the depth, 1 layer a block, two rates", _two_rates)
register(
    "what 2 layers a block add to the dependence of the sharpness on the depth",
    lambda tables: _more_spread(tables, _late(tables, TWO), TWO),
)
register(
    "what the next smaller rate adds to the dependence of the sharpness on the depth",
    lambda tables: _more_spread(tables, below_the_best(tables, ONE), ONE),
)


# --- Figure 22 --------------------------------------------------------------------------------------------------------


def _distances(tables: Tables, label: str, quantity: str, artefact: str = RATES) -> tuple[Distances, str]:
    own, left_out = trained(tables, artefact, label, quantity, 1, HESSIAN, "depth")
    return told_distances(own, f"{label}, {quantity}", left_out, "L")


def _gap(*places: tuple[str, str, str]) -> Callable[[Tables], Estimate]:
    """Exponent in time of one distance to the deepest network minus that of another: (label, quantity, artefact)."""

    def compute(tables: Tables) -> Estimate:
        (first, one), (second, other) = (_distances(tables, *place) for place in places)
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
        found = [_late(tables, label, quantity, index, SPECTRUM) for quantity, index in kinds]
        level = simultaneous(len(kinds))
        each = []
        for own, (quantity, index) in zip(found, kinds, strict=True):
            slopes = late_exponents(own, f"{label}, {quantity} {index}")
            each.append(mean_interval(slopes if slopes.mean() >= 0 else -slopes, level))
        names = (f"{quantity} {index}" for quantity, index in kinds)
        note = ", ".join(f"{name}: {one.value:.3g}" for name, one in zip(names, each, strict=True))
        return smallest_of(each, f"{label} at {found[0].rate:g}, |slope| in the depth of {note}")

    return compute


for _label in (ONE, TWO):
    register(
        f"smallest slope in the depth of the late eigenvalues 1 and {LAST}, {_label}",
        _spread(_label, (HESSIAN, 1), (HESSIAN, LAST)),
    )
    register(f"slope in the depth of the late NTK eigenvalue, {_label}", _spread(_label, (NTK, 1)))
