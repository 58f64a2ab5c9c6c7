"""ConvNets of the second paper beyond their edge of stability (ours): how far scalings and the width pattern take them.

The unit is the seed: the largest kappa of the grid up to which its own network trains. Counted are the seeds in which
it gains a step of 2 or more. Where the grid ends too early, it is only a bound: that counts where it decides, and
leaves the seed undecided where it does not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, enough_seeds, mean_estimate, register
from featurespeed.papers.edge_of_stability import shared
from featurespeed.papers.edge_of_stability.bridge import analysis
from featurespeed.papers.edge_of_stability.bridge.analysis import FAR, MOST_OPEN, QUADRATIC, SCALINGS, UNIFORM, Gain
from featurespeed.papers.edge_of_stability.counts import share_estimate, trains
from featurespeed.papers.edge_of_stability.shared import Runs

ARTEFACT = "beos_bridge"
AT_THE_EDGE = 1.0  # kappa
Group = tuple[str, str]  # network, scaling


def _runs(tables: Tables, group: Group) -> Runs:
    """Runs of one group, of all of which it is known whether they trained."""
    if not shared.has(tables[ARTEFACT], *group):
        raise Undecidable(f"this run has no networks {group[0]} with scaling {group[1]}")
    found = shared.runs(tables[ARTEFACT], *group)
    trains(found)
    return found


def _gain(one: Group, other: Group) -> Callable[[Tables], Estimate]:
    """Share of the seeds in which the largest kappa of one group is a step of 2 or more above that of another."""

    def compute(tables: Tables) -> Estimate:
        first, second = (analysis.reach(_runs(tables, group)) for group in (one, other))
        gain = Gain.of(first, second)
        enough_seeds(gain.steps)
        note = f"largest kappas, by seed, {_written(first)}; {_written(second)}"
        sure, possible = gain.least >= FAR, gain.most >= FAR
        undecided = int((possible & ~sure).sum())
        if undecided > MOST_OPEN * len(sure):
            raise Undecidable(f"the grid ends too early to decide {undecided} of {len(sure)} seeds: {note}")
        return share_estimate(sure, f"{undecided} seeds undecided; {note}" if undecided else note, possible)

    return compute


def _written(reach: analysis.Reach) -> str:
    """The largest kappas of the seeds, and where the grid does not go far enough to know them."""
    signs = np.where(reach.places < 0, "below ", np.where(reach.open, "at least ", ""))
    kappas = np.where(reach.places < 0, reach.kappas[0], reach.of_each)
    return ", ".join(f"{sign}{kappa:g}" for sign, kappa in zip(signs, kappas, strict=True))


def _beyond(scaling: str) -> Callable[[Tables], Estimate]:
    """Share of steps beyond the edge of the minibatch, at the largest kappa of each seed."""

    def compute(tables: Tables) -> Estimate:
        shares = analysis.beyond_at_reach(_runs(tables, (UNIFORM, scaling)))
        there = shares[~np.isnan(shares)]
        missing = len(shares) - len(there)
        note = f"{missing} of {len(shares)} seeds train at no kappa" if missing else ""
        return mean_estimate(there, note)

    return compute


def _beyond_at_the_edge(tables: Tables) -> Estimate:
    """The same without a scaling at kappa = 1, of the seeds that train there."""
    runs = _runs(tables, (UNIFORM, "none"))
    if not runs.has(AT_THE_EDGE):
        raise Undecidable(f"{UNIFORM}, none was not run at kappa = {AT_THE_EDGE:g}")
    return mean_estimate(runs.at(runs.over_training(analysis.BEYOND), AT_THE_EDGE)[runs.at(runs.trained, AT_THE_EDGE)])


for _scaling in SCALINGS[1:]:
    register(f"seeds that gain a step, {_scaling} over none, {UNIFORM}", _gain((UNIFORM, _scaling), (UNIFORM, "none")))
    register(f"share of steps beyond, {_scaling}, largest kappa", _beyond(_scaling))
for _scaling in SCALINGS[:2]:
    _name = f"seeds that gain a step, {QUADRATIC} over {UNIFORM}, {_scaling}"
    register(_name, _gain((QUADRATIC, _scaling), (UNIFORM, _scaling)))
register("share of steps beyond, none, kappa 1", _beyond_at_the_edge)
