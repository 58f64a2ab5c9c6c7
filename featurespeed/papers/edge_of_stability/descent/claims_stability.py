"""Who fails and who is trained to the end, how large a step can be, and how many steps are beyond the edge.

Shares of networks have the Clopper-Pearson interval: each seed is one network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, identity, register
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
    mean_estimate,
    share_estimate,
)
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, Runs
from featurespeed.sweeps.transfer import settings

# --- shares of networks -----------------------------------------------------------------------------------------------


def _share(
    failed: bool, network: str, scaling: str, kappa: float, artefact: str = MAP, schedule: str = CONSTANT
) -> Callable[[Tables], Estimate]:
    """Share of the networks of one kappa that fail, or that are trained to the end."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, artefact, network, scaling, (kappa,), schedule)
        finite = found.at(found.finite, kappa)
        return share_estimate(~finite if failed else finite, _fates(found, kappa))

    return compute


def _fates(found: Runs, kappa: float) -> str:
    """How many diverged and died, and how far the loss rose."""
    diverged, dead = (int(found.at(fate, kappa).sum()) for fate in (found.diverged, found.dead))
    note = f"of {len(found.seeds)} networks {diverged} diverged, {dead} died"
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
        register(
            f"share of networks trained to the end, {_network}, {_scaling}", _share(False, _network, _scaling, BEYOND)
        )
register("share of networks trained to the end, r = 2, none", _share(False, QUADRATIC, NONE, BEYOND))
register(
    "share of networks trained to the end, geometry-aware",
    _share(False, QUADRATIC, NONE, KAPPA_G, AWARE, GEOMETRY_AWARE),
)


# --- how large a step can be ------------------------------------------------------------------------------------------


def _largest_step(scaling: str, of_bound: bool) -> Callable[[Tables], Estimate]:
    """Largest ``|dW_k| / eta`` of any step, layer and network; over sqrt(2/n) if ``of_bound``."""

    def compute(tables: Tables) -> Estimate:
        table = tables[TABLE]
        loss = settings(table)["loss"]
        if of_bound and loss != "cross_entropy":
            raise Undecidable(f"{TABLE}: trained with {loss}, the bound holds for cross_entropy")
        rows = table[(table["quantity"] == "step_norm") & (table["scaling"] == scaling)]
        if rows.empty:
            raise Undecidable(f"{TABLE}: no steps with scaling {scaling}")
        bound = np.sqrt(2 / rows["n_inputs"]) if of_bound else 1.0
        batches = ", ".join(f"{n}" for n in sorted(rows["n_inputs"].unique()))
        return identity(rows["value"] / bound, f"{len(rows)} networks" + (f", n = {batches}" if of_bound else ""))

    return compute


for _scaling in (NORM1, NONE):
    register(f"largest step, {_scaling}", _largest_step(_scaling, of_bound=False))
for _scaling in (REL1, NONE):
    register(f"largest step over sqrt(2/n), {_scaling}", _largest_step(_scaling, of_bound=True))


# --- steps beyond the edge --------------------------------------------------------------------------------------------


def _beyond(scaling: str, kappa: float) -> Callable[[Tables], Estimate]:
    """Share of steps beyond the edge of the minibatch's own quadratic model, mean over the networks that finish."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, MAP, QUADRATIC, scaling, (kappa,))
        shares = np.where(found.finite, found.over_training("beyond_share"), np.nan)
        return mean_estimate(f"{QUADRATIC}, {scaling}, kappa {kappa:g}", found.at(shares, kappa))

    return compute


def _always_beyond(kappa: float) -> Callable[[Tables], Estimate]:
    """Share of the networks with the geometry-aware schedule that finish, beyond the edge at every step."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, AWARE, QUADRATIC, NONE, (kappa,), GEOMETRY_AWARE)
        shares = found.at(found.over_training("beyond_share"), kappa)
        always = found.at(found.finite, kappa) & np.isclose(shares, 1.0)
        return share_estimate(always, f"{np.nanmean(shares):.1%} of all steps are beyond the edge")

    return compute


for _scaling in READINGS:
    register(f"share of steps beyond the edge, {_scaling}, kappa 32", _beyond(_scaling, BEYOND))
register("share of steps beyond the edge, none, kappa 8", _beyond(NONE, MODERATE))
for _kappa in (BELOW, KAPPA_G):
    register(f"share of networks beyond the edge at every step, kappa_g {_kappa:g}", _always_beyond(_kappa))
