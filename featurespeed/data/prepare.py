"""Bring a data set to its folder, once and verified: from a local folder, from the network, or from a package.

    path = prepare("cifar10", target=Path("resources/data/cifar10"), local=Path("~/data"))

Errors are :class:`~featurespeed.data.content.DataError`, one line each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from featurespeed.data.class_folders import find_class_folders
from featurespeed.data.class_folders import what_to_provide as files_to_provide
from featurespeed.data.content import (
    Arrays,
    DataError,
    DownloadError,
    Found,
    Identity,
    find_version,
    identify,
    standard_arrays,
)
from featurespeed.data.embedded import LOADERS
from featurespeed.data.registry import DATASETS, FOLDER_VARIABLE, SPLITS, Archive, Dataset
from featurespeed.data.sources import Decoded, Source, bad_member, decode, find_sources, keep_aside, what_to_provide
from featurespeed.data.store import facts_of, write_dataset

Fetch = Callable[[Archive, Path], Path]


def prepare(
    name: str,
    target: Path,
    local: Path | None = None,
    allowed: str | None = None,
    datasets: Mapping[str, Dataset] = DATASETS,
) -> Path:
    """Write ``<target>/<name>.npz`` and ``<target>/facts.json``; returns the path of the npz file.

    Args:
        name: of a data set in `datasets`.
        local: folder to look in first.
        allowed: hash of the whole decoded content, the only one that is then accepted.
    """
    if name not in datasets:
        raise DataError(f"data set {name!r}: unknown, allowed: {', '.join(datasets)}")
    arrays, facts = obtain(datasets[name], target / "downloads", local, allowed, datasets)
    path = write_dataset(target, datasets[name], arrays, facts)
    remove_downloads(target / "downloads")
    return path


def obtain(
    dataset: Dataset,
    downloads: Path,
    local: Path | None = None,
    allowed: str | None = None,
    datasets: Mapping[str, Dataset] = DATASETS,
    fetch: Fetch | None = None,
) -> tuple[Arrays, dict[str, object]]:
    """Verified arrays in standard form, and their facts; nothing is written outside `downloads`.

    `datasets` are all that are known: MNIST's and Fashion-MNIST's files have the same names, and a file that holds
    another known set is passed over. `fetch` brings one archive to a folder.
    """
    if dataset.embedded:
        found = _from_package(dataset, allowed)
    elif dataset.layout == "folders":
        found = _from_class_folders(dataset, local, allowed)
    else:
        found = _from_local(dataset, _existing(local), allowed, datasets) if local is not None else None
        found = found or _from_network(dataset, downloads, local, allowed, datasets, fetch)
    facts = facts_of(dataset, found)
    for split in SPLITS:
        about = f"{facts['counts'][split]} {_UNIT[dataset.kind]}, {found.identity.digests[split]}"
        _say(f"{dataset.name}: {split}: {about}: {found.identity.notes[split]}")
    return found.arrays, facts


_UNIT = {"images": "images", "text": "bytes", "files": "files"}


def remove_downloads(folder: Path) -> None:
    """Remove what verified data were made from; files that were kept aside as bad stay."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.suffix != ".bad":
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def _from_package(dataset: Dataset, allowed: str | None) -> Found:
    arrays, origin = LOADERS[dataset.name]()
    arrays = standard_arrays(dataset, arrays, origin)
    return Found(arrays, identify(dataset, arrays, origin, allowed), f"embedded: {origin}")


def _from_class_folders(dataset: Dataset, local: Path | None, allowed: str | None) -> Found:
    """What the local folder holds; such a set is never downloaded."""
    found = find_class_folders(dataset, _existing(local), allowed) if local is not None else None
    if found is None:
        what = f"no {dataset.title} here, and it is not downloaded: put {files_to_provide(dataset)}"
        raise DataError(f"{what} {_place(dataset, local)}")
    return replace(found, source=f"local folder: {found.source}")


