"""What stands behind a tensor in the graph of automatic differentiation, and which ways lead around another tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd.graph import get_gradient_edge

LOOKUPS = ("EmbeddingBackward0",)


class Edge(NamedTuple):
    """One output of one operation."""

    node: Any
    output: int


def edge_of(tensor: Tensor) -> Edge | None:
    """The operation that made a tensor; None where nothing is differentiated."""
    if not tensor.requires_grad:
        return None
    found = get_gradient_edge(tensor)
    return Edge(found.node, found.output_nr)


class Graph:
    """Which sources (leaves, and lookups in tables) stand behind every operation of one loss.

    Args:
        root: the loss.
        sources: ``id`` of a leaf -> its number.

    Lookups get numbers of their own, from ``len(sources)`` on: what a model is given as numbers of rows enters there.
    """

    def __init__(self, root: Edge, sources: Mapping[int, int]):
        self.root = root
        self._sources = sources
        self.lookups = 0
        self._own: dict[Any, int] = {}
        self._behind: dict[Any, int] = {}
        for node in self._in_order(root.node):
            found = self._mark(node)
            for following, _ in node.next_functions:
                if following is not None:
                    found |= self._behind[following]
            self._behind[node] = found

    def behind(self, edge: Edge) -> int:
        """The sources behind an operation, one bit each; 0 for one that is not behind the loss."""
        return self._behind.get(edge.node, 0)

    def holds(self, edge: Edge) -> bool:
        """Whether the loss depends on it."""
        return edge.node in self._behind

    def around(self, edge: Edge, wanted: int) -> int:
        """Those of the wanted sources that the loss reaches on ways that do not pass through ``edge``.

        Not all of them: the search ends with the first operation at which one is found.
        """
        seen = {self.root.node}
        waiting = [self.root.node]
        while waiting:
            node = waiting.pop()
            found = self._own[node] & wanted
            if found:
                return found
            for following, output in node.next_functions:
                if following is None or following in seen or not self._behind[following] & wanted:
                    continue
                if following is edge.node and output == edge.output:
                    continue
                seen.add(following)
                waiting.append(following)
        return 0

    def _mark(self, node: Any) -> int:
        number = self._sources.get(id(getattr(node, "variable", None)))
        if number is None and node.name() in LOOKUPS:
            number = len(self._sources) + self.lookups
            self.lookups += 1
        self._own[node] = 0 if number is None else 1 << number
        return self._own[node]

    @staticmethod
    def _in_order(root: Any) -> Iterable[Any]:
        """All operations behind one, each after those behind it."""
        done: set[Any] = set()
        waiting = [(root, False)]
        while waiting:
            node, ready = waiting.pop()
            if ready:
                yield node
                continue
            if node in done:
                continue
            done.add(node)
            waiting.append((node, True))
            waiting.extend((following, False) for following, _ in node.next_functions if following is not None)
