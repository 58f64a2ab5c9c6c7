"""Does my learning rate transfer? The grid of sizes, learning rates and seeds of one's own model, and what it says.

check = transfer_check(make_model, [64, 128, 256, 512], rates, cross_entropy, (inputs, targets), torch.optim.AdamW, 500,
                       batch_size=64)
print(check)  # from size 64 to 512 your best learning rate moves by 0.1 [-0.2, 0.4] octaves: it transfers
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from featurespeed.measuring.arguments import flag, whole_number
from featurespeed.own.along import sharpness_of
from featurespeed.own.grid import Grid, Trained, train_grid
from featurespeed.own.making import MakeModel, MakeOptimizer
from featurespeed.own.preparing import prepared
from featurespeed.own.resume import Folder
from featurespeed.own.training import Loss
from featurespeed.own.transfer_verdict import Answer, Final, Verdict, common_rate, final_losses, judge
from featurespeed.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class TransferCheck:
    """Whether the best learning rate of a model moves with its size.

    Attributes:
        table: one row a size, learning rate and seed: ``size``, ``learning_rate``, ``seed``, ``start_loss`` (before the
            first step), ``final_loss`` (mean over the last tenth of the steps; NaN if a loss was not finite),
            ``failed`` (a loss was not finite, or the final one is above the first one by more than batches differ),
            ``best`` (the least final loss of its size and seed), ``common`` (the learning rate is
            :attr:`common_rate`), ``side_by_side``.
        best: one row a size and seed: ``size``, ``seed``, ``learning_rate`` (the lowest point of a parabola through the
            log losses at the best rate of the grid and its neighbours; NaN if all fail), ``low`` and ``high`` (its
            bounds: the same unless it is censored; 0 and infinity beyond the grid), ``censored`` (the best rate of the
            grid has no neighbour that trains on one side).
        verdict: ``transfers``, ``does not transfer`` or ``undecided``.
        sentence: the verdict in words; what would decide it, if it is undecided.
        shift: shift of the best rate in octaves over a factor 8 in size: mean over seeds and 95% interval.
        moved: the same over all the sizes that were trained.
        excess_loss: loss of the largest size at the best rate of the smallest, less its own least loss on the grid.
        common_rate: the rate of the grid that is best for all sizes together.
        curves: training losses at the common rate, one row a size, seed and step: ``size``, ``seed``,
            ``learning_rate``, ``step``, ``loss`` (on the batch of that step, before it).
        sharpness: one row a size and step at which it was measured, at the common rate, on the first batch of the first
            seed: ``size``, ``seed``, ``learning_rate``, ``step`` (so many were made before), ``eigenvalue``,
            ``threshold`` (largest eigenvalue at which the optimizer is stable; NaN if not known), ``edge``
            (eigenvalue over threshold), ``residual``, ``converged``.
        sharpness_reasons: size -> why its sharpness was not measured, or not to the end.
        ways: one row a size: ``side_by_side``, ``reason``, ``seeds`` and ``rates`` (how many were trained at a time),
            ``alone`` and ``together`` (seconds a network and step; NaN: not timed).
        losses: training loss of every run and step, ``[seeds, sizes, rates, steps]``, NaN once it was not finite.
        seconds: that all took.
    """

    table: pd.DataFrame
    best: pd.DataFrame
    verdict: Answer
    sentence: str
    shift: Interval
    moved: Interval
    excess_loss: Interval
    common_rate: float
    curves: pd.DataFrame
    sharpness: pd.DataFrame
    sharpness_reasons: dict[int, str]
    ways: pd.DataFrame
    losses: np.ndarray = field(repr=False)
    seconds: float

    @property
    def summary(self) -> pd.DataFrame:
        """One row a size: ``size``; ``best_rate``, geometric mean over seeds, between ``low`` and ``high``, the least
        and greatest of the seeds' bounds; ``loss``, mean over seeds of the least final loss; ``failed``, runs of all.
        """
        rows = []
        for size, own in self.best.groupby("size"):
            runs = self.table[self.table["size"] == size]
            least = runs[~runs["failed"]].groupby("seed")["final_loss"].min()
            rows.append(
                {
                    "size": size,
                    "best_rate": float(np.exp(np.log(own["learning_rate"]).mean())),
                    "low": own["low"].min(),
                    "high": own["high"].max(),
                    "loss": least.mean(),
                    "failed": f"{int(runs['failed'].sum())} of {len(runs)}",
                }
            )
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        return self.sentence

    def plot(self) -> Figure:
        """Sharpness and loss along training by size, and the final loss over the learning rate with its optima.

        Source: Figure 1 of arXiv:2402.17457.
        """
        from featurespeed.own.transfer_plot import draw

        return draw(self)


def transfer_check(
    make_model: MakeModel,
    sizes: Sequence[int],
    learning_rates: Sequence[float],
    loss: Loss,
    data: Any,
    optimizer: MakeOptimizer,
    steps: int,
    seeds: int | Sequence[int] = 5,
    *,
    batch_size: int | None = None,
    folder: Path | str | None = None,
    sharpness_at: int = 4,
    device: torch.device | str | None = None,
    side_by_side: bool | None = None,
    progress: bool | Callable[[str], Any] = True,
) -> TransferCheck:
    """Train a model at all sizes, learning rates and seeds, and say whether its best learning rate moves with the size.

    Runs of a seed see the same batches in the same order, and draw the same random numbers (dropout), at all sizes and
    learning rates. Where that is exact and faster, all seeds and learning rates of a size are trained side by side, in
    one stack of weights.

    Args:
        make_model: ``size -> torch.nn.Module``, a new one at every call, its weights drawn from the global random
            numbers, which the seed starts. It is trained in training mode, on its own device.
        sizes: ascending, at least two: widths, depths, whatever grows.
        learning_rates: ascending, at least three; best a factor 2 apart, or less.
        loss: ``(outputs, targets) -> scalar``, or ``loss(model, batch)`` with a parameter of the name ``model``.
        data: a pair of tensors ``(inputs, targets)``, which are shuffled anew in every epoch (the rest that fills no
            batch is left out); a list of batches, in another order in every epoch; a DataLoader, or a function
            ``seed -> iterable of batches``, which begin again when they end.
        optimizer: a class such as ``torch.optim.AdamW``, which gets all parameters, or a function
            ``(model, learning_rate) -> optimizer``, which may know groups, decay, clipping and schedules.
        steps: of every run, at least two.
        seeds: how many, at least two, or a list of them.
        batch_size: of a pair of tensors; None is all examples at every step.
        folder: where finished runs and checkpoints are kept, so that a check which was stopped goes on when it is
            called again. Another model, loss, batch or setting is trained anew; but not what cannot be seen at the
            start: schedules and hooks of an optimizer that act later, data of loaders beyond their first batch, and
            what data hold besides tensors, arrays, numbers and texts. For these give another folder. Runs whose
            optimizer, model or loss has more than a checkpoint holds (hooks, a schedule, a counter that is no buffer, a
            loss that changes) begin anew if they are stopped.
        sharpness_at: at how many steps of one more run a size, at the common best rate, to measure the sharpness; 0 for
            none.
        device: where to train; None leaves every model where it is made.
        side_by_side: True: also with an optimizer that is not known to be proportional to its learning rate, if its
            first steps are, and where it is slower; False: one network after the other; None chooses.
        progress: one line to the standard error after every unit, or a function that gets that line.

    Returns:
        A record; ``print`` gives the verdict, ``plot`` the figure.

    Raises:
        MeasurementError: an argument cannot be used, or a model cannot be trained: one line that says which and why.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> def make_model(width):
        ...     return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))
        >>> inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        >>> check = transfer_check(
        ...     make_model, [8, 16], [0.01, 0.02, 0.04], nn.functional.mse_loss, (inputs, inputs[:, :1].sin()),
        ...     torch.optim.Adam, steps=20, seeds=2, sharpness_at=0, progress=False,
        ... )
        >>> check.table.shape
        (12, 9)

    Source: arXiv:2203.03466 (transfer), arXiv:2402.17457, Figure 1 (and what the sharpness has to do with it).
    """
    begun = time.monotonic()
    with prepared(
        make_model, sizes, learning_rates, loss, data, optimizer, steps, seeds, batch_size=batch_size, device=device
    ) as (recipe, grid):
        count = whole_number("sharpness_at", sharpness_at, 0)
        asked = side_by_side if side_by_side is None else flag("side_by_side", side_by_side)
        kept = Folder(folder)
        trained = train_grid(recipe, grid, kept, asked, progress)
        rate = grid.rates[common_rate(final_of(grid, trained).fitted)]
        curvature = sharpness_of(recipe, grid, rate, count, kept)
    return record_of(grid, trained, curvature, time.monotonic() - begun)


# --- the tables -------------------------------------------------------------------------------------------------------


def record_of(
    grid: Grid, trained: Trained, curvature: tuple[pd.DataFrame, dict[int, str]], seconds: float
) -> TransferCheck:
    """What the training losses of a whole grid say.

    Args:
        grid, trained: what was trained, in one call or size by size (:func:`featurespeed.own.grid.joined`).
        curvature: sharpness at the common rate, from :func:`featurespeed.own.along.sharpness_of`.
        seconds: that all took.
    """
    final = final_of(grid, trained)
    common, verdict = common_rate(final.fitted), judge(final)
    return TransferCheck(
        table=_table(grid, trained, final, common),
        best=_best(grid, verdict),
        verdict=verdict.answer,
        sentence=verdict.sentence,
        shift=verdict.shift,
        moved=verdict.moved,
        excess_loss=verdict.excess,
        common_rate=grid.rates[common],
        curves=_curves(grid, trained, common),
        sharpness=curvature[0],
        sharpness_reasons=curvature[1],
        ways=pd.DataFrame([way.as_dict() for way in trained.ways]),
        losses=trained.losses,
        seconds=seconds,
    )


def final_of(grid: Grid, trained: Trained) -> Final:
    """The final losses of a grid."""
    return final_losses(np.array(grid.sizes), np.array(grid.rates), trained.losses)


def _table(grid: Grid, trained: Trained, final: Final, common: int) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([grid.sizes, grid.rates, grid.seeds], names=["size", "learning_rate", "seed"])
    by_size = {"start_loss": final.start, "final_loss": final.final, "failed": final.failed}
    found = {name: values.transpose(1, 2, 0).ravel() for name, values in by_size.items()}
    fitted = final.fitted.values
    best = (fitted == fitted.min(-1, keepdims=True)) & ~final.failed
    table = pd.DataFrame(found | {"best": best.transpose(1, 2, 0).ravel()}, index=index).reset_index()
    table["common"] = table["learning_rate"] == grid.rates[common]
    return table.assign(side_by_side=table["size"].map({way.size: way.side_by_side for way in trained.ways}))


def _best(grid: Grid, verdict: Verdict) -> pd.DataFrame:
    best = verdict.best
    index = pd.MultiIndex.from_product([grid.sizes, grid.seeds], names=["size", "seed"])
    numbers = {"learning_rate": best.log2_rates, "low": best.low, "high": best.high}
    columns = {name: 2.0 ** values.T.ravel() for name, values in numbers.items()}
    return pd.DataFrame(columns | {"censored": best.censored.T.ravel()}, index=index).reset_index()


def _curves(grid: Grid, trained: Trained, common: int) -> pd.DataFrame:
    names = ["size", "seed", "step"]
    index = pd.MultiIndex.from_product([grid.sizes, grid.seeds, range(grid.steps)], names=names)
    losses = trained.losses[:, :, common].transpose(1, 0, 2).ravel()
    table = pd.DataFrame({"loss": losses}, index=index).reset_index()
    table.insert(2, "learning_rate", grid.rates[common])
    return table
