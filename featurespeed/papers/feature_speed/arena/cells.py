"""One cell of the arena: a network over its width or depth, under one scheme, at all learning rates and seeds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from featurespeed.own.grid import Grid, Trained, train_grid
from featurespeed.own.resume import Folder
from featurespeed.own.training import Recipe
from featurespeed.papers.feature_speed.arena.networks import NETWORKS, next_token_loss
from featurespeed.papers.feature_speed.arena.schemes import SCHEMES, Setting


@dataclass(frozen=True)
class Cell:
    """What is trained.

    Attributes:
        network, scheme: their names.
        axis: ``width`` or ``depth``: which of the two grows.
        fixed: the other one.
        sizes, rates, seeds, steps: of the grid; the smallest size is the base.
        probe: learning rate at which a scheme may train the base a little.
    """

    network: str
    scheme: str
    axis: str
    fixed: int
    sizes: tuple[int, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    probe: float = 1e-3


class Batches:
    """The project's batches, one stream a seed."""

    several = True
    whole = None

    def __init__(self, stream: Any):
        self._stream = stream

    def stream(self, seed: int, start: int = 0) -> Iterator[Any]:
        own = self._stream.for_seeds([seed])
        step = start
        while True:
            x, y = own.batch(step)
            yield x[0], y[0]
            step += 1


@dataclass
class Maker:
    """Networks of a cell with the factors of its scheme; measured once for every size and seed."""

    cell: Cell
    shape: tuple[int, ...]
    classes: int
    source: Batches
    device: torch.device
    _known: dict[tuple[int, int], tuple[dict[str, Any], dict[str, float]]] = field(default_factory=dict)

    def plain(self, size: int) -> nn.Module:
        """A network of a size, as PyTorch initialises it."""
        width, depth = (size, self.cell.fixed) if self.cell.axis == "width" else (self.cell.fixed, size)
        return NETWORKS[self.cell.network](self.shape, self.classes, width, depth).to(self.device)

    def __call__(self, size: int) -> nn.Module:
        state = torch.get_rng_state()
        key = (size, torch.initial_seed())
        model = self.plain(size)
        if key not in self._known:
            self._known[key] = self._scaled(model, state)
        weights, model.factors = self._known[key]  # type: ignore[assignment]
        model.load_state_dict(weights)
        return model

    def _scaled(self, model: nn.Module, state: torch.Tensor) -> tuple[dict[str, Any], dict[str, float]]:
        seed = torch.initial_seed() % len(self.cell.seeds)  # any batch will do, the same for all sizes
        torch.set_rng_state(state)
        base = self.plain(self.cell.sizes[0])
        first = next(self.source.stream(self.cell.seeds[seed]))
        setting = Setting(
            next_token_loss, first, base, lambda: self.source.stream(self.cell.seeds[seed]), self.cell.probe
        )
        factors = SCHEMES[self.cell.scheme](model, setting)
        return copy.deepcopy(model.state_dict()), factors


def adam(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Adam with the factors of the scheme, one group a parameter."""
    factors = model.factors
    return torch.optim.Adam([{"params": [p], "lr": rate * factors[n]} for n, p in model.named_parameters()])


def train_cell(
    cell: Cell, stream: Any, shape: tuple[int, ...], classes: int, device: torch.device, folder: Path | None
) -> Trained:
    """The losses of a cell."""
    source = Batches(stream)
    recipe = Recipe(Maker(cell, shape, classes, source, device), adam, next_token_loss, source)
    return train_grid(recipe, Grid(cell.sizes, cell.rates, cell.seeds, cell.steps), Folder(folder), None, False)


def first_batches(source: Batches, seed: int, count: int) -> list[Any]:
    """So many batches of a seed."""
    return list(islice(source.stream(seed), count))


def final(trained: Trained, share: float = 0.1) -> np.ndarray:
    """Mean loss over the last share of the steps, ``[seeds, sizes, rates]``."""
    last = max(1, round(share * trained.losses.shape[-1]))
    return trained.losses[..., -last:].mean(-1)
