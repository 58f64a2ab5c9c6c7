"""What each part of a batch counts for, so that the parts' losses add up to the loss of the whole.

A mean over examples weighs parts by their size; class weights, padding and a sum weigh them in other ways, and a loss
that compares examples with each other is no sum over parts at all. The loss itself tells: its derivative by a part's
outputs must be the derivative of the part's own loss times a number, and that number is the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from featurespeed.measuring.batches import Part, countable, examples
from featurespeed.measuring.errors import MeasurementError, first_line, kind_of
from featurespeed.measuring.model import scalar
from featurespeed.measuring.trees import duplicate, joinable, joined, mapped, tensors
from featurespeed.randomness import generator

MIXED = 0.5  # how far other points lie from the outputs, relative to their size
#: Relative error up to which numbers in a precision count as equal.
EQUAL = {torch.float64: 1e-7, torch.float32: 2e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
LARGEST = 2**28  # numbers in all outputs together, up to which they are compared


@dataclass(frozen=True, eq=False)
class Scored:
    """Outputs of the model, without a graph, and the targets that the loss compares them with."""

    outputs: Any
    targets: Any


def together(parts: Sequence[Scored], dim: int = 0) -> Scored | None:
    """The parts as one; None where they are no tensors with examples along ``dim`` that could be put together."""
    outputs, targets = [part.outputs for part in parts], [part.targets for part in parts]
    if not joinable(outputs, dim):
        return None
    if any(target is not None for target in targets) and not joinable(targets, dim):
        return None
    numbers = sum(tensor.numel() for tree in outputs for tensor in tensors(tree))
    if numbers > LARGEST:
        raise MeasurementError(
            f"batch: outputs of {numbers} numbers, allowed: {LARGEST}, or a batch_weight that says what each counts"
        )
    return Scored(joined(outputs, dim), None if targets[0] is None else joined(targets, dim))


def batch_shares(loss: Callable[[Any, Any], Tensor], parts: Sequence[Part], outputs: Sequence[Any]) -> list[float]:
    """Weights of several batches that make their losses add up to that of all their examples.

    Raises:
        MeasurementError: there are no such weights, or they cannot be told.
    """
    if len(parts) == 1:
        return [1.0]
    scored = [Scored(found, part.targets) for found, part in zip(outputs, parts, strict=True)]
    for dim in (0, 1):  # examples first, or time
        whole = together(scored, dim)
        if whole is not None:
            return shares(loss, whole, scored, "batch", dim)
    if all(_single(part) for part in parts):
        return by_size(parts)
    raise MeasurementError(
        "batch: outputs or targets of the batches cannot be put together, allowed: tensors of one shape but for the"
        " number of examples, or a batch_weight that says what each batch counts for"
    )


def given_shares(parts: Sequence[Part], batch_weight: Any) -> list[float]:
    """The caller's weights of the batches, a function of their targets, as shares of their sum.

    Raises:
        MeasurementError: no function, one that fails, or weights that are negative or all 0.
    """
    if not callable(batch_weight):
        raise MeasurementError(f"batch_weight: {kind_of(batch_weight)}, allowed: a function of the targets of a batch")
    try:
        weights = [float(batch_weight(duplicate(part.targets))) for part in parts]
    except Exception as error:
        raise MeasurementError(
            f"batch_weight: of {kind_of(parts[0].targets)}, allowed: a number; it raised {first_line(error)}"
        ) from error
    whole = sum(weights)
    if not (all(0 <= weight < math.inf for weight in weights) and whole > 0):
        raise MeasurementError(
            f"batch_weight: {weights} for {len(parts)} batches, allowed: finite, at least 0, and one above 0"
        )
    return [weight / whole for weight in weights]


def _single(part: Part) -> bool:
    """Whether a batch is one example with its label, without a dimension for several."""
    return isinstance(part.targets, (int, float)) or (isinstance(part.targets, Tensor) and part.targets.ndim == 0)


def by_size(parts: Sequence[Part], dim: int = 0) -> list[float]:
    """Shares of the examples.

    Raises:
        MeasurementError: several parts whose numbers of examples cannot be told.
    """
    if len(parts) > 1 and not all(countable(part) for part in parts):
        raise MeasurementError(
            f"batch: how many examples {kind_of(parts[0].whole)} holds cannot be told, allowed: a batch_weight"
        )
    counts = [examples(part, dim) for part in parts]
    return [count / sum(counts) for count in counts]


def shares(
    loss: Callable[[Any, Any], Tensor], whole: Scored, parts: Sequence[Scored], name: str, dim: int = 0
) -> list[float]:
    """Weights ``w`` with ``loss(whole) = sum_i w_i loss(part_i)`` for all outputs.

    Found from the derivatives by the outputs, and tried at other points, because a loss such as the root of a mean
    square has weights at each point, but others at every one.

    Args:
        loss: ``(outputs, targets) -> scalar``.
        whole, parts: the same examples, in the same order along ``dim``.
        name: of the argument that made parts of it.

    Raises:
        MeasurementError: there are no such weights.
    """
    try:  # in float64, if the loss takes it, which leaves the least room for coincidence
        points = _points(loss, _wide(whole), [_wide(part) for part in parts], dim)
    except (MeasurementError, RuntimeError):
        points = _points(loss, whole, parts, dim)
    if not math.isfinite(points[0].value):
        raise MeasurementError(f"loss: {points[0].value} on this batch, finite values are needed")
    weights = [_weight(i, points) for i in range(len(parts))]
    if not all(point.holds(weights) for point in points):
        raise MeasurementError(
            f"{name}: the loss of all examples is no weighted sum of the losses of the parts (it compares examples, or"
            " is not linear in their mean), allowed: one whole batch, or batches with a batch_weight of your own"
        )
    return weights


def _points(loss: Callable[[Any, Any], Tensor], whole: Scored, parts: Sequence[Scored], dim: int) -> list[_Point]:
    """At the outputs, and at others that are far from them, for all parts and for every other one."""
    points = [_Point(loss, whole, parts, dim)]
    for which in (range(len(parts)), range(0, len(parts), 2), range(1, len(parts), 2)):
        points.append(_Point(loss, *_moved_apart(whole, parts, dim, set(which)), dim))
    return points


def _wide(scored: Scored) -> Scored:
    def widen(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not _is_number(leaf):
            return leaf
        return leaf.to(torch.complex128 if leaf.is_complex() else torch.float64)

    return Scored(mapped(widen, scored.outputs), mapped(widen, scored.targets))


def _weight(index: int, points: Sequence[_Point]) -> float:
    """Of a part, from the first point that tells it; its share of the examples where its loss is flat at all."""
    for point in points:
        found = point.weight(index)
        if not math.isnan(found):
            return found
    sizes = [own.numel() for own in points[0].own]
    return sizes[index] / sum(sizes) if math.isfinite(points[0].values[index]) else 0.0


class _Point:
    """Values and derivatives by the outputs of the loss of the whole and of its parts, at given outputs."""

    def __init__(self, loss: Callable[[Any, Any], Tensor], whole: Scored, parts: Sequence[Scored], dim: int):
        self.value, slopes = _slope(loss, whole)
        split = [_pieces(slope, parts, i, dim) for i, slope in enumerate(slopes)]
        self.slopes = [_flat(piece) for piece in zip(*split, strict=True)]  # of the whole, part by part
        found = [_slope(loss, part) for part in parts]
        self.values, self.own = [value for value, _ in found], [_flat(slope) for _, slope in found]
        self.tolerance = max(EQUAL.get(tensor.dtype.to_real(), EQUAL[torch.float16]) for tensor in _real(whole.outputs))

    def weight(self, index: int) -> float:
        """By least squares; 0 for a part that the whole does not feel, such as padding only; NaN: unknown here."""
        slope, own = self.slopes[index], self.own[index]
        if not own.isfinite().all() or not math.isfinite(self.values[index]):
            return math.nan if slope.any() else 0.0
        if not own.any():
            return math.nan
        unit = own / own.abs().max()
        return float((slope * unit).sum() / (unit * unit).sum() / own.abs().max())

    def holds(self, weights: Sequence[float]) -> bool:
        """Whether value and derivatives of the whole are those of the weighted sum."""
        size = max(float(torch.cat(self.slopes).abs().max()), torch.finfo(torch.float64).tiny)
        for weight, slope, own in zip(weights, self.slopes, self.own, strict=True):
            expected = weight * own if weight else torch.zeros_like(own)
            if not float((slope - expected).abs().max()) <= self.tolerance * size:
                return False
        counted = [w * v for w, v in zip(weights, self.values, strict=True) if w]
        scale = max(sum(abs(c) for c in counted), abs(self.value))
        return abs(sum(counted) - self.value) <= self.tolerance * scale


def _slope(loss: Callable[[Any, Any], Tensor], scored: Scored) -> tuple[float, list[Tensor]]:
    """The loss and its derivatives by the tensors of the outputs."""
    with torch.enable_grad():
        own = mapped(lambda t: t.detach().clone().requires_grad_(_is_number(t)), scored.outputs)
        value = scalar(loss(mapped(torch.clone, own), duplicate(scored.targets)))
    wanted = _real(own)
    if not value.requires_grad:
        return float(value.detach()), [torch.zeros_like(tensor) for tensor in wanted]
    found = torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True)
    return float(value.detach()), list(found)


def _real(tree: Any) -> list[Tensor]:
    return [tensor for tensor in tensors(tree) if _is_number(tensor)]


def _is_number(tensor: Tensor) -> bool:
    """Not a label."""
    return tensor.is_floating_point() or tensor.is_complex()


def _exchanged(values: Iterator[Tensor], leaf: Any) -> Any:
    """The next value in place of a number; labels stay."""
    return next(values) if _is_number(leaf) else leaf


def _pieces(tensor: Tensor, parts: Sequence[Scored], index: int, dim: int) -> tuple[Tensor, ...]:
    """A tensor of the whole in pieces as long as the tensor of the same place in each part."""
    return tensor.split([_real(part.outputs)[index].shape[dim] for part in parts], dim)


def _flat(slopes: Sequence[Tensor]) -> Tensor:
    return torch.cat([(torch.view_as_real(s) if s.is_complex() else s).double().flatten() for s in slopes])


def _moved_apart(whole: Scored, parts: Sequence[Scored], dim: int, which: set[int]) -> tuple[Scored, list[Scored]]:
    """Other outputs for the same targets in some parts: each example's mixed with another one's of the whole.

    Mixing keeps probabilities such; noise is added where all examples have the same outputs.
    """
    stream = generator(0, "mixed", *sorted(which))

    def mix(tensor: Tensor) -> Tensor:
        if not _is_number(tensor):
            return tensor
        order = torch.randperm(tensor.shape[dim], generator=stream).to(tensor.device)
        mixed = torch.lerp(tensor, tensor.index_select(dim, order), MIXED)
        if float((mixed - tensor).abs().max()) > EQUAL[torch.float32] * float(tensor.abs().max()):
            return mixed
        noise = torch.rand(tensor.shape, generator=stream).to(tensor)
        return tensor + MIXED * noise * tensor.abs().max().clamp(min=MIXED)

    mixed = mapped(mix, whole.outputs)
    pieces = [_pieces(tensor, parts, i, dim) for i, tensor in enumerate(_real(mixed))]
    moved = []
    for index, part in enumerate(parts):
        own = mapped(partial(_exchanged, iter([piece[index] for piece in pieces])), part.outputs)
        moved.append(Scored(own, part.targets) if index in which else part)
    return Scored(joined([part.outputs for part in moved], dim), whole.targets), moved
