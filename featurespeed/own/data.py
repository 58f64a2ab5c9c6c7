"""Training data as people have it, as one stream of batches a seed: the same for all sizes and learning rates.

Common random numbers make learning rates comparable with few seeds: what differs between two runs of a seed is the
learning rate alone, not the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from featurespeed.measuring.arguments import whole_number
from featurespeed.measuring.errors import MeasurementError, first_line, kind_of
from featurespeed.measuring.trees import mapped, tensors
from featurespeed.own.seeds import seed_everything
from featurespeed.randomness import generator

DATA = (
    "allowed: a pair of tensors (inputs, targets) with batch_size, a list of batches, a DataLoader, or a function"
    " seed -> iterable of batches"
)


class Source(Protocol):
    """Where the batches of training come from.

    Attributes:
        several: whether streams of several seeds may be open at a time.
        whole: all data, where they are at hand; None for what is made or loaded on the way.
    """

    several: bool

    @property
    def whole(self) -> Any: ...

    def stream(self, seed: int, start: int = 0) -> Iterator[Any]:
        """The batches of a seed from step ``start`` on, without end."""
        ...


class Examples:
    """Tensors with one entry an example, shuffled anew in every epoch; what does not fill a batch waits for the next.

    Args:
        tree: inputs and targets, tensors (or containers of such) of one length.
        batch_size: examples a batch; None takes all of them at every step, in their order.
    """

    several = True

    def __init__(self, tree: Any, batch_size: int | None):
        lengths = {tensor.shape[0] if tensor.ndim else 0 for tensor in tensors(tree)}
        if len(lengths) != 1 or 0 in lengths:
            raise MeasurementError(
                f"data: tensors of {sorted(lengths)} entries, allowed: as many targets as inputs, at least 1"
            )
        self._tree, self._count = tree, lengths.pop()
        self._size = None if batch_size is None else whole_number("batch_size", batch_size, 1)
        if self._size is not None and self._size > self._count:
            raise MeasurementError(f"batch_size: {self._size}, allowed: 1 to {self._count}, the number of examples")

    @property
    def whole(self) -> Any:
        return self._tree

    def stream(self, seed: int, start: int = 0) -> Iterator[Any]:
        if self._size is None:
            while True:
                yield self._tree
        each = self._count // self._size
        epoch, first = divmod(start, each)
        while True:
            order = torch.randperm(self._count, generator=generator(seed, "epoch", epoch))
            for place in range(first, each):
                yield self._some(order[place * self._size : (place + 1) * self._size])
            epoch, first = epoch + 1, 0

    def _some(self, chosen: Tensor) -> Any:
        return mapped(lambda leaf: leaf[chosen.to(leaf.device)] if isinstance(leaf, Tensor) else leaf, self._tree)


class Listed:
    """Batches of a list, in another order in every epoch of every seed."""

    several = True

    def __init__(self, batches: Sequence[Any]):
        if not batches:
            raise MeasurementError(f"data: an empty list, {DATA}")
        self._batches = list(batches)

    @property
    def whole(self) -> Any:
        return self._batches

    def stream(self, seed: int, start: int = 0) -> Iterator[Any]:
        epoch, first = divmod(start, len(self._batches))
        while True:
            order = torch.randperm(len(self._batches), generator=generator(seed, "epoch", epoch)).tolist()
            for place in order[first:]:
                yield self._batches[place]
            epoch, first = epoch + 1, 0


class Repeated:
    """What can be iterated again and again, such as a DataLoader; its random numbers are those of the seed and step."""

    several = False  # one loader may have one iterator at a time (persistent workers)

    def __init__(self, made: Callable[[int], Iterable[Any]], owner: Any = None):
        self._made, self._owner = made, owner

    @property
    def whole(self) -> None:
        return None

    def stream(self, seed: int, start: int = 0) -> Iterator[Any]:
        step = epoch = 0
        if getattr(self._owner, "persistent_workers", False):
            self._owner._iterator = None  # workers that go on would draw other numbers than new ones
        while True:
            before = step
            seed_everything(seed, "epoch", epoch)
            self._seed_generators(epoch, seed)
            batches = self._iterator(seed)
            while True:
                seed_everything(seed, "batch", step)
                try:
                    batch = next(batches)
                except StopIteration:
                    break
                except Exception as error:
                    raise MeasurementError(f"data: batch {step} of seed {seed} raised {first_line(error)}") from error
                if step >= start:  # those before have been trained on
                    yield batch
                step += 1
            if step == before:
                raise MeasurementError(f"data: no batch for seed {seed}, allowed: at least one")
            epoch += 1

    def _iterator(self, seed: int) -> Iterator[Any]:
        try:
            return iter(self._made(seed))
        except Exception as error:
            raise MeasurementError(f"data: for seed {seed} it raised {first_line(error)}, {DATA}") from error

    def _seed_generators(self, epoch: int, seed: int) -> None:
        for own in self.generators():
            own.set_state(generator(seed, "loader", epoch).get_state())

    def generators(self) -> list[torch.Generator]:
        """Generators that a loader and its samplers hold."""
        batch_sampler = getattr(self._owner, "batch_sampler", None)
        holders = (self._owner, getattr(self._owner, "sampler", None), batch_sampler,
                   getattr(batch_sampler, "sampler", None))  # fmt: skip
        held = [getattr(holder, "generator", None) for holder in holders]
        return list({id(own): own for own in held if isinstance(own, torch.Generator)}.values())


class FromSeeds(Repeated):
    """A function of the user, ``seed -> iterable of batches``; it is called again when the batches have run out."""

    several = True


@contextmanager
def generators_kept(source: Source) -> Iterator[None]:
    """While inside, generators that a loader holds are started anew; afterwards they go on as before."""
    kept = [(own, own.get_state()) for own in (source.generators() if isinstance(source, Repeated) else [])]
    try:
        yield
    finally:
        for own, state in kept:
            own.set_state(state)


def source_of(data: Any, batch_size: int | None = None) -> Source:
    """The stream of batches that some data stand for.

    Args:
        data: a pair of tensors ``(inputs, targets)`` or a mapping of tensors with one entry an example, a list of
            batches, a DataLoader or another object that can be iterated again and again, or a function
            ``seed -> iterable of batches``.
        batch_size: examples a batch, with tensors only; None takes all of them at every step.

    Raises:
        MeasurementError: of another kind, or empty.
    """
    if _is_examples(data):
        return Examples(data, batch_size)
    if batch_size is not None:
        raise MeasurementError(f"batch_size: {batch_size} with {kind_of(data)} as data, allowed: with tensors alone")
    if isinstance(data, list):
        return Listed(data)
    if isinstance(data, torch.utils.data.Dataset) and not isinstance(data, torch.utils.data.IterableDataset):
        raise MeasurementError(f"data: the data set {type(data).__name__}, allowed: DataLoader(data, batch_size=...)")
    if isinstance(data, Iterator):
        raise MeasurementError(
            f"data: {kind_of(data)} yields its batches once, allowed: a function seed -> iterable of batches"
        )
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, Tensor, tuple, type)):
        return Repeated(lambda _: data, data)
    if callable(data) and not isinstance(data, (type, torch.nn.Module)):
        return FromSeeds(data)
    raise MeasurementError(f"data: {kind_of(data)}, {DATA}")


def _is_examples(data: Any) -> bool:
    """Whether data are tensors with an entry an example, and not batches."""
    if isinstance(data, Mapping):
        return bool(tensors(data))
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    if isinstance(data, list):  # two batches are a list of containers
        return pair and all(isinstance(entry, Tensor) for entry in data)
    return pair and all(tensors(entry) for entry in data)
