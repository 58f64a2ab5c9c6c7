"""Texts as numbers of their tokens: arrays mapped into memory, a vocabulary with its hash, batches of sequences.

Tokens are words between blanks, the end of a line being the word ``<eos>``, or characters. The vocabulary is sorted, so
that it does not depend on the order of the articles.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurespeed.data.content import DataError
from featurespeed.data.registry import SPLITS
from featurespeed.data.spec import sequences
from featurespeed.machine.files import atomic_path
from featurespeed.machine.locks import held_lock
from featurespeed.randomness import generator

END_OF_LINE = "<eos>"
VOCABULARY = "vocabulary.json"


@dataclass(frozen=True)
class Tokens:
    """Numbers of tokens, int32 [n], 0 to ``len(vocabulary) - 1``, and what they stand for."""

    train: np.ndarray
    test: np.ndarray
    vocabulary: tuple[str, ...]

    @property
    def vocabulary_sha256(self) -> str:
        """SHA-256 of the vocabulary, one token a line."""
        return vocabulary_sha256(self.vocabulary)


def vocabulary_sha256(vocabulary: Sequence[str]) -> str:
    """SHA-256 of the tokens in order, each ended by a zero byte: a character may itself end a line."""
    return hashlib.sha256("".join(f"{token}\0" for token in vocabulary).encode()).hexdigest()


def split_tokens(text: bytes, unit: str) -> list[str]:
    """The tokens of a text, words or characters."""
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"a text that is not UTF-8: byte {error.start} is {text[error.start]:#04x}") from None
    return decoded.replace("\n", f" {END_OF_LINE} ").split() if unit == "word" else list(decoded)


def tokenise(texts: Mapping[str, np.ndarray], unit: str) -> Tokens:
    """Tokens of both splits of a text, uint8 [n] each; the vocabulary is that of both."""
    parts = {split: split_tokens(texts[split].tobytes(), unit) for split in SPLITS}
    vocabulary = tuple(sorted(set().union(*parts.values())))
    number = {token: index for index, token in enumerate(vocabulary)}
    train, test = (np.fromiter(map(number.__getitem__, parts[split]), np.int32, len(parts[split])) for split in SPLITS)
    return Tokens(train, test, vocabulary)


def open_tokens(texts: Mapping[str, np.ndarray], unit: str, folder: Path) -> Tokens:
    """The tokens of a text from a folder, mapped into memory; made there first if it has none of this very text.

    Args:
        texts: split -> bytes, verified.
        unit: word or character.
        folder: holds one array a split, and the vocabulary with the hash of the text that it belongs to.
    """
    identity = {split: hashlib.sha256(texts[split]).hexdigest() for split in SPLITS} | {"unit": unit}
    with held_lock(folder.with_name(f"{folder.name}.lock")):
        found = _read(folder, identity)
        if found is None:
            _write(folder, tokenise(texts, unit), identity)
            found = _read(folder, identity)
    return found


def _read(folder: Path, identity: Mapping[str, str]) -> Tokens | None:
    """What a folder holds of a text; None if it is of another one, or damaged."""
    try:
        about = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        # Copied where written to, which nobody does: PyTorch warns of arrays that are read only.
        train, test = (np.load(folder / f"{split}.npy", mmap_mode="c") for split in SPLITS)
        tokens = Tokens(train, test, tuple(about["vocabulary"]))
        return tokens if about == _facts(tokens, identity) else None
    except Exception:  # readers of damaged files raise a dozen kinds
        return None


def _facts(tokens: Tokens, identity: Mapping[str, str]) -> dict[str, Any]:
    """What is kept beside the arrays, which tells whether they are those of a text, and whole."""
    return {
        "text": dict(identity),
        "arrays": {split: hashlib.sha256(getattr(tokens, split)).hexdigest() for split in SPLITS},
        "vocabulary_sha256": tokens.vocabulary_sha256,
        "vocabulary": list(tokens.vocabulary),
    }


def _write(folder: Path, tokens: Tokens, identity: Mapping[str, str]) -> None:
    for split in SPLITS:
        with atomic_path(folder / f"{split}.npy") as part, part.open("wb") as file:
            np.save(file, getattr(tokens, split))
    with atomic_path(folder / VOCABULARY) as part:
        part.write_text(json.dumps(_facts(tokens, identity), ensure_ascii=False), encoding="utf-8")


class SequenceStream:
    """Training batches of S streams of sequences, a probe batch and the test set.

    As :class:`featurespeed.data.batches.BatchStream` does for images: a batch is a function of its seed and the step;
    every epoch has all sequences once, in an order of its own. Sequences stand one after the other in the text and have
    no token in common, but that the answer to the last one is the first of the next.

    Args:
        train, test: numbers of tokens, [n].
        length: tokens of a sequence.
        seeds: one a stream.
        batch_size: sequences a batch; None for all of them, in order.
        device: of the batches.

    Raises ValueError, one line, for a batch larger than the data, or a sequence longer than one of the texts.
    """

    def __init__(
        self,
        train: np.ndarray,
        test: np.ndarray,
        length: int,
        *,
        seeds: Sequence[int],
        batch_size: int | None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.seeds, self.length, self.device, self.batch_size = tuple(seeds), length, torch.device(device), batch_size
        self._train = torch.from_numpy(train).to(self.device)
        self._test = test
        self._count = sequences(len(train), length)
        for name, text in (("training", train), ("test", test)):
            if sequences(len(text), length) < 1:
                raise ValueError(
                    f"length = {length}: a sequence and its last answer are longer than the {len(text)} {name} tokens"
                )
        if batch_size is not None and not 1 <= batch_size <= self._count:
            raise ValueError(f"batch_size = {batch_size}: must be 1 to {self._count}, the number of training sequences")
        self._epoch: int | None = None
        self._order: Tensor

    def __len__(self) -> int:
        """Number of training sequences."""
        return self._count

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch; the last, incomplete one is dropped."""
        return len(self) // (self.batch_size or len(self))

    def for_seeds(self, seeds: Sequence[int]) -> SequenceStream:
        """Other streams of the same text, which is shared, not copied."""
        other = copy.copy(self)
        other.seeds, other._epoch = tuple(seeds), None
        return other

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Tokens and answers of a step, counted from 0: int64 [S, B, T] each."""
        if self.batch_size is None:
            chosen = torch.arange(len(self), device=self.device).expand(len(self.seeds), -1)
            return self._cut(self._train, chosen)
        epoch, position = divmod(step, self.steps_per_epoch)
        self._enter(epoch)
        return self._cut(self._train, self._order[:, position * self.batch_size : (position + 1) * self.batch_size])

    def fixed_batch(self, count: int, seed: int, augmented: bool = False) -> tuple[Tensor, Tensor]:
        """A probe batch: random training sequences in order, int64 [count, T], and their answers.

        `augmented` changes nothing: a text is not.
        """
        # Raw words of the bit generator, whose values are promised for every version of numpy.
        rank = np.random.Philox(seed).random_raw(len(self))
        chosen = torch.from_numpy(np.sort(np.argsort(rank, kind="stable")[:count])).to(self.device)
        return self._cut(self._train, chosen)

    def test_set(self) -> tuple[Tensor, Tensor]:
        """Sequences of the test text, int64 [m, T], and their answers."""
        text = torch.from_numpy(self._test).to(self.device)
        return self._cut(text, torch.arange(sequences(len(text), self.length), device=self.device))

    def test_batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The test set, so many sequences at a time."""
        yield from zip(*(part.split(size) for part in self.test_set()), strict=True)

    def _cut(self, text: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        places = chosen[..., None] * self.length + torch.arange(self.length + 1, device=self.device)
        found = text[places].long()
        return found[..., :-1].contiguous(), found[..., 1:].contiguous()

    def _enter(self, epoch: int) -> None:
        """Draw the epoch's order, int64 [S, sequences], unless it is there."""
        if epoch == self._epoch:
            return
        orders = [torch.randperm(len(self), generator=generator(seed, "batches", epoch)) for seed in self.seeds]
        self._order = torch.stack(orders).to(self.device)
        self._epoch = epoch
