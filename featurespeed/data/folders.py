"""Which image files a folder holds, class by class, and which classes they are of. Nothing is opened but annotations.

Two layouts are known for each part of a set. Training: ``train/<class>/*.JPEG``, or with a folder ``images`` between,
as Tiny-ImageNet is published. Validation: ``val/<class>/*.JPEG`` likewise, or ``val/images/*.JPEG`` with the classes in
``val/val_annotations.txt``. Names may end in .jpeg, .jpg or .png, in any case; hidden and other files are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from featurespeed.data.content import DataError

ENDINGS = (".jpeg", ".jpg", ".png")
ANNOTATIONS = "val_annotations.txt"
PLACES = {"train": "train", "test": "val"}  # split -> its folder


@dataclass(frozen=True)
class Listing:
    """The files of one split: class -> paths relative to `root`, in natural order; `ignored` has no class."""

    root: Path
    files: Mapping[str, list[str]]
    ignored: list[str] = field(default_factory=list)

    def chosen(self, classes: tuple[str, ...], count: int | None = None) -> Listing:
        """The first `count` files of these classes; all of them for None."""
        return Listing(self.root, {name: self.files.get(name, [])[:count] for name in classes})

    def pairs(self) -> list[tuple[int, str]]:
        """(class by its place in the sorted names, path) of every file."""
        return [(label, path) for label, name in enumerate(sorted(self.files)) for path in self.files[name]]


def natural(name: str) -> tuple:
    """A sorting key that compares the numbers in a name as numbers.

    >>> sorted(["a_10.JPEG", "a_9.JPEG"], key=natural)
    ['a_9.JPEG', 'a_10.JPEG']
    """
    parts = re.split("([0-9]+)", name)  # text and digits in turn
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), name


def holds_classes(place: Path) -> bool:
    """Whether a folder looks like a set of class folders."""
    return (place / PLACES["train"]).is_dir()


def list_split(place: Path, split: str) -> Listing:
    """The files of a split under `place`. Raises DataError for a folder that is missing or cannot be read."""
    folder = place / PLACES[split]
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected {PLACES[split]}/<class>/*.JPEG")
    if split == "test" and (folder / "images").is_dir():
        return _annotated(place, folder)
    files = {}
    for name in _names(folder, folders=True):
        inner = folder / name / "images"
        inner = inner if inner.is_dir() else folder / name
        files[name] = [str((inner / file).relative_to(place)) for file in _images(inner)]
    return Listing(place, files)


def _annotated(place: Path, folder: Path) -> Listing:
    """Files in one folder, whose classes stand in a table: ``file TAB class TAB ...``."""
    classes = _read_annotations(folder / ANNOTATIONS)
    images = folder.relative_to(place) / "images"
    files: dict[str, list[str]] = {}
    for name in sorted(classes, key=natural):  # one that is missing is found when it is to be opened
        files.setdefault(classes[name], []).append(str(images / name))
    return Listing(place, files, [name for name in _images(folder / "images") if name not in classes])


def _read_annotations(path: Path) -> dict[str, str]:
    """File -> class. Raises DataError that names the first line that says neither."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it has the classes of the files in images/") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: no text in UTF-8; expected lines 'file TAB class'") from None
    classes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if not wnid or not name.lower().endswith(ENDINGS) or "/" in name:
            raise DataError(f"{path}: line {number}: {line[:60]!r}: expected 'file.JPEG TAB class'")
        if name in classes:
            raise DataError(f"{path}: line {number}: {name} stands there twice")
        classes[name] = wnid
    return classes


def _images(folder: Path) -> list[str]:
    """Names of the images directly in a folder, in natural order."""
    return sorted((name for name in _names(folder) if name.lower().endswith(ENDINGS)), key=natural)


def _names(folder: Path, folders: bool = False) -> list[str]:
    """Names of the files, or of the folders, in a folder but for hidden ones, sorted."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir() == folders]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    return sorted(found)
