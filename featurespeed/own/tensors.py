"""What each parameter's update does to the outputs, and how its matrix is aligned with their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn

from featurespeed.measuring.norms import inner, norm
from featurespeed.own.function import Pulled, alignment, example_sums, linear_weight, own_change
from featurespeed.own.motion import Motion
from featurespeed.own.nodes import Node
from featurespeed.own.passes import Passes


@dataclass
class Moved:
    """``<u, df>`` by the update of one parameter, or of several: for each example, as far as examples are told apart.

    Attributes:
        apart: ``[examples - 1]``; None where nothing is.
        together: the sum over examples, by what does not tell them apart.
    """

    apart: Tensor | None = None
    together: float | None = None

    def add(self, sums: Tensor) -> None:
        """What one more place adds."""
        if len(sums) == 1:
            self.together = (self.together or 0.0) + float(sums)
        else:
            self.apart = sums if self.apart is None else self.apart + sums

    def merge(self, other: Moved) -> None:
        """Together with that of another parameter."""
        for sums in (other.apart, None if other.together is None else torch.tensor([other.together])):
            if sums is not None:
                self.add(sums)

    def rms(self, outputs: int, examples: int) -> tuple[float, float]:
        """Root mean square change of the outputs, and its standard error; ``outputs`` are those of an example.

        The error is not known, NaN, of a single draw: it may be small by chance.
        """
        if self.apart is not None and self.together is None:
            square = float(self.apart.square().mean()) / outputs
            return math.sqrt(square), math.sqrt(square / (2 * len(self.apart)))
        total = (self.together or 0.0) + (0.0 if self.apart is None else float(self.apart.sum()))
        return abs(total) / math.sqrt(outputs * examples), math.nan


@dataclass
class MovedOutputs:
    """By place of a parameter that moves (``id`` of its leaf), and what is needed to make numbers of it.

    Attributes:
        by_leaf: what its update does to the outputs.
        alignments: of the matrices of linear layers.
        outputs: entries of the outputs of an example.
        examples: whose directions are not 0.
    """

    outputs: int
    examples: int
    by_leaf: dict[int, Moved] = field(default_factory=dict)
    alignments: dict[int, float] = field(default_factory=dict)


def moved_outputs(
    passes: Passes,
    nodes: Sequence[Node],
    motion: Motion,
    pulled: tuple[list[Pulled], Mapping[int, Tensor]],
    stream: torch.Generator,
) -> MovedOutputs:
    """Of every place of a parameter that moves; directions as :meth:`Passes.pulled` gives them."""
    last, n = nodes[-1].call.output, passes.examples
    apart = n > 1 and last.ndim > 0 and last.shape[0] == n  # then the first example has no direction
    found = MovedOutputs(last.numel() // (n if apart else 1), n - 1 if apart else 1)
    in_calls, loose = pulled
    for own in in_calls:
        for place in own.call.places:
            velocity = motion.velocities.get(id(place.parameter))
            if velocity is None or id(place.leaf) in loose:
                continue
            name = place.name.rpartition(".")[2]
            change = own_change(own.call, name, velocity, place.parameter)
            found.by_leaf.setdefault(id(place.leaf), Moved()).add(example_sums(own, change) / motion.scale)
            if name == "weight" and (weight := linear_weight(own.call.module)) is not None:
                found.alignments[id(place.leaf)] = alignment(weight, own.direction, stream)
    for place in passes.places_of(loose):
        velocity = motion.velocities.get(id(place.parameter))
        if velocity is not None:
            total = inner(loose[id(place.leaf)], velocity) / motion.scale
            found.by_leaf.setdefault(id(place.leaf), Moved()).add(torch.tensor([total], dtype=torch.float64))
    return found


def parameter_table(model: nn.Module, nodes: Sequence[Node], motion: Motion, outputs: MovedOutputs) -> pd.DataFrame:
    """One row a parameter behind the nodes; columns as in :class:`featurespeed.own.measure.Measurement`."""
    places = {id(place.leaf): place for node in nodes for place in node.places}
    rows = []
    for name, parameter in model.named_parameters():
        key = id(parameter)
        if key not in motion.owner:
            continue
        own = [leaf for leaf, place in places.items() if place.parameter is parameter]
        moved = merged(outputs, own)
        velocity = motion.velocities.get(key)
        function_update, error = moved.rms(outputs.outputs, outputs.examples)
        rows.append(
            {
                "name": name,
                "node": nodes[motion.owner[key]].name,
                "size": parameter.numel(),
                "weight_norm": norm(parameter.detach()),
                "gradient_norm": norm(motion.gradients[key]),
                "gradient_l1": float(motion.gradients[key].abs().sum()),
                "update_norm": 0.0 if velocity is None else norm(velocity) / motion.scale,
                "contribution": 0.0 if velocity is None else -inner(motion.gradients[key], velocity) / motion.scale,
                "function_update": function_update,
                "function_update_error": error,
                "alignment": mean_alignment(outputs, own),
            }
        )
    return pd.DataFrame(rows)


def node_columns(nodes: Sequence[Node], outputs: MovedOutputs) -> pd.DataFrame:
    """Function-space update of all that a node adds, its standard error, and the mean alignment of its matrices."""
    found, seen = [], set[int]()
    for node in nodes:
        own = [id(place.leaf) for place in node.places if id(place.leaf) not in seen]
        seen.update(own)
        value, error = merged(outputs, own).rms(outputs.outputs, outputs.examples)
        row = {"function_update": value, "function_update_error": error, "alignment": mean_alignment(outputs, own)}
        found.append(row)
    return pd.DataFrame(found)


def merged(outputs: MovedOutputs, leaves: Sequence[int]) -> Moved:
    """Of several places together."""
    found = Moved()
    for leaf in leaves:
        if leaf in outputs.by_leaf:
            found.merge(outputs.by_leaf[leaf])
    return found


def mean_alignment(outputs: MovedOutputs, leaves: Sequence[int]) -> float:
    """Over the places at which a matrix multiplies; NaN where there is none."""
    found = [outputs.alignments[leaf] for leaf in leaves if leaf in outputs.alignments]
    return math.fsum(found) / len(found) if found else math.nan
