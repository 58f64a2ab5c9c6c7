"""How far the update of one tensor moves the outputs, and how far weights are aligned with what the outputs feel.

One backward pass from random output directions ``u`` (standard normal, independent over examples) gives, at the output
of every layer, ``d = J^T u``. For an update ``dW`` that changes the layer's own output by ``dh``, the number
``<d, dh> = <u, df>`` of each example has the mean square ``|df|^2`` over directions, where ``df`` is the change of the
example's outputs to first order: its root mean square over examples and outputs is the function-space learning rate of
the tensor (arXiv:2502.17405, Sec. 2). Examples are independent draws of ``u``: ``n`` of them leave a relative error of
about ``1/sqrt(2 n)``.

The same ``d`` give the average gradient outer product of a linear layer, ``G = mean (W^T d)(W^T d)^T``, of which the
alignment is the cosine with ``W^T W`` (arXiv:2402.05271, the uncentred correlation of the neural feature ansatz).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from featurespeed.measuring.exchange import exchanged
from featurespeed.measuring.trees import mapped
from featurespeed.own.tracing import ModuleCall, first_numbers
from featurespeed.probes.chain import in_motion

#: Rows of which the average gradient outer product is taken: a share of all, so that it costs little beside a pass.
FEWEST, SHARE, MOST = 16, 0.125, 128
#: Layers that are linear in their weight and their bias together.
AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)


@dataclass(frozen=True, eq=False)
class Pulled:
    """What the random output directions are at the output of a call: ``J^T u``, and where its examples lie.

    Attributes:
        call: of a layer.
        direction: of the shape of its output.
        dim: along which examples lie; None where it cannot be told, or examples share the output.
    """

    call: ModuleCall
    direction: Tensor
    dim: int | None


def output_directions(outputs: Tensor, examples: int, stream: torch.Generator) -> Tensor:
    """Standard normal directions at the outputs; 0 for the first example, by which examples are found further down."""
    found = torch.randn(outputs.shape, generator=stream, dtype=torch.float32).to(outputs)
    if examples > 1 and outputs.ndim and outputs.shape[0] == examples:
        found[0] = 0
    return found


def example_dim(direction: Tensor, examples: int) -> int | None:
    """The dimension along which examples lie: the first one, whose direction at the outputs was 0, feels nothing."""
    for dim in range(direction.ndim):
        if direction.shape[dim] == examples > 1 and not direction.select(dim, 0).any():
            return dim
    return None


def example_sums(pulled: Pulled, change: Tensor) -> Tensor:
    """``<u, df>`` of every example but the first, ``[n - 1]``, or of all of them together, ``[1]``."""
    product = (pulled.direction * change.conj()).real if change.is_complex() else pulled.direction * change
    product = product.double()
    if pulled.dim is None:
        return product.sum().reshape(1)
    return product.movedim(pulled.dim, 0).flatten(1).sum(1)[1:]


def own_change(call: ModuleCall, name: str, change: Tensor, parameter: Tensor) -> Tensor:
    """How much the output of a layer changes with one of its parameters at fixed inputs, to first order."""
    if is_affine(call.module) and name == "bias":
        shape = [1] * call.output.ndim
        shape[_channels(call)] = -1
        return change.to(call.output).reshape(shape).expand_as(call.output)
    args, kwargs = mapped(_still, call.args), mapped(_still, dict(call.kwargs))
    if not is_affine(call.module):
        return _tangent(call.module, parameter, change, args, kwargs)
    values = {key: torch.zeros_like(held) for key, held in call.module._parameters.items() if held is not None}
    with torch.no_grad():
        return _with_parameters(call.module, values | {name: change.to(parameter)}, args, kwargs)


def _channels(call: ModuleCall) -> int:
    """The dimension of the output along which a bias lies."""
    places = len(call.module.kernel_size) if hasattr(call.module, "kernel_size") else 0  # type: ignore[arg-type]
    return call.output.ndim - 1 - places


def is_seen_apart(call: ModuleCall, parameter: Tensor) -> bool:
    """Whether the change of a layer's output by one of its parameters costs little beside a pass.

    Of a layer that is not linear in its weights each parameter takes a forward pass of it: that is done for gains
    and for a single matrix, and not for the many of a recurrent layer.
    """
    if is_affine(call.module):
        return True
    matrices = [held for held in call.module._parameters.values() if held is not None and held.ndim > 1]
    return not matrices or (len(matrices) == 1 and parameter.ndim > 1)


def is_affine(module: nn.Module) -> bool:
    """Whether a layer is linear in its weight and bias together: its output by a change is that of the change alone."""
    return type(module) in AFFINE or is_transposed_linear(module)


def linear_weight(module: nn.Module) -> Tensor | None:
    """The matrix ``[out, in]`` of a layer that multiplies its input with one; None for others."""
    weight = module._parameters.get("weight")
    if weight is None:
        return None
    if type(module) is nn.Linear:
        return weight
    return weight.T if is_transposed_linear(module) else None


def is_transposed_linear(module: nn.Module) -> bool:
    """The layer of GPT-2 in the package transformers, a linear one with the weight ``[in, out]``."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


