"""Cut nodes of any module: outputs of its parts through which all that matters passes.

The feature speed formula holds at the output of a part if no weight that stands behind it reaches the loss on a way
around (arXiv:2311.18718, Sec. 2): this is read off the graph of automatic differentiation, not off the code. By default
nodes are the outputs through which all of the input's signal passes too, each with all that stands behind the one
before and a weight matrix more: in a chain every linear layer, in a residual network or a transformer every block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from featurespeed.measuring.errors import MeasurementError, kind_of
from featurespeed.measuring.names import fits
from featurespeed.own.graph import Edge, Graph
from featurespeed.own.tracing import ROOT, ModuleCall, Place

NODES = "allowed: names of parts as in model.named_modules(), or patterns such as 'h.*'"


@dataclass(frozen=True, eq=False)
class Node:
    """A cut node.

    Attributes:
        call: whose output it is.
        edge: of that output.
        places: the uses of parameters that move and stand behind it.
    """

    call: ModuleCall
    edge: Edge
    places: tuple[Place, ...]

    @property
    def name(self) -> str:
        """Of the part, with the number of the call from the second one on."""
        return self.call.name


class Candidates:
    """Outputs of parts of a model, and what the loss says about them.

    Args:
        loss: the edge of its value.
        calls: of the parts, in order.
        places: all uses of parameters.
        blocks: modules that called others: what these own are places, gains or scales, and no matrices of layers.
        inputs: leaves in the place of what the model was given, as far as it is numbers.
    """

    def __init__(
        self,
        loss: Edge,
        calls: Sequence[ModuleCall],
        places: Sequence[Place],
        inputs: Sequence[Tensor],
        blocks: Collection[nn.Module] = (),
    ):
        self.places = list(places)
        sources = {id(leaf): k for k, leaf in enumerate([place.leaf for place in places] + list(inputs))}
        self._graph = Graph(loss, sources)
        whole = self._graph.behind(loss)
        self._moving = self._bits(lambda place: place.parameter.requires_grad)
        beside = {id(place.leaf) for call in calls if call.module in blocks for place in call.places}
        self._matrices = self._bits(lambda place: place.parameter.ndim >= 2 and id(place.leaf) not in beside)
        self._inputs = whole & ~((1 << len(self.places)) - 1)
        self._calls = [call for call in calls if call.edge is not None and self._graph.holds(call.edge)]
        groups: dict[Edge, list[ModuleCall]] = {}
        for call in self._calls:
            if call.edge is not None:
                groups.setdefault(call.edge, []).append(call)
        self._groups = list(groups.values())  # parts that return the same tensor, from the innermost to the outermost

    def found(self) -> list[Node]:
        """The nodes of a model by themselves.

        Raises:
            MeasurementError: there are none.
        """
        chosen = self._chosen([group for group in self._groups if self._is_cut(group[0], self._inputs)])
        if len(chosen) < 2:  # inputs enter at several places, as in an encoder and a decoder
            chosen = self._chosen([group for group in self._groups if self._is_cut(group[0], 0)])
        if not chosen:
            first = [group[0] for group in self._groups]
            raise MeasurementError(f"model: no cut node: {self._reason(first)}, allowed: nodes=[...] of your own")
        return [self._node(call) for call in chosen]

    def named(self, given: Any) -> list[Node]:
        """The nodes that were asked for, in the order of their calls.

        Raises:
            MeasurementError: a name or pattern that fits no part, or a part whose output is no cut node.
        """
        patterns = _patterns(given)
        fitting: dict[str, ModuleCall] = {}
        for pattern in patterns:
            own = [call for call in self._calls if pattern == call.name or fits(call.name.partition("#")[0], pattern)]
            if not own:
                some = ", ".join(group[-1].name for group in self._groups[:6])
                raise MeasurementError(
                    f"nodes: {pattern!r} fits no part whose output the loss depends on, {NODES}; here {some}, ..."
                )
            fitting |= {call.name: call for call in own}
        for call in fitting.values():
            if not self._is_cut(call, 0):
                raise MeasurementError(f"nodes: {self._reason([call])}, allowed: parts through which all of it passes")
        return [self._node(call) for call in self._calls if call.name in fitting]

    def _chosen(self, groups: Sequence[Sequence[ModuleCall]]) -> list[ModuleCall]:
        """Of the cut nodes those that have a matrix behind them that the one before has not, and the last one."""
        found: list[ModuleCall] = []
        matrices = moving = 0
        for place, group in enumerate(groups, 1):
            behind = self._behind(group[0])
            if moving & ~behind:  # beside the one before, not after it
                continue
            last = place == len(groups) and found and behind & self._moving & ~moving
            if behind & self._matrices & ~matrices or last:
                found.append(_by_name(group, [call.name for call in found]))
                matrices, moving = behind & self._matrices, behind & self._moving
        return found

    def _is_cut(self, call: ModuleCall, besides: int) -> bool:
        return not self._around(call, besides)

    def _around(self, call: ModuleCall, besides: int) -> int:
        wanted = (self._behind(call) & self._moving) | besides
        return self._graph.around(call.edge, wanted) if wanted and call.edge is not None else 0

    def _behind(self, call: ModuleCall) -> int:
        return self._graph.behind(call.edge) if call.edge is not None else 0

    def _node(self, call: ModuleCall) -> Node:
        behind = self._behind(call) & self._moving
        assert call.edge is not None
        return Node(call, call.edge, tuple(p for k, p in enumerate(self.places) if behind >> k & 1))

    def _reason(self, calls: Sequence[ModuleCall]) -> str:
        """Why the outputs of some parts are no cut nodes, by the first of them."""
        for call in calls:
            around = self._around(call, 0) or self._around(call, self._inputs)
            names = [place.name for k, place in enumerate(self.places) if around >> k & 1]
            if around:
                what = names[0] if names else "what the model is given"
                return f"{call.name!r} is no cut node: {what} reaches the loss around its output"
        return "no part returns a tensor on which the loss depends"

    def _bits(self, wanted: Callable[[Place], bool]) -> int:
        return sum(1 << k for k, place in enumerate(self.places) if wanted(place))


def _by_name(group: Sequence[ModuleCall], chosen: Sequence[str]) -> ModuleCall:
    """Of parts that return the same tensor the outermost, a block rather than its last layer.

    Not the whole of several blocks, which returns what the last of them does: a plain sequence, the model itself, or a
    part that holds another node and is no entry of a list.
    """
    found = group[0]
    for call in group[1:]:
        entry = call.name.rpartition(".")[2].partition("#")[0].isdigit()
        holds = any(name.startswith(f"{call.name}.") for name in chosen)
        if call.name != ROOT and type(call.module) is not nn.Sequential and (entry or not holds):
            found = call
    return found


def _patterns(given: Any) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise MeasurementError(f"nodes: {kind_of(given)}, {NODES}")
    return list(names)
