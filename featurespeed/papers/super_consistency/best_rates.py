"""Best learning rates over the sizes of a network, as the claims of several rooms ask for them.

The unit is the seed: one best rate at every size, one shift over all of them, and Student's t over seeds. What the runs
cannot tell is undecidable. Where networks train better the larger the rate until they fail, best rates are known
within bounds (:mod:`featurespeed.sweeps.brackets`): the functions that are called ``bounded`` say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, enough_seeds, largest_estimate, mean_estimate
from featurespeed.papers.super_consistency.shared import decidable, late_losses, network, numbers
from featurespeed.sweeps import brackets, dependence
from featurespeed.sweeps.brackets import Ranges
from featurespeed.sweeps.losses import Losses
from featurespeed.sweeps.optima import Optima, optima

LEAST_SPAN = 8  # ratio of the sizes that is needed for a shift
FEWEST_PUBLISHED = 3  # sizes that a run and the authors' sweep must share

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
    found = optima(losses)
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


def shift_difference(tables: Tables, first: Place, second: Place, span: float, size: str = "width") -> Estimate:
    """Shift of one network minus that of another, paired by seed."""
    found = [best_rates(tables, *place, size) for place in (first, second)]
    one, other = (own.shifts(span) for own in found)
    return mean_estimate(one - other, _notes((first, second), found))


# --- within bounds ----------------------------------------------------------------------------------------------------


def bounded_rates(tables: Tables, artefact: str, label: str, size: str = "width") -> Optima:
    """Best learning rates of every seed and size, which may lie next to a rate that failed."""
    return bounded(optima(losses_of(tables, artefact, label, size)), label, size)


def bounded(found: Optima, label: str, size: str = "width") -> Optima:
    """The same learning rates, if there is one of every seed and size; some may have bounds only."""
    if not brackets.is_known(found):
        raise Undecidable(f"{label}: best rates by {size} {found.bounded_note()}")
    return found


def bounded_shift(tables: Tables, artefact: str, label: str, span: float, size: str = "width") -> Estimate:
    """:func:`shift` of best learning rates that are known within bounds."""
    found = bounded_rates(tables, artefact, label, size)
    note = f"best rates of {label} by {size} {found.bounded_note()}"
    return ranges_estimate(brackets.shifts(found, span), note)


def absolute_shift(tables: Tables, artefact: str, label: str, span: float, size: str = "width") -> Estimate:
    """:func:`bounded_shift` without its sign, which is that of the mean over seeds."""
    found = bounded_rates(tables, artefact, label, size)
    note = f"best rates of {label} by {size} {found.bounded_note()}"
    return ranges_estimate(brackets.shifts(found, span).upwards(), note)


def largest_bounded_shift(tables: Tables, places: Sequence[Place], span: float, size: str = "width") -> Estimate:
    """:func:`largest_shift` of best learning rates that are known within bounds."""
    found = [bounded_rates(tables, *place, size) for place in places]
    return largest_range([brackets.shifts(own, span) for own in found], _bounded_notes(places, found))


def bounded_difference(
    tables: Tables, first: Place, second: Place, span: float, size: str = "width", absolute: bool = False
) -> Estimate:
    """:func:`shift_difference` of best learning rates that are known within bounds.

    Args:
        absolute: of the shifts without their signs, which are those of the means over seeds.
    """
    found = [bounded_rates(tables, *place, size) for place in (first, second)]
    one, other = (brackets.shifts(own, span) for own in found)
    if absolute:
        one, other = one.upwards(), other.upwards()
    return ranges_estimate(one - other, _bounded_notes((first, second), found))


def stable_shift(tables: Tables, artefact: str, label: str, span: float, size: str = "width") -> Estimate:
    """Shift of the largest learning rate up to which networks train, over a factor ``span`` in the size."""
    with decidable(label):
        found = brackets.largest_stable(losses_of(tables, artefact, label, size))
    return ranges_estimate(brackets.shifts(found, span), f"{label}: from {found.bounded_note()} on networks fail")


def from_published(
    tables: Tables, artefact: str, label: str, theirs: Mapping[int, float], size: str = "width"
) -> Estimate:
    """Largest ``|log2(best rate / theirs)|`` over the sizes of both, simultaneous t intervals.

    Args:
        theirs: size -> best learning rate of the authors' own sweep.
    """
    found = bounded_rates(tables, artefact, label, size)
    shared = [place for place, own in enumerate(found.sizes) if int(own) in theirs]
    if len(shared) < FEWEST_PUBLISHED:
        raise Undecidable(f"{label}: {len(shared)} {size}s of the authors' sweep, {FEWEST_PUBLISHED} are needed")
    rates, ours = [theirs[int(found.sizes[place])] for place in shared], brackets.best(found)
    note = f"best rates of {label} by {size} {found.bounded_note()}; theirs {numbers(found.sizes[shared], rates)}"
    return largest_range([ours[place].beyond(np.log2(rate)) for place, rate in zip(shared, rates, strict=True)], note)


def ranges_estimate(values: Ranges, note: str = "") -> Estimate:
    """Mean over seeds of what is known within bounds."""
    enough_seeds(values.value)
    return as_estimate(values.interval(), note)


def largest_range(parts: Sequence[Ranges], note: str = "") -> Estimate:
    """Largest absolute mean of several numbers that are known within bounds, with simultaneous intervals."""
    for own in parts:
        enough_seeds(own.value)
    return as_estimate(brackets.largest(parts), note)


def _bounded_notes(places: Sequence[Place], found: Sequence[Optima]) -> str:
    return "; ".join(
        f"best rates of {label} {own.bounded_note()}" for (_, label), own in zip(places, found, strict=True)
    )


def _notes(places: Sequence[Place], found: Sequence[Optima]) -> str:
    return "; ".join(f"best rates of {label} {own.note()}" for (_, label), own in zip(places, found, strict=True))
