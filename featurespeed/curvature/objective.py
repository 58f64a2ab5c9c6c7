"""The mean loss of one network, or of several side by side, over a fixed batch, as a function of its parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.curvature.convolution import conv2d
from featurespeed.curvature.parameters import Parameters, Space, leaves_of
from featurespeed.curvature.reach import Reach
from featurespeed.machine.device import tf32
from featurespeed.measuring.arguments import whole_number
from featurespeed.measuring.batches import Part, cut, examples, parts_of
from featurespeed.measuring.context import (
    REPLACEMENTS,
    Replacing,
    ambient_autocast,
    autocast_of_caller,
    devices_of,
    evaluation,
    reached_from,
)
from featurespeed.measuring.errors import MeasurementError, kind_of
from featurespeed.measuring.exchange import exchanged
from featurespeed.measuring.model import Call, calling, checked_loss, checked_model, device_of, takes_batch
from featurespeed.measuring.passes import check_same, check_unmixed, moved_weights, random_state
from featurespeed.measuring.state import Containers
from featurespeed.measuring.trees import duplicate, joinable, mapped, tensors
from featurespeed.measuring.weights import Scored, batch_shares, by_size, given_shares, shares
from featurespeed.randomness import generator

Loss = Callable[[Any, Any], Tensor]
Batch = tuple[Any, Any]


class CurvatureError(MeasurementError):
    """What cannot be measured; one line that names what is wrong and what is allowed."""


@dataclass(frozen=True)
class Chunk:
    """Part of the batch that is differentiated at a time, its number of examples, and its share of the whole."""

    part: Part
    examples: int
    weight: float

    @property
    def inputs(self) -> Any:
        return self.part.inputs

    @property
    def targets(self) -> Any:
        return self.part.targets


@dataclass
class _State:
    """What copies of an objective share: whether it is inside its context, and what it knows of its parameters."""

    reach: Reach
    inside: bool = False
    mode: Replacing | None = None
    expected: dict[tuple[str, int], Any] = field(default_factory=dict)  # from when model and loss were tried


class Objective:
    """What is differentiated: ``loss(model(inputs), targets)`` over all batches, as if they were one.

    Vectors in the space of parameters are ``[E, P]``: one row a network, its parameters flattened one after the other.

    Args:
        model: any module. Parameters that require no gradient are constants.
        loss: ``(outputs, targets) -> scalar``; with ``members`` one value a member, ``[E]``; or ``loss(model, batch)``.
        batches: one or several, in the form of :mod:`featurespeed.measuring.batches`.
        members: None for one network, whose examples are counted along the first dimension. Model and loss are then
            tried first: that two passes agree, how inputs are handed over, what parts weigh. ``E`` for networks side by
            side, such as those of this package, which are not tried: every parameter has ``E`` as its first dimension,
            the examples lie along the second one of the inputs and targets, and member ``e`` sees its own row of them
            and no other member; parts count by their number of examples.
        parameters: those by which to differentiate, or their names (default: all that require a gradient); each counts
            once.
        micro_batch: take so many examples at a time. Memory is then bounded by these, results stay the same, and a
            product costs about 1.5 times as much, because nothing is kept between products.
        batch_weight: what a batch counts for, from its targets. The default makes the loss of several batches that of
            all their examples together; where that cannot be told, they count by their number of examples.

    Raises:
        MeasurementError: what cannot be measured, by the name of the argument.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Any,
        *,
        members: int | None = None,
        parameters: Parameters = None,
        micro_batch: int | None = None,
        batch_weight: Callable[[Any], float] | None = None,
    ):
        checked = members is None
        self.model = checked_model(model) if checked else model
        self._loss = checked_loss(loss)
        self.takes_batch = checked and takes_batch(loss)
        self.members, self._checked, self.scale = members or 1, checked, 1.0
        self.parameters = leaves_of(self.model, parameters, checked)
        self.space = Space(self.parameters, self.members)
        self._dim = 0 if members is None else 1  # along which examples lie
        self._call = Call(self.model) if checked else self.model
        self._state = _State(Reach(self.parameters, done=not checked))
        self._autocast = autocast_of_caller(devices_of(self.model.modules())) if checked else {}
        self._containers = Containers(module for part in self._modules() for module in part.modules())
        if micro_batch is not None:
            micro_batch = whole_number("micro_batch", micro_batch, 1)
        parts = parts_of(batches, device_of(self.model) if checked else None, self.takes_batch)
        with self.replacing(), tf32(False):  # as where graphs are built, so that passes can be compared
            self.chunks = self._cut(parts, micro_batch, batch_weight)

    # --- the space of parameters --------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """``P``, number of parameters of one network; a complex one counts twice."""
        return self.space.size

    @property
    def dtype(self) -> torch.dtype:
        return self.space.dtype

    @property
    def device(self) -> torch.device:
        return self.space.device

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as vectors ``[E, P]``."""
        return self.space.flatten(tensors)

    def unflatten(self, vectors: Tensor) -> list[Tensor]:
        """Vectors ``[E, P]`` as tensors of the parameters' shapes."""
        return self.space.unflatten(vectors)

    def fill(self, values: Sequence[float]) -> Tensor:
        """A vector ``[1, P]`` that is constant on every parameter; ``values`` are one a parameter."""
        return self.space.fill(values)

    # --- where graphs are built ---------------------------------------------------------------------------------------

    @contextmanager
    def differentiable(self) -> Iterator[None]:
        """What holds from the first forward pass to the last product; entered again it changes nothing."""
        if self._state.inside:
            yield
            return
        self._state.inside = True
        try:
            with evaluation(self._modules()):
                yield
        finally:
            self._state.inside = False

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """The same, where the model is called: with operations that can be differentiated twice, at little cost."""
        with self.differentiable(), Replacing(REPLACEMENTS | {torch.conv2d: conv2d}) as mode:
            self._state.mode, before = mode, self._state.mode
            try:
                yield
            finally:
                self._state.mode = before

    def scaled(self, factor: float) -> Objective:
        """The same loss times a number, to be differentiated where its own derivatives over- or underflow."""
        found = copy.copy(self)
        found.scale = self.scale * factor
        return found

    def restricted(self, parameters: Sequence[Tensor]) -> Objective:
        """The same loss as a function of some of its parameters; nothing is tried or checked a second time."""
        found = copy.copy(self)
        found.parameters, found.space = list(parameters), Space(parameters, self.members)
        found._state = _State(Reach(found.parameters, done=True), inside=self._state.inside)
        return found

    @property
    def criterion(self) -> Loss:
        """The loss as it was given."""
        return self._loss

    def by(self, parameters: Sequence[Tensor], converted: Callable[[Any], Any], as_given: bool) -> Objective:
        """The same loss by other tensors, which stand in the place of its parameters meanwhile.

        Args:
            parameters: in the order of this objective's.
            converted: what becomes of each tensor of the batches.
            as_given: whether the caller's autocast holds.
        """
        found = self.restricted(parameters)
        found._autocast = self._autocast if as_given else {}
        found.chunks = [
            replace(chunk, part=Part(*(mapped(converted, getattr(chunk.part, f.name)) for f in fields(Part))))
            for chunk in self.chunks
        ]
        return found

    def outputs(self, chunk: Chunk) -> Any:
        """What the model makes of a chunk; with a graph inside :meth:`replacing`."""
        with self._state.reach.watching("model", self._state.mode):
            found = self._outputs(chunk.part)
        self._check_repeatable("model", chunk.part, found)
        self._state.reach.note("model", tensors(found))
        return found

    def loss(self, outputs: Any, chunk: Chunk) -> Tensor:
        """A chunk's share of the mean loss, summed over members: a scalar."""
        with self._state.reach.watching("loss", self._state.mode):
            found = self._value(outputs, chunk.part)
        losses = self._checked_losses(found)
        self._check_repeatable("loss", chunk.part, losses)
        return self._share(losses, chunk)

    def loss_of(self, chunk: Chunk) -> Tensor:
        """The same from the model itself."""
        if not self.takes_batch:
            return self.loss(self.outputs(chunk), chunk)
        return self.loss(None, chunk)

    def value(self, chunk: Chunk) -> Tensor:
        """A chunk's share of the mean loss, a number."""
        outputs = None if self.takes_batch else self._outputs(chunk.part)
        return self.scale * chunk.weight * self._losses(outputs, chunk.part).detach().sum()

    def gradient(self) -> Tensor:
        """Gradient of the mean loss, ``[E, P]``."""
        total: Tensor | float = 0.0
        with self.replacing():
            for chunk in self.chunks:
                loss = self.loss_of(chunk)
                found = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
                total = total + self.flatten(found)
        return total

    def take_foreign(self) -> dict[str, str]:
        """Operations that are not PyTorch's, by their names, and whether they are of ``model`` or ``loss``; only once.

        Known when every chunk was differentiated once.
        """
        return self._state.reach.take_foreign()

    def check_reached(self) -> None:
        """Raise for parameters that forward uses in ways through which no derivative reaches them, and in no others.

        To be called when every chunk was differentiated once; what was not used at all has no curvature.
        """
        reach = self._state.reach
        if reach.done:
            return
        reach.done = True
        self._check_caches()
        if reach.lost:
            names = [n for n, p in self.model.named_parameters() if id(p) in reach.lost]
            raise MeasurementError(
                f"parameters: {names[0]} is used in forward, but no derivative of the loss reaches it (no_grad, detach"
                " or a reentrant checkpoint); allowed: use_reentrant=False, or requires_grad_(False) for a constant"
            )

    def _check_caches(self) -> None:
        """Raise for a parameter that is not used because something was computed from it before, and kept."""
        unused = self._state.reach.unused
        if not unused or not self._containers.of_tensors():
            return
        try:
            with self.replacing(), self._containers.emptied():
                used = unused & reached_from([self.loss_of(self.chunks[0])])
        except Exception:  # without what they hold it cannot be called: that is no cache
            return
        if used:
            names = [name for name, parameter in self.model.named_parameters() if id(parameter) in used]
            raise MeasurementError(
                f"parameters: {names[0]} is not used in forward, but what a list or mapping of the model keeps of it,"
                " allowed: an empty cache (model.train() empties those of some libraries)"
            )

    def _modules(self) -> list[nn.Module]:
        """The model, and the loss if it is one."""
        return [part for part in (self.model, self._loss) if isinstance(part, nn.Module)]

    def _share(self, losses: Tensor, chunk: Chunk) -> Tensor:
        if not losses.requires_grad:
            raise MeasurementError(
                "loss: no operation of PyTorch connects its value with the model's parameters (detach, item, no_grad, a"
                " constant); allowed: a value that can be differentiated"
            )
        self._state.reach.note("loss", [losses])
        if self.scale != 1:
            losses = losses * self.scale
        return chunk.weight * losses.sum()

    def _outputs(self, part: Part) -> Any:
        if not self._checked:
            return self._call(part.inputs)
        with calling("model", part.inputs):
            self._containers.restore()
            with ambient_autocast(self._autocast):
                return self._call(duplicate(part.inputs))

    def _losses(self, outputs: Any, part: Part) -> Tensor:
        return self._checked_losses(self._value(outputs, part))

    def _value(self, outputs: Any, part: Part) -> Any:
        if not self._checked:
            return self._loss(outputs, part.targets)
        if self.takes_batch:
            return self._called_loss(self.model, part.whole)
        return self._called_loss(outputs, part.targets)

    def _checked_losses(self, losses: Any) -> Tensor:
        if not isinstance(losses, Tensor):
            raise MeasurementError(f"loss: returned {kind_of(losses)}, allowed: a scalar tensor")
        if losses.numel() != self.members or losses.is_complex():
            raise MeasurementError(
                f"loss: returned {losses.numel()} values, allowed: one a network, {self.members}, as a mean"
            )
        if not torch.isfinite(losses.detach()).all():
            raise MeasurementError(
                f"loss: {losses.detach().flatten().tolist()} on this batch, finite values are needed"
            )
        return losses

    def _called_loss(self, first: Any, second: Any) -> Any:
        """The loss of outputs and targets, or of the model and a batch, of which it gets a copy."""
        with calling("loss", second if self.takes_batch else first):
            if self.takes_batch:
                self._containers.restore()
            with ambient_autocast(self._autocast):
                return self._loss(first, duplicate(second))

    # --- the chunks and what they weigh -------------------------------------------------------------------------------

    def _cut(
        self, parts: list[Part], micro_batch: int | None, batch_weight: Callable[[Any], float] | None
    ) -> list[Chunk]:
        groups = [[part] if micro_batch is None else self._pieces(part, micro_batch) for part in parts]
        if self._checked:
            weights = self._weights(parts, groups, batch_weight)
        else:
            shares = by_size(parts, self._dim)
            weights = [
                share * w for share, group in zip(shares, groups, strict=True) for w in by_size(group, self._dim)
            ]
        pieces = [part for group in groups for part in group]
        return [
            Chunk(part, examples(part, self._dim), weight)
            for part, weight in zip(pieces, weights, strict=True)
            if weight
        ]

    def _pieces(self, part: Part, micro_batch: int) -> list[Part]:
        if self.takes_batch:
            raise MeasurementError(
                f"micro_batch = {micro_batch}: allowed with loss(outputs, targets); give a list of batches"
            )
        return cut(part, micro_batch, self._dim)

    @torch.no_grad()
    def _weights(
        self, parts: list[Part], groups: list[list[Part]], batch_weight: Callable[[Any], float] | None
    ) -> list[float]:
        """What each piece of each batch counts for; the model and the loss are tried on the way."""
        random = random_state(self.device)
        outputs = [self._tried(part) for part in parts]
        if not torch.equal(random_state(self.device), random):
            self._check_repeatable_elsewhere(parts[0])
        weights, pieces, tried = [], [], []
        batch_weights = self._batch_weights(parts, outputs, batch_weight)
        for share, part, whole, group in zip(batch_weights, parts, outputs, groups, strict=True):
            found = [whole] if len(group) == 1 else [self._tried(piece) for piece in group]
            inner = [1.0] if len(group) == 1 else self._micro_weights(Scored(whole, part.targets), group, found)
            if len(group) > 1:
                self._check_unmixed_elsewhere(part, group)
            weights += [share * weight for weight in inner]
            pieces += group
            tried += found
        if len(pieces) > 1:  # now every piece comes at another turn, also to a counter whose period is their number
            check_same("loss" if self.takes_batch else "model", tried[0], self._tried(pieces[0]))
        for piece, weight, found in zip(pieces, weights, tried, strict=True):
            if weight:
                self._expect(piece, found)
        return weights

    def _tried(self, part: Part) -> Any:
        """Outputs for a part, without a graph; with ``loss(model, batch)`` its value."""
        try:
            return self._losses(None, part) if self.takes_batch else self._outputs(part)
        except MeasurementError:
            if torch.is_grad_enabled():
                raise
        with torch.enable_grad():  # a model that differentiates inside needs it
            found = self._tried(part)
        return mapped(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, found)

    def _expect(self, part: Part, outputs: Any) -> None:
        """Keep what a first pass made of a part, and the loss that it has, to be compared with the second pass."""
        loss = outputs if self.takes_batch else self._losses(duplicate(outputs), part)
        self._state.expected |= {("model", id(part)): outputs, ("loss", id(part)): loss}

    def _check_repeatable(self, name: str, part: Part, found: Any) -> None:
        if (name, id(part)) in self._state.expected:
            check_same(name, self._state.expected.pop((name, id(part))), found)

    # Outputs may hide what happens before them, behind a readout of 0 for example: so these compare at other weights.

    def _check_repeatable_elsewhere(self, part: Part) -> None:
        """Raise where two passes differ, for a model that draws random numbers."""
        if not self.takes_batch:
            check_same("model", *(self._outputs_elsewhere(part) for _ in range(2)))

    def _check_unmixed_elsewhere(self, part: Part, group: list[Part]) -> None:
        """Raise where outputs of the whole are not those of its pieces."""
        whole, pieces = self._outputs_elsewhere(part), [self._outputs_elsewhere(piece) for piece in group]
        if whole is not None:
            check_unmixed(whole, pieces)

    def _outputs_elsewhere(self, part: Part) -> Any:
        """Outputs at other weights; None for a scripted module, whose weights cannot be exchanged."""
        if isinstance(self.model, torch.jit.ScriptModule):
            return None
        stream = generator(0, "elsewhere", device=self.device)
        moved = {id(p): moved_weights(p, stream) for p in self.model.parameters() if p.is_floating_point()}
        with exchanged(self.model, moved):
            return self._outputs(part)

    def _batch_weights(
        self, parts: list[Part], outputs: list[Any], batch_weight: Callable[[Any], float] | None
    ) -> list[float]:
        if batch_weight is not None:
            return given_shares(parts, batch_weight)
        return by_size(parts) if self.takes_batch else batch_shares(self._called_loss, parts, outputs)

    def _micro_weights(self, whole: Scored, group: list[Part], found: list[Any]) -> list[float]:
        pieces = [Scored(outputs, part.targets) for outputs, part in zip(found, group, strict=True)]
        if not joinable(found):
            raise MeasurementError(
                f"micro_batch: the model returned {kind_of(whole.outputs)}, allowed: tensors with examples along their"
                " first dimension; give a list of batches"
            )
        check_unmixed(whole.outputs, found)
        return shares(self._called_loss, whole, pieces, "micro_batch")
