"""From the bytes of the standard files to arrays: idx, CIFAR-10's three forms, npz. Nothing in a file is ever run."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

CIFAR_SHAPE = (3, 32, 32)
CIFAR_RECORD = 1 + 3 * 32 * 32

# What numpy itself puts into a pickled array. Its functions have moved between versions, so they are taken from an
# array's own recipes (pickle protocols 2 and 5), wherever they now live.
_RECIPES = {
    "multiarray._reconstruct": np.empty(1).__reduce_ex__(2)[0],
    "numeric._frombuffer": np.empty(1).__reduce_ex__(5)[0],
}
_ALLOWED = {
    **{f"numpy.{core}.{name}": recipe for core in ("core", "_core") for name, recipe in _RECIPES.items()},
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": codecs.encode,  # how Python 3 writes bytes for Python 2
}


class NotDecodable(ValueError):
    """Bytes that are not what their name says; the text is the reason."""


class _ArrayUnpickler(pickle.Unpickler):
    """Loads lists, dictionaries, strings, numbers and numpy arrays, and refuses to name anything else."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise NotDecodable(f"its pickle asks for {module}.{name}, which no array needs") from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file, read whole, so that every checksum of the container has been tested."""
    with np.load(path, allow_pickle=False) as stored:
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise NotDecodable("not an npz file")
        return {name: stored[name] for name in stored.files}


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked if it is gzipped or xz, whatever its name."""
    data = path.read_bytes()
    if data[:6] == b"\xfd7zXZ\x00":
        return lzma.decompress(data)
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def read_members(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The named files of a tar or zip archive, found by their last name; nothing is written to disk."""
    wanted, found = set(names), {}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {name.rpartition("/")[2]: name for name in archive.namelist()}
            return {name: archive.read(members[name]) for name in _all_there(wanted, members)}
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name in wanted and member.isfile():
                found[name] = archive.extractfile(member).read()
    _all_there(wanted, found)
    return found


def _all_there(wanted: Iterable[str], found: Iterable[str]) -> list[str]:
    """The wanted names in order, if all were found."""
    if missing := sorted(set(wanted) - set(found)):
        raise NotDecodable(f"no {', '.join(missing)} inside")
    return sorted(wanted)


def decode_idx(data: bytes) -> np.ndarray:
    """An array of unsigned bytes in MNIST's idx format: 0, 0, type 8, number of axes, sizes (big endian), values."""
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise NotDecodable("not an idx file of unsigned bytes")
    header = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4))
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(data) != expected:
        raise NotDecodable(f"{len(data)} bytes unpacked, {expected} expected")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def decode_cifar_records(data: bytes) -> np.ndarray:
    """Records uint8 [n, 3073], label byte + pixel bytes, of one of CIFAR-10's files ``*.bin``."""
    if not data or len(data) % CIFAR_RECORD:
        raise NotDecodable(f"{len(data)} bytes are no whole number of records of {CIFAR_RECORD}")
    return np.frombuffer(data, np.uint8).reshape(-1, CIFAR_RECORD)


def decode_cifar_pickle(data: bytes) -> np.ndarray:
    """Records uint8 [n, 3073], label byte + pixel bytes, of one of CIFAR-10's Python batches."""
    batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    if not isinstance(batch, dict):
        raise NotDecodable("its pickle holds no batch")
    content = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    pixels, labels = content.get("data"), np.asarray(content.get("labels"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise NotDecodable("its pickle holds no uint8 array 'data'")
    if pixels.shape != (len(labels), CIFAR_RECORD - 1) or labels.dtype.kind not in "iu":
        raise NotDecodable(f"its pickle holds images {pixels.shape} and labels {labels.shape}")
    if labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
        raise NotDecodable("its pickle holds labels that are no bytes")
    return np.concatenate([labels.astype(np.uint8)[:, np.newaxis], pixels], axis=1)


def split_records(records: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 3, 32, 32] and labels uint8 [n] of CIFAR-10 records, file after file."""
    rows = np.concatenate(records)
    return rows[:, 1:].reshape(-1, *CIFAR_SHAPE), rows[:, 0]
