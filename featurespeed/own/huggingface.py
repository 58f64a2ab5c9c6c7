"""The monitor as a callback of the Trainer of transformers.

callback = FeatureSpeedCallback(batch, every=100)
trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[callback])
callback.set_trainer(trainer)  # for TensorBoard, W&B and whatever else the trainer reports to
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from featurespeed.own.callbacks import Callback
from featurespeed.own.monitor import Monitor
from featurespeed.own.monitor_values import Settings


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss that a model of transformers computes itself from the labels in a batch."""
    return model(**batch).loss


class FeatureSpeedCallback(Callback):
    """A :class:`featurespeed.own.monitor.Monitor` of the model and the optimizer of a ``transformers.Trainer``.

    Measures before the first step and after every ``every`` steps of the optimizer, as ``state.global_step`` counts
    them: accumulated gradients make one step. Values appear in ``trainer.state.log_history``, and with
    :meth:`set_trainer` also in all that the trainer reports to. The training, what it logs at which step included, is
    what it is without the callback. Gradient clipping is no part of the optimizer's step here; models in mixed
    precision are measured in that of their weights; sharded ones (FSDP, DeepSpeed) are refused when training begins.

    Args:
        batch: one fixed batch: a mapping with the arguments of the model, labels included, such as
            ``collator([data[i] for i in range(16)])``.
        loss: ``loss(model, batch)`` or ``(outputs, batch) -> scalar``; the default is the ``loss`` of the outputs.
        every: steps between measurements.
        settings: ``sharpness``, ``feature_speed``, ``nodes``, ``tol``, ``log``, ``folder`` and ``on_error`` as in the
            monitor.

    Attributes:
        monitor: of the last training that began; ``callback.table`` and ``callback.plot()`` are its own.

    Raises:
        ImportError: transformers is not installed.
        MeasurementError: a setting that is not allowed; when training begins, a model or an optimizer.
    """

    def __init__(self, batch: Any, loss: Callable[..., Any] | None = None, every: int = 100, **settings: Any):
        super().__init__()
        self._batch, self._loss = batch, own_loss if loss is None else loss
        self._settings = Settings(every, **settings)
        self._trainer: Any = None
        self._state: Any = None
        self._control: Any = None

    @classmethod
    def bases(cls) -> tuple[type, ...]:
        try:
            from transformers import TrainerCallback
        except ImportError as error:
            raise ImportError("FeatureSpeedCallback needs transformers: pip install transformers") from error
        return (TrainerCallback,)

    def set_trainer(self, trainer: Any) -> None:
        """Log through a trainer's own ``log``, which reaches TensorBoard, W&B and its other callbacks.

        A Trainer does not make itself known to its callbacks.
        """
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Make the monitor, and measure at a step that is a multiple of ``every``, such as 0."""
        settings = vars(self._settings) | {"log": self._log}
        self.monitor = Monitor(given["model"], self._loss, self._batch, given["optimizer"], **settings)
        self.on_step_end(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure, if it is time to."""
        self._state, self._control = state, control
        if self.monitor is not None:
            self.monitor(state.global_step)

    def _log(self, values: dict[str, float], step: int) -> None:
        if self._trainer is None:
            self._state.log_history.append({**values, "epoch": self._state.epoch, "step": step})
        else:
            due = self._control.should_log  # which a log sets back, although that of the training is still to come
            self._trainer.log(dict(values))
            self._control.should_log = due
        if self._settings.log is not None:
            self._settings.log(values, step)
