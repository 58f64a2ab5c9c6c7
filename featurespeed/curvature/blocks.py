"""Diagonal blocks of a curvature matrix by the names of parameters and parts of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from featurespeed.curvature.parameters import Parameters, leaves_of
from featurespeed.measuring.errors import MeasurementError, kind_of
from featurespeed.measuring.names import layers, named

LAYERS = "layers"
#: ``"layers"``; names and patterns, each part or parameter that fits is a block; or name of a block -> its parameters.
Blocks = str | Sequence[str] | Mapping[str, Parameters] | None
BLOCKS = "allowed: 'layers', names or patterns such as ['h.0', 'h.*.attn'], or a mapping of names to these"


def blocks_of(model: nn.Module, given: Any, chosen: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """The parameters of every block, by its name.

    Args:
        model: whose names they are.
        given: what was asked for.
        chosen: the parameters of the whole matrix; a block is made of those among them.

    Raises:
        MeasurementError: names that fit nothing, or nothing that moves.
    """
    within = {id(parameter): parameter for parameter in chosen}
    found: dict[str, list[Tensor]] = {}
    for asked, blocks in _asked(model, given).items():
        own = {name: list({id(p): p for p in held if id(p) in within}.values()) for name, held in blocks.items()}
        filled = {name: held for name, held in own.items() if held}
        if not filled:
            raise MeasurementError(
                f"blocks: {asked!r} has no parameter that is measured (frozen, or not among parameters=), {BLOCKS}"
            )
        found |= filled
    return found


def _asked(model: nn.Module, given: Any) -> dict[str, dict[str, list[Tensor]]]:
    """What stands for each entry that was given: name of a block -> parameters."""
    if isinstance(given, str) and given == LAYERS:
        return {LAYERS: layers(model)}
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping) and given and all(isinstance(name, str) for name in given):
        return {name: {name: leaves_of(model, held, argument=f"blocks[{name!r}]")} for name, held in given.items()}
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(name, str) for name in given):
        raise MeasurementError(f"blocks: {kind_of(given)}, {BLOCKS}")
    return {name: named(model, name, "blocks") for name in given}
