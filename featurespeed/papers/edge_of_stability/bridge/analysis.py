"""How far past their edge of stability the ConvNets of arXiv:2402.17457 train under scaled gradients (ours).

The scalings and the width pattern are our reconstruction of arXiv:2502.13110; the networks are muP ConvNets. A learning
rate is kappa times the edge at initialisation; the largest kappa at which all networks up to it train says how far a
scaling reaches, and its logarithm to base 2 compares in steps of the grid. ``chosen`` are the seeds that count.
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
from featurespeed.statistics import Interval
from featurespeed.sweeps.transfer import ALL, Chosen, over_seeds

BEYOND = "beyond_share"
FAR = 1.0  # steps of 2 in the largest kappa that count as going past the edge


def trained(runs: Runs) -> np.ndarray:
    """Whether a network trained, ``[S, K]``: it neither diverged nor died, and its loss ends below chance.

    Chance is the cross-entropy of equal probabilities, log of the number of classes, against the last record of the
    training loss. Stricter than :func:`featurespeed.sweeps.transfer.late_losses`, which lets a network pass for its
    accuracy: here one whose loss has exploded without an overflow must count as failed.
    """
    return runs.finite & (runs.final("training_loss") < np.log(runs.rows["output_dim"].max()))


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
        """:meth:`largest` with the bootstrap over seeds, open where the grid ends too early."""
        low, high = (over_seeds(lambda chosen, k=k: self.bounds(chosen)[k], len(self.seeds)) for k in (0, 1))
        return Interval(self.largest(), low.low, high.high, low.n, low.estimator)

    def of_seeds(self, seeds: np.ndarray) -> Reach:
        """The same for some seeds, by their numbers."""
        return Reach(self.kappas, seeds, self.trained[np.searchsorted(self.seeds, seeds)])


def reach(runs: Runs) -> Reach:
    """:class:`Reach` of the runs of one network under one scaling."""
    return Reach(runs.kappas, runs.seeds, trained(runs))


def gain(one: Reach, other: Reach) -> Interval:
    """``log2(largest kappa of one / of the other)`` with the bootstrap over the seeds that both have.

    Open where a grid ends too early (:meth:`Reach.bounds`).

    Raises:
        ValueError: fewer than two seeds in common.
    """
    seeds = np.intersect1d(one.seeds, other.seeds)
    one, other = one.of_seeds(seeds), other.of_seeds(seeds)

    def bounds(chosen: Chosen) -> tuple[float, float]:
        with np.errstate(divide="ignore"):  # log2(0): below every kappa of the grid
            (low, high), (other_low, other_high) = (np.log2(r.bounds(chosen)) for r in (one, other))
        return float(low - other_high), float(high - other_low)

    low, high = (over_seeds(lambda chosen, k=k: bounds(chosen)[k], len(seeds)) for k in (0, 1))
    return Interval(float(np.log2(one.largest() / other.largest())), low.low, high.high, len(seeds), low.estimator)


def share_beyond(runs: Runs, kappa: float) -> Interval:
    """Share of steps beyond the edge of the minibatch at one kappa: mean over seeds, with the bootstrap over them."""
    return shared.mean_interval(runs.at(runs.over_training(BEYOND), kappa))


def found(records: pd.DataFrame) -> dict[tuple[str, str], Runs]:
    """``(network, scaling)`` -> its runs, of those that the table has, in the order of figures."""
    wanted = [(network, scaling) for network in NETWORKS for scaling in SCALINGS]
    return {key: shared.runs(records, *key) for key in wanted if shared.has(records, *key)}
