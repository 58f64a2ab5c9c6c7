"""How far past their edge of stability the ConvNets of arXiv:2402.17457 train under scaled gradients (ours).

The scalings and the width pattern are our reconstruction of arXiv:2502.13110; the networks are muP ConvNets. A learning
rate is kappa times the edge at initialisation; the largest kappa up to which a network trains says how far a scaling
reaches, and its logarithm to base 2 compares in steps of the grid, seed by seed. ``chosen`` are the seeds that count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurespeed.papers.edge_of_stability import shared
from featurespeed.papers.edge_of_stability.bridge.spec import NETWORKS, SCALINGS
from featurespeed.papers.edge_of_stability.bridge.spec import QUADRATIC as QUADRATIC  # for who looks for it here
from featurespeed.papers.edge_of_stability.bridge.spec import UNIFORM as UNIFORM
from featurespeed.papers.edge_of_stability.shared import Runs
from featurespeed.statistics import Interval, mean_interval
from featurespeed.sweeps.losses import ALL, Chosen
from featurespeed.sweeps.transfer import each_over_seeds

BEYOND = "beyond_share"
FAR = 1.0  # steps of 2 in the largest kappa that count as going past the edge
MOST_OPEN = 0.2  # share of the seeds that may be undecided because the grid ends too early


@dataclass(frozen=True)
class Reach:
    """How far one network gets under one scaling.

    Attributes:
        kappas: ``[K]`` ascending.
        seeds: ``[S]``.
        trained: ``[S, K]``.
    """

    kappas: np.ndarray
    seeds: np.ndarray
    trained: np.ndarray

    def place(self, chosen: Chosen = ALL) -> int:
        """Index of the largest kappa at which, and below which, all chosen seeds train; -1 if there is none."""
        together = self.trained[chosen].all(0)
        return int(np.cumprod(together).sum()) - 1

    def largest(self, chosen: Chosen = ALL) -> float:
        """That kappa; half of the smallest one if they fail there."""
        place = self.place(chosen)
        return float(self.kappas[place] if place >= 0 else self.kappas[0] / 2)

    def bounds(self, chosen: Chosen = ALL) -> tuple[float, float]:
        """Between which values it lies when the grid goes on beyond its ends."""
        place, largest = self.place(chosen), self.largest(chosen)
        return 0.0 if place < 0 else largest, np.inf if place == len(self.kappas) - 1 else largest

    @property
    def at_edge(self) -> bool:
        """Whether the grid ends too early: :meth:`largest` is only a bound."""
        return self.place() in (-1, len(self.kappas) - 1)

    def interval(self) -> Interval:
        """For the figure: :meth:`largest` with the bootstrap over seeds, open where the grid ends too early."""
        low, high = each_over_seeds(lambda chosen: np.array(self.bounds(chosen)), len(self.seeds))
        return Interval(self.largest(), low.low, high.high, low.n, low.estimator)

    @property
    def places(self) -> np.ndarray:
        """Of each seed: index of the largest kappa up to which its network trains, ``[S]``; -1 if there is none."""
        return np.cumprod(self.trained, axis=1).sum(1) - 1

    @property
    def of_each(self) -> np.ndarray:
        """That kappa of each seed, ``[S]``; half of the smallest one if its network fails there."""
        return np.where(self.places >= 0, self.kappas[self.places], self.kappas[0] / 2)

    @property
    def open(self) -> np.ndarray:
        """Whether the grid ends too early for a seed, ``[S]``: its largest kappa is only a bound."""
        return np.isin(self.places, (-1, len(self.kappas) - 1))

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each seed: between which values log2 of that kappa lies when the grid goes on beyond its ends, ``[S]``."""
        known = np.log2(self.of_each)
        low = np.where(self.places < 0, -np.inf, known)
        return low, np.where(self.places == len(self.kappas) - 1, np.inf, known)

    def of_seeds(self, seeds: np.ndarray) -> Reach:
        """The same for some seeds, by their numbers."""
        return Reach(self.kappas, seeds, self.trained[np.searchsorted(self.seeds, seeds)])


def reach(runs: Runs) -> Reach:
    """:class:`Reach` of the runs of one network under one scaling."""
    return Reach(runs.kappas, runs.seeds, runs.trained)


@dataclass(frozen=True)
class Gain:
    """What one network reaches over another, seed by seed.

    Attributes:
        steps: the difference of their log2 of the largest kappa, ``[S]``: of the seeds that both have.
        least, most: between which values it lies, ``[S]``: not known better where a grid ends too early.
        open: whether one does, ``[S]``.
    """

    steps: np.ndarray
    least: np.ndarray
    most: np.ndarray
    open: np.ndarray

    @classmethod
    def of(cls, one: Reach, other: Reach) -> Gain:
        """Of the seeds that both have."""
        seeds = np.intersect1d(one.seeds, other.seeds)
        one, other = one.of_seeds(seeds), other.of_seeds(seeds)
        steps = np.log2(one.of_each) - np.log2(other.of_each)
        (low, high), (other_low, other_high) = one.limits, other.limits
        return cls(steps, low - other_high, high - other_low, one.open | other.open)

    @property
    def is_bound(self) -> bool:
        """Whether more than a fifth of the seeds lie at an end of the grid."""
        return bool(self.open.mean() > MOST_OPEN)

    def interval(self) -> Interval:
        """For the figure: mean with its t interval; seeds that all agree tell it to within a step of the grid.

        Raises:
            ValueError: fewer than two seeds.
        """
        found = mean_interval(self.steps)
        margin = 0.0 if found.low < found.high else 1.0
        return Interval(found.value, found.low - margin, found.high + margin, found.n, "mean, t interval")


def beyond_at_reach(runs: Runs) -> np.ndarray:
    """Share of steps beyond the edge at each seed's own largest kappa, ``[S]``; NaN where no kappa trains."""
    own, shares = reach(runs), runs.over_training(BEYOND)
    return np.where(own.places >= 0, shares[np.arange(len(shares)), own.places], np.nan)


def share_beyond(runs: Runs, kappa: float) -> Interval:
    """For the figure: share of steps beyond the edge at one kappa, mean over seeds with the bootstrap over them."""
    return shared.mean_interval(runs.at(runs.over_training(BEYOND), kappa))


def found(records: pd.DataFrame) -> dict[tuple[str, str], Runs]:
    """``(network, scaling)`` -> its runs, of those that the table has, in the order of figures."""
    wanted = [(network, scaling) for network in NETWORKS for scaling in SCALINGS]
    return {key: shared.runs(records, *key) for key in wanted if shared.has(records, *key)}
