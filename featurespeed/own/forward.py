"""The structure of a model that scaling needs, and the forward pass by which its initial weights are scaled."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from featurespeed.measuring.batches import Part, parts_of
from featurespeed.measuring.context import evaluation
from featurespeed.measuring.errors import MeasurementError
from featurespeed.measuring.model import Call, device_of, takes_batch
from featurespeed.measuring.norms import rms
from featurespeed.measuring.trees import duplicate
from featurespeed.own.branches import last_matrix, written
from featurespeed.own.function import is_affine
from featurespeed.own.passes import Passes
from featurespeed.own.tracing import first_numbers, part_of


@dataclass(frozen=True)
class Block:
    """What stands between two nodes.

    Attributes:
        node: name of the part whose output the node is.
        writers: names of the layers that write into its features.
        residual: whether the features of the node before are a summand.
        layers: names of the other layers that are linear in their weights.
        others: names of layers with matrices that are not.
        multiplied: whether a branch is multiplied before it is added.
        parameters: names of the parameters that are new here.
    """

    node: str
    writers: tuple[str, ...]
    residual: bool
    layers: tuple[str, ...]
    others: tuple[str, ...]
    multiplied: bool
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Structure:
    """The blocks of a model, from input to output."""

    blocks: tuple[Block, ...]

    @property
    def depth(self) -> int:
        """Number of residual blocks."""
        return sum(block.residual for block in self.blocks)

    @property
    def branches(self) -> int:
        """Number of residual branches; a block of a transformer has two."""
        return sum(len(block.writers) for block in self.blocks if block.residual)

    @property
    def inside(self) -> frozenset[str]:
        """Parameters of residual blocks."""
        return frozenset(name for block in self.blocks if block.residual for name in block.parameters)

    @property
    def writers(self) -> frozenset[str]:
        """Layers at the end of residual branches."""
        return frozenset(name for block in self.blocks if block.residual for name in block.writers)

    @property
    def readout(self) -> str | None:
        """The layer that makes the output; None where a residual block does, or several layers do."""
        last = self.blocks[-1]
        return last.writers[0] if not last.residual and len(last.writers) == 1 else None


def structure_of(model: nn.Module, loss: Any, batch: Any) -> Structure:
    """Of a model on a batch.

    Raises:
        MeasurementError: no cut nodes.
    """
    parts = parts_of(batch, device_of(model), takes_batch(loss))
    if len(parts) > 1:
        raise MeasurementError(f"batch: {len(parts)} batches, allowed: one")
    with evaluation(model):
        passes = Passes(model, parts[0], loss)
        nodes = passes.candidates.found()
        found, seen = [], set[str]()
        for entry in written(nodes, passes.calls):
            new = tuple(place.name for place in entry.node.places if place.name not in seen)
            seen.update(new)
            names = tuple(dict.fromkeys(call.name for call in entry.writers))
            own = [call for call in passes.layers if call.name not in names and any(p.name in new for p in call.places)]
            inner = tuple(call.name for call in own if is_affine(call.module))
            rest = tuple(c.name for c in own if c.name not in inner and any(p.parameter.ndim > 1 for p in c.places))
            found.append(Block(entry.node.name, names, entry.residual, inner, rest, entry.multiplied, new))
    return Structure(tuple(found))


def rescale_forward(model: nn.Module, loss: Any, batch: Any, structure: Structure) -> tuple[str, ...]:
    """Scale layers so that their outputs have root mean square 1, and those of branches their share of the stream.

    One forward pass: every layer is scaled when its output is known, and what follows sees the scaled one. The readout
    stays as it is.

    Returns:
        What could not be scaled, in words.

    Raises:
        MeasurementError: a layer that would have to be scaled in two ways.
    """
    targets = _targets(model, structure)
    part = parts_of(batch, device_of(model), takes_batch(loss))[0]
    pass_ = _ScalingPass(model, structure, targets)
    with evaluation(model), torch.no_grad():
        pass_.run(part, loss)
        for name, factor in pass_.factors.items():
            for parameter in last_matrix(part_of(model, name)).parameters(recurse=False):
                parameter.mul_(factor)
    return (*(f"{name} starts at 0 and stays there" for name in pass_.zero), *_left_out(model, structure, targets))


def _left_out(model: nn.Module, structure: Structure, targets: dict[str, float]) -> tuple[str, ...]:
    """What was not scaled, in words."""
    notes = []
    for block in structure.blocks:
        if block.residual and not block.writers:
            notes.append(f"{block.node}: its branch ends in no layer whose weights could be scaled")
        if block.residual and block.writers and block.multiplied:
            notes.append(f"{block.node}: its branch is multiplied before it is added; only its last layer was scaled")
    others = [name for block in structure.blocks for name in block.others]
    if others:
        notes.append(f"not scaled, because not linear in one matrix: {', '.join(others)}")
    frozen = [name for name in targets if not _learns(part_of(model, name))]
    if frozen:
        notes.append(f"not scaled, because frozen: {', '.join(frozen)}")
    return tuple(notes)


def _learns(module: nn.Module) -> bool:
    return all(parameter.requires_grad for parameter in last_matrix(module).parameters(recurse=False))


def _targets(model: nn.Module, structure: Structure) -> dict[str, float]:
    """Layer that writes -> the root mean square that its output should have, in units of the stream before.

    Raises:
        MeasurementError: a layer that is used twice, or whose weight is tied to that of another one.
    """
    found: dict[str, float] = {}
    for block in structure.blocks:
        found |= {name: 1.0 for name in block.layers if name not in found}
        if structure.readout in block.writers:
            continue
        for name in block.writers:
            if name in found or "#" in name:
                raise MeasurementError(
                    f"model: {name.partition('#')[0]} is called twice, allowed with fsc: layers that are called once"
                )
            found[name] = structure.branches**-0.5 if block.residual else len(block.writers) ** -0.5
    again = {name.partition("#")[0] for name in found if "#" in name}
    if again:
        raise MeasurementError(f"model: {min(again)} is called twice, allowed with fsc: layers that are called once")
    _check_untied(model, [*found, *([structure.readout] if structure.readout else [])])
    return found


def _check_untied(model: nn.Module, layers: list[str]) -> None:
    """Raise for weights that are scaled and stand at several places."""
    places = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    for layer in layers:
        for name, parameter in last_matrix(part_of(model, layer)).named_parameters(recurse=False):
            if places[id(parameter)] > 1:
                others = [n for n, p in model.named_parameters(remove_duplicate=False) if p is parameter]
                raise MeasurementError(
                    f"model: {' and '.join(others)} are tied, allowed with fsc: weights that can be scaled apart"
                    f" (here {layer}.{name})"
                )


class _ScalingPass:
    """A forward pass in which outputs of layers are scaled as they come.

    Attributes:
        factors: layer -> factor on its output.
        zero: layers whose output is 0.
    """

    def __init__(self, model: nn.Module, structure: Structure, targets: dict[str, float]):
        self._model, self._targets = model, targets
        self._residual = structure.writers
        self._nodes = {block.node for block in structure.blocks}
        self._stream = 1.0
        self.factors: dict[str, float] = {}
        self.zero: list[str] = []

    def run(self, part: Part, loss: Any) -> None:
        """Make the pass, inside of ``evaluation``."""
        with ExitStack() as stack:
            for name in self._targets:
                hook = part_of(self._model, name).register_forward_hook(partial(self._scale, name))
                stack.callback(hook.remove)
            for name in self._nodes:
                module = part_of(self._model, name)
                stack.callback(module.register_forward_hook(self._note).remove)
            if takes_batch(loss):
                loss(self._model, duplicate(part.whole))
            else:
                Call(self._model)(duplicate(part.inputs))

    def _scale(self, name: str, module: nn.Module, _args: Any, found: Any) -> Any:
        output = found[0] if isinstance(found, tuple) else found
        size = rms(output)
        if not size:
            self.zero.append(name)
        if not size or not _learns(module):
            return found
        wanted = self._targets[name] * (self._stream if name in self._residual else 1.0)
        self.factors[name] = wanted / size
        scaled = output * self.factors[name]
        return (scaled, *found[1:]) if isinstance(found, tuple) else scaled

    def _note(self, _module: nn.Module, _args: Any, found: Any) -> None:
        output = first_numbers(found)
        if output is not None:
            self._stream = rms(output)
