"""Random crops, flip and rotation of images on their own device, from parameters drawn on the CPU.

The draws are made on the CPU, so that the CPU and the GPU see the same images; the pixels never leave their device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from featurespeed.data.resized_crop import draw_boxes, resize_boxes


@dataclass(frozen=True)
class Augmentation:
    """What is done to every training image, in this order: either crop, flip, rotation. The default does nothing.

    `crop`: black pixels added on each side; a window of the old size is then cut out at random (usual: 4). `flip`: left
    and right exchanged with probability 1/2. `rotation`: angle uniform in +-rotation degrees, bilinear, black outside.
    `resized_crop`: side of the square to which a random box of the image is brought
    (:mod:`featurespeed.data.resized_crop`); 0 leaves the image as it is.
    """

    crop: int = 0
    flip: bool = False
    rotation: float = 0.0
    resized_crop: int = 0

    def __post_init__(self) -> None:
        if self.resized_crop < 0:
            raise ValueError(f"augmentation: resized_crop = {self.resized_crop}: must be 0 or more pixels")
        if self.resized_crop and self.crop:
            raise ValueError(f"augmentation: crop = {self.crop}: must be 0 with resized_crop, which crops as well")
        if self.crop < 0:
            raise ValueError(f"augmentation: crop = {self.crop}: must be 0 or more pixels")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"augmentation: rotation = {self.rotation}: must be 0 to 180 degrees")

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.crop or self.flip or self.rotation or self.resized_crop)


@dataclass(frozen=True)
class AugmentationDraws:
    """One draw for each of n images; leading axes of all tensors may be indexed alike.

    `offsets` int64 [n, 2]: row and column of the window in the padded image, 0 to 2 crop. `flips` bool [n]. `angles`
    float32 [n]: degrees, counter-clockwise. `boxes` int64 [n, 4]: top, left, height and width of the box that becomes
    the image; None without `resized_crop`.
    """

    augmentation: Augmentation
    offsets: torch.Tensor
    flips: torch.Tensor
    angles: torch.Tensor
    boxes: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> AugmentationDraws:
        """The same draws on another device."""
        return self._each(lambda values: values.to(device))

    def __getitem__(self, index: object) -> AugmentationDraws:
        return self._each(lambda values: values[index])

    def flatten(self) -> AugmentationDraws:
        """All leading axes as one."""
        leading = self.flips.ndim
        return self._each(lambda values: values.reshape(-1, *values.shape[leading:]))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> AugmentationDraws:
        boxes = None if self.boxes is None else change(self.boxes)
        changed = (change(values) for values in (self.offsets, self.flips, self.angles))
        return AugmentationDraws(self.augmentation, *changed, boxes)


def stack(draws: list[AugmentationDraws]) -> AugmentationDraws:
    """Draws of several streams, of equal number, with a new first axis."""
    names = ("offsets", "flips", "angles") + (() if draws[0].boxes is None else ("boxes",))
    stacked = (torch.stack([getattr(draw, name) for draw in draws]) for name in names)
    return AugmentationDraws(draws[0].augmentation, *stacked)


def draw_augmentation(
    augmentation: Augmentation, count: int, generator: torch.Generator, size: tuple[int, int] | None = None
) -> AugmentationDraws:
    """Draws for `count` images from a CPU generator. What is switched off is not drawn, and is zero.

    `size`: height and width of the images; a resized crop needs it.
    """
    offsets = torch.zeros(count, 2, dtype=torch.int64)
    flips, angles, boxes = torch.zeros(count, dtype=torch.bool), torch.zeros(count), None
    if augmentation.resized_crop:
        if size is None:
            raise ValueError("size = None: a resized crop is drawn for images of a known size")
        boxes = draw_boxes(count, size, generator)
    if augmentation.crop:
        offsets = torch.randint(0, 2 * augmentation.crop + 1, (count, 2), generator=generator)
    if augmentation.flip:
        flips = torch.rand(count, generator=generator) < 0.5
    if augmentation.rotation:
        angles = (2 * torch.rand(count, generator=generator) - 1) * augmentation.rotation
    return AugmentationDraws(augmentation, offsets, flips, angles, boxes)


def apply(images: torch.Tensor, draws: AugmentationDraws) -> torch.Tensor:
    """Augmented images [n, C, H, W] on the device of `images`, where the draws must be too.

    Crop and flip move whole pixels, so they are exact in any dtype; a rotation and a resized crop give floating point
    (float32 from whole numbers), the latter squares of its own side. Nothing waits for the device, and equal arguments
    give equal results.
    """
    if draws.boxes is not None:
        images = resize_boxes(images, draws.boxes, draws.augmentation.resized_crop)
    images = _crop_and_flip(images, draws)
    return _rotate(images, draws.angles) if draws.augmentation.rotation else images


def _crop_and_flip(images: torch.Tensor, draws: AugmentationDraws) -> torch.Tensor:
    """One window of every padded image, cut out in one gather, then mirrored where the draw says so."""
    height, width = images.shape[-2:]
    if pad := draws.augmentation.crop:
        padded = functional.pad(images, (pad, pad, pad, pad))
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [n, C, 2 pad + 1, 2 pad + 1, H, W]
        every = torch.arange(len(images), device=images.device)
        images = windows[every, :, draws.offsets[:, 0], draws.offsets[:, 1]]
    if draws.augmentation.flip:
        images = torch.where(draws.flips[:, None, None, None], images.flip(-1), images)
    return images


def _rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Rotated about the centre, counter-clockwise for positive angles (the row index grows downwards)."""
    images = images if images.is_floating_point() else images.to(torch.float32)
    count, _, height, width = images.shape
    angles = degrees.to(images.dtype) * (math.pi / 180)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # Where a pixel of the result comes from, in units of half a width and half a height.
    from_where = torch.stack([cos, -sin * (height / width), zero, sin * (width / height), cos, zero], dim=1)
    grid = functional.affine_grid(from_where.reshape(count, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
