"""What a monitor measures, of which model, and how it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featurespeed.curvature.lanczos import Eigenvalues
from featurespeed.curvature.measure import sharpness
from featurespeed.measuring.arguments import flag, positive, whole_number
from featurespeed.measuring.batches import parts_of
from featurespeed.measuring.errors import MeasurementError, first_line, kind_of
from featurespeed.measuring.model import checked_loss, checked_model, takes_batch
from featurespeed.measuring.names import without_wrapper
from featurespeed.measuring.optimizers import checked_optimizer
from featurespeed.measuring.trees import duplicate
from featurespeed.own.measure import measure

Log = Callable[[dict[str, float], int], Any]

SHARPNESS, FEATURE_SPEED = "sharpness", "feature_speed"
#: Why there is no sharpness in the units of an optimizer at times when nothing is wrong.
TOO_EARLY = "Adam has no second moments before its first step"
AT_REST = "the learning rate is 0, at which nothing is unstable"
NO_FAULT = (TOO_EARLY, AT_REST)
#: Columns of `Measurement.table` that a monitor keeps, one number a node.
PER_NODE = ("angle", "feature_speed", "feature_rms", "function_update")
ON_ERROR = ("record", "raise")


@dataclass(frozen=True)
class Settings:
    """How a :class:`featurespeed.own.monitor.Monitor` measures; its arguments of these names.

    Raises:
        MeasurementError: a value that is not allowed.
    """

    every: int = 100
    sharpness: bool = True
    feature_speed: bool = True
    nodes: str | Sequence[str] | None = None
    tol: float = 0.03
    log: Log | None = None
    folder: str | Path | None = None
    on_error: str = "record"

    def __post_init__(self) -> None:
        whole_number("every", self.every, 1)
        positive("tol", self.tol)
        if not (flag(SHARPNESS, self.sharpness) or flag(FEATURE_SPEED, self.feature_speed)):
            raise MeasurementError("sharpness = False, feature_speed = False: allowed: one of them True")
        if self.log is not None and not callable(self.log):
            raise MeasurementError(f"log: {kind_of(self.log)}, allowed: a function (values, step)")
        if self.folder is not None and not isinstance(self.folder, (str, Path)):
            raise MeasurementError(f"folder: {kind_of(self.folder)}, allowed: a path, None")
        if self.on_error not in ON_ERROR:
            raise MeasurementError(f"on_error = {self.on_error!r}: allowed: {', '.join(ON_ERROR)}")


class Watched:
    """A model in training, its optimizer, and the batch that it is measured on again and again.

    Raises:
        MeasurementError: a model, loss, batch or optimizer that cannot be measured, whatever its weights are.
    """

    def __init__(self, model: Any, loss: Any, batch: Any, optimizer: Any, settings: Settings):
        self.model, self._loss = without_wrapper(checked_model(model)), checked_loss(loss)
        _check_whole(self.model)
        self._batch = _checked_batch(batch, self._loss, settings)
        self._optimizer = None if optimizer is None else unwrapped_optimizer(optimizer, self.model)
        self._settings = settings
        self._start: Eigenvalues | None = None
        self._without_threshold: dict[str, str] = {}  # why there is no edge, once that is known

    def values(self) -> tuple[dict[str, float], dict[str, str]]:
        """What was measured, by its name, and why something is missing: ``sharpness``, ``edge``, ``feature_speed``."""
        values: dict[str, float] = {}
        reasons: dict[str, str] = {}
        not_now = self._not_now()
        if self._settings.sharpness and not_now:
            reasons[SHARPNESS] = not_now
        elif self._settings.sharpness:
            names = ("sharpness",) if self._optimizer is None else ("sharpness", "edge")
            values |= self._guarded(SHARPNESS, self._sharpness, names, reasons)
            reasons |= self._without_threshold
        if self._settings.feature_speed:
            values |= self._guarded(FEATURE_SPEED, self._speeds, ("loss", "loss_decay"), reasons)
        return values, reasons

    def _guarded(
        self, part: str, measured: Callable[[], dict[str, float]], missing: Sequence[str], reasons: dict[str, str]
    ) -> dict[str, float]:
        """What was measured; NaN where that failed, which is no reason to stop a training."""
        try:
            with in_full_precision(self.model):
                return measured()
        except Exception as error:
            if self._settings.on_error == "raise":
                raise
            reasons[part] = reason_of(error)
            return dict.fromkeys(missing, math.nan)

    def _not_now(self) -> str:
        """Why the optimizer has no units at this time, although nothing is wrong; else an empty text."""
        if self._optimizer is None:
            return ""
        if not any(float(group["lr"]) for group in self._optimizer.param_groups):  # at the ends of many schedules
            return AT_REST
        adaptive = isinstance(self._optimizer, (torch.optim.Adam, torch.optim.AdamW))
        return TOO_EARLY if adaptive and not self._optimizer.state else ""

    def _sharpness(self) -> dict[str, float]:
        start, self._start = self._start, None  # none is kept of a measurement that fails
        found, edge = self._in_units(start)
        self._start = found
        values = {
            "sharpness": found.eigenvalue, "sharpness_converged": float(found.converged),
            "products": float(found.products),
        }  # fmt: skip
        return values if self._optimizer is None else values | {"edge": edge}

    def _in_units(self, start: Eigenvalues | None) -> tuple[Eigenvalues, float]:
        """In units of the optimizer, or without them where the threshold of its class is not known."""
        optimizer = None if self._without_threshold else self._optimizer
        try:
            return sharpness_and_edge(self.model, self._loss, self._batch, optimizer, self._settings.tol, start)
        except MeasurementError as error:
            if start is not None and str(error).startswith("start:"):  # other parameters learn now
                return self._in_units(None)
            if optimizer is None or not str(error).startswith(f"optimizer: {type(optimizer).__name__}, allowed"):
                raise
            self._without_threshold = {"edge": str(error)}
        return self._in_units(start)

    def _speeds(self) -> dict[str, float]:
        found = measure(self.model, self._loss, self._batch, self._optimizer, self._settings.nodes)
        values = {"loss": found.loss, "loss_decay": found.loss_decay}
        angles = found.angle[~found.angle.isnan()]
        if len(angles):
            values |= {f"angle_{name}": float(getattr(angles, name)()) for name in ("min", "mean", "max")}
        table = found.table
        for quantity in PER_NODE:
            by_node = zip(table["node"], table[quantity], strict=True)
            values |= {f"{quantity}/{node}": float(value) for node, value in by_node}
        return values


def sharpness_and_edge(
    model: nn.Module, loss: Any, batch: Any, optimizer: Any, tol: float, start: Eigenvalues | None
) -> tuple[Eigenvalues, float]:
    """The sharpness in units of an optimizer, and over its threshold; NaN without an optimizer."""
    if optimizer is None:
        return sharpness(model, loss, batch, tol=tol, start=start), math.nan
    found = sharpness(model, loss, batch, tol=tol, start=start, optimizer=optimizer)
    return found, float(found.edge)


def reason_of(error: Exception) -> str:
    """One line: the message of a refusal; of other errors their kind, too."""
    refused = isinstance(error, (ValueError, FloatingPointError)) and "\n" not in str(error)
    return str(error) if refused else first_line(error)


def unwrapped_optimizer(optimizer: Any, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer inside of those of accelerate and Lightning, which hold it as their ``optimizer``.

    Raises:
        MeasurementError: several, or none that can be measured.
    """
    if isinstance(optimizer, (list, tuple)):
        raise MeasurementError(f"optimizer: {kind_of(optimizer)}, allowed: one optimizer; for several, a monitor each")
    while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return checked_optimizer(optimizer, model)


