"""What the differences between our networks and the authors' do to the best learning rate, its transfer, and the start.

The unit is the seed. Two families: what is claimed of a choice is claimed of both, and judged by the one of which it
holds less.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, enough_seeds, largest_estimate, register
from featurespeed.papers.super_consistency.conventions.analysis import Variant, families, variant
from featurespeed.papers.super_consistency.shared import decidable, numbers, simultaneous, smallest_of
from featurespeed.statistics import Interval, exponential, mean_interval

ARTEFACT = "sc_conventions"
NINE, POOLING, OURS = "without the nine", "average pooling", "ours"


def _known(tables: Tables, label: str) -> Variant:
    """A network whose best learning rates can be told."""
    with decidable(ARTEFACT):
        found = variant(tables[ARTEFACT], label)
    if not found.optima.usable:
        raise Undecidable(f"{label}: best rates by width {found.optima.note()}")
    return found


def _pairs(tables: Tables, choice: str) -> list[tuple[Variant, Variant]]:
    """``(base, variant)`` of every family; the label of the variant ends with the choice."""
    pairs = []
    for base, labels in families(tables[ARTEFACT]).items():
        chosen = [label for label in labels[1:] if label.endswith(f", {choice}")]
        if not chosen:
            raise Undecidable(f"networks = {', '.join(labels)}: none of them is {base!r}, {choice}")
        pairs.append((_known(tables, base), _known(tables, chosen[0])))
    return pairs


def _each(values: list[np.ndarray]) -> list[Interval]:
    """Means over seeds, ``[seeds]`` a family, with intervals that hold together."""
    for own in values:
        enough_seeds(own)
    return [mean_interval(own, simultaneous(len(values))) for own in values]


def _fall(choice: str) -> Callable[[Tables], Estimate]:
    """log2 of the best rate of the base over that of the variant, smallest of all families."""

    def compute(tables: Tables) -> Estimate:
        pairs = _pairs(tables, choice)
        each = _each([base.log2_rates() - own.log2_rates() for base, own in pairs])
        return smallest_of(each, numbers((own.label for _, own in pairs), (one.value for one in each)))

    return compute


def _nearer(choice: str) -> Callable[[Tables], Estimate]:
    """Share of 2/eta_0 at which the variant starts over that of its base, smallest of all families."""

    def compute(tables: Tables) -> Estimate:
        pairs = _pairs(tables, choice)
        logs = [np.log(own.levels() / base.levels()) for base, own in pairs]
        each = [exponential(one, "geometric mean of ratios, t interval of the log") for one in _each(logs)]
        starts = numbers(
            (one.label for pair in pairs for one in pair),
            (float(np.exp(np.log(one.levels()).mean())) for pair in pairs for one in pair),
        )
        return smallest_of(each, f"sharpness(0) * eta_0/2: {starts}")

    return compute


@statistic("largest shift of the best learning rate for 16 times the width, all conventions")
def largest_shift(tables: Tables) -> Estimate:
    networks = [_known(tables, label) for labels in families(tables[ARTEFACT]).values() for label in labels]
    shifts = np.column_stack([own.shifts() for own in networks])
    return largest_estimate(shifts, note=numbers((own.label for own in networks), shifts.mean(0)))


register("fall of the best learning rate in steps of 2, without the nine", _fall(NINE))
register("fall of the best learning rate in steps of 2, average pooling", _fall(POOLING))
register("initial sharpness over 2/best learning rate, our networks over the authors'", _nearer(OURS))
register("initial sharpness over 2/best learning rate, average over max pooling", _nearer(POOLING))
