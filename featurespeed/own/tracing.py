"""A module watched from outside: every call of every part of it, with weights of which each use is a leaf of its own.

Hooks see the calls. At each of them the parameters of the module are replaced by new leaves, so that the gradient of a
weight that is used at several places is known place by place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from featurespeed.measuring.context import REPLACEMENTS, Replacing
from featurespeed.measuring.exchange import exchanged, read_weights_anew
from featurespeed.measuring.trees import leaves
from featurespeed.own.graph import Edge, edge_of
from featurespeed.probes.chain import like

ROOT = "output"  # the name of the model itself among its parts


@dataclass(frozen=True, eq=False)
class Place:
    """A parameter at one place of its use.

    Attributes:
        name: as ``model.named_parameters()`` has it there; tied weights have several names.
        parameter: the model's own tensor.
        leaf: what stood in its place, by which is differentiated.
    """

    name: str
    parameter: Tensor
    leaf: Tensor


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """One call of a part of a model that returned numbers.

    Attributes:
        name: of the module, such as ``h.0``; of its second call ``h.0#2``.
        module: the part.
        args, kwargs: what it was called with.
        places: the parameters that are its own, at this call.
        output: the first tensor of numbers that it returned, detached.
        edge: of that tensor in the graph; None where it depends on no parameter.
        version: of the tensor at that time.
    """

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    places: tuple[Place, ...]
    output: Tensor
    edge: Edge | None
    version: int

    @property
    def unchanged(self) -> bool:
        """Whether nothing has worked in place on the output since."""
        return bool(self.output._version == self.version)


def first_numbers(found: Any) -> Tensor | None:
    """The first tensor of real or complex numbers in what a module returns."""
    return next((leaf for leaf in leaves(found) if isinstance(leaf, Tensor) and is_number(leaf)), None)


def is_number(tensor: Tensor) -> bool:
    """No label."""
    return tensor.is_floating_point() or tensor.is_complex()


def part_of(model: nn.Module, name: str) -> nn.Module:
    """The part of a model that a name stands for, the model itself among them."""
    return model if name == ROOT else model.get_submodule(name)


class Tracing:
    """Hooks on all modules of a model.

    Attributes:
        calls: those that returned numbers, in the order in which they ended.
        places: every use of a parameter, those by another module than its own included.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.names = {module: name or ROOT for name, module in model.named_modules()}
        self.calls: list[ModuleCall] = []
        self.places: list[Place] = []
        self._own = {
            module: {name: p for name, p in module._parameters.items() if p is not None and is_number(p)}
            for module in self.names
        }
        self._between: dict[int, Tensor] = {}
        self._called: Counter[nn.Module] = Counter()
        self._open: list[tuple[Place, ...]] = []

    @contextmanager
    def differentiating(self) -> Iterator[None]:
        """While inside, calls are recorded, and every parameter of numbers is a leaf, anew at each of its places."""
        for name, parameter in self.model.named_parameters():
            if is_number(parameter):
                self._between[id(parameter)] = _leaf(parameter)
                self.places.append(Place(name, parameter, self._between[id(parameter)]))
        with (
            exchanged(self.model, self._between),
            Replacing(REPLACEMENTS),
            hooked(self.names, self._before, self._after),
        ):
            yield

    def layers(self) -> list[ModuleCall]:
        """Calls of modules that own parameters which move, and that called no other module: layers, not blocks."""
        blocks = self.blocks()
        return [
            call
            for call in self.calls
            if call.edge is not None
            and any(place.parameter.requires_grad for place in call.places)
            and call.module not in blocks
        ]

    def blocks(self) -> set[nn.Module]:
        """Modules that called others."""
        called = {self.names[call.module] for call in self.calls}
        above = {name.rsplit(".", k)[0] for name in called for k in range(1, name.count(".") + 1)}
        if called != {ROOT}:
            above.add(ROOT)
        return {module for module, name in self.names.items() if name in above}

    def _before(self, module: nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        prefix = "" if self.names[module] == ROOT else f"{self.names[module]}."
        places = tuple(Place(prefix + name, p, _leaf(p)) for name, p in self._own[module].items())
        for name, place in zip(self._own[module], places, strict=True):
            module._parameters[name] = place.leaf  # type: ignore[assignment]
        read_weights_anew(module)
        self.places.extend(places)
        self._open.append(places)

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> None:
        places = self._open.pop()
        for name, parameter in self._own[module].items():  # as others that read it have it
            module._parameters[name] = self._between[id(parameter)]  # type: ignore[assignment]
        output = first_numbers(found)
        if output is None:
            return
        self._called[module] += 1
        count = self._called[module]
        name = self.names[module] if count == 1 else f"{self.names[module]}#{count}"
        call = ModuleCall(name, module, args, kwargs, places, output.detach(), edge_of(output), output._version)
        self.calls.append(call)


@contextmanager
def hooked(modules: Mapping[nn.Module, str], before: Callable[..., None], after: Callable[..., None]) -> Iterator[None]:
    """Functions that are called before and after every call of some modules, with their arguments."""
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        yield


def _leaf(parameter: Tensor) -> Tensor:
    return like(parameter, parameter.detach().requires_grad_())
