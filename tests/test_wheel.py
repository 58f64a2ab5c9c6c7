"""The wheel in an environment that has the base requirements and nothing else, made without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY

BASE = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
ABSENT = ("pydantic", "snakemake", "seaborn", "statsmodels", "yaml", "transformers", "timm", "tqdm", "sklearn")
PROGRAM = f"""
import importlib.util
import torch
from torch import nn
import featurespeed
found = [name for name in {ABSENT!r} if importlib.util.find_spec(name)]
assert not found, found
assert "site-packages" in featurespeed.__file__
net, batch = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)), (torch.ones(4, 3), torch.arange(4) % 2)
print(float(featurespeed.measure_feature_speed(net, nn.CrossEntropyLoss(), batch).formula_error.nan_to_num().max()))
print(featurespeed.sharpness(net, nn.CrossEntropyLoss(), batch).eigenvalue)
print(float(featurespeed.taylor_coefficients([torch.ones(2, 3)], batch[0], torch.zeros(4, 2), loss="mse").c0))
print(featurespeed.hessian_trace(net, nn.CrossEntropyLoss(), batch).value)
"""
SCRIPT = """
import torch
from torch import nn

def make_model(width=8):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))

def make_batch():
    return torch.ones(4, 3), torch.arange(4) % 2
"""
WITHOUT_PSUTIL = """
import sys
from importlib import metadata
known = metadata.version

def version(name):
    if name == "psutil":
        raise metadata.PackageNotFoundError(name)
    return known(name)

metadata.version = version
from featurespeed.own.command import main
sys.exit(main(["doctor"]))
"""
TYPED = """
import featurespeed
reveal_type(featurespeed.sharpness)
reveal_type(featurespeed.measure_feature_speed)
featurespeed.soft_ranks(1, wrong=2)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from flit_core.buildapi import build_wheel; print(build_wheel(sys.argv[1]))"
    done = run(sys.executable, "-c", build, folder, cwd=REPOSITORY)
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory) -> Path:
    """Folder of the programs of an environment with the wheel and its requirements, by links to those of the tests."""
    folder = tmp_path_factory.mktemp("bare") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for found in requirements(BASE):
        link(found, packages)
    programs = folder / "bin"
    run(sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-index", "--no-deps", wheel)
    return programs


def requirements(texts: list[str]) -> Iterator[Distribution]:
    """The distributions that are needed, directly or not, each once."""
    todo, seen = [Requirement(text) for text in texts], set()
    while todo:
        needed = todo.pop()
        if needed.name in seen or (needed.marker is not None and not needed.marker.evaluate({"extra": ""})):
            continue
        seen.add(needed.name)
        found = distribution(needed.name)
        yield found
        todo += [Requirement(text) for text in found.requires or []]


def link(found: Distribution, packages: Path) -> None:
    """Links to all top-level files and folders of a distribution."""
    for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
        if not (packages / top).exists():
            (packages / top).symlink_to(Path(str(found.locate_file(top))))


def run(*command: object, cwd: Path | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A program that sees nothing of the tests' own paths."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_wheel_holds_the_package_its_types_and_its_data(wheel):
    """Everything that lies in the package and is not made by running it."""
    tracked = run("git", "ls-files", "featurespeed", cwd=REPOSITORY).stdout.split()
    names = set(ZipFile(wheel).namelist())
    assert set(tracked) <= names and "featurespeed/py.typed" in names
    described = {name.split("/", 1)[1] for name in names if name.startswith("featurespeed-")}
    assert {"entry_points.txt", "METADATA", "licenses/LICENSE"} <= described


@pytest.mark.slow
def test_base_installation_measures_without_anything_else(bare, tmp_path):
    lines = run(bare / "python", "-c", PROGRAM, cwd=tmp_path).stdout.split()
    assert len(lines) == 4 and float(lines[0]) < 1e-4 and float(lines[1]) > 0


@pytest.mark.slow
def test_base_installation_has_the_command_line(bare, tmp_path):
    report = run(bare / "featurespeed", "doctor", cwd=tmp_path).stdout
    assert "no problems" in report and "extra workflow" in report and "not complete: " in report
    (tmp_path / "own.py").write_text(SCRIPT)
    common = ["own.py", "--loss", "cross_entropy", "--json"]
    done = run(bare / "featurespeed", "sharpness", *common, cwd=tmp_path)
    assert json.loads(done.stdout)["eigenvalue"] > 0
    check = ["check-coordinates", *common, "--widths", 8, 16, 32, "--optimizer", "adam", "--learning-rate", 0.01]
    done = run(bare / "python", "-m", "featurespeed", *check, "--plot", "check.png", cwd=tmp_path)
    assert json.loads(done.stdout)["verdict"] and (tmp_path / "check.png").stat().st_size > 1000
    assert run(bare / "featurespeed", "sharpness", "none.py", cwd=tmp_path, code=2).stdout == ""


@pytest.mark.slow
def test_doctor_names_what_a_base_installation_lacks(bare, tmp_path):
    """A package that is gone is a problem, with the way to put it right."""
    report = run(bare / "python", "-c", WITHOUT_PSUTIL, cwd=tmp_path, code=1).stdout
    assert "missing or too old: psutil>=6; python -m pip install featurespeed" in report


@pytest.mark.slow
def test_installed_package_is_typed(bare, tmp_path):
    (tmp_path / "typed.py").write_text(TYPED)
    checked = [sys.executable, "-m", "mypy", "--python-executable", bare / "python", "--follow-imports=silent"]
    shown = run(*checked, "typed.py", cwd=tmp_path, code=1).stdout
    revealed = [line for line in shown.splitlines() if "Revealed type" in line]
    assert "Eigenvalues" in revealed[0] and "FeatureSpeed" in revealed[1], shown
    assert 'Unexpected keyword argument "wrong" for "soft_ranks"' in shown
