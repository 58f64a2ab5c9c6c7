"""Sharpness, feature speed and backward-feature angles of a model while it trains, in any training loop.

monitor = Monitor(model, loss, batch, optimizer, every=100, log=to_tensorboard(writer))
for inputs, targets in loader:
    ...  # zero_grad, backward, optimizer.step()
    monitor.step()
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from featurespeed.measuring.arguments import whole_number
from featurespeed.own.monitor_rows import Rows, plotted
from featurespeed.own.monitor_values import NO_FAULT, Log, Settings, Watched, reason_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = "featurespeed"


class Monitor:
    """Measures a model in training every so many steps, on one batch that stays the same.

    The training does not change by a single bit: weights, gradients, buffers, modes, the optimizer and random numbers
    are left alone. Measured in evaluation mode and in full precision, as :func:`featurespeed.measure` and
    :func:`featurespeed.sharpness` do: with dropout or batch normalisation, that is another function than the one that
    is trained. A measurement that fails (a loss that has diverged, what cannot be differentiated) does not stop the
    training: it is NaN, ``table`` says why, and a warning is given once.

    Costs per measurement: three passes forward and backward for the feature speed, and for the sharpness ``products``
    products with the Hessian, of two to three passes each. What it took is in :attr:`seconds` and :attr:`share`. Two
    vectors of the size of the weights are kept for the next start. Of several processes, the first one measures.

    Args:
        model: any module; also compiled, or in ``DataParallel`` or DDP. Sharded weights are refused.
        loss: ``(outputs, targets) -> scalar``, or ``loss(model, batch)``.
        batch: one fixed batch, in the form of :mod:`featurespeed.measuring.batches`. A copy is kept.
        optimizer: the one that trains the model, also in the wrapper of accelerate or Lightning. Angles and speeds are
            those of its next step, and the sharpness is in its units; None: layer-wise gradient descent, and no
            ``edge``. Of several optimizers each needs a monitor.
        every: steps between measurements.
        sharpness, feature_speed: what to measure.
        nodes: as in :func:`featurespeed.measure`.
        tol: relative accuracy of the sharpness.
        log: called with the values of each measurement and its step. ``wandb.log`` fits, and so does what
            :func:`to_tensorboard` and :func:`to_wandb` return.
        folder: where ``monitor.csv`` is kept, complete after each measurement; a training that goes on at a later step
            adds to it, and one that begins anew sets it aside as ``monitor.1.csv``.
        on_error: ``record``, or ``raise`` what went wrong in a measurement.

    Values: ``featurespeed/sharpness``; ``featurespeed/edge``, the sharpness over the largest value that is stable, 1 at
    the edge of stability (NaN for optimizers whose threshold is not known; the sharpness is then that of the plain
    Hessian); ``sharpness_converged``, 1 or 0; ``products``; ``loss`` of the batch; ``loss_decay``, by how much a step
    lowers it to first order; ``angle/<node>`` in radians, with ``angle_min``, ``angle_mean`` and ``angle_max``;
    ``feature_speed/<node>``; ``feature_rms/<node>``; ``function_update/<node>``, root mean square of the change of the
    outputs by the weights of the node; ``seconds``.

    Raises:
        MeasurementError: an argument that cannot be measured at any time, one line that says what is allowed.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> x, y = torch.randn(16, 3), torch.randint(2, (16,))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> monitor = Monitor(net, torch.nn.CrossEntropyLoss(), (x, y), sgd, every=2)
        >>> for _ in range(5):
        ...     sgd.zero_grad()
        ...     torch.nn.functional.cross_entropy(net(x), y).backward()
        ...     sgd.step()
        ...     _ = monitor.step()
        >>> monitor.table["step"].tolist()
        [0, 2, 4]
        >>> bool((monitor.table["edge"] < 1).all())
        True
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Callable[..., Any],
        batch: Any,
        optimizer: torch.optim.Optimizer | None = None,
        every: int = 100,
        *,
        sharpness: bool = True,
        feature_speed: bool = True,
        nodes: str | Sequence[str] | None = None,
        tol: float = 0.03,
        log: Log | None = None,
        folder: str | Path | None = None,
        on_error: str = "record",
    ):
        self._settings = Settings(every, sharpness, feature_speed, nodes, tol, log, folder, on_error)
        self._watched = Watched(model, loss, batch, optimizer, self._settings)
        self._rows = Rows(folder)
        self._calls, self._last = 0, -1
        self._began, self._now, self._seconds = 0.0, 0.0, 0.0
        self._warned: set[str] = set()

    def step(self) -> dict[str, float] | None:
        """To be called once a step of the optimizer, after it or before it; calls are counted from 0.

        Call k comes after k + 1 steps, or k steps where it stands before the optimizer's. Where gradients are
        accumulated, call it when the optimizer makes its step.

        Returns:
            The values, where it was time to measure; else None.
        """
        self._calls += 1
        return self._at(self._calls - 1)

    def __call__(self, step: int) -> dict[str, float] | None:
        """The same with a step of the caller's own count, such as that of a training that was resumed.

        Measures at multiples of ``every``, or at the first step after one that was left out; at each step once.
        """
        return self._at(whole_number("step", step, 0))

    def _at(self, step: int) -> dict[str, float] | None:
        """Measure, if it is time to; the warnings are those of the line that called this object."""
        self._now = time.perf_counter()
        self._began = self._began or self._now
        if not self._is_due(step) or not _is_first_process():
            return None
        _wait(self._watched.model)
        began = time.perf_counter()
        values, reasons = self._watched.values()
        spent = time.perf_counter() - began
        self._seconds += spent
        values["seconds"] = spent
        named = {f"{PREFIX}/{name}": value for name, value in values.items()}
        failed = reasons | self._keep(step, values, reasons) | self._logged(named, step)
        self._now = time.perf_counter()
        for part, reason in failed.items():
            if part not in self._warned and reason not in NO_FAULT:
                self._warned.add(part)
                warnings.warn(f"monitor, step {step}: {part}: {reason}", RuntimeWarning, stacklevel=3)
        return named

    @property
    def table(self) -> pd.DataFrame:
        """One row a measurement.

        Columns: ``step``; the values, as in the docstring of the class but without ``featurespeed/``, NaN where they
        are not known; ``seconds``, what the measurement took; ``error``, why something is NaN.
        """
        return self._rows.table

    @property
    def seconds(self) -> float:
        """What all measurements took."""
        return self._seconds

    @property
    def share(self) -> float:
        """Part of the time between the first and the last call that measurements took; 0 before the first call."""
        return self._seconds / (self._now - self._began) if self._now > self._began else 0.0

    def plot(self) -> Figure:
        """Edge of stability (sharpness without an optimizer), angles of all nodes, and loss over the steps."""
        return plotted(self.table)

    def __str__(self) -> str:
        table = self.table
        known = table[table["edge"].notna()]
        last = "" if known.empty else f"; edge {known['edge'].iloc[-1]:.3g} at step {known['step'].iloc[-1]}"
        return f"{len(table)} measurements in {self.seconds:.3g} s, {self.share:.0%} of the time{last}"

    def _is_due(self, step: int) -> bool:
        before, self._last = self._last, step
        every = self._settings.every
        if before < 0 or step < before:
            return step % every == 0
        return step // every > before // every

    def _keep(self, step: int, values: dict[str, float], reasons: dict[str, str]) -> dict[str, str]:
        """In the table and its file; what went wrong."""
        error = "; ".join(f"{part}: {reason}" for part, reason in reasons.items())
        return self._guarded("folder", lambda: self._rows.add({"step": step, **values, "error": error}))

    def _logged(self, values: dict[str, float], step: int) -> dict[str, str]:
        """By the caller's log; what went wrong."""
        log = self._settings.log
        if log is None:
            return {}
        failed = self._guarded("log", lambda: log(dict(values), step))
        return failed | self._guarded("folder", lambda: self._rows.note(failed))

    def _guarded(self, part: str, action: Callable[[], Any]) -> dict[str, str]:
        """What went wrong in an action, by the name that it has in a warning."""
        try:
            action()
        except Exception as error:
            if self._settings.on_error == "raise":
                raise
            return {part: reason_of(error)}
        return {}


def to_tensorboard(writer: Any) -> Log:
    """A ``log`` that writes scalars to a ``torch.utils.tensorboard.SummaryWriter``, or what has its ``add_scalar``."""

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log


def to_wandb(run: Any) -> Log:
    """A ``log`` that writes to a run of Weights & Biases, or to the module ``wandb`` after ``wandb.init``.

    Values have ``featurespeed/step`` as their axis, so that the count of steps of the run itself goes on as it was.
    """
    if hasattr(run, "define_metric"):
        run.define_metric(f"{PREFIX}/step")
        run.define_metric(f"{PREFIX}/*", step_metric=f"{PREFIX}/step")

    def log(values: dict[str, float], step: int) -> None:
        run.log({**values, f"{PREFIX}/step": step})

    return log


def _is_first_process() -> bool:
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not spread or torch.distributed.get_rank() == 0


def _wait(model: torch.nn.Module) -> None:
    """Until GPUs have done what they were given, so that the clock does not count the training."""
    for device in {parameter.device for parameter in model.parameters() if parameter.is_cuda}:
        torch.cuda.synchronize(device)
