"""Of a room: its criteria with their statistics, its drawings, and the one style of all figures."""

from __future__ import annotations

from pathlib import Path

from featurespeed.drawing.making import Drawing
from featurespeed.ledger.criteria import Criterion, load_criteria
from featurespeed.ledger.engine import STATISTICS
from featurespeed.pipeline.criteria import criteria_names
from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF, ROOMS, Room, load_statistics
from tests.conftest import REPOSITORY

STYLE = REPOSITORY / "scripts" / "figures.mplstyle"


def room_named(name: str) -> Room:
    """The room of this name, such as ``sc_transfer``."""
    return next(room for room in ROOMS if room.name == name)


def criteria_of(name: str) -> list[Criterion]:
    """The criteria of a room; they may name statistics of another room of its paper."""
    path = room_named(name).file("claims.yaml")
    return load_criteria(path, criteria_names()) if path else []


def criteria_of_paper(group: str) -> list[Criterion]:
    """The criteria of all rooms of a paper."""
    return [criterion for room in ROOMS if room.paper.group == group for criterion in criteria_of(room.name)]


def statistics_of(name: str) -> set[str]:
    """Names of the statistics that the modules of a room register."""
    load_statistics()
    start = f"{room_named(name).module}."
    return {key for key, function in STATISTICS.items() if function.__module__.startswith(start)}


def used_by(criteria: list[Criterion]) -> set[str]:
    """Names of the statistics that criteria and their controls ask for."""
    computed = [criterion for criterion in criteria if criterion.compute]
    return {c.compute for c in computed} | {c.control.compute for c in computed if c.control}


def drawing_of(artefact: str) -> Drawing:
    """How an artefact is tabulated and drawn, as ``scripts/figure.py`` does it."""
    known, room = ARTEFACTS[artefact], ROOM_OF[artefact]
    return Drawing(room.function(known.tables), room.function(known.drawing), known.size)


def points_of(artefact: str) -> tuple[Path, ...]:
    """The file of points read off the published figure, if its room has one."""
    known = ARTEFACTS[artefact]
    return (ROOM_OF[artefact].folder / known.points,) if known.points else ()
