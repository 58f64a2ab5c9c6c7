"""What the statistics of this paper share: which runs, which kappas, and what networks that failed leave.

A network that failed (it diverged or died) has no final value. Statistics of final values use the seeds whose networks
were trained to the end, say how many were not, and cannot decide with fewer than two of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate
from featurespeed.papers.edge_of_stability import shared
from featurespeed.papers.edge_of_stability.shared import CONSTANT, Runs
from featurespeed.sweeps.transfer import over_seeds, settings

FLAT, QUADRATIC = "r = 0", "r = 2"
NONE, NORM1, REL1 = "none", "norm1", "rel1"
BELOW, BEYOND = 0.5, 32.0  # kappa below the edge of stability, and the one that the claims are about
KAPPA_G = 1.5  # of the geometry-aware schedule: times the edge of the minibatch's own quadratic model
FEWEST_SEEDS = 2
MAP, TABLE, AWARE = "beos_fig1", "beos_table1", "beos_fig5"


def group(
    tables: Tables, artefact: str, network: str, scaling: str, kappas: tuple[float, ...] = (), schedule: str = CONSTANT
) -> Runs:
    """Runs of one network, scaling and schedule.

    Raises:
        Undecidable: there are none, one of ``kappas`` was not run, or there are fewer than 2 seeds.
    """
    table = tables[artefact]
    name = f"{network}, {scaling}" + ("" if schedule == CONSTANT else f", {schedule}")
    if not shared.has(table, network, scaling, schedule):
        raise Undecidable(f"{artefact}: no runs of {name}")
    found = shared.runs(table, network, scaling, schedule)
    for kappa in kappas:
        if not found.has(kappa):
            raise Undecidable(f"{artefact}: {name} was not run at kappa = {kappa:g}; there are {_listed(found.kappas)}")
    if len(found.seeds) < FEWEST_SEEDS:
        raise Undecidable(f"{artefact}: {name} has {len(found.seeds)} seed, at least {FEWEST_SEEDS} are needed")
    return found


def of_both(first: Runs, second: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Seeds and kappas that two groups share, as indices: ``(seeds of first, of second, kappas of first, of second)``.

    Raises:
        Undecidable: fewer than 2 seeds, or no kappa, in common.
    """
    _, *seeds = np.intersect1d(first.seeds, second.seeds, return_indices=True)
    same = np.isclose(first.kappas[:, None], second.kappas[None, :])
    kappas = np.nonzero(same)
    names = " and ".join(", ".join(found.key[:2]) for found in (first, second))
    if len(seeds[0]) < FEWEST_SEEDS or not len(kappas[0]):
        raise Undecidable(f"{names}: {len(seeds[0])} seeds and {len(kappas[0])} kappas in common")
    return *seeds, *kappas


def complete(what: str, *values: np.ndarray) -> tuple[list[np.ndarray], str]:
    """The seeds that have all of some values ``[S]``, and a note on those that have not.

    Raises:
        Undecidable: fewer than 2 seeds are left.
    """
    there = ~np.isnan(np.stack(values)).any(0)
    left, missing = int(there.sum()), int((~there).sum())
    if left < FEWEST_SEEDS:
        raise Undecidable(f"{what}: of {len(there)} seeds {left} were trained to the end, {FEWEST_SEEDS} are needed")
    note = f"{missing} of {len(there)} seeds left out, their networks failed" if missing else ""
    return [value[there] for value in values], note


def ratio_estimate(what: str, above: np.ndarray, below: np.ndarray, note: str = "") -> Estimate:
    """Ratio of the means over seeds of two lists ``[S]``, paired by seed; bootstrap over seeds."""
    (top, bottom), left_out = complete(what, above, below)
    interval = over_seeds(lambda chosen: shared.ratio(top, bottom, chosen), len(top))
    means = f"means {top.mean():.3g} and {bottom.mean():.3g}"
    return as_estimate(interval, joined(means, left_out, note))


def mean_estimate(what: str, values: np.ndarray, note: str = "") -> Estimate:
    """Mean over seeds of ``[S]``; bootstrap over seeds."""
    (there,), left_out = complete(what, values)
    return as_estimate(shared.mean_interval(there), joined(left_out, note))


def of_seeds(statistic: Callable[[np.ndarray], float], seeds: int, *notes: str) -> Estimate:
    """A statistic of chosen seeds; bootstrap over seeds."""
    return as_estimate(over_seeds(statistic, seeds), joined(*notes))


def data_of(tables: Tables, artefact: str, network: str) -> str:
    """Name of the data that a network was trained on: its own, or that of the artefact."""
    run = settings(tables[artefact])
    own = run.get("networks", {}).get(network, {}).get("data") or run["data"]
    return own["name"]


def joined(*notes: str) -> str:
    """The notes that there are, in one line."""
    return "; ".join(note for note in notes if note)


def _listed(kappas: np.ndarray) -> str:
    return ", ".join(f"{kappa:g}" for kappa in kappas)
