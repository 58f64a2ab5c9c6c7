"""Which files of a folder hold a data set, and their content as arrays in standard form."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from featurespeed.data.content import DataError, bytes_digest, standard_arrays
from featurespeed.data.decode import (
    decode_cifar_pickle,
    decode_cifar_records,
    decode_idx,
    read_bytes,
    read_members,
    read_npz,
    split_records,
)
from featurespeed.data.registry import CIFAR_TEST, CIFAR_TRAIN, IDX_FILES, SPLITS, Dataset

Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """The files of one form of a data set; `where` is the file or folder that stands for all of them.

    `files` maps a member's name to its file. Several members may lie in one archive.
    """

    where: Path
    form: str
    files: Mapping[str, Path]

    @property
    def missing(self) -> list[Path]:
        """Files that should be there and are not."""
        return [path for path in dict.fromkeys(self.files.values()) if not path.exists()]

    @property
    def begun(self) -> bool:
        """At least one of the files is there."""
        return any(path.exists() for path in self.files.values())


@dataclass(frozen=True)
class Decoded:
    """Arrays in standard form, and what lay in each member: the bytes over which its published hash runs."""

    arrays: dict[str, np.ndarray]
    members: Mapping[str, bytes | np.ndarray] = field(default_factory=dict)


# What to put where, for people.
_WHAT = {
    "cifar": "cifar-10-batches-py/, cifar-10-batches-bin/, cifar-10-python.tar.gz or cifar-10-binary.tar.gz",
    "idx": f"the four idx files {', '.join(IDX_FILES)} (.gz or not)",
    "lines": "wikitext-2-v1.zip, or wiki.train.tokens and wiki.test.tokens (.gz, .xz or not)",
}


def what_to_provide(dataset: Dataset) -> str:
    """The file names under which a data set is found in a local folder."""
    return f"{dataset.name}.npz, {_WHAT[dataset.layout]}"


def find_sources(dataset: Dataset, folder: Path) -> Iterator[Source]:
    """Complete forms of the data set directly in `folder` or in a subfolder named like it, best first.

    If none is complete but one has been begun, raises DataError with the missing files.
    """
    begun: list[Source] = []
    complete = False
    for place in (*(folder / name for name in dataset.folders), folder):
        for source in _FORMS[dataset.layout](dataset, place):
            if not source.missing:
                complete = True
                yield source
            elif source.begun:
                begun.append(source)
    if begun and not complete:
        names = ", ".join(path.name for path in begun[0].missing)
        raise DataError(f"{begun[0].where}: incomplete {dataset.title}: no {names}")


def _npz(dataset: Dataset, place: Path) -> Source:
    path = place / f"{dataset.name}.npz"
    return Source(path, "npz", {dataset.name: path})


def _cifar_forms(dataset: Dataset, place: Path) -> Iterator[Source]:
    names = (*CIFAR_TRAIN, CIFAR_TEST)
    yield _npz(dataset, place)
    for folder in (place / "cifar-10-batches-py", place):
        yield Source(folder, "pickles", {name: folder / name for name in names})
    for folder in (place / "cifar-10-batches-bin", place):
        yield Source(folder, "records", {name: folder / f"{name}.bin" for name in names})
    for form, archive in (("pickles", "cifar-10-python.tar.gz"), ("records", "cifar-10-binary.tar.gz")):
        yield Source(place / archive, form, dict.fromkeys(names, place / archive))


def _idx_forms(dataset: Dataset, place: Path) -> Iterator[Source]:
    yield _npz(dataset, place)
    yield Source(place, "idx", {name: _idx_file(place, name) for name in IDX_FILES})


def _idx_file(place: Path, name: str) -> Path:
    dotted = name.replace("-idx", ".idx")  # as some archives spell it
    return _first_file([place / f"{stem}{ending}" for stem in (name, dotted) for ending in (".gz", "")])


def _first_file(spellings: Sequence[Path]) -> Path:
    """The first of them that is there, or the first."""
    return next((path for path in spellings if path.is_file()), spellings[0])


TEXT_FILES = {"train": "wiki.train.tokens", "test": "wiki.test.tokens"}


def _line_forms(dataset: Dataset, place: Path) -> Iterator[Source]:
    yield _npz(dataset, place)
    for folder in (place, place / "wikitext-2"):
        files = {
            split: _first_file([folder / f"{name}{ending}" for name in (TEXT_FILES[split], f"{split}.txt")
                                for ending in ("", ".xz", ".gz")])
            for split in SPLITS
        }  # fmt: skip
        yield Source(folder, "lines", files)
    archive = place / "wikitext-2-v1.zip"
    yield Source(archive, "lines", dict.fromkeys(SPLITS, archive))


_FORMS: Mapping[str, Callable[[Dataset, Path], Iterator[Source]]] = {
    "cifar": _cifar_forms,
    "idx": _idx_forms,
    "lines": _line_forms,
}


# --- reading ----------------------------------------------------------------------------------------------------------


def decode(dataset: Dataset, source: Source) -> Decoded:
    """Read a source. Raises DataError that names the file, its size, found and expected hashes and the reason."""
    if source.form == "npz":
        arrays = _guarded(dataset, source, dataset.name, lambda: read_npz(source.where))
        return Decoded(standard_arrays(dataset, arrays, str(source.where)))
    if source.form == "idx":
        contents = {name: _read(dataset, source, name) for name in IDX_FILES}
        parts = [_guarded(dataset, source, name, partial(decode_idx, contents[name])) for name in IDX_FILES]
        arrays = dict(zip(("x_train", "y_train", "x_test", "y_test"), parts, strict=True))
        return Decoded(standard_arrays(dataset, arrays, str(source.where)), contents)
    if source.form == "lines":
        contents = _text_files(dataset, source)
        arrays = {split: np.frombuffer(contents[split], np.uint8) for split in SPLITS}
        return Decoded(standard_arrays(dataset, arrays, str(source.where)), contents)
    records = _cifar_records(dataset, source)
    x_train, y_train = split_records([records[name] for name in CIFAR_TRAIN])
    x_test, y_test = split_records([records[CIFAR_TEST]])
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    return Decoded(standard_arrays(dataset, arrays, str(source.where)), records)


def _text_files(dataset: Dataset, source: Source) -> dict[str, bytes]:
    if source.where.is_file():
        found = _guarded(dataset, source, SPLITS[0], lambda: read_members(source.where, TEXT_FILES.values()))
        return {split: found[name] for split, name in TEXT_FILES.items()}
    return {split: _read(dataset, source, split) for split in SPLITS}


def _cifar_records(dataset: Dataset, source: Source) -> dict[str, np.ndarray]:
    ending, decoder = (".bin", decode_cifar_records) if source.form == "records" else ("", decode_cifar_pickle)
    names = list(source.files)
    if source.where.is_file():
        inside = [f"{name}{ending}" for name in names]
        found = _guarded(dataset, source, names[0], lambda: read_members(source.where, inside))
        contents = {name: found[f"{name}{ending}"] for name in names}
    else:
        contents = {name: _read(dataset, source, name) for name in names}
    return {name: _guarded(dataset, source, name, partial(decoder, data)) for name, data in contents.items()}


def _read(dataset: Dataset, source: Source, member: str) -> bytes:
    return _guarded(dataset, source, member, lambda: read_bytes(source.files[member]))


def bad_member(dataset: Dataset, source: Source, decoded: Decoded) -> str | None:
    """The first member whose content has not its published hash, with both hashes; None if none is to blame."""
    for name, content in decoded.members.items():
        expected = (dataset.members or {}).get(name)
        if expected is None:
            continue
        data = content.tobytes() if isinstance(content, np.ndarray) else content
        found = bytes_digest(data, expected.partition(":")[0])
        if found != expected:
            inside = f", member {name}" if source.where.is_file() else ""
            return f"{source.files[name]}{inside}: hash {found}, expected {expected}"
    return None


def _guarded(dataset: Dataset, source: Source, member: str, read: Callable[[], Result]) -> Result:
    """`read()`; whatever a damaged file makes the readers raise becomes one line."""
    path = source.files[member]
    try:
        return read()
    except Exception as error:  # zip, gzip, tar, pickle and npy readers raise a dozen kinds on damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        expected = _expected(dataset, source, member)
        algorithms = list(dict.fromkeys(re.findall(r"(md5|sha1|sha256):", expected)))
        raise DataError(
            f"{describe_file(path, algorithms)}: truncated or altered, not decodable ({reason}); expected {expected}"
        ) from None


def _expected(dataset: Dataset, source: Source, member: str) -> str:
    """What is published of the file of a member: the hash of an archive, else that of the decoded content."""
    archives = {archive.file: archive.hash for choice in dataset.downloads for archive in choice}
    if source.where.is_file() and source.where.name in archives:
        return f"a file with {archives[source.where.name]}"
    if member in (dataset.members or {}):
        return f"content with {dataset.members[member]}"
    return "content with " + ", ".join(f"{version.split} {version.digest}" for version in dataset.versions)


def describe_file(path: Path, algorithms: Sequence[str] = ("sha256",)) -> str:
    """``path (size, hashes)``, to tell a damaged file from another one."""
    hashes = []
    for algorithm in algorithms:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda name=algorithm: hashlib.new(name, usedforsecurity=False))
        hashes.append(f"{algorithm}:{digest.hexdigest()}")
    return f"{path} ({path.stat().st_size} bytes, {', '.join(hashes)})"


def keep_aside(path: Path) -> Path:
    """Move a bad file of our own to ``<file>.bad``, where nothing looks for data."""
    aside = path.with_name(f"{path.name}.bad")
    os.replace(path, aside)
    return aside
