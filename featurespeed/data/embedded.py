"""Data that come with an installed package: small, real, and there without a network."""

from __future__ import annotations

import platform
from importlib.metadata import version

import numpy as np

from featurespeed.data.registry import DIGITS, PYDOC
from featurespeed.data.subset import stratified_subset

DIGITS_TEST = 360  # of 1797 images; the choice is fixed, and so is its digest
TEXT_TRAIN = 0.9  # share of the text that comes first


def load_digits() -> tuple[dict[str, np.ndarray], str]:
    """The 1797 digits of scikit-learn, uint8 [n, 1, 8, 8] in [0, 16], as 1437 for training and 360 for testing."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    images, labels = bunch.images[:, np.newaxis].astype(np.uint8), bunch.target.astype(np.uint8)
    test = np.zeros(len(labels), dtype=bool)
    test[stratified_subset(labels, DIGITS_TEST, seed=0)] = True
    arrays = {"x_train": images[~test], "y_train": labels[~test], "x_test": images[test], "y_test": labels[test]}
    return arrays, f"scikit-learn {version('scikit-learn')}"


def load_pydoc() -> tuple[dict[str, np.ndarray], str]:
    """The text behind Python's `help()`, its topics in alphabetical order, as bytes: the first 90% and the rest."""
    from pydoc_data.topics import topics

    text = np.frombuffer("".join(topics[name] for name in sorted(topics)).encode(), dtype=np.uint8)
    cut = int(len(text) * TEXT_TRAIN)
    while text[cut] & 0xC0 == 0x80:  # a byte in the middle of a character
        cut += 1
    build = f"Python {platform.python_version()}, {platform.python_build()[1]}"
    return {"train": text[:cut], "test": text[cut:]}, build


LOADERS = {DIGITS.name: load_digits, PYDOC.name: load_pydoc}
