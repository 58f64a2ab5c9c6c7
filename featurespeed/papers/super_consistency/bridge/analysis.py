"""Do the quantities of the first paper (arXiv:2311.18718) say where those of the second (arXiv:2402.17457) transfer?

Along the same runs a network has feature speed, angle and sensitivity at the last hidden cut node, and a sharpness. The
sensitivity S, ``rms(df/dt) = S * loss decay``, says how far features move for what the loss gains; if it falls by a
factor of 2 from the smallest to the largest size, the base learning rate must double for the features to move as much.
That is a shift of the best learning rate, in steps of 2, read off at initialisation. The argument takes for granted
that the loss decays equally fast at all sizes.

Arrays have the shape ``[seeds, sizes]`` or ``[seeds, sizes, steps]``; ``chosen`` are the seeds that count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurespeed.papers.super_consistency.bridge.spec import DECAYED
from featurespeed.papers.super_consistency.bridge.spec import SHIFTED as SHIFTED  # for who looks for it here
from featurespeed.statistics import Interval
from featurespeed.sweeps.transfer import (
    Losses,
    along_training,
    late_losses,
    of_network,
    over_seeds,
    rank_correlation,
    spread,
)

Seeds = Sequence[int] | slice
ALL = slice(None)

#: Name -> (quantity in the records, what is made of it). The angle enters as its factor 1/cos in the formula.
QUANTITIES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "feature sensitivity": ("feature_sensitivity", np.asarray),
    "feature speed": ("feature_speed_rms", np.asarray),
    "angle": ("bfa", lambda angle: 1.0 / np.cos(angle)),
    "sharpness": ("sharpness", np.asarray),
}
#: The quantity that is claimed to predict; the others are compared with it.
PREDICTOR = "feature sensitivity"
WIDTH_INDEPENDENT = 0.15  # a coefficient of variation over sizes up to this counts as independent of the size
FAILED = 1e6  # stands for the spread where a network has failed


@dataclass(frozen=True)
class Network:
    """One network of the sweep.

    Attributes:
        label: its name in the settings.
        size: the column that varies, ``width`` or ``depth``.
        rows: records; of the quantities that have a layer, those at the last hidden cut node.
        losses: at the end of training.
    """

    label: str
    size: str
    rows: pd.DataFrame
    losses: Losses

    @property
    def measured(self) -> list[float]:
        """Learning rates at which curvature was measured, ascending."""
        return sorted(self.rows.loc[self.rows["quantity"] == "sharpness", "learning_rate"].unique())

    def rate(self, among: Sequence[float] | None = None) -> float | None:
        """The measured rate nearest to the one that is best for all sizes, if no run fails there; None without one."""
        best = self.losses.common_best()
        survive = self.losses.survive()
        usable = [rate for rate in among or self.measured if survive[np.isclose(self.losses.rates, rate)].any()]
        if best is None or not usable:
            return None
        return min(usable, key=lambda rate: abs(np.log(rate / self.losses.rates[best])))

    def curves(self, name: str, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(sizes [S], steps [T], values [seeds, S, T])`` of a quantity of :data:`QUANTITIES`."""
        quantity, transform = QUANTITIES[name]
        sizes, steps, values = along_training(self.rows, quantity, rate, size=self.size)
        return sizes, steps, transform(values)

    def at_start(self, name: str) -> np.ndarray:
        """A quantity before the first update, ``[seeds, S]``: the same at every learning rate."""
        _, steps, values = self.curves(name, self.measured[0])
        if not len(steps) or steps[0] != 0:
            return np.full((len(self.losses.values), len(self.losses.sizes)), np.nan)
        return values[..., 0]

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.losses.values)


def network(table: pd.DataFrame, label: str) -> Network | None:
    """One network of a stage table; None if the table has no such network, or none that was measured."""
    rows = of_network(table, label)
    if rows.empty or not (rows["quantity"] == "sharpness").any():
        return None
    size = "depth" if rows["depth"].nunique() > 1 else "width"
    rows = _at_last_hidden(rows.sort_values([size, "learning_rate", "seed", "step"], kind="stable"), size)
    return Network(label, size, rows, late_losses(rows, size))


def _at_last_hidden(rows: pd.DataFrame, size: str) -> pd.DataFrame:
    """Rows without those at other cut nodes than the one before the readout; a deeper network has more of them."""
    by_layer = rows["quantity"].isin([quantity for quantity, _ in QUANTITIES.values()]) & (rows["layer"] > 0)
    last = rows[by_layer].groupby(size)["layer"].max()
    return rows[~by_layer | (rows["layer"] == rows[size].map(last) - 1)]


def predicted_shift(start: np.ndarray, chosen: Seeds = ALL) -> float:
    """Shift of the best learning rate, in steps of 2, that keeps ``learning rate x quantity`` constant over sizes.

    ``start [seeds, S]`` is the quantity before training: the shift is ``log2(smallest size / largest size)`` of its
    :func:`geometric_mean`.
    """
    means = geometric_mean(start[chosen])
    return float(np.log2(means[0] / means[-1]))


