"""The passes that a measurement is made of: forward and backward, along a motion of the weights, from the outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import GradientEdge

from featurespeed.measuring.batches import Part, examples
from featurespeed.measuring.errors import MeasurementError, refused_by_torch
from featurespeed.measuring.exchange import exchanged
from featurespeed.measuring.model import Call, calling, scalar, takes_batch
from featurespeed.measuring.passes import check_same
from featurespeed.measuring.state import Containers
from featurespeed.measuring.trees import duplicate, mapped
from featurespeed.own.function import Pulled, example_dim, is_seen_apart, output_directions
from featurespeed.own.graph import Edge, edge_of
from featurespeed.own.nodes import Candidates, Node
from featurespeed.own.tracing import ModuleCall, Place, Tracing, first_numbers, hooked, is_number
from featurespeed.probes.chain import in_motion, like


class Passes:
    """One forward pass of a model on a batch, kept with its graph, and the derivatives taken of it.

    To be made and used inside ``evaluation``.

    Attributes:
        value: the loss, a scalar with its graph.
        candidates: the outputs of parts that may be cut nodes.
        examples: how many the batch holds.
    """

    def __init__(self, model: nn.Module, part: Part, loss: Callable[..., Any]):
        self.model, self._part, self._loss = model, part, loss
        self._call, self._takes_batch = Call(model), takes_batch(loss)
        self._containers = Containers(model.modules())
        self.examples = examples(part)
        self._tracing = Tracing(model)
        leaves: list[Tensor] = []
        if not self._takes_batch:
            self._call.way(part.inputs)  # which may try the model: before its calls are counted
        inputs = _with_leaves(part, leaves, self._takes_batch)
        with self._tracing.differentiating():
            self.value = self._valued(inputs)
        self._check_value()
        edge = edge_of(self.value)
        assert edge is not None
        tracing = self._tracing
        self.candidates = Candidates(edge, tracing.calls, tracing.places, leaves, tracing.blocks())

    @property
    def layers(self) -> list[ModuleCall]:
        """Calls of layers that have parameters which move."""
        return self._tracing.layers()

    @property
    def calls(self) -> list[ModuleCall]:
        """All calls of parts, in the order in which they ended."""
        return self._tracing.calls

    @property
    def precisions(self) -> set[torch.dtype]:
        """Of weights and outputs."""
        return {p.dtype for p in self.model.parameters()} | {call.output.dtype for call in self._tracing.calls}

    def backward(self, nodes: Sequence[Node], scale: float) -> tuple[list[Tensor], dict[int, Tensor]]:
        """``scale`` times the derivatives of the loss at the nodes, and at each place, by the ``id`` of its leaf."""
        places = self._moving()
        wanted: list[Any] = [_edge(node.edge) for node in nodes] + [place.leaf for place in places]
        found = torch.autograd.grad(self.value * scale, wanted, retain_graph=True, allow_unused=True)
        at_nodes = [_given(b, node.call.output) for b, node in zip(found, nodes, strict=False)]
        gradients = zip(places, found[len(nodes) :], strict=True)
        return at_nodes, {id(place.leaf): _given(gradient, place.leaf) for place, gradient in gradients}

    def pulled(self, outputs: Node, stream: torch.Generator) -> tuple[list[Pulled], dict[int, Tensor]]:
        """Random directions at the outputs, pulled back: to layers that move, and to places that these do not tell of.

        The graph is gone afterwards.
        """
        calls = self._tracing.layers()
        owned = {id(p.leaf) for call in calls for p in call.places if is_seen_apart(call, p.parameter)}
        loose = [place for place in self._moving() if id(place.leaf) not in owned]
        direction = output_directions(outputs.call.output, self.examples, stream)
        wanted: list[Any] = [_edge(call.edge) for call in calls if call.edge] + [place.leaf for place in loose]
        found = torch.autograd.grad([_edge(outputs.edge)], wanted, [direction], allow_unused=True)
        apart = zip(calls, found, strict=False)
        pulled = [Pulled(call, d, example_dim(d, self.examples)) for call, d in apart if d is not None]
        rest = zip(loose, found[len(calls) :], strict=True)
        return pulled, {id(place.leaf): d for place, d in rest if d is not None}

    def velocities(self, motion: Mapping[int, Tensor], nodes: Sequence[Node]) -> list[Tensor]:
        """Derivatives of the outputs at the nodes when parameters (by their ``id``) move.

        Raises:
            MeasurementError: an operation has no forward-mode derivative, or this pass differs from the first one.
        """
        seen: dict[str, tuple[Tensor, Tensor | None]] = {}
        counts: Counter[nn.Module] = Counter()
        wanted = {node.call.module: node.name.split("#")[0] for node in nodes}
        names = {node.name for node in nodes}

        def after(module: nn.Module, _args: Any, _kwargs: Any, found: Any) -> None:
            output = first_numbers(found)
            if output is None:
                return
            counts[module] += 1
            name = wanted[module] if counts[module] == 1 else f"{wanted[module]}#{counts[module]}"
            if name in names:
                primal, tangent = forward_ad.unpack_dual(output)
                seen[name] = primal.detach().clone(), None if tangent is None else tangent.detach().clone()

        still = {id(p): (p, p.detach()) for p in self.model.parameters() if id(p) in motion}
        try:
            with in_motion([self.model]):  # where nothing is detached
                dual = {key: like(p, forward_ad.make_dual(values, motion[key])) for key, (p, values) in still.items()}
                with (
                    exchanged(self.model, dual),
                    hooked(wanted, _ignore, after),
                    suppressed(lambda: seen.keys() >= names),
                ):
                    self._valued(duplicate(self._part.whole if self._takes_batch else self._part.inputs))
        except AssertionError as error:  # PyTorch's, about what has no forward-mode derivative
            raise MeasurementError(refused_by_torch(error)) from error
        for node in nodes:
            if node.call.unchanged:
                check_same("model", seen[node.name][0], node.call.output)
        return [torch.zeros_like(p) if t is None else t for p, t in (seen[node.name] for node in nodes)]

    def places_of(self, leaves: Mapping[int, Any]) -> list[Place]:
        """The places whose leaves are named, by their ``id``."""
        return [place for place in self._tracing.places if id(place.leaf) in leaves]

    def _moving(self) -> list[Place]:
        return [place for place in self._tracing.places if place.parameter.requires_grad]

    def _valued(self, inputs: Any) -> Tensor:
        """The loss; ``inputs`` are the model's, or the whole batch for a loss that calls the model itself."""
        self._containers.restore()
        if self._takes_batch:
            with calling("loss", inputs):
                return scalar(self._loss(self.model, inputs))
        with calling("model", inputs):
            outputs = self._call(inputs)
        with calling("loss", outputs):
            return scalar(self._loss(outputs, duplicate(self._part.targets)))

    def _check_value(self) -> None:
        if not torch.isfinite(self.value.detach()):
            raise FloatingPointError("the loss of the network is not finite")
        if not self.value.requires_grad:
            raise MeasurementError(
                "loss: no operation of PyTorch connects its value with the model's parameters, allowed: a value that"
                " can be differentiated (no detach, item, no_grad or constant)"
            )


