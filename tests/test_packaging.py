"""pyproject.toml, requirements.lock, environment.yml and the jobs' environment say the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import featurespeed
from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LOCK_LINES = [line for line in (REPOSITORY / "requirements.lock").read_text().splitlines() if line[:1] not in ("#", "")]
LOCK = {canonicalize_name(line.split("==")[0]): line.split("==")[-1] for line in LOCK_LINES}
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS["workflow"], *EXTRAS["test"]]]
OURS = "featurespeed"


def pip_lines(file: str) -> list[str]:
    """The pip section of a conda environment file."""
    dependencies = yaml.safe_load((REPOSITORY / file).read_text())["dependencies"]
    return next(item["pip"] for item in dependencies if isinstance(item, dict))


def python_of(file: str) -> str:
    dependencies = yaml.safe_load((REPOSITORY / file).read_text())["dependencies"]
    return next(item.split("=")[1] for item in dependencies if isinstance(item, str) and item.startswith("python="))


def test_every_line_of_the_lock_is_one_exact_version_from_the_normal_index():
    assert len(LOCK) == len(LOCK_LINES)
    for line in LOCK_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    assert LOCK["torch"] == "2.13.0"


@pytest.mark.parametrize("requirement", [r for r in DECLARED if r.name != OURS], ids=str)
def test_lock_satisfies_the_project(requirement):
    assert Version(LOCK[canonicalize_name(requirement.name)]) in requirement.specifier


def test_lock_is_the_environment_that_runs_the_tests():
    """Complete: every package that an extra needs, directly or not, is locked, at the version installed here."""
    from importlib.metadata import distribution

    todo, seen = (
        [(canonicalize_name(requirement.name), frozenset(requirement.extras)) for requirement in DECLARED],
        set(),
    )
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen or name == OURS:
            continue
        seen.add((name, extras))
        package = distribution(name)
        if not name.startswith(("nvidia-", "triton", "cuda-")):  # pinned by the CUDA build of torch itself
            assert Version(package.version).public == LOCK.get(name), name
        for text in package.requires or []:
            needed = Requirement(text)
            wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if needed.marker is None or any(needed.marker.evaluate(environment) for environment in wanted):
                todo.append((canonicalize_name(needed.name), frozenset(needed.extras)))


def test_extras_nest_and_the_base_is_small():
    base = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert base == {"matplotlib", "numpy", "pandas", "psutil", "scipy", "torch"}
    assert not base & {Requirement(text).name for text in EXTRAS["workflow"] + EXTRAS["test"]}
    assert f"{OURS}[workflow]" in EXTRAS["test"]
    assert PROJECT["requires-python"] == ">=3.11"


def test_conda_environment_installs_the_lock_and_the_package():
    lines = pip_lines("environment.yml")
    assert lines == ["-r requirements.lock", "-e ."]
    assert (REPOSITORY / "requirements.lock").exists()
    assert python_of("environment.yml") == python_of("workflow/envs/featurespeed.yaml") == "3.11"


def test_environment_of_the_jobs_has_the_versions_of_the_lock_and_all_that_jobs_import():
    pins = dict(line.split("==") for line in pip_lines("workflow/envs/featurespeed.yaml"))
    assert {canonicalize_name(name): version for name, version in pins.items()}.items() <= LOCK.items()
    needed = {Requirement(text).name for text in [*PROJECT["dependencies"], *EXTRAS["workflow"]]}
    for_the_main_process = {"snakemake", "snakemake-executor-plugin-slurm", "jsonschema"}
    assert {canonicalize_name(name) for name in pins} == {canonicalize_name(n) for n in needed - for_the_main_process}


def test_what_indices_show_is_what_the_repository_says():
    """Licence, papers and the version, which stand at other places, too."""
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    papers = {entry["identifiers"][0]["value"].removeprefix("arXiv:") for entry in cited["references"]}
    assert {url.removeprefix("https://arxiv.org/abs/") for url in PROJECT["urls"].values()} == papers
    assert PROJECT["license"] == cited["license"] == "MIT" and (REPOSITORY / PROJECT["license-files"][0]).exists()
    assert PROJECT["version"] == cited["version"] == featurespeed.__version__
    assert [author["name"] for author in PROJECT["authors"]] == [author["name"] for author in cited["authors"]]


def test_type_checkers_see_every_public_name():
    """The stub of the package names what `EXPORTS` loads, from the same modules."""
    stub = ast.parse((REPOSITORY / "featurespeed/__init__.pyi").read_bytes())
    imports = [node for node in ast.walk(stub) if isinstance(node, ast.ImportFrom)]
    shown = {alias.asname: node.module for node in imports for alias in node.names if alias.asname == alias.name}
    assert shown == featurespeed.EXPORTS
    assert (REPOSITORY / "featurespeed/py.typed").read_bytes() == b""


def test_every_module_of_a_public_name_is_checked_for_its_types():
    checked = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    for module in featurespeed.EXPORTS.values():
        path = f"{module.replace('.', '/')}.py"
        assert any(path == entry or path.startswith(f"{entry}/") for entry in checked), path
    assert all((REPOSITORY / entry).exists() for entry in checked)


def test_the_command_line_is_installed():
    from featurespeed.own.command import main

    module, name = PROJECT["scripts"]["featurespeed"].split(":")
    assert (module, name) == (main.__module__, main.__name__)


def test_imports_of_the_package_are_declared():
    """The base needs only the base: what the extras bring is imported where it is used, or by workflow parts only."""
    modules = {"yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn"}
    declared = {canonicalize_name(requirement.name) for requirement in DECLARED}
    for folder in ("featurespeed", "scripts"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                names = (
                    [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
                )
                for top in {
                    name.split(".")[0] for name in names if name and isinstance(node, ast.Import | ast.ImportFrom)
                }:
                    if top not in sys.stdlib_module_names and top not in (OURS, "scripts"):
                        assert canonicalize_name(modules.get(top, top)) in declared, f"{path}: {top}"
