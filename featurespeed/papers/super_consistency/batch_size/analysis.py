"""What figure and claims of Figure 12 look at: one learning rate for both networks, and the same seeds of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurespeed.papers.super_consistency.batch_size.spec import AUGMENTED, PLAIN
from featurespeed.sweeps.convergence import common_rate
from featurespeed.sweeps.transfer import MOST_FAILING, failed_seeds, late_losses, of_network

HESSIAN = "sharpness"


@dataclass(frozen=True)
class LateRuns:
    """Runs with and without augmentation that can be compared seed by seed.

    Attributes:
        rows: label -> rows of a network (:func:`featurespeed.sweeps.transfer.of_network`), of the seeds that are kept.
        rate: base learning rate that is looked at: of those measured without augmentation (with it, if they were
            measured with it only), the best for all widths; the smallest of them if a network failed at all of them.
        left_out: how many seeds are left out, because a network failed with or without augmentation.
        seeds: how many there were.
    """

    rows: Mapping[str, pd.DataFrame]
    rate: float
    left_out: int
    seeds: int


def late_runs(records: pd.DataFrame) -> LateRuns:
    """The runs that are compared, of the networks that were measured.

    Left out are the seeds of which a network failed, with or without augmentation, up to a fifth of those of a width
    each, and none if they are more than half of all.

    Raises:
        ValueError: the sharpness was not measured.
    """
    measured = records.loc[records["quantity"] == HESSIAN, "series"].unique()
    found = {label: of_network(records, label) for label in (PLAIN, AUGMENTED) if label in measured}
    if not found:
        raise ValueError("the sharpness was not measured")
    seeds = records["seed"].nunique()
    failed = np.unique(np.concatenate([failed_seeds(rows, HESSIAN) for rows in found.values()]))
    if len(failed) > MOST_FAILING * seeds:
        failed = failed[:0]
    kept = {label: rows[~rows["seed"].isin(failed)] for label, rows in found.items()}
    first = next(iter(kept.values()))
    rate = common_rate(first, HESSIAN)
    smallest = first.loc[first["quantity"] == HESSIAN, "learning_rate"].min()
    return LateRuns(kept, float(smallest if rate is None else rate), len(failed), seeds)


def trains(rows: pd.DataFrame, rate: float) -> bool:
    """Whether all networks of these rows trained at a learning rate: none diverged, died or ended at chance."""
    losses = late_losses(rows)
    return bool(losses.survive()[np.isclose(losses.rates, rate)].all())
