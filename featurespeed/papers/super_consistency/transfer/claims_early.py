"""Figure 24: the sharpness in the first steps, and how soon it rises to the edge of stability, over the width.

A network may begin above the edge, because its outputs are not yet small; it then counts when it has fallen below and
sharpened up to the edge again.
The learning rate is the one that the settings show for each network. All intervals are bootstrapped over seeds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, register
from featurespeed.papers.super_consistency.transfer.claims import (
    MUP,
    NTP,
    enough_sizes,
    late_sharpness,
    network,
    numbers,
)
from featurespeed.sweeps import transfer
from featurespeed.sweeps.transfer import Arrival, over_seeds

ARTEFACT = "sc_fig24"


def shown_rate(tables: Tables, series: str) -> float:
    """The learning rate that is looked at."""
    shown = transfer.settings(tables[ARTEFACT])["shown"]
    if series not in shown:
        raise Undecidable(f"{ARTEFACT}.shown = {shown}: has no learning rate of {series}")
    return shown[series]


def _spread(series: str) -> Callable[[Tables], Estimate]:
    """CV over widths of the sharpness averaged over the second half of the early steps."""

    def compute(tables: Tables) -> Estimate:
        rows, rate = network(tables, ARTEFACT, series), shown_rate(tables, series)
        early = late_sharpness(rows, rate, transfer.settings(tables[ARTEFACT])["early_steps"])
        sizes = np.sort(rows["width"].unique())
        note = f"at {rate:g}, sharpness eta_0/2 by width {numbers(sizes, early.mean(0) * rate / 2)}"
        return as_estimate(over_seeds(lambda chosen: transfer.spread(early[chosen]), len(early)), note)

    return compute


def arrival(tables: Tables, series: str) -> tuple[Arrival, str]:
    """When every width reaches the edge of stability, over all of training, and a note."""
    rows, rate = network(tables, ARTEFACT, series), shown_rate(tables, series)
    if not np.isclose(transfer.measured_rates(rows, "sharpness"), rate).any():
        raise Undecidable(f"{series}: the sharpness was not measured at {rate:g}, see networks.{series}.measured")
    found = transfer.arrival(rows, rate)
    medians = found.medians()
    note = f"at {rate:g}, steps by width {numbers(found.sizes, medians)}"
    starts = ", ".join(str(size) for size, median in zip(found.sizes, medians, strict=True) if median == 0)
    if starts:
        raise Undecidable(
            f"{series}: N = {starts} is above the edge from the beginning on; {note}; shown.{series} must be smaller"
        )
    if np.isinf(medians).all():
        raise Undecidable(f"{series}: no width gets there in {found.last} steps; shown.{series} must be larger")
    return found, note


def _edge_ratio(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found, note = arrival(tables, series)
        if np.isinf(found.medians()).any():
            note += f"; inf: not within {found.last} steps, the value is a lower bound"
        return as_estimate(found.ratio_interval(), note)

    return compute


def _edge_ranks(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found, note = arrival(tables, series)
        enough_sizes(found.sizes)
        return as_estimate(over_seeds(found.ranks, len(found.steps)), note)

    return compute


for _series in (MUP, NTP):
    register(f"spread of the sharpness over widths, {_series}, early steps", _spread(_series))
    register(f"largest over smallest number of steps to the edge, {_series}", _edge_ratio(_series))
    register(f"rank correlation of width and steps to the edge, {_series}", _edge_ranks(_series))
