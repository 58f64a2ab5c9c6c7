"""2d convolutions whose second derivatives cost what they must: two convolutions for each of the first.

A convolution, its derivative by the input and its derivative by the weight are bilinear, and each is a derivative of
the other two. PyTorch differentiates the second and third by convolutions with kernels as large as an image, one group
after the other; here they call each other. An objective puts :func:`conv2d` in the place of ``torch.conv2d``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_backward = torch.ops.aten.convolution_backward


@dataclass(frozen=True)
class Geometry:
    """Shapes, and stride, padding, dilation and groups, of one convolution."""

    input_shape: torch.Size
    weight_shape: torch.Size
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def output(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def by_input(self, gradient: Tensor, weight: Tensor) -> Tensor:
        x = gradient.new_empty(1).expand(self.input_shape)  # its values are not read
        return self._derivatives(gradient, x, weight, [True, False, False])[0]

    def by_weight(self, gradient: Tensor, x: Tensor) -> Tensor:
        weight = gradient.new_empty(1).expand(self.weight_shape)  # its values are not read
        return self._derivatives(gradient, x, weight, [False, True, False])[1]

    def _derivatives(self, gradient: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
        return _backward(
            gradient, x, weight, None, self.stride, self.padding, self.dilation, False, (0, 0), self.groups, mask
        )


class _Bilinear(torch.autograd.Function):
    """One of the three maps; a subclass computes it and names the two that are its derivatives.

    No ``setup_context``: PyTorch would look up the signature at every call, a tenth of a small network's product.
    """

    @staticmethod
    def keep(ctx: Any, first: Tensor, second: Tensor, geometry: Geometry) -> None:
        ctx.geometry = geometry
        ctx.save_for_backward(first, second)


class Output(_Bilinear):
    """``conv(x, weight)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        _Bilinear.keep(ctx, x, weight, geometry)
        return geometry.output(x, weight)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_x = ByInput.apply(v, weight, ctx.geometry) if ctx.needs_input_grad[0] else None
        by_weight = ByWeight.apply(v, x, ctx.geometry) if ctx.needs_input_grad[1] else None
        return by_x, by_weight, None


class ByInput(_Bilinear):
    """Derivative of ``<gradient, conv(x, weight)>`` by x."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        _Bilinear.keep(ctx, gradient, weight, geometry)
        return geometry.by_input(gradient, weight)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gradient, weight = ctx.saved_tensors
        by_gradient = Output.apply(v, weight, ctx.geometry) if ctx.needs_input_grad[0] else None
        by_weight = ByWeight.apply(gradient, v, ctx.geometry) if ctx.needs_input_grad[1] else None
        return by_gradient, by_weight, None


class ByWeight(_Bilinear):
    """Derivative of ``<gradient, conv(x, weight)>`` by the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        _Bilinear.keep(ctx, gradient, x, geometry)
        return geometry.by_weight(gradient, x)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gradient, x = ctx.saved_tensors
        by_gradient = Output.apply(x, v, ctx.geometry) if ctx.needs_input_grad[0] else None
        by_x = ByInput.apply(gradient, v, ctx.geometry) if ctx.needs_input_grad[1] else None
        return by_gradient, by_x, None


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.conv2d`` with cheap derivatives of every order; PyTorch's own for images without a batch dimension, for
    padding given by name, under autocast, which casts inside, and inside of ``torch.func``, which has its own rules.
    """
    plain = isinstance(padding, str) or input.ndim != 4 or input.dtype != weight.dtype
    if plain or torch.is_autocast_enabled(input.device.type) or torch._C._are_functorch_transforms_active():
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    geometry = Geometry(input.shape, weight.shape, *(_pair(v) for v in (stride, padding, dilation)), groups)
    output = Output.apply(input, weight, geometry)
    return output if bias is None else output + bias.view(-1, 1, 1)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    values = (value, value) if isinstance(value, int) else tuple(value)
    return values * 2 if len(values) == 1 else values
