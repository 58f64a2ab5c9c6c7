"""Processes that tests fork are what they stand for, also when they fail."""

import subprocess
import time
from contextlib import suppress

import psutil
import pytest

from tests import forked


def call(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.run({"code": code}, "7", libraries=("json",), cwd=forked.ROOT, environment=environment)


def ended(pid: int) -> bool:
    """Within a second; one that nobody has waited for yet counts."""
    with suppress(psutil.NoSuchProcess):
        process, until = psutil.Process(pid), time.monotonic() + 1
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
    return True


@pytest.mark.parametrize(
    ("code", "status"),
    [("import sys; sys.exit(5)", 5), ("import os; os.kill(os.getpid(), 9)", -9), ("raise ValueError", 1), ("", 0)],
)
def test_a_process_ends_as_it_would_alone(code, status):
    assert call(code).returncode == status


def test_it_has_its_own_arguments_streams_and_environment():
    done = call("import os, sys; print(sys.argv[1:], os.environ); print(os.getcwd(), file=sys.stderr)", A="b")
    assert done.stdout == "['7'] environ({'A': 'b'})\n" and done.stderr == f"{forked.ROOT}\n"


def test_one_that_takes_too_long_is_ended_and_does_not_answer_for_the_next(monkeypatch, tmp_path):
    monkeypatch.setattr(forked, "SECONDS", 1)
    with pytest.raises(subprocess.TimeoutExpired):
        call(f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    assert ended(int((tmp_path / "pid").read_text()))
    monkeypatch.undo()
    assert [call(f"import sys; sys.exit({number})").returncode for number in (3, 4)] == [3, 4]


def test_a_process_that_forks_and_has_ended_is_started_anew():
    with pytest.raises(subprocess.TimeoutExpired):
        call("import os; os.kill(os.getppid(), 9)")
    assert call("import sys; sys.exit(3)").returncode == 3
