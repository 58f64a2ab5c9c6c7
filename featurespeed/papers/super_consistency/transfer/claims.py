"""Figures 1 and 26: does the best learning rate transfer over the width, and is the sharpness the same at every width?

All intervals are bootstrapped over seeds. The learning rate at which widths are compared is the one that is best for
all of them together, found once from all seeds; a network that diverged, died or ended at chance is a failure of its
rate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, register, select
from featurespeed.statistics import Interval
from featurespeed.sweeps import transfer
from featurespeed.sweeps.transfer import Losses, over_seeds

MUP, NTP, RANDOM = "muP", "NTP", "random features"
FEWEST_SIZES = 5  # of a rank correlation
SPAN = 16  # ratio of widths over which NTP's shift is stated
PAPERS_RATE = 0.75  # best learning rate of arXiv:2402.17457, 0.7 to 0.8
FIGURES = {"sc_fig01": "Fig. 1", "sc_fig26": "Fig. 26"}  # those that compare late in training


# --- what is read from a stage table ----------------------------------------------------------------------------------


def network(tables: Tables, artefact: str, series: str) -> pd.DataFrame:
    """Rows of one network, at one depth."""
    select(tables[artefact], series=series)
    return transfer.of_network(tables[artefact], series)


def common_best(losses: Losses, series: str) -> int:
    """Index of the learning rate that is best for all widths together."""
    best = losses.common_best()
    if best is None:
        raise Undecidable(f"{series}: no learning rate of {_grid(losses)} at which every network trains")
    return best


def late_sharpness(rows: pd.DataFrame, rate: float, last: int) -> np.ndarray:
    """Sharpness averaged over the probe steps in the second half of the steps up to ``last``, ``[seeds, S]``."""
    series = rows["series"].iloc[0]
    _, steps, values = transfer.along_training(rows, "sharpness", rate)
    if not len(steps):
        known = ", ".join(f"{known:g}" for known in transfer.measured_rates(rows, "sharpness"))
        raise Undecidable(f"{series}: the sharpness was not measured at {rate:g}; networks.{series}.measured = {known}")
    late = transfer.late_mean(steps, values, last)
    if np.isnan(late).any():
        raise Undecidable(
            f"{series}: not every network trains at {rate:g} up to step {last}, or nothing was measured then"
        )
    return late


def _grid(losses: Losses) -> str:
    return f"{losses.rates[0]:g} to {losses.rates[-1]:g}"


def numbers(names: Iterable[object], values: Iterable[float]) -> str:
    """Named numbers as a text for a note."""
    return ", ".join(f"{name}: {value:.3g}" for name, value in zip(names, values, strict=True))


# --- the sharpness over the widths ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sharpness:
    """Late sharpness at several learning rates of one network: ``values[k] [seeds, S]`` at ``rates[k]``."""

    sizes: np.ndarray
    rates: list[float]
    values: list[np.ndarray]

    def spread(self, chosen: np.ndarray) -> float:
        """CV over widths, the largest of all the learning rates."""
        return max(transfer.spread(values[chosen]) for values in self.values)

    def note(self) -> str:
        """CV at every rate, and the sharpness in units of 2/eta_0 at every width."""
        parts = []
        for rate, values in zip(self.rates, self.values, strict=True):
            edge = numbers(self.sizes, values.mean(0) * rate / 2)
            parts.append(f"at {rate:g} CV {transfer.spread(values):.3g}, sharpness eta_0/2 by width {edge}")
        return "; ".join(parts)


def at_best(tables: Tables, artefact: str, series: str, below: bool) -> Sharpness:
    """Late sharpness at the best learning rate of all widths; with ``below`` also one step of the grid below it."""
    rows = network(tables, artefact, series)
    losses = transfer.late_losses(rows)
    best = common_best(losses, series)
    if below and best == 0:
        raise Undecidable(f"{series}: the best learning rate {losses.rates[0]:g} is the smallest of {_grid(losses)}")
    rates = [float(losses.rates[k]) for k in ([best, best - 1] if below else [best])]
    last = transfer.settings(tables[artefact])["steps"]
    return Sharpness(losses.sizes, rates, [late_sharpness(rows, rate, last) for rate in rates])


def _spread(artefact: str, series: str, below: bool) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = at_best(tables, artefact, series, below)
        return as_estimate(over_seeds(found.spread, len(found.values[0])), found.note())

    return compute


def _spread_ratio(artefact: str, first: str, second: str) -> Callable[[Tables], Estimate]:
    """CV of ``first`` over that of ``second``, each at its own best learning rate; seeds are drawn together."""

    def compute(tables: Tables) -> Estimate:
        over, under = (at_best(tables, artefact, series, below=False) for series in (first, second))

        def ratio(chosen: np.ndarray) -> float:
            spread = under.spread(chosen)
            return over.spread(chosen) / spread if spread > 0 else np.nan

        found = over_seeds(ratio, len(over.values[0]))
        return as_estimate(found, f"{first} {over.note()}; {second} {under.note()}")

    return compute


# --- shift of the best learning rate ----------------------------------------------------------------------------------


def best_rates(losses: Losses, series: str) -> str:
    """The best learning rate of every width, and which of them lie at the edge of the grid, for a note."""
    best = losses.best()
    rates = [losses.rates[k] if k >= 0 else np.nan for k in best]
    note = f"best rates of {series} by width {numbers(losses.sizes, rates)}"
    edges = ", ".join(str(size) for size in losses.at_edge())
    return note + (f", that of N = {edges} at the edge of the grid {_grid(losses)}" if edges else "")


def shift_of(tables: Tables, artefact: str, series: str) -> tuple[Interval, str]:
    """Shift of the best learning rate with its interval, which is open where the grid ends too early, and a note."""
    losses = transfer.late_losses(network(tables, artefact, series))
    found, note = losses.shift_interval(), best_rates(losses, series)
    if math.isnan(found.value):
        raise Undecidable(f"{note}: one of them has none at which every network trains")
    if math.isinf(found.low) and math.isinf(found.high):
        raise Undecidable(f"{note}: the shift has no bound")
    return found, note


def _absolute_shift(artefact: str, series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found, note = shift_of(tables, artefact, series)
        return as_estimate(absolute(found), note)

    return compute


def absolute(found: Interval) -> Interval:
    """The interval of the absolute value."""
    ends = sorted((abs(found.low), abs(found.high)))
    low = 0.0 if found.low <= 0.0 <= found.high else ends[0]
    return Interval(abs(found.value), low, ends[1], found.n, found.estimator)


def _scaled_shift(artefact: str, series: str) -> Callable[[Tables], Estimate]:
    """Shift for a factor :data:`SPAN` in width, which the widths must span."""

    def compute(tables: Tables) -> Estimate:
        sizes = np.sort(network(tables, artefact, series)["width"].unique())
        if sizes[-1] < SPAN * sizes[0]:
            raise Undecidable(f"widths from {sizes[0]} to {sizes[-1]}: a factor {SPAN} at least is needed")
        found, note = shift_of(tables, artefact, series)
        factor = math.log2(SPAN) / math.log2(sizes[-1] / sizes[0])
        value, low, high = (factor * end for end in (found.value, found.low, found.high))
        return Estimate(value, low, high, found.n, f"{note}; widths span a factor {sizes[-1] / sizes[0]:g}")

    return compute


def _shift_difference(artefact: str, first: str, second: str) -> Callable[[Tables], Estimate]:
    """Shift of ``first`` minus that of ``second``, muP's without its sign, between the same two widths."""

    def compute(tables: Tables) -> Estimate:
        rows = {series: network(tables, artefact, series) for series in (first, second)}
        ends = {(int(own["width"].min()), int(own["width"].max())) for own in rows.values()}
        if len(ends) > 1:
            raise Undecidable(f"{first} and {second} span different widths: {sorted(ends)}")
        losses = {series: transfer.late_losses(own) for series, own in rows.items()}
        note = "; ".join(best_rates(own, series) for series, own in losses.items())
        value = shift_size(losses[first].shift(), first) - shift_size(losses[second].shift(), second)
        seeds = len(losses[first].values)

        def end(chosen: np.ndarray, side: int) -> float:
            minuend, subtrahend = (
                size_bounds(losses[series].shift_bounds(chosen), series) for series in (first, second)
            )
            return minuend[side] - subtrahend[1 - side]

        low, high = (
            over_seeds(lambda chosen: end(chosen, 0), seeds).low,
            over_seeds(lambda chosen: end(chosen, 1), seeds).high,
        )
        if math.isnan(value) or (math.isinf(low) and math.isinf(high)):
            raise Undecidable(f"{note}: the difference of the shifts has no bound")
        return Estimate(value, low, high, seeds, note)

    return compute


