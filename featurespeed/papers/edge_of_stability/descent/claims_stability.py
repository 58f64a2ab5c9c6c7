"""Who fails and who trains, how large a step can be, and how many steps are beyond the edge.

A network fails if it diverges, dies, or ends at the loss of chance or above, and otherwise trains. Shares of networks
have the Clopper-Pearson interval: each seed is one network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, identity, register
from featurespeed.papers.edge_of_stability.counts import share_estimate, trains
from featurespeed.papers.edge_of_stability.descent.networks import (
    AWARE,
    BELOW,
    BEYOND,
    FLAT,
    KAPPA_G,
    MAP,
    MODERATE,
    NONE,
    NORM1,
    QUADRATIC,
    READINGS,
    REL1,
    TABLE,
    group,
    trained_mean,
)
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, Runs, has, runs
from featurespeed.sweeps.transfer import settings

# --- shares of networks -----------------------------------------------------------------------------------------------


def _share(
    failed: bool, network: str, scaling: str, kappa: float, artefact: str = MAP, schedule: str = CONSTANT
) -> Callable[[Tables], Estimate]:
    """Share of the networks of one kappa that fail, or that train."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, artefact, network, scaling, (kappa,), schedule)
        own = found.at(trains(found), kappa)
        return share_estimate(~own if failed else own, _fates(found, kappa))

    return compute


def _fates(found: Runs, kappa: float) -> str:
    """How many diverged, died and ended at chance or above, and how far the loss rose."""
    members = (found.diverged, found.dead, found.finite & ~found.trained)
    diverged, dead, above = (int(found.at(fate, kappa).sum()) for fate in members)
    note = f"of {len(found.seeds)} networks {diverged} diverged, {dead} died, {above} ended at chance or above"
    rise = found.at(found.reached("largest_loss_ratio"), kappa)
    if np.isnan(rise).all():
        return note
    return f"{note}; largest minibatch loss up to {np.nanmax(rise):.3g} times the initial one"


for _network in (FLAT, QUADRATIC):
    for _kappa in (BELOW, BEYOND):
        register(
            f"share of networks that fail, {_network}, none, kappa {_kappa:g}", _share(True, _network, NONE, _kappa)
        )
    for _scaling in READINGS:
        register(f"share of networks that train, {_network}, {_scaling}", _share(False, _network, _scaling, BEYOND))
register("share of networks that train, r = 2, none", _share(False, QUADRATIC, NONE, BEYOND))
register("share of networks that train, geometry-aware", _share(False, QUADRATIC, NONE, KAPPA_G, AWARE, GEOMETRY_AWARE))


# --- how large a step can be ------------------------------------------------------------------------------------------


def _largest_step(steps: Callable[[pd.DataFrame], pd.DataFrame], of_bound: bool) -> Callable[[Tables], Estimate]:
    """Largest ``|dW_k| / eta`` of any step, layer and network; over sqrt(2/n) if ``of_bound``."""

    def compute(tables: Tables) -> Estimate:
        table = tables[TABLE]
        loss = settings(table)["loss"]
        if of_bound and loss != "cross_entropy":
            raise Undecidable(f"{TABLE}: trained with {loss}, the bound holds for cross_entropy")
        rows = steps(table)
        if rows.empty:
            raise Undecidable(f"{TABLE}: no steps of such networks")
        bound = np.sqrt(2 / rows["n_inputs"]) if of_bound else 1.0
        batches = ", ".join(f"{n}" for n in sorted(rows["n_inputs"].unique()))
        return identity(rows["value"] / bound, f"{len(rows)} networks" + (f", n = {batches}" if of_bound else ""))

    return compute


def _scaled(scaling: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Largest steps of all networks with one scaling."""
    return lambda table: table[(table["quantity"] == "step_norm") & (table["scaling"] == scaling)]


def _unscaled_below(table: pd.DataFrame) -> pd.DataFrame:
    """Largest steps of the networks that train without a scaling at kappa = 0.5, of every width pattern."""
    there = [runs(table, name, NONE) for name in table["series"].unique() if has(table, name, NONE)]
    below = [found for found in there if found.has(BELOW)]
    rows = [
        found.rows[np.isclose(found.rows["c"], BELOW) & found.rows["seed"].isin(found.seeds[own])]
        for found, own in ((found, found.at(trains(found), BELOW)) for found in below)
    ]
    steps = pd.concat([table[:0], *rows])
    return steps[steps["quantity"] == "step_norm"]


register("largest step, norm1", _largest_step(_scaled(NORM1), of_bound=False))
register("largest step over sqrt(2/n), rel1", _largest_step(_scaled(REL1), of_bound=True))
register("largest step of networks that train, none, kappa 0.5", _largest_step(_unscaled_below, of_bound=False))
register(
    "largest step over sqrt(2/n) of networks that train, none, kappa 0.5", _largest_step(_unscaled_below, of_bound=True)
)


# --- steps beyond the edge --------------------------------------------------------------------------------------------


def _beyond(scaling: str, kappa: float) -> Callable[[Tables], Estimate]:
    """Share of steps beyond the edge of the minibatch's own quadratic model, mean over the networks that train."""

    def compute(tables: Tables) -> Estimate:
        return trained_mean(group(tables, MAP, QUADRATIC, scaling, (kappa,)), "beyond_share", kappa)

    return compute


def _always_beyond(kappa: float) -> Callable[[Tables], Estimate]:
    """Share of the networks with the geometry-aware schedule that train, beyond the edge at every step."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, AWARE, QUADRATIC, NONE, (kappa,), GEOMETRY_AWARE)
        shares = found.at(found.over_training("beyond_share"), kappa)
        always = found.at(trains(found), kappa) & np.isclose(shares, 1.0)
        return share_estimate(always, f"{np.nanmean(shares):.1%} of all steps are beyond the edge")

    return compute


for _scaling in READINGS:
    register(f"share of steps beyond the edge, {_scaling}, kappa 32", _beyond(_scaling, BEYOND))
register("share of steps beyond the edge, none, kappa 8", _beyond(NONE, MODERATE))
for _kappa in (BELOW, KAPPA_G):
    register(f"share of networks beyond the edge at every step, kappa_g {_kappa:g}", _always_beyond(_kappa))
