"""Every room: its criteria are about its own figures, its functions are there, its claims have controls."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from featurespeed.pipeline.generate import GENERATED
from featurespeed.pipeline.registry import ARTEFACTS, PLANNED, ROOM_OF, ROOMS, criteria_files, groups
from tests.conftest import REPOSITORY
from tests.papers.cases import criteria_of, drawing_of, points_of

EXAMPLE = "fsf_fig1c"
DRAWN = [name for name, artefact in ARTEFACTS.items() if artefact.drawn]
every_room = pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)


@every_room
def test_criteria_are_about_figures_of_the_room(room):
    known, planned = {entry.id for entry in room.artefacts}, {entry.id for entry in room.planned}
    for criterion in criteria_of(room.name):
        assert criterion.artefact in known | planned
        assert criterion.claim_id.startswith(f"{room.paper.group}_")
        assert criterion.paper == f"arXiv:{room.paper.arxiv}"
        assert criterion.not_run or not criterion.compute or criterion.control.compute != criterion.compute
        assert criterion.artefact in known or not criterion.compute


@every_room
def test_every_figure_of_the_room_has_a_claim(room):
    assert {artefact.id for artefact in room.artefacts} <= {c.artefact for c in criteria_of(room.name)}


def test_criteria_files_are_those_of_the_rooms():
    assert criteria_files() == [room.folder / "claims.yaml" for room in ROOMS if criteria_of(room.name)]


@pytest.mark.parametrize("artefact", DRAWN)
def test_every_drawn_artefact_has_a_drawing(artefact):
    drawing = drawing_of(artefact)
    assert callable(drawing.tabulate) and callable(drawing.draw) and min(drawing.size) > 1
    assert all(path.is_file() for path in points_of(artefact))


def test_groups_hold_every_drawn_artefact_of_their_papers():
    found = groups()
    assert sorted(name for group in ("fsf", "sc", "beos") for name in found[group]) == sorted(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_caption_and_columns_of_a_figure_are_in_its_room(name):
    room = ROOM_OF[name]
    assert room.file(f"captions/{name}.rst").read_text().strip()
    assert f"`{name}`" in room.file("tables.md").read_text()


@pytest.mark.parametrize("room", [room for room in ROOMS if room.artefacts], ids=lambda room: room.name)
def test_the_docstring_of_a_room_names_its_blocks_and_the_command(room):
    text = (room.folder / "__init__.py").read_text()
    blocks = {name for name in ARTEFACTS if re.search(rf"(?<!\w){name}(?!\w)", text)}
    assert blocks and blocks <= {artefact.id for artefact in room.artefacts}
    assert "snakemake --cores all" in text


def texts_of_the_repository() -> dict[str, str]:
    """Relative path -> text of every source file."""
    skipped = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", ".snakemake", ".whl"}
    kinds = {".py", ".md", ".yaml", ".smk", ".rst", ".j2", ".mk", ".toml", ".yml", ".json", ".csv", ""}
    found = {}
    for folder, folders, files in os.walk(REPOSITORY):
        folders[:] = [name for name in folders if name not in skipped | {"results", "logs", "resources"}]
        for path in (Path(folder, name) for name in files):
            if path.suffix in kinds:
                found[str(path.relative_to(REPOSITORY))] = path.read_text(encoding="utf-8")
    return found


def test_an_id_stands_in_its_room_its_settings_its_tests_and_what_is_made_only():
    """One id may serve as the example of README and docs; what two rooms share may name runs of one of them."""
    words = {path: set(re.findall(r"\w+", text)) for path, text in texts_of_the_repository().items()}
    for name in (*ARTEFACTS, *PLANNED):
        room = ROOM_OF[name].path
        shared = f"{room.rpartition('/')[0]}/shared.py"
        own = (f"{room}/", shared, "tests/", "workflow/scales/", "config.yaml", *GENERATED)
        elsewhere = {path for path, found in words.items() if name in found and not path.startswith(own)}
        if name == EXAMPLE:
            elsewhere = {path for path in elsewhere if not path.startswith("docs/")} - {"Makefile", "Snakefile"}
        assert not elsewhere, name
