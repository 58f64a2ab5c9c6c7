"""The vectors of a Krylov space, in pieces that are never copied, and where a GPU is full on the host."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import psutil
import torch
from torch import Tensor

PIECE = (8, 64)  # vectors in a piece, at least and at most,
PIECE_BYTES = 2**28  # and in between so many that it has this size
MOVED = 2  # vectors that come from the host at a time
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
        least, most = PIECE
        self._rows = max(least, min(most, PIECE_BYTES // max(bytes_each, 1)))
        self._device = like.device  # where new pieces are made
        self._pieces: list[Tensor] = []
        self.steps = 0

    def append(self, vectors: Tensor) -> None:
        """One more dimension, ``[E, size]``."""
        place = self.steps % self._rows
        if not place:
            piece = self._new_piece()  # first: it may move the others, into another list
            self._pieces.append(piece)
        self._pieces[-1][:, place] = vectors
        self.steps += 1

    def project_out(self, vectors: Tensor) -> Tensor:
        """Take what lies in the space out of ``vectors [E, size]``, in place; its coordinates ``[E, steps]``."""
        inside = []
        for piece in self._filled():
            inside.append(inner_products(piece, vectors))
        for piece, found in zip(self._filled(), inside, strict=True):
            vectors.sub_(torch.bmm(found.unsqueeze(1), piece).squeeze(1))
        return inside[0] if len(inside) == 1 else torch.cat(inside, dim=1)

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

    def _filled(self, move: bool = True) -> Iterator[Tensor]:
        """The vectors piece by piece, on the device of the products; from the host a few at a time."""
        for index, piece in enumerate(self._pieces):
            used = piece[:, : min(self._rows, self.steps - index * self._rows)]
            away = piece.device != self._like.device
            for part in used.split(MOVED, dim=1) if away else (used,):
                yield part.to(self._like.device) if away and move else part

    def to_host(self) -> bool:
        """Make room on a GPU that is full; False where there is none to be made."""
        if self._device.type == "cpu":
            return False
        self._device = torch.device("cpu")
        self._pieces = [piece.cpu() for piece in self._pieces]
        torch.cuda.empty_cache()
        return True

    def _new_piece(self) -> Tensor:
        members, size = self._shape
        try:
            return self._like.new_empty((members, self._rows, size), device=self._device)
        except torch.OutOfMemoryError:
            if not self.to_host():
                raise
        return self._new_piece()


def inner_products(basis: Tensor, vectors: Tensor) -> Tensor:
    """``[E, k]``, what ``vectors [E, size]`` have along each vector of ``basis [E, k, size]``."""
    if vectors.is_cuda:
        return torch.bmm(basis, vectors.unsqueeze(2)).squeeze(2)
    return torch.bmm(vectors.unsqueeze(1), basis.transpose(1, 2)).squeeze(1)  # the other one takes ten times as long


def foresee(members: int, size: int, dtype: torch.dtype, device: torch.device, products: int) -> None:
    """Say before the first product that a basis of so many vectors is likely not to fit.

    Warns:
        MemoryWarning: with the numbers, and what would help.
    """
    needed = members * size * products * torch.finfo(dtype).bits // 8
    if needed < GIB // 8:  # asking takes longer than measuring a small network
        return
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
