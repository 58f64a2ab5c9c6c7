"""ConvNets of the second paper beyond their edge of stability (ours): how far scalings and the width pattern take them.

A largest kappa at an end of its grid is a bound: its interval is open there, so that it can contradict or confirm, but
never on the grid's account.
"""

from __future__ import annotations

from collections.abc import Callable

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, register
from featurespeed.papers.edge_of_stability import shared
from featurespeed.papers.edge_of_stability.bridge import analysis
from featurespeed.papers.edge_of_stability.bridge.analysis import QUADRATIC, SCALINGS, UNIFORM
from featurespeed.papers.edge_of_stability.shared import Runs

ARTEFACT = "beos_bridge"
Group = tuple[str, str]  # network, scaling


def _runs(tables: Tables, group: Group) -> Runs:
    if not shared.has(tables[ARTEFACT], *group):
        raise Undecidable(f"this run has no networks {group[0]} with scaling {group[1]}")
    return shared.runs(tables[ARTEFACT], *group)


def _gain(one: Group, other: Group) -> Callable[[Tables], Estimate]:
    """Largest kappa at which all networks up to it train, of one group over another, in steps of 2."""

    def compute(tables: Tables) -> Estimate:
        first, second = (analysis.reach(_runs(tables, group)) for group in (one, other))
        note = f"largest kappa {_written(first)} and {_written(second)}"
        return as_estimate(analysis.gain(first, second), note)

    return compute


def _written(reach: analysis.Reach) -> str:
    """A largest kappa, and whether the grid goes far enough to know it."""
    if reach.place() < 0:
        return f"below {reach.kappas[0]:g}"
    return f"{'at least ' if reach.at_edge else ''}{reach.largest():g}"


def _beyond(group: Group, smallest: bool) -> Callable[[Tables], Estimate]:
    """Share of steps beyond the edge of the minibatch, at the group's largest kappa or at its smallest one.

    The kappa is that of all seeds: resamples of them do not move it.
    """

    def compute(tables: Tables) -> Estimate:
        runs = _runs(tables, group)
        reach = analysis.reach(runs)
        if reach.place() < 0 and not smallest:
            raise Undecidable(
                f"{group[0]}, {group[1]}: not all networks train at the smallest kappa {runs.kappas[0]:g}"
            )
        kappa = runs.kappas[0] if smallest else reach.largest()
        share = analysis.share_beyond(runs, kappa)
        if share.n < 2:
            raise Undecidable(f"{group[0]}, {group[1]}: {share.n} networks with recorded steps at kappa {kappa:g}")
        return as_estimate(share, f"kappa {kappa:g}")

    return compute


for _scaling in SCALINGS:
    register(f"largest kappa, {_scaling} over none, {UNIFORM}", _gain((UNIFORM, _scaling), (UNIFORM, "none")))
for _scaling in SCALINGS[1:]:
    for _smallest, _which in ((False, "largest"), (True, "smallest")):
        register(f"share of steps beyond, {_scaling}, {_which} kappa", _beyond((UNIFORM, _scaling), _smallest))
for _network in (QUADRATIC, UNIFORM):
    register(f"largest kappa, {_network} over {UNIFORM}, rel1", _gain((_network, "rel1"), (UNIFORM, "rel1")))
