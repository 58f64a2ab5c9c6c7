"""The verified copy of a data set that stages read: one npz file and its facts, checked again whenever it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featurespeed.data.content import Arrays, DataError, Found, array_names, index_sha256, split_digest
from featurespeed.data.decode import read_npz
from featurespeed.data.registry import DATASETS, SPLITS, Dataset
from featurespeed.data.sources import describe_file, keep_aside
from featurespeed.data.tokens import open_tokens
from featurespeed.machine.files import atomic_path

FACTS = "facts.json"


@dataclass(frozen=True)
class ImageData:
    """Images uint8 [n, C, H, W] in [0, pixel_maximum], labels uint8 [n] below `classes`; `facts` as in facts.json."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    facts: Mapping[str, object] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.x_train.shape[1:]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.facts["classes"]

    @property
    def pixel_maximum(self) -> int:
        """The value of a white pixel: 255, or 16 for digits."""
        return self.facts["pixel_maximum"]


@dataclass(frozen=True)
class TextData:
    """A text as numbers of its tokens, int32 [n] each, read from the disk as they are used.

    `facts` as in facts.json, and what its vocabulary is.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    vocabulary: tuple[str, ...] = field(repr=False)
    facts: Mapping[str, object] = field(repr=False)

    @property
    def classes(self) -> int:
        """Number of tokens of the vocabulary."""
        return len(self.vocabulary)


@dataclass(frozen=True)
class FileData:
    """An index of image files, see :mod:`featurespeed.data.index`; `facts` as in facts.json."""

    name: str
    files_train: np.ndarray
    y_train: np.ndarray
    bytes_train: np.ndarray
    sums_train: np.ndarray
    squares_train: np.ndarray
    files_test: np.ndarray
    y_test: np.ndarray
    bytes_test: np.ndarray
    facts: Mapping[str, object] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width that a network sees."""
        return tuple(self.facts["shape"])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.facts["classes"]

    @property
    def root(self) -> Path:
        """The folder of the set, above the paths of its files."""
        return Path(self.facts["root"])

    @property
    def side(self) -> int:
        """Side of the square to which a file is decoded, in pixels."""
        return self.facts["decoded_side"]


def facts_of(dataset: Dataset, found: Found) -> dict[str, object]:
    """What facts.json says. It names no folder, so that equal content from the same kind of source has equal facts;
    but for images that stay where they are.
    """
    arrays, identity = found.arrays, found.identity
    first = "{}" if dataset.kind == "text" else "y_{}"
    digests = {split: split_digest(arrays, split) for split in SPLITS} if dataset.kind == "images" else identity.digests
    facts = {
        "name": dataset.name,
        "title": dataset.title,
        "kind": dataset.kind,
        "source": found.source,
        "counts": {split: len(arrays[first.format(split)]) for split in SPLITS},
        "versions": identity.notes,
        "digests": digests,
        "content_sha256": identity.content_sha256,
    }
    if dataset.kind != "text":
        facts |= {
            "shape": list(dataset.shape),
            "pixel_maximum": dataset.pixel_maximum,
            "classes": dataset.classes,
            "class_names": list(dataset.class_names),
        }
    return facts | dict(found.facts)


def write_npz(path: Path, dataset: Dataset, arrays: Arrays) -> None:
    """Write the arrays, not compressed; equal arrays give equal bytes (numpy stamps every member with 1980)."""
    with open(path, "wb") as file:
        np.savez(file, **{name: arrays[name] for name in array_names(dataset)})


def write_facts(path: Path, facts: Mapping[str, object]) -> None:
    """Write facts.json."""
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def write_dataset(folder: Path, dataset: Dataset, arrays: Arrays, facts: Mapping[str, object]) -> Path:
    """Both files in `folder`, each complete or absent; returns the path of the npz file."""
    path = folder / f"{dataset.name}.npz"
    with atomic_path(path) as part:
        write_npz(part, dataset, arrays)
    with atomic_path(folder / FACTS) as part:
        write_facts(part, facts)
    return path


def load_dataset(path: Path | str) -> ImageData | TextData | FileData:
    """The data of a folder written by the data stage, or of its npz file, verified against facts.json beside it.

    Raises DataError, one line, if a file is missing, or if it is altered or truncated: then it has been moved aside to
    ``<file>.bad``, and the data stage makes it anew.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    facts = _read_facts(folder / FACTS)
    stored = folder / f"{facts['name']}.npz" if path.is_dir() else path
    if not stored.exists():
        raise DataError(f"{stored}: no such file; the rule `data` makes it")
    try:
        arrays = read_npz(stored)
    except Exception as error:  # zip and npy readers raise a dozen kinds on damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{stored}: cannot be read: {error.strerror}") from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        expected = ", ".join(f"{split} {digest}" for split, digest in facts["digests"].items())
        fault = f"{describe_file(stored)}: truncated or altered, not decodable ({reason}); expected {expected}"
        raise DataError(f"{fault}; {_put_aside(stored)}") from None
    _verify(stored, arrays, facts)
    if facts["kind"] == "text":
        tokens = open_tokens(arrays, DATASETS[facts["name"]].unit, folder / "tokens")
        known = facts | {"vocabulary": len(tokens.vocabulary), "vocabulary_sha256": tokens.vocabulary_sha256}
        return TextData(facts["name"], tokens.train, tokens.test, tokens.vocabulary, known)
    kind = ImageData if facts["kind"] == "images" else FileData
    return kind(name=facts["name"], facts=facts, **arrays)


def _read_facts(path: Path) -> dict[str, object]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not {"name", "kind", "digests"} <= facts.keys():
            raise ValueError("incomplete")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the rule `data` makes it") from None
    except (ValueError, AttributeError) as error:
        raise DataError(f"{describe_file(path)}: no facts of a data set ({error}); {_put_aside(path)}") from None
    return facts


def _verify(path: Path, arrays: Arrays, facts: Mapping[str, object]) -> None:
    if facts["kind"] == "files":
        if (found := index_sha256(arrays)) != facts.get("index_sha256"):
            expected = facts.get("index_sha256")
            raise DataError(f"{path}: altered: its index has {found}, expected {expected}; {_put_aside(path)}")
        return
    first = "x_{}" if facts["kind"] == "images" else "{}"
    for split, expected in facts["digests"].items():
        complete = first.format(split) in arrays and (facts["kind"] == "text" or f"y_{split}" in arrays)
        found = split_digest(arrays, split) if complete else "no such array"
        if found != expected:
            raise DataError(f"{path}: altered: {split} has {found}, expected {expected}; {_put_aside(path)}")


def _put_aside(path: Path) -> str:
    """Move a bad file of our own away, and say so; a folder that cannot be written keeps it, and it is not used."""
    try:
        aside = keep_aside(path)
    except OSError as error:
        return f"it could not be moved aside ({error.strerror}): remove it and run the rule `data` again"
    return f"moved aside to {aside.name}, run the rule `data` again"
