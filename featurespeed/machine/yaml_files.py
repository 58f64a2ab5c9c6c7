"""YAML, and with it JSON, that people write: read once and strictly, with every fault told in one line.

YAML itself lets a mapping say a key twice, and readers take the last one: a block written twice loses its first half
without a word. Here it is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from featurespeed.errors import UserError


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # the C library, where there is one, is six times faster
    """Safe YAML in which ``4e-05`` is a number, as in JSON and in YAML 1.2; in YAML 1.1 it is a text without a dot."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
MERGE = "tag:yaml.org,2002:merge"  # of the key `<<`, which may stand several times


class YamlError(UserError):
    """A file that cannot be used as it is; ``str(error)`` is one line with the file, the line and the key."""


def read_yaml(path: Path | str) -> Any:
    """What a file of YAML or JSON says; nothing (None) of an empty one.

    Raises:
        YamlError: it cannot be read, is not UTF-8 or not YAML, or says a key twice.
    """
    return parse_yaml(read_text(path), str(path))


def read_text(path: Path | str) -> str:
    """The text of a file in UTF-8.

    Raises:
        YamlError: it cannot be read, or is not UTF-8.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise YamlError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise YamlError(f"{path}: line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None


def parse_yaml(text: str, source: str) -> Any:
    """What a text of YAML or JSON says; ``source`` is what faults call it.

    Raises:
        YamlError: it is not YAML, or says a key twice.

    >>> parse_yaml("depths: [3, 4]", "my.yaml")
    {'depths': [3, 4]}
    """
    try:
        loader = Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check_keys(loader, root, source)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as a date that there is not
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f"line {mark.line + 1}: "
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise YamlError(f"{source}: {place}not YAML: {what}") from None


def _check_keys(loader: Any, root: yaml.Node, source: str) -> None:
    """Raise for a key that stands twice in one mapping."""
    for path, mapping in _mappings(root):
        lines: dict[Any, int] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            name, line = loader.construct_object(key), key.start_mark.line + 1
            if name in lines:
                raise YamlError(
                    f"{source}: line {line}: {'.'.join((*path, key.value))}: written twice, the first time in line"
                    f" {lines[name]}; write every key once"
                )
            lines[name] = line


def _mappings(root: yaml.Node) -> Iterator[tuple[tuple[str, ...], yaml.MappingNode]]:
    """Every mapping with the keys that lead to it, in the order of the text."""
    seen: set[int] = set()
    left: list[tuple[tuple[str, ...], yaml.Node]] = [] if isinstance(root, yaml.ScalarNode) else [((), root)]
    while left:
        path, node = left.pop()
        if id(node) in seen:  # an alias, which may even hold itself
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield path, node
            parts = [(str(key.value), value) for key, value in node.value]
        else:
            parts = [(str(place), item) for place, item in enumerate(node.value)]
        left += [((*path, name), part) for name, part in reversed(parts) if not isinstance(part, yaml.ScalarNode)]
