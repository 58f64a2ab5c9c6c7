"""Do the quantities of the first paper (arXiv:2311.18718) say where those of the second (arXiv:2402.17457) transfer?

Along the same runs a network has feature speed, angle and sensitivity at the last hidden cut node, and a sharpness. The
sensitivity S, ``rms(df/dt) = S * loss decay``, says how far features move for what the loss gains; if it falls by a
factor of 2 from the smallest to the largest size, the base learning rate must double for the features to move as much.
That is a shift of the best learning rate, in steps of 2, read off at initialisation. The argument takes for granted
that the loss decays equally fast at all sizes.

The unit is the seed: exponents in the size, shifts and correlations have one number each. Arrays have the shape
``[seeds, sizes]`` or ``[seeds, sizes, steps]``. Coefficients of variation, with their bootstrap over ``chosen`` seeds,
are only drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from featurespeed.papers.super_consistency.bridge.spec import DECAYED
from featurespeed.papers.super_consistency.bridge.spec import SHIFTED as SHIFTED  # for who looks for it here
from featurespeed.statistics import Interval
from featurespeed.sweeps import brackets
from featurespeed.sweeps.brackets import Ranges
from featurespeed.sweeps.dependence import exponents
from featurespeed.sweeps.losses import Losses
from featurespeed.sweeps.optima import Optima, optima
from featurespeed.sweeps.transfer import along_training, each_over_seeds, late_losses, of_network

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
WIDTH_INDEPENDENT = (
    0.15  # a coefficient of variation over sizes up to this counts as independent of the size, in the figure
)
FAILED = 1e6  # stands for the spread where a network has failed
FEWEST_STEPS = 5  # probe steps that a rank correlation needs


@dataclass(frozen=True)
class Network:
    """One network of the sweep.

    Attributes:
        label: its name in the settings.
        size: the column that varies, ``width`` or ``depth``.
        rows: records; of the quantities that have a layer, those at the last hidden cut node.
        losses: at the end of training.
        optima: best learning rates of every seed and size.
    """

    label: str
    size: str
    rows: pd.DataFrame
    losses: Losses
    optima: Optima

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

    @property
    def span(self) -> float:
        """Ratio of the largest to the smallest size."""
        return float(self.losses.sizes[-1] / self.losses.sizes[0])

    def shifts(self) -> np.ndarray:
        """Shift of the best learning rate from the smallest to the largest size, in steps of 2, ``[seeds]``."""
        return self.optima.shifts(self.span)

    def bounded_shifts(self) -> Ranges:
        """:meth:`shifts` of best rates that may lie next to one that failed."""
        return brackets.shifts(self.optima, self.span)

    def start_exponents(self, name: str) -> np.ndarray:
        """Exponent in the size of a quantity before the first update, ``[seeds]``; ValueError where it has none."""
        return exponents(self.losses.sizes, self.at_start(name))


def network(table: pd.DataFrame, label: str) -> Network | None:
    """One network of a stage table; None if the table has no such network, or none that was measured."""
    rows = of_network(table, label)
    if rows.empty or not (rows["quantity"] == "sharpness").any():
        return None
    size = "depth" if rows["depth"].nunique() > 1 else "width"
    rows = _at_last_hidden(rows.sort_values([size, "learning_rate", "seed", "step"], kind="stable"), size)
    losses = late_losses(rows, size)
    return Network(label, size, rows, losses, optima(losses))


def _at_last_hidden(rows: pd.DataFrame, size: str) -> pd.DataFrame:
    """Rows without those at other cut nodes than the one before the readout; a deeper network has more of them."""
    by_layer = rows["quantity"].isin([quantity for quantity, _ in QUANTITIES.values()]) & (rows["layer"] > 0)
    last = rows[by_layer].groupby(size)["layer"].max()
    return rows[~by_layer | (rows["layer"] == rows[size].map(last) - 1)]


def predicted_shifts(network: Network, name: str | None, source: Network | None = None) -> np.ndarray:
    """Shift of the best learning rate, in steps of 2, that keeps ``learning rate x quantity`` constant, ``[seeds]``.

    Args:
        network: whose sizes are spanned.
        name: of :data:`QUANTITIES`, before training; None predicts that nothing shifts.
        source: the network whose exponent is used, that of another one for a control.
    """
    if name is None:
        return np.zeros(network.seeds)
    return -(source or network).start_exponents(name) * np.log2(network.span)


def prediction_errors(networks: Sequence[Network], name: str | None, mispaired: bool = False) -> np.ndarray:
    """Predicted minus observed shift, in steps of 2, ``[seeds, networks]``; ``mispaired``: each has the next one's."""
    pairs = _pairs(networks, mispaired)
    return np.column_stack([predicted_shifts(own, name, source) - own.shifts() for own, source in pairs])


