"""What a transfer check trains, from what a user hands over, and the state in which it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from featurespeed.measuring.arguments import whole_number
from featurespeed.measuring.context import undisturbed
from featurespeed.measuring.errors import MeasurementError, first_line, kind_of, reported_as
from featurespeed.measuring.model import checked_loss
from featurespeed.own.data import generators_kept, source_of
from featurespeed.own.grid import Grid
from featurespeed.own.making import (
    OPTIMIZERS,
    MakeModel,
    MakeOptimizer,
    checked_maker,
    checked_rates,
    checked_seeds,
    checked_sizes,
)
from featurespeed.own.seeds import own_streams
from featurespeed.own.training import Loss, Recipe


@dataclass(frozen=True)
class Fewest:
    """How many a whole check needs of each; of a part of one, such as a single size, 1 is enough.

    Attributes:
        sizes: 2 of a shift.
        rates: 3 of a parabola.
        seeds: 2 of an interval.
        steps: 2, so that there are a first loss and a last one.
    """

    sizes: int = 2
    rates: int = 3
    seeds: int = 2
    steps: int = 2


WHOLE, PART = Fewest(), Fewest(sizes=1, rates=1, seeds=1)


@contextmanager
def prepared(
    make_model: MakeModel,
    sizes: Sequence[int],
    learning_rates: Sequence[float],
    loss: Loss,
    data: Any,
    optimizer: MakeOptimizer,
    steps: int,
    seeds: int | Sequence[int],
    *,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    fewest: Fewest = WHOLE,
) -> Iterator[tuple[Recipe, Grid]]:
    """While inside, networks may be trained: random numbers, modes and generators are the caller's again afterwards.

    Args:
        fewest: of each; for the rest see :func:`featurespeed.own.transfer.transfer_check`.

    Raises:
        MeasurementError: an argument cannot be used; inside, whatever goes wrong with a network, in one line.
    """
    with reported_as(MeasurementError), undisturbed(loss), own_streams(), torch.inference_mode(False):
        source = source_of(data, batch_size)
        recipe = Recipe(
            checked_maker("make_model", make_model, "allowed: a function size -> torch.nn.Module"),
            checked_maker("optimizer", optimizer, OPTIMIZERS), checked_loss(loss), source, _device(device),
        )  # fmt: skip
        grid = Grid(
            tuple(checked_sizes("sizes", sizes, fewest.sizes)),
            tuple(checked_rates("learning_rates", learning_rates, fewest.rates)),
            tuple(checked_seeds(seeds, fewest.seeds)),
            whole_number("steps", steps, fewest.steps),
            batch_size,
        )
        with torch.enable_grad(), generators_kept(source):
            try:
                yield recipe, grid
            finally:
                recipe.beginning.restore()


def _device(device: Any) -> torch.device | None:
    if device is None:
        return None
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except Exception as error:
        raise MeasurementError(f"device: {kind_of(device)} ({first_line(error)}), allowed: cpu, cuda, None") from error
    return found
