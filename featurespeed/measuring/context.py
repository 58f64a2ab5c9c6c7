"""What holds while a model is measured, and is as before afterwards: evaluation mode, plain attention, full precision.

Operations without the derivatives that are needed, or with wrong ones, are replaced by the plain ones that they stand
for (:data:`REPLACEMENTS`); the same mode of PyTorch lets a caller watch which parameters are used.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import BackwardCFunction
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from featurespeed.measuring.errors import MeasurementError
from featurespeed.measuring.state import Attributes, State
from featurespeed.measuring.trees import tensors


def plain_weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """``g v / |v|``, norms over all dimensions but ``dim``; the second derivative of PyTorch's own is wrong (2.13)."""
    others = [d for d in range(v.ndim) if d != dim % v.ndim] if dim != -1 else list(range(v.ndim))
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=True)) if others else v * (g / v.abs())


def plain_hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(x + 3, 0), 6) / 6``, of which PyTorch's own has no second derivative."""
    return nn.functional.relu6(x + 3) / 6


def dense_embedding(*args: Any, **kwargs: Any) -> Tensor:
    """An embedding whose gradient is a plain tensor, not a sparse one."""
    names = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.get("max_norm") is not None:
        raise MeasurementError(
            "model: an embedding with max_norm changes its weights in forward, allowed: max_norm=None"
        )
    return nn.functional.embedding(**given | {"sparse": False})


REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch._weight_norm: plain_weight_norm,
    torch.nn.functional.hardsigmoid: plain_hardsigmoid,
    torch._C._nn.hardsigmoid: plain_hardsigmoid,
    torch.nn.functional.embedding: dense_embedding,
}


def kept_in_motion(tensor: Tensor) -> Tensor:
    """In place of ``detach``: what does not learn moves all the same when the weights do."""
    return tensor.view_as(tensor)


#: Methods of tensors that return numbers.
OUT_OF_TENSORS = ("item", "tolist", "numpy", "__array__", "__float__", "__complex__")


