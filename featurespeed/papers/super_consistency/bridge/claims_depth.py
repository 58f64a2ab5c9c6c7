"""Does the angle's law in the depth say when the learning rate stops to transfer over it (ours)?

Residual networks of one and two layers a block, with and without 1/sqrt(L) on their branches. The unit is the seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, enough_seeds, per_table, register
from featurespeed.papers.super_consistency.best_rates import bounded, largest_range, ranges_estimate
from featurespeed.papers.super_consistency.bridge import analysis
from featurespeed.papers.super_consistency.bridge.analysis import Network
from featurespeed.papers.super_consistency.bridge.spec import OVER_DEPTH
from featurespeed.papers.super_consistency.shared import decidable, numbers
from featurespeed.sweeps.brackets import ordered_difference

ARTEFACT = "sc_bridge_depth"
PREDICTORS = ("angle", "feature sensitivity", "sharpness")

_network = per_table(analysis.network)


def _networks(tables: Tables) -> list[Network]:
    """All four, of which the best learning rates can be told."""
    found = {label: _network(tables[ARTEFACT], label) for label in OVER_DEPTH}
    for label, own in found.items():
        if own is None:
            raise Undecidable(f"this run has no measurements of {label}")
        bounded(own.optima, label, "depth")
    return list(found.values())


def _laws(networks: list[Network], name: str) -> np.ndarray:
    """Exponents in the depth of a quantity before the first step, ``[seeds, networks]``."""
    with decidable(f"{name} at step 0"):
        laws = np.column_stack([own.start_exponents(name) for own in networks])
    enough_seeds(laws)
    return laws


def _ordering(name: str, mispaired: bool) -> Callable[[Tables], Estimate]:
    """How much more the best rate moves where a quantity depends more on the depth, mean over pairs of networks."""

    def compute(tables: Tables) -> Estimate:
        networks = _networks(tables)
        laws, shifts = _laws(networks, name), [own.bounded_shifts() * (1 / np.log2(own.span)) for own in networks]
        labels = [own.label for own in networks]
        rates = numbers(labels, (own.value.mean() for own in shifts))
        note = f"exponents of {name} {numbers(labels, laws.mean(0))}; of the rate {rates}"
        return ranges_estimate(ordered_difference(laws, [*shifts[1:], shifts[0]] if mispaired else shifts), note)

    return compute


def _largest_error(name: str, mispaired: bool) -> Callable[[Tables], Estimate]:
    """Largest error of the shift that keeps learning rate times a quantity constant, in steps of 2."""

    def compute(tables: Tables) -> Estimate:
        networks = _networks(tables)
        _laws(networks, name)
        errors = analysis.bounded_errors(networks, name, mispaired)
        note = numbers((own.label for own in networks), (own.value.mean() for own in errors))
        return largest_range(errors, note)

    return compute


for _mispaired, _suffix in ((False, ""), (True, ", wrong networks")):
    register(f"excess shift of the rate where the angle depends on the depth{_suffix}", _ordering("angle", _mispaired))
    for _name in PREDICTORS:
        register(
            f"largest error of the shift over the depth predicted from the {_name}{_suffix}",
            _largest_error(_name, _mispaired),
        )
