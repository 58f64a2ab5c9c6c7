"""Which layers write into the features of a node: its own last layer, or the ends of residual branches.

Read off the graph: from the output of a node down through sums and changes of shape, up to the outputs of layers that
are linear in their weights. Where the features of the node before are among the summands, the node is a residual block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

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

MULTIPLIED = ("MulBackward0", "DivBackward0")


@dataclass(frozen=True, eq=False)
class Written:
    """What the features of a node are made of.

    Attributes:
        node: the node.
        writers: calls of the layers whose outputs are summands, or the features themselves.
        residual: whether the features of the node before are a summand, too, as they are or by way of what is no
            layer, such as a normalisation or a token that is put before them.
        multiplied: whether some summand is multiplied on its way.
    """

    node: Node
    writers: tuple[ModuleCall, ...]
    residual: bool
    multiplied: bool


def written(nodes: Sequence[Node], calls: Sequence[ModuleCall]) -> list[Written]:
    """Of every node, as long as the graph is there."""
    layers = {call.edge: call for call in calls if call.edge is not None and writes(call.module)}
    found = []
    for before, node in zip([None, *nodes[:-1]], nodes, strict=True):
        writers, others, multiplied = _summands(node.edge, layers, None if before is None else before.edge)
        stream = before is not None and any(edge == before.edge or _stands_behind(edge, before.edge) for edge in others)
        found.append(Written(node, tuple(writers), bool(stream and (writers or len(others) > 1)), multiplied))
    return found


def writes(module: nn.Module) -> bool:
    """Whether a layer is linear in the weights of its last matrix, which can then be scaled."""
    return is_affine(module) or type(module) is nn.MultiheadAttention


def last_matrix(module: nn.Module) -> nn.Module:
    """The layer that holds it."""
    return module.out_proj if isinstance(module, nn.MultiheadAttention) else module


def _stands_behind(edge: Edge, wanted: Edge) -> bool:
    """Whether one output depends on another one."""
    waiting, seen = [edge.node], {edge.node}
    while waiting:
        node = waiting.pop()
        if node is wanted.node:
            return True
        fresh = [f for f, _ in node.next_functions if f is not None and f not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return False


def _summands(
    top: Edge, layers: Mapping[Edge, ModuleCall], before: Edge | None
) -> tuple[list[ModuleCall], list[Edge], bool]:
    """What a sum is made of: outputs of layers, other results, and whether any of them is multiplied on its way.

    The way ends at the first operation that is no sum and no change of shape, at every layer, and at ``before``.
    """
    writers: list[ModuleCall] = []
    others: list[Edge] = []
    waiting, seen, multiplied = [top], {top}, False
    while waiting:
        edge = waiting.pop()
        name = edge.node.name()
        inside = [Edge(*following) for following in edge.node.next_functions if following[0] is not None]
        gate = name in MULTIPLIED and sum(map(_is_made, inside)) > 1  # not linear in both
        if edge == before:
            others.append(edge)
        elif edge in layers:
            writers.append(layers[edge])
        elif name in TRANSPARENT and not gate:
            multiplied |= name in MULTIPLIED
            fresh = [following for following in inside if following not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        elif _is_made(edge):
            others.append(edge)
    return writers[::-1], others, multiplied


def _is_made(edge: Edge) -> bool:
    """Whether it is the result of an operation, and no parameter."""
    node: Any = edge.node
    return getattr(node, "variable", None) is None
