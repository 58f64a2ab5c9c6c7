"""Inputs, targets and outputs as people have them: tensors inside tuples, lists and mappings of any kind.

What is neither (numbers, names, graphs of another library) is a leaf of its own, which can be copied and moved if it
knows how to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def leaves(tree: Any) -> Iterator[Any]:
    """Everything in a tree that is no container, in order."""
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor)]


def mapped(function: Callable[[Any], Any], tree: Any, *others: Any) -> Any:
    """The tree with ``function`` of each leaf in its place, and of the leaves of others of the same form."""
    if isinstance(tree, Mapping):
        return _like(tree, {key: mapped(function, value, *(o[key] for o in others)) for key, value in tree.items()})
    if isinstance(tree, (tuple, list)):
        values = [mapped(function, *entries) for entries in zip(tree, *others, strict=True)]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return function(tree, *others)


def _like(mapping: Mapping, values: dict) -> Any:
    """A mapping of the same type, so that a model gets the type that it knows; a plain dict if that cannot be made."""
    try:
        made: Any = type(mapping)(values)  # type: ignore[call-arg]
    except TypeError:
        return values
    return made if list(made) == list(values) else values


def duplicate(tree: Any) -> Any:
    """A copy that may be changed in place without the original; tensors made under ``inference_mode`` become plain."""
    return mapped(_duplicate, tree)


def _duplicate(leaf: Any) -> Any:
    if callable(getattr(leaf, "clone", None)):  # a tensor, a graph
        return leaf.clone()
    try:
        return copy.deepcopy(leaf)
    except Exception:  # an open file, say; then it is what it is
        return leaf


def moved(tree: Any, device: torch.device) -> Any:
    """The tree on a device; what is there already is not copied."""

    def move(leaf: Any) -> Any:
        movable = isinstance(leaf, Tensor) or (callable(getattr(leaf, "to", None)) and hasattr(leaf, "clone"))
        return leaf.to(device) if movable else leaf

    return mapped(move, tree)


def same_form(first: Any, second: Any, dim: int = 0) -> bool:
    """Whether two trees have equal containers, and tensors of equal shapes but for the dimension ``dim``."""
    if isinstance(first, Mapping):
        return isinstance(second, Mapping) and list(first) == list(second) and all(
            same_form(first[key], second[key], dim) for key in first
        )  # fmt: skip
    if isinstance(first, (tuple, list)):
        pairs = isinstance(second, type(first)) and len(first) == len(second)
        return pairs and all(same_form(a, b, dim) for a, b in zip(first, second, strict=True))
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and _without(first, dim) == _without(second, dim)
    return type(first) is type(second)


def _without(tensor: Tensor, dim: int) -> tuple[int, ...]:
    """The shape without one of its dimensions."""
    return (*tensor.shape[:dim], -1, *tensor.shape[dim + 1 :])


def joinable(trees: Sequence[Any], dim: int = 0) -> bool:
    """Whether :func:`joined` can be made: tensors only, of one form, with the dimension ``dim``."""
    first = trees[0]
    found = list(leaves(first))
    return (
        bool(found)
        and all(isinstance(leaf, Tensor) and leaf.ndim > dim for leaf in found)
        and all(same_form(first, other, dim) for other in trees[1:])
    )


def joined(trees: Sequence[Any], dim: int = 0) -> Any:
    """Trees of one form with their tensors put together along ``dim``."""
    return mapped(lambda *parts: torch.cat(parts, dim), trees[0], *trees[1:])


def difference(first: Any, second: Any) -> float:
    """Largest difference between two trees of tensors, over the largest entry; infinite where their forms differ.

    Equal infinities and NaN at the same places count as equal.
    """
    a, b = tensors(first), tensors(second)
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        return float("inf")
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        x, y = (t.detach().to(torch.complex128 if t.is_complex() else torch.float64) for t in (x, y))
        apart = torch.where((x == y) | (x.isnan() & y.isnan()), 0, x - y).abs()
        if apart.numel():
            size = torch.where(x.isfinite(), x, 0).abs().max().clamp(min=torch.finfo(torch.float64).tiny)
            worst = max(worst, float((apart / size).nan_to_num(torch.inf).max()))
    return worst