def shift_size(shift: float, series: str) -> float:
    """muP's shift counts without its sign: it should be 0."""
    return abs(shift) if series == MUP else shift


def size_bounds(bounds: tuple[float, float], series: str) -> tuple[float, float]:
    """Bounds of :func:`shift_size` from those of the shift."""
    if series != MUP:
        return bounds
    found = absolute(Interval(0.0, *bounds, 0, ""))
    return found.low, found.high


# --- loss over the widths, and what its units say ---------------------------------------------------------------------


def enough_sizes(sizes: np.ndarray) -> None:
    """Raise if there are too few widths for a rank correlation."""
    if len(sizes) < FEWEST_SIZES:
        raise Undecidable(f"{len(sizes)} widths: at least {FEWEST_SIZES} are needed for a rank correlation")


def _loss_ranks(backwards: bool) -> Callable[[Tables], Estimate]:
    """Spearman of muP's late loss with the width, at the best learning rate of all widths; ``backwards``: a control."""

    def compute(tables: Tables) -> Estimate:
        losses = transfer.late_losses(network(tables, "sc_fig01", MUP))
        enough_sizes(losses.sizes)
        best = common_best(losses, MUP)
        late = losses.values[:, :, best]
        sizes = losses.sizes[::-1] if backwards else losses.sizes
        found = over_seeds(lambda chosen: transfer.spearman(sizes, late[chosen]), len(late))
        return as_estimate(
            found, f"at {losses.rates[best]:g}, late loss by width {numbers(losses.sizes, late.mean(0))}"
        )

    return compute


