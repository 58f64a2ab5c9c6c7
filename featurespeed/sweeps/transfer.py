"""What figures and claims say about training over sizes: best learning rates, their shifts, averages late in training.

All functions read the long table that one artefact gathers: ``series`` is the network, ``width`` or ``depth`` the size.
Arrays have the shape ``[seeds, sizes, ...]``, so that a statistic of some seeds is one of ``values[chosen]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from featurespeed.data.spec import data_spec
from featurespeed.models.plan import plan_network
from featurespeed.models.spec import ModelSpec
from featurespeed.statistics import Interval, seed_interval, seed_intervals
from featurespeed.sweeps.losses import ALL, FAILING, LATE_LOSS, Chosen, Losses

STOPPED = ("diverged_step", "dead_step", "overflow_step")
LATE = 0.5  # share of training that counts as late for curvature: its second half
NEAR_EDGE = 0.9  # share of 2 / eta_0 from which on a network is at the edge of stability
MOST_FAILING = 0.5  # share of the seeds of which some network may fail where the others are looked at
CHANCE_LOSS = 0.995  # share of the loss of chance: deep networks that learn nothing end a little below it
CHANCE_ACCURACY = 1.5  # times 1 / classes: a test accuracy below it is that of chance
BOOTSTRAP_SEED = 0


def settings(table: pd.DataFrame) -> Mapping[str, Any]:
    """The settings of the run that a stage table comes from, as in the config."""
    return table.attrs["provenance"]["spec"]


def widths_of(table: pd.DataFrame, series: str, widths: Iterable[int]) -> dict[int, int]:
    """Width in the settings -> ``N``, as ``gamma^2`` of the network's convention counts it.

    Of the authors' ConvNets that are the inputs of the readout, which their figures call the width: four times the
    channels of a ConvNet on 32 x 32 pixels, the channels themselves of a SimpleConvNet.
    """
    spec = table.attrs.get("provenance", {}).get("spec", {})
    network = spec.get("networks", {}).get(series, {})
    if "model" not in network:  # no table of a sweep
        return {}
    model = ModelSpec.model_validate(network["model"])
    data = data_spec(network.get("data") or spec["data"])
    return {int(width): plan_network(model, int(width), data.shape, classes=1).gamma_fan_in for width in widths}


def of_network(table: pd.DataFrame, series: str, size: str = "width", **keys: object) -> pd.DataFrame:
    """Rows of one network; ``keys`` hold other columns fixed, such as the depth when the width varies.

    ``width`` becomes the ``N`` of the parameterization, which settings give in channels (:func:`widths_of`).
    """
    rows = table[table["series"] == series].copy()
    counted = widths_of(table, series, rows["width"].unique())
    if counted:
        rows["width"] = rows["width"].map(counted)
    for column, value in keys.items():
        rows = rows[rows[column] == value]
    return rows.sort_values([size, "learning_rate", "seed", "step"], kind="stable")


def late_losses(rows: pd.DataFrame, size: str = "width") -> Losses:
    """Mean training loss over the last tenth of the steps, of one network (:func:`of_network`).

    A network has failed, and its loss is infinite, if it diverged or died, or if it has learned nothing: its loss ends
    at chance (log of the number of classes, for the cross-entropy; 0.5% below it counts) or above, and so does its
    accuracy on the test set.
    The loss alone does not say so: random features may come down from a much higher one and know a lot on the way.
    """
    losses = rows[rows["quantity"] == "training_loss"]
    late = losses[losses["step"] > (1 - LATE_LOSS) * losses["step"].max()]
    keys = ["seed", size, "learning_rate"]
    grid = pd.MultiIndex.from_product([sorted(rows[key].unique()) for key in keys], names=keys)
    values = late.groupby(keys)["value"].mean().reindex(grid, fill_value=np.inf)
    stopped = rows[rows["quantity"].isin(STOPPED)].set_index(keys).index.unique()
    classes = rows["output_dim"].max()
    accuracy = rows[rows["quantity"] == "test_accuracy"].set_index(keys)["value"].reindex(grid, fill_value=0.0)
    nothing = (values >= CHANCE_LOSS * np.log(classes)) & (accuracy < CHANCE_ACCURACY / classes)
    values.loc[values.index.isin(stopped) | nothing] = np.inf
    shape = [len(level) for level in grid.levels]
    return Losses(*(level.to_numpy() for level in grid.levels[1:]), values.to_numpy().reshape(shape))


def along_training(
    rows: pd.DataFrame, quantity: str, rate: float, index: int = 1, size: str = "width", layer: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(sizes [S], steps [T], values [seeds, S, T])`` of one quantity at one learning rate; NaN where it is missing.

    ``rows`` are of one network (:func:`of_network`). ``index`` is that of an eigenvalue, counted from 1; quantities
    that are none have no index, and the argument is not used for them. A rate at which nothing was recorded gives no
    steps.
    """
    own = rows[(rows["quantity"] == quantity) & np.isclose(rows["learning_rate"], rate)]
    own = own[own["index"].isin((0, index))]
    if layer is not None:
        own = own[own["layer"] == layer]
    keys = ["seed", size, "step"]
    levels = [sorted(rows["seed"].unique()), sorted(rows[size].unique()), sorted(own["step"].unique())]
    grid = pd.MultiIndex.from_product(levels, names=keys)
    values = own.set_index(keys)["value"].reindex(grid).to_numpy()
    return np.array(levels[1]), np.array(levels[2]), values.reshape([len(level) for level in levels])


