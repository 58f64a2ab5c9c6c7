"""The grid of a transfer check: all sizes, learning rates and seeds, trained unit by unit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from featurespeed.measuring.errors import MeasurementError, kind_of
from featurespeed.own.choosing import Way, choose
from featurespeed.own.ensemble import SideBySide
from featurespeed.own.resume import Folder, fingerprint, hash_of, starts_of
from featurespeed.own.training import Alone, Recipe, Trainer

LOOK = 25  # steps on a GPU between two looks whether any network is left that trains


@dataclass(frozen=True)
class Grid:
    """What is trained.

    Attributes:
        sizes, rates, seeds: ascending; the networks are all combinations.
        steps: of every run.
        batch_size: as given; part of what a run depends on.
    """

    sizes: tuple[int, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    batch_size: int | None = None


@dataclass(frozen=True)
class Trained:
    """Training losses of the whole grid.

    Attributes:
        losses: ``[seeds, sizes, rates, steps]``, on the batch of each step before that step; NaN from the first step on
            at which a loss was not finite.
        ways: how each size was trained.
    """

    losses: np.ndarray
    ways: tuple[Way, ...]


def joined(parts: Sequence[Trained]) -> Trained:
    """What was trained size by size, or some sizes at a time, as one: the same seeds, rates and steps of each."""
    return Trained(
        np.concatenate([part.losses for part in parts], 1), tuple(way for part in parts for way in part.ways)
    )


class Progress:
    """One line a finished unit, with the time that is left."""

    def __init__(self, wanted: bool | Callable[[str], Any], total: float):
        if not isinstance(wanted, bool) and not callable(wanted):
            raise MeasurementError(f"progress: {kind_of(wanted)}, allowed: True, False, a function of one line")
        self._say = wanted if callable(wanted) else (_to_stderr if wanted else None)
        self._total, self._done, self._trained = total, 0.0, 0.0
        self._start = time.monotonic()

    def add(self, what: str, work: float, trained: bool) -> None:
        """A unit is done; ``work`` is its share of ``total``."""
        self._done += work
        self._trained += work if trained else 0.0
        spent, left = time.monotonic() - self._start, max(self._total - self._done, 0.0)
        rest = f", about {_duration(spent * left / self._trained)} left" if self._trained and left else ""
        if self._say is not None:
            read = "" if trained else " (from the folder)"
            self._say(f"{what}{read}: {self._done / self._total:.0%} done, {_duration(spent)}{rest}")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def train_grid(
    recipe: Recipe, grid: Grid, folder: Folder, side_by_side: bool | None, progress: bool | Callable[[str], Any]
) -> Trained:
    """Train all networks of a grid, or read from the folder what was trained before.

    Raises:
        MeasurementError: a network cannot be made or trained, or the data differ from call to call.
    """
    works = [_parameters(recipe, size, grid.seeds[0]) for size in grid.sizes]  # before any work: can all be made?
    told = Progress(progress, sum(works) * len(grid.seeds) * len(grid.rates))
    _check_repeatable(recipe, grid)
    losses = np.full((len(grid.seeds), len(grid.sizes), len(grid.rates), grid.steps), np.nan)
    ways = []
    for place, (size, work) in enumerate(zip(grid.sizes, works, strict=True)):
        starts = _starts(recipe, grid, size) if folder.keeps else {}
        way = _way(recipe, grid, size, starts, folder, side_by_side)
        for seeds, rates in _blocks(way, grid):
            name = unit_name(grid, way, [grid.seeds[s] for s in seeds], [grid.rates[r] for r in rates], starts)
            found, trained = _unit(recipe, grid, way, seeds, rates, folder, name)
            losses[np.ix_(seeds, [place], rates)] = found[:, None]
            told.add(_told(grid, size, seeds, rates), work * len(seeds) * len(rates), trained)
        ways.append(way)
    return Trained(losses, tuple(ways))


def unit_name(
    grid: Grid, way: Way, seeds: Sequence[int], rates: Sequence[float], starts: dict[tuple[int, float], Any]
) -> str:
    """Name of a unit: its size and seeds, and a fingerprint of all that it depends on."""
    own = [starts.get((seed, rate)) for seed in seeds for rate in rates]
    kept = [grid.steps, grid.batch_size, list(seeds), list(rates), way.side_by_side, own, torch.__version__]
    label = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
    rate = f"_rate_{rates[0]:.3g}" if len(rates) == 1 else ""
    return f"size_{way.size}_seed_{label}{rate}_{fingerprint({'size': way.size, 'unit': kept})}"


def _parameters(recipe: Recipe, size: int, seed: int) -> int:
    return sum(parameter.numel() for parameter in recipe.network(size, seed).parameters())


def _check_repeatable(recipe: Recipe, grid: Grid) -> None:
    """Raise where weights or batches of a seed are others at a second call, so that runs could not be compared."""
    size, seed = grid.sizes[0], grid.seeds[0]
    models = [recipe.network(size, seed) for _ in range(2)]
    batches = [hash_of(next(recipe.parts(models[0], seed)).whole) for _ in range(2)]
    if batches[0] != batches[1]:
        raise MeasurementError(f"data: other batches for seed {seed} at a second call, allowed: the same for a seed")
    if len({hash_of(list(model.parameters())) for model in models}) > 1:
        raise MeasurementError(
            f"make_model({size}): other weights at a second call with the same random numbers, allowed: weights drawn"
            " from PyTorch's, NumPy's or Python's global random numbers"
        )


def _starts(recipe: Recipe, grid: Grid, size: int) -> dict[tuple[int, float], Any]:
    """What every run of a size begins with."""
    starts = {seed: starts_of(recipe, size, seed, grid.rates) for seed in grid.seeds}
    return {(seed, rate): starts[seed][place] for seed in grid.seeds for place, rate in enumerate(grid.rates)}


def _way(
    recipe: Recipe, grid: Grid, size: int, starts: dict[tuple[int, float], Any], folder: Folder, asked: bool | None
) -> Way:
    """How a size is trained; what was chosen by time is kept, so that a check goes on as it began."""
    name = f"size_{size}_way_{fingerprint({'way': [grid.rates, grid.seeds, asked, list(starts.values())]})}"
    kept = Way.of_note(folder.note(name), size)
    if kept is not None:
        return kept
    way = choose(recipe, size, grid.seeds, grid.rates, asked)
    folder.write(name, way.as_dict())
    return way


def _blocks(way: Way, grid: Grid) -> Iterator[tuple[list[int], list[int]]]:
    """Places of the seeds and rates that are trained at a time."""
    seeds, rates = list(range(len(grid.seeds))), list(range(len(grid.rates)))
    for s in range(0, len(seeds), way.seeds):
        for r in range(0, len(rates), way.rates):
            yield seeds[s : s + way.seeds], rates[r : r + way.rates]


def _told(grid: Grid, size: int, seeds: list[int], rates: list[int]) -> str:
    own, at = [grid.seeds[s] for s in seeds], [grid.rates[r] for r in rates]
    seed = f"seed {own[0]}" if len(own) == 1 else f"seeds {own[0]} to {own[-1]}"
    rate = f"learning rate {at[0]:.3g}" if len(at) == 1 else f"{len(at)} learning rates"
    return f"size {size}, {seed}, {rate}"


def _unit(
    recipe: Recipe, grid: Grid, way: Way, seeds: list[int], rates: list[int], folder: Folder, name: str
) -> tuple[np.ndarray, bool]:
    """Losses ``[seeds, rates, steps]`` of a unit, and whether they were trained now."""
    kept = folder.finished(name)
    if kept is not None and kept.shape == (len(seeds), len(rates), grid.steps):
        return kept, False
    own, at = [grid.seeds[s] for s in seeds], [grid.rates[r] for r in rates]
    trainer: Trainer = (
        SideBySide(recipe, way.size, own, at, any_optimizer=True)
        if way.side_by_side
        else Alone(recipe, way.size, own[0], at[0])
    )
    found = train(trainer, grid.steps, folder, name)
    folder.finish(name, found)
    return found, True


def train(trainer: Trainer, steps: int, folder: Folder, name: str) -> np.ndarray:
    """Train networks for some steps, from the last checkpoint on; their losses ``[seeds, rates, steps]``."""
    losses, first = torch.full((steps, len(trainer.seeds), len(trainer.rates)), torch.nan, dtype=torch.float64), 0
    kept = folder.started(name) if trainer.resumes else None
    if kept is not None:
        trainer.load(kept)
        losses, first = kept["losses"], int(kept["step"])
    waiting: list[torch.Tensor] = []  # on the device: to fetch each would be to wait for it
    batches = trainer.parts(first)
    for step in range(first, steps):
        waiting.append(trainer.step(next(batches), step))
        due, look = folder.is_due and trainer.resumes, 1 if waiting[-1].device.type == "cpu" else LOOK
        if due or len(waiting) >= look or step == steps - 1:
            losses[step + 1 - len(waiting) : step + 1] = torch.stack(waiting).cpu().double()
            waiting.clear()
            if not torch.isfinite(losses[step]).any():
                break
        if due and step < steps - 1:
            folder.checkpoint(name, {**trainer.state(), "losses": losses, "step": step + 1})
    return until_failure(losses.permute(1, 2, 0).numpy())


def until_failure(losses: np.ndarray) -> np.ndarray:
    """The losses with NaN from the first one on that is not finite, ``[..., steps]``."""
    return np.where(np.logical_and.accumulate(np.isfinite(losses), axis=-1), losses, np.nan)
