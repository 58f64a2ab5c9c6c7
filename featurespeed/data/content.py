"""Decoded content: its shape, its digests, and whether it is one of the known versions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from featurespeed.data.registry import SPLITS, Dataset, Version
from featurespeed.errors import UserError

#: Decoded arrays by name: x_train, y_train, x_test, y_test of images; train, test of a text, all uint8; or the arrays
#: of an index of files.
Arrays = Mapping[str, np.ndarray]

_ROWS = 4096  # images hashed at a time
SORTED_LINES = "sorted-lines-"  # before an algorithm: of a text's lines in alphabetical order


class DataError(UserError, ValueError):
    """Data that are missing, unreadable, altered or unknown; ``str(error)`` is one line with the remedy."""


class DownloadError(DataError):
    """No mirror of an archive gave it; `reasons` has one short text for each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Identity:
    """What verified content is: split -> sha256 digest, split -> the version's note, and one hash of it all."""

    digests: dict[str, str]
    notes: dict[str, str]
    content_sha256: str


@dataclass(frozen=True)
class Found:
    """Verified arrays in standard form, in a few words where they were, and facts that only such a set has."""

    arrays: Arrays
    identity: Identity
    source: str
    facts: Mapping[str, object] = field(default_factory=dict)


def array_names(dataset: Dataset) -> tuple[str, ...]:
    """The names of the arrays of a data set, in the order of the file."""
    if dataset.kind == "text":
        return SPLITS
    if dataset.streamed:  # see featurespeed.data.index
        of_both = tuple(f"{what}_{split}" for split in SPLITS for what in ("files", "y", "bytes"))
        return (*of_both, "sums_train", "squares_train")
    return tuple(f"{letter}_{split}" for split in SPLITS for letter in "xy")


def standard_arrays(dataset: Dataset, arrays: Arrays, origin: str) -> dict[str, np.ndarray]:
    """The arrays in standard form: images uint8 [n, C, H, W], labels uint8 [n], text uint8 [n].

    A missing channel axis is added where there is one channel; labels may come as any whole numbers. Raises DataError
    that names `origin`, the array and what is allowed.
    """
    missing = [name for name in array_names(dataset) if name not in arrays]
    if missing:
        raise DataError(f"{origin}: no array {', '.join(missing)}; expected {', '.join(array_names(dataset))}")
    if dataset.kind == "text":
        return {split: _text(arrays[split], f"{origin}: {split}") for split in SPLITS}
    found = {}
    for split in SPLITS:
        x, y = f"x_{split}", f"y_{split}"
        found[x] = _images(dataset, arrays[x], f"{origin}: {x}")
        found[y] = _labels(dataset, arrays[y], len(found[x]), f"{origin}: {y}")
    return found


def _text(text: np.ndarray, where: str) -> np.ndarray:
    if text.dtype != np.uint8 or text.ndim != 1 or not len(text):
        raise DataError(f"{where} is {_form(text)}; must be uint8 [n], n > 0")
    return np.ascontiguousarray(text)


def _images(dataset: Dataset, images: np.ndarray, where: str) -> np.ndarray:
    if images.ndim == 3 and dataset.shape[0] == 1:
        images = images[:, np.newaxis]
    if images.dtype != np.uint8 or images.shape[1:] != dataset.shape or not len(images):
        expected = ", ".join(str(size) for size in dataset.shape)
        raise DataError(f"{where} is {_form(images)}; must be uint8 [n, {expected}], n > 0")
    if images.max() > dataset.pixel_maximum:
        raise DataError(f"{where} has a pixel of {images.max()}; allowed: 0 to {dataset.pixel_maximum}")
    return np.ascontiguousarray(images)


