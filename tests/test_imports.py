"""Imports point one way, rooms stand apart, the package is light, and one module alone knows Snakemake."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from featurespeed.pipeline.provenance import PACKAGE_ROOT, Imports
from featurespeed.pipeline.registry import ROOMS

REPOSITORY = PACKAGE_ROOT.parent
IMPORTS = Imports()
MODULES = sorted(PACKAGE_ROOT.rglob("*.py"))
SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.py"))

# Wing -> wings that it may import (besides itself). Whatever lies in none of the four others is the library.
ARROWS: dict[str, set[str]] = {
    "library": set(),
    "ledger": {"library"},
    "drawing": {"library"},
    "papers": {"library", "ledger", "drawing"},
    "pipeline": {"library", "ledger"},
}
LIBRARY = {
    "", "parameterization", "scalings", "statistics", "randomness", "errors", "values", "records",
    "machine", "measuring", "models", "data", "training", "probes", "curvature", "homogeneous", "own", "sweeps",
    "theory", "__main__",
}  # fmt: skip
ENTRIES = "featurespeed.papers.entries"  # the one module of the papers that the pipeline imports; others by name
LOOSE = 9  # modules at the root of the package, at most
HEAVY = {"torch", "pandas", "matplotlib", "seaborn"}

#: What computes for a paper; all else in the papers only reads tables.
COMPUTING = {
    "featurespeed.papers.feature_speed.arena.cells",
    "featurespeed.papers.feature_speed.arena.networks",
    "featurespeed.papers.feature_speed.arena.schemes",
    "featurespeed.papers.feature_speed.panels",
    "featurespeed.papers.super_consistency.coordinate_check.measuring",
}
TORCH_FREE_PARTS = {
    "", "errors", "values", "parameterization", "scalings", "statistics", "records", "sweeps", "ledger", "drawing",
    "papers", "pipeline",
}  # fmt: skip
TORCH_FREE_MODULES = {
    "featurespeed.machine.files", "featurespeed.machine.locks", "featurespeed.models.spec", "featurespeed.data.spec",
    "featurespeed.data.registry", "featurespeed.homogeneous.spec", "featurespeed.homogeneous.widths",
    "featurespeed.training.spec", "featurespeed.training.curvature_spec", "featurespeed.training.operations",
}  # fmt: skip
TORCH_FREE_SCRIPTS = ("gather", "gather_descent", "keep_reference", "figure", "claims", "page", "notebook")


def part_of(module: str) -> str:
    """`featurespeed.models.mlp` -> `models`; the package itself -> ""."""
    return module.split(".")[1] if "." in module else ""


def name_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def nodes_of(path: Path) -> Iterator[ast.AST]:
    """All that a file is parsed into."""
    return ast.walk(ast.parse(path.read_bytes()))


@cache  # every script is asked about all that it imports
def direct_imports(path: Path) -> frozenset[str]:
    """Every dotted module name that stands in an import statement of a file (the package is imported absolutely)."""
    names: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            if node.module == "featurespeed":
                names.update(f"featurespeed.{alias.name}" for alias in node.names)
    return frozenset(names)


def wing_of(module: str) -> str:
    part = part_of(module)
    return part if part in ARROWS else "library"


def imported(path: Path) -> set[str]:
    """The modules of the package that stand in an import statement of a file."""
    return {name for name in direct_imports(path) if name.split(".")[0] == "featurespeed"}


def heavy(path: Path, modules: Iterable[str] = ()) -> set[str]:
    """Heavy libraries that a file imports, itself or through the package."""
    files = [path, *IMPORTS.of_script(path, modules).values()]
    return {name.split(".")[0] for file in files for name in direct_imports(file)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_arrows(path):
    name = name_of(path)
    wing = wing_of(name)
    assert wing != "library" or part_of(name) in LIBRARY, f"give {part_of(name)!r} its place in a wing"
    allowed = {wing, *ARROWS[wing]}
    wrong = {other for other in imported(path) if wing_of(other) not in allowed}
    assert wrong <= ({ENTRIES} if wing == "pipeline" else set()), f"{wing} must not import {sorted(wrong)}"


def test_arrows_have_no_cycle():
    assert_no_cycle(ARROWS)


def test_parts_of_the_library_have_no_cycle():
    needs: dict[str, set[str]] = {part: set() for part in LIBRARY}
    for path in MODULES:
        part = part_of(name_of(path))
        if part in LIBRARY:
            needs[part] |= {part_of(name) for name in imported(path)} - {part, ""}
    assert_no_cycle(needs)


def assert_no_cycle(needs: Mapping[str, set[str]]) -> None:
    """Raise for a part that needs itself, through others."""

    def reach(part: str, seen: tuple[str, ...] = ()) -> None:
        assert part not in seen, f"cycle: {' -> '.join((*seen, part))}"
        for target in needs.get(part, ()):
            reach(target, (*seen, part))

    for part in needs:
        reach(part)


def test_few_modules_lie_loose():
    assert len([path for path in PACKAGE_ROOT.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]) <= LOOSE
    assert {part_of(name_of(path)) for path in MODULES} == LIBRARY | (set(ARROWS) - {"library"})


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_no_room_imports_another(room):
    others = tuple(f"{other.module}." for other in ROOMS if other != room)
    for path in room.folder.rglob("*.py"):
        reached = {f"{name}." for name in IMPORTS.of_script(path)}
        assert not [name for name in reached if name.startswith(others)], path


def light_files() -> list[Path]:
    """What Snakemake reads before any job: entries and settings of the rooms, the registry and the configuration."""
    papers = PACKAGE_ROOT / "papers"
    in_rooms = [path for room in ROOMS for name in ("artefacts.py", "spec.py") if (path := room.file(name))]
    pipeline = [PACKAGE_ROOT / "pipeline" / name for name in ("registry.py", "config.py")]
    return [papers / "entries.py", *sorted(papers.glob("*/__init__.py")), *in_rooms, *pipeline]


@pytest.mark.parametrize("path", light_files(), ids=name_of)
def test_what_snakemake_reads_first_imports_nothing_heavy(path):
    assert heavy(path) == set()


def test_configuration_is_read_without_anything_heavy():
    code = f"import sys, featurespeed.pipeline.config; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def is_torch_free(path: Path) -> bool:
    name = name_of(path)
    return name in TORCH_FREE_MODULES or (part_of(name) in TORCH_FREE_PARTS and name not in COMPUTING)


def named_by(path: Path) -> set[str]:
    """Modules of the rooms that a script loads by their names."""
    if path.stem == "figure":
        texts = [(room, text) for room in ROOMS for entry in room.drawn for text in (entry.tables, entry.drawing)]
        return {room.module_of(text) for room, text in texts}
    return {module for room in ROOMS for module in room.claim_modules} if path.stem == "claims" else set()


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if is_torch_free(path)] + [path for path in SCRIPTS if path.stem in TORCH_FREE_SCRIPTS],
    ids=name_of,
)
def test_what_only_reads_tables_never_imports_torch(path):
    named = named_by(path) if path.parent.name == "scripts" else set()
    assert "torch" not in heavy(path, named)


def test_figures_claims_and_page_do_not_import_torch():
    named = {module for path in SCRIPTS for module in named_by(path)} | {"featurespeed.pipeline.page"}
    code = f"import sys, {', '.join(sorted(named))}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


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
    if path == PACKAGE_ROOT / "pipeline" / "stage.py":
        return
    for node in nodes_of(path):
        names = [getattr(node, "id", None), getattr(node, "attr", None)]
        if isinstance(node, ast.Constant):
            names.append(node.value)
        assert "snakemake" not in names, f"{path}:{node.lineno}"
    assert "snakemake" not in {name.split(".")[0] for name in direct_imports(path)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_have_no_future_import(path):
    """Snakemake puts its own lines before a script's, and a `__future__` import must come first."""
    assert "__future__" not in direct_imports(path)
