"""Counts of seeds and networks: shares with exact intervals, of which some may be open; which networks trained."""

from __future__ import annotations

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.papers.edge_of_stability.shared import Runs
from featurespeed.statistics import proportion_interval


def trains(found: Runs) -> np.ndarray:
    """Whether a network neither diverged nor died and ended with a training loss below chance, ``[S, K]``.

    All others have failed: also one whose loss exploded without an overflow.

    Raises:
        Undecidable: a network got to the end without a record of its loss there.
    """
    unknown = int((found.finite & np.isnan(found.final_loss)).sum())
    if unknown:
        raise Undecidable(f"{', '.join(found.key[:2])}: {unknown} networks have no training loss after the last step")
    return found.trained


def share_estimate(sure: np.ndarray, note: str = "", possible: np.ndarray | None = None) -> Estimate:
    """Share of the seeds of which something is true, ``[S]``; Clopper-Pearson interval.

    ``possible``: of which it may be true; what is open counts half, and the interval allows for both.
    """
    possible = sure if possible is None else possible
    least, most = (proportion_interval(int(counted.sum()), len(counted)) for counted in (sure, possible))
    sample = tuple(sure.astype(float).tolist())
    return Estimate((least.value + most.value) / 2, least.low, most.high, len(sure), note, sample)
