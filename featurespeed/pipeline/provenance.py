"""Which code made a table: a hash over exactly the files that a script runs, and the facts stored inside the table."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from featurespeed import EXPORTS

PACKAGE = "featurespeed"
PACKAGE_ROOT = Path(__file__).resolve().parents[1]
STORED_VERSIONS = ("torch", "numpy", "pandas")


@dataclass(frozen=True)
class Imports:
    """What each module of the package imports, read once however many scripts are asked about.

    For one moment: an edit of a module that was read is not seen.
    """

    package_root: Path = PACKAGE_ROOT
    _known: dict[Path, dict[str, Path]] = field(default_factory=dict)

    def of_script(self, script: Path | str, modules: Iterable[str] = ()) -> dict[str, Path]:
        """Dotted name -> file of every module of the package that `script` imports, transitively.

        `modules` are further ones that it loads by their names, as it does the functions that a room names; they and
        their packages count, and what they import.
        """
        found = self._with_packages(modules)
        open_files = [(Path(script), ""), *((path, name) for name, path in found.items())]
        while open_files:
            direct = self._of_file(*open_files.pop())
            open_files += [(path, name) for name, path in direct.items() if name not in found]
            found |= direct
        return found

    def _of_file(self, path: Path, module: str) -> dict[str, Path]:
        """The modules that one file imports and the packages on the way; `module` is its own name, "" for a script."""
        if path not in self._known:
            self._known[path] = self._with_packages(imports_of(path, module, self.package_root))
        return self._known[path]

    def _with_packages(self, modules: Iterable[str]) -> dict[str, Path]:
        """Dotted name -> file of these modules and of the packages on the way to them."""
        names = [name.split(".") for name in modules]
        prefixes = {".".join(parts[: i + 1]) for parts in names for i in range(len(parts))}
        files = {prefix: _module_file(prefix, self.package_root) for prefix in prefixes}
        return {name: file for name, file in files.items() if file is not None}


def code_hash(script: Path | str, imports: Imports | None = None, modules: Iterable[str] = ()) -> str:
    """12 hex digits over the content of `script` and of every module of the package that it imports, transitively.

    `modules` are dotted names of further ones that it loads by name (:meth:`Imports.of_script`).

    Imports are read, not run, wherever they stand in the code; the `__init__` of each package on the way counts, as
    Python runs it. An edit elsewhere leaves the hash alone. Raises FileNotFoundError if there is no such script.
    """
    digest = hashlib.sha256(Path(script).read_bytes())
    for name, path in sorted((imports or Imports()).of_script(script, modules).items()):
        digest.update(f"\0{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def public_modules(script: Path | str) -> list[str]:
    """The modules behind names that a script imports from the package itself, which loads them when they are used."""
    wanted = {
        alias.name
        for node in ast.walk(ast.parse(Path(script).read_bytes()))
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE
        for alias in node.names
    }
    return sorted({module for name, module in EXPORTS.items() if name in wanted})


def canonical_json(value: object) -> str:
    """The one spelling of a JSON-able value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def table_metadata(spec: object, script: Path | str) -> dict[str, object]:
    """What made a table, without anything that differs between two equal runs.

    `spec` is a mapping or a model with `model_dump(mode="json")`.
    """
    settings = dict(spec) if isinstance(spec, Mapping) else spec.model_dump(mode="json")
    return {
        "spec": settings,
        "config_hash": hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:12],
        "script": Path(script).name,
        "code_hash": code_hash(script, modules=modules_of(spec)),
        "seeds": {name: value for name, value in settings.items() if "seed" in name or "draws" in name},
        "versions": {name: _version(name) for name in STORED_VERSIONS},
    }


def modules_of(spec: object) -> tuple[str, ...]:
    """The module that defines the type of a spec: a stage may read settings of a type that only a room knows."""
    module = type(spec).__module__
    return (module,) if _ours(module) else ()


def imports_of(path: Path, module: str = "", package_root: Path = PACKAGE_ROOT) -> Iterator[str]:
    """Dotted names in the package that one file imports; `module` is its own name, "" for a script."""
    is_package = path.name == "__init__.py"
    for node in _import_statements(path.read_bytes()):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _ours(alias.name))
            continue
        base = node.module or ""
        if node.level:
            up = node.level - 1 if is_package else node.level
            parents = module.split(".")
            base = ".".join([*parents[: len(parents) - up], *filter(None, [base])])
        if _ours(base):
            yield base
            for alias in node.names:
                yield _named(base, alias.name, package_root)


