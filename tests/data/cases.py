"""Tiny data sets in every standard form, and registry entries that know their hashes."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from featurespeed.data.content import records_digest
from featurespeed.data.registry import CIFAR10, CIFAR_TEST, CIFAR_TRAIN, IDX_FILES, MNIST, Dataset, Version

BATCH = 8  # images in each of the five training files and in the test file
CUT = 5


def image_arrays(dataset: Dataset, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays in standard form: 40 training and 8 test images."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", 5 * BATCH), ("test", BATCH)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, *dataset.shape), dtype=np.uint8)
        arrays[f"y_{split}"] = rng.integers(0, dataset.classes, count, dtype=np.uint8)
    return arrays


def records(images: np.ndarray, labels: np.ndarray) -> bytes:
    """The bytes of one of CIFAR-10's binary files."""
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


def cifar_files(arrays: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """File name -> images and labels, as CIFAR-10 divides them."""
    parts = {}
    for number, name in enumerate(CIFAR_TRAIN):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        parts[name] = arrays["x_train"][rows], arrays["y_train"][rows]
    return parts | {CIFAR_TEST: (arrays["x_test"], arrays["y_test"])}


def idx(array: np.ndarray) -> bytes:
    """The bytes of an idx file of unsigned bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def idx_contents(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """File name -> bytes, not packed."""
    order = (arrays["x_train"][:, 0], arrays["y_train"], arrays["x_test"][:, 0], arrays["y_test"])
    return {name: idx(array) for name, array in zip(IDX_FILES, order, strict=True)}


def knowing(dataset: Dataset, arrays: dict[str, np.ndarray], members: dict[str, str]) -> Dataset:
    """The registry entry of `dataset` with the hashes of `arrays`: SHA-1 of the full test set, and a cut one."""
    x, y = arrays["x_test"], arrays["y_test"]
    versions = (
        Version("train", len(arrays["y_train"]), records_digest(arrays["x_train"], arrays["y_train"])),
        Version("test", len(y), records_digest(x, y, "sha1")),
        Version("test", CUT, records_digest(x[:CUT], y[:CUT]), f"test set cut short: {CUT} of {len(y)} images"),
    )
    return replace(dataset, versions=versions, members=members)


CIFAR_ARRAYS = image_arrays(CIFAR10, seed=1)
MNIST_ARRAYS = image_arrays(MNIST, seed=2)
TINY_CIFAR = knowing(
    CIFAR10, CIFAR_ARRAYS, {name: records_digest(*part, "sha1") for name, part in cifar_files(CIFAR_ARRAYS).items()}
)
TINY_MNIST = knowing(
    MNIST,
    MNIST_ARRAYS,
    {name: f"md5:{hashlib.md5(content).hexdigest()}" for name, content in idx_contents(MNIST_ARRAYS).items()},
)
TINY = {"cifar10": TINY_CIFAR, "mnist": TINY_MNIST}


# --- writers: one form of a data set into a folder --------------------------------------------------------------------


def write_npz(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> Path:
    """`<name>.npz` in the layout that users have: no channel axis where there is one channel, labels as int64."""
    path = folder / f"{name}.npz"
    plain = {key: a[:, 0] if a.ndim == 4 and a.shape[1] == 1 else a for key, a in arrays.items()}
    np.savez(path, **{key: a if a.ndim > 1 else a.astype(np.int64) for key, a in plain.items()})
    return path


def cifar_pickle(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A Python batch with the keys of the original, which Python 2 wrote: byte strings."""
    batch = {
        b"batch_label": b"tiny",
        b"labels": [int(label) for label in labels],
        b"data": images.reshape(len(images), -1),
        b"filenames": [b"an_image.png"] * len(images),
    }
    return pickle.dumps(batch, protocol=2)


def write_pickles(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """`cifar-10-batches-py/`."""
    _write(folder / "cifar-10-batches-py", {n: cifar_pickle(*part) for n, part in cifar_files(arrays).items()})


def write_binaries(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """`cifar-10-batches-bin/`."""
    _write(folder / "cifar-10-batches-bin", {f"{n}.bin": records(*part) for n, part in cifar_files(arrays).items()})


def write_archive(folder: Path, arrays: dict[str, np.ndarray], binary: bool = False) -> Path:
    """`cifar-10-python.tar.gz` or `cifar-10-binary.tar.gz`."""
    path = folder / f"cifar-10-{'binary' if binary else 'python'}.tar.gz"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, part in cifar_files(arrays).items():
            data = records(*part) if binary else cifar_pickle(*part)
            member = tarfile.TarInfo(f"cifar-10-batches/{name}{'.bin' if binary else ''}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_idx(folder: Path, arrays: dict[str, np.ndarray], packed: bool = True) -> None:
    """The four idx files, gzipped or not."""
    contents = idx_contents(arrays)
    if packed:
        contents = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in contents.items()}
    _write(folder, contents)


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