def _check_whole(model: nn.Module) -> None:
    """Raise :class:`MeasurementError` where a process has parts of the weights only."""
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "full_tensor") or hasattr(parameter, "ds_id"):  # a DTensor; one of DeepSpeed
            raise MeasurementError(f"model: {name} is sharded over processes, allowed: whole weights, as with DDP")
    if any(type(part).__name__ == "FullyShardedDataParallel" for part in model.modules()):
        raise MeasurementError("model: FullyShardedDataParallel, allowed: whole weights, as with DDP")


def _checked_batch(batch: Any, loss: Callable[..., Any], settings: Settings) -> Any:
    """A copy of the batch, which stays the same whatever the training does with its own."""
    if isinstance(batch, (torch.utils.data.DataLoader, Iterator)):
        raise MeasurementError(f"batch: {kind_of(batch)}, allowed: one fixed batch, such as next(iter(loader))")
    batch = duplicate(batch)
    parts = parts_of(batch, None, takes_batch(loss))
    if len(parts) > 1 and settings.feature_speed:
        raise MeasurementError(f"batch: {len(parts)} batches, allowed: one, or several with feature_speed=False")
    return batch


@contextmanager
def in_full_precision(model: nn.Module) -> Iterator[None]:
    """Without the mixed precision that accelerate builds into ``forward``, which hides small changes."""
    held = vars(model)
    if "_original_forward" not in held or "forward" not in held:
        yield
        return
    mixed, held["forward"] = held["forward"], held["_original_forward"]
    try:
        yield
    finally:
        held["forward"] = mixed
