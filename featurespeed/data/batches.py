"""Batches of several streams at once, each a pure function of its seed and the step.

Nothing need be stored to go on after an interruption, and learning rates that share a seed see the same images in the
same order (common random numbers): permutation and augmentation of an epoch are drawn on the CPU from generators that
are named by seed and epoch, and go to the device once an epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from featurespeed.data.augment import Augmentation, AugmentationDraws, apply, draw_augmentation, stack
from featurespeed.data.subset import stratified_subset
from featurespeed.randomness import generator

_ROWS = 4096  # images whose moments are summed at a time

# Of red, green and blue, pixels between 0 and 1, as most networks for ImageNet are given them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Images = torch.Tensor | np.ndarray


class BatchStream:
    """Training batches of S streams, a probe batch and the test set, all standardised alike.

    Standardised: pixels over the pixel maximum, minus the mean and over the standard deviation of their channel in
    these training images as they are. Augmentation comes first, so that added pixels are black, not grey.

    Args:
        images: whole numbers [n, C, H, W], 0 to `pixel_maximum`; moved to `device` once.
        labels: [n], classes.
        seeds: one a stream. A stream depends on its own seed only.
        batch_size: images a batch; None for the full batch: all images, in order, with no augmentation.
        pixel_maximum: value of a white pixel.
        augmentation: what is done to the training batches.
        test: images and labels of the test set.
        device, dtype: of the batches.
        downscale: squares of so many pixels a side are averaged, once, before anything else.
        pixels: `standardised`; `centred`, without the division by the standard deviation; `mean_image_removed`, centred
            by the mean over the images pixel by pixel; `symmetric`, from -1 (black) to 1 (white); or `imagenet`,
            standardised by the mean and standard deviation that are usual for ImageNet.

    Raises ValueError, one line, for a batch larger than the data and for sizes that do not fit.
    """

    def __init__(
        self,
        images: Images,
        labels: Images,
        *,
        seeds: Sequence[int],
        batch_size: int | None,
        pixel_maximum: int = 255,
        augmentation: Augmentation | None = None,
        test: tuple[Images, Images] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        downscale: int = 1,
        pixels: str = "standardised",
    ) -> None:
        self.seeds, self.device, self.dtype = tuple(seeds), torch.device(device), dtype
        self.augmentation = augmentation or Augmentation()
        self._images = _block_sums(torch.as_tensor(images), downscale).to(self.device)
        self._labels = torch.as_tensor(labels).to(self.device, torch.int64)
        self._test = test
        self._downscale = downscale
        self._check(batch_size)
        self.batch_size = batch_size
        self._white = pixel_maximum * downscale**2
        self.mean, self.std = _moments(self._images, self._white)
        if pixels == "mean_image_removed":
            self.mean = (self._images.sum(0, dtype=torch.int64).cpu().to(torch.float64) / len(self)) / self._white
        self.mean, divisor = centre_and_unit(pixels, self.mean, self.std)
        self._scale = (1 / (self._white * divisor)).to(self.device, dtype)
        self._shift = (-self.mean / divisor).to(self.device, dtype)
        self._epoch: int | None = None
        self._order: torch.Tensor
        self._draws: AugmentationDraws
        self._whole: torch.Tensor | None = None

    def __len__(self) -> int:
        """Number of training images n."""
        return len(self._images)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch; the last, incomplete one is dropped."""
        return len(self) // (self.batch_size or len(self))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a batch's images."""
        return tuple(self._images.shape[1:])

    def for_seeds(self, seeds: Sequence[int]) -> BatchStream:
        """Other streams of the same images, which are shared, not copied."""
        other = copy.copy(self)
        other.seeds, other._epoch = tuple(seeds), None
        other._check(self.batch_size)
        return other

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [S, B, C, H, W] and classes int64 [S, B] of a step, counted from 0; streams may share memory."""
        if step < 0:
            raise ValueError(f"step = {step}: must be 0 or more")
        streams = len(self.seeds)
        if self.batch_size is None:
            if self._whole is None:
                self._whole = self._standardized(self._images)
            return self._whole.expand(streams, *self._whole.shape), self._labels.expand(streams, -1)
        epoch, position = divmod(step, self.steps_per_epoch)
        self._enter(epoch)
        rows = slice(position * self.batch_size, (position + 1) * self.batch_size)
        chosen = self._order[:, rows]
        images = self._images[chosen.reshape(-1)]
        if self.augmentation.active:
            images = apply(images, self._draws[:, rows].flatten())
        images = self._standardized(images)
        return images.reshape(streams, self.batch_size, *self.shape), self._labels[chosen]

    def fixed_batch(self, count: int, seed: int, augmented: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """A probe batch: stratified choice of training images [count, C, H, W] and classes [count].

        `augmented`: each image as one draw of the training augmentation has it, the same one at every call.
        """
        chosen = torch.from_numpy(stratified_subset(self._labels.cpu().numpy(), count, seed)).to(self.device)
        images = self._images[chosen]
        if augmented:
            images = apply(images, fixed_draws(self.augmentation, count, seed, self.shape[1:]).to(self.device))
        return self._standardized(images), self._labels[chosen]

    def test_set(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Test images [m, C, H, W], standardised with the training images' moments, and classes int64 [m]."""
        if self._test is None:
            raise ValueError("no test set: this stream was built without `test`")
        images, labels = (torch.as_tensor(values) for values in self._test)
        images = _block_sums(images, self._downscale).to(self.device)
        return self._standardized(images), labels.to(self.device, torch.int64)

    def test_batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The test set in order, so many images at a time."""
        x, y = self.test_set()
        yield from zip(x.split(size), y.split(size), strict=True)

    def _standardized(self, images: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self._shift, images.to(self.dtype), self._scale)

    def _enter(self, epoch: int) -> None:
        """Draw the epoch's order, int64 [S, used], and augmentation, unless they are there."""
        if epoch == self._epoch:
            return
        used = self.steps_per_epoch * self.batch_size
        self._order = epoch_order(self.seeds, epoch, len(self), used).to(self.device)
        if self.augmentation.active:
            self._draws = epoch_draws(self.augmentation, self.seeds, epoch, used, self.shape[1:]).to(self.device)
        self._epoch = epoch

    def _check(self, batch_size: int | None) -> None:
        if not self.seeds:
            raise ValueError("seeds = []: at least one stream")
        if not len(self) or len(self._labels) != len(self):
            raise ValueError(f"{len(self)} images and {len(self._labels)} labels: must be equal and above 0")
        if batch_size is None and self.augmentation.active:
            raise ValueError(f"batch_size = None: the full batch takes no augmentation, found {self.augmentation}")
        if batch_size is not None and not 1 <= batch_size <= len(self):
            raise ValueError(f"batch_size = {batch_size}: must be 1 to {len(self)}, the number of training images")


