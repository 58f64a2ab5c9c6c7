"""Figures 4c, 15 and 16, and CompleteP: do the best learning rate of Adam and the sharpness of transformers depend on
their depth and their width?

The unit is the seed: one exponent in the size, one shift of the best learning rate, Student's t over seeds.
    Sharpness is looked at at the learning rate that is best for all sizes of those where it was measured
    (:mod:`featurespeed.papers.super_consistency.preconditioned`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate
from featurespeed.ledger.evidence import Tables, largest_estimate, mean_estimate, register
from featurespeed.papers.super_consistency.best_rates import (
    Place,
    absolute_shift,
    bounded_difference,
    bounded_shift,
)
from featurespeed.papers.super_consistency.preconditioned import largest_slope, told, without_failed
from featurespeed.papers.super_consistency.shared import (
    OVER_DEPTH,
    best_measured,
    late_exponents,
    slope_estimate,
    trained,
)
from featurespeed.papers.super_consistency.spec import PRECONDITIONED
from featurespeed.papers.super_consistency.transformers.analysis import SCALED, with_scaled
from featurespeed.papers.super_consistency.transformers.spec import (
    COMPLETE_P,
    DEPTH_MUP,
    GPT,
    GPT_NO_ROOT,
    POST_LN,
    POST_LN_SP,
    U_MUP,
    VIT,
    VIT_NO_ROOT,
)

FIG4C, FIG15, FIG16, COMPLETEP = "sc_fig04c", "sc_fig15", "sc_fig16", "sc_completep"
SPAN_OF_DEPTHS, SPAN_OF_WIDTHS = 8, 16  # ratios of sizes over which shifts are stated


def _shift(place: Place) -> Callable[[Tables], Estimate]:
    return lambda tables: bounded_shift(tables, *place, SPAN_OF_WIDTHS)


def _absolute(place: Place) -> Callable[[Tables], Estimate]:
    return lambda tables: absolute_shift(tables, *place, SPAN_OF_DEPTHS, "depth")


def _difference(first: Place, second: Place, absolute: bool = False) -> Callable[[Tables], Estimate]:
    return lambda tables: bounded_difference(tables, first, second, SPAN_OF_DEPTHS, "depth", absolute)


def _scaled_slope(artefact: str, label: str) -> Callable[[Tables], Estimate]:
    """Slope in the depth of the late sharpness of the Hessian in units of the rate."""

    def compute(tables: Tables) -> Estimate:
        rows, note = without_failed(tables, artefact, [label], "depth")
        found = best_measured(with_scaled(tables[artefact], rows[0]), SCALED, at=PRECONDITIONED, size="depth")
        return mean_estimate(late_exponents(found, label), told(found, label) + note)

    return compute


def _absolute_scaled_slope(artefact: str, label: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = _scaled_slope(artefact, label)(tables)
        return largest_estimate(np.asarray(found.sample)[:, None], note=found.note)

    return compute


def _conv_slope(tables: Tables) -> Estimate:
    """The same of ConvNets with gradient descent, in units of its rates."""
    found, note = trained(tables, *OVER_DEPTH, "sharpness", size="depth")
    return slope_estimate(found, OVER_DEPTH[1], note)


def _slope(artefact: str, label: str, size: str) -> Callable[[Tables], Estimate]:
    return lambda tables: largest_slope(tables, artefact, [label], size)


# --- Figure 4c --------------------------------------------------------------------------------------------------------

register("absolute shift of the best learning rate for 8 times the depth, ViT", _absolute((FIG4C, VIT)))
register("absolute shift of the best learning rate for 8 times the depth, ConvNet of Fig. 4a", _absolute(OVER_DEPTH))
register(
    "shift of the best learning rate for 8 times the depth, ViT, without minus with 1/sqrt(L) in the rate",
    _difference((FIG4C, VIT_NO_ROOT), (FIG4C, VIT)),
)
register("slope of the late sharpness of the Hessian in the depth, ViT", _scaled_slope(FIG4C, VIT))
register("absolute slope of the late sharpness of the Hessian in the depth, ViT", _absolute_scaled_slope(FIG4C, VIT))
register("slope of the late sharpness in the depth, ConvNet of Fig. 4a", _conv_slope)

# --- Figure 15 --------------------------------------------------------------------------------------------------------

for _label in (GPT, GPT_NO_ROOT):
    register(f"absolute shift of the best learning rate for 8 times the depth, {_label}", _absolute((FIG15, _label)))
register(
    "shift of the best learning rate for 8 times the depth, GPT, without minus with 1/sqrt(L) in the rate",
    _difference((FIG15, GPT_NO_ROOT), (FIG15, GPT)),
)
register(
    "absolute slope of the late sharpness of the Hessian in the depth, GPT without 1/sqrt(L) in the rate",
    _absolute_scaled_slope(FIG15, GPT_NO_ROOT),
)

# --- Figure 16 --------------------------------------------------------------------------------------------------------

for _label in (POST_LN, POST_LN_SP):
    register(
        f"shift of the best learning rate for 16 times the width, post-LN transformer under {_label}",
        _shift((FIG16, _label)),
    )
    register(
        f"absolute slope of the late preconditioned sharpness in the width, post-LN transformer under {_label}",
        _slope(FIG16, _label, "width"),
    )

# --- CompleteP --------------------------------------------------------------------------------------------------------

register(
    "absolute shift of the best learning rate for 8 times the depth, CompleteP", _absolute((COMPLETEP, COMPLETE_P))
)
for _label in (COMPLETE_P, U_MUP):
    register(
        f"by how much more the best learning rate moves with the depth under Depth-muP than under {_label}",
        _difference((COMPLETEP, DEPTH_MUP), (COMPLETEP, _label), absolute=True),
    )