def _with_leaves(part: Part, leaves: list[Tensor], takes_batch: bool) -> Any:
    """What the model is given, with leaves in the place of numbers; a loss that calls it gets the whole batch.

    Masks are no signal: they go to many places, and none of them is a way around.
    """

    def leaf(tensor: Any) -> Any:
        if not isinstance(tensor, Tensor) or not is_number(tensor):
            return duplicate(tensor)
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1].clone()  # models may work in place on it

    if isinstance(part.inputs, Mapping):
        if takes_batch:
            return duplicate(part.whole)
        given = {key: (duplicate if "mask" in str(key) else leaf)(value) for key, value in part.inputs.items()}
        return mapped(_second, part.inputs, given)
    inputs = mapped(leaf, part.inputs)
    if not takes_batch:
        return inputs
    pair = isinstance(part.whole, (tuple, list)) and len(part.whole) == 2
    return type(part.whole)((inputs, duplicate(part.targets))) if pair else duplicate(part.whole)


class suppressed(suppress):  # noqa: N801 (as the one of the standard library)
    """Errors do not matter once ``enough()``: a loss may have no derivative of a kind that the model has."""

    def __init__(self, enough: Callable[[], bool]):
        super().__init__(Exception)
        self._enough = enough

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return bool(self._enough() and super().__exit__(kind, error, trace))


def _second(_first: Any, second: Any = None) -> Any:
    return second


def _ignore(*_: Any) -> None:
    """A hook that does nothing."""


def _edge(edge: Edge) -> GradientEdge:
    return GradientEdge(edge.node, edge.output)


def _given(gradient: Tensor | None, like_this: Tensor) -> Tensor:
    return torch.zeros_like(like_this) if gradient is None else gradient.detach()
