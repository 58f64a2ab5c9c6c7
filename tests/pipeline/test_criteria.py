"""Criteria at the door: read before anything runs, without the statistics that they name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from featurespeed.ledger.criteria import CriteriaError
from featurespeed.ledger.engine import PREMISES
from featurespeed.pipeline import registry
from featurespeed.pipeline.criteria import all_criteria
from tests.papers.cases import room_named

ENTRY = {
    "claim_id": "sc_one", "artefact": "sc_fig01", "kind": "ours", "source": "ours", "statement": "s", "statistic": "t",
    "compute": "any name", "threshold": {"at_most": 1}, "control": {"compute": "another", "description": "d"},
}  # fmt: skip
FLOW = (
    "paper: arXiv:2402.17457\n"
    "claims: [{claim_id: a, artefact: sc_fig28, kind: ours, source: s, statement: t, not_run: u}]"
)


def check(folder: Path, text: str, premises=()) -> None:
    (folder / "claims.yaml").write_text(text)
    registry.check_room(replace(room_named("sc_transfer"), folder=folder), premises)


def rows(*changes: dict, paper: str = "arXiv:2402.17457") -> str:
    return yaml.safe_dump({"paper": paper, "claims": [ENTRY | change for change in changes]})


def test_a_sound_room_passes(tmp_path):
    check(tmp_path, rows({}, {"claim_id": "sc_two", "premise": "p q r"}), ["p q r"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (rows({"artefact": "sc_fig28"}), "claim 'sc_one': artefact = 'sc_fig28': unknown, allowed: sc_fig01, sc_fig24"),
        (FLOW, "claim 'a': artefact = 'sc_fig28': unknown, allowed: sc_fig01"),
        (rows({"premise": "at rest"}), "claim 'sc_one': premise = 'at rest': unknown, allowed: p q r"),
        (rows({}, paper="arXiv:2402.17457v2"), "paper = 'arXiv:2402.17457v2': allowed: arXiv:2402.17457, that of the"),
        (rows({"kind": "main"}), "claim 'sc_one': kind = 'main': unknown, allowed: central"),
        (rows({"control": None}), "claim 'sc_one': control is missing"),
    ],
)
def test_a_fault_is_one_line_with_file_claim_key_and_what_is_allowed(tmp_path, text, fault):
    with pytest.raises(CriteriaError) as failure:
        check(tmp_path, text, ["p q r"])
    line = str(failure.value)
    assert line.startswith(str(tmp_path / "claims.yaml")) and fault in line and "\n" not in line


def test_the_premises_that_are_found_in_the_text_are_those_that_are_registered():
    all_criteria()
    found = {name for room in registry.ROOMS for path in registry._sources(room) for name in registry.premises_in(path)}
    assert found == set(PREMISES)


def test_all_criteria_pass_the_door():
    registry.check_criteria()
