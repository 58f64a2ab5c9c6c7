"""Figures 20 and 21: does the best learning rate of Adam depend on depth and width, and does the sharpness?

The unit is the seed: one exponent in the size, one shift of the best learning rate, Student's t over seeds. Sharpness
is the largest eigenvalue of Adam's preconditioned Hessian with the learning rates in it, at the learning rate that is
best for all sizes of those where it was measured. Seeds of which a network failed there are left out, up to a fifth of
those of a size; where two networks are compared, those of which either failed.
"""

from __future__ import annotations

from collections.abc import Callable

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, register
from featurespeed.papers.super_consistency.adam.published import BEST_RATES, comparable
from featurespeed.papers.super_consistency.adam.spec import ADAM, ADAMW, COMMON, ONE, ONE_NO_ROOT, TWO
from featurespeed.papers.super_consistency.best_rates import bounded_difference, bounded_shift, from_published
from featurespeed.papers.super_consistency.preconditioned import (
    at_best,
    below_the_best,
    from_the_threshold,
    largest_slope,
    told,
)
from featurespeed.papers.super_consistency.shared import late_exponents, network
from featurespeed.papers.super_consistency.spread import more_spread
from featurespeed.sweeps.convergence import Curves
from featurespeed.sweeps.transfer import settings

DEPTH, WIDTH = "sc_fig20", "sc_fig21"
OVER_DEPTH, OVER_WIDTH = 8, 16  # ratios of sizes over which shifts are stated


# --- Figure 20 --------------------------------------------------------------------------------------------------------


def _more_spread(other: Curves, own: Curves, labels: tuple[str, str], note: str) -> Estimate:
    """How much more the late sharpness of another network depends on the depth than that of the own one."""
    slopes = [late_exponents(found, label) for found, label in zip((other, own), labels, strict=True)]
    return more_spread(slopes[0], slopes[1], f"{told(other, labels[0])}; {told(own, labels[1])}{note}")


def _two_layers(tables: Tables) -> Estimate:
    (two, one), note = at_best(tables, DEPTH, (TWO, ONE), "depth")
    return _more_spread(two, one, (TWO, ONE), note)


def _smaller_rate(tables: Tables) -> Estimate:
    best, smaller = below_the_best(tables, DEPTH, ONE, "depth")
    return _more_spread(smaller, best, (ONE, ONE), "")


def _threshold(tables: Tables) -> Estimate:
    found, note = at_best(tables, DEPTH, [ONE], "depth")
    return from_the_threshold(tables, DEPTH, ONE, found[0], note)


register("what 2 layers a block add to the dependence of Adam's sharpness on the depth", _two_layers)
register("what the next smaller rate adds to the dependence of Adam's sharpness on the depth", _smaller_rate)
register("largest distance of Adam's late sharpness from its threshold, 1 layer a block", _threshold)
register(
    "largest distance of Adam's late sharpness from its threshold, 1 layer a block at the smallest measured rate",
    lambda tables: from_the_threshold(tables, DEPTH, ONE, below_the_best(tables, DEPTH, ONE, "depth", 0)[1]),
)
register(
    "shift of the best learning rate of Adam for 8 times the depth, 1 layer a block",
    lambda tables: bounded_shift(tables, DEPTH, ONE, OVER_DEPTH, "depth"),
)
register(
    "shift of the best learning rate of Adam for 8 times the depth, without minus with 1/sqrt(L) in the rate",
    lambda tables: bounded_difference(tables, (DEPTH, ONE_NO_ROOT), (DEPTH, ONE), OVER_DEPTH, "depth"),
)
register(
    "shift of the best learning rate of Adam for 8 times the depth, 2 layers a block minus 1",
    lambda tables: bounded_difference(tables, (DEPTH, TWO), (DEPTH, ONE), OVER_DEPTH, "depth"),
)


# --- Figure 21 --------------------------------------------------------------------------------------------------------


def _shift(label: str) -> Callable[[Tables], Estimate]:
    return lambda tables: bounded_shift(tables, WIDTH, label, OVER_WIDTH)


def _largest_slope(*labels: str) -> Callable[[Tables], Estimate]:
    return lambda tables: largest_slope(tables, WIDTH, labels, "width")


def _from_published(label: str) -> Callable[[Tables], Estimate]:
    """Distance of the best rates from those of the authors' sweep over the width."""

    def compute(tables: Tables) -> Estimate:
        network(tables, WIDTH, label)
        if not comparable(settings(tables[WIDTH]), label):
            raise Undecidable(f"{label}: not their network or data")
        return from_published(tables, WIDTH, label, BEST_RATES)

    return compute


for _label in (ADAM, ADAMW, COMMON):
    register(f"shift of the best learning rate for 16 times the width, {_label}", _shift(_label))
for _label in (ADAM, COMMON):
    register(
        f"largest distance of the best learning rates from those of the authors' sweep, {_label}",
        _from_published(_label),
    )
register("largest slope of the late preconditioned sharpness in the width, Adam and AdamW", _largest_slope(ADAM, ADAMW))
register(
    "absolute slope of the late preconditioned sharpness in the width, one rate for all layers", _largest_slope(COMMON)
)
