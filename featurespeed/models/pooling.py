"""2x2 pooling of images, faster than PyTorch's own where that is slow; values and derivatives are the same.

Derivatives of every order, and ``torch.vmap``, work as for any other operation, with two exceptions: forward mode of
forward mode along a tangent that itself moves, for which ``torch.autograd.Function`` has no rule, and gradients that
are not finite, which spread over the four pixels. A last odd row or column is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

FEW = 2**16  # pixels: of fewer the calls take longer than what they compute


def average_pool(x: Tensor) -> Tensor:
    """2x2 average pooling of images ``[B, C, H, W]``."""
    return AveragePool.apply(x) if x.is_cuda else functional.avg_pool2d(x, 2)


def max_pool(x: Tensor) -> Tensor:
    """2x2 max pooling of images ``[B, C, H, W]``; of equal pixels the first one, line by line, has the gradient."""
    return functional.max_pool2d(x, 2) if x.is_cuda or x.numel() < FEW else MaxPool.apply(x)[0]


class AveragePool(torch.autograd.Function):
    """Average pooling whose backward pass copies; PyTorch's own on a GPU takes five times as long as its forward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.sides = inputs[0].shape[-2:]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _odd(functional.interpolate(0.25 * gradient, scale_factor=2, mode="nearest"), ctx.sides)

    @staticmethod
    def jvp(ctx, tangent: Tensor) -> Tensor:
        return functional.avg_pool2d(tangent, 2)


class MaxPool(torch.autograd.Function):
    """Max pooling by the larger of two columns, then of two rows, in vector instructions.

    PyTorch's own compares pixel by pixel on a CPU, and was a third of the time of training there. Beside the output it
    gives which of two columns was the larger, ``[B, C, H', W' / 2]``, and which of two rows, ``[B, C, H' / 2, W' / 2]``
    with even ``H'`` and ``W'``. Where derivatives of derivatives are asked for, many of them as a rule, the places of
    the largest pixels are found once; PyTorch's own operations with these are faster then.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, right = _columns(x)
        larger = torch.maximum(left, right)
        top, bottom = _rows(larger)
        return torch.maximum(top, bottom), right > left, bottom > top

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])
        ctx.save_for_forward(*output[1:])
        ctx.sides, ctx.places = tuple(inputs[0].shape[-2:]), None

    @staticmethod
    def backward(ctx, gradient: Tensor, *_: Tensor) -> Tensor:
        if ctx.places is None and not torch.is_grad_enabled():
            return _odd(_spread(gradient, *ctx.saved_tensors), ctx.sides)
        if ctx.places is None:
            ctx.places = _places(*ctx.saved_tensors, ctx.sides[1])
        images = gradient.new_empty((gradient.shape[:-2].numel(), *ctx.sides))  # only the shape is looked at
        pooled = (len(images), *gradient.shape[-2:])
        found = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient.reshape(pooled), images, [2, 2], [2, 2], [0, 0], [1, 1], False, ctx.places.reshape(pooled)
        )
        return found.reshape(*gradient.shape[:-2], *ctx.sides)

    @staticmethod
    def jvp(ctx, tangent: Tensor) -> tuple[Tensor, None, None]:
        places = _places(*ctx.saved_tensors, ctx.sides[1])
        return tangent.flatten(-2).gather(-1, places.flatten(-2)).reshape(places.shape), None, None


def _columns(x: Tensor) -> tuple[Tensor, Tensor]:
    """Even and odd columns of the rows and columns that count."""
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    return x[..., :height, 0:width:2], x[..., :height, 1:width:2]


def _rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Even and odd rows of an even number of them."""
    return x[..., 0::2, :], x[..., 1::2, :]


def _places(right: Tensor, bottom: Tensor, width: int) -> Tensor:
    """Index of the largest of four pixels in its image, counted line by line, as ``max_pool2d`` returns it."""
    row, column = (2 * torch.arange(side, device=right.device) for side in bottom.shape[-2:])
    above, below = _rows(right)
    return (row[:, None] + bottom) * width + column + torch.where(bottom, below, above)


def _spread(values: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """Values at the pixels that were the largest, 0 at the others."""
    lines = values.new_empty((*values.shape[:-2], 2 * values.shape[-2], values.shape[-1]))
    _part(values, bottom, _rows(lines))
    pixels = lines.new_empty((*lines.shape[:-1], 2 * lines.shape[-1]))
    _part(lines, right, _columns(pixels))
    return pixels


def _part(values: Tensor, second: Tensor, places: tuple[Tensor, Tensor]) -> None:
    """Values into the second of two places where ``second`` says so, else into the first; 0 into the other one."""
    theirs = values * second  # torch.where takes six times as long
    places[0].copy_(values - theirs)
    places[1].copy_(theirs)


def _odd(pixels: Tensor, sides: Sequence[int]) -> Tensor:
    """Pixels with a line of zeros below and on the right where the number of rows or columns is odd."""
    odd = [whole - even for whole, even in zip(sides, pixels.shape[-2:], strict=True)]
    return functional.pad(pixels, (0, odd[1], 0, odd[0])) if any(odd) else pixels
