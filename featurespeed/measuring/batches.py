"""The form in which every measuring function takes data.

One batch is a pair ``(inputs, targets)``, or a mapping, which is its own targets: the model gets its entries as keyword
arguments, the loss gets all of it. Inputs and targets may be tensors, tuples, lists and mappings of tensors, or objects
of another library; targets may be None. Several batches are a list of such, or what yields them once: a DataLoader, a
generator. A function that takes the model and the batch itself, ``loss(model, batch)``, may have batches of any kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from featurespeed.measuring.errors import MeasurementError, kind_of
from featurespeed.measuring.trees import leaves, mapped, moved, tensors

ALLOWED = "allowed: (inputs, targets), or a list of such pairs, a mapping, a DataLoader"


@dataclass(frozen=True, eq=False)
class Part:
    """Some examples: what the model gets, what the loss gets beside its outputs, and the batch as it was given."""

    inputs: Any
    targets: Any
    whole: Any


def parts_of(batch: Any, device: torch.device | None, takes_batch: bool = False) -> list[Part]:
    """The batches that were given, on the model's device.

    Args:
        batch: as in the docstring of this module.
        device: where tensors are moved to; None leaves them where they are.
        takes_batch: the loss is a function of the model and the batch, which may then be of any kind.

    Raises:
        MeasurementError: of another form, or without an example.
    """
    parts = [_part(entry, device, takes_batch) for entry in _several(batch, takes_batch)]
    if not parts or any(examples(part) == 0 for part in parts):
        raise MeasurementError(f"batch: {sum(examples(part) for part in parts)} examples, at least 1 is needed")
    return parts


def examples(part: Part, dim: int = 0) -> int:
    """How many examples a loss averages over: the length of the targets, or of the inputs where these have none."""
    for tree in (part.targets, part.inputs):
        for tensor in tensors(tree):
            if tensor.ndim > dim:
                return tensor.shape[dim]
        if any(isinstance(leaf, (Tensor, int, float)) for leaf in leaves(tree)):
            return 1  # a label alone
    return 1


def countable(part: Part) -> bool:
    """Whether a part says how many examples it holds: it has tensors or labels."""
    return any(isinstance(leaf, (Tensor, int, float)) for tree in (part.targets, part.inputs) for leaf in leaves(tree))


def _several(batch: Any, takes_batch: bool) -> Iterator[Any]:
    """The batches in what may be one or several of them.

    A tuple is one, so that it may hold several inputs and several targets; a list is one if it holds a pair of
    tensors, as loaders make it.
    """
    if isinstance(batch, torch.utils.data.Dataset) and not isinstance(batch, torch.utils.data.IterableDataset):
        raise MeasurementError(
            f"batch: the data set {type(batch).__name__}, {ALLOWED}, such as DataLoader(data, batch_size=...)"
        )
    if isinstance(batch, (tuple, Mapping, Tensor, str)) or batch is None:
        return iter([batch])
    if isinstance(batch, list):
        several = not batch or all(isinstance(entry, (tuple, list, Mapping)) for entry in batch) or len(batch) != 2
        return iter(batch if several else [batch])
    yields_batches = isinstance(batch, (torch.utils.data.DataLoader, Iterator)) or (
        isinstance(batch, Iterable) and not takes_batch
    )
    return iter(batch) if yields_batches else iter([batch])


def _part(entry: Any, device: torch.device | None, takes_batch: bool) -> Part:
    def ours(tree: Any) -> Any:
        found = tree if device is None else moved(tree, device)
        inference = any(tensor.is_inference() for tensor in tensors(found))
        return mapped(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, found) if inference else found

    if isinstance(entry, Mapping):
        inputs = ours(entry)
        return Part(inputs, inputs, inputs)
    if isinstance(entry, (tuple, list)) and len(entry) == 2 and not isinstance(entry[0], str):
        inputs, targets = ours(entry[0]), ours(entry[1])
        return Part(inputs, targets, (inputs, targets))
    if takes_batch:
        whole = ours(entry)
        return Part(whole, whole, whole)
    raise MeasurementError(f"batch: {_shown(entry)}, {ALLOWED}")


def _shown(entry: Any) -> str:
    if isinstance(entry, (tuple, list)):
        return f"{type(entry).__name__} of {len(entry)}"
    return type(entry).__name__ if isinstance(entry, Tensor) or not callable(entry) else f"{kind_of(entry)}"


# --- micro-batches ----------------------------------------------------------------------------------------------------


def cut(part: Part, size: int, dim: int = 0) -> list[Part]:
    """A batch in pieces of ``size`` examples along ``dim``; targets may have several entries an example, in order.

    Raises:
        MeasurementError: inputs that are no tensors, or targets that do not belong to so many examples.
    """
    held = tensors(part.inputs)
    if not held or len(held) != len([leaf for leaf in leaves(part.inputs) if leaf is not None]):
        raise MeasurementError(
            f"micro_batch = {size}: inputs are {kind_of(part.inputs)}, allowed: tensors; or give a list of batches"
        )
    count = next((tensor.shape[dim] for tensor in held if tensor.ndim > dim), 1)
    if count <= size:
        return [part]
    pieces = []
    labelled = part.targets is part.inputs
    for start in range(0, count, size):
        own = partial(_piece, start=start, size=size, count=count, dim=dim)
        inputs = mapped(partial(own, name="inputs", labelled=labelled), part.inputs)
        if labelled:
            pieces.append(Part(inputs, inputs, inputs))
            continue
        targets = mapped(partial(own, name="targets"), part.targets)
        pieces.append(Part(inputs, targets, (inputs, targets)))
    return pieces


def _piece(leaf: Any, start: int, size: int, count: int, dim: int, name: str, labelled: bool = False) -> Any:
    """Entries of some of ``count`` examples; what has no examples (a mask of positions, a number) goes to all.

    ``labelled``: among the inputs are the targets, which may have several entries an example.
    """
    if not isinstance(leaf, Tensor) or leaf.ndim <= dim:
        return leaf
    each, rest = divmod(leaf.shape[dim], count)
    if name == "inputs" and leaf.shape[dim] != count and (rest or each < 2 or not labelled):
        return leaf
    if rest or not each:
        raise MeasurementError(
            f"micro_batch = {size}: {leaf.shape[dim]} targets for {count} examples, allowed: as many for each example"
        )
    stop = min(start + size, count)
    return leaf.narrow(dim, start * each, (stop - start) * each)
