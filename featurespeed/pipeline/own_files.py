"""Files of a user that settings name, ``FILE.py:function``: found, looked at without being run, and hashed."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from featurespeed.errors import UserError
from featurespeed.machine.references import split_reference
from featurespeed.pipeline.provenance import parsed_imports
from featurespeed.values import did_you_mean

#: Names of a file that may have others besides: what it imports as a whole, or makes on demand.
CANNOT_TELL = {"*", "__getattr__"}
WHERE = "a file beside the file of settings, or an absolute path"


def located(text: str, folder: Path) -> str:
    """A reference with the path of its file: from the folder of the settings, or else from the working folder."""
    file, colon, name = text.rpartition(":")
    file, end = (file, colon + name) if file.endswith(".py") else (text, "")
    path = Path(file).expanduser()
    beside = folder / path  # of an absolute path that one itself
    found = beside if beside.is_file() or not path.is_file() else path
    return f"{found.absolute()}{end}"


def checked_reference(text: str, default: str) -> str:
    """``FILE.py:function`` in full, of a file that has such a function.

    Raises:
        ValueError: what is wrong, and what is allowed.
    """
    try:
        file, name = split_reference("", text, default)
    except UserError:
        raise ValueError(f"unknown, allowed: FILE.py:function, such as my_model.py:{default}") from None
    if not file.is_file():
        raise ValueError(f"there is no such {file.name}, allowed: {WHERE}")
    functions, others = _names(file)
    if name in functions | others or (functions | others) & CANNOT_TELL:
        return f"{file}:{name}"
    public = ", ".join(sorted(found for found in functions if not found.startswith("_"))) or "none"
    raise ValueError(f"no {name!r} in {file.name}, allowed: its functions ({public}){did_you_mean(name, functions)}")


def file_of(reference: str) -> Path:
    """The file of a reference in full."""
    return split_reference("", reference, "")[0]


def short(reference: str) -> str:
    """A reference without its folder, which may move."""
    file, name = split_reference("", reference, "")
    return f"{file.name}:{name}"


def _names(file: Path) -> tuple[set[str], set[str]]:
    """Functions and classes of a file, and other names at its top level.

    Raises:
        ValueError: it is no Python.
    """
    try:
        module = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"{file.name} is no Python{line} ({getattr(error, 'msg', error)})") from None
    made = list(_made(module.body))
    return {name for name, is_function in made if is_function}, {name for name, is_function in made if not is_function}


def _made(body: Iterable[ast.AST]) -> Iterator[tuple[str, bool]]:
    """Names that statements make, and whether they are functions or classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, True
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name.partition(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (
                (name.id, False) for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            )
        else:  # of if, try, with, for
            for inner in ("body", "orelse", "finalbody", "handlers"):
                part = getattr(node, inner, ())
                yield from _made(part if isinstance(part, list) else ())


# --- what they depend on ----------------------------------------------------------------------------------------------


def files_hash(files: Iterable[Path]) -> str:
    """12 hex digits over the content of files and of all modules in their folders that they import, transitively.

    Where the folders lie does not count. What code imports by a name that it works out, and data that it reads, is not
    seen.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_with_neighbours(list(files)).items()):
        digest.update(f"\0{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _with_neighbours(files: list[Path]) -> Mapping[str, Path]:
    """Place in its folder -> file, of these files and of what they import from these folders."""
    folders = list(dict.fromkeys(file.resolve().parent for file in files))
    found: dict[str, Path] = {}
    left = [(file.resolve(), file.resolve().parent) for file in files]
    while left:
        file, folder = left.pop()
        name = f"{folders.index(folder)}/{file.relative_to(folder)}"
        if name not in found:
            found[name] = file
            left += _imported(file, folder, folders)
    return found


def _imported(file: Path, folder: Path, folders: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Files that one file imports, each with the folder from which it is found."""
    try:
        statements = parsed_imports(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in statements:
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            base = node.module.split(".") if node.module else []
            if node.level:
                parents = file.relative_to(folder).parent.parts
                base = [*parents[: len(parents) - node.level + 1], *base]
            names = [[*base, *alias.name.split(".")] for alias in node.names]
        for parts in names:
            for place in [folder] if getattr(node, "level", 0) else folders:
                yield from ((path, place) for path in _modules(place, parts))


def _modules(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Files of a dotted name below a folder: its packages and its module; the last part may be a name in that."""
    for count in range(1, len(parts) + 1):
        path = folder.joinpath(*parts[:count])
        yield from (file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file())
