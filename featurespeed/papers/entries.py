"""What a fact about a paper looks like; :mod:`featurespeed.papers` says where a run's own values come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One row of the comparison: a label, the paper's choice, and the source of this run's."""

    label: str
    paper: str
    run: str


@dataclass(frozen=True)
class ArtefactFacts:
    """What an artefact shows, how to read it, and what the paper did."""

    place: str
    reading: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Paper:
    """A replicated paper; ``group`` is the name of its target, ``short`` what the page calls it in its bar."""

    group: str
    short: str
    title: str
    authors: str
    venue: str
    arxiv: str


#: Source of the widths of a run.
WIDTH = "column:width"
