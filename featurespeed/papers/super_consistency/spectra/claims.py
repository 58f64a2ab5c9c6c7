"""Figures 2, 3 and 23: eigenvalues over the width, distances to the widest network, the trace.

How much a quantity depends on the width is its exponent in the width, one a seed; two of them are compared without
their signs and paired by seed. Distances to the widest network belong to all seeds together, because the noise of the
seeds is subtracted from them: their exponents have jackknife intervals. At the authors' learning rate some networks
diverge late in training: seeds of which a network failed are left out, up to a fifth of those of a width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import Condition, Estimate, Undecidable, Verdict, decide, statistic
from featurespeed.ledger.evidence import Tables, mean_estimate, register, register_premise
from featurespeed.papers.super_consistency.distances import exponent_gap, told_distances
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    LOSS,
    begins_below_the_edge,
    decidable,
    jackknifed,
    numbers,
    setting,
    simultaneous,
    slope_estimate,
    smallest_of,
    trained,
)
from featurespeed.sweeps.convergence import (
    EARLY,
    FAR,
    FEWEST_WIDTHS,
    TENTH,
    Curves,
    Distances,
    distances,
    size_exponent,
)
from featurespeed.sweeps.dependence import early_exponents, exponents_at_the_ends, exponents_of_tenths, steeper

PLAIN, SKIPS = "tau = 0", "tau = 1"
STARTS = {
    "below the edge of stability at the start, tau = 0 of Fig. 23": PLAIN,
    "below the edge of stability at the start, tau = 1 of Fig. 23": SKIPS,
}
LAST = 10  # the smallest eigenvalue that Figure 2 shows
NTK, TRACE = "ntk_eigenvalue", "hessian_trace"
QUANTITIES = {"loss": LOSS, "NTK": NTK, "sharpness": HESSIAN}  # of Figure 3
BESIDE = {"trace": TRACE}  # measured in the same runs
ORDERED = Threshold(0.05, np.inf)  # the ordering of Figure 2 holds, as its criterion says


# --- Figure 2 ---------------------------------------------------------------------------------------------------------


def _early(tables: Tables, artefact: str, label: str, pair: tuple[int, int], below: int = 0) -> Estimate:
    """How much steeper one eigenvalue is in the width than another one, early; ``below``: of widths up to this one."""
    found, (left_out, _) = zip(*(trained(tables, artefact, label, HESSIAN, index) for index in pair), strict=True)
    found = [_up_to(own, below) for own in found] if below else found
    steps = found[0].steps[found[0].inside(0.0, EARLY, initial=False)]
    if not len(steps):
        raise Undecidable("this run has no probe step in the first quarter of training")
    with decidable(f"{label}, eigenvalues"):
        slopes = [early_exponents(own) for own in found]
    means = numbers((f"lambda_{index}" for index in pair), (own.mean() for own in slopes))
    note = f"{setting(found[0])}; steps {', '.join(map(str, steps))}; slopes {means}{left_out}"
    return mean_estimate(steeper(*slopes), note)


def _up_to(found: Curves, width: int) -> Curves:
    keep = found.sizes <= width
    return dataclasses.replace(found, sizes=found.sizes[keep], values=found.values[:, keep])


@statistic("early steepness in the width, eigenvalue 10 over eigenvalue 1")
def spectrum(tables: Tables) -> Estimate:
    return _early(tables, "sc_fig02", PLAIN, (LAST, 1))


@statistic("early steepness in the width, eigenvalue 10 over eigenvalue 9")
def neighbours(tables: Tables) -> Estimate:
    return _early(tables, "sc_fig02", PLAIN, (LAST, LAST - 1))


def _with_and_without_skips(tables: Tables) -> dict[str, Estimate]:
    """The ordering of Figure 2 with and without skip connections, over the widths that both have."""
    largest = min(int(trained(tables, "sc_fig23", label, HESSIAN)[0].sizes[-1]) for label in (PLAIN, SKIPS))
    return {label: _early(tables, "sc_fig23", label, (LAST, 1), largest) for label in (PLAIN, SKIPS)}


@statistic("ordering of Figure 2 without skip connections, if they tell")
def no_skips(tables: Tables) -> Estimate:
    """Undecidable unless exactly one of the two networks has the ordering, for sure."""
    found = _with_and_without_skips(tables)
    if {decide(own, ORDERED) for own in found.values()} != {Verdict.CONFIRMED, Verdict.CONTRADICTED}:
        texts = (f"{label} {own.value:.3g} [{own.ci_low:.3g}, {own.ci_high:.3g}]" for label, own in found.items())
        raise Undecidable(f"the runs cannot tell the two networks apart: {', '.join(texts)}")
    return found[PLAIN]


@statistic("ordering of Figure 2 with skip connections")
def skips(tables: Tables) -> Estimate:
    return _with_and_without_skips(tables)[SKIPS]


def _growth(quantity: str) -> Callable[[Tables], Estimate]:
    """How much steeper in the width a quantity is at the last probe step than at the first."""

    def compute(tables: Tables) -> Estimate:
        found, left_out = trained(tables, "sc_fig02", PLAIN, quantity)
        if len(found.steps) < 2:
            raise Undecidable("this run has one probe step")
        with decidable(quantity):
            first, last = exponents_at_the_ends(found)
        slopes = f"slope {first.mean():.3g} at step {found.steps[0]}, {last.mean():.3g} at step {found.steps[-1]}"
        return mean_estimate(steeper(last, first), f"{setting(found)}; {slopes}{left_out}")

    return compute


register("steepness in the width, last step over first, NTK", _growth(NTK))
register("steepness in the width, last step over first, sharpness", _growth(HESSIAN))


# --- Figure 3 ---------------------------------------------------------------------------------------------------------


def _distances(tables: Tables, name: str) -> tuple[Distances, str]:
    """Distances that can be fitted, and a note on them."""
    own, left_out = trained(tables, "sc_fig03", PLAIN, (QUANTITIES | BESIDE)[name], at=HESSIAN)
    return told_distances(own, name, left_out)


def _exponent(name: str) -> Callable[[Tables], Estimate]:
    """Exponent in time of the distance to the widest network."""

    def compute(tables: Tables) -> Estimate:
        found, note = _distances(tables, name)
        return jackknifed(found.exponent, len(found.gaps), note, note)

    return compute


def _order(*names: str) -> Callable[[Tables], Estimate]:
    """The smallest of the differences of each exponent and the next one, of the same seeds."""

    def compute(tables: Tables) -> Estimate:
        found = {name: _distances(tables, name) for name in names}
        level = simultaneous(len(names) - 1)
        notes = "; ".join(note for _, note in found.values())
        with decidable(notes):
            gaps = [exponent_gap(first, second, level) for (first, _), (second, _) in pairwise(found.values())]
        return smallest_of(gaps, notes)

    return compute


for _name in QUANTITIES:
    register(f"exponent in time of the distance to the proxy, {_name}", _exponent(_name))
register("smallest gap in the order of the exponents in time: NTK, loss, sharpness", _order("NTK", "loss", "sharpness"))
register(
    "smallest gap in the order of the exponents in time: trace, loss, sharpness", _order("trace", "loss", "sharpness")
)


def _loss(tables: Tables) -> tuple[Curves, str]:
    return trained(tables, "sc_fig03", PLAIN, LOSS, at=HESSIAN)


def _far(tables: Tables) -> Distances:
    found = distances(_loss(tables)[0])
    if found.far().sum() < FEWEST_WIDTHS:
        raise Undecidable(
            f"{found.far().sum()} widths of at most a quarter of the proxy: at least {FEWEST_WIDTHS} are needed"
        )
    if np.isnan(found.rate()):
        raise Undecidable(f"the distance of the loss is below the noise floor of {len(found.gaps)} seeds at some width")
    return found


@statistic("exponent in the width of the loss's distance to the proxy")
def size_rate(tables: Tables) -> Estimate:
    found = _far(tables)
    widths = ", ".join(str(width) for width in found.sizes[found.far()])
    note = f"widths {widths}, proxy N = {found.proxy}{_loss(tables)[1]}"
    return jackknifed(found.rate, len(found.gaps), f"loss, {note}", note)


@statistic("exponent in the width of the loss itself")
def size_rate_of_the_loss(tables: Tables) -> Estimate:
    far = _far(tables)
    found, left_out = _loss(tables)
    return jackknifed(size_exponent(found, far.sizes[far.far()]), found.seeds, "loss", setting(found) + left_out)


def _change_of_exponent(other: str) -> Callable[[Tables], Estimate]:
    """Exponent in time of a distance to the widest network, minus that of the loss to the next to widest one.

    The mean over the widths that are well below both.
    """

    def compute(tables: Tables) -> Estimate:
        loss, left_out = _loss(tables)
        near, far = distances(_up_to(loss, loss.sizes[-2])), _distances(tables, other)[0]
        widths = near.sizes[near.far() & near.told & far.told[: len(near.sizes)]]
        if not len(widths):
            raise Undecidable(
                f"no width of at most {near.proxy // FAR}, a quarter of the next to widest network, is above the noise"
            )
        own, further = np.isin(near.sizes, widths), np.isin(far.sizes, widths)

        def statistic(chosen: np.ndarray) -> float:
            return float(far.laws(chosen)[further, 1].mean() - near.laws(chosen)[own, 1].mean())

        note = f"widths {', '.join(map(str, widths))}, proxies N = {far.proxy} and {near.proxy}{left_out}"
        return jackknifed(statistic, len(near.gaps), f"{other}, {note}", note)

    return compute


for _name in ("loss", "NTK"):
    register(
        f"exponent in time of the distance to the proxy, {_name}, minus the loss's to the next to widest network",
        _change_of_exponent(_name),
    )


# --- Figure 23 --------------------------------------------------------------------------------------------------------


def _fall(label: str, quantity: str) -> Callable[[Tables], Estimate]:
    """How much steeper in the width a quantity is in the first tenth of training than in the last."""

    def compute(tables: Tables) -> Estimate:
        found, left_out = trained(tables, "sc_fig23", label, quantity)
        if not (found.inside(0.0, TENTH).any() and found.inside(1 - TENTH, 1.0).any()):
            raise Undecidable("this run has no probe step in the first or in the last tenth of training")
        with decidable(f"{label}, {quantity}"):
            slopes = exponents_of_tenths(found)
        note = f"{setting(found)}; slope {slopes[0].mean():.3g} first, {slopes[1].mean():.3g} last{left_out}"
        return mean_estimate(steeper(*slopes), note)

    return compute


def _starts(label: str) -> Callable[[Tables], Condition]:
    return lambda tables: begins_below_the_edge(trained(tables, "sc_fig23", label, HESSIAN)[0])


def _late(label: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found, left_out = trained(tables, "sc_fig23", label, HESSIAN)
        return slope_estimate(found, label, left_out)

    return compute


for _label in (PLAIN, SKIPS):
    register(f"steepness of the trace in the width, first tenth over last, {_label}", _fall(_label, TRACE))
    register(f"steepness of the sharpness in the width, first tenth over last, {_label}", _fall(_label, HESSIAN))
    register(f"slope of the late sharpness in the width, {_label}", _late(_label))
for _name, _label in STARTS.items():
    register_premise(_name, _starts(_label))
