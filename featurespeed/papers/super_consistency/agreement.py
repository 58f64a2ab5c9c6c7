"""Our curves beside the points read off the authors' plots (:mod:`featurespeed.papers.super_consistency.published`).

A point is compared with the mean over our seeds at its N and step, linear between two probe steps and never beyond
the last one. It is met when the two differ by at most three times ``sqrt(y_err^2 + s^2)``: ``y_err`` is the error of
the reading, ``s`` the standard deviation of our seeds. ``s`` stands for what both sides vary with the seed; the authors
average a few seeds or show one, and that is not on record for all points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurespeed.papers.super_consistency.published import POINTS, PROXY, RATE, published_points
from featurespeed.statistics import Interval, proportion_interval
from featurespeed.sweeps.transfer import along_training, measured_rates, settings

MET = 3.0  # standard deviations
FEWEST_SEEDS = 2

#: Data, and network, of the runs of the points, by the names of our settings; a model's choices are the authors'.
DATA: Mapping[str, Any] = {"name": "cifar10", "pixels": "symmetric", "examples": None, "downscale": 1}
NETWORK: Mapping[str, Any] = {
    "model.kind": "convnet",
    "model.convention": "authors",
    "model.depth": 3,
    "model.tau": 0,
    "model.layers_per_block": 1,
    "model.activation": "relu",
    "model.readout": "flat",
    **{f"model.{name}": None for name in ("strides", "pooling", "fan_in", "gain", "gamma_fan_in", "depth_counts")},
    "parameterization": "MUP",
    "batch_size": 256,
    "optimizer.name": "sgd",
    "optimizer.momentum": 0,
    "optimizer.weight_decay": 0,
}

#: Differences from the proxy: quantity of the points -> quantity that is recorded, and the sign that makes it positive.
GAPS = {"training_loss_gap": ("training_loss", 1.0), "ntk_eigenvalue_gap": ("ntk_eigenvalue", -1.0)}


# --- which runs -------------------------------------------------------------------------------------------------------


def difference(run: Mapping[str, Any], label: str) -> str:
    """The first setting in which a network of a run differs from those of the points, "" if it is one of them.

    Not compared are augmentation and warm-up, which are not known of the points, and the number of steps.
    """
    network = run["networks"][label]
    data = network.get("data") or run.get("data", {})
    compared = [(f"data.{key}", data.get(key), value) for key, value in DATA.items()]
    compared += [(f"networks.{label}.{key}", _setting(network, key), value) for key, value in NETWORK.items()]
    for name, own, theirs in compared:
        if own != theirs:
            return f"{name} = {_text(own)}, that of the published points is {_text(theirs)}"
    return ""


def _setting(block: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        block = (block or {}).get(part)
    return block


def _text(value: Any) -> str:
    return "not set" if value is None else str(value)


# --- points beside curves ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """Points beside our curves.

    Attributes:
        rows: the points that have a counterpart, with our ``mean`` and ``sd`` over ``seeds`` there, and whether it is
            ``within`` the tolerance; NaN, and not within, where a network of ours had stopped.
        absent: the points that have none, with the reason (``why``).
    """

    rows: pd.DataFrame
    absent: pd.DataFrame

    @property
    def k(self) -> int:
        """How many points are met."""
        return int(self.rows["within"].sum())

    @property
    def n(self) -> int:
        """How many points have a counterpart."""
        return len(self.rows)

    def interval(self) -> Interval:
        """The share ``k / n`` with its Clopper-Pearson interval.

        Raises:
            ValueError: fewer than two points have a counterpart, or there are fewer than two seeds.
        """
        if self.n and self.rows["seeds"].min() < FEWEST_SEEDS:
            raise ValueError(f"seeds = {self.rows['seeds'].min()}: their spread needs at least {FEWEST_SEEDS}")
        return proportion_interval(self.k, self.n)

    def note(self) -> str:
        """How many are met, how far off they are, and which have no counterpart."""
        ratio = (self.rows["mean"] / self.rows["y"]).median()
        reasons = self.absent["why"].value_counts(sort=False)
        return "; ".join(
            [f"{self.k} of {self.n}, ours over theirs {ratio:.3g} (median)"]
            + [f"{count} without a counterpart: {why}" for why, count in reasons.items()]
        )


def share_within(records: pd.DataFrame, points: pd.DataFrame) -> Agreement:
    """Points (:func:`published_points`) beside one network of a run, at their learning rate.

    Args:
        records: rows of one network (:func:`featurespeed.sweeps.transfer.of_network`), whose width is N.
    """
    met, absent = [], []
    for (quantity, index, rate), own in points.groupby(["quantity", "index", "learning_rate"], sort=False):
        curve = _curve(records, quantity, index, rate)
        for point in own.itertuples():
            why = curve.lacks(point.N, point.step)
            if why:
                absent.append((point.Index, why))
            else:
                met.append((point.Index, *curve.at(point.N, point.step)))
    found = pd.DataFrame(met, columns=["place", "mean", "sd", "seeds"]).set_index("place")
    rows = points.loc[found.index].join(found).sort_index()
    within = (rows["mean"] - rows["y"]).abs() <= MET * np.hypot(rows["y_err"], rows["sd"])
    missing = pd.DataFrame(absent, columns=["place", "why"]).set_index("place")
    return Agreement(rows.assign(within=within), points.loc[missing.index].join(missing).sort_index())


@dataclass(frozen=True)
class _Curve:
    """A quantity of one network: ``sizes [S]``, ``steps [T]``, ``values [seeds, S, T]``; NaN where one had stopped."""

    name: str
    sizes: np.ndarray
    steps: np.ndarray
    values: np.ndarray

    def lacks(self, width: int, step: float) -> str:
        """Why there is nothing to compare with, "" if there is."""
        if not len(self.steps):
            return f"{self.name} was not measured"
        if width not in self.sizes:
            return f"N = {width} was not run"
        if not self.steps[0] <= step <= self.steps[-1]:
            return f"{self.name} was recorded at steps {self.steps[0]} to {self.steps[-1]} only"
        return ""

    def at(self, width: int, step: float) -> tuple[float, float, int]:
        """Mean and standard deviation over seeds, and how many there are."""
        own = self.values[:, int(np.flatnonzero(self.sizes == width)[0])]
        values = np.array([np.interp(step, self.steps, seed) for seed in own])
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan, len(values)


def _curve(records: pd.DataFrame, quantity: str, index: int, rate: float) -> _Curve:
    recorded, sign = GAPS.get(quantity, (quantity, 0.0))
    sizes, steps, values = along_training(records, recorded, rate, index)
    name = f"{quantity} {index}" if index else quantity
    if sign and PROXY not in sizes:
        return _Curve(f"{name} to N = {PROXY}, which was not run,", sizes, steps[:0], values[..., :0])
    if sign:
        values = sign * (values - values[:, sizes == PROXY])
    return _Curve(name, sizes, steps, values)


def comparable(records: pd.DataFrame, label: str, rate: float, figure: str, path: Path = POINTS) -> pd.DataFrame:
    """The points of a figure that belong beside the curves of a network at one learning rate; none if none do."""
    points = published_points(figure, path)
    belong = np.isclose(rate, RATE) and not difference(settings(records), label)
    return points if belong else points.iloc[:0]


def not_at_their_rate(rows: pd.DataFrame) -> str:
    """What to say of a network whose curvature was not measured at the learning rate of the points, "" if it was."""
    rates = measured_rates(rows, "sharpness")
    if np.isclose(rates, RATE).any():
        return ""
    return f"measured at {', '.join(f'{rate:g}' for rate in rates)}, the published points are of {RATE:g}"


# --- controls ---------------------------------------------------------------------------------------------------------


def of_another_width(points: pd.DataFrame) -> pd.DataFrame:
    """The same points ascribed to other widths: half the list of those of their quantity further on."""
    return _ascribed(points, ["quantity", "index"], "N")


def of_another_eigenvalue(points: pd.DataFrame) -> pd.DataFrame:
    """The same points ascribed to other eigenvalues: half the list of those of their quantity further on."""
    return _ascribed(points, ["quantity"], "index")


def _ascribed(points: pd.DataFrame, keys: Sequence[str], column: str) -> pd.DataFrame:
    moved = points[column].copy()
    for _, own in points.groupby(list(keys)):
        known = sorted(own[column].unique())
        others = known[len(known) // 2 :] + known[: len(known) // 2]
        moved[own.index] = own[column].map(dict(zip(known, others, strict=True)))
    return points.assign(**{column: moved})
