"""Networks trained beyond the edge of stability, read from the long table of a sweep: who failed, what was measured.

A sweep trains every network (its label, such as ``r = 2``) under several gradient scalings and schedules of the step
size, at several kappa (or kappa_g, of the geometry-aware schedule) and with several seeds. :func:`runs` gives one
network under one scaling and schedule. Its arrays have the shape ``[seeds, kappas]``; where a network failed, or
nothing was measured, they hold NaN.

The setting is that of arXiv:2502.13110, which is known to us by its abstract; scalings, schedules and all that is
measured here are our reconstruction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from featurespeed.statistics import Interval
from featurespeed.sweeps.transfer import over_seeds

CONSTANT, GEOMETRY_AWARE = "constant", "geometry-aware"
SCHEDULES = (CONSTANT, GEOMETRY_AWARE)
#: Gradient scalings in the order in which they are shown.
SCALINGS = ("none", "norm1", "rel1", "norm2", "rel2", "gradn", "fsf")
#: In which all figures draw them.
SCALING_COLORS = {
    "none": "#4d4d4d", "norm1": "#56b4e9", "rel1": "#0072b2", "norm2": "#e69f00", "rel2": "#d55e00",
    "gradn": "#009e73", "fsf": "#cc79a7",
}  # fmt: skip
DIVERGED, DEAD = "diverged_step", "dead_step"
#: Soft ranks of the last hidden features, the first one first.
RANKS = ("participation_ratio", "stable_rank", "entropy_rank")


class Key(NamedTuple):
    """What one group of runs has in common: label of the network, gradient scaling, schedule of the step size."""

    network: str
    scaling: str
    schedule: str = CONSTANT


@dataclass(frozen=True)
class Runs:
    """Runs of one network under one scaling and one schedule (:func:`runs`).

    Attributes:
        key: network, scaling and schedule.
        kappas: ``[K]`` ascending; kappa_g for the geometry-aware schedule.
        seeds: ``[S]`` ascending.
        rows: their records.
        last: last step of training.
    """

    key: Key
    kappas: np.ndarray
    seeds: np.ndarray
    rows: pd.DataFrame
    last: int

    # --- who failed ---------------------------------------------------------------------------------------------------

    @cached_property
    def diverged(self) -> np.ndarray:
        """Whether the loss, a weight or a scaling factor was not finite, ``[S, K]``."""
        return np.isfinite(self.reached(DIVERGED))

    @cached_property
    def dead(self) -> np.ndarray:
        """Whether a layer was silent, or out of reach of the gradient, ``[S, K]``; one that diverged does not count."""
        return np.isfinite(self.reached(DEAD)) & ~self.diverged

    @cached_property
    def finite(self) -> np.ndarray:
        """Whether the network neither diverged nor died, ``[S, K]``: it was trained to the end."""
        return ~(self.diverged | self.dead)

    @cached_property
    def trained(self) -> np.ndarray:
        """Whether the network got to the end with a training loss below chance, ``[S, K]``.

        Chance is the cross-entropy of equal probabilities, log of the number of classes, against the last record of
        the loss. Stricter than :func:`featurespeed.sweeps.transfer.late_losses`, which lets a network pass for its
        accuracy: here one whose loss has exploded without an overflow must count as failed.
        """
        return self.finite & (self.final_loss < np.log(self.rows["output_dim"].max()))

    @cached_property
    def final_loss(self) -> np.ndarray:
        """Training loss after the last step, ``[S, K]``; NaN where the network failed or it was not recorded."""
        return self.final("training_loss")

    @cached_property
    def failed_step(self) -> np.ndarray:
        """Step at which the network diverged or died, ``[S, K]``; NaN where it was trained to the end."""
        return np.fmin(self.reached(DIVERGED), self.reached(DEAD))

    # --- what was measured --------------------------------------------------------------------------------------------

    def final(self, quantity: str, layer: int | None = None) -> np.ndarray:
        """Value after the last step, ``[S, K]``; NaN where the network failed or the quantity was not measured.

        ``layer``: that of a quantity with layers; None is the last one measured, for soft ranks the last hidden layer.
        """
        own = self._of(quantity, layer)
        return np.where(self.finite, self._grid(own[own["step"] == self.last]), np.nan)

    def initial(self, quantity: str, layer: int | None = None) -> np.ndarray:
        """Value before the first update, ``[S, K]``; NaN where it was not measured."""
        own = self._of(quantity, layer)
        return self._grid(own[own["step"] == 0])

    def reached(self, quantity: str, layer: int | None = None) -> np.ndarray:
        """Last value there is, ``[S, K]``, also of networks that failed: largest loss ratio, step norm, failure."""
        own = self._of(quantity, layer).sort_values("step", kind="stable")
        return self._grid(own.drop_duplicates(["seed", "c"], keep="last"))

    def along(self, quantity: str, layer: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(steps [T], values [S, K, T])``; NaN where there is no value, as after a failure."""
        own = self._of(quantity, layer)
        return np.sort(own["step"].unique()), self._cube(own)

    def unconverged(self, quantity: str, layer: int | None = None) -> np.ndarray:
        """Whether an eigenvalue has missed its tolerance, ``[S, K, T]`` at the steps of :meth:`along`."""
        own = self._of(quantity, layer)
        return self._cube(own.assign(value=np.where(own["converged"], 0.0, 1.0))) == 1.0

    def over_training(self, quantity: str) -> np.ndarray:
        """Mean over all steps of a quantity that is recorded as the mean since the record before, ``[S, K]``.

        Every record counts with its number of steps; of a network that failed, the mean is over the records it has,
        of which the last one may stand for fewer steps.
        """
        values, weights = self._weighted(quantity)
        total = weights.sum(-1)
        means = (np.nan_to_num(values) * weights).sum(-1) / np.where(total > 0, total, 1)
        return np.where(total > 0, means, np.nan)

    def steps_recorded(self, quantity: str) -> np.ndarray:
        """Number of steps that the records of such a quantity stand for, ``[S, K]``: those up to a failure."""
        return self._weighted(quantity)[1].sum(-1)

    @cached_property
    def rates(self) -> np.ndarray:
        """Learning rate eta, ``[S, K]``: kappa times 2 / lambda_Xi(0), which differs from seed to seed.

        NaN for the geometry-aware schedule, which has none.
        """
        first = self.rows.drop_duplicates(["seed", "c"])
        return self._grid(first.assign(value=first["learning_rate"]))

    # --- one kappa ----------------------------------------------------------------------------------------------------

    def place(self, kappa: float) -> int:
        """Index of one kappa.

        Raises:
            ValueError: it was not run.
        """
        found = np.flatnonzero(np.isclose(self.kappas, kappa))
        if not len(found):
            name = " | ".join(self.key)
            raise ValueError(f"kappa = {kappa:g} was not run for {name}; there are {[float(k) for k in self.kappas]}")
        return int(found[0])

    def has(self, *kappas: float) -> bool:
        """Whether all of these kappas were run."""
        return all(np.isclose(self.kappas, kappa).any() for kappa in kappas)

    def at(self, values: np.ndarray, kappa: float) -> np.ndarray:
        """Values of one kappa, ``[S, K, ...] -> [S, ...]``."""
        return values[:, self.place(kappa)]

    def _weighted(self, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """Records after the first update and the number of steps that each stands for, both ``[S, K, T]``."""
        steps, values = self.along(quantity)
        values, steps = values[..., steps > 0], steps[steps > 0]
        own = np.where(np.isnan(values), 0, steps)
        before = np.maximum.accumulate(own, axis=-1)
        before = np.concatenate([np.zeros_like(before[..., :1]), before[..., :-1]], axis=-1)
        return values, np.where(np.isnan(values), 0, steps - before)

    def _of(self, quantity: str, layer: int | None) -> pd.DataFrame:
        own = self.rows[(self.rows["quantity"] == quantity) & self.rows["index"].isin((0, 1))]
        # The layer of a failure says where it was: it differs from run to run.
        if quantity in (DIVERGED, DEAD):
            return own
        return own[own["layer"] == (own["layer"].max() if layer is None else layer)]

    def _cube(self, own: pd.DataFrame) -> np.ndarray:
        levels = [self.seeds, self.kappas, np.sort(own["step"].unique())]
        return _reindexed(own, ["seed", "c", "step"], levels).reshape([len(level) for level in levels])

    def _grid(self, own: pd.DataFrame) -> np.ndarray:
        return _reindexed(own, ["seed", "c"], [self.seeds, self.kappas]).reshape(len(self.seeds), len(self.kappas))


def keys(records: pd.DataFrame) -> list[Key]:
    """Every network, scaling and schedule of a table: constant schedules first, networks by name, scalings in order."""
    found = records[["series", "scaling", "case"]].drop_duplicates().itertuples(index=False)
    return sorted((Key(*names) for names in found), key=_order)


def runs(records: pd.DataFrame, network: str, scaling: str, schedule: str = CONSTANT) -> Runs:
    """All kappas and seeds of one network under one scaling and one schedule.

    Raises:
        ValueError: there is none, or a seed is missing at some kappa.
    """
    keep = (records["series"] == network) & (records["scaling"] == scaling) & (records["case"] == schedule)
    rows = records[keep].copy()
    if rows.empty:
        there = [" | ".join(key) for key in keys(records)]
        raise ValueError(f"{network} | {scaling} | {schedule} was not run; there are {there}")
    members = rows[["seed", "c"]].drop_duplicates()
    kappas, seeds = np.sort(members["c"].unique()), np.sort(members["seed"].unique())
    if len(members) != len(kappas) * len(seeds):
        raise ValueError(f"{network} | {scaling} | {schedule}: not every kappa was run with each of {len(seeds)} seeds")
    return Runs(Key(network, scaling, schedule), kappas, seeds, rows, int(records["step"].max()))


def has(records: pd.DataFrame, network: str, scaling: str, schedule: str = CONSTANT) -> bool:
    """Whether a network was run under a scaling and a schedule."""
    return Key(network, scaling, schedule) in keys(records)


def all_runs(records: pd.DataFrame) -> list[Runs]:
    """:func:`runs` of every network, scaling and schedule, in the order of :func:`keys`."""
    return [runs(records, *key) for key in keys(records)]


def networks(found: Iterable[Key]) -> list[str]:
    """Labels of the networks, in order, each once."""
    return sorted({key.network for key in found})


def scalings(found: Iterable[Key]) -> list[str]:
    """Scalings in the order of :data:`SCALINGS`, each once."""
    return sorted({key.scaling for key in found}, key=_scaling_order)


def mean_interval(values: np.ndarray) -> Interval:
    """For figures: mean over the seeds with a value, ``[S]``, and the bootstrap over them; ``n`` counts them.

    No bounds (NaN) for a single one; nothing at all, with ``n = 0``, where every network failed. What the mean leaves
    out must be said beside it.
    """
    there = values[~np.isnan(values)]
    if not len(there):
        return Interval(np.nan, np.nan, np.nan, 0, "mean, no value")
    if len(there) == 1:
        return Interval(float(there[0]), np.nan, np.nan, 1, "one value")
    return over_seeds(lambda chosen: float(there[chosen].mean()), len(there))


def _order(key: Key) -> tuple:
    return (SCHEDULES.index(key.schedule) if key.schedule in SCHEDULES else len(SCHEDULES), key.network,
            _scaling_order(key.scaling), key.schedule)  # fmt: skip


def _scaling_order(scaling: str) -> tuple[int, str]:
    return (SCALINGS.index(scaling) if scaling in SCALINGS else len(SCALINGS), scaling)


def _reindexed(own: pd.DataFrame, names: Sequence[str], levels: Sequence[np.ndarray]) -> np.ndarray:
    grid = pd.MultiIndex.from_product(levels, names=names)
    return own.set_index(list(names))["value"].reindex(grid).to_numpy(dtype=float)
