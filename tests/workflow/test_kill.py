"""A run that is killed without warning goes on by the same command, to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF
from tests.conftest import REPOSITORY, run_snakemake, snakemake_command
from tests.workflow.test_workflow import smoke_config

pytestmark = pytest.mark.slow

# One of each kind: a stage alone, one that trains in itself, one that reads weights, one that gathers curvature.
DRAWN, ASKED = ("fsf_fig1a", "sc_fig28", "sc_fig01"), ("fsf_fig1a", "sc_fig28", "sc_fig01", "fsf_training")
SMOKE = ("--cores", "2", "--config", "scale=smoke", "--", *DRAWN, "results/smoke/stages/fsf_training.parquet")


def tables(results: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every Parquet and CSV file."""
    files = [path for path in results.rglob("*") if path.suffix in (".parquet", ".csv")]
    return {str(path.relative_to(results)): path.read_bytes() for path in files}


def jobs_of(names: Iterable[str]) -> set[str]:
    """Tables of the jobs of some artefacts."""
    config, names = smoke_config(), list(names)
    jobs = [f"training/{run}.parquet" for name in names for run in config.training_runs(name)]
    return {*jobs, *(f"sharpness/{run}.parquet" for name in names for run in config.sharpness_runs(name))}


def assert_as_undisturbed(directory: Path, undisturbed: Path) -> None:
    """All tables of the artefacts and of their jobs are there, byte for byte those of the run of everything.

    At smoke the jobs of a paper go together: those that its other figures share a process with may be there, too.
    """
    made, expected = tables(directory / "results/smoke"), tables(undisturbed)
    needed = jobs_of(ASKED) | {f"stages/{name}.parquet" for name in ASKED} | {f"tables/{x}.csv" for x in DRAWN}
    papers = {ROOM_OF[name].paper for name in ASKED}
    assert needed <= set(made) <= needed | jobs_of(name for name in ARTEFACTS if ROOM_OF[name].paper in papers)
    assert made == {name: expected[name] for name in made}


def start(directory: Path) -> subprocess.Popen[bytes]:
    """The workflow in a process group of its own."""
    return subprocess.Popen(
        snakemake_command(*SMOKE, directory=directory),
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def count(directory: Path, pattern: str) -> int:
    return len(list(directory.glob(pattern)))


def wait_for(run: subprocess.Popen[bytes], moment: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not moment():
        assert run.poll() is None, "the run has ended before it could be killed"
        assert time.monotonic() < deadline, "the moment has not come"
        time.sleep(0.02)


def test_killed_runs_go_on_to_the_same_tables(tmp_path, smoke_results):
    stages, logs = "results/smoke/stages/*.parquet", "logs/smoke/*/*.log"
    moments = {
        "the locks are there": lambda: count(tmp_path, ".snakemake/locks/*.lock") > 0,
        "a first stage works": lambda: count(tmp_path, logs) > 0,
        "some stages are done": lambda: count(tmp_path, stages) >= 2,
        "a figure is drawn": lambda: count(tmp_path, "results/smoke/figures/*.svg") >= 1,
    }
    for name, moment in moments.items():
        run = start(tmp_path)
        wait_for(run, moment)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert count(tmp_path, ".snakemake/locks/*.lock") > 0, f"{name}: killed too late to leave locks"
    done = run_snakemake(*SMOKE, directory=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "its locks are removed" in done.stderr
    assert_as_undisturbed(tmp_path, smoke_results)
    assert not list((tmp_path / "results").rglob(".part-*"))


def test_jobs_that_outlive_their_killed_run_do_no_harm(tmp_path, smoke_results):
    run = start(tmp_path)
    wait_for(run, lambda: count(tmp_path, "logs/smoke/*/*.log") > 0)
    run.kill()  # the main process alone; its jobs work on
    run.wait()
    done = run_snakemake(*SMOKE, directory=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    assert_as_undisturbed(tmp_path, smoke_results)


def test_a_second_run_in_the_same_directory_stops_and_the_first_goes_on(tmp_path, smoke_results):
    first = start(tmp_path)
    wait_for(first, lambda: count(tmp_path, "logs/smoke/*/*.log") > 0)
    second = run_snakemake(*SMOKE, directory=tmp_path)
    assert second.returncode != 0 and "cannot be locked" in second.stdout + second.stderr
    assert first.wait(timeout=600) == 0
    assert_as_undisturbed(tmp_path, smoke_results)
