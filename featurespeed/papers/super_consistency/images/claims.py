"""Figures 17, 18 and 19: do the best learning rate and the sharpness of residual networks on larger images depend on
the width and on the depth?

The unit is the seed: one exponent in the size, one shift of the best learning rate, Student's t over seeds. Sharpness
is looked at at the learning rate that is best for all sizes of those where it was measured, without the seeds of which
a network failed there; that of NTP at one rate for all widths, at which its narrowest network is as near to the edge of
stability as muP's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, largest_estimate, register, register_premise
from featurespeed.papers.super_consistency.best_rates import bounded_shift
from featurespeed.papers.super_consistency.images.spec import DEPTH_MUP, NO_ROOT
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    MUP,
    NTP,
    below_the_edge,
    best_measured,
    decidable,
    late_exponents,
    levels,
    measured_rates,
    network,
    sharpens,
    trained,
    without_failed_seeds,
)
from featurespeed.sweeps import dependence
from featurespeed.sweeps.convergence import Curves

OVER_WIDTH = {"Fig. 17": "sc_fig17", "Fig. 19": "sc_fig19"}
OVER_DEPTH = "sc_fig18"
WIDTHS, DEPTHS = 16, 8  # ratios of sizes over which shifts are stated


# --- the best learning rate -------------------------------------------------------------------------------------------


def _shift(artefact: str, label: str, span: float, size: str) -> Callable[[Tables], Estimate]:
    return lambda tables: bounded_shift(tables, artefact, label, span, size)


# --- the sharpness ----------------------------------------------------------------------------------------------------


def _slope(artefact: str, label: str, size: str) -> Callable[[Tables], Estimate]:
    """Absolute slope of the late sharpness at the best of the measured rates."""

    def compute(tables: Tables) -> Estimate:
        found, left_out = trained(tables, artefact, label, HESSIAN, size=size)
        return largest_estimate(late_exponents(found, label)[:, None], note=levels(found, label) + left_out)

    return compute


def ntp_matched(tables: Tables, artefact: str) -> tuple[Curves, str]:
    """NTP's sharpness at the one rate at which its narrowest network comes nearest to muP's at its best measured rate,
    or at the largest smaller one where that is below the edge; and a note on the seeds of which a network failed there.
    """
    own, _ = without_failed_seeds(network(tables, artefact, MUP), HESSIAN)
    level = dependence.edge_level(below_the_edge(own, trained(tables, artefact, MUP, HESSIAN)[0].rate))
    found, left_out, rows = [], {}, network(tables, artefact, NTP)
    for rate in measured_rates(rows, HESSIAN):
        kept, note = without_failed_seeds(rows[np.isclose(rows["learning_rate"], rate)], HESSIAN)
        with suppress(Undecidable):  # too many failed at this rate
            found.append(best_measured(kept, HESSIAN))
            left_out[found[-1].rate] = note
    with decidable(NTP):
        chosen = dependence.matched(found, level)
    return chosen, left_out[chosen.rate]


def _slope_ntp(artefact: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found, left_out = ntp_matched(tables, artefact)
        return largest_estimate(late_exponents(found, NTP)[:, None], note=levels(found, NTP) + left_out)

    return compute


# --- names ------------------------------------------------------------------------------------------------------------

for _figure, _artefact in OVER_WIDTH.items():
    for _label in (MUP, NTP):
        register(
            f"shift of the best learning rate for 16 times the width, {_label} of {_figure}",
            _shift(_artefact, _label, WIDTHS, "width"),
        )
    register(f"absolute slope of the late sharpness in the width, muP of {_figure}", _slope(_artefact, MUP, "width"))
    register(
        f"absolute slope of the late sharpness in the width, NTP at a matched rate, {_figure}", _slope_ntp(_artefact)
    )

for _label in (DEPTH_MUP, NO_ROOT):
    register(
        f"shift of the best learning rate for 8 times the depth, {_label} of Fig. 18",
        _shift(OVER_DEPTH, _label, DEPTHS, "depth"),
    )
    register(
        f"absolute slope of the late sharpness in the depth, {_label} of Fig. 18",
        _slope(OVER_DEPTH, _label, "depth"),
    )

# --- premises ---------------------------------------------------------------------------------------------------------

PREMISES = {
    "sharpening from below the edge of stability, muP of Fig. 17": (OVER_WIDTH["Fig. 17"], MUP, "width"),
    "sharpening from below the edge of stability, Depth-muP of Fig. 18": (OVER_DEPTH, DEPTH_MUP, "depth"),
    "sharpening from below the edge of stability, muP of Fig. 19": (OVER_WIDTH["Fig. 19"], MUP, "width"),
}


def _sharpening(artefact: str, label: str, size: str) -> Callable[[Tables], Condition]:
    """Every size begins below 2/eta_0, and its sharpness at least doubles until the second half (means over seeds)."""
    return lambda tables: sharpens(trained(tables, artefact, label, HESSIAN, size=size)[0])


for _name, _place in PREMISES.items():
    register_premise(_name, _sharpening(*_place))
