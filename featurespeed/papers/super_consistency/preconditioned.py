"""What claims about Adam's preconditioned sharpness share: which seeds, at which learning rate, against which
threshold.

Sharpness is looked at at the learning rate that is best for all sizes of those where it was measured. Seeds of which a
network failed there are left out, up to a fifth of those of a size; where networks are compared, those of which one of
them failed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, largest_estimate
from featurespeed.papers.super_consistency.failures import failed_before
from featurespeed.papers.super_consistency.shared import best_measured, failed_seeds, late_exponents, network, numbers
from featurespeed.papers.super_consistency.spec import PRECONDITIONED
from featurespeed.papers.super_consistency.spread import below
from featurespeed.sweeps import dependence
from featurespeed.sweeps.convergence import Curves
from featurespeed.sweeps.transfer import settings


def without_failed(tables: Tables, artefact: str, labels: Sequence[str], size: str) -> tuple[list[pd.DataFrame], str]:
    """Rows of several networks, of the seeds of which none of them failed, and a note on the others.

    Networks are paired by seed: one that lost a seed takes it away from all.
    """
    rows = [network(tables, artefact, label, size) for label in labels]
    for label, own in zip(labels, rows, strict=True):
        if failed_before(own):
            raise Undecidable(f"{label}: at every measured learning rate every network failed before it was measured")
    failed = np.unique(np.concatenate([failed_seeds(own, PRECONDITIONED, size) for own in rows]))
    if not len(failed):
        return rows, ""
    seeds = rows[0]["seed"].nunique()
    if len(failed) == seeds:
        raise Undecidable(f"{' and '.join(labels)}: a network failed in every one of {seeds} seeds")
    note = f"; without {len(failed)} of {seeds} seeds, of which a network diverged, died or ended at chance"
    return [own[~own["seed"].isin(failed)] for own in rows], note


def at_best(tables: Tables, artefact: str, labels: Sequence[str], size: str) -> tuple[list[Curves], str]:
    """The sharpness of every network at the best of its measured rates, and a note on seeds that are left out."""
    rows, note = without_failed(tables, artefact, labels, size)
    return [best_measured(own, PRECONDITIONED, size=size) for own in rows], note


def below_the_best(tables: Tables, artefact: str, label: str, size: str, place: int = -1) -> tuple[Curves, Curves]:
    """The sharpness of a network at the best of the measured rates, and at a smaller one.

    Args:
        place: of the smaller one among these: -1 is the next below the best, 0 the smallest.
    """
    rows, _ = without_failed(tables, artefact, [label], size)
    best = best_measured(rows[0], PRECONDITIONED, size=size)
    return best, below(rows[0], PRECONDITIONED, best, size, place)


def told(found: Curves, label: str) -> str:
    """Mean over seeds of the late sharpness of every size, for a note."""
    return f"{label} at {found.rate:g}, late sharpness by size {numbers(found.sizes, found.late().mean(0))}"


def from_the_threshold(tables: Tables, artefact: str, label: str, found: Curves, note: str = "") -> Estimate:
    """Largest |log(late sharpness / threshold)| over the sizes of a network, simultaneous t intervals."""
    edge = dependence.adam_threshold(settings(tables[artefact])["networks"][label]["optimizer"]["betas"][0])
    late = found.late()
    if not (late > 0).all():
        raise Undecidable(f"{told(found, label)}: must be positive for a logarithm")
    return largest_estimate(np.log(late / edge), note=told(found, label) + note)


def largest_slope(tables: Tables, artefact: str, labels: Sequence[str], size: str) -> Estimate:
    """Largest |slope| of the late sharpness in the size of several networks, simultaneous t intervals."""
    found, note = at_best(tables, artefact, labels, size)
    slopes = [late_exponents(own, label) for own, label in zip(found, labels, strict=True)]
    each = "; ".join(told(own, label) for own, label in zip(found, labels, strict=True))
    return largest_estimate(np.column_stack(slopes), note=each + note)
