"""What modules are and hold besides their weights, so that they are the same after a measurement as before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.measuring.trees import tensors

#: Attributes that every module has.
REGISTRIES = frozenset(vars(nn.Module()))


class Containers:
    """Mappings and lists that are attributes of modules, and what they hold now.

    Models keep there what they have computed once, or what the loss is to read after a forward pass.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        self._entries = [
            (value, _entries(value))
            for module in modules
            for name, value in vars(module).items()
            if name not in REGISTRIES and isinstance(value, (dict, list))
        ]

    def restore(self) -> None:
        """Make them hold what they held. What did not change is not touched, so that it may be read-only."""
        for held, entries in self._entries:
            now = _entries(held)
            if len(now) == len(entries) and all(map(_same, now, entries)):
                continue
            held.clear()
            held.update(entries) if isinstance(held, dict) else held.extend(entries)

    def of_tensors(self) -> bool:
        """Whether any of them holds a tensor that is no parameter."""
        found = tensors([entries for _, entries in self._entries])
        return any(not isinstance(tensor, nn.Parameter) for tensor in found)

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """While inside, they begin empty; those of types of their own, which may be read-only, as they are."""
        before = self._entries
        self._entries = [(held, [] if type(held) in (dict, list) else entries) for held, entries in before]
        try:
            self.restore()
            yield
        finally:
            self._entries = before
            self.restore()


def _entries(held: dict | list) -> list[Any]:
    return list(held.items()) if isinstance(held, dict) else list(held)


def _same(one: Any, other: Any) -> bool:
    """Of entries of mappings, keys and values; else the entries themselves."""
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other) == 2:
        return all(a is b for a, b in zip(one, other, strict=True))
    return one is other


class Attributes:
    """What a module's attributes are now, but for those that every module has."""

    def __init__(self, module: nn.Module):
        self._module, self._before = module, dict(vars(module))

    def restore(self, only_tensors: bool = False) -> None:
        """Make them what they were; with ``only_tensors`` those that are tensors, or were."""
        for name, now in list(vars(self._module).items()):
            before = self._before.get(name)
            if name in REGISTRIES or (now is before and name in self._before):
                continue
            if only_tensors and not (isinstance(now, Tensor) or isinstance(before, Tensor)):
                continue
            if name in self._before:
                object.__setattr__(self._module, name, before)
            else:
                object.__delattr__(self._module, name)


class State:
    """What must be as before when a module was looked at: its mode, buffers, attributes that are tensors, containers.

    A hook may compute a weight before each forward pass, or a layer keep its features. Other attributes go on, so that
    counters are seen.
    """

    def __init__(self, module: nn.Module):
        self._module, self._training = module, module.training
        self._buffers = dict(module._buffers.items())
        self._values = {n: b.clone() for n, b in self._buffers.items() if isinstance(b, Tensor)}
        self._attributes = Attributes(module)
        self._containers = Containers([module])

    @torch.no_grad()
    def restore(self) -> None:
        """Make the module what it was."""
        module = self._module
        module.training = self._training
        for name, buffer in self._buffers.items():
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
        for name, value in self._values.items():
            held = self._buffers[name]
            if held is not None and not torch.equal(held, value):
                held.copy_(value)
        self._attributes.restore(only_tensors=True)
        self._containers.restore()