def _distance_from_the_papers_rate(summed: bool) -> Callable[[Tables], Estimate]:
    """log2 of muP's best learning rate over the paper's; ``summed``: as it would be for the sum over the batch."""

    def compute(tables: Tables) -> Estimate:
        losses = transfer.late_losses(network(tables, "sc_fig01", MUP))
        best = common_best(losses, MUP)
        batch = transfer.settings(tables["sc_fig01"])["networks"][MUP]["batch_size"]
        if batch is None:
            raise Undecidable("training on all images at once, which the paper does not")

        def distance(chosen: np.ndarray, edge: int, beyond: float) -> float:
            """Infinite where the best rate is at that edge of the grid: it may lie beyond."""
            best = losses.common_best(chosen)
            if best is None:
                return np.nan
            return beyond if best == edge else math.log2(losses.rates[best] / (batch if summed else 1) / PAPERS_RATE)

        seeds, rate = len(losses.values), losses.rates[best]
        low = over_seeds(lambda chosen: distance(chosen, 0, -np.inf), seeds).low
        high = over_seeds(lambda chosen: distance(chosen, losses.last, np.inf), seeds).high
        note = (
            f"best rate {rate:g} of {_grid(losses)} with the mean over {batch} images, {rate / batch:.3g} with the sum"
        )
        return Estimate(distance(np.arange(seeds), -1, np.nan), low, high, seeds, f"{note}; the paper's: 0.7 to 0.8")

    return compute


for _artefact, _figure in FIGURES.items():
    for _series, _below in ((MUP, True), (NTP, False)):
        register(f"spread of the sharpness over widths, {_series}, {_figure}", _spread(_artefact, _series, _below))
    for _over, _under in ((NTP, MUP), (MUP, NTP)):
        register(
            f"ratio of the spreads of the sharpness, {_over} over {_under}, {_figure}",
            _spread_ratio(_artefact, _over, _under),
        )
for _series in (MUP, NTP):
    register(f"absolute shift of the best learning rate, {_series}", _absolute_shift("sc_fig01", _series))
    register(f"shift of the best learning rate for 16 times the width, {_series}", _scaled_shift("sc_fig01", _series))
for _first, _second in ((RANDOM, MUP), (NTP, RANDOM), (MUP, NTP)):
    register(
        f"difference of the shifts of the best learning rate, {_first} minus {_second}",
        _shift_difference("sc_fig26", _first, _second),
    )
register("rank correlation of width and late loss, muP", _loss_ranks(backwards=False))
register("rank correlation of width and late loss, muP, widths in reverse order", _loss_ranks(backwards=True))
register("log2 of the best learning rate over the paper's, summed loss", _distance_from_the_papers_rate(summed=True))
register("log2 of the best learning rate over the paper's, mean loss", _distance_from_the_papers_rate(summed=False))
