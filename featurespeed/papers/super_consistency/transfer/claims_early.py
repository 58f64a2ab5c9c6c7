"""Figure 24: the sharpness at initialisation and in the first steps, and how soon it rises to the edge, over the width.

muP is looked at at the learning rate that the settings show. Where NTP is compared with it, it has one rate for all
widths, at which its narrowest network is as near to the edge as muP's at that rate or, where muP's is at the edge, at
the largest smaller rate at which it is below; who arrives when is asked at the rate shown. A network may begin above
the edge, because its outputs are not yet small: then there is nothing to rise to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable, premise
from featurespeed.ledger.evidence import Tables, largest_estimate, mean_estimate, register
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    MUP,
    NTP,
    begins_below_the_edge,
    below_the_edge,
    curves_at,
    decidable,
    exponents,
    matched,
    network,
    numbers,
    slope_estimate,
)
from featurespeed.sweeps import dependence, transfer
from featurespeed.sweeps.convergence import Curves

ARTEFACT = "sc_fig24"


def shown(tables: Tables, label: str) -> Curves:
    """The sharpness at the learning rate that is looked at, over all of training."""
    rates = transfer.settings(tables[ARTEFACT])["shown"]
    if label not in rates:
        raise Undecidable(f"{ARTEFACT}.shown = {rates}: has no learning rate of {label}")
    return curves_at(network(tables, ARTEFACT, label), HESSIAN, rates[label])


def _early(tables: Tables, label: str) -> Curves:
    """The early steps: of muP at the rate shown, of NTP at one matched to muP there, or :func:`below_the_edge`."""
    until = transfer.settings(tables[ARTEFACT])["early_steps"]
    own = shown(tables, MUP)
    if label == MUP:
        return own.until(until)
    reference = below_the_edge(network(tables, ARTEFACT, MUP), own.rate, until)
    return matched(network(tables, ARTEFACT, label), HESSIAN, dependence.edge_level(reference), until)


def _slope(label: str) -> Callable[[Tables], Estimate]:
    return lambda tables: slope_estimate(_early(tables, label), label)


def _initial(tables: Tables) -> Estimate:
    """Largest absolute slope of lambda(0) in the width, of muP and NTP."""
    found = {label: shown(tables, label) for label in (MUP, NTP)}
    slopes = [exponents(own.sizes, own.values[..., 0], label) for label, own in found.items()]
    note = "; ".join(f"{label} {numbers(own.sizes, own.values[..., 0].mean(0))}" for label, own in found.items())
    return largest_estimate(np.column_stack(slopes), note=f"step {found[MUP].steps[0]}, sharpness by width {note}")


def _early_ntp(tables: Tables) -> Estimate:
    found = _early(tables, NTP)
    return largest_estimate(exponents(found.sizes, found.late(), NTP)[:, None], note=f"at {found.rate:g}")


def _arrival(label: str) -> Callable[[Tables], Estimate]:
    """Slope of log(steps until the sharpness rises to 0.9 * 2/eta_0) in log N, over all of training."""

    def compute(tables: Tables) -> Estimate:
        rate = shown(tables, label).rate
        found = transfer.arrival(network(tables, ARTEFACT, label), rate)
        note = f"{label} at {rate:g}, median steps by width {numbers(found.sizes, found.medians())}"
        with decidable(note):
            slopes = dependence.arrival_exponents(found)
        never = int(np.isinf(found.steps).sum())
        late = (
            f"; {never} of {found.steps.size} networks never arrive and count with step {found.last}" if never else ""
        )
        return mean_estimate(slopes, note + late)

    return compute


@premise("below the edge of stability at the start, Fig. 24")
def shown_begin_below(tables: Tables) -> Condition:
    """Every width of muP and NTP begins below 2/eta_0 at the rate shown (means over seeds)."""
    return begins_below_the_edge(*(shown(tables, label) for label in (MUP, NTP)))


for _label in (MUP, NTP):
    register(f"slope of the early sharpness in the width, {_label}", _slope(_label))
    register(f"slope of the steps to the edge in the width, {_label}", _arrival(_label))
register("largest slope of the initial sharpness in the width, muP and NTP", _initial)
register("absolute slope of the early sharpness in the width, NTP", _early_ntp)
