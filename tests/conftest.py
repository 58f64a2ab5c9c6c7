"""Shared by all tests: one thread a process, one smoke run of the whole workflow, and ways to call it."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests run side by side
os.environ.setdefault("MPLBACKEND", "agg")

import importlib.util
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock

from tests import forked

REPOSITORY = Path(__file__).resolve().parents[1]
# A machine with SLURM's programs and no cluster: Snakemake would wait 9 s for its controller at every start. Processes
# of pytest-xdist get the changed path from the one that starts them.
NO_CLUSTER = str(REPOSITORY / "tests/no_cluster")
SYSTEM_PATH = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != NO_CLUSTER)
os.environ["PATH"] = os.pathsep.join([NO_CLUSTER, SYSTEM_PATH])


@dataclass(frozen=True)
class SmokeRun:
    """One finished run at scale smoke: where it ran, the home it had, and the files of the repository before it."""

    directory: Path
    home: Path
    before: frozenset[str]

    @property
    def results(self) -> Path:
        return self.directory / "results" / "smoke"


def run_snakemake(
    *arguments: str, directory: Path, sources: Path = REPOSITORY, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`snakemake` on the Snakefile of `sources` with outputs under `directory`; both streams as text.

    Forked from a process that has imported Snakemake, unless the call has an environment of its own from the start.
    """
    command = snakemake_command(*arguments, directory=directory)
    if not environment:
        own = command[command.index("snakemake") + 1 :]
        return forked.run({"module": "snakemake"}, *own, libraries=forked.WORKFLOW, cwd=sources, environment=os.environ)
    return subprocess.run(
        command, cwd=sources, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900
    )


def snakemake_command(*arguments: str, directory: Path) -> list[str]:
    """The command line of `run_snakemake`."""
    return [sys.executable, "-m", "snakemake", "--directory", str(directory), *arguments]


def load_script(name: str) -> ModuleType:
    """A script of `scripts/` as a module; importing one does no work."""
    location = importlib.util.spec_from_file_location(name, REPOSITORY / f"scripts/{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(location)  # dataclasses look their module up
    location.loader.exec_module(module)
    return module


def repository_files() -> frozenset[str]:
    """Every file of the working tree, caches of tools and environments left out."""
    skipped = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", "results", "logs"}
    found = []
    for folder, folders, files in os.walk(REPOSITORY):
        folders[:] = [name for name in folders if name not in skipped]
        found += [os.path.join(folder, name) for name in files]
    return frozenset(found)


def copy_of_the_sources(target: Path) -> Path:
    """A copy of the repository, without its history, environment and results, that a test may edit."""
    ignored = shutil.ignore_patterns(".git", ".venv", "results", "logs", "resources", ".snakemake", "__pycache__")
    return Path(shutil.copytree(REPOSITORY, target, ignore=ignored))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources that a test may edit."""
    return copy_of_the_sources(tmp_path / "checkout")


@pytest.fixture
def snakemake(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`snakemake(*arguments)` in an empty directory of its own."""

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_snakemake(*arguments, directory=tmp_path, **environment)

    return call


Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Run]], tuple[Path, Run]]:
    """`run_once(name, run)`: a folder and what `run(folder)` said in it, once for all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def call(name: str, run: Callable[[Path], Run]) -> tuple[Path, Run]:
        folder, done = shared / name, shared / f"{name}.pickle"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                done.write_bytes(pickle.dumps(run(folder)))
        return folder, pickle.loads(done.read_bytes())

    return call


@pytest.fixture(scope="session")
def smoke_run(run_once) -> SmokeRun:
    """The whole workflow at scale smoke."""

    def run(folder: Path) -> Run:
        (folder / "home").mkdir()
        (folder / "run").mkdir()
        (folder / "before").write_text("\n".join(repository_files()))
        home = str(folder / "home")
        return run_snakemake("--cores", "2", "--config", "scale=smoke", directory=folder / "run", HOME=home)

    folder, done = run_once("smoke", run)
    assert done.returncode == 0, done.stderr[-5000:]
    return SmokeRun(folder / "run", folder / "home", frozenset((folder / "before").read_text().splitlines()))


@pytest.fixture(scope="session")
def smoke_results(smoke_run: SmokeRun) -> Path:
    """`results/smoke` of the shared run."""
    return smoke_run.results
