"""What a room says of its figures and tables, and a paper of itself; :mod:`featurespeed.pipeline.registry` finds them.

A setting names one choice of a paper and says where this run's own value is found: ``column:NAME`` (values of a column
of the stage table), ``spec:NAME`` (a setting stored in the table; ``NAME.KEY`` inside a block), ``seeds:ESTIMATOR``
(seeds behind one point), ``series``, or ``text:...``. The page therefore shows what the records hold, not what somebody
meant to run.
"""

from __future__ import annotations

from dataclasses import dataclass

from featurespeed.values import Spec

#: Source of the widths of a run.
WIDTH = "column:width"


@dataclass(frozen=True)
class Setting:
    """One row of the comparison: a label, the paper's choice, and the source of this run's."""

    label: str
    paper: str
    run: str


@dataclass(frozen=True)
class Artefact:
    """One figure or table of a paper, or a stage table that only feeds the claims.

    Functions are named by the text ``"module:function"`` (the module lies in the room), so that reading the registry
    imports neither pandas nor Matplotlib nor PyTorch.

    Attributes:
        id: name of its files, of its block in the configuration and of its target; begins with the paper's group.
        title: what it is about, in a line.
        place: where it stands in the paper, such as ``Figure 24``.
        shows: what it shows, for a list of all of them; empty if it draws nothing.
        stage: the script that computes its stage table, without the ending.
        spec: type of its settings.
        reading: how to read it.
        settings: the paper's choices beside those of a run.
        tables: stage table (and path of ``points``) -> artefact table; empty if it draws nothing.
        drawing: artefact table, figure -> None.
        size: of the figure, in inches.
        points: file of points read off the published figure, by its path from the room; handed to ``tables``.
        gpu: its stage uses a GPU where there is one.
        groups: further targets that make it, besides ``all`` and that of its paper.
        showcase: caption under which the README shows it; empty: it does not.
        showcase_scale: scale of the kept run that the caption is about; empty: of the picture in ``docs/img``.
    """

    id: str
    title: str
    place: str
    stage: str
    spec: type[Spec]
    reading: str
    settings: tuple[Setting, ...]
    shows: str = ""
    tables: str = ""
    drawing: str = ""
    size: tuple[float, float] = (8.0, 5.0)
    points: str = ""
    gpu: bool = True
    groups: tuple[str, ...] = ()
    showcase: str = ""
    showcase_scale: str = ""

    @property
    def drawn(self) -> bool:
        """Whether there is a figure; without one, only the claims read the stage table."""
        return bool(self.drawing)


@dataclass(frozen=True)
class Planned:
    """A figure or table of a paper that is not computed here yet; its claims are listed as not run.

    Attributes:
        id: the name that it will have.
        place: where it stands in the paper.
        shows: what it shows.
    """

    id: str
    place: str
    shows: str


@dataclass(frozen=True)
class Paper:
    """A replicated paper.

    Attributes:
        group: name of the target that makes all of it, and beginning of its ids.
        short: what the page calls it in its bar.
        repository: where the authors keep their code, if that is known.
        known: what of the paper is known to us.
        kept: its GPU runs are kept in the repository; another runs in minutes on any machine.
    """

    group: str
    short: str
    title: str
    authors: str
    venue: str
    arxiv: str
    repository: str = ""
    known: str = "the whole paper"
    kept: bool = True
