"""Locks that a killed run leaves: removed once nobody can hold them, and not before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featurespeed.machine.locks import held_lock, try_lock
from tests.conftest import REPOSITORY

HOLDER = """
import sys, time
from pathlib import Path
from featurespeed.machine.locks import clear_stale_locks
print(clear_stale_locks(Path(sys.argv[1])), flush=True)
time.sleep(float(sys.argv[2]))
"""


def start_run(state: Path, seconds: float) -> tuple[subprocess.Popen[str], bool]:
    """A process that behaves like a main process of the workflow; True if it has removed stale lock files."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state), str(seconds)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip() == "True"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "locks").mkdir()
    return tmp_path


def leave_lock(state: Path) -> Path:
    (state / "locks").mkdir(exist_ok=True)
    lock = state / "locks" / "0.output.lock"
    lock.write_text("results/x\n")
    return lock


def test_locks_of_a_killed_run_are_removed(state):
    killed, _ = start_run(state, 60)
    lock = leave_lock(state)
    killed.kill()
    killed.wait()
    after, removed = start_run(state, 0)
    after.wait()
    assert removed and not lock.exists()


def test_locks_stay_while_any_run_lives(state):
    first, _ = start_run(state, 60)
    lock = leave_lock(state)
    second, removed = start_run(state, 60)
    assert not removed and lock.exists()
    first.kill()
    first.wait()
    third, removed = start_run(state, 0)  # the second run still lives
    third.wait()
    assert not removed and lock.exists()
    second.kill()
    second.wait()


@pytest.mark.parametrize("recorded", ["some-other-host", ""])
def test_locks_stay_when_the_last_run_may_live_on_another_host(state, recorded):
    (state / "main.lock").write_text(recorded)
    lock = leave_lock(state)
    process, removed = start_run(state, 0)
    process.wait()
    assert not removed and lock.exists()


# --- a folder that others remove --------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 5])
def test_a_folder_that_goes_before_its_lock_is_made_is_made_again(tmp_path, monkeypatch, times):
    """As by other jobs of the same folder, which have ended."""
    path, opened, gone = tmp_path / "checkpoints/job.lock", os.open, []

    def open_late(name, *arguments):
        if len(gone) < times:
            gone.append(path.parent.rmdir())
        return opened(name, *arguments)

    monkeypatch.setattr("featurespeed.machine.locks.os.open", open_late)
    with held_lock(path):
        assert len(gone) == times and path.exists()
        assert try_lock(path) is None


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(OSError):
        try_lock(tmp_path / "checkpoints/job.lock")
