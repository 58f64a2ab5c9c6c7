"""The record of commits: what changes a digest, and what git's history says about it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from featurespeed.ledger.criteria import Criterion
from featurespeed.pipeline import criteria_history as history
from featurespeed.pipeline.criteria import all_criteria
from tests.conftest import REPOSITORY

ENTRY = {
    "claim_id": "fsf_one", "artefact": "fsf_fig1c", "kind": "paper", "paper": "arXiv:1", "source": "Fig. 1",
    "statement": "s", "statistic": "mean", "compute": "c", "threshold": {"at_most": 1},
    "control": {"compute": "d", "description": "e"}, "note": "n",
}  # fmt: skip
SETTINGS = {"width": 8, "seed": 1}


def digest_of(settings=SETTINGS, **changes) -> str:
    return history.digest(Criterion.model_validate(ENTRY | changes), settings)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": {"at_most": 2}},
        {"threshold": {"at_most": 1, "ideal": 0.5}},
        {"statement": "another"},
        {"kind": "central"},
        {"premise": "trained"},
        {"control": {"compute": "f", "description": "e"}},
        {"settings": {"width": 8, "seed": 2}},
    ],
)
def test_content_that_decides_changes_the_digest(changes):
    assert digest_of(**changes) != digest_of()


@pytest.mark.parametrize("changes", [{"note": "another"}, {"settings": {"seed": 1, "width": 8}}, {"statement": " s\n"}])
def test_notes_and_formatting_do_not_change_the_digest(changes):
    assert digest_of(**changes) == digest_of()


def test_every_criterion_is_on_record_as_it_is():
    """Who changes a criterion or a setting commits, and then runs python -m featurespeed.pipeline.criteria_history."""
    record, now = history.read_record(REPOSITORY / history.RECORD), history.digests(REPOSITORY)
    assert {key for key in now if record.get(key) is None or record[key].digest != now[key]} == set()
    assert set(record) == set(now)


def test_the_history_bears_out_the_commits_on_record():
    assert history.doubtful(history.read_record(REPOSITORY / history.RECORD)) == []


# --- a history of its own ---------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository of one room's criteria and all settings, with one commit."""
    for name in ("config.yaml", "workflow/scales", "featurespeed/papers/feature_speed/theory/claims.yaml"):
        source, target = REPOSITORY / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    git(tmp_path, "init", "-q")
    commit(tmp_path, "first")
    monkeypatch.setattr(history, "REPOSITORY", tmp_path)
    history.digests_at.cache_clear()
    history._time_of.cache_clear()
    return tmp_path


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")[:12]


def edit(folder: Path, name: str, change) -> None:
    path = folder / name
    path.write_text(change(path.read_text()))


CLAIMS = "featurespeed/papers/feature_speed/theory/claims.yaml"


def first_claim(folder: Path) -> str:
    return yaml.safe_load((folder / CLAIMS).read_text())["claims"][0]["claim_id"]


def test_the_record_follows_content_and_not_formatting(checkout):
    first, claim = git(checkout, "rev-parse", "HEAD")[:12], first_claim(checkout)
    history.main([])
    edit(checkout, CLAIMS, lambda text: "# a comment\n" + text)
    commit(checkout, "a comment")
    history.main([])
    record = history.read_record(checkout / history.RECORD)
    assert {change.commit for change in record.values()} == {first}
    edit(checkout, CLAIMS, lambda text: text.replace('statement: "', 'statement: "Now: ', 1))
    second = commit(checkout, "another statement")
    history.main([])
    record = history.read_record(checkout / history.RECORD)
    assert {key for key, change in record.items() if change.commit == second} == {
        (claim, scale) for scale in ("laptop", "gpu", "paper", "smoke")
    }
    assert record[claim, "gpu"].committed.endswith("+00:00")


def test_a_setting_of_one_scale_changes_the_record_of_that_scale(checkout):
    history.main([])
    edit(checkout, "workflow/scales/gpu.yaml", lambda text: text.replace("phi: {width: 20000", "phi: {width: 10000"))
    second = commit(checkout, "a setting")
    history.main([])
    record = history.read_record(checkout / history.RECORD)
    changed = {scale for (_, scale), change in record.items() if change.commit == second}
    assert changed == {"gpu"}


def test_keys_of_the_workflow_and_artefacts_that_come_later_move_no_commit(checkout):
    now = {path: path.read_text() for path in (checkout / "config.yaml", *(checkout / "workflow/scales").glob("*"))}
    for path, text in now.items():
        content = yaml.safe_load(text)
        content.pop("fsf_theorems", None)
        content.get("training", {}).pop("together", None)
        path.write_text(yaml.safe_dump(content))
    early = commit(checkout, "before they were there")
    for path, text in now.items():
        path.write_text(text)
    commit(checkout, "with them")
    first = git(checkout, "rev-parse", "HEAD~2")[:12]
    history.main([])
    assert {change.commit for change in history.read_record(checkout / history.RECORD).values()} == {first}
    assert (
        history.digests_at(early)[first_claim(checkout), "gpu"]
        == history.digests_at(first)[first_claim(checkout), "gpu"]
    )


