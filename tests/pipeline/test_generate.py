"""What follows from the rooms is in step with them, and is made anew where it is not."""

from __future__ import annotations

import pytest

from featurespeed.pipeline import criteria, generate
from tests.conftest import REPOSITORY


@pytest.mark.parametrize("name", generate.GENERATED)
def test_generated_files_are_in_step(name):
    assert (REPOSITORY / name).read_text(encoding="utf-8") == generate.GENERATED[name](REPOSITORY)


def test_a_file_that_is_out_of_step_fails_the_check_by_name_and_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "GENERATED", {"docs/made.md": lambda base: "right"})
    monkeypatch.setattr(generate, "REPOSITORY", tmp_path)
    monkeypatch.setattr(generate.out_of_step, "__defaults__", (tmp_path,))
    with pytest.raises(SystemExit, match=r"out of step: docs/made\.md; run python -m"):
        generate.main(["--check"])
    assert not (tmp_path / "docs").exists()
    generate.main([])
    assert (tmp_path / "docs/made.md").read_text() == "right"
    generate.main(["--check"])


BROKEN = {
    "repeated key": ("paper: p\npaper: q\nclaims: []\n", "line 2: paper: written twice"),
    "no YAML": ("paper: [\n", "line 2: not YAML"),
    "Latin-1": ("paper: caf\xe9\n", "line 1: byte 0xe9 is not UTF-8"),
    "another shape": ("- 1\n", "must have the keys paper and claims"),
    "misspelt statistic": (
        "paper: p\nclaims:\n- {claim_id: c, artefact: fsf_fig1a, kind: ours, source: s, statement: t, statistic: u,"
        " compute: typo, threshold: {at_most: 1}, control: {compute: other, description: d}}\n",
        "compute = 'typo': unknown",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_criteria_are_told_in_one_line(tmp_path, monkeypatch, fault):
    text, words = BROKEN[fault]
    path = tmp_path / "claims.yaml"
    path.write_bytes(text.encode("latin-1"))
    monkeypatch.setattr(criteria, "criteria_files", lambda: [path])
    with pytest.raises(SystemExit) as ended:
        generate.main(["--check"])
    line = str(ended.value)
    assert line.startswith(str(path)) and words in line and "\n" not in line


def test_only_what_stands_between_the_markers_is_replaced():
    page = "before\n<!-- one -->\nold\n<!-- end -->\nkept\n<!-- two -->\nother\n<!-- end -->\n"
    made = generate.between(page, "one", "new\n")
    assert made == page.replace("old", "new")
    with pytest.raises(SystemExit, match="no marker <!-- three -->"):
        generate.between(page, "three", "")
