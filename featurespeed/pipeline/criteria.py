"""The criteria of all rooms with the statistics and premises that they name: for who judges them, and so has pandas."""

from __future__ import annotations

from featurespeed.ledger.criteria import Criterion, Names, load_all
from featurespeed.ledger.engine import PREMISES, STATISTICS
from featurespeed.pipeline.registry import ARTEFACTS, PLANNED, criteria_files, load_statistics


def criteria_names() -> Names:
    """What criteria may name: the statistics and premises of all rooms, and the artefacts of the registry."""
    load_statistics()
    return Names(STATISTICS, PREMISES, (*ARTEFACTS, *PLANNED))


def all_criteria() -> list[Criterion]:
    """The criteria of all rooms.

    Raises:
        CriteriaError: one line about the first fault.
    """
    return load_all(criteria_files(), criteria_names())
