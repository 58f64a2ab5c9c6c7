"""Random numbers of training runs: every step and every batch draws from a stream of its own.

A run that goes on after it was stopped, and runs at other learning rates, then draw the same numbers at the same step,
without any state that would have to be kept.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from featurespeed.randomness import derive_seed


def seed_everything(seed: int, *names: int | str) -> None:
    """Start PyTorch's, NumPy's and Python's random numbers at the stream ``names`` of a seed."""
    start = derive_seed(seed, *names)
    torch.manual_seed(start)
    np.random.seed(start % 2**32)  # noqa: NPY002 (what a caller's code may draw from)
    random.seed(start)


@contextmanager
def own_streams() -> Iterator[None]:
    """While inside, random numbers may be started anew; afterwards the caller's go on as if nothing had been drawn."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
