"""Both papers at once (ours): shifts predicted by the first one's quantities, spreads over sizes, weight decay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, per_table, register
from featurespeed.papers.super_consistency.bridge import analysis
from featurespeed.papers.super_consistency.bridge.analysis import PREDICTOR, QUANTITIES, SHIFTED, Network, Prediction
from featurespeed.sweeps.transfer import over_seeds

ARTEFACT = "sc_bridge"
OVER_WIDTH = ("muP", "NTP")
FEWEST_CELLS = 10  # networks times probe steps that a rank correlation needs
NOTHING = "no shift"


_network = per_table(analysis.network)


def _networks(tables: Tables, labels: Sequence[str] = SHIFTED) -> list[Network]:
    """All of them, or undecidable: a largest error over fewer networks would be another claim."""
    found = {label: _network(tables[ARTEFACT], label) for label in labels}
    missing = [label for label, own in found.items() if own is None]
    if missing:
        raise Undecidable(f"this run has no measurements of {missing[0]}")
    return list(found.values())


def _prediction(networks: Sequence[Network], name: str | None) -> Prediction:
    made = analysis.prediction(networks, name)
    for own, error in zip(networks, made.errors(), strict=True):
        if np.isnan(error):
            raise Undecidable(
                f"{own.label}: no best learning rate at one of its ends, or nothing measured at the start"
            )
    return made


def _largest_error(name: str | None, labels: Sequence[str] = SHIFTED) -> Callable[[Tables], Estimate]:
    """Largest absolute difference of predicted and observed shift over the networks, in steps of 2."""

    def compute(tables: Tables) -> Estimate:
        networks = _networks(tables, labels)
        return as_estimate(_prediction(networks, name).largest_interval(), _each(networks, name))

    return compute


def _each(networks: Sequence[Network], name: str | None) -> str:
    """Predicted and observed shift of every network; an observed one that is only a bound says so."""
    parts = []
    for own in networks:
        predicted = 0.0 if name is None else analysis.predicted_shift(own.at_start(name))
        low, high = own.losses.shift_bounds()
        sign = "at most " if np.isinf(low) else "at least " if np.isinf(high) else ""
        parts.append(f"{own.label}: predicted {predicted:.2f}, observed {sign}{own.losses.shift():.0f}")
    return "; ".join(parts)


def _advantage(mispaired: bool) -> Callable[[Tables], Estimate]:
    """Largest error of the initial sharpness minus that of the sensitivity."""

    def compute(tables: Tables) -> Estimate:
        networks = _networks(tables)
        ours, other = _prediction(networks, PREDICTOR), _prediction(networks, "sharpness")
        ours = ours.mispaired() if mispaired else ours
        seeds = networks[0].seeds
        return as_estimate(
            over_seeds(lambda chosen: float(other.errors(chosen).max() - ours.errors(chosen).max()), seeds)
        )

    return compute


def _correlation(name: str, mispaired: bool) -> Callable[[Tables], Estimate]:
    """Rank correlation, over networks and probe steps, of the spreads over sizes of a quantity and of the sharpness."""

    def compute(tables: Tables) -> Estimate:
        found = {own.label: analysis.cell_values(own, name) for own in _networks(tables)}
        cells = {label: values for label, values in found.items() if values is not None}
        count = sum(values[0].shape[-1] for values in cells.values())
        if len(cells) < 2 or count < FEWEST_CELLS:
            raise Undecidable(f"{count} cells of {len(cells)} networks: at least {FEWEST_CELLS} of 2 are needed")
        pairs = list(cells.values())
        partners = np.roll(np.arange(len(pairs)), -1) if mispaired else None
        interval = over_seeds(lambda chosen: analysis.cell_correlation(pairs, chosen, partners), len(pairs[0][0]))
        return as_estimate(interval, f"{count} cells: {'; '.join(cells)}")

    return compute


def _share(member: Network, name: str, rate: float) -> Callable[[np.ndarray], float]:
    """Share of training over which a quantity is independent of the width, as a function of the seeds."""
    _, steps, values = member.curves(name, rate)
    if len(steps) < 2:
        raise Undecidable(f"{member.label}: {len(steps)} probe steps, at least 2 are needed")
    return lambda chosen: analysis.share_held(steps, analysis.spreads(values, chosen))


def _pair(tables: Tables, label: str) -> tuple[Network, Network, float]:
    pair = analysis.decay_pair(tables[ARTEFACT], label)
    if pair is None:
        raise Undecidable(f"{label}: no learning rate at which all train with and without weight decay")
    return pair


def _held(label: str, name: str) -> Callable[[Tables], Estimate]:
    """Share of training over which the spread of a quantity over the widths is at most 0.15, without decay."""

    def compute(tables: Tables) -> Estimate:
        (own,) = _networks(tables, (label,))
        rate = own.rate()
        if rate is None:
            raise Undecidable(f"{label}: no measured learning rate at which all train")
        return as_estimate(over_seeds(_share(own, name, rate), own.seeds), f"learning rate {rate:g}")

    return compute


def _kept(name: str, instead: tuple[str, str] | None = None) -> Callable[[Tables], Estimate]:
    """:func:`_held` of muP with weight decay minus that without; ``instead`` of decay: (network, quantity)."""

    def compute(tables: Tables) -> Estimate:
        plain, decayed, rate = _pair(tables, "muP")
        without, with_ = _share(plain, name, rate), _share(decayed, name, rate)
        if instead is not None:
            other, _, other_rate = _pair(tables, instead[0])
            with_ = _share(other, instead[1], other_rate)
        everyone = np.arange(plain.seeds)
        note = f"share of training {with_(everyone):.2f} and {without(everyone):.2f}, learning rate {rate:g}"
        return as_estimate(over_seeds(lambda chosen: with_(chosen) - without(chosen), plain.seeds), note)

    return compute


for _name in (*QUANTITIES, None):
    register(f"largest error of the predicted shift, {_name or NOTHING}", _largest_error(_name))
for _name in (PREDICTOR, None):
    register(
        f"largest error of the predicted shift over the width, {_name or NOTHING}", _largest_error(_name, OVER_WIDTH)
    )
for _mispaired, _suffix in ((False, ""), (True, ", wrong networks")):
    register(f"advantage over the initial sharpness{_suffix}", _advantage(_mispaired))
    for _name in (PREDICTOR, "feature speed", "angle"):
        register(f"rank correlation of spreads, {_name} and sharpness{_suffix}", _correlation(_name, _mispaired))
for _label, _name in (("muP", "angle"), ("muP", "sharpness"), ("NTP", "sharpness"), ("NTP", PREDICTOR)):
    register(f"share of training independent of the width, {_name}, {_label}", _held(_label, _name))
for _name in ("angle", "sharpness"):
    register(f"what weight decay adds to the share of training, {_name}", _kept(_name))
    register(f"what NTP adds to the share of training, {_name}", _kept(_name, ("NTP", PREDICTOR)))
