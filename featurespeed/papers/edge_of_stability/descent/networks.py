"""What the statistics of this paper share: which runs, which kappas, what networks that failed leave, premises.

A network fails if it diverges, dies, or ends at the loss of chance or above. Statistics of what is learned use the
seeds whose networks trained, say how many did not, and cannot decide with fewer than two of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, per_table, register_premise
from featurespeed.ledger.evidence import mean_estimate as mean_of_seeds
from featurespeed.papers.edge_of_stability import shared
from featurespeed.papers.edge_of_stability.counts import trains
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, Runs
from featurespeed.statistics import ratio_interval
from featurespeed.sweeps.transfer import settings

FLAT, QUADRATIC = "r = 0", "r = 2"
NARROW = "r = 0, base width of r = 2"
FASHION = "r = 2, Fashion-MNIST"
NONE, NORM1, REL1 = "none", "norm1", "rel1"
#: What the abstract's depth-wise scaling may be: our recommended one, and the one that cancels both norms.
READINGS = (REL1, NORM1)
BELOW, BEYOND = 0.5, 32.0  # kappa below the edge of stability, and the one that the claims are about
MODERATE = 8.0  # kappa at which networks of all patterns train
KAPPA_G = 1.5  # of the geometry-aware schedule: times the edge of the minibatch's own quadratic model
FEWEST_SEEDS = 2
MAP, TABLE, AWARE = "beos_fig1", "beos_table1", "beos_fig5"

BEYOND_SHARE = 0.2  # of the steps: what counts as training beyond the edge
TRAINED_SHARE = 0.8  # of the seeds: what counts as networks that train


# --- runs -------------------------------------------------------------------------------------------------------------

_has, _runs = per_table(shared.has), per_table(shared.runs)  # most statistics ask for the same few groups


def group(
    tables: Tables, artefact: str, network: str, scaling: str, kappas: tuple[float, ...] = (), schedule: str = CONSTANT
) -> Runs:
    """Runs of one network, scaling and schedule.

    Raises:
        Undecidable: there are none, one of ``kappas`` was not run, or there are fewer than 2 seeds.
    """
    table = tables[artefact]
    name = f"{network}, {scaling}" + ("" if schedule == CONSTANT else f", {schedule}")
    if not _has(table, network, scaling, schedule):
        raise Undecidable(f"{artefact}: no runs of {name}")
    found = _runs(table, network, scaling, schedule)
    for kappa in kappas:
        if not found.has(kappa):
            raise Undecidable(f"{artefact}: {name} was not run at kappa = {kappa:g}; there are {listed(found.kappas)}")
    if len(found.seeds) < FEWEST_SEEDS:
        raise Undecidable(f"{artefact}: {name} has {len(found.seeds)} seed, at least {FEWEST_SEEDS} are needed")
    return found


def of_both(first: Runs, second: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Seeds that two groups share, as indices ``(of first, of second)``.

    Raises:
        Undecidable: fewer than 2.
    """
    _, *seeds = np.intersect1d(first.seeds, second.seeds, return_indices=True)
    if len(seeds[0]) < FEWEST_SEEDS:
        names = " and ".join(name_of(found) for found in (first, second))
        raise Undecidable(f"{names}: {len(seeds[0])} seeds in common")
    return seeds[0], seeds[1]


def trained(found: Runs, quantity: str, kappa: float) -> np.ndarray:
    """A quantity after training at one kappa, ``[S]``; NaN where the network failed or ended above chance."""
    return found.at(np.where(trains(found), found.final(quantity), np.nan), kappa)


def trained_mean(found: Runs, quantity: str, kappa: float) -> Estimate:
    """Mean over all steps of the networks of one kappa that trained, then over these networks; t interval."""
    own = found.at(trains(found), kappa)
    means = np.where(own, found.at(found.over_training(quantity), kappa), np.nan)
    (there,), _ = complete(f"{name_of(found)}, kappa {kappa:g}", means)
    return mean_of_seeds(there, f"{own.sum()} of {len(own)} networks trained, the mean is over them")


def name_of(found: Runs) -> str:
    """Network and scaling."""
    return ", ".join(found.key[:2])


def data_of(tables: Tables, artefact: str, network: str) -> str:
    """Name of the data that a network was trained on: its own, or that of the artefact."""
    run = settings(tables[artefact])
    own = run.get("networks", {}).get(network, {}).get("data") or run["data"]
    return own["name"]


# --- estimates --------------------------------------------------------------------------------------------------------


def complete(what: str, *values: np.ndarray) -> tuple[list[np.ndarray], str]:
    """The seeds that have all of some values ``[S]``, and a note on those that have not.

    Raises:
        Undecidable: fewer than 2 seeds are left.
    """
    there = ~np.isnan(np.stack(values)).any(0)
    left, missing = int(there.sum()), int((~there).sum())
    if left < FEWEST_SEEDS:
        raise Undecidable(f"{what}: of {len(there)} seeds {left} trained, {FEWEST_SEEDS} are needed")
    note = f"{missing} of {len(there)} seeds left out, their networks failed" if missing else ""
    return [value[there] for value in values], note


