"""Sets whose images are files in class folders: what a folder of the user holds of them, verified.

A set of the kind `files` becomes an index of its files, which stay where they are. A set of the kind `images` is a
small choice of such files, named by its classes and numbers of images; it becomes arrays like any other set of images.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featurespeed.data.content import DataError, Found, Identity, bytes_digest, content_sha256, remedy
from featurespeed.data.decode import read_npz
from featurespeed.data.folders import PLACES, Listing, holds_classes, list_split
from featurespeed.data.index import read_index
from featurespeed.data.pictures import Damaged, decode_square, read_file
from featurespeed.data.registry import SPLITS, Dataset

#: One split of a small set: labels uint8 [n] and the bytes of the files.
Encoded = tuple[np.ndarray, list[bytes]]


def find_class_folders(dataset: Dataset, folder: Path, allowed: str | None) -> Found | None:
    """What a folder, or a subfolder named like the data set, holds of it; None if nothing.

    `allowed` is the hash of the whole content, the only one that is then accepted. Raises DataError, one line.
    """
    for place in (*(folder / name for name in dataset.folders), folder):
        if not dataset.streamed:
            for path in _npz_files(dataset, place):
                return _small(dataset, path, {split: _from_npz(dataset, path, split) for split in SPLITS}, allowed)
        if holds_classes(place):
            if dataset.streamed:
                return read_index(dataset, place, allowed)
            return _small(dataset, place, {split: _from_listing(dataset, place, split) for split in SPLITS}, allowed)
    return None


def what_to_provide(dataset: Dataset) -> str:
    """The files under which such a set is found, for people."""
    npz = "" if dataset.streamed else f" (or {' or '.join(_npz_names(dataset))})"
    return f"train/<class>/*.JPEG and val/<class>/*.JPEG of {dataset.published}{npz}"


def _npz_names(dataset: Dataset) -> tuple[str, ...]:
    each = dataset.versions_of("train")[0].count // dataset.classes
    return f"{dataset.name}.npz", f"{dataset.name}x{each}.npz"


def _npz_files(dataset: Dataset, place: Path) -> Iterator[Path]:
    return (path for name in _npz_names(dataset) if (path := place / name).is_file())


# --- a small choice of files ------------------------------------------------------------------------------------------


def _from_listing(dataset: Dataset, place: Path, split: str) -> Encoded:
    """The first images of each class, in natural order of their names; DataError if there are too few."""
    each = dataset.versions_of(split)[0].count // dataset.classes
    listing = list_split(place, split).chosen(dataset.class_names, each)
    if few := [name for name, files in listing.files.items() if len(files) < each]:
        raise DataError(
            f"{place / PLACES[split]}: {len(few)} of the {dataset.classes} classes of {dataset.title} have too few "
            f"images: {few[0]} has {len(listing.files[few[0]])}, expected {each}"
        )
    pairs = listing.pairs()
    return np.array([label for label, _ in pairs], dtype=np.uint8), [_bytes(listing, path) for _, path in pairs]


def _bytes(listing: Listing, path: str) -> bytes:
    try:
        return read_file(listing.root / path)
    except Damaged as error:
        raise DataError(f"{listing.root / path}: cannot be read: {error}") from None


def _from_npz(dataset: Dataset, path: Path, split: str) -> Encoded:
    """Files that lie one after the other in an array of bytes, from `offsets[i]` to `offsets[i + 1]`."""
    part = PLACES[split]
    names = (f"{part}_jpeg", f"{part}_offsets", f"y_{part}", "wnids")
    try:
        arrays = read_npz(path)
    except Exception as error:  # zip and npy readers raise a dozen kinds on damaged bytes
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: truncated or altered, not decodable ({reason})") from None
    if missing := [name for name in names if name not in arrays]:
        raise DataError(f"{path}: no array {', '.join(missing)}; expected {', '.join(names)}")
    data, offsets, labels, wnids = (arrays[name] for name in names)
    if tuple(wnids.tolist()) != dataset.class_names:
        raise DataError(f"{path}: wnids has {len(wnids)} classes that are not the {dataset.classes} of {dataset.title}")
    rising = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) == len(labels) + 1
    if not rising or (np.diff(offsets) < 0).any() or offsets[0] < 0 or offsets[-1] > len(data):
        raise DataError(f"{path}: {part}_offsets must rise from 0 to {len(data)}, {len(labels) + 1} whole numbers")
    if labels.dtype.kind not in "iu" or labels.min(initial=0) < 0 or labels.max(initial=0) >= dataset.classes:
        raise DataError(f"{path}: y_{part} must be whole numbers from 0 to {dataset.classes - 1}")
    whole = data.tobytes()
    files = [whole[start:stop] for start, stop in zip(offsets[:-1], offsets[1:], strict=True)]
    return labels.astype(np.uint8), files


def _small(dataset: Dataset, where: Path, encoded: dict[str, Encoded], allowed: str | None) -> Found:
    """Arrays of pixels from the files, once their bytes are known to be those of the set."""
    identity = _identify(dataset, where, encoded, allowed)
    arrays, stored = {}, {}
    for split, (labels, files) in encoded.items():
        arrays[f"x_{split}"], arrays[f"y_{split}"] = _decode_all(dataset, where, split, files), labels
        stored[split] = identity.digests[split]
    print(f"{dataset.name}: read {where}", file=sys.stderr, flush=True)
    form = where.name if where.is_file() else "class folders"
    return Found(arrays, identity, form, {"encoded_digests": stored})


def _identify(dataset: Dataset, where: Path, encoded: dict[str, Encoded], allowed: str | None) -> Identity:
    """Whether the files are those of the set: digests over ``label byte + bytes of the file`` of every image."""
    digests = {
        split: bytes_digest(b"".join(bytes([label]) + data for label, data in zip(labels, files, strict=True)))
        for split, (labels, files) in encoded.items()
    }
    whole, notes = content_sha256(digests), {}
    if allowed is not None and whole != allowed:
        raise DataError(f"{where}: the content has hash {whole}, data_sha256 for {dataset.name} allows only {allowed}")
    for split in SPLITS:
        version = dataset.versions_of(split)[0]
        if digests[split] != version.digest and allowed is None:
            raise DataError(
                f"{where}: altered, or not {dataset.title}: {split} has {len(encoded[split][1])} images, hash "
                f"{digests[split]}; expected {version.digest} ({version.count} images); {remedy(dataset, whole)}"
            )
        notes[split] = version.note if digests[split] == version.digest else "allowed by data_sha256"
    return Identity(digests, notes, whole)


def _decode_all(dataset: Dataset, where: Path, split: str, files: list[bytes]) -> np.ndarray:
    """Pixels uint8 [n, 3, side, side]; DataError that counts the files that give none."""
    images = np.zeros((len(files), *dataset.shape), dtype=np.uint8)
    damaged = []
    for place, data in enumerate(files):
        try:
            images[place] = decode_square(data, dataset.decoded_side)
        except Damaged as error:
            damaged.append(f"image {place} of {split} ({error})")
    if damaged:
        raise DataError(f"{where}: {len(damaged)} of {len(files)} files give no image: first {damaged[0]}")
    return images