def epoch_order(seeds: Sequence[int], epoch: int, count: int, used: int) -> torch.Tensor:
    """Which of `count` images the streams see in an epoch, one after the other: int64 [S, used], on the CPU."""
    return torch.stack([torch.randperm(count, generator=generator(seed, "batches", epoch))[:used] for seed in seeds])


def epoch_draws(
    augmentation: Augmentation, seeds: Sequence[int], epoch: int, used: int, size: tuple[int, int]
) -> AugmentationDraws:
    """What is done to them in this epoch: draws [S, used], on the CPU, for images of `size` (height, width)."""
    streams = (generator(seed, "augmentation", epoch) for seed in seeds)
    return stack([draw_augmentation(augmentation, used, stream, size) for stream in streams])


def fixed_draws(augmentation: Augmentation, count: int, seed: int, size: tuple[int, int]) -> AugmentationDraws:
    """What is done to the images of an augmented probe batch: draws [count], on the CPU."""
    return draw_augmentation(augmentation, count, generator(seed, "augmentation", "fixed batch"), size)


def centre_and_unit(pixels: str, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is subtracted from pixels between 0 and 1, and what they are then divided by, for a choice of `pixels`.

    `mean`, `std`: of the training images, float64 [C, 1, 1].
    """
    if pixels == "imagenet":
        if len(std) != len(IMAGENET_MEAN):
            raise ValueError(f"pixels = imagenet: needs images of 3 channels, found {len(std)}")
        return tuple(
            torch.tensor(values, dtype=std.dtype).reshape(-1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
    if pixels == "symmetric":
        return torch.full_like(std, 0.5), torch.full_like(std, 0.5)
    return mean, std if pixels == "standardised" else torch.ones_like(std)


def _block_sums(images: torch.Tensor, side: int) -> torch.Tensor:
    """Sums over squares of `side` x `side` pixels: whole numbers still, so that nothing is rounded twice."""
    if side < 1 or images.shape[-2] % side or images.shape[-1] % side:
        raise ValueError(f"downscale = {side}: must divide the image size {tuple(images.shape[-2:])}")
    if side == 1:
        return images
    count, channels, height, width = images.shape
    blocks = images.reshape(count, channels, height // side, side, width // side, side)
    return blocks.sum(dim=(3, 5), dtype=torch.int32)


def _moments(images: torch.Tensor, white: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel, float64 [C, 1, 1], of pixels over `white`; sums are exact."""
    total = torch.zeros(2, images.shape[1], dtype=torch.int64, device=images.device)
    for rows in images.split(_ROWS):
        values = rows.to(torch.int64)
        total += torch.stack([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])
    pixels = images.shape[0] * images.shape[2] * images.shape[3]
    first, second = (total.cpu().to(torch.float64) / pixels).unbind()
    variance = second - first.square()
    if not bool((variance > 0).all()):
        raise ValueError("a channel of the training images is constant: it cannot be standardised")
    return tuple((moment / white).reshape(-1, 1, 1) for moment in (first, variance.sqrt()))
