"""Figures 6, 7 and 8: what becomes of transfer and sharpness without a limit of infinite depth, or width.

The unit is the seed, as in Figure 4. A network that diverged, died or ended at chance is a failure of its learning
rate; how many do is counted, with Clopper-Pearson intervals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable, premise
from featurespeed.ledger.evidence import Tables, as_estimate, largest_estimate, mean_estimate, register
from featurespeed.papers.super_consistency.best_rates import Place, bounded_difference, bounded_shift, stable_shift
from featurespeed.papers.super_consistency.no_limit.spec import COLD, LONG, PLAIN, WARM
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    MUP,
    OVER_DEPTH,
    OVER_WIDTH,
    curves,
    exponents,
    late_exponents,
    late_losses,
    levels,
    measured_rates,
    network,
    numbers,
    slope_estimate,
    trained,
    without_failed_seeds,
)
from featurespeed.statistics import proportion_interval

NO_SCALING, STANDARD, NO_SKIPS = "sc_fig06", "sc_fig07", "sc_fig08"
SCALED: Place = OVER_DEPTH  # Depth-muP, whose branches are multiplied with 1/sqrt(L)
DEPTHS, WIDTHS = 8, 16  # ratios of sizes over which shifts are stated
LEARNED = 0.95  # share of the loss of chance below which a network has learned


# --- before training --------------------------------------------------------------------------------------------------


def _initial(place: Place, size: str) -> Callable[[Tables], Estimate]:
    """Exponent in the size of the sharpness at step 0, which is the same at every learning rate."""

    def compute(tables: Tables) -> Estimate:
        rows = network(tables, *place, size)
        rates = measured_rates(rows, HESSIAN)
        if not len(rates):
            raise Undecidable(f"{place[1]}: the sharpness was measured nowhere")
        found = curves(rows, HESSIAN, rates[0], 1, size)
        if found.steps[0] != 0:
            raise Undecidable(f"{place[1]}: the sharpness was not measured at step 0")
        values = found.values[..., 0]
        note = f"{place[1]}, sharpness at step 0 by {size} {numbers(found.sizes, values.mean(0))}"
        return mean_estimate(exponents(found.sizes, values, place[1]), note)

    return compute


register("slope of the initial sharpness in the depth, no 1/sqrt(L)", _initial((NO_SCALING, COLD), "depth"))
register("slope of the initial sharpness in the depth, Depth-muP", _initial(SCALED, "depth"))
register("slope of the initial sharpness in the width, SP", _initial((STANDARD, COLD), "width"))
register("slope of the initial sharpness in the width, muP of Fig. 1", _initial((OVER_WIDTH, MUP), "width"))


# --- the best learning rate -------------------------------------------------------------------------------------------


def _shift(place: Place, span: float, size: str) -> Callable[[Tables], Estimate]:
    return lambda tables: bounded_shift(tables, *place, span, size)


def _less_shift(first: Place, second: Place, span: float, size: str) -> Callable[[Tables], Estimate]:
    """|shift| of one network minus that of another, paired by seed."""

    def compute(tables: Tables) -> Estimate:
        seeds = [network(tables, *place, size)["seed"].nunique() for place in (first, second)]
        if seeds[0] != seeds[1]:
            told = " and ".join(f"{count} of {label}" for count, (_, label) in zip(seeds, (first, second), strict=True))
            raise Undecidable(f"{told}: seeds are compared one by one, and must be as many")
        return bounded_difference(tables, first, second, span, size, absolute=True)

    return compute


register(
    "shift of the best learning rate for 8 times the depth, no 1/sqrt(L), warm-up",
    _shift((NO_SCALING, WARM), DEPTHS, "depth"),
)
register(
    "shift of the best learning rate for 8 times the depth, no 1/sqrt(L)",
    _shift((NO_SCALING, COLD), DEPTHS, "depth"),
)
register(
    "what warm-up takes from the shift over the depth, no 1/sqrt(L)",
    _less_shift((NO_SCALING, COLD), (NO_SCALING, WARM), DEPTHS, "depth"),
)
register(
    "what 1/sqrt(L) adds to the shift over the depth, beside warm-up",
    _less_shift(SCALED, (NO_SCALING, WARM), DEPTHS, "depth"),
)
register("shift of the best learning rate for 16 times the width, SP", _shift((STANDARD, COLD), WIDTHS, "width"))
register(
    "what a long warm-up takes from the shift over the width, SP",
    _less_shift((STANDARD, COLD), (STANDARD, LONG), WIDTHS, "width"),
)
register(
    "what muP adds to the shift over the width, beside SP with a long warm-up",
    _less_shift((OVER_WIDTH, MUP), (STANDARD, LONG), WIDTHS, "width"),
)
register("shift of the best learning rate for 8 times the depth, no skips", _shift((NO_SKIPS, PLAIN), DEPTHS, "depth"))


# --- what fails -------------------------------------------------------------------------------------------------------


def _fail_at(place: Place, deepest: Callable[[Tables], int]) -> Callable[[Tables], Estimate]:
    """Share of the seeds of which a network fails at the best learning rate of the shallowest: that of the first depth
    which is at least ``deepest``.
    """

    def compute(tables: Tables) -> Estimate:
        losses = late_losses(network(tables, *place, "depth"), "depth")
        best, deep = losses.best()[0], np.flatnonzero(losses.sizes >= deepest(tables))
        if best < 0:
            raise Undecidable(f"{place[1]}: at every learning rate some seed of L = {losses.sizes[0]} fails")
        if not len(deep):
            raise Undecidable(f"{place[1]}: no network is as deep as L = {deepest(tables)}")
        failed = int(np.isinf(losses.values[:, deep[0], best]).sum())
        where = f"L = {losses.sizes[deep[0]]} at {losses.rates[best]:g}"
        note = f"{place[1]}: {where}, {failed} of {len(losses.values)} fail"
        return as_estimate(proportion_interval(failed, len(losses.values)), note)

    return compute


def _deepest(tables: Tables) -> int:
    return int(network(tables, NO_SCALING, COLD, "depth")["depth"].max())


def _stable(place: Place) -> Callable[[Tables], Estimate]:
    return lambda tables: stable_shift(tables, *place, DEPTHS, "depth")


register("share of seeds of which the deepest network fails, no 1/sqrt(L)", _fail_at((NO_SCALING, COLD), _deepest))
register("share of seeds of which a network as deep fails, Depth-muP", _fail_at(SCALED, _deepest))
for _name, _place in (("no 1/sqrt(L)", (NO_SCALING, COLD)), ("Depth-muP", SCALED)):
    register(f"shift of the largest stable learning rate for 8 times the depth, {_name}", _stable(_place))


# --- the sharpness without 1/sqrt(L) ----------------------------------------------------------------------------------


def _slope_unscaled(tables: Tables) -> Estimate:
    found, left_out = trained(tables, NO_SCALING, WARM, HESSIAN, size="depth")
    return largest_estimate(late_exponents(found, WARM)[:, None], note=levels(found, WARM) + left_out)


register("absolute slope of the late sharpness in the depth, no 1/sqrt(L), warm-up", _slope_unscaled)


# --- the sharpness without skips --------------------------------------------------------------------------------------


def _late(tables: Tables) -> tuple:
    return trained(tables, NO_SKIPS, PLAIN, HESSIAN, size="depth")


def _slope(tables: Tables) -> Estimate:
    found, left_out = _late(tables)
    return slope_estimate(found, PLAIN, left_out)


def _slope_scaled(tables: Tables) -> Estimate:
    found, left_out = trained(tables, *SCALED, HESSIAN, size="depth")
    return slope_estimate(found, SCALED[1], left_out)


@premise("trained below the loss of chance, no skips of Fig. 8")
def plain_trained(tables: Tables) -> Condition:
    """At the rate that is looked at the loss of every network ends well below that of equal probabilities: one that
    does not learn has no sharpness of training.
    """
    rows, _ = without_failed_seeds(network(tables, NO_SKIPS, PLAIN, "depth"), HESSIAN, "depth")
    losses = late_losses(rows, "depth")
    late = losses.values[..., np.isclose(losses.rates, _late(tables)[0].rate)]
    chance = np.log(rows["output_dim"].max())
    return Condition(bool((late < LEARNED * chance).all()), f"loss at most {late.max():.3g}, chance {chance:.3g}")


register("slope of the late sharpness in the depth, no skips", _slope)
register("slope of the late sharpness in the depth, Depth-muP", _slope_scaled)