def _place(dataset: Dataset, local: Path | None) -> str:
    """Where to put files, for the end of a message."""
    if local is None:
        return f"into a folder, and give that as data_dir in the config or in {FOLDER_VARIABLE}"
    return f"into {local} or its subfolder {dataset.folders[0]}"


def _existing(local: Path) -> Path:
    folder = local.expanduser()
    if not folder.is_dir():
        raise DataError(f"data_dir = {local}: no such folder (config key data_dir or {FOLDER_VARIABLE})")
    return folder


def _from_local(dataset: Dataset, folder: Path, allowed: str | None, datasets: Mapping[str, Dataset]) -> Found | None:
    try:
        found = _from_folder(dataset, folder, allowed, datasets)
    except DataError as error:
        raise DataError(f"{error}; the file stays where it is and is not used") from None
    if found is None:
        _say(f"{dataset.name}: nothing of it in {folder}")
    return found and replace(found, source=f"local folder: {found.source}")


def _from_folder(dataset: Dataset, folder: Path, allowed: str | None, datasets: Mapping[str, Dataset]) -> Found | None:
    """What a folder holds of the data set, None if nothing. Its files are only read, good or bad."""
    for source in find_sources(dataset, folder):
        decoded = decode(dataset, source)
        other = _other_set(dataset, decoded, datasets)
        if other is not None:
            _say(f"{dataset.name}: {source.where} holds {other.title}, passed over")
            continue
        identity = _identify(dataset, source, decoded, allowed)
        _say(f"{dataset.name}: read {source.where}")
        return Found(decoded.arrays, identity, "idx files" if source.form == "idx" else source.where.name)
    return None


def _identify(dataset: Dataset, source: Source, decoded: Decoded, allowed: str | None) -> Identity:
    try:
        return identify(dataset, decoded.arrays, str(source.where), allowed)
    except DataError as error:
        blame = bad_member(dataset, source, decoded)
        raise DataError(f"{blame}; {error}" if blame else str(error)) from None


def _other_set(dataset: Dataset, decoded: Decoded, datasets: Mapping[str, Dataset]) -> Dataset | None:
    """Another known data set whose training split this is."""
    for other in datasets.values():
        same_form = other.shape == dataset.shape and other.name != dataset.name
        if same_form and find_version(other, decoded.arrays, "train") is not None:
            return other
    return None


def _from_network(
    dataset: Dataset,
    downloads: Path,
    local: Path | None,
    allowed: str | None,
    datasets: Mapping[str, Dataset],
    fetch: Fetch | None,
) -> Found:
    failures = []
    for archives in dataset.downloads:
        try:
            paths = [(fetch or _default_fetch)(archive, downloads) for archive in archives]
        except DownloadError as error:
            failures += error.reasons
            continue
        return _from_archives(dataset, paths, allowed, datasets)
    place = _place(dataset, local)
    with suppress(OSError):  # not there, or parts are in it that the next attempt goes on from
        downloads.rmdir()
    reasons = "; ".join(dict.fromkeys(failures))
    raise DataError(f"no {dataset.title} here: put {what_to_provide(dataset)} {place}; no download: {reasons}")


def _from_archives(dataset: Dataset, paths: list[Path], allowed: str | None, datasets: Mapping[str, Dataset]) -> Found:
    """The content of downloaded files; should it not be what their hashes promised, they are moved aside."""
    names = ", ".join(path.name for path in paths)
    try:
        found = _from_folder(dataset, paths[0].parent, allowed, datasets)
        if found is None:
            raise DataError(f"{paths[0].parent}: no {dataset.title} in {names}")
    except DataError as error:
        for path in paths:
            keep_aside(path)
        raise DataError(f"{error}; moved aside to *.bad") from None
    return replace(found, source=f"download: {names}")


def _default_fetch(archive: Archive, folder: Path) -> Path:
    from featurespeed.data.fetch import fetch  # only who downloads needs pooch

    return fetch(archive, folder)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