def measured_rates(rows: pd.DataFrame, quantity: str) -> np.ndarray:
    """Learning rates at which a quantity was measured, ascending."""
    return np.sort(rows.loc[rows["quantity"] == quantity, "learning_rate"].unique())


def failed_seeds(rows: pd.DataFrame, quantity: str, size: str = "width") -> np.ndarray:
    """Seeds of which a network of some size failed at the best of the learning rates where ``quantity`` was measured.

    Learning rates at which more than a fifth of the seeds of some size failed, or more than half of all seeds at one
    size or another, have failed themselves and are not asked; if all have, no seed counts as failed. Of use for
    comparisons within one network only: others, paired by seed, may have lost other seeds.
    """
    own = rows[rows["learning_rate"].isin(measured_rates(rows, quantity))]
    if own.empty:
        return np.array([], dtype=int)
    values = late_losses(own, size).values
    lost = np.isinf(values)
    values = values[..., (lost.mean(0) <= FAILING).all(0) & (lost.any(1).mean(0) <= MOST_FAILING)]
    if not values.shape[-1]:
        return np.array([], dtype=int)
    means = np.nanmean(np.where(np.isinf(values), np.nan, values), axis=0)  # [S, R]
    at_best = values[..., np.log(means).mean(0).argmin()]
    return np.sort(own["seed"].unique())[np.isinf(at_best).any(1)]


def late_mean(steps: np.ndarray, values: np.ndarray, last: int) -> np.ndarray:
    """Mean over the probe steps in the second half of training, ``[..., T] -> [...]``; NaN if one is missing, or all.

    ``last`` is the last step of training, or of the part of it that is looked at: later probe steps do not count.
    """
    late = values[..., (steps >= (1 - LATE) * last) & (steps <= last)]
    return late.mean(-1) if late.shape[-1] else np.full(values.shape[:-1], np.nan)


def steps_until(steps: np.ndarray, values: np.ndarray, level: float) -> np.ndarray:
    """Step at which the values rise to a level, ``[..., T] -> [...]``, linear between probe steps; inf for never.

    Values that begin above the level have not risen to it: counted is when they come back after they have fallen below.
    0 if they never fall below. What is missing (NaN) reaches nothing.
    """
    if not len(steps):
        return np.full(values.shape[:-1], np.inf)
    flat = values.reshape(-1, len(steps))
    return np.array([_rise_to(steps, row, level) for row in flat]).reshape(values.shape[:-1])


def _rise_to(steps: np.ndarray, values: np.ndarray, level: float) -> float:
    below, reached = values < level, values >= level
    if not below.any():
        return 0.0 if reached.any() else np.inf
    risen = np.flatnonzero(below[:-1] & reached[1:])
    if not len(risen):
        return np.inf
    k = risen[0]
    share = (level - values[k]) / (values[k + 1] - values[k])
    return float(steps[k] + share * (steps[k + 1] - steps[k]))


def median_steps(steps: np.ndarray) -> np.ndarray:
    """Median over seeds of :func:`steps_until`, ``[seeds, S] -> [S]``; inf where half of them or more never do."""
    ordered = np.sort(steps, axis=0)
    return (ordered[(len(steps) - 1) // 2] + ordered[len(steps) // 2]) / 2


@dataclass(frozen=True)
class Arrival:
    """When the networks of every width rise to the edge of stability, 0.9 * 2/eta_0 (:func:`arrival`).

    Attributes:
        sizes: ``[S]``, ascending.
        steps: ``[seeds, S]``; infinite for those that never do.
        last: last step at which the sharpness was measured; who never arrives would do so later.
    """

    sizes: np.ndarray
    steps: np.ndarray
    last: int

    def medians(self, chosen: Chosen = ALL) -> np.ndarray:
        """Median over seeds, ``[S]``; infinite where half of them or more never arrive."""
        return median_steps(self.steps[chosen])


def arrival(rows: pd.DataFrame, rate: float) -> Arrival:
    """Steps until the sharpness of one network rises to 0.9 * 2/eta_0, over all of training."""
    sizes, steps, values = along_training(rows, "sharpness", rate)
    return Arrival(sizes, steps_until(steps, values, NEAR_EDGE * 2 / rate), int(steps.max()) if len(steps) else 0)


def spread(values: np.ndarray) -> float:
    """CV over sizes of the means over seeds, ``[seeds, S]``: sample standard deviation over mean; NaN if that is 0."""
    means = values.mean(0)
    return float(means.std(ddof=1) / abs(means.mean())) if means.any() else np.nan


def over_seeds(statistic: Callable[[np.ndarray], float], seeds: int) -> Interval:
    """``statistic(chosen seeds)`` with the bootstrap over seeds, the same stream at every run."""
    return seed_interval(statistic, seeds, np.random.default_rng(BOOTSTRAP_SEED))


def each_over_seeds(statistics: Callable[[np.ndarray], np.ndarray], seeds: int) -> list[Interval]:
    """:func:`over_seeds` of several statistics at once, ``chosen seeds -> [K]``."""
    return seed_intervals(statistics, seeds, np.random.default_rng(BOOTSTRAP_SEED))
