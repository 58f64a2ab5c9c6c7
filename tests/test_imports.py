"""Imports point one way, the package is light, and one module alone knows Snakemake."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from featurespeed.provenance import PACKAGE_ROOT, Imports

REPOSITORY = PACKAGE_ROOT.parent
MODULES = sorted(PACKAGE_ROOT.rglob("*.py"))
SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.py"))

# Part of the package -> parts that it may import (besides itself). What is not listed here may be imported by none.
# fmt: off
ARROWS: dict[str, set[str]] = {
    "": set(),
    "errors": set(),
    "parameterization": set(),
    "scalings": {"parameterization"},
    "statistics": set(),
    "published": set(),
    "randomness": set(),
    "locks": set(),
    "records": set(),
    "provenance": set(),
    "device": {"locks"},
    "stage": {"records", "provenance", "errors"},
    "data": {"randomness", "records", "locks", "errors"},
    "specs": {"parameterization", "scalings", "data"},
    "artefacts": {"specs"},
    "config": {"specs", "data", "artefacts"},
    "models": {"parameterization", "scalings", "specs", "randomness"},
    "probes": {"models", "parameterization", "scalings", "specs", "randomness"},
    "theory": {"parameterization", "scalings", "specs", "randomness", "models"},
    "curvature": {"device", "randomness", "errors"},
    "training": {"probes", "theory", "models", "data", "parameterization", "scalings", "specs", "randomness", "records",
                 "errors", "device", "locks", "curvature", "operations"},
    "homogeneous": {"training", "models", "data", "parameterization", "specs", "randomness", "errors", "device",
                    "curvature"},
    "panels": {"probes", "theory", "models", "parameterization", "scalings", "specs", "randomness"},
    "coordinates": {"records", "statistics", "parameterization"},
    "transfer": {"statistics"},
    "convergence": {"statistics", "transfer"},
    "bridge": {"statistics", "transfer"},
    "beyond": {"statistics", "transfer"},
    "beyond_bridge": {"statistics", "transfer", "beyond"},
    "operations": {"parameterization", "specs", "data"},
    "cost": {"operations", "config", "specs", "data", "parameterization"},
    "tabulate": {"records", "statistics", "parameterization", "scalings", "config"},
    "claims": {"records", "statistics", "parameterization", "scalings", "published", "coordinates",
               "transfer", "convergence", "bridge", "beyond", "beyond_bridge"},
    "plotting": {"records", "statistics", "parameterization", "scalings"},
    "papers": {"config", "parameterization", "scalings"},
    "page": {"papers", "claims", "artefacts", "records", "tabulate", "parameterization"},
    "figures": {"plotting", "tabulate", "records", "statistics", "parameterization", "scalings", "config",
                "coordinates", "transfer", "convergence", "bridge", "beyond", "beyond_bridge"},
}
# fmt: on
TORCH_FREE = (
    "",
    "errors",
    "published",
    "parameterization",
    "scalings",
    "specs",
    "artefacts",
    "config",
    "records",
    "provenance",
    "stage",
    "locks",
    "statistics",
    "coordinates",
    "transfer",
    "convergence",
    "bridge",
    "beyond",
    "beyond_bridge",
    "operations",
    "cost",
    "tabulate",
    "claims",
    "plotting",
    "figures",
    "papers",
    "page",
)  # fmt: skip
TORCH_FREE_SCRIPTS = (
    "gather", "gather_descent", "keep_reference", "figures_fsf", "figures_sc", "figures_beos", "claims", "page",
    "notebook",
)  # fmt: skip


def part_of(module: str) -> str:
    """`featurespeed.models.mlp` -> `models`; the package itself -> ""."""
    return module.split(".")[1] if "." in module else ""


def name_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def direct_imports(path: Path) -> set[str]:
    """Every dotted module name that stands in an import statement of a file (the package is imported absolutely)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            if node.module == "featurespeed":
                names.update(f"featurespeed.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_arrows(path):
    part = part_of(name_of(path))
    assert part in ARROWS, f"give {part!r} its place in ARROWS"
    ours = {part_of(name) for name in direct_imports(path) if name.split(".")[0] == "featurespeed"} - {part, ""}
    assert ours <= ARROWS[part], f"{part} must not import {sorted(ours - ARROWS[part])}"


def test_arrows_have_no_cycle():
    def reach(part: str, seen: tuple[str, ...] = ()) -> None:
        assert part not in seen, f"cycle through {part}"
        for target in ARROWS[part]:
            reach(target, (*seen, part))

    for part in ARROWS:
        reach(part)


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if part_of(name_of(path)) in TORCH_FREE]
    + [path for path in SCRIPTS if path.stem in TORCH_FREE_SCRIPTS],
    ids=name_of,
)
def test_what_only_reads_tables_never_imports_torch(path):
    for file in [path, *Imports().of_script(path).values()]:
        assert "torch" not in {module.split(".")[0] for module in direct_imports(file)}, file


def test_importing_the_package_is_light():
    heavy = "import sys, featurespeed; print(sorted({'torch', 'pandas', 'numpy', 'snakemake'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", heavy], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_imported():
    import featurespeed

    for name in featurespeed.__all__:
        assert getattr(featurespeed, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = featurespeed.no_such_name


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_only_stage_knows_the_name_snakemake(path):
    if path == PACKAGE_ROOT / "stage.py":
        return
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = [getattr(node, "id", None), getattr(node, "attr", None)]
        if isinstance(node, ast.Constant):
            names.append(node.value)
        assert "snakemake" not in names, f"{path}:{node.lineno}"
    assert "snakemake" not in {name.split(".")[0] for name in direct_imports(path)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_have_no_future_import(path):
    """Snakemake puts its own lines before a script's, and a `__future__` import must come first."""
    assert "__future__" not in direct_imports(path)
