"""What is kept in a folder, so that a check goes on where it was stopped: finished units and the running one.

Every file is named by a fingerprint of all that its numbers depend on. What was trained from other weights, on other
data or with other settings has another name, and is not found.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featurespeed.machine.files import atomic_path
from featurespeed.measuring.errors import MeasurementError, first_line, kind_of
from featurespeed.measuring.trees import leaves
from featurespeed.own.training import Alone, Recipe, held

SECONDS = 30.0  # between checkpoints
DIGITS = 4  # of the first loss and gradient, to which rounding on another device does not count
LENGTH = 16  # characters of a fingerprint


def fingerprint(description: Mapping[str, Any]) -> str:
    """A short text that is another one for other settings."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def hash_of(tree: Any) -> str:
    """A fingerprint of the tensors and arrays of a tree (values, shapes, precisions), and of its numbers and texts."""
    found = hashlib.sha256()
    for leaf in leaves(tree):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
            found.update(f"{leaf.shape} {leaf.dtype}".encode())
            found.update(np.ascontiguousarray(leaf).tobytes())
        elif isinstance(leaf, Tensor):
            found.update(f"{tuple(leaf.shape)} {leaf.dtype}".encode())
            found.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(leaf, (bool, int, float, complex, str, bytes, np.generic)):
            found.update(f"{leaf!r};".encode())
    return found.hexdigest()[:LENGTH]


def data_digest(recipe: Recipe) -> str:
    """Of all data, where they are at hand; empty for loaders and functions, of which the first batch alone counts."""
    if recipe.digest is None:
        recipe.digest = "" if recipe.source.whole is None else hash_of(recipe.source.whole)
    return recipe.digest


def starts_of(recipe: Recipe, size: int, seed: int, rates: Sequence[float]) -> list[dict[str, Any]]:
    """What runs of a size and seed begin with: weights, a batch, its loss and gradient, and the optimizer's options.

    The loss and the length of its gradient say what the code of the model and of the loss does. One entry a rate.
    """
    alone = Alone(recipe, size, seed, rates[0])  # with the loss as it was at first
    weights = hash_of(list(held(alone.model).values()))
    (part,) = next(alone.parts(0))
    holds = recipe.beginning.tensors
    loss = float(alone.differentiate(part, 0))
    lengths = [float(parameter.grad.norm()) for parameter in alone.model.parameters() if parameter.grad is not None]
    start = {
        "weights": weights,
        "batch": hash_of(part.whole),
        "data": data_digest(recipe),
        "loss": f"{loss:.{DIGITS}g}",
        "gradient": f"{math.hypot(*lengths):.{DIGITS}g}",
        **({"loss_holds": hash_of(holds)} if holds else {}),
    }
    return [start | {"optimizer": _options(alone.model, recipe.optimizer_of(alone.model, rate))} for rate in rates]


def _options(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """Class and options of an optimizer, and which parameters they hold for."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [
        {key: [names[id(p)] for p in value] if key == "params" else str(value) for key, value in group.items()}
        for group in optimizer.param_groups
    ]
    return [type(optimizer).__name__, groups]


class Folder:
    """Finished units and checkpoints of running ones; nothing is kept where there is no folder.

    Args:
        path: of the folder.
        seconds: between two checkpoints; None is :data:`SECONDS`.

    Raises:
        MeasurementError: what was given is no path, is a file, or is no folder to write to.
    """

    def __init__(self, path: Path | str | None, seconds: float | None = None):
        if path is not None and not isinstance(path, (str, Path)):
            raise MeasurementError(f"folder: {kind_of(path)}, allowed: a path, None")
        self._path = None if path is None else Path(path)
        if self._path is not None and self._path.exists() and not self._path.is_dir():
            raise MeasurementError(f"folder: {self._path} is a file, allowed: a folder")
        try:
            if self._path is not None:
                self._path.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=self._path).close()  # before any work: can files be written there?
        except OSError as error:
            raise MeasurementError(f"folder: {self._path}, allowed: one to write to ({error.strerror})") from error
        self._seconds, self._saved = seconds, time.monotonic()

    @property
    def keeps(self) -> bool:
        """Whether there is a folder."""
        return self._path is not None

    def finished(self, name: str) -> np.ndarray | None:
        """The numbers of a finished unit; None if it is not finished."""
        path = self._file(name, "npy")
        if path is None or not path.exists():
            return None
        try:
            return np.load(path, allow_pickle=False)
        except Exception:  # damaged, which NumPy tells in many ways: the unit is trained anew
            return None

    def finish(self, name: str, values: np.ndarray) -> None:
        """Keep the numbers of a unit; its checkpoint goes."""
        path = self._file(name, "npy")
        if path is None:
            return
        with self._written(path) as part:
            np.save(part, values)
        self._running(name).unlink(missing_ok=True)

    def note(self, name: str) -> Any:
        """A note that was kept; None if there is none."""
        path = self._file(name, "json")
        if path is None or not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):  # damaged: found anew
            return None

    def write(self, name: str, note: Any) -> None:
        """Keep a note; a checkpoint of the same name goes."""
        path = self._file(name, "json")
        if path is None:
            return
        with self._written(path) as part:
            part.write_text(json.dumps(note, indent=1))
        self._running(name).unlink(missing_ok=True)

    def started(self, name: str) -> dict[str, Any] | None:
        """The last checkpoint of a unit; None if there is none that can be read."""
        if self._path is None or not self._running(name).exists():
            return None
        try:
            found = torch.load(self._running(name), map_location="cpu", weights_only=True)
            return found if isinstance(found, dict) and "step" in found else None
        except Exception:  # a state that holds more than numbers, of an optimizer of somebody's own: from the beginning
            return None

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint was long ago."""
        return self.keeps and time.monotonic() - self._saved >= (SECONDS if self._seconds is None else self._seconds)

    def checkpoint(self, name: str, state: Mapping[str, Any]) -> None:
        """Keep the state of a running unit."""
        if self._path is not None:
            with self._written(self._running(name)) as part:
                torch.save(dict(state), part)
        self._saved = time.monotonic()

    @contextmanager
    def _written(self, path: Path) -> Iterator[Path]:
        """A path to write to, which appears whole; one line if the disk is full, or the folder gone."""
        try:
            with atomic_path(path) as part:
                yield part
        except (OSError, RuntimeError) as error:  # PyTorch's are the latter
            raise MeasurementError(f"folder: {self._path}, allowed: one to write to ({first_line(error)})") from error

    def _file(self, name: str, suffix: str) -> Path | None:
        return None if self._path is None else self._path / f"{name}.{suffix}"

    def _running(self, name: str) -> Path:
        assert self._path is not None
        return self._path / f"{name}.running.pt"
