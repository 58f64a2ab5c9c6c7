"""Figures 1 and 26: does the best learning rate transfer over the width, and is the sharpness the same at every width?

The unit is the seed: one exponent in the width, one shift of the best learning rate, and Student's t over seeds. muP is
looked at at the learning rate that is best for all widths together, found once from all seeds; NTP at one rate for all
widths, at which its narrowest network is as near to the edge of stability as muP's. A network that diverged, died or
ended at chance is a failure of its rate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable, premise
from featurespeed.ledger.evidence import Tables, largest_estimate, mean_estimate, register
from featurespeed.papers.super_consistency.best_rates import best_rates, losses_of, optima_of, shift, shift_difference
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    LOSS,
    MUP,
    NTP,
    NTP_ABSOLUTE_CONTROL,
    NTP_CONTROL,
    common_best,
    curves_at,
    decidable,
    exponents,
    late_exponents,
    late_losses,
    levels,
    measured,
    mup_at_best,
    network,
    ntp_matched,
    numbers,
    sharpens,
    slope_estimate,
)
from featurespeed.sweeps import dependence
from featurespeed.sweeps.convergence import TENTH, Curves
from featurespeed.sweeps.optima import transfer_costs

RANDOM = "random features"
ARTEFACT, BESIDE = "sc_fig01", "sc_fig26"
SPAN = 16  # ratio of widths over which shifts are stated; slopes are extrapolated to it
PAPERS_RATE = 0.75  # best learning rate of arXiv:2402.17457, 0.7 to 0.8


# --- the sharpness over the widths ------------------------------------------------------------------------------------


def two_rates(tables: Tables) -> list[Curves]:
    """muP's sharpness at the best learning rate of all widths, and one step of the grid below it."""
    rows = network(tables, ARTEFACT, MUP)
    losses = late_losses(rows)
    best = common_best(losses, MUP)
    if best == 0:
        raise Undecidable(f"{MUP}: the best learning rate {losses.rates[0]:g} is the smallest of the grid")
    return [curves_at(rows, HESSIAN, float(losses.rates[k])) for k in (best, best - 1)]


def _largest_slope(tables: Tables) -> Estimate:
    found = two_rates(tables)
    slopes = np.column_stack([late_exponents(own, MUP) for own in found])
    return largest_estimate(slopes, note="; ".join(levels(own, MUP) for own in found))


def _absolute_slope_ntp(tables: Tables) -> Estimate:
    found = ntp_matched(tables, ARTEFACT)
    return largest_estimate(late_exponents(found, NTP)[:, None], note=levels(found, NTP))


def _slope_mup(tables: Tables) -> Estimate:
    return slope_estimate(mup_at_best(tables, ARTEFACT), MUP)


def _slope_ntp(tables: Tables) -> Estimate:
    return slope_estimate(ntp_matched(tables, ARTEFACT), NTP)


def _slope_difference(first: str) -> Callable[[Tables], Estimate]:
    """Slope of muP at its best rate minus that of NTP, or minus its own one step of the grid below."""

    def compute(tables: Tables) -> Estimate:
        best, below = two_rates(tables)
        other = ntp_matched(tables, ARTEFACT) if first == NTP else below
        note = f"{levels(best, MUP)}; {levels(other, first)}"
        return mean_estimate(late_exponents(best, MUP) - late_exponents(other, first), note)

    return compute


def _departures(compared: Callable[[Tables, str], Curves], label: str) -> Callable[[Tables], Estimate]:
    """Largest log of the late sharpness of a width over the mean of all widths."""

    def compute(tables: Tables) -> Estimate:
        found = compared(tables, ARTEFACT)
        with decidable(label):
            return largest_estimate(dependence.departures(found.late()), note=levels(found, label))

    return compute


@premise("sharpening from below the edge of stability, muP of Fig. 1")
def sharpening(tables: Tables) -> Condition:
    """Every width begins below 2/eta_0, and its sharpness at least doubles until the second half (means over seeds)."""
    return sharpens(mup_at_best(tables, ARTEFACT), slice(None))


@premise("sharpening from below the edge of stability, NTP of Fig. 1")
def sharpening_ntp(tables: Tables) -> Condition:
    """The same of NTP at its matched rate, but that only the narrowest has to sharpen: wider ones may do so less."""
    return sharpens(ntp_matched(tables, ARTEFACT), slice(1))


# --- the best learning rate -------------------------------------------------------------------------------------------


def _shift(label: str) -> Callable[[Tables], Estimate]:
    return lambda tables: shift(tables, ARTEFACT, label, SPAN)


