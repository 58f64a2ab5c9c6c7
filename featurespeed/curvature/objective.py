"""The mean loss of one network, or of several side by side, over a fixed batch, as a function of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from featurespeed.curvature.convolution import Convolutions
from featurespeed.errors import UserError

Loss = Callable[[Any, Any], Tensor]
Batch = tuple[Any, Any]


class CurvatureError(UserError, ValueError):
    """What cannot be measured; one line that names what is wrong and what is allowed."""


@dataclass(frozen=True)
class Chunk:
    """Part of the batch that is differentiated at a time, its number of examples, and its share of the whole."""

    inputs: Any
    targets: Any
    examples: int
    weight: float


@contextmanager
def differentiable_twice(model: nn.Module) -> Iterator[None]:
    """A graph that is built inside can be differentiated again, at little cost, and is the same at every call.

    Evaluation mode (no dropout; batch normalisation as an affine map), for this time only; attention by its plain
    formula, because fused kernels have no second derivative; and convolutions with cheap second derivatives.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), Convolutions():
            yield
    finally:
        for module, training in modes:
            module.training = training


class Objective:
    """What is differentiated: ``loss(model(inputs), targets)``, averaged over all batches by their size.

    Vectors in the space of parameters are ``[E, P]``: one row a network, its parameters flattened one after the other.

    Args:
        model: any module. Parameters that require no gradient are constants.
        loss: ``(outputs, targets) -> scalar``, a mean over the examples; with ``members`` one value a member, ``[E]``.
        batches: ``(inputs, targets)``, or a sequence of such pairs.
        members: None for one network, whose examples are counted along the first dimension; ``E`` for networks side by
            side: every parameter has ``E`` as its first dimension, the examples lie along the second one of the
            inputs and targets, and member ``e`` sees its own row of them and no other member.
        parameters: those by which to differentiate (default: all that require a gradient).
        micro_batch: take so many examples at a time. Memory is then bounded by these, results stay the same, and a
            product costs about 1.5 times as much, because nothing is kept between products.
        batch_weight: what a batch counts for; default the number of its examples. For a mean over tokens without
            padding: ``lambda targets: (targets != padding).sum()``.

    Raises:
        CurvatureError: no examples, no parameters, NaN or infinity among them.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Batch | Sequence[Batch],
        *,
        members: int | None = None,
        parameters: Sequence[Tensor] | None = None,
        micro_batch: int | None = None,
        batch_weight: Callable[[Any], float] | None = None,
    ):
        self.model, self._loss = model, loss
        self.members = members or 1
        self.parameters = [p for p in (model.parameters() if parameters is None else parameters) if p.requires_grad]
        if not self.parameters:
            raise CurvatureError("parameters: none of the model's requires a gradient, at least one must")
        self._check_finite()
        self._examples = 0 if members is None else 1  # the dimension along which they lie
        self.chunks = self._cut(_pairs(batches), micro_batch, batch_weight)
        self.shapes = [parameter.shape for parameter in self.parameters]
        self.sizes = [parameter.numel() // self.members for parameter in self.parameters]

    @property
    def size(self) -> int:
        """``P``, number of parameters of one network."""
        return sum(self.sizes)

    @property
    def dtype(self) -> torch.dtype:
        return self.parameters[0].dtype

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as vectors ``[E, P]``."""
        return torch.cat([tensor.reshape(self.members, -1) for tensor in tensors], dim=1)

    def unflatten(self, vectors: Tensor) -> list[Tensor]:
        """Vectors ``[E, P]`` as tensors of the parameters' shapes."""
        return [part.view(shape) for part, shape in zip(vectors.split(self.sizes, dim=1), self.shapes, strict=True)]

    def fill(self, values: Sequence[float]) -> Tensor:
        """A vector ``[1, P]`` that is constant on every parameter; ``values`` are one a parameter."""
        parts = [
            torch.full((1, size), float(v), dtype=torch.float64) for v, size in zip(values, self.sizes, strict=True)
        ]
        return torch.cat(parts, dim=1).to(device=self.device, dtype=self.dtype)

    def outputs(self, chunk: Chunk) -> Tensor:
        """What the model makes of a chunk; with a graph inside :func:`differentiable_twice`."""
        return self.model(chunk.inputs)

    def loss(self, outputs: Any, chunk: Chunk) -> Tensor:
        """A chunk's share of the mean loss, summed over members: a scalar."""
        losses = self._loss(outputs, chunk.targets)
        if losses.numel() != self.members:
            raise CurvatureError(f"loss: returned {losses.numel()} values, allowed: one a network, {self.members}")
        if not torch.isfinite(losses.detach()).all():
            raise CurvatureError(f"loss: {losses.detach().flatten().tolist()} on this batch, finite values are needed")
        return chunk.weight * losses.sum()

    def gradient(self) -> Tensor:
        """Gradient of the mean loss, ``[E, P]``."""
        total: Tensor | float = 0.0
        with differentiable_twice(self.model):
            for chunk in self.chunks:
                loss = self.loss(self.outputs(chunk), chunk)
                found = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
                total = total + self.flatten(found)
        return total

    def _check_finite(self) -> None:
        names = {id(p): name for name, p in self.model.named_parameters()}
        for parameter in self.parameters:
            finite = torch.isfinite(parameter.detach())
            if not finite.all():
                name, bad = names.get(id(parameter), "parameter"), int((~finite).sum())
                raise CurvatureError(
                    f"{name}: {bad} of {finite.numel()} weights are NaN or infinite; the network has diverged"
                )

    def _cut(
        self, batches: list[Batch], micro_batch: int | None, batch_weight: Callable[[Any], float] | None
    ) -> list[Chunk]:
        if micro_batch is not None and micro_batch < 1:
            raise CurvatureError(f"micro_batch = {micro_batch}: allowed: at least 1 example, or None")
        pairs = [pair for batch in batches for pair in self._micro_batches(batch, micro_batch)]
        counts = [self._count(targets) for _, targets in pairs]
        weights = [float(batch_weight(pair[1])) for pair in pairs] if batch_weight else counts
        whole = sum(weights)
        if whole <= 0:
            raise CurvatureError(f"batch: {sum(counts)} examples that weigh {whole:g}, at least 1 is needed")
        return [
            Chunk(*pair, count, weight / whole)
            for pair, count, weight in zip(pairs, counts, weights, strict=True)
            if weight
        ]

    def _count(self, targets: Any) -> int:
        return targets.shape[self._examples]

    def _micro_batches(self, batch: Batch, size: int | None) -> Iterator[Batch]:
        inputs, targets = batch
        if size is None or self._count(targets) <= size:
            yield inputs, targets
            return
        dim = self._examples
        yield from zip(inputs.split(size, dim), targets.split(size, dim), strict=True)


def _pairs(batches: Batch | Sequence[Batch]) -> list[Batch]:
    """One batch is a pair whose second entry is the targets; several are pairs themselves."""
    if isinstance(batches, Sequence) and len(batches) == 2 and isinstance(batches[1], Tensor):
        return [tuple(batches)]
    pairs = list(batches)
    for pair in pairs:
        if not (isinstance(pair, Sequence) and len(pair) == 2):
            raise CurvatureError(f"batch: {type(pair).__name__}, allowed: (inputs, targets), or a list of such pairs")
    return pairs
