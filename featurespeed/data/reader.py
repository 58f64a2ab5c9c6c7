"""Image files read and decoded by other processes, ahead of who wants them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from featurespeed.data.content import DataError
from featurespeed.data.pictures import Damaged, decode_square, read_file
from featurespeed.data.workers import WORKERS_VARIABLE

CHUNK = 128  # images that a worker brings at a time: 25 MB of 256 x 256
PREFETCH = 2  # chunks that each worker has ready

Chunk = tuple[torch.Tensor, torch.Tensor]  # images uint8 [n, 3, side, side] and their rows int64 [n] among the files


@dataclass(frozen=True)
class ImageFiles:
    """Files of one split: paths below `root` as bytes [n], sizes in bytes [n], side of the decoded square.

    A list of rows gives a :data:`Chunk`, or a line that says which file gives no image: a worker process cannot raise
    an error without a page of text around it.
    """

    root: Path
    names: np.ndarray
    sizes: np.ndarray
    side: int

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, rows: slice | np.ndarray) -> ImageFiles:
        """Some of the files."""
        return ImageFiles(self.root, self.names[rows], self.sizes[rows], self.side)

    def __getitems__(self, rows: list[int]) -> Chunk | str:
        images = torch.empty(len(rows), 3, self.side, self.side, dtype=torch.uint8)
        for place, row in enumerate(rows):
            path = self.root / os.fsdecode(self.names[row])
            try:
                data = read_file(path)
                if len(data) != self.sizes[row]:
                    raise Damaged(f"{len(data)} bytes, {self.sizes[row]} when the data were prepared")
                images[place] = torch.from_numpy(decode_square(data, self.side))
            except Damaged as error:
                return f"{path}: {error}; put it back, or remove the prepared data and run the rule `data` again"
        return images, torch.tensor(rows)


class Reader:
    """Chunks of files in order, read ahead by `workers` processes; 0 reads when asked.

    Args:
        rows: what each chunk holds.
        device: where the images go.
    """

    def __init__(self, files: ImageFiles, rows: Iterable[list[int]], workers: int, device: torch.device) -> None:
        self._root, self._workers, self._device = files.root, max(workers, 0), device
        loader = DataLoader(
            files,
            batch_sampler=rows,
            num_workers=self._workers,
            prefetch_factor=PREFETCH if self._workers else None,
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else every loader would draw a seed for its workers from the global one
        )
        with _own_signals():
            self._chunks: Iterator[Chunk | str] | None = iter(loader)

    def close(self) -> None:
        """End the workers, also while an error still holds what was read last."""
        self._chunks = None

    def gather(self, count: int) -> Chunk:
        """The next `count` images, which are whole chunks, on the device; and their rows, on the CPU."""
        images, rows, left = [], [], count
        while left:
            some, theirs = self._next()
            images.append(some.to(self._device, non_blocking=True))
            rows.append(theirs)
            left -= len(theirs)
        return torch.cat(images), torch.cat(rows)

    def _next(self) -> Chunk:
        try:
            chunk = next(self._chunks)
        except (RuntimeError, OSError, EOFError) as error:  # of PyTorch, or of the pipe to a worker that was killed
            self.close()
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise DataError(
                f"{self._root}: a process that reads images has ended, perhaps for want of memory or of shared memory "
                f"({reason}); set {WORKERS_VARIABLE} below {self._workers}"
            ) from None
        if isinstance(chunk, str):
            self.close()
            raise DataError(chunk)
        return chunk


@contextmanager
def _own_signals() -> Iterator[None]:
    """Without PyTorch's handler for ended children, which raises its error anywhere in the main thread.

    The loader finds a worker that was killed by itself, within five seconds of waiting for it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _as_it_is(chunk: Chunk | str) -> Chunk | str:
    return chunk
