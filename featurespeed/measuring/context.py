"""What holds while a model is measured, and is as before afterwards: evaluation mode, plain attention, full precision.

Operations without the derivatives that are needed, or with wrong ones, are replaced by the plain ones that they stand
for (:data:`REPLACEMENTS`); the same mode of PyTorch lets a caller watch which parameters are used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from featurespeed.measuring.errors import MeasurementError
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


#: For derivatives along a motion of the weights, which do not stop where derivatives of the loss do.
IN_MOTION = REPLACEMENTS | {
    torch.detach: kept_in_motion,
    torch.Tensor.detach: kept_in_motion,
    torch.Tensor.data.__get__: kept_in_motion,
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
        self._used: set[int] = set()

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        found = self._table.get(function, function)(*args, **kwargs)
        if self._watched:
            self._note(args, kwargs, found)
        return found

    @contextmanager
    def watching(self, parameters: Iterable[Tensor]) -> Iterator[set[int]]:
        """The parameters, by their ids, from which numbers are made inside, as they are used."""
        self._watched, self._used = {id(parameter) for parameter in parameters}, set()
        try:
            yield self._used
        finally:
            self._watched = set()

    def _note(self, args: tuple, kwargs: dict, found: Any) -> None:
        used = {id(tensor) for tensor in tensors((args, kwargs))} & self._watched
        if used and any(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors(found)):
            self._used |= used


@contextmanager
def evaluation(model: nn.Module | Iterable[nn.Module]) -> Iterator[None]:
    """Everything that must hold from the first forward pass to the last derivative.

    Evaluation mode (no dropout, batch normalisation as an affine map); attention by its plain formula, because fused
    kernels lack the derivatives; gradients on, inference mode and autocast off; compiled modules run as they were
    written. Modes of all modules and values of all buffers are as before afterwards.
    """
    whole = [model] if isinstance(model, nn.Module) else list(model)
    modules = list({id(part): part for each in whole for part in each.modules()}.values())
    modes = [(module, module.training) for module in modules]
    kept = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)]
    attributes = [(module, _tensor_attributes(module)) for module in modules]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        for device in devices_of(modules):
            stack.enter_context(torch.autocast(device, enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing is compiled otherwise, and the import takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, training in modes:
                module.training = training
            _restore(kept, attributes)


def devices_of(modules: Iterable[nn.Module]) -> set[str]:
    """Types of the devices on which something may be computed."""
    held = (
        tensor for module in modules for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    )
    return {"cpu", *(tensor.device.type for tensor in held)}


def _tensor_attributes(module: nn.Module) -> dict[str, Tensor]:
    """Tensors that are plain attributes, such as the weight that a hook computes before each forward pass."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}


def _restore(kept: list[tuple[Tensor, Tensor]], attributes: list[tuple[nn.Module, dict[str, Tensor]]]) -> None:
    with torch.no_grad():
        for buffer, value in kept:
            if not torch.equal(buffer, value):
                buffer.copy_(value)
    for module, values in attributes:
        for name, value in values.items():
            if vars(module).get(name) is not value:
                object.__setattr__(module, name, value)


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
