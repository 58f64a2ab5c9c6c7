"""Small class folders of images, in every layout, good and damaged."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from featurespeed.data.content import bytes_digest
from featurespeed.data.registry import IMAGENET, TINY_IMAGENET, TINY_IMAGENET_40, Dataset, Version

CLASSES = ("n01", "n02", "n03")
TRAIN, TEST = 40, 4  # images of each class
SIDE = 16


def pixels(seed: int, height: int = SIDE, width: int = SIDE, channels: int = 3) -> np.ndarray:
    """Smooth random colours, uint8 [height, width, channels], without channels for one."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small.squeeze()).resize((width, height), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(large)


def encoded(array: np.ndarray, form: str = "JPEG", mode: str | None = None, **options) -> bytes:
    """The bytes of an image file."""
    image = Image.fromarray(array)
    buffer = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(seed: int, height: int = SIDE, width: int = SIDE) -> bytes:
    """A JPEG file of random colours."""
    return encoded(pixels(seed, height, width), quality=90)


def huge_png() -> bytes:
    """A PNG file of a few bytes that says it has 100 million pixels."""
    header = b"IHDR" + (10_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    good = encoded(pixels(0), "PNG")
    return good[:12] + header + zlib.crc32(header).to_bytes(4, "big") + good[33:]


def small_set(dataset: Dataset = TINY_IMAGENET, side: int = SIDE, **changes) -> Dataset:
    """The registry entry of a set of files, for `CLASSES` and images of `side` pixels."""
    versions = Version("train", TRAIN * len(CLASSES)), Version("test", TEST * len(CLASSES))
    sizes = {"shape": (3, side, side), "decoded_side": side}
    return replace(dataset, class_count=len(CLASSES), versions=versions, **(sizes | changes))


FILES = small_set()
LARGE = small_set(IMAGENET, shape=(3, 12, 12), decoded_side=SIDE)  # a network sees the centre


def contents(split: str) -> Iterator[tuple[str, int, bytes]]:
    """(class, number, bytes) of every image of a split."""
    count, base = (TRAIN, 0) if split == "train" else (TEST, 10_000)
    for label, name in enumerate(CLASSES):
        for number in range(count):
            yield name, number, jpeg(base + 100 * label + number)


def write(path: Path, data: bytes) -> Path:
    """A file with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_plain(folder: Path) -> Path:
    """``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``."""
    for split, place in (("train", "train"), ("test", "val")):
        for name, number, data in contents(split):
            write(folder / place / name / f"{name}_{number}.JPEG", data)
    return folder


def write_official(folder: Path) -> Path:
    """As Tiny-ImageNet is published: folders `images`, and the classes of the validation images in a table."""
    for name, number, data in contents("train"):
        write(folder / "train" / name / "images" / f"{name}_{number}.JPEG", data)
        write(folder / "train" / name / f"{name}_boxes.txt", b"0 0 1 1")
    lines = []
    for place, (name, _, data) in enumerate(contents("test")):
        write(folder / "val/images" / f"val_{place}.JPEG", data)
        lines.append(f"val_{place}.JPEG\t{name}\t0\t32\t44\t62\n")
    write(folder / "val/val_annotations.txt", "".join(lines).encode())
    write(folder / "test/images/test_0.JPEG", jpeg(0))
    return folder


# --- a small choice of them -------------------------------------------------------------------------------------------

CHOSEN = ("n01", "n03")
EACH = {"train": 12, "test": 2}


def chosen_files(split: str) -> list[tuple[int, bytes]]:
    """(label, bytes) of the first images of the chosen classes."""
    found = [(name, number, data) for name, number, data in contents(split) if name in CHOSEN]
    return [(CHOSEN.index(name), data) for name, number, data in found if number < EACH[split]]


def chosen_set() -> Dataset:
    """The registry entry of the choice, with its hashes."""
    versions = []
    for split in ("train", "test"):
        files = chosen_files(split)
        digest = bytes_digest(b"".join(bytes([label]) + data for label, data in files))
        versions.append(Version(split, len(files), digest))
    sizes = {"shape": (3, SIDE, SIDE), "decoded_side": SIDE, "class_names": CHOSEN}
    return replace(TINY_IMAGENET_40, versions=tuple(versions), **sizes)


def npz_arrays() -> dict[str, np.ndarray]:
    """The arrays of an npz file of JPEG bytes."""
    arrays = {"wnids": np.array(CHOSEN), "names": np.array(["a", "b"])}
    for split, part in (("train", "train"), ("test", "val")):
        labels, files = zip(*chosen_files(split), strict=True)
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), dtype=np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"y_{part}"] = np.array(labels, dtype=np.uint8)
    return arrays
