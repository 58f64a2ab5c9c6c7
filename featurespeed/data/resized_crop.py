"""The random resized crop of image classification: a random box of the image, brought to a square.

Boxes are drawn as torchvision's `RandomResizedCrop` draws them: area uniform in 8% to 100% of the image's, logarithm of
the ratio of width to height uniform between those of 3/4 and 4/3; after ten boxes that do not fit, the largest central
box whose ratio is allowed. The box is then scaled bilinearly with antialiasing, as Pillow and torchvision scale images:
where it shrinks, a pixel averages over a triangle as wide as two pixels of the result. Only pixels of the box count.
Values are not rounded to whole numbers.
"""

from __future__ import annotations

import math

import torch

from featurespeed.machine.device import tf32

AREA = (0.08, 1.0)  # of the image's
RATIO = (3 / 4, 4 / 3)  # width over height
ATTEMPTS = 10
_AT_A_TIME = 1 << 16  # images whose boxes are drawn at a time


def draw_boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Boxes int64 [count, 4] (top, left, height, width) inside of images of `size` (height, width)."""
    parts = [min(_AT_A_TIME, count - start) for start in range(0, count, _AT_A_TIME)]
    return torch.cat([_draw(part, size, generator) for part in parts] or [torch.zeros(0, 4, dtype=torch.int64)])


def _draw(count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    height, width = size
    uniform = torch.rand(2, count, ATTEMPTS, generator=generator, dtype=torch.float64)
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * uniform[0])
    low, high = (math.log(ratio) for ratio in RATIO)
    ratio = torch.exp(low + (high - low) * uniform[1])
    heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
    first = fits.to(torch.int8).argmax(1, keepdim=True)  # the first that fits; 0 if none does
    last_resort = _central_box(height, width)
    found = fits.any(1)
    h = torch.where(found, heights.gather(1, first)[:, 0], last_resort[0])
    w = torch.where(found, widths.gather(1, first)[:, 0], last_resort[1])
    room = torch.stack([height - h, width - w])
    random = (torch.rand(2, count, generator=generator, dtype=torch.float64) * (room + 1)).floor()
    corner = torch.where(found, random, (room / 2).floor())
    return torch.stack([*corner, h, w], dim=1).to(torch.int64)


def _central_box(height: int, width: int) -> tuple[float, float]:
    """Height and width of the largest box whose ratio is allowed."""
    if width < height * RATIO[0]:
        return float(round(width / RATIO[0])), float(width)
    if width > height * RATIO[1]:
        return float(height), float(round(height * RATIO[1]))
    return float(height), float(width)


def resize_boxes(images: torch.Tensor, boxes: torch.Tensor, side: int) -> torch.Tensor:
    """Squares [n, C, side, side] from the boxes [n, 4] of images [n, C, H, W], on their device.

    Whole numbers become float32. A GPU does not round to TF32 here, so that it and the CPU see the same images.
    """
    images = images if images.is_floating_point() else images.to(torch.float32)
    rows = _weights(boxes[:, 0], boxes[:, 2], images.shape[2], side, images.dtype)
    columns = _weights(boxes[:, 1], boxes[:, 3], images.shape[3], side, images.dtype)
    with tf32(False):
        return rows[:, None] @ (images @ columns[:, None].mT)


def _weights(start: torch.Tensor, length: torch.Tensor, size: int, side: int, dtype: torch.dtype) -> torch.Tensor:
    """Share [n, side, size] that each pixel of a line has in each of the `side` pixels of the box's line."""
    start, length = (values.to(dtype)[:, None, None] for values in (start, length))
    scale = length / side  # pixels of the image in one of the result
    to, of = (torch.arange(count, device=start.device, dtype=dtype) + 0.5 for count in (side, size))
    centre = start + to[:, None] * scale
    weights = (1 - (of - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = torch.where((of > start) & (of < start + length), weights, 0)
    return weights / weights.sum(-1, keepdim=True)
