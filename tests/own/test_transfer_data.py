"""Streams of batches: of a seed always the same, from any step on; every epoch shows every example."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from featurespeed.own.data import source_of

NUMBERS = torch.arange(12)
PAIR = (NUMBERS.reshape(12, 1), NUMBERS)
BATCHES = [(NUMBERS[k : k + 3], NUMBERS[k : k + 3]) for k in range(0, 12, 3)]


class Noisy(Dataset):
    """Examples with random numbers added, of PyTorch and of NumPy."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, place: int):
        return NUMBERS[place] + torch.rand(()) + np.random.rand() / 100, NUMBERS[place]  # noqa: NPY002


def from_seed(seed: int):
    stream = torch.Generator().manual_seed(seed)
    return [(NUMBERS[order], NUMBERS[order]) for order in torch.randperm(12, generator=stream).split(3)]


def sources():
    own = torch.Generator().manual_seed(1)
    return {
        "pair": source_of(PAIR, 3),
        "mapping": source_of({"x": NUMBERS, "y": NUMBERS}, 3),
        "list": source_of(BATCHES),
        "loader": source_of(DataLoader(TensorDataset(*PAIR), batch_size=3, shuffle=True)),
        "loader with a generator": source_of(
            DataLoader(TensorDataset(*PAIR), batch_size=3, shuffle=True, generator=own)
        ),
        "sampler with a generator": source_of(
            DataLoader(TensorDataset(*PAIR), batch_size=3, sampler=RandomSampler(range(12), generator=own))
        ),
        "noise": source_of(DataLoader(Noisy(), batch_size=3, shuffle=True)),
        "worker": source_of(DataLoader(Noisy(), batch_size=3, shuffle=True, num_workers=1, persistent_workers=True)),
        "function": source_of(from_seed),
    }


def some(source, seed: int, start: int, count: int) -> list[list[float]]:
    batches = islice(source.stream(seed, start), count)
    return [list(batch.values() if isinstance(batch, dict) else batch)[0].flatten().tolist() for batch in batches]


@pytest.mark.parametrize("name", sources())
def test_a_stream_is_the_same_again_and_from_any_step_on(name):
    source = sources()[name]
    whole = some(source, 0, 0, 11)
    torch.rand(5)
    assert some(source, 0, 0, 11) == whole
    for start in (1, 4, 7):
        torch.rand(5)
        assert some(source, 0, start, 11 - start) == whole[start:]
    assert some(source, 1, 0, 11) != whole


@pytest.mark.parametrize("name", [name for name in sources() if name not in ("noise", "worker")])
def test_every_epoch_shows_every_example_once(name):
    batches = some(sources()[name], 3, 0, 8)
    for epoch in (batches[:4], batches[4:]):
        assert sorted(int(number) for batch in epoch for number in batch) == NUMBERS.tolist()
    if name != "function":
        assert batches[:4] != batches[4:]


def test_what_fills_no_batch_is_left_out_and_no_batch_size_is_all():
    assert [len(batch) for batch in some(source_of(PAIR, 5), 0, 0, 5)] == [5] * 5
    assert some(source_of(PAIR), 0, 0, 2) == [NUMBERS.tolist()] * 2


def test_streams_of_several_seeds_at_a_time_are_those_of_each():
    source = source_of(PAIR, 3)
    together = list(islice(zip(source.stream(0), source.stream(1), strict=True), 6))
    for seed in (0, 1):
        assert [pair[seed][0].flatten().tolist() for pair in together] == some(source, seed, 0, 6)
