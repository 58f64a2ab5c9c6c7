"""The monitor as a callback of the Trainer of Lightning: of ``lightning.pytorch`` and of ``pytorch_lightning``.

trainer = lightning.Trainer(callbacks=[FeatureSpeedCallback(batch, every=100)])
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from featurespeed.measuring.errors import MeasurementError, kind_of
from featurespeed.own.callbacks import Callback
from featurespeed.own.monitor import Monitor
from featurespeed.own.monitor_values import Settings

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


class FeatureSpeedCallback(Callback):
    """A :class:`featurespeed.own.monitor.Monitor` of a LightningModule and its optimizer.

    Measures before the first step and after every ``every`` steps of optimizers, as ``trainer.global_step`` counts
    them: accumulated gradients make one step, and steps of several optimizers add up. Values go to all loggers of the
    trainer. The training is what it is without the callback. Mixed precision around ``training_step`` is no part of
    what is measured, and clipping none of the optimizer's step; sharded models (FSDP, DeepSpeed) are refused when
    training begins.

    Args:
        batch: one fixed batch, as ``training_step`` or the loss takes it.
        loss: ``(outputs, targets) -> scalar`` of ``forward``, or ``loss(model, batch)``; the default is what
            ``training_step(batch, 0)`` returns, whose calls of ``self.log`` are left out. With manual optimization, a
            loss must be given.
        every: steps between measurements.
        optimizer: which one, where there are several: its index in what ``configure_optimizers`` returns.
        settings: ``sharpness``, ``feature_speed``, ``nodes``, ``tol``, ``log``, ``folder`` and ``on_error`` as in the
            monitor.

    Attributes:
        monitor: of the last training that began; ``callback.table`` and ``callback.plot()`` are its own.

    Raises:
        ImportError: Lightning is not installed.
        MeasurementError: a setting that is not allowed; when training begins, a model or an optimizer.
    """

    def __init__(
        self,
        batch: Any,
        loss: Callable[..., Any] | None = None,
        every: int = 100,
        *,
        optimizer: int | None = None,
        **settings: Any,
    ):
        super().__init__()
        self._batch, self._loss, self._index = batch, loss, optimizer
        self._settings = Settings(every, **settings)
        self._trainer: Any = None

    @classmethod
    def bases(cls) -> tuple[type, ...]:
        used = [sys.modules[name] for name in PACKAGES if sys.modules.get(name)] or [_first_installed()]
        return tuple(package.Callback for package in used)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the monitor, and measure at a step that is a multiple of ``every``, such as 0."""
        self._trainer = trainer
        if self._loss is None and not pl_module.automatic_optimization:
            raise MeasurementError("loss: None, allowed with manual optimization: a function loss(model, batch)")
        settings = vars(self._settings) | {"log": self._log}
        optimizer = _one_of(trainer.optimizers, self._index)
        self.monitor = Monitor(pl_module, self._loss or training_loss, self._batch, optimizer, **settings)
        self.monitor(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Measure, if a step was made and it is time to."""
        if self.monitor is not None:
            self.monitor(trainer.global_step)

    def _log(self, values: dict[str, float], step: int) -> None:
        for logger in self._trainer.loggers:
            logger.log_metrics(dict(values), step)
        if self._settings.log is not None:
            self._settings.log(values, step)


def _first_installed() -> Any:
    for name in PACKAGES:
        with suppress(ImportError):
            return import_module(name)
    raise ImportError("FeatureSpeedCallback needs Lightning: pip install lightning")


def training_loss(model: Any, batch: Any) -> Tensor:
    """What ``training_step`` returns for a batch, without logging."""
    arguments = (batch, 0)[: len(inspect.signature(model.training_step).parameters)]
    with _silent(model):
        found = model.training_step(*arguments)
    return found["loss"] if isinstance(found, Mapping) else found


@contextmanager
def _silent(model: nn.Module) -> Iterator[None]:
    """Lightning lets a module log in its own hooks only."""
    held = vars(model)
    kept = dict(held)
    held["log"] = held["log_dict"] = _ignore
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            del held[name]
            if name in kept:
                held[name] = kept[name]


def _ignore(*_: Any, **__: Any) -> None:
    """In the place of a log."""


def _one_of(optimizers: list[Any], index: int | None) -> Any:
    """The optimizer that was asked for, or the only one."""
    allowed = f"allowed: from 0 to {len(optimizers) - 1}, one callback for each to be measured"
    if index is None:
        if len(optimizers) > 1:
            raise MeasurementError(f"optimizer: None, with {len(optimizers)} optimizers, {allowed}")
        return optimizers[0] if optimizers else None
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(optimizers):
        raise MeasurementError(f"optimizer: {kind_of(index)}, {allowed}")
    return optimizers[index]