def _shift_difference(*labels: str) -> Callable[[Tables], Estimate]:
    first, second = ((BESIDE, label) for label in labels)
    return lambda tables: shift_difference(tables, first, second, SPAN)


def _distance_from_the_papers_rate(label: str) -> Callable[[Tables], Estimate]:
    """log2 of the best learning rate over the paper's, mean over widths."""

    def compute(tables: Tables) -> Estimate:
        found = best_rates(tables, ARTEFACT, label)
        return mean_estimate(found.log2_rates.mean(1) - np.log2(PAPERS_RATE), f"best rates by width {found.note()}")

    return compute


def _transfer_cost(label: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        losses = losses_of(tables, ARTEFACT, label)
        found = optima_of(losses, label)
        with decidable(label):
            return mean_estimate(transfer_costs(losses, found), f"best rates by width {found.note()}")

    return compute


# --- the loss over the widths -----------------------------------------------------------------------------------------


def _loss_at(tables: Tables, label: str) -> Curves:
    """The training loss of muP at its best rate, or of NTP at its matched one."""
    compared = mup_at_best if label == MUP else ntp_matched
    return curves_at(network(tables, ARTEFACT, label), LOSS, compared(tables, ARTEFACT).rate)


def _ends(found: Curves, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Exponents of the loss in the width over the first and over the last tenth of training."""
    first, last = found.over(0.0, TENTH), found.over(1 - TENTH, 1.0)
    if not np.isfinite(first).all():
        raise Undecidable(f"{label}: no loss was recorded in the first tenth of training")
    return exponents(found.sizes, first, label), exponents(found.sizes, last, label)


def _loss_slope(label: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = _loss_at(tables, label)
        late = numbers(found.sizes, found.over(1 - TENTH, 1.0).mean(0))
        return mean_estimate(_ends(found, label)[1], f"at {found.rate:g}, late loss by width {late}")

    return compute


def _loss_parting(label: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = _loss_at(tables, label)
        first, last = _ends(found, label)
        return mean_estimate(last - first, f"at {found.rate:g}, first {first.mean():.3g}, last {last.mean():.3g}")

    return compute


# --- random features --------------------------------------------------------------------------------------------------


def _rise(label: str) -> Callable[[Tables], Estimate]:
    """Late over initial sharpness, geometric mean over widths."""

    def compute(tables: Tables) -> Estimate:
        found = measured(tables, BESIDE, label, HESSIAN)
        with decidable(label):
            return mean_estimate(dependence.growth(found.late(), found.values[..., 0]), levels(found, label))

    return compute


@premise("trained below the loss of chance, random features of Fig. 26")
def random_features_trained(tables: Tables) -> Condition:
    """At the rate that is best for all widths the loss ends below that of equal probabilities (means over seeds)."""
    rows = network(tables, BESIDE, RANDOM)
    losses = late_losses(rows)
    late = losses.values[..., common_best(losses, RANDOM)].mean(0)
    chance = np.log(rows["output_dim"].max())
    return Condition(bool((late < chance).all()), f"loss at most {late.max():.3g}, chance {chance:.3g}")


register("largest slope of the late sharpness in the width, muP, two rates", _largest_slope)
register(NTP_ABSOLUTE_CONTROL, _absolute_slope_ntp)
register("slope of the late sharpness in the width, muP, Fig. 1", _slope_mup)
register(NTP_CONTROL, _slope_ntp)
register("slope of the late sharpness in the width, muP minus NTP", _slope_difference(NTP))
register("slope of the late sharpness in the width, muP minus muP at the next smaller rate", _slope_difference(MUP))
register("largest departure of a width's late sharpness from the mean of all, muP", _departures(mup_at_best, MUP))
register("largest departure of a width's late sharpness from the mean of all, NTP", _departures(ntp_matched, NTP))
for _label in (MUP, NTP):
    register(f"shift of the best learning rate for 16 times the width, {_label}", _shift(_label))
    register(f"log2 of the best learning rate over the paper's, {_label}", _distance_from_the_papers_rate(_label))
    register(f"cost of the narrowest network's best rate at the widest, {_label}", _transfer_cost(_label))
    register(f"slope of the late loss in the width, {_label}", _loss_slope(_label))
    register(f"slope of the loss in the width, last minus first tenth, {_label}", _loss_parting(_label))
for _first, _second in ((RANDOM, MUP), (NTP, RANDOM), (MUP, NTP)):
    register(
        f"difference of the shifts of the best learning rate, {_first} minus {_second}",
        _shift_difference(_first, _second),
    )
for _label in (RANDOM, MUP):
    register(f"late over initial sharpness, {_label}, Fig. 26", _rise(_label))
