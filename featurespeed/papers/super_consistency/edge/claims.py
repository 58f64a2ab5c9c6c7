"""Figures 9, 11 and 27: where the sharpness settles, the Gauss-Newton eigenvalue, and curvature along the gradient.

The unit is the seed; muP and NTP are paired by it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable, premise, statistic
from featurespeed.ledger.evidence import (
    Tables,
    as_estimate,
    largest_estimate,
    mean_estimate,
    register,
    register_premise,
)
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    MUP,
    NTP,
    OVER_WIDTH,
    begins_below_the_edge,
    curves_at,
    decidable,
    late_exponents,
    levels,
    matched,
    measured,
    network,
    ntp_matched,
    numbers,
    setting,
    slope_estimate,
    trained,
)
from featurespeed.statistics import ratio_interval
from featurespeed.sweeps.convergence import Curves
from featurespeed.sweeps.dependence import edge_level

GAUSS_NEWTON, RESIDUAL, AUGMENTED = "gauss_newton_eigenvalue", "residual_eigenvalue", "augmented_sharpness"
DIRECTIONAL = "directional_sharpness"
#: Premise -> network of Figure 27, and the size in which it varies.
DIRECTIONAL_NETWORKS = {
    "below the edge of stability at the start, muP without skip connections of Fig. 27": ("muP, no skips", "width"),
    "below the edge of stability at the start, Depth-muP of Fig. 27": ("Depth-muP", "depth"),
}


# --- Figure 9 ---------------------------------------------------------------------------------------------------------


def _full_batch(tables: Tables) -> dict[str, Curves]:
    """The sharpness of every network of the figure."""
    labels = tables["sc_fig09"]["series"].unique()
    return {label: measured(tables, "sc_fig09", label, HESSIAN) for label in labels}


def _from_the_edge(networks: dict[str, Curves]) -> Estimate:
    """Largest distance from 1, over networks and widths, of sharpness * eta_0 / 2, mean over the second half."""
    late = np.column_stack([found.late() * found.rate / 2 for found in networks.values()])
    return largest_estimate(late, 1.0, "; ".join(levels(found, label) for label, found in networks.items()))


@premise("below the edge of stability at the start, Fig. 9")
def full_batch_begins_below(tables: Tables) -> Condition:
    """Every width of every network begins below 2/eta_0 (means over seeds)."""
    return begins_below_the_edge(*_full_batch(tables).values())


@statistic("largest distance of a width's sharpness over 2/learning rate from 1, full batch, second half")
def full_batch(tables: Tables) -> Estimate:
    return _from_the_edge(_full_batch(tables))


@statistic("largest distance of a width's sharpness over 2/learning rate from 1, NTP at a matched rate, Fig. 1")
def below_the_edge(tables: Tables) -> Estimate:
    return _from_the_edge({NTP: ntp_matched(tables, OVER_WIDTH)})


@statistic("largest slope of the late sharpness in the width, full batch")
def full_batch_over_width(tables: Tables) -> Estimate:
    networks = _full_batch(tables)
    slopes = np.column_stack([late_exponents(found, label) for label, found in networks.items()])
    return largest_estimate(slopes, note="; ".join(levels(found, label) for label, found in networks.items()))


# --- Figure 11 --------------------------------------------------------------------------------------------------------


def _both(tables: Tables, quantity: str = GAUSS_NEWTON) -> dict[str, Curves]:
    """A largest eigenvalue of muP at its best measured rate, and NTP's at one matched to it."""
    own = measured(tables, "sc_fig11", MUP, quantity)
    other = matched(network(tables, "sc_fig11", NTP), quantity, edge_level(own))
    if own.sizes.tolist() != other.sizes.tolist() or own.seeds != other.seeds:
        raise Undecidable(f"{MUP} and {NTP} have different widths or seeds")
    return {MUP: own, NTP: other}


@premise("below the edge of stability at the start, Fig. 11")
def both_begin_below(tables: Tables) -> Condition:
    """The Gauss-Newton eigenvalue of every width of muP and NTP begins below 2/eta_0 (means over seeds)."""
    return begins_below_the_edge(*_both(tables).values())


