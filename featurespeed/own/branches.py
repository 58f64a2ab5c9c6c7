"""Which layers write into the features of a node: its own last layer, or the ends of residual branches.

Read off the graph: from the output of a node down through sums and changes of shape, up to the outputs of layers that
are linear in their weights. Where the features of the node before are among the summands, the node is a residual block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurespeed.own.function import is_affine
from featurespeed.own.graph import Edge
from featurespeed.own.nodes import Node
from featurespeed.own.tracing import ModuleCall

#: Operations that hand a sum on: sums themselves, shapes, copies.
TRANSPARENT = {
    "AddBackward0", "AliasBackward0", "CloneBackward0", "DivBackward0", "DropoutBackward0", "ExpandBackward0",
    "MulBackward0", "NativeDropoutBackward0", "PermuteBackward0", "ReshapeAliasBackward0", "SqueezeBackward1",
    "ToCopyBackward0", "TransposeBackward0", "UnsafeViewBackward0", "UnsqueezeBackward0", "ViewBackward0",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Written:
    """What the features of a node are made of.

    Attributes:
        node: the node.
        writers: calls of the layers whose outputs are summands, or the features themselves.
        residual: whether the features of the node before are a summand, too.
    """

    node: Node
    writers: tuple[ModuleCall, ...]
    residual: bool


def written(nodes: Sequence[Node], calls: Sequence[ModuleCall]) -> list[Written]:
    """Of every node, as long as the graph is there."""
    layers = {call.edge: call for call in calls if call.edge is not None and is_affine(call.module)}
    found = []
    for before, node in zip([None, *nodes[:-1]], nodes, strict=True):
        writers, skips = _summands(node.edge, layers, None if before is None else before.edge)
        found.append(Written(node, tuple(writers), skips))
    return found


def _summands(top: Edge, layers: Mapping[Edge, ModuleCall], before: Edge | None) -> tuple[list[ModuleCall], bool]:
    """Layers that are reached from an output through transparent operations, and whether another output is."""
    writers: list[ModuleCall] = []
    waiting, seen, skips = [top], {top}, False
    while waiting:
        edge = waiting.pop()
        if edge == before:
            skips = True
        elif edge in layers:
            writers.append(layers[edge])
        elif edge.node.name() in TRANSPARENT:
            inside = [Edge(*following) for following in edge.node.next_functions if following[0] is not None]
            if edge.node.name() in ("MulBackward0", "DivBackward0") and sum(map(_is_made, inside)) > 1:
                continue  # a gate: not linear in both
            fresh = [following for following in inside if following not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
    return writers[::-1], skips


def _is_made(edge: Edge) -> bool:
    """Whether it is the result of an operation, and no parameter."""
    node: Any = edge.node
    return getattr(node, "variable", None) is None
