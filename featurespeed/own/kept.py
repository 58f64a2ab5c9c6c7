"""What the training of one size leaves behind: its losses, and how it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_losses(path: Path, losses: np.ndarray, way: Mapping[str, Any]) -> None:
    """Write the losses ``[seeds, rates, steps]`` of a size, and its :class:`featurespeed.own.choosing.Way`."""
    with open(path, "wb") as file:
        np.savez_compressed(file, losses=losses, way=np.array(json.dumps(dict(way))))


def read_losses(path: Path) -> np.ndarray:
    """The losses ``[seeds, rates, steps]`` of a size."""
    with np.load(path) as kept:
        return np.asarray(kept["losses"])


def read_way(path: Path) -> dict[str, Any]:
    """How a size was trained."""
    with np.load(path) as kept:
        found: dict[str, Any] = json.loads(str(kept["way"]))
    return found