@premise("one in which the Gauss-Newton eigenvalue rises under muP, Fig. 11")
def gauss_newton_rises(tables: Tables) -> Condition:
    """At the largest width it is larger in the second half than at the start (means over seeds)."""
    found = measured(tables, "sc_fig11", MUP, GAUSS_NEWTON)
    rise = found.late()[:, -1].mean() / found.values[:, -1, 0].mean()
    return Condition(bool(rise > 1), f"by a factor {rise:.3g} at width {found.sizes[-1]}")


def _rise(at_start: bool) -> Callable[[Tables], Estimate]:
    """Late over initial eigenvalue at the largest width over that at the smallest, of muP over that of NTP.

    ``at_start``: the initial eigenvalue in place of the rise.
    """

    def compute(tables: Tables) -> Estimate:
        found = _both(tables)
        rises = {label: own.values[..., 0] if at_start else _rises(own) for label, own in found.items()}
        with decidable(GAUSS_NEWTON):
            ratio = ratio_interval(*(each[:, -1] / each[:, 0] for each in rises.values()))
        what = "initial value" if at_start else "rise"
        note = "; ".join(
            f"{label} at {found[label].rate:g}, {what} by width {numbers(found[label].sizes, each.mean(0))}"
            for label, each in rises.items()
        )
        return as_estimate(ratio, note)

    return compute


def _rises(found: Curves) -> np.ndarray:
    """Mean over the second half of training over the initial value, ``[seeds, S]``."""
    return found.late() / found.values[..., 0]


def _share(part: str) -> Callable[[Tables], Estimate]:
    """Top eigenvalue of a part of the Hessian over the sharpness, mean over the second half and widths, muP."""

    def compute(tables: Tables) -> Estimate:
        rows = network(tables, "sc_fig11", MUP)
        whole = measured(tables, "sc_fig11", MUP, HESSIAN)
        found = curves_at(rows, part, whole.rate)
        shares = found.late() / whole.late()
        return mean_estimate(shares.mean(1), f"{setting(found)}; by width {numbers(found.sizes, shares.mean(0))}")

    return compute


def _log_ratio(first: Curves, second: Curves) -> Estimate:
    """Log of the ratio of both in units of 2/eta_0, means over the second half, mean over widths."""
    ratios = (first.late() * first.rate) / (second.late() * second.rate)
    return mean_estimate(np.log(ratios).mean(1), f"{setting(second)}; by width {numbers(first.sizes, ratios.mean(0))}")


@statistic("log of the sharpness on augmented images over that on the images, muP")
def on_augmented_images(tables: Tables) -> Estimate:
    on_both = (measured(tables, "sc_fig11", MUP, quantity) for quantity in (AUGMENTED, HESSIAN))
    return _log_ratio(*on_both)


@statistic("log of the sharpness under NTP over that under muP, times their learning rates")
def ntp_over_mup(tables: Tables) -> Estimate:
    found = _both(tables, HESSIAN)
    return _log_ratio(found[NTP], found[MUP])


register("rise of the Gauss-Newton eigenvalue, largest over smallest width, muP over NTP", _rise(at_start=False))
register("initial Gauss-Newton eigenvalue, largest over smallest width, muP over NTP", _rise(at_start=True))
register("share of the Gauss-Newton eigenvalue in the sharpness, muP", _share(GAUSS_NEWTON))
register("share of the residual eigenvalue in the sharpness, muP", _share(RESIDUAL))


# --- Figure 27 --------------------------------------------------------------------------------------------------------


def _directional(label: str, size: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found, note = trained(tables, "sc_fig27", label, DIRECTIONAL, size=size)
        return slope_estimate(found, label, note)

    return compute


def _starts(label: str, size: str) -> Callable[[Tables], Condition]:
    """Whether the sharpness of every size begins below 2/eta_0, that of the end of the warm-up."""
    return lambda tables: begins_below_the_edge(trained(tables, "sc_fig27", label, HESSIAN, size=size)[0])


for _name, (_label, _size) in DIRECTIONAL_NETWORKS.items():
    register_premise(_name, _starts(_label, _size))
    register(f"slope of the late directional sharpness in the {_size}, {_label}", _directional(_label, _size))
