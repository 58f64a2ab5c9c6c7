"""Whether a model gives the same for the same inputs, and for examples together what it gives for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from featurespeed.measuring.errors import MeasurementError
from featurespeed.measuring.trees import difference, joined, tensors
from featurespeed.measuring.weights import EQUAL

#: Largest relative difference of two passes over the same batch, by the precision of the outputs.
REPEATABLE = {torch.float64: 1e-9, torch.float32: 1e-4}
ROUGH = 1e-2  # in other precisions
MOVED = 0.1  # how far other weights lie from those that were given, relative to their size


def check_same(name: str, first: Any, second: Any) -> None:
    """Raise :class:`MeasurementError` where two passes over the same batch differ; ``name`` is what made them."""
    apart = difference(first, second)
    if apart > _tolerance(first, REPEATABLE):
        raise MeasurementError(
            f"{name}: two passes over the same batch differ by {apart:.1g} of their size, allowed: the same values for"
            " the same inputs (no noise, no dropout that stays on, no counter)"
        )


def check_unmixed(whole: Any, pieces: Sequence[Any]) -> None:
    """Raise :class:`MeasurementError` where outputs of a batch are not those of its pieces, one after the other."""
    apart = difference(whole, joined(pieces))
    if apart > _tolerance(whole, EQUAL):
        raise MeasurementError(
            f"micro_batch: outputs for the whole batch and for its parts differ by {apart:.1g} of their size, allowed:"
            " a model that does not mix examples (BatchNorm without running statistics does) and has them along the"
            " first dimension; or a list of batches"
        )


def random_state(device: torch.device) -> Tensor:
    """Of the generators that a forward pass may draw from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def moved_weights(parameter: Tensor, stream: torch.Generator) -> Tensor:
    """Other weights of the same shape, a tenth of their size away, and of size 0.1 where they are 0."""
    noise = torch.randn(parameter.shape, generator=stream, device=stream.device).to(parameter)
    size = parameter.detach().abs().mean()
    return parameter.detach() + MOVED * noise * torch.where(size > 0, size, torch.ones_like(size))


def _tolerance(outputs: Any, table: Mapping[torch.dtype, float]) -> float:
    precisions = {t.dtype.to_real() for t in tensors(outputs) if t.is_floating_point() or t.is_complex()}
    return max((table.get(precision, ROUGH) for precision in precisions), default=ROUGH)