def standing_still(name: str) -> Callable[..., Any]:
    """In place of a method that takes numbers out of PyTorch, which would lose the motion of a tensor."""
    method = getattr(torch.Tensor, name)

    def of_what_stands(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        moving = [t for t in tensors((tensor, args)) if forward_ad.unpack_dual(t).tangent is not None]
        if moving:
            raise MeasurementError(f"layers: {name}() of what moves with the weights, allowed: operations on tensors")
        return method(tensor, *args, **kwargs)

    return of_what_stands


#: For derivatives along a motion of the weights, which do not stop where derivatives of the loss do.
IN_MOTION = REPLACEMENTS | {
    torch.detach: kept_in_motion,
    torch.Tensor.detach: kept_in_motion,
    torch.Tensor.detach_: lambda tensor: tensor,
    torch.Tensor.data.__get__: kept_in_motion,  # type: ignore[attr-defined]
    **{getattr(torch.Tensor, name): standing_still(name) for name in (*OUT_OF_TENSORS, "new_tensor")},
}


class Replacing(TorchFunctionMode):
    """While active, calls of some functions become calls of others; a graph built inside stays as it is.

    Args:
        table: function -> the one in its place, which is called with this mode switched off.
    """

    def __init__(self, table: Mapping[Callable[..., Any], Callable[..., Any]]):
        super().__init__()
        self._table = table
        self._watched: set[int] = set()
        self._cut_off: set[int] = set()
        self.hooked = False  # whether a gradient hook was set on a tensor

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = [tensor for tensor in tensors((args, kwargs)) if tensor.requires_grad] if self._watched else []
        self.hooked |= function is torch.Tensor.register_hook
        behind = reached_from(given) & self._watched if given and function is torch.Tensor.detach_ else set()
        found = self._table.get(function, function)(*args, **kwargs)
        self._cut_off |= behind
        if given:
            self._note(function, given, found)
        return found

    @contextmanager
    def watching(self, parameters: Iterable[Tensor]) -> Iterator[set[int]]:
        """The parameters, by their ids, from which numbers are made inside that derivatives do not follow."""
        self._watched, self._cut_off = {id(parameter) for parameter in parameters}, set()
        try:
            yield self._cut_off
        finally:
            self._watched = set()

    def _note(self, function: Any, given: list[Tensor], found: Any) -> None:
        made = [tensor for tensor in tensors(found) if tensor.is_floating_point() or tensor.is_complex()]
        left = not made and getattr(function, "__name__", "") in OUT_OF_TENSORS
        if left or (made and not any(tensor.requires_grad for tensor in made)):
            self._cut_off |= reached_from(given) & self._watched


def reached_from(found: Iterable[Tensor]) -> set[int]:
    """The leaves, by their ids, that stand behind some tensors in the graph."""
    found = list(found)
    leaves = {id(tensor) for tensor in found if tensor.grad_fn is None and tensor.requires_grad}
    variables = (getattr(node, "variable", None) for node in nodes_behind(found))
    return leaves | {id(variable) for variable in variables if variable is not None}


def nodes_behind(found: Iterable[Tensor]) -> set[Any]:
    """All nodes of the graph that stand behind some tensors."""
    waiting = [tensor.grad_fn for tensor in found if tensor.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        for following, _ in waiting.pop().next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return seen


def foreign(found: Iterable[Tensor]) -> set[str]:
    """Names of operations behind some tensors that are neither PyTorch's nor ours: ``autograd.Function``, or C++."""
    return {_name(type(node)) for node in nodes_behind(found)} - {""}


def _name(node: type) -> str:
    if not issubclass(node, BackwardCFunction):
        return "an operation in C++" if node.__name__ == "CppFunction" else ""
    made_by = getattr(node, "_forward_cls", node)
    own = made_by.__module__.partition(".")[0] == __name__.partition(".")[0]
    return "" if own else made_by.__name__


@contextmanager
def parametrizations_computed() -> Iterator[None]:
    """Parametrized weights are computed when they are used, also inside of ``parametrize.cached()``."""
    enabled, parametrize._cache_enabled = parametrize._cache_enabled, 0
    try:
        yield
    finally:
        parametrize._cache_enabled = enabled


@contextmanager
def undisturbed(*parts: Any) -> Iterator[None]:
    """Around a whole measurement: the caller's random numbers, and attributes of modules, go on as if it had not been.

    Args:
        parts: models, lists of layers and losses; what is no module is left out.
    """
    entries = (entry for part in parts for entry in (part if isinstance(part, (list, tuple)) else [part]))
    modules = [module for entry in entries if isinstance(entry, nn.Module) for module in entry.modules()]
    attributes = [Attributes(module) for module in modules]
    devices = {p.device.index for module in modules for p in module.parameters(recurse=False) if p.is_cuda}
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (those that a caller's code may use)
    try:
        with torch.random.fork_rng(sorted(devices)):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        for kept in attributes:
            kept.restore()


@contextmanager
def evaluation(model: nn.Module | Iterable[nn.Module]) -> Iterator[None]:
    """Everything that must hold from the first forward pass to the last derivative.

    Evaluation mode (no dropout, batch normalisation as an affine map); attention by its plain formula, because fused
    kernels lack the derivatives; gradients on, inference mode and autocast off; compiled modules run as they were
    written. Modes of all modules and values of all buffers are as before afterwards.
    """
    whole = [model] if isinstance(model, nn.Module) else list(model)
    modules = list({id(part): part for each in whole for part in each.modules()}.values())
    states = [State(module) for module in modules]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(parametrizations_computed())
        for device in devices_of(modules):
            stack.enter_context(torch.autocast(device, enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing is compiled otherwise, and the import takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for state in states:
                state.restore()


def devices_of(modules: Iterable[nn.Module]) -> set[str]:
    """Types of the devices on which something may be computed."""
    held = (
        tensor for module in modules for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    )
    return {"cpu", *(tensor.device.type for tensor in held)}


@contextmanager
def ambient_autocast(found: Mapping[str, torch.dtype]) -> Iterator[None]:
    """Automatic mixed precision as the caller had it, for the forward pass alone."""
    with ExitStack() as stack:
        for device, dtype in found.items():
            stack.enter_context(torch.autocast(device, dtype=dtype, cache_enabled=False))
        yield


def autocast_of_caller(devices: Iterable[str]) -> dict[str, torch.dtype]:
    """Device types for which autocast is on here, and its precision."""
    return {d: torch.get_autocast_dtype(d) for d in set(devices) if torch.is_autocast_enabled(d)}
