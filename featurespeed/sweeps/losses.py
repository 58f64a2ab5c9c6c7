"""Losses at the end of training over seeds, sizes and learning rates: what best learning rates are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LATE_LOSS = 0.1  # share of the steps over which the loss at the end is averaged
FAILING = 0.2  # share of its seeds above which a learning rate has failed at a size

Chosen = Sequence[int] | np.ndarray | slice
ALL = slice(None)


@dataclass(frozen=True)
class Losses:
    """Losses at the end of training of one network; infinite where a network failed.

    Attributes:
        sizes: ``[S]``, ascending.
        rates: ``[R]`` base learning rates, ascending.
        values: ``[seeds, S, R]``.
    """

    sizes: np.ndarray
    rates: np.ndarray
    values: np.ndarray

    def best(self, chosen: Chosen = ALL) -> np.ndarray:
        """Index of the best learning rate at every size, ``[S]``: least mean loss over seeds; -1 where all fail.

        One seed that fails is a failure of its learning rate.
        """
        means = self.values[chosen].mean(0)
        return np.where(np.isfinite(means).any(1), means.argmin(1), -1)

    @property
    def last(self) -> int:
        """Index of the largest learning rate."""
        return len(self.rates) - 1

    def survive(self, chosen: Chosen = ALL) -> np.ndarray:
        """Whether all networks at a learning rate trained, of all sizes and the chosen seeds, ``[R]``."""
        return np.isfinite(self.values[chosen]).all((0, 1))

    def common_best(self, chosen: Chosen = ALL) -> int | None:
        """Index of the learning rate that is best for all sizes together: least mean over sizes of the log loss.

        None if there is none at which all networks train.
        """
        survive = self.survive(chosen)
        if not survive.any():
            return None
        logs = np.log(np.where(survive, self.values[chosen].mean(0), 1.0)).mean(0)
        return int(np.where(survive, logs, np.inf).argmin())
