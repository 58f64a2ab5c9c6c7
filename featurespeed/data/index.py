"""The index of a set of class folders: every file opened once, its class, size and moments noted, damaged ones left
out.

    files_train bytes [n]       path below the folder of the set, as the system writes it
    y_train uint16 [n]          class, by its place among the sorted names of the class folders
    bytes_train int64 [n]       size of the file
    sums_train uint32 [n, 3]    sum of the pixels that a network sees, by channel; squares_train: of their squares

and for the test set the first three. The digest of a split runs over ``class, two bytes, low one first + SHA-256 of the
file`` of every image in order, so it depends neither on the decoder nor on names.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featurespeed.data.content import DataError, Found, Identity, content_sha256, index_sha256
from featurespeed.data.folders import PLACES, Listing, list_split
from featurespeed.data.pictures import Damaged, decode_square, read_file
from featurespeed.data.registry import COMPLETE, SPLITS, Dataset
from featurespeed.data.workers import WORKERS_VARIABLE, loader_workers

MOST_DAMAGED = 0.01  # share of the files of a split
NAMED = 10  # damaged files that are named
CHUNK = 128  # files that a process opens at a time
LOG_SECONDS = 30.0


@dataclass(frozen=True)
class Opened:
    """What a file was: its size, hash and moments, or why it gives no image."""

    size: int = 0
    sha256: bytes = b""
    sums: tuple[int, ...] = ()
    squares: tuple[int, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class Job:
    """Files to open: the decoded square of `side` pixels, of which the central `view` counts."""

    root: str
    paths: tuple[str, ...]
    side: int
    view: int


def read_index(dataset: Dataset, root: Path, allowed: str | None = None) -> Found:
    """The index of the class folders under `root`. Raises DataError, one line.

    `allowed`: hash of the whole content, the only one that is then accepted.
    """
    listings = {split: list_split(root, split) for split in SPLITS}
    _check_classes(dataset, root, listings)
    arrays, digests, notes, skipped = {}, {}, {}, {}
    for split, listing in listings.items():
        found = _open_split(dataset, root, split, listing)
        arrays |= found.arrays
        digests[split], skipped[split] = found.digest, found.skipped
        count, expected = len(found.arrays[f"y_{split}"]), dataset.versions_of(split)[0].count
        notes[split] = COMPLETE if count == expected else f"{count} of {expected} images"
    whole = content_sha256(digests)
    if allowed is not None and whole != allowed:
        raise DataError(f"{root}: the content has hash {whole}, data_sha256 for {dataset.name} allows only {allowed}")
    facts = {
        "root": str(root.absolute()),
        "decoded_side": dataset.decoded_side,
        "class_names": sorted(listings["train"].files),
        "skipped": skipped,
        "index_sha256": index_sha256(arrays),
    }
    return Found(arrays, Identity(digests, notes, whole), "class folders", facts)


def _check_classes(dataset: Dataset, root: Path, listings: dict[str, Listing]) -> None:
    """Raise for a wrong number of classes, for classes of one split only, and for a class without images."""
    train, test = (listings[split].files for split in SPLITS)
    if len(train) != dataset.classes:
        some = f" ({', '.join(sorted(train)[:3])}{', ...' if len(train) > 3 else ''})" if train else ""
        raise DataError(
            f"{root / PLACES['train']}: {len(train)} class folders{some}; {dataset.title} has {dataset.classes}"
        )
    if odd := sorted(set(train) ^ set(test)):
        there, other = (PLACES[split] for split in (SPLITS if odd[0] in train else reversed(SPLITS)))
        raise DataError(f"{root}: class {odd[0]} is in {there}/ and not in {other}/ ({len(odd)} such classes)")
    for split, listing in listings.items():
        if empty := sorted(name for name, files in listing.files.items() if not files):
            raise DataError(f"{root / PLACES[split]}: class {empty[0]} has no image ({len(empty)} such classes)")
        if listing.ignored:
            first = f"first {listing.ignored[0]}"
            _say(f"{dataset.name}: {split}: {len(listing.ignored)} images without a class are left out, {first}")


# --- opening ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Split:
    arrays: dict[str, np.ndarray]
    digest: str
    skipped: dict[str, object]


def _open_split(dataset: Dataset, root: Path, split: str, listing: Listing) -> _Split:
    """The arrays of one split; DataError if more than 1% of its files, or all of a class, give no image."""
    pairs = listing.pairs()
    opened = list(_open_all(dataset, root, split, [path for _, path in pairs]))
    bad = [f"{path} ({file.fault})" for (_, path), file in zip(pairs, opened, strict=True) if file.fault]
    if len(bad) > MOST_DAMAGED * len(pairs):
        raise DataError(
            f"{root}: {len(bad)} of the {len(pairs)} files of {split} give no image, more than {MOST_DAMAGED:.0%}: "
            f"first {bad[0]}"
        )
    if bad:
        _say(f"{dataset.name}: {split}: {len(bad)} of {len(pairs)} files give no image: {', '.join(bad[:NAMED])}")
    good = [(label, path, file) for (label, path), file in zip(pairs, opened, strict=True) if not file.fault]
    names = sorted(listing.files)
    if lost := sorted(set(range(len(names))) - {label for label, _, _ in good}):
        raise DataError(f"{root / PLACES[split]}: class {names[lost[0]]} has no image that can be decoded")
    hasher = hashlib.sha256()
    for label, _, file in good:
        hasher.update(label.to_bytes(2, "little") + file.sha256)
    arrays = {
        f"files_{split}": np.array([os.fsencode(path) for _, path, _ in good]),
        f"y_{split}": np.array([label for label, _, _ in good], dtype=np.uint16),
        f"bytes_{split}": np.array([file.size for _, _, file in good], dtype=np.int64),
    }
    if split == "train":
        arrays["sums_train"] = np.array([file.sums for _, _, file in good], dtype=np.uint32)
        arrays["squares_train"] = np.array([file.squares for _, _, file in good], dtype=np.uint32)
    return _Split(arrays, f"sha256:{hasher.hexdigest()}", {"count": len(bad), "first": bad[:NAMED]})


def _open_all(dataset: Dataset, root: Path, split: str, paths: list[str]) -> Iterator[Opened]:
    """Every file in order, opened in as many processes as FEATURESPEED_LOADER_WORKERS says."""
    parts = (tuple(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK))
    jobs = [Job(str(root), part, dataset.decoded_side, dataset.shape[1]) for part in parts]
    workers = min(loader_workers(), len(jobs))
    if workers < 2:
        yield from _with_log(dataset, split, map(open_files, jobs), len(paths))
        return
    try:
        with ProcessPoolExecutor(workers) as pool:
            yield from _with_log(dataset, split, pool.map(open_files, jobs), len(paths))
    except BrokenProcessPool:
        raise DataError(
            f"{root}: a process that opened images was killed, perhaps for want of memory; "
            f"set {WORKERS_VARIABLE} below {workers}"
        ) from None


def open_files(job: Job) -> list[Opened]:
    """Read, hash and decode files."""
    return [_open(os.path.join(job.root, path), job) for path in job.paths]


def _open(path: str, job: Job) -> Opened:
    try:
        data = read_file(path)
        square = decode_square(data, job.side)
    except Damaged as error:
        return Opened(fault=str(error))
    edge = (job.side - job.view) // 2
    seen = square[:, edge : edge + job.view, edge : edge + job.view].reshape(3, -1).astype(np.int64)
    sums, squares = seen.sum(1).tolist(), (seen * seen).sum(1).tolist()
    return Opened(len(data), hashlib.sha256(data).digest(), tuple(sums), tuple(squares))


def _with_log(dataset: Dataset, split: str, results: Iterator[list[Opened]], total: int) -> Iterator[Opened]:
    """Pass files through, and say every 30 seconds how far they are."""
    done, started = 0, time.monotonic()
    last = started
    for result in results:
        yield from result
        done += len(result)
        if time.monotonic() - last >= LOG_SECONDS:
            last = time.monotonic()
            _say(f"{dataset.name}: {split}: {done}/{total} files after {last - started:.0f} s")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
