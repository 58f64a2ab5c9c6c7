"""The vectors of a Krylov space, in pieces that are never copied, and where a GPU is full on the host."""

from __future__ import annotations

import warnings

import psutil
import torch
from torch import Tensor

SMALL = 2**25  # bytes: a basis of so many is taken at once
PIECE = 8  # vectors in a piece of a larger one
GIB = 2**30


class MemoryWarning(UserWarning):
    """A measurement that is likely to need more memory than there is."""


class Basis:
    """Orthonormal vectors ``[E, steps, size]``, one member after the other, to which vectors are added one by one.

    Kept in the precision of ``like``, in pieces of a few vectors: what is there is not copied when more are added. On a
    GPU pieces that do not fit are kept in the host's memory, and come to it one at a time.
    """

    def __init__(self, members: int, size: int, like: Tensor):
        self._like, self._shape = like, (members, size)
        bytes_each = members * size * like.element_size()
        self._rows = max(PIECE, min(64, SMALL // max(bytes_each, 1)))
        self._pieces: list[Tensor] = []
        self.steps = 0

    def append(self, vectors: Tensor) -> None:
        """One more dimension, ``[E, size]``."""
        place = self.steps % self._rows
        if not place:
            self._pieces.append(self._new_piece())
        self._pieces[-1][:, place] = vectors
        self.steps += 1

    def project_out(self, vectors: Tensor) -> Tensor:
        """Take what lies in the space out of ``vectors [E, size]``, in place; its coordinates ``[E, steps]``."""
        inside = []
        for piece in self._filled():
            found = torch.bmm(piece, vectors.unsqueeze(2))
            inside.append(found)
        for piece, found in zip(self._filled(), inside, strict=True):
            vectors.sub_(torch.bmm(found.transpose(1, 2), piece).squeeze(1))
        return torch.cat(inside, dim=1).squeeze(2)

    def combined(self, weights: Tensor) -> Tensor:
        """``[E, k, size]``: sums of the vectors with ``weights [E, k, steps]``."""
        parts = weights.split([piece.shape[1] for piece in self._filled(move=False)], dim=2)
        total: Tensor | None = None
        for part, piece in zip(parts, self._filled(), strict=True):
            found = torch.bmm(part, piece)
            total = found if total is None else total.add_(found)
        return total

    def joined(self) -> Tensor:
        """All of it as one tensor ``[E, steps, size]``."""
        return torch.cat(list(self._filled()), dim=1)

    def _filled(self, move: bool = True):
        for index, piece in enumerate(self._pieces):
            used = piece[:, : min(self._rows, self.steps - index * self._rows)]
            yield used.to(self._like.device) if move else used

    def _new_piece(self) -> Tensor:
        members, size = self._shape
        shape = (members, self._rows, size)
        try:
            return self._like.new_empty(shape)
        except torch.OutOfMemoryError:
            if self._like.device.type == "cpu":
                raise
            return torch.empty(shape, dtype=self._like.dtype)


def foresee(members: int, size: int, dtype: torch.dtype, device: torch.device, products: int) -> None:
    """Say before the first product that a basis of so many vectors is likely not to fit.

    Warns:
        MemoryWarning: with the numbers, and what would help.
    """
    needed = members * size * products * torch.finfo(dtype).bits // 8
    free = _free(device)
    if needed > free:
        host = "; vectors go to the host's memory, which is slower" if device.type != "cpu" else ""
        warnings.warn(
            f"vectors of about {products} products take {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free{host};"
            " a block of parameters, a smaller max_products or a larger tol needs less",
            MemoryWarning,
            stacklevel=4,
        )


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