def _labels(dataset: Dataset, labels: np.ndarray, count: int, where: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(f"{where} is {_form(labels)}; must be whole numbers [{count}], one an image")
    if labels.min() < 0 or labels.max() >= dataset.classes:
        raise DataError(f"{where} has labels {labels.min()} to {labels.max()}; allowed: 0 to {dataset.classes - 1}")
    return np.ascontiguousarray(labels, dtype=np.uint8)


def _form(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


# --- digests ----------------------------------------------------------------------------------------------------------


def split_digest(arrays: Arrays, split: str, algorithm: str = "sha256") -> str:
    """``algorithm:hex`` of one split: of label byte + pixel bytes of every image in order, or of the text's bytes (or
    its lines, sorted).
    """
    if f"x_{split}" in arrays:
        return records_digest(arrays[f"x_{split}"], arrays[f"y_{split}"], algorithm)
    text = np.ascontiguousarray(arrays[split])
    if algorithm.startswith(SORTED_LINES):
        lines = b"\n".join(sorted(text.tobytes().split(b"\n")))
        return f"{algorithm}:{_hasher(algorithm.removeprefix(SORTED_LINES), lines).hexdigest()}"
    return f"{algorithm}:{_hasher(algorithm, text).hexdigest()}"


def records_digest(images: np.ndarray, labels: np.ndarray, algorithm: str = "sha256") -> str:
    """``algorithm:hex`` of images uint8 [n, ...] and labels uint8 [n] in the layout of CIFAR-10's binary files."""
    hasher = _hasher(algorithm)
    for start in range(0, len(images), _ROWS):
        stop = start + _ROWS
        pixels = images[start:stop].reshape(len(images[start:stop]), -1)
        hasher.update(np.concatenate([labels[start:stop, np.newaxis], pixels], axis=1))
    return f"{algorithm}:{hasher.hexdigest()}"


def bytes_digest(data: bytes, algorithm: str = "sha256") -> str:
    """``algorithm:hex`` of plain bytes."""
    return f"{algorithm}:{_hasher(algorithm, data).hexdigest()}"


def content_sha256(digests: Mapping[str, str]) -> str:
    """The hash of the whole decoded content: SHA-256 of the lines ``split sha256:hex`` of both splits, train first."""
    return hashlib.sha256("".join(f"{split} {digests[split]}\n" for split in SPLITS).encode()).hexdigest()


def index_sha256(arrays: Arrays) -> str:
    """A hash of the index itself, by which its stored copy is checked."""
    hasher = hashlib.sha256()
    for name in sorted(arrays):
        hasher.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
        hasher.update(np.ascontiguousarray(arrays[name]).view(np.uint8))
    return hasher.hexdigest()


def _hasher(algorithm: str, data: bytes | np.ndarray = b"") -> hashlib._Hash:
    # The old algorithms stand for what a set's makers published; nobody's safety depends on them here.
    return hashlib.new(algorithm, data, usedforsecurity=False)


# --- known and unknown ------------------------------------------------------------------------------------------------


def identify(dataset: Dataset, arrays: Arrays, origin: str, allowed: str | None = None) -> Identity:
    """Which known versions the arrays (in standard form) are; `origin` names the file in errors.

    With `allowed`, the whole content's hash (:func:`content_sha256`), exactly that content is accepted, known or not.
    Raises DataError with expected and found hashes and, for unknown content, what would allow it.
    """
    digests = {split: split_digest(arrays, split) for split in SPLITS}
    whole = content_sha256(digests)
    if allowed is not None and whole != allowed:
        raise DataError(f"{origin}: the content has hash {whole}, data_sha256 for {dataset.name} allows only {allowed}")
    notes = {}
    for split in SPLITS:
        version = find_version(dataset, arrays, split)
        if version is not None:
            notes[split] = version.note
        elif allowed is not None or not dataset.versions:
            notes[split] = "as installed here" if allowed is None else "allowed by data_sha256"
        else:
            raise DataError(f"{origin}: {_unknown(dataset, arrays, split)}; {remedy(dataset, whole)}")
    return Identity(digests, notes, whole)


def find_version(dataset: Dataset, arrays: Arrays, split: str) -> Version | None:
    """The known version that a split is, or None."""
    count = len(arrays[f"x_{split}"] if f"x_{split}" in arrays else arrays[split])
    for version in dataset.versions_of(split):
        algorithm = version.digest.partition(":")[0]
        if version.count == count and split_digest(arrays, split, algorithm) == version.digest:
            return version
    return None


def _unknown(dataset: Dataset, arrays: Arrays, split: str) -> str:
    known = dataset.versions_of(split)
    algorithms = dict.fromkeys(version.digest.partition(":")[0] for version in known)
    found = " = ".join(split_digest(arrays, split, algorithm) for algorithm in algorithms)
    unit, first = ("images", f"x_{split}") if dataset.kind == "images" else ("bytes", split)
    expected = " or ".join(f"{version.digest} ({version.count} {unit})" for version in known)
    return (
        f"altered, or not {dataset.title}: {split} has {len(arrays[first])} {unit}, hash {found}; expected {expected}"
    )


def remedy(dataset: Dataset, whole: str) -> str:
    """What allows unknown content with this hash, for the end of a message."""
    return f"if it is what you want, allow it with data_sha256: {{{dataset.name}: {whole}}}"
