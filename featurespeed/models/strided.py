"""Chains of strided 3x3 convolutions with max pooling, as batched matrix products over gathered pixels.

Where a stride is at least the side of the kernel, patches of the next layer do not overlap, and some pixels are in none
of them. The images are gathered once, in an order in which each layer's outputs are the patches that the next layer
reads: a convolution is then one batched product, 2x2 pooling a maximum over a dimension of four, and nothing is copied
in between. Of the authors' SimpleConvNet on 32 x 32 pixels (arXiv:2402.17457), 100 of the 256 places of the first
convolution are computed, and 44 of padding; outputs and gradients are those of the modules one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.models.layers import ACTIVATIONS
from featurespeed.models.plan import KERNEL_SIDE, Image, NetworkPlan

POOL_SIDE = 2
ALIGNED = 4  # numbers in a row of a matrix that a GPU reads at once


def pixel_places(plan: NetworkPlan, image: Image) -> Tensor:
    """Where the pixels lie that the places of the first convolution read.

    Returns:
        Integers ``[9, 4, 9, 4, ..., pixels]``: for each pixel of the last pooled image, the four places in its window,
        the nine that a kernel sees of each, and so on down to the image; ``height * width`` stands for padding.
    """
    layers = [layer for module in plan.modules[:-1] for layer in module.layers]
    inputs: list[Image] = [image, *((h // POOL_SIDE, w // POOL_SIDE) for h, w in (layer.size for layer in layers))]
    height, width = inputs[-1]
    rows, columns = (
        grid.flatten() for grid in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    )
    inside = torch.ones_like(rows, dtype=torch.bool)
    for layer, (height, width) in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
        rows, columns = _spread(POOL_SIDE * rows, POOL_SIDE * columns, POOL_SIDE)
        rows, columns = _spread(layer.stride * rows - 1, layer.stride * columns - 1, KERNEL_SIDE)
        inside = inside & (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    height, width = image
    return torch.where(inside, rows * width + columns, height * width)


def _spread(rows: Tensor, columns: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The ``side x side`` places from each one on, first dimension of the results."""
    steps = [(down, right) for down in range(side) for right in range(side)]
    return torch.stack([rows + down for down, _ in steps]), torch.stack([columns + right for _, right in steps])


def gathered_outputs(modules: Sequence[nn.Module], places: Tensor, x: Tensor) -> Tensor:
    """Outputs ``[E, B, classes]`` of the modules of a network on images ``[S, B, C, H, W]``; see the module."""
    entry, *blocks, readout = modules
    members, batch = entry.layer.members, x.shape[1]
    convolutions = [entry.layer, *(block.layers[0] for block in blocks)]
    activations = [ACTIVATIONS[module.activation] for module in (*blocks, readout)]
    patches = _gathered(x, places)
    for layer, phi in zip(convolutions, activations, strict=True):
        weight = layer.weight.reshape(len(patches), -1, layer.weight[0, 0].numel())
        if patches.shape[1] != weight.shape[2]:
            weight = functional.pad(weight, (0, patches.shape[1] - weight.shape[2]))
        z = torch.baddbmm(x.new_zeros(()), weight, patches, beta=0.0, alpha=layer.rule.multiplier)
        z = phi(z.view(members, layer.weight.shape[1], POOL_SIDE**2, -1).max(2).values)
        patches = z.view(members, z.shape[1] * KERNEL_SIDE**2, -1) if layer is not convolutions[-1] else z
    return readout.layer(patches.reshape(members, -1, batch).transpose(1, 2))


def _gathered(x: Tensor, places: Tensor) -> Tensor:
    """Patches ``[S, C * 9, places * B]`` of the first convolution, rows of zeros added to a multiple of 4."""
    pixels = functional.pad(x.flatten(3).permute(0, 2, 3, 1), (0, 0, 0, 1))  # [S, C, H * W + 1, B], the last one black
    rows = pixels.index_select(2, places.flatten()).view(len(x), x.shape[2] * KERNEL_SIDE**2, -1)
    return functional.pad(rows, (0, 0, 0, -rows.shape[1] % ALIGNED))
