"""Figures 2, 3 and 23: eigenvalues over the width, distances to the widest network, the trace.

The interval is the bootstrap over seeds; several quantities of one statistic are resampled together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, as_estimate, register
from featurespeed.papers.super_consistency.shared import estimate, measured, told_apart
from featurespeed.sweeps.convergence import (
    EARLY,
    FEWEST_POINTS,
    FEWEST_WIDTHS,
    Curves,
    Distances,
    distances,
    early_ratio,
    fall_of_spread,
    growth_of_spread,
    interval,
    late_spread,
    mean_spread,
    reversed_in_time,
    size_exponent,
    spread_ratio,
    unscaled,
)

PLAIN, SKIPS = "tau = 0", "tau = 1"
TENTH = 10  # the smallest eigenvalue that Figure 2 shows
HESSIAN, NTK, LOSS, TRACE = "sharpness", "ntk_eigenvalue", "training_loss", "hessian_trace"
QUANTITIES = {"loss": LOSS, "NTK": NTK, "sharpness": HESSIAN}
ORDERED = Threshold(1.0, np.inf)  # the ordering of Figure 2 holds


# --- Figure 2 ---------------------------------------------------------------------------------------------------------


def _early(tables: Tables, artefact: str, label: str, below: int = 0, swapped: bool = False) -> Estimate:
    """CV over widths of the tenth eigenvalue over that of the first, early; ``below``: of the widths up to this one."""
    first, tenth = (measured(tables, artefact, label, HESSIAN, index) for index in (1, TENTH))
    if below:
        first, tenth = (_up_to(found, below) for found in (first, tenth))
    steps = first.steps[first.inside(0.0, EARLY, initial=False)]
    if not len(steps):
        raise Undecidable("this run has no probe step in the first quarter of training")
    pair = (first, tenth) if swapped else (tenth, first)
    return estimate(early_ratio(*pair), first, f"steps {', '.join(map(str, steps))}")


def _up_to(found: Curves, width: int) -> Curves:
    keep = found.sizes <= width
    return dataclasses.replace(found, sizes=found.sizes[keep], values=found.values[:, keep])


@statistic("early CV of the tenth Hessian eigenvalue over that of the first")
def spectrum(tables: Tables) -> Estimate:
    return _early(tables, "sc_fig02", PLAIN)


@statistic("early CV of the first Hessian eigenvalue over that of the tenth")
def spectrum_swapped(tables: Tables) -> Estimate:
    return _early(tables, "sc_fig02", PLAIN, swapped=True)


def _skips(tables: Tables) -> tuple[Estimate, Estimate]:
    """The ordering of Figure 2 with and without skip connections, over the widths that both have."""
    largest = min(int(measured(tables, "sc_fig23", label, HESSIAN).sizes[-1]) for label in (PLAIN, SKIPS))
    return tuple(_early(tables, "sc_fig23", label, largest) for label in (SKIPS, PLAIN))


@statistic("ordering of Figure 2 with skip connections, if they tell")
def skips(tables: Tables) -> Estimate:
    return told_apart(*_skips(tables), ORDERED, "with and without skip connections the ratio is")


@statistic("ordering of Figure 2 without skip connections")
def no_skips(tables: Tables) -> Estimate:
    return _skips(tables)[1]


def _ntk_growth(backwards: bool) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = measured(tables, "sc_fig02", PLAIN, NTK)
        if len(found.steps) < 2:
            raise Undecidable("this run has one probe step")
        ends = [mean_spread(found.values[..., place : place + 1]) for place in (0, len(found.steps) - 1)]
        note = f"CV {ends[0]:.3g} at step {found.steps[0]}, {ends[1]:.3g} at step {found.steps[-1]}"
        ratio = growth_of_spread(found)
        if backwards:
            ratio = spread_ratio(found.values[..., :1], found.values[..., -1:])
        return estimate(ratio, found, note)

    return compute


register("CV of the top NTK eigenvalue, last step over first", _ntk_growth(backwards=False))
register("CV of the top NTK eigenvalue, first step over last", _ntk_growth(backwards=True))


# --- Figure 3 ---------------------------------------------------------------------------------------------------------


def _distances(tables: Tables, name: str) -> Distances:
    found = distances(measured(tables, "sc_fig03", PLAIN, QUANTITIES[name], at=HESSIAN))
    if found.fitted.sum() < FEWEST_POINTS:
        raise Undecidable(
            f"{found.fitted.sum()} steps after the warm-up: at least {FEWEST_POINTS} are needed for a fit"
        )
    return found


def _note(found: Distances) -> str:
    laws = zip(found.sizes, found.laws()[:, 1], strict=True)
    return f"proxy N = {found.proxy}; b by width " + ", ".join(f"{width}: {b:.2f}" for width, b in laws)


def _exponent(name: str, backwards: bool = False) -> Callable[[Tables], Estimate]:
    """Exponent in time of the distance to the widest network; ``backwards``: of the same distances in reverse order."""

    def compute(tables: Tables) -> Estimate:
        found = _distances(tables, name)
        found = reversed_in_time(found) if backwards else found
        return as_estimate(interval(found.exponent, len(found.values)), _note(found))

    return compute


def _difference(name: str, other: str) -> Callable[[Tables], Estimate]:
    """Difference of two exponents, seeds resampled together."""

    def compute(tables: Tables) -> Estimate:
        first, second = (_distances(tables, quantity) for quantity in (name, other))
        found = interval(lambda chosen: first.exponent(chosen) - second.exponent(chosen), len(first.values))
        return as_estimate(found, f"{name} {first.exponent():.2f}, {other} {second.exponent():.2f}")

    return compute


for _name in QUANTITIES:
    register(f"exponent in time of the distance to the proxy, {_name}", _exponent(_name))
register("exponent in time of the distance to the proxy, loss, steps reversed", _exponent("loss", backwards=True))
for _pair in (("NTK", "loss"), ("loss", "NTK"), ("loss", "sharpness"), ("sharpness", "loss")):
    register(f"difference of the exponents in time, {_pair[0]} minus {_pair[1]}", _difference(*_pair))


def _far(tables: Tables) -> Distances:
    found = _distances(tables, "loss")
    if found.far().sum() < FEWEST_WIDTHS:
        raise Undecidable(
            f"{found.far().sum()} widths of at most a quarter of the proxy: at least {FEWEST_WIDTHS} are needed"
        )
    return found


@statistic("exponent in the width of the loss's distance to the proxy")
def size_rate(tables: Tables) -> Estimate:
    found = _far(tables)
    widths = ", ".join(str(width) for width in found.sizes[found.far()])
    other = _distances(tables, "sharpness")
    note = f"widths {widths}, proxy N = {found.proxy}; of the sharpness {other.rate():.2f}"
    return as_estimate(interval(found.rate, len(found.values)), note)


@statistic("exponent in the width of the loss itself")
def size_rate_of_the_loss(tables: Tables) -> Estimate:
    far = _far(tables)
    found = measured(tables, "sc_fig03", PLAIN, LOSS, at=HESSIAN)
    return estimate(size_exponent(found, far.sizes[far.far()]), found)


# --- Figure 23 --------------------------------------------------------------------------------------------------------


def _trace(label: str, backwards: bool) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = measured(tables, "sc_fig23", label, TRACE)
        first, last = found.tenths()
        if not first.shape[-1] or not last.shape[-1]:
            raise Undecidable("this run has no probe step in the first or in the last tenth of training")
        note = f"CV {mean_spread(first):.3g} first, {mean_spread(last):.3g} last"
        return estimate(spread_ratio(last, first) if backwards else fall_of_spread(found), found, note)

    return compute


def _late(label: str, scaled: bool) -> Callable[[Tables], Estimate]:
    """CV of the sharpness of gamma^2 H, or of H itself."""

    def compute(tables: Tables) -> Estimate:
        found = measured(tables, "sc_fig23", label, HESSIAN)
        return estimate(late_spread(found if scaled else unscaled(found)), found)

    return compute


for _label in (PLAIN, SKIPS):
    register(f"CV of the trace, first tenth over last, {_label}", _trace(_label, backwards=False))
    register(f"CV of the trace, last tenth over first, {_label}", _trace(_label, backwards=True))
    register(f"CV over widths of the late sharpness, {_label}", _late(_label, scaled=True))
    register(f"CV over widths of the late sharpness of H, {_label}", _late(_label, scaled=False))
