"""What a caller gives, as tensors to compute with; what cannot be taken is refused in one line."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurespeed.errors import UserError

EXACT = torch.float64


class TaylorError(UserError, ValueError):
    """What cannot be measured; one line that names what is wrong and what is allowed."""


def described(error: Exception) -> str:
    """Kind and first line of an exception."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def shown(value: Any) -> str:
    """A value in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def dtype_name(tensor: Tensor) -> str:
    """``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def tensor_of(name: str, given: Any) -> Tensor:
    """A dense tensor without a graph, of a tensor, an array or nested lists of numbers.

    The memory is the caller's where it can be.

    Args:
        name: of the argument, for the message.
        given: any object.

    Raises:
        TaylorError: no numbers can be got from it.
    """
    if not isinstance(given, Tensor):
        return _of_array(name, given)
    if given.is_meta:
        raise TaylorError(f"{name}: on the meta device, where tensors hold no numbers; allowed: any other device")
    if given.is_quantized or given.is_nested:
        raise TaylorError(f"{name}: a quantized or nested tensor, allowed: an ordinary one")
    return given.detach() if given.layout == torch.strided else given.detach().to_dense()


def _of_array(name: str, given: Any) -> Tensor:
    if not (hasattr(given, "__array__") or isinstance(given, (list, tuple))):
        raise TaylorError(f"{name}: {type(given).__name__}, allowed: a tensor, an array, or nested lists of numbers")
    if np.ma.is_masked(given):
        raise TaylorError(f"{name}: an array with masked entries, allowed: numbers in all of them")
    try:
        array = np.asarray(given)
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()  # torch takes neither
        return torch.from_numpy(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaylorError(
            f"{name}: {type(given).__name__} that is no array of numbers ({described(error)}), allowed: a tensor,"
            " an array, or nested lists of numbers"
        ) from error


def pair_of(batch: Any) -> tuple[Any, Any]:
    """``inputs, targets`` from one pair in the place of the inputs."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and hasattr(batch[0], "__array__"):
        return batch[0], batch[1]
    raise TaylorError(
        f"inputs: {type(batch).__name__} without targets, allowed: inputs and targets, or one pair (inputs, targets) of"
        " tensors in their place"
    )


def inputs_of_layers(inputs: Any, matrices: Sequence[Tensor]) -> Tensor:
    """``[E, n, m_0]``, float64, on the device of the weights ``[E, m_k, m_{k-1}]``."""
    found = tensor_of("inputs", inputs)
    members, _, wanted = matrices[0].shape
    shape = list(found.shape)
    if found.is_complex():
        raise TaylorError(f"inputs: {dtype_name(found)}, allowed: real numbers")
    if len(shape) >= 2 and math.prod(shape[1:]) == wanted:
        rows = found.flatten(1)[None]
    elif len(shape) >= 3 and shape[0] in (1, members) and math.prod(shape[2:]) == wanted:
        rows = found.flatten(2)
    else:
        own = f" or [{members}, n, {wanted}]" if members > 1 else ""
        raise TaylorError(f"inputs: of shape {shape}, allowed: [n, {wanted}]{own}, as layer 1 takes {wanted} inputs")
    if not rows.shape[1]:
        raise TaylorError("inputs: an empty batch, at least one row is needed")
    rows = rows.to(matrices[0])
    if not torch.isfinite(rows).all():
        raise TaylorError("inputs: NaN or infinite, finite numbers are needed")
    return rows.expand(members, -1, -1)


def targets_of_loss(targets: Any, x: Tensor, matrices: Sequence[Tensor], loss: str) -> Tensor:
    """Classes ``[1 or E, n]``, or numbers ``[1 or E, n, m_l]``."""
    found = tensor_of("targets", targets)
    members, examples, outputs = len(x), x.shape[1], matrices[-1].shape[1]
    if found.is_floating_point() and loss == "mse":
        shape = (examples, outputs)
    elif found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TaylorError(f"targets: {dtype_name(found)}, allowed for {loss}: classes, int64")
    elif loss == "mse" and outputs == 1:
        raise TaylorError(
            f"targets: {dtype_name(found)} for one output, allowed: numbers [{examples}, 1], floating point"
        )
    else:
        shape = (examples,)
    given = found[None] if found.shape == shape else found
    if tuple(given.shape[1:]) != shape or len(given) not in (1, members):
        own = f" or {[members, *shape]}" if members > 1 else ""
        raise TaylorError(f"targets: of shape {list(found.shape)}, allowed: {list(shape)}{own}")
    if given.is_floating_point():
        if not torch.isfinite(given).all():
            raise TaylorError("targets: NaN or infinite, finite numbers are needed")
        return given.to(x)
    given = given.to(x.device, torch.int64)
    if given.min() < 0 or given.max() >= outputs:
        raise TaylorError(f"targets: classes {int(given.min())} to {int(given.max())}, allowed: 0 to {outputs - 1}")
    return given


def copies_of(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Copies of all tensors and arrays in nested tuples, lists and dictionaries; everything else as it is.

    Args:
        value: such as the targets of a loss.
        device: of the copies.
        dtype: of those of real numbers; None leaves it.
    """
    if isinstance(value, np.ndarray):
        value = tensor_of("targets", value)
    if isinstance(value, Tensor):
        return value.detach().to(device, dtype if value.is_floating_point() else None, copy=True)
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update({key: copies_of(part, device, dtype) for key, part in value.items()})
        return copied
    if isinstance(value, (tuple, list)):
        parts = [copies_of(part, device, dtype) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def share_memory(one: Tensor, other: Tensor) -> bool:
    """Whether some number belongs to both; parts of one storage that do not overlap share nothing."""
    (low, high), (other_low, other_high) = _span(one), _span(other)
    if one.device != other.device or not max(low, other_low) < min(high, other_high):
        return False
    if one.dtype != other.dtype or (one.is_contiguous() and other.is_contiguous()):
        return True
    return bool(torch.isin(_places(one), _places(other)).any())


def _span(tensor: Tensor) -> tuple[int, int]:
    """First byte, and the one after the last; (0, 0) without numbers."""
    if not tensor.numel():
        return 0, 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def _places(tensor: Tensor) -> Tensor:
    """Addresses of all numbers."""
    places = torch.full((1,), tensor.data_ptr(), dtype=torch.int64)
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        steps = torch.arange(size, dtype=torch.int64) * (stride * tensor.element_size())
        places = (places[:, None] + steps).flatten()
    return places