@dataclass(frozen=True)
class Prediction:
    """Shifts predicted from one quantity at initialisation, beside those of the best learning rates.

    Attributes:
        starts: the quantity before training, ``[seeds, S]`` a network; None predicts that nothing shifts.
        losses: of the same networks.
    """

    starts: Sequence[np.ndarray | None]
    losses: Sequence[Losses]

    def errors(self, chosen: Seeds = ALL) -> np.ndarray:
        """Absolute difference of predicted and observed shift, in steps of 2, a network; NaN without a best rate."""
        return np.array([abs(p - own.shift(chosen)) for p, own in self._pairs(chosen)])

    def largest_bounds(self, chosen: Seeds = ALL) -> tuple[float, float]:
        """Between which values the largest error lies when grids go on beyond their ends (``Losses.shift_bounds``)."""
        lows, highs = [], []
        for predicted, own in self._pairs(chosen):
            low, high = own.shift_bounds(chosen)
            lows.append(max(low - predicted, predicted - high, 0.0))
            highs.append(max(high - predicted, predicted - low))
        return float(np.max(lows)), float(np.max(highs))

    def largest_interval(self) -> Interval:
        """Largest error over the networks with the bootstrap over seeds, open where a grid ends too early."""
        seeds = len(self.losses[0].values)
        low, high = (over_seeds(lambda chosen, k=k: self.largest_bounds(chosen)[k], seeds) for k in (0, 1))
        return Interval(float(np.max(self.errors())), low.low, high.high, seeds, low.estimator)

    def mispaired(self) -> Prediction:
        """Each network with the prediction of the next one, for a control."""
        return Prediction([*self.starts[1:], self.starts[0]], self.losses)

    def _pairs(self, chosen: Seeds) -> list[tuple[float, Losses]]:
        predicted = [0.0 if start is None else predicted_shift(start, chosen) for start in self.starts]
        return list(zip(predicted, self.losses, strict=True))


def prediction(networks: Sequence[Network], name: str | None) -> Prediction:
    """Shifts predicted from a quantity of :data:`QUANTITIES`; None: nothing shifts."""
    return Prediction([None if name is None else own.at_start(name) for own in networks], [n.losses for n in networks])


def geometric_mean(values: np.ndarray) -> np.ndarray:
    """Over seeds, ``[seeds, ...] -> [...]``; NaN where a value is missing or not positive.

    A sensitivity divides by the decay of the loss, which comes close to 0 in single seeds: their mean would be theirs.
    """
    return np.exp(np.log(np.where(values > 0, values, np.nan)).mean(0))


def spreads(values: np.ndarray, chosen: Seeds = ALL) -> np.ndarray:
    """Coefficient of variation over sizes at every step, of :func:`geometric_mean`, ``[seeds, S, T] -> [T]``."""
    means = geometric_mean(values[chosen])
    return np.array([spread(column[None]) for column in means.T])


def spread_intervals(values: np.ndarray) -> list[Interval]:
    """:func:`spreads` with the bootstrap over seeds, one interval a step."""
    return [
        over_seeds(lambda chosen, step=step: float(spreads(values[..., [step]], chosen)[0]), len(values))
        for step in range(values.shape[-1])
    ]


def share_held(steps: np.ndarray, spread_at: np.ndarray) -> float:
    """Share of training over which the spread is at most :data:`WIDTH_INDEPENDENT`, linear between probe steps.

    A step without a spread, because a network has failed, is not held. A quantity may leave and come back: at finite
    width the first steps differ by the size of the outputs, which training forgets.
    """
    every = np.arange(steps[0], steps[-1] + 1)
    return float((np.interp(every, steps, np.nan_to_num(spread_at, nan=FAILED)) <= WIDTH_INDEPENDENT).mean())


def cell_values(network: Network, predictor: str = PREDICTOR) -> tuple[np.ndarray, np.ndarray] | None:
    """``predictor`` and sharpness at :meth:`Network.rate`, each ``[seeds, S, T]``; None without a rate."""
    rate = network.rate()
    if rate is None:
        return None
    return network.curves(predictor, rate)[2], network.curves("sharpness", rate)[2]


def cell_correlation(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], chosen: Seeds = ALL, partners: Sequence[int] | None = None
) -> float:
    """Rank correlation, over networks and probe steps, of the two spreads over sizes.

    ``partners``: which network's sharpness stands beside each network's predictor; None is its own.
    """
    first = [spreads(values, chosen) for values, _ in pairs]
    second = [spreads(pairs[own][1], chosen) for own in (range(len(pairs)) if partners is None else partners)]
    return rank_correlation(np.concatenate(first), np.concatenate(second))


def decay_pair(table: pd.DataFrame, label: str) -> tuple[Network, Network, float] | None:
    """``(without decay, with decay, learning rate)`` at common widths; None without a rate at which none fails."""
    plain, decayed = network(table, label), network(table, DECAYED[label])
    if plain is None or decayed is None:
        return None
    widths = np.intersect1d(plain.losses.sizes, decayed.losses.sizes)
    pair = [network(_of_widths(table, widths), own.label) for own in (plain, decayed)]
    common = [rate for rate in pair[0].measured if any(np.isclose(rate, pair[1].measured))]
    usable = [rate for rate in common if pair[1].rate([rate]) is not None]
    rate = pair[0].rate(usable) if usable else None
    return None if rate is None or len(widths) < 2 else (*pair, rate)


def _of_widths(table: pd.DataFrame, widths: np.ndarray) -> pd.DataFrame:
    return table[table["width"].isin(widths)]
