"""Batches of images that are read from their files while a network is trained.

Order and augmentation are those of :class:`featurespeed.data.batches.BatchStream`: the same images give the same
batches by either way. Worker processes read and decode ahead of the training; pixels go to the device as bytes, and
all else is done there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from featurespeed.data.augment import Augmentation, AugmentationDraws, apply
from featurespeed.data.batches import centre_and_unit, epoch_draws, epoch_order, fixed_draws
from featurespeed.data.reader import CHUNK, ImageFiles, Reader
from featurespeed.data.subset import stratified_subset
from featurespeed.data.workers import loader_workers

WHITE = 255


class FileStream:
    """Training batches of S streams, a probe batch and the test set, as :class:`BatchStream` has them.

    Args:
        files: of the training images.
        labels: [n], classes.
        moments: sums and sums of squares of the pixels that a network sees, by image and channel, [n, 3] each.
        shape: channels, height and width that the network sees: the centre of the decoded squares, unless a resized
            crop takes its own part of the whole square.
        seeds: one a stream. A stream depends on its own seed only.
        batch_size: images a batch.
        augmentation: what is done to the training batches.
        test: files and labels of the test set.
        device, dtype: of the batches.
        pixels: `standardised`, `centred`, `symmetric` or `imagenet`.
        workers: processes that read files; None asks :func:`featurespeed.data.workers.loader_workers`.

    Raises ValueError, one line, for a batch larger than the data, and DataError for a file that gives no image.
    """

    def __init__(
        self,
        files: ImageFiles,
        labels: np.ndarray,
        moments: tuple[np.ndarray, np.ndarray],
        shape: tuple[int, int, int],
        *,
        seeds: Sequence[int],
        batch_size: int,
        augmentation: Augmentation | None = None,
        test: tuple[ImageFiles, np.ndarray] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        pixels: str = "standardised",
        workers: int | None = None,
    ) -> None:
        self.seeds, self.batch_size, self.shape = tuple(seeds), batch_size, shape
        self.device, self.dtype = torch.device(device), dtype
        self.augmentation = augmentation or Augmentation()
        self.workers = loader_workers() if workers is None else workers
        self._files, self._test = files, test
        self._labels = torch.as_tensor(np.asarray(labels).astype(np.int64))
        self._check()
        self.mean, self.std = moments_of(*moments, pixels=shape[1] * shape[2])
        self.mean, unit = centre_and_unit(pixels, self.mean, self.std)
        self._scale = (1 / (WHITE * unit)).to(self.device, dtype)
        self._shift = (-self.mean / unit).to(self.device, dtype)
        self._forget()

    def __len__(self) -> int:
        """Number of training images n."""
        return len(self._files)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch; the last, incomplete one is dropped."""
        return len(self) // self.batch_size

    def for_seeds(self, seeds: Sequence[int]) -> FileStream:
        """Other streams of the same images, with workers of their own."""
        other = copy.copy(self)
        other.seeds = tuple(seeds)
        other._check()
        other._forget()
        return other

    def close(self) -> None:
        """End the workers; so does dropping the stream. A later batch starts others."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = self._next = self._last = None

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [S, B, C, H, W] and classes int64 [S, B] of a step, counted from 0.

        Steps in a row are read ahead; any other step makes the workers start anew from there.
        """
        if step < 0:
            raise ValueError(f"step = {step}: must be 0 or more")
        if self._last is not None and self._last[0] == step:
            return self._last[1]
        if step != self._next:
            self.close()  # the old workers end before there are new ones
            rows = rows_from(step, self.seeds, len(self), self.batch_size)
            self._ahead = Reader(self._files, rows, self.workers, self.device)
        streams, self._next = len(self.seeds), None  # until this step has been read
        images, rows = self._ahead.gather(streams * self.batch_size)
        self._next = step + 1
        images = self._standardized(self._seen(images, self._draws_of(step)))
        labels = self._labels[rows].to(self.device).reshape(streams, self.batch_size)
        self._last = step, (images.reshape(streams, self.batch_size, *self.shape), labels)
        return self._last[1]

    def fixed_batch(self, count: int, seed: int, augmented: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """A probe batch: stratified choice of training images [count, C, H, W] and classes [count].

        `augmented`: each image as one draw of the training augmentation has it, the same one at every call.
        """
        rows = stratified_subset(self._labels.numpy(), count, seed)
        draws = fixed_draws(self.augmentation, count, seed, self._size) if augmented else None
        images = next(self._in_order(self._files, rows, count))
        images = self._seen(images, draws.to(self.device) if draws else None)
        return self._standardized(images), self._labels[torch.from_numpy(rows)].to(self.device)

    def test_batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The test set in order, so many images [b, C, H, W] and classes int64 [b] at a time."""
        if self._test is None:
            raise ValueError("no test set: this stream was built without `test`")
        files, labels = self._test
        classes, start = torch.as_tensor(np.asarray(labels).astype(np.int64)), 0
        for images in self._in_order(files, np.arange(len(files)), size):
            part = classes[start : start + len(images)].to(self.device)
            yield self._standardized(self._seen(images, None)), part
            start += len(images)

    def test_set(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole test set at once, in the memory of the device: 30 GB of ImageNet. See :meth:`test_batches`."""
        images, labels = zip(*self.test_batches(CHUNK), strict=True)
        return torch.cat(images), torch.cat(labels)

    # --- order --------------------------------------------------------------------------------------------------------

    def _draws_of(self, step: int) -> AugmentationDraws | None:
        """What is done to the images of a step; drawn for a whole epoch, as in the stream from memory."""
        if not self.augmentation.active:
            return None
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            used = self.steps_per_epoch * self.batch_size
            self._draws, self._epoch = epoch_draws(self.augmentation, self.seeds, epoch, used, self._size), epoch
        rows = slice(position * self.batch_size, (position + 1) * self.batch_size)
        return self._draws[:, rows].flatten().to(self.device)

    def _forget(self) -> None:
        """Nothing has been read."""
        self._ahead: Reader | None = None
        self._next: int | None = None
        self._last: tuple[int, tuple[torch.Tensor, torch.Tensor]] | None = None
        self._epoch: int | None = None
        self._draws: AugmentationDraws

    # --- images -------------------------------------------------------------------------------------------------------

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of the square that boxes are drawn in; nothing else that is drawn depends on a size."""
        return self._files.side, self._files.side

    def _in_order(self, files: ImageFiles, rows: np.ndarray, size: int) -> Iterator[torch.Tensor]:
        """Decoded squares of these rows on the device, `size` at a time; by workers where there are many."""
        parts = torch.from_numpy(rows).split(size)
        chunks = [chunk.tolist() for part in parts for chunk in part.split(CHUNK)]
        reader = Reader(files, chunks, min(self.workers, len(chunks) - 1), self.device)
        for part in parts:
            yield reader.gather(len(part))[0]

    def _seen(self, images: torch.Tensor, draws: AugmentationDraws | None) -> torch.Tensor:
        """What a network sees of decoded squares: augmented, or their centre."""
        if draws is None or draws.boxes is None:
            top, left = ((self._files.side - size) // 2 for size in self.shape[1:])
            images = images[..., top : top + self.shape[1], left : left + self.shape[2]]
        return images if draws is None else apply(images, draws)

    def _standardized(self, images: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self._shift, images.to(self.dtype), self._scale)

    def _check(self) -> None:
        if not self.seeds:
            raise ValueError("seeds = []: at least one stream")
        if not len(self) or len(self._labels) != len(self):
            raise ValueError(f"{len(self)} images and {len(self._labels)} labels: must be equal and above 0")
        if self.batch_size is None:
            raise ValueError("batch_size = None: images that are read from files have no full batch")
        if not 1 <= self.batch_size <= len(self):
            raise ValueError(f"batch_size = {self.batch_size}: must be 1 to {len(self)}, the number of training images")


def rows_from(step: int, seeds: Sequence[int], count: int, batch_size: int) -> Iterator[list[int]]:
    """Rows of `count` files that the streams see from a step on, for ever, in pieces that lie within one step."""
    steps = count // batch_size
    epoch, position = divmod(step, steps)
    while True:
        order = epoch_order(seeds, epoch, count, steps * batch_size)
        for start in range(position * batch_size, steps * batch_size, batch_size):
            rows = order[:, start : start + batch_size].reshape(-1)
            yield from (part.tolist() for part in rows.split(CHUNK))
        epoch, position = epoch + 1, 0


def moments_of(sums: np.ndarray, squares: np.ndarray, pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel, float64 [C, 1, 1], of pixels between 0 and 1; sums are exact.

    `sums`, `squares`: of the pixels of each image and of their squares, [n, C]; `pixels`: how many an image has.
    """
    first, second = (values.astype(np.int64).sum(0) / (len(values) * pixels) for values in (sums, squares))
    variance = torch.from_numpy(second - first * first)
    if not bool((variance > 0).all()):
        raise ValueError("a channel of the training images is constant: it cannot be standardised")
    mean, std = torch.from_numpy(first), variance.sqrt()
    return tuple((moment / WHITE).reshape(-1, 1, 1) for moment in (mean, std))
