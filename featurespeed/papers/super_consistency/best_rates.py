"""Best learning rates over the sizes of a network, as the claims of several rooms ask for them.

The unit is the seed: one best rate at every size, one shift over all of them, and Student's t over seeds. What the runs
cannot tell is undecidable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, largest_estimate, mean_estimate
from featurespeed.papers.super_consistency.shared import late_losses, network
from featurespeed.sweeps import dependence
from featurespeed.sweeps.dependence import Optima
from featurespeed.sweeps.transfer import Losses

LEAST_SPAN = 8  # ratio of the sizes that is needed for a shift

Place = tuple[str, str]  # artefact, label of the network


def losses_of(tables: Tables, artefact: str, label: str, size: str = "width") -> Losses:
    """Losses at the end of training, over sizes from which shifts can be told."""
    losses = late_losses(network(tables, artefact, label, size), size)
    if losses.sizes[-1] < LEAST_SPAN * losses.sizes[0] or len(losses.sizes) < dependence.FEWEST_SIZES:
        sizes = ", ".join(map(str, losses.sizes))
        raise Undecidable(f"{label}: {size}s {sizes}: three over a factor {LEAST_SPAN} are needed")
    return losses


def optima_of(losses: Losses, label: str, size: str = "width") -> Optima:
    """Best learning rates of every seed and size, if they can be told."""
    found = dependence.optima(losses)
    if not found.usable:
        raise Undecidable(f"{label}: best rates by {size} {found.note()}")
    return found


def best_rates(tables: Tables, artefact: str, label: str, size: str = "width") -> Optima:
    """:func:`optima_of` the network with this label."""
    return optima_of(losses_of(tables, artefact, label, size), label, size)


def shift(tables: Tables, artefact: str, label: str, span: float, size: str = "width") -> Estimate:
    """Shift of the best learning rate over a factor ``span`` in the size, in steps of 2."""
    found = best_rates(tables, artefact, label, size)
    return mean_estimate(found.shifts(span), f"best rates of {label} by {size} {found.note()}")


def largest_shift(tables: Tables, places: Sequence[Place], span: float, size: str = "width") -> Estimate:
    """The largest absolute shift of several networks, with simultaneous intervals."""
    found = [best_rates(tables, *place, size) for place in places]
    return largest_estimate(np.column_stack([own.shifts(span) for own in found]), note=_notes(places, found))


def shift_difference(
    tables: Tables, first: Place, second: Place, span: float, size: str = "width", absolute: bool = False
) -> Estimate:
    """Shift of one network minus that of another, paired by seed.

    Args:
        absolute: without their signs, which are those of the means over seeds.
    """
    found = [best_rates(tables, *place, size) for place in (first, second)]
    shifts = [own.shifts(span) for own in found]
    values = dependence.steeper(*shifts) if absolute else shifts[0] - shifts[1]
    return mean_estimate(values, _notes((first, second), found))


def _notes(places: Sequence[Place], found: Sequence[Optima]) -> str:
    return "; ".join(f"best rates of {label} {own.note()}" for (_, label), own in zip(places, found, strict=True))