@cache  # a package's table of lazy exports is looked up by every module that imports from it
def _parsed(source: bytes) -> ast.Module:
    return ast.parse(source)


#: Import statements at the beginning of a line, and what makes them hard to find by looking at lines.
_STATEMENT = re.compile(rb"^[ \t]*((?:from[ \t]+[.\w]+[ \t]+)?import\b[ \t]*(?:\([^)]*\)|[^\n]*))", re.MULTILINE)
_STRING = re.compile(rb"(\"\"\"|\'\'\').*?\1", re.DOTALL)
_HARD = re.compile(
    rb"[:;][ \t]*(?:from|import)\b|^[ \t]*from\b(?![ \t]+[.\w]+[ \t]+import\b)"
    rb"|\\\r?\n|\r(?!\n)|\x0c|\A\xef\xbb\xbf",
    re.MULTILINE,
)
#: A comment or another string before the first triple quote of a line: the quotes may be part of it.
_DOUBTFUL = re.compile(rb"^[^\n#\"\']*(?!\"\"\"|\'\'\')[#\"\'][^\n]*?(?:\"\"\"|\'\'\')", re.MULTILINE)


def _import_statements(source: bytes) -> list[ast.Import | ast.ImportFrom]:
    """All import statements of a file.

    They are found by looking at lines, ten times faster than by parsing the file; where that might go wrong, it is
    parsed.
    """
    code = _STRING.sub(b"", source)
    doubtful = _DOUBTFUL.search(source) or _HARD.search(code)
    if not doubtful and b'"""' not in code and b"'''" not in code:
        with suppress(SyntaxError):
            lines = [match[1] for match in _STATEMENT.finditer(code)]
            return [node for node in ast.parse(b"\n".join(lines)).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return parsed_imports(source)


def parsed_imports(source: bytes) -> list[ast.Import | ast.ImportFrom]:
    """All import statements of a file, parsed. Only statements are searched: no expression holds one."""
    found: list[ast.Import | ast.ImportFrom] = []
    open_nodes: list[ast.AST] = [_parsed(source)]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, name, ())
            open_nodes += inner if isinstance(inner, list) else ()  # the body of a lambda is an expression
    return found


def _named(base: str, name: str, package_root: Path) -> str:
    """The module that `from base import name` loads: a submodule, the home of a lazy export, or base itself."""
    if _module_file(f"{base}.{name}", package_root) is not None:
        return f"{base}.{name}"
    return _lazy_exports(base, package_root).get(name, base)


def _lazy_exports(package: str, package_root: Path) -> dict[str, str]:
    """The literal `EXPORTS` table (name -> module) of a package, which its `__getattr__` imports from on demand."""
    path = _module_file(package, package_root)
    if path is None or path.name != "__init__.py":
        return {}
    for node in _parsed(path.read_bytes()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "EXPORTS" for target in targets):
            return ast.literal_eval(node.value)
    return {}


def _ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def _module_file(name: str, package_root: Path) -> Path | None:
    if not _ours(name):
        return None
    path = os.path.join(package_root, *name.split(".")[1:])  # as text: a plan of the workflow asks for thousands
    for candidate in (os.path.join(path, "__init__.py"), f"{path}.py"):
        if os.path.isfile(candidate):
            return Path(candidate)
    return None


def source_commit(base: Path = PACKAGE_ROOT.parent) -> str:
    """Commit of the sources, with ``+changes`` where a tracked file differs from it; "" where there is no history."""
    try:
        top, commit = _git(base, "rev-parse", "--show-toplevel", "HEAD").split()
        if Path(top) != base:  # an installed copy inside somebody's own repository
            return ""
        changed = _git(base, "status", "--porcelain", "--untracked-files=no", "--", ":!results")
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    return commit[:12] + ("+changes" if changed.strip() else "")


def _git(base: Path, *arguments: str) -> str:
    command = ["git", "-C", str(base), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