def _still(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _with_parameters(
    module: nn.Module, values: Mapping[str, Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tensor:
    """The output of a layer with other parameters of its own, without hooks."""
    before = dict(module._parameters)
    module._parameters.update(values)  # type: ignore[arg-type]
    try:
        found = first_numbers(module.forward(*args, **kwargs))
    finally:
        module._parameters.update(before)
    assert found is not None
    return found


def _tangent(
    module: nn.Module, parameter: Tensor, change: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tensor:
    """The derivative of a layer's output along a change of one parameter, by forward-mode differentiation."""
    values, change = parameter.detach(), change.detach().to(parameter)
    with in_motion([module]):  # where nothing is detached
        moving = forward_ad.make_dual(values, change)
        with exchanged(module, {id(parameter): moving}):
            found = first_numbers(module.forward(*args, **kwargs))
        assert found is not None
        primal, tangent = forward_ad.unpack_dual(found)
        moved = torch.zeros_like(primal) if tangent is None else tangent.clone()
    return moved.detach()


def alignment(weight: Tensor, direction: Tensor, stream: torch.Generator) -> float:
    """Cosine of ``W^T W`` and the average gradient outer product at the input of a linear layer, ``W [out, in]``.

    Args:
        weight: of the layer.
        direction: ``J^T u`` at its output, ``[..., out]``.
        stream: chooses the rows that are taken.
    """
    rows = direction.reshape(-1, direction.shape[-1])
    rows = rows[rows.abs().amax(1) > 0]
    if not len(rows):
        return math.nan
    enough = min(max(FEWEST, int(SHARE * len(rows))), MOST)
    if len(rows) > enough:
        rows = rows[torch.randperm(len(rows), generator=stream)[:enough].to(rows.device)]
    wide = torch.float64 if weight.device.type != "mps" else torch.float32
    weight, rows = weight.detach().to(wide), rows.to(wide)
    gradients = rows @ weight  # [rows, in]
    inner = float((gradients @ weight.T).square().sum()) / len(rows)
    size = _outer_norm(gradients) * _gram_norm(weight)
    return min(inner / size, 1.0) if size > 0 else math.nan


def _outer_norm(rows: Tensor) -> float:
    """Frobenius norm of the mean of ``g g^T`` of which rows ``g`` are a sample: their squares count no pair."""
    total = _gram_norm(rows) ** 2
    if len(rows) < 2:
        return math.sqrt(total)
    own = float(rows.square().sum(1).square().sum())
    return math.sqrt(max(total - own, 0.0) / (len(rows) * (len(rows) - 1)))


def _gram_norm(matrix: Tensor) -> float:
    """Frobenius norm of ``A^T A``, which is that of ``A A^T``."""
    smaller = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return float(torch.linalg.matrix_norm(smaller @ smaller.T))