def ratio_estimate(what: str, above: np.ndarray, below: np.ndarray, note: str = "") -> Estimate:
    """Geometric mean over seeds of the ratio of two lists ``[S]``, paired by seed; t interval of its log."""
    (top, bottom), left_out = complete(what, above, below)
    means = f"means {top.mean():.3g} and {bottom.mean():.3g}"
    return as_estimate(ratio_interval(top, bottom), joined(means, left_out, note))


def mean_estimate(what: str, values: np.ndarray, note: str = "") -> Estimate:
    """Mean over the seeds that have a value, ``[S]``; t interval."""
    (there,), left_out = complete(what, values)
    return mean_of_seeds(there, joined(left_out, note))


def joined(*notes: str) -> str:
    """The notes that there are, in one line."""
    return "; ".join(note for note in notes if note)


def listed(kappas: np.ndarray) -> str:
    """Kappas, for a message."""
    return ", ".join(f"{kappa:g}" for kappa in kappas)


# --- premises ---------------------------------------------------------------------------------------------------------

Members = tuple[str, str, float, str]  # network, scaling, kappa, schedule

#: Premise -> the networks that it is about: of all steps that they took, those that failed included.
BEYOND_THE_EDGE: dict[str, Members] = {
    "beyond the edge on a fifth of their steps (rel1, r = 2, kappa 32)": (QUADRATIC, REL1, BEYOND, CONSTANT),
    "beyond the edge on a fifth of their steps (norm1, r = 2, kappa 32)": (QUADRATIC, NORM1, BEYOND, CONSTANT),
    "beyond the edge on a fifth of their steps (rel1, r = 0, kappa 32)": (FLAT, REL1, BEYOND, CONSTANT),
    "beyond the edge on a fifth of their steps (norm1, r = 0, kappa 32)": (FLAT, NORM1, BEYOND, CONSTANT),
    "beyond the edge on a fifth of their steps (rel1, r = 2 on Fashion-MNIST, kappa 32)": (
        FASHION, REL1, BEYOND, CONSTANT,
    ),
    "beyond the edge on a fifth of their steps (geometry-aware, r = 2, kappa_g 1.5)": (
        QUADRATIC, NONE, KAPPA_G, GEOMETRY_AWARE,
    ),
}  # fmt: skip

#: Premise -> the networks of which at least four in five must end with a training loss below chance.
TRAINED: dict[str, Members] = {
    "trained (rel1, r = 2, kappa 0.5)": (QUADRATIC, REL1, BELOW, CONSTANT),
    "trained (norm1, r = 2, kappa 0.5)": (QUADRATIC, NORM1, BELOW, CONSTANT),
    "trained (rel1, r = 2, kappa 32)": (QUADRATIC, REL1, BEYOND, CONSTANT),
    "trained (norm1, r = 2, kappa 32)": (QUADRATIC, NORM1, BEYOND, CONSTANT),
    "trained (rel1, r = 2 on Fashion-MNIST, kappa 32)": (FASHION, REL1, BEYOND, CONSTANT),
    "trained (geometry-aware, r = 2, kappa_g 1.5)": (QUADRATIC, NONE, KAPPA_G, GEOMETRY_AWARE),
}


def _members(tables: Tables, members: Members) -> tuple[Runs, float]:
    network, scaling, kappa, schedule = members
    artefact = MAP if schedule == CONSTANT else AWARE
    return group(tables, artefact, network, scaling, (kappa,), schedule), kappa


def _beyond_the_edge(members: Members) -> Callable[[Tables], Condition]:
    def compute(tables: Tables) -> Condition:
        found, kappa = _members(tables, members)
        shares, steps = (found.at(own("beyond_share"), kappa) for own in (found.over_training, found.steps_recorded))
        if not steps.sum():
            raise Undecidable(f"{name_of(found)}: no recorded steps")
        share = float((np.nan_to_num(shares) * steps).sum() / steps.sum())
        return Condition(share >= BEYOND_SHARE, f"{share:.1%} of the steps")

    return compute


def _trained(members: Members) -> Callable[[Tables], Condition]:
    def compute(tables: Tables) -> Condition:
        found, kappa = _members(tables, members)
        own = found.at(trains(found), kappa)
        return Condition(own.mean() >= TRAINED_SHARE, f"{own.sum()} of {len(own)} networks end below chance")

    return compute


for _name, _networks in BEYOND_THE_EDGE.items():
    register_premise(_name, _beyond_the_edge(_networks))
for _name, _networks in TRAINED.items():
    register_premise(_name, _trained(_networks))
