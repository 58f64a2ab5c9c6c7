"""Rooms are found by looking into a package; a fault in one is named in one line."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import pytest

from featurespeed.pipeline.registry import (
    ARTEFACTS,
    PLANNED,
    ROOM_OF,
    RegistryError,
    find_papers,
    find_rooms,
    spec_type,
)

PAPER = """
from featurespeed.papers.entries import Paper

PAPER = Paper(group="{group}", short="short", title="A title", authors="nobody", venue="", arxiv="{arxiv}")
"""
ARTEFACT = """
from featurespeed.papers.entries import Artefact, Planned
from featurespeed.values import Spec

ARTEFACTS = (
    Artefact(
        id={id!r}, title="A figure", place="Figure 1", stage="theory", spec=Spec, reading="As it is.", settings=(),
        shows={shows!r}, tables={tables!r}, drawing={drawing!r}, points={points!r},
    ),
)
PLANNED = (Planned({planned!r}, "Figure 2", "what is to come"),)
"""
GOOD = {
    "id": "new_fig1", "shows": "a line", "tables": "tables:tabulate", "drawing": "drawing:draw", "points": "",
    "planned": "new_fig2",
}  # fmt: skip
NUMBERS = count()


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An empty package of papers that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / f"papers_of_a_test_{next(NUMBERS)}"
    write(folder / "__init__.py")
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[name]


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add_paper(package: Path, name: str = "paper", group: str = "new", arxiv: str = "0001.0001") -> Path:
    write(package / name / "__init__.py")
    write(package / name / "paper.py", PAPER.format(group=group, arxiv=arxiv))
    return package / name


def add_room(paper: Path, name: str = "room", **changes) -> Path:
    write(paper / name / "__init__.py")
    write(paper / name / "artefacts.py", ARTEFACT.format(**GOOD | changes))
    write(paper / name / f"captions/{(GOOD | changes)['id']}.rst", "A figure.\n")
    write(paper / name / "tables.py", "def tabulate(records):\n    return records\n")
    write(paper / name / "drawing.py", "def draw(table, figure):\n    pass\n\n\nsize = 3\n")
    return paper / name


def test_a_room_is_found_where_it_lies(package):
    room = add_room(add_paper(package))
    for name in ("claims.py", "claims_more.py", "claims.yaml"):
        write(room / name)
    (found,) = find_rooms(package.name)
    assert (found.name, found.module) == ("new_room", f"{package.name}.paper.room")
    assert found.path == f"{package.name}/paper/room" and found.paper.group == "new"
    assert [artefact.id for artefact in found.drawn] == ["new_fig1"] and found.planned[0].id == "new_fig2"
    assert found.claim_modules == [f"{found.module}.claims", f"{found.module}.claims_more"]
    assert found.file("claims.yaml") == room / "claims.yaml" and found.file("absent.yaml") is None
    assert found.function("tables:tabulate")(3) == 3


def test_papers_stand_in_the_order_of_their_numbers(package):
    add_paper(package, "a_later_one", "b", "2500.0001")
    add_paper(package, "z_earlier_one", "a", "2300.0001")
    assert [paper.group for _, _, paper in find_papers(package.name)] == ["a", "b"]


def test_a_folder_without_a_paper_and_a_group_of_two_papers_are_named(package):
    write(package / "no_paper" / "__init__.py")
    with pytest.raises(RegistryError, match=r"no_paper: no PAPER in paper\.py"):
        find_papers(package.name)
    write(package / "no_paper" / "paper.py", PAPER.format(group="new", arxiv="1"))
    add_paper(package, "other")
    with pytest.raises(RegistryError, match=r"other: group = 'new': used by another paper already"):
        find_papers(package.name)


def test_a_room_without_figures_is_a_room(package):
    write(add_paper(package) / "idle" / "__init__.py")
    (found,) = find_rooms(package.name)
    assert found.artefacts == found.planned == () and found.drawn == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "other_fig1"}, "id = 'other_fig1': must be small letters.*and begin with new_"),
        ({"id": "new_Fig1"}, "id = 'new_Fig1': must be small letters"),
        ({"planned": "fig2"}, "id = 'fig2': must be small letters"),
        ({"planned": "new_fig1"}, r"id = 'new_fig1': used in .*\.room already"),
        ({"drawing": ""}, "new_fig1: give both tables and drawing, or neither"),
        ({"shows": ""}, "new_fig1: shows is empty"),
        ({"tables": "tabulate"}, "new_fig1: 'tabulate': must be 'module:function' of the room"),
        ({"points": "absent.csv"}, r"new_fig1: points = 'absent\.csv': no such file in the room"),
    ],
)
def test_a_fault_is_named_in_one_line_with_its_room(package, changes, message):
    add_room(add_paper(package), **changes)
    with pytest.raises(RegistryError, match=message) as fault:
        find_rooms(package.name)
    assert str(fault.value).startswith(f"{package.name}.paper.room: ") and "\n" not in str(fault.value)


SLIPS = {
    "no package": (("rm", "__init__.py"), r"no __init__\.py, so that nothing in it is found"),
    "no entries": (("rm", "artefacts.py"), r"room: no artefacts\.py, so that nothing in it is found"),
    "misspelt entries": (("artefacts.py", "ARTEFACT = ()\n"), r"artefacts\.py has neither ARTEFACTS nor PLANNED"),
    "no tuple": (("artefacts.py", "PLANNED = 3\n"), r"PLANNED in artefacts\.py: must be a tuple of Planned entries"),
    "syntax": (("artefacts.py", "def (\n"), r"room\.artefacts: SyntaxError: "),
    "import": (
        ("artefacts.py", "from featurespeed.values import Nothing\n"),
        r"room\.artefacts: ImportError: .*Nothing",
    ),
    "no function": (
        ("tables.py", "other = 1\n"),
        r"new_fig1: 'tables:tabulate': tables\.py has no function of this name",
    ),
    "no module": (("rm", "drawing.py"), r"new_fig1: 'drawing:draw': there is no module drawing\.py in the room"),
    "no caption": (("rm", "captions/new_fig1.rst"), r"new_fig1: no captions/new_fig1\.rst in the room"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_told_before_anything_is_imported_that_computes(package, slip):
    (name, text), message = SLIPS[slip]
    room = add_room(add_paper(package))
    if name == "rm":
        (room / text).unlink()
    else:
        write(room / name, text)
    with pytest.raises(RegistryError, match=message) as fault:
        find_rooms(package.name)
    assert "\n" not in str(fault.value)


def test_an_id_is_used_in_one_room_only(package):
    paper = add_paper(package)
    add_room(paper, "first")
    add_room(paper, "second", planned="new_fig3")
    with pytest.raises(RegistryError, match=r"second: id = 'new_fig1': used in .*\.first already"):
        find_rooms(package.name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("absent:draw", r"'absent:draw': there is no module absent\.py in the room"),
        ("drawing:absent", r"'drawing:absent': drawing\.py has no function of this name"),
        ("drawing:size", r"'drawing:size': drawing\.py has no function of this name"),
    ],
)
def test_a_function_that_is_not_there_is_named(package, text, message):
    add_room(add_paper(package))
    (room,) = find_rooms(package.name)
    with pytest.raises(RegistryError, match=message):
        room.function(text)


def test_every_entry_is_in_one_room_and_settings_find_their_type():
    assert set(ROOM_OF) == {*ARTEFACTS, *PLANNED} and not set(ARTEFACTS) & set(PLANNED)
    for name, artefact in ARTEFACTS.items():
        assert spec_type({"artefact": name}) is artefact.spec
    with pytest.raises(RegistryError, match="artefact = 'fsf_fig9': unknown, allowed: fsf_fig1a"):
        spec_type({"artefact": "fsf_fig9"})