def test_no_claim_has_a_digest_of_settings_that_came_later(checkout):
    for path in (checkout / "config.yaml", *(checkout / "workflow/scales").glob("*")):
        path.write_text(
            yaml.safe_dump({k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "fsf_theory"})
        )
    early = commit(checkout, "criteria without settings")
    assert not [claim for claim, _ in history.digests_at(early) if claim == first_claim(checkout)]


def test_what_is_not_committed_is_named_and_not_on_record(checkout, capsys):
    history.main([])
    edit(checkout, CLAIMS, lambda text: text.replace('statement: "', 'statement: "Now: ', 1))
    with pytest.raises(SystemExit, match=f"not committed yet: {first_claim(checkout)}"):
        history.main([])
    assert (first_claim(checkout), "gpu") not in history.read_record(checkout / history.RECORD)
    with pytest.raises(SystemExit, match="1 claims are not on record as they are"):
        history.main(["--check"])


def test_a_default_in_the_code_that_changes_is_a_change_of_today(checkout, monkeypatch):
    history.main([])
    record, claim = history.read_record(checkout / history.RECORD), first_claim(checkout)
    first = record[claim, "gpu"].commit
    record[claim, "gpu"] = replace(record[claim, "gpu"], digest="of-old-code")
    history.write_record(record, checkout / history.RECORD)
    latest = commit(checkout, "the record, and code")
    history.main([])
    again = history.read_record(checkout / history.RECORD)
    assert again[claim, "gpu"].commit == latest != first and again[claim, "paper"].commit == first


@pytest.mark.parametrize("change", [{"commit": "deadbeef0000"}, {"committed": "2020-01-01T00:00:00+00:00"}])
def test_a_commit_that_the_history_does_not_bear_out_is_doubtful_and_put_right(checkout, change):
    history.main([])
    right, claim = history.read_record(checkout / history.RECORD), first_claim(checkout)
    history.write_record(right | {(claim, "gpu"): replace(right[claim, "gpu"], **change)}, checkout / history.RECORD)
    with pytest.raises(SystemExit, match=f"such as {claim}"):
        history.main(["--check"])
    if "commit" in change:
        history.main([])
        assert history.read_record(checkout / history.RECORD) == right


def test_a_shallow_clone_cannot_tell(checkout, tmp_path_factory, monkeypatch):
    edit(checkout, "config.yaml", lambda text: text + "# more\n")
    commit(checkout, "more")
    folder = tmp_path_factory.mktemp("shallow") / "clone"
    git(checkout, "clone", "-q", "--depth", "1", f"file://{checkout}", str(folder))
    monkeypatch.setattr(history, "REPOSITORY", folder)
    with pytest.raises(SystemExit, match="this clone is shallow; git fetch --unshallow"):
        history.main([])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a,b\n1,2\n"])
def test_a_record_that_is_none_is_told_in_one_line(checkout, content):
    (checkout / history.RECORD).write_bytes(content)
    with pytest.raises(SystemExit, match="criteria_commits.csv: no table with the columns claim_id, scale"):
        history.main([])


def test_a_fault_in_the_criteria_is_one_line(checkout):
    edit(checkout, CLAIMS, lambda text: text.replace("kind: ", "kund: ", 1))
    with pytest.raises(SystemExit, match="claims.yaml: claim '.*': kind: missing, allowed: central"):
        history.main([])


def test_without_a_history_the_command_says_so(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="criteria_history: git log: "):
        history.git("log", base=tmp_path)


# --- what the ledger writes -------------------------------------------------------------------------------------------


def test_the_ledger_names_a_commit_only_for_settings_as_they_were_run(tmp_path):
    criterion = next(one for one in all_criteria() if one.compute)
    change = history.Change(history.digest(criterion, SETTINGS), "abc", "2026-01-01T00:00:00+00:00")
    path = tmp_path / "record.csv"
    history.write_record({(criterion.claim_id, "laptop"): change}, path)
    for settings, expected in (
        ({criterion.artefact: SETTINGS}, {criterion.claim_id: change}),
        ({criterion.artefact: SETTINGS | {"seed": 2}}, {}),
        ({}, {criterion.claim_id: change}),
    ):
        assert history.on_record([criterion], "laptop", settings, path) == expected
    assert history.on_record([criterion], "gpu", {}, path) == {}
    assert history.on_record([criterion], "gpu", {}, tmp_path / "none.csv") == {}


def test_without_a_history_nothing_is_doubtful(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "REPOSITORY", tmp_path)
    assert history.doubtful({("one", "gpu"): history.Change("d", "deadbeef0000", "2026-01-01T00:00:00+00:00")}) == []
