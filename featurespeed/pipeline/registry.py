"""All papers, rooms and artefacts, found by looking into ``featurespeed/papers``: there is no list of them anywhere.

A paper is a package whose ``paper.py`` has a ``PAPER``; a room is a package in it. A room's files: ``artefacts.py``
with ``ARTEFACTS`` (or ``PLANNED``: what is to come), ``claims.yaml`` with criteria, ``claims*.py`` with the statistics
that they name, ``tables.md`` with the columns of its tables, ``captions/<id>.rst``. Reading the registry imports
``artefacts.py`` and the specs that these name, and so neither PyTorch nor pandas nor Matplotlib; what they name is
looked for in the files, so that a slip is told before anything runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from featurespeed.ledger.criteria import ANY, CriteriaError, Names, load_all, load_criteria
from featurespeed.papers.entries import Artefact, Paper, Planned
from featurespeed.values import Spec

PAPERS_PACKAGE = "featurespeed.papers"
_ID = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_REGISTERS = ("premise", "register_premise")


class RegistryError(ValueError):
    """A fault in a room; one line that names the room, the entry and what is allowed."""


@dataclass(frozen=True)
class Room:
    """One family of figures that share runs and statistics, and the folder in which all of it lies.

    Attributes:
        module: dotted name of its package.
        comparison: ``"module:function"`` of the stage tables: points read off published figures beside this run.
    """

    module: str
    folder: Path
    paper: Paper
    artefacts: tuple[Artefact, ...] = ()
    planned: tuple[Planned, ...] = ()
    comparison: str = ""

    @property
    def name(self) -> str:
        """Name within the project, such as ``sc_transfer``: a file name and a wildcard."""
        return f"{self.paper.group}_{self.folder.name}"

    @property
    def path(self) -> str:
        """Its folder, relative to the repository."""
        return self.module.replace(".", "/")

    @property
    def facts(self) -> list[str]:
        """Dotted names of the modules that hold what it and its paper say of themselves."""
        return [f"{self.module}.artefacts", f"{self.module.rpartition('.')[0]}.paper"]

    @property
    def drawn(self) -> list[Artefact]:
        """Its artefacts that have a figure."""
        return [artefact for artefact in self.artefacts if artefact.drawn]

    @property
    def claim_modules(self) -> list[str]:
        """Dotted names of the modules that register its statistics."""
        return [f"{self.module}.{path.stem}" for path in sorted(self.folder.glob("claims*.py"))]

    def file(self, name: str) -> Path | None:
        """A file of the room, None if it has none of this name."""
        path = self.folder / name
        return path if path.is_file() else None

    def module_of(self, text: str) -> str:
        """Dotted name of the module in ``"module:function"``."""
        return f"{self.module}.{text.partition(':')[0]}"

    def function(self, text: str) -> Callable[..., Any]:
        """The function that ``"module:function"`` names.

        Raises:
            RegistryError: there is no such module or function in the room.
        """
        module, _, name = text.partition(":")
        if not (self.folder / f"{module}.py").is_file():
            raise RegistryError(f"{self.module}: {text!r}: there is no module {module}.py in the room")
        found = getattr(import_module(self.module_of(text)), name, None)
        if not callable(found):
            raise RegistryError(f"{self.module}: {text!r}: {module}.py has no function of this name")
        return found


def find_papers(package: str = PAPERS_PACKAGE) -> list[tuple[str, Path, Paper]]:
    """``(dotted name, folder, paper)`` of every paper, the earliest first."""
    root = Path(import_module(package).__file__).parent
    found = []
    for folder in _packages(root, "paper.py"):
        module = f"{package}.{folder.name}"
        paper = getattr(_imported(f"{module}.paper"), "PAPER", None) if (folder / "paper.py").is_file() else None
        if not isinstance(paper, Paper):
            raise RegistryError(f"{module}: no PAPER in paper.py, which every folder of papers has")
        if paper.group in {other.group for _, _, other in found}:
            raise RegistryError(f"{module}: group = {paper.group!r}: used by another paper already")
        if not _ID.fullmatch(paper.group):
            raise RegistryError(f"{module}: group = {paper.group!r}: must be small letters and digits")
        found.append((module, folder, paper))
    return sorted(found, key=lambda entry: entry[2].arxiv)


def find_rooms(package: str = PAPERS_PACKAGE) -> list[Room]:
    """Every room of every paper, checked.

    Raises:
        RegistryError: one line about the first fault.
    """
    rooms = [
        _room(f"{module}.{place.name}", place, paper)
        for module, folder, paper in find_papers(package)
        for place in _packages(folder, "artefacts.py", "claims.yaml", "tables.py")
    ]
    seen: dict[str, str] = {}
    for room in rooms:
        for entry in (*room.artefacts, *room.planned):
            _check_id(entry.id, room, seen)
            seen[entry.id] = room.module
        for artefact in room.artefacts:
            _check_artefact(artefact, room)
    return rooms


def _packages(folder: Path, *names: str) -> Iterator[Path]:
    """The packages in a folder; a folder that is none, but has a file of one of these names, is a slip."""
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (place / "__init__.py").is_file():
            yield place
        elif any((place / name).is_file() for name in names):
            raise RegistryError(f"{place}: no __init__.py, so that nothing in it is found")


def _imported(module: str) -> ModuleType:
    """A module of a room or paper, whose faults are told in one line."""
    try:
        return import_module(module)
    except Exception as error:
        raise RegistryError(f"{module}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _room(module: str, folder: Path, paper: Paper) -> Room:
    if not (folder / "artefacts.py").is_file():
        if any((folder / name).is_file() for name in ("claims.yaml", "tables.py", "drawing.py")):
            raise RegistryError(f"{module}: no artefacts.py, so that nothing in it is found")
        return Room(module, folder, paper)
    entries = _imported(f"{module}.artefacts")
    artefacts, planned = getattr(entries, "ARTEFACTS", None), getattr(entries, "PLANNED", None)
    if artefacts is None and planned is None:
        raise RegistryError(f"{module}: artefacts.py has neither ARTEFACTS nor PLANNED")
    for name, found, kind in (("ARTEFACTS", artefacts, Artefact), ("PLANNED", planned, Planned)):
        if found is not None and not (isinstance(found, tuple) and all(isinstance(entry, kind) for entry in found)):
            raise RegistryError(f"{module}: {name} in artefacts.py: must be a tuple of {kind.__name__} entries")
    return Room(module, folder, paper, artefacts or (), planned or (), getattr(entries, "COMPARISON", ""))


def _check_id(name: str, room: Room, seen: Mapping[str, str]) -> None:
    if not _ID.fullmatch(name) or not name.startswith(f"{room.paper.group}_"):
        raise RegistryError(
            f"{room.module}: id = {name!r}: must be small letters, digits and single underscores,"
            f" and begin with {room.paper.group}_"
        )
    if name in seen:
        raise RegistryError(f"{room.module}: id = {name!r}: used in {seen[name]} already")


def _check_artefact(artefact: Artefact, room: Room) -> None:
    if bool(artefact.tables) != bool(artefact.drawing):
        raise RegistryError(f"{room.module}: {artefact.id}: give both tables and drawing, or neither")
    if artefact.drawn and not artefact.shows:
        raise RegistryError(f"{room.module}: {artefact.id}: shows is empty; say in a line what the figure shows")
    for text in filter(None, (artefact.tables, artefact.drawing)):
        if not re.fullmatch(r"\w+:\w+", text):
            raise RegistryError(f"{room.module}: {artefact.id}: {text!r}: must be 'module:function' of the room")
        module, _, function = text.partition(":")
        source = room.file(f"{module}.py")
        if source is None:
            raise RegistryError(f"{room.module}: {artefact.id}: {text!r}: there is no module {module}.py in the room")
        if not re.search(rf"^def {function}\(", source.read_text(encoding="utf-8"), re.MULTILINE):
            raise RegistryError(f"{room.module}: {artefact.id}: {text!r}: {module}.py has no function of this name")
    if artefact.drawn and room.file(f"captions/{artefact.id}.rst") is None:
        raise RegistryError(f"{room.module}: {artefact.id}: no captions/{artefact.id}.rst in the room")
    if not isinstance(artefact.groups, tuple) or not all(_ID.fullmatch(group) for group in artefact.groups):
        raise RegistryError(f"{room.module}: {artefact.id}: groups = {artefact.groups!r}: must be a tuple of names")
    if artefact.points and room.file(artefact.points) is None:
        raise RegistryError(f"{room.module}: {artefact.id}: points = {artefact.points!r}: no such file in the room")


def _for_readers(entry: Artefact | Planned) -> tuple[int, str]:
    """Figures first, then tables, then what is no figure of a paper; each by its id."""
    part = entry.id.partition("_")[2]
    return (0 if part.startswith("fig") else 1 if part.startswith("table") else 2), entry.id


ROOMS: tuple[Room, ...] = tuple(find_rooms())
PAPERS: tuple[Paper, ...] = tuple(dict.fromkeys(paper for _, _, paper in find_papers()))
ROOM_OF: Mapping[str, Room] = {entry.id: room for room in ROOMS for entry in (*room.artefacts, *room.planned)}
ARTEFACTS: Mapping[str, Artefact] = {
    artefact.id: artefact
    for paper in PAPERS
    for artefact in sorted((a for room in ROOMS if room.paper == paper for a in room.artefacts), key=_for_readers)
}
PLANNED: Mapping[str, Planned] = {
    entry.id: entry
    for paper in PAPERS
    for entry in sorted((p for room in ROOMS if room.paper == paper for p in room.planned), key=_for_readers)
}


def spec_type(settings: Mapping[str, Any]) -> type[Spec]:
    """Type of the settings of the artefact that they name.

    Raises:
        RegistryError: they name none that is known.
    """
    name = settings.get("artefact")
    if name not in ARTEFACTS:
        raise RegistryError(f"artefact = {name!r}: unknown, allowed: {', '.join(ARTEFACTS)}")
    return ARTEFACTS[name].spec


def groups() -> dict[str, list[str]]:
    """Name of a target -> the drawn artefacts that it makes: all of a paper, and what artefacts name themselves."""
    found: dict[str, list[str]] = {paper.group: [] for paper in PAPERS}
    for name, artefact in ARTEFACTS.items():
        if artefact.drawn:
            for group in (ROOM_OF[name].paper.group, *artefact.groups):
                found.setdefault(group, []).append(name)
    return found


def load_statistics() -> None:
    """Import the modules of all rooms that register statistics of claims."""
    for room in ROOMS:
        for module in room.claim_modules:
            import_module(module)


def criteria_files() -> list[Path]:
    """The criteria of all rooms, in the order of papers and rooms."""
    return [path for room in ROOMS if (path := room.file("claims.yaml"))]


def check_criteria() -> None:
    """Read all criteria before anything runs, without the statistics: these need pandas, and are looked up later.

    Raises:
        CriteriaError: one line that names the file, the claim, the key and what is allowed.
    """
    premises = {name for room in ROOMS for path in _sources(room) for name in premises_in(path)}
    for room in ROOMS:
        check_room(room, premises)
    load_all(criteria_files(), Names(ANY, ANY))  # what several files must not share


def check_room(room: Room, premises: Collection[str]) -> None:
    """Read the criteria of one room: they are about its own artefacts, and its own paper.

    Raises:
        CriteriaError: one line that names the file, the claim, the key and what is allowed.
    """
    path, own = room.file("claims.yaml"), [entry.id for entry in (*room.artefacts, *room.planned)]
    for criterion in load_criteria(path, Names(ANY, premises, own)) if path else ():
        if criterion.paper != f"arXiv:{room.paper.arxiv}":
            raise CriteriaError(
                f"{path}: paper = {criterion.paper!r}: allowed: arXiv:{room.paper.arxiv}, that of the room"
            )


def premises_in(path: Path) -> set[str]:
    """Names of premises that a module writes out: the first argument of premise(...), or the keys of tables of them.

    Tables are looked for in modules that register premises in a loop; their keys have at least three words.
    """
    text = path.read_text(encoding="utf-8")
    if not any(f"{name}(" in text for name in _REGISTERS):
        return set()
    tree = ast.parse(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) in _REGISTERS]
    first = [call.args[0] for call in calls if call.args]
    keys = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    texts = {node.value for node in (*first, *(keys if calls else ())) if isinstance(node, ast.Constant)}
    written = {node.value for node in first if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and (text in written or text.count(" ") >= 2)}


def _called(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def _sources(room: Room) -> list[Path]:
    """The modules of a room and of its paper: where premises are registered, by names that are written out."""
    return [*sorted(room.folder.glob("*.py")), *sorted(room.folder.parent.glob("*.py"))]
