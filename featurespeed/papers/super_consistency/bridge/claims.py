"""Both papers at once (ours): the thesis over all networks, shifts predicted at initialisation, weight decay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, enough_seeds, largest_estimate, mean_estimate, per_table, register
from featurespeed.papers.super_consistency.bridge import analysis
from featurespeed.papers.super_consistency.bridge.analysis import PREDICTOR, QUANTITIES, SHIFTED, Network
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    MUP,
    NTP,
    below_the_edge,
    curves_at,
    decidable,
    late_exponents,
    matched,
    numbers,
    simultaneous,
    smallest_of,
)
from featurespeed.statistics import mean_interval
from featurespeed.sweeps.convergence import Curves
from featurespeed.sweeps.dependence import edge_level, ordered_difference

ARTEFACT = "sc_bridge"

_network = per_table(analysis.network)


def _networks(tables: Tables, labels: Sequence[str] = SHIFTED) -> list[Network]:
    """All of them, or undecidable: a largest error over fewer networks would be another claim."""
    found = {label: _network(tables[ARTEFACT], label) for label in labels}
    missing = [label for label, own in found.items() if own is None]
    if missing:
        raise Undecidable(f"this run has no measurements of {missing[0]}")
    return list(found.values())


def _shifted(tables: Tables) -> list[Network]:
    """:func:`_networks`, of all of which the best learning rates can be told."""
    networks = _networks(tables)
    for own in networks:
        if not own.optima.usable:
            raise Undecidable(f"{own.label}: best rates by {own.size} {own.optima.note()}")
    return networks


# --- the thesis -------------------------------------------------------------------------------------------------------


def _rate(own: Network) -> float:
    rate = own.rate()
    if rate is None:
        raise Undecidable(f"{own.label}: no measured learning rate at which all train")
    return rate


def _sharpness(tables: Tables, own: Network) -> Curves:
    """muP's sharpness near its best rate; of other networks at one rate matched to it at the smallest size, or where
    muP's smallest network is at the edge there, to muP's at the largest smaller rate at which it is below.
    """
    if own.label == MUP:
        return curves_at(own.rows, HESSIAN, _rate(own))
    (reference,) = _networks(tables, (MUP,))
    level = edge_level(below_the_edge(reference.rows, _rate(reference)))
    return matched(own.rows, HESSIAN, level, size=own.size)


def _thesis(mispaired: bool) -> Callable[[Tables], Estimate]:
    """How much more the best rate moves where the sharpness depends more on the size: exponents, pairs of networks.

    One network is left out at a time, and the smallest of the estimates counts, so that none of them decides alone.
    ``mispaired``: each network with the shift of the next one.
    """

    def compute(tables: Tables) -> Estimate:
        networks = _shifted(tables)
        slopes = np.column_stack([_late(tables, own) for own in networks])
        shifts = np.column_stack([own.shifts() / np.log2(own.span) for own in networks])
        each = "; ".join(
            f"{own.label}: sharpness {slope:.2f}, rate {shift:.2f}"
            for own, slope, shift in zip(networks, slopes.mean(0), shifts.mean(0), strict=True)
        )
        shifts = np.roll(shifts, -1, axis=1) if mispaired else shifts
        without = np.column_stack([ordered_difference(*_without(k, slopes, shifts)) for k in range(len(networks))])
        enough_seeds(without)
        left_out = numbers((own.label for own in networks), without.mean(0))
        intervals = [mean_interval(column, simultaneous(len(networks))) for column in without.T]
        return smallest_of(intervals, f"{each}; without one network: {left_out}")

    return compute


def _without(k: int, *columns: np.ndarray) -> list[np.ndarray]:
    return [np.delete(values, k, axis=1) for values in columns]


def _late(tables: Tables, own: Network) -> np.ndarray:
    return late_exponents(_sharpness(tables, own), own.label)


# --- predictions at initialisation ------------------------------------------------------------------------------------


def _errors(networks: Sequence[Network], name: str, mispaired: bool = False) -> np.ndarray:
    with decidable(f"{name} at initialisation"):
        return analysis.prediction_errors(networks, name, mispaired)


def _largest_error(name: str, mispaired: bool) -> Callable[[Tables], Estimate]:
    """Largest absolute difference of predicted and observed shift over the networks, in steps of 2."""

    def compute(tables: Tables) -> Estimate:
        networks = _shifted(tables)
        errors = _errors(networks, name, mispaired)
        each = "; ".join(
            f"{own.label}: predicted {(error + own.shifts()).mean():.2f}, observed {own.shifts().mean():.2f}"
            for own, error in zip(networks, errors.T, strict=True)
        )
        return largest_estimate(errors, note=each)

    return compute


def _advantage(mispaired: bool) -> Callable[[Tables], Estimate]:
    """Mean absolute error over networks of the initial sharpness minus that of the sensitivity."""

    def compute(tables: Tables) -> Estimate:
        networks = _shifted(tables)
        other, ours = _errors(networks, "sharpness"), _errors(networks, PREDICTOR, mispaired)
        return mean_estimate(np.abs(other).mean(1) - np.abs(ours).mean(1))

    return compute


# --- along training ---------------------------------------------------------------------------------------------------


def _correlation(name: str, mispaired: bool) -> Callable[[Tables], Estimate]:
    """Rank correlation over the probe steps of how much a quantity and the sharpness depend on the size.

    One of each seed and network, the mean over networks. ``mispaired``: with the sharpness of the next network.
    """

    def compute(tables: Tables) -> Estimate:
        found = {own.label: analysis.cells(own, name) for own in _networks(tables)}
        pairs = {label: values for label, values in found.items() if values is not None}
        if len(pairs) < 2:
            raise Undecidable(f"{len(pairs)} networks with a learning rate at which all train: at least 2 are needed")
        found = analysis.correlations(list(pairs.values()), mispaired)
        if np.isnan(found).any():
            raise Undecidable(
                f"in some seed and network fewer than {analysis.FEWEST_STEPS} probe steps have both quantities,"
                " or one of them is constant"
            )
        return mean_estimate(found.mean(1), f"by network {numbers(pairs, found.mean(0))}")

    return compute


def _along(own: Network, name: str, rate: float) -> np.ndarray:
    """Absolute exponent in the size, mean over training, ``[seeds]``."""
    sizes, steps, values = own.curves(name, rate)
    if len(steps) < 2:
        raise Undecidable(f"{own.label}: {len(steps)} probe steps, at least 2 are needed")
    return analysis.along(steps, analysis.steepness(sizes, values))


def _dependence(tables: Tables, label: str, name: str) -> tuple[np.ndarray, float]:
    """:func:`_along` of muP near its best rate, of NTP at the matched one; and the rate."""
    (own,) = _networks(tables, (label,))
    rate = _sharpness(tables, own).rate
    return _along(own, name, rate), rate


def _held(label: str, name: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        values, rate = _dependence(tables, label, name)
        return mean_estimate(values, f"learning rate {rate:g}")

    return compute


def _added_by_decay(name: str) -> Callable[[Tables], Estimate]:
    """Dependence of a quantity on the width under muP with weight decay minus that without, at common widths."""

    def compute(tables: Tables) -> Estimate:
        pair = analysis.decay_pair(tables[ARTEFACT], MUP)
        if pair is None:
            raise Undecidable(f"{MUP}: no learning rate at which all train with and without weight decay")
        plain, decayed, rate = pair
        without, with_ = (_along(own, name, rate) for own in (plain, decayed))
        note = f"with {with_.mean():.3g}, without {without.mean():.3g}, learning rate {rate:g}"
        return mean_estimate(with_ - without, note)

    return compute


def _added_by_ntp(name: str) -> Callable[[Tables], Estimate]:
    """The same under NTP, at its matched rate, minus muP's."""

    def compute(tables: Tables) -> Estimate:
        return mean_estimate(_dependence(tables, NTP, name)[0] - _dependence(tables, MUP, name)[0])

    return compute


for _mispaired, _suffix in ((False, ""), (True, ", wrong networks")):
    register(f"least excess shift of the rate where the sharpness depends on the size{_suffix}", _thesis(_mispaired))
    register(f"advantage over the initial sharpness{_suffix}", _advantage(_mispaired))
    for _name in QUANTITIES:
        register(f"largest error of the predicted shift, {_name}{_suffix}", _largest_error(_name, _mispaired))
    for _name in (PREDICTOR, "feature speed", "angle"):
        register(
            f"rank correlation of slopes along training, {_name} and sharpness{_suffix}",
            _correlation(_name, _mispaired),
        )
for _name in ("angle", "sharpness"):
    for _label in (MUP, NTP):
        register(f"dependence on the width along training, {_name}, {_label}", _held(_label, _name))
    register(f"what weight decay adds to the dependence on the width, {_name}", _added_by_decay(_name))
    register(f"what NTP adds to the dependence on the width, {_name}", _added_by_ntp(_name))
