"""Random crop, flip and rotation of images on their own device, from parameters drawn on the CPU.

The draws are made on the CPU, so that the CPU and the GPU see the same images; the pixels never leave their device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """What is done to every training image, in this order: crop, flip, rotation. The default does nothing.

    `crop`: black pixels added on each side; a window of the old size is then cut out at random (usual: 4). `flip`: left
    and right exchanged with probability 1/2. `rotation`: angle uniform in +-rotation degrees, bilinear, black outside.
    """

    crop: int = 0
    flip: bool = False
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ValueError(f"augmentation: crop = {self.crop}: must be 0 or more pixels")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"augmentation: rotation = {self.rotation}: must be 0 to 180 degrees")

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.crop or self.flip or self.rotation)


@dataclass(frozen=True)
class AugmentationDraws:
    """One draw for each of n images; leading axes of all three tensors may be indexed alike.

    `offsets` int64 [n, 2]: row and column of the window in the padded image, 0 to 2 crop. `flips` bool [n]. `angles`
    float32 [n]: degrees, counter-clockwise.
    """

    augmentation: Augmentation
    offsets: torch.Tensor
    flips: torch.Tensor
    angles: torch.Tensor

    def to(self, device: torch.device | str) -> AugmentationDraws:
        """The same draws on another device."""
        moved = (values.to(device) for values in (self.offsets, self.flips, self.angles))
        return AugmentationDraws(self.augmentation, *moved)

    def __getitem__(self, index: object) -> AugmentationDraws:
        return AugmentationDraws(self.augmentation, self.offsets[index], self.flips[index], self.angles[index])

    def flatten(self) -> AugmentationDraws:
        """All leading axes as one."""
        return AugmentationDraws(
            self.augmentation, self.offsets.reshape(-1, 2), self.flips.reshape(-1), self.angles.reshape(-1)
        )


def stack(draws: list[AugmentationDraws]) -> AugmentationDraws:
    """Draws of several streams, of equal number, with a new first axis."""
    offsets, flips, angles = (
        torch.stack([getattr(draw, name) for draw in draws]) for name in ("offsets", "flips", "angles")
    )
    return AugmentationDraws(draws[0].augmentation, offsets, flips, angles)


def draw_augmentation(augmentation: Augmentation, count: int, generator: torch.Generator) -> AugmentationDraws:
    """Draws for `count` images from a CPU generator. What is switched off is not drawn, and is zero."""
    offsets = torch.zeros(count, 2, dtype=torch.int64)
    flips, angles = torch.zeros(count, dtype=torch.bool), torch.zeros(count)
    if augmentation.crop:
        offsets = torch.randint(0, 2 * augmentation.crop + 1, (count, 2), generator=generator)
    if augmentation.flip:
        flips = torch.rand(count, generator=generator) < 0.5
    if augmentation.rotation:
        angles = (2 * torch.rand(count, generator=generator) - 1) * augmentation.rotation
    return AugmentationDraws(augmentation, offsets, flips, angles)


def apply(images: torch.Tensor, draws: AugmentationDraws) -> torch.Tensor:
    """Augmented images [n, C, H, W] on the device of `images`, where the draws must be too.

    Crop and flip move whole pixels, so they are exact in any dtype; a rotation gives floating point (float32 from whole
    numbers). Nothing waits for the device, and equal arguments give equal results.
    """
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