def bounded_errors(networks: Sequence[Network], name: str | None, mispaired: bool = False) -> list[Ranges]:
    """:func:`prediction_errors` of shifts that are known within bounds, one entry a network."""
    pairs = _pairs(networks, mispaired)
    return [Ranges.of(predicted_shifts(own, name, source)) - own.bounded_shifts() for own, source in pairs]


def _pairs(networks: Sequence[Network], mispaired: bool) -> list[tuple[Network, Network]]:
    """Every network with the one whose prediction it is given."""
    return list(zip(networks, [*networks[1:], networks[0]] if mispaired else networks, strict=True))


def geometric_mean(values: np.ndarray) -> np.ndarray:
    """Over seeds, ``[seeds, ...] -> [...]``; NaN where a value is missing or not positive.

    A sensitivity divides by the decay of the loss, which comes close to 0 in single seeds: their mean would be theirs.
    """
    return np.exp(np.log(np.where(values > 0, values, np.nan)).mean(0))


def spreads(values: np.ndarray, chosen: Seeds = ALL) -> np.ndarray:
    """Coefficient of variation over sizes at every step, of :func:`geometric_mean`, ``[seeds, S, T] -> [T]``."""
    means = geometric_mean(values[chosen])
    with np.errstate(divide="ignore", invalid="ignore"):
        return means.std(0, ddof=1) / means.mean(0)


def spread_intervals(values: np.ndarray) -> list[Interval]:
    """:func:`spreads` with the bootstrap over seeds, one interval a step."""
    if not values.shape[-1]:
        return []
    return each_over_seeds(lambda chosen: spreads(values, chosen), len(values))


def share_held(steps: np.ndarray, spread_at: np.ndarray) -> float:
    """Share of training over which the spread is at most :data:`WIDTH_INDEPENDENT`, linear between probe steps.

    A step without a spread, because a network has failed, is not held. A quantity may leave and come back: at finite
    width the first steps differ by the size of the outputs, which training forgets.
    """
    every = np.arange(steps[0], steps[-1] + 1)
    return float((np.interp(every, steps, np.nan_to_num(spread_at, nan=FAILED)) <= WIDTH_INDEPENDENT).mean())


def steepness(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Absolute exponent in the size at every step, ``[seeds, S, T] -> [seeds, T]``; NaN without a logarithm."""
    logs = np.log(np.where(values > 0, values, np.nan))
    x = np.log(sizes) - np.log(sizes).mean()
    return np.abs(np.einsum("s,nst->nt", x / (x @ x), logs))


def along(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean over training, linear between probe steps, ``[seeds, T] -> [seeds]``."""
    return np.trapezoid(values, steps, axis=-1) / (steps[-1] - steps[0])


@dataclass(frozen=True)
class Cells:
    """:func:`steepness` of a predictor and of the sharpness along training, ``[seeds, T]`` at ``steps [T]``."""

    steps: np.ndarray
    predictor: np.ndarray
    sharpness: np.ndarray


def cells(network: Network, predictor: str = PREDICTOR) -> Cells | None:
    """:class:`Cells` at :meth:`Network.rate`; None without one."""
    rate = network.rate()
    if rate is None:
        return None
    found = [network.curves(name, rate) for name in (predictor, "sharpness")]
    return Cells(found[0][1], *(steepness(sizes, values) for sizes, _, values in found))


def correlations(pairs: Sequence[Cells], mispaired: bool = False) -> np.ndarray:
    """Rank correlation over the probe steps of the two steepnesses, of every seed and network, ``[seeds, networks]``.

    Within each network: across networks it would tell little but which one is which. NaN with fewer than
    :data:`FEWEST_STEPS` steps at which both are known, or where one of them does not vary.

    Args:
        pairs: :func:`cells` of the networks.
        mispaired: the sharpness of the next network stands beside each network's predictor, at the steps of both.
    """
    partners = [*pairs[1:], pairs[0]] if mispaired else pairs
    return np.column_stack([_of_seeds(own, partner) for own, partner in zip(pairs, partners, strict=True)])


def _of_seeds(own: Cells, partner: Cells) -> list[float]:
    """:func:`_rank_correlation` of every seed, at the steps that both networks have."""
    _, here, there = np.intersect1d(own.steps, partner.steps, return_indices=True)
    curves = zip(own.predictor[:, here], partner.sharpness[:, there], strict=True)
    return [_rank_correlation(*pair) for pair in curves]


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's coefficient; NaN with too few steps, or where one of the two does not vary."""
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < FEWEST_STEPS or not (np.ptp(first[known]) and np.ptp(second[known])):
        return np.nan
    return float(spearmanr(first[known], second[known]).statistic)


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
