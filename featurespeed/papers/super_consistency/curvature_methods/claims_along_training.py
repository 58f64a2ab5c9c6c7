"""Curvature along training: what every measurement must fulfil, whatever the network (mathematics, not a finding)."""

from __future__ import annotations

import pandas as pd

from featurespeed.ledger.engine import Estimate, statistic
from featurespeed.ledger.evidence import Tables, identity, select

KEYS = ["run_id", "learning_rate", "seed", "step"]  # one network at one probe step


def _first(tables: Tables, quantity: str) -> pd.Series:
    """The first eigenvalue, or the only value, of every network and step."""
    rows = select(tables["sc_sharpness"], quantity=quantity)
    return rows[rows["index"] <= 1].set_index(KEYS)["value"]


def _sharpness(tables: Tables) -> pd.Series:
    return _first(tables, "sharpness")


@statistic("disagreement of warm and cold starts")
def warm_disagreement(tables: Tables) -> Estimate:
    """Largest relative difference of the sharpness measured from a warm and from a cold start."""
    return identity(select(tables["sc_sharpness"], quantity="warm_start_disagreement", case="sharpness")["value"])


@statistic("change of the sharpness between probe steps")
def change_between_steps(tables: Tables) -> Estimate:
    """Largest relative difference of the sharpness at neighbouring probe steps: what a stale value would be off by."""
    networks = _sharpness(tables).sort_index().groupby(level=KEYS[:-1])
    return identity(networks.pct_change().dropna().abs())


@statistic("excess of the sharpness over both parts")
def weyl_excess(tables: Tables) -> Estimate:
    """Largest relative excess of lambda_1(H) over lambda_1(G) + lambda_1(R)."""
    parts = _first(tables, "gauss_newton_eigenvalue") + _first(tables, "residual_eigenvalue")
    return identity((_sharpness(tables) - parts).div(_sharpness(tables)).clip(lower=0.0))


@statistic("excess of the sharpness over the residual part")
def residual_excess(tables: Tables) -> Estimate:
    """Largest relative excess of lambda_1(H) over lambda_1(R) alone."""
    excess = _sharpness(tables) - _first(tables, "residual_eigenvalue")
    return identity(excess.div(_sharpness(tables)).clip(lower=0.0))


@statistic("excess of the curvature along the gradient")
def directional_excess(tables: Tables) -> Estimate:
    """Largest relative excess of g^T H g / |g|^2 over the sharpness."""
    return identity(_excess(_first(tables, "directional_sharpness"), _sharpness(tables)))


@statistic("excess of the trace over the sharpness")
def trace_excess(tables: Tables) -> Estimate:
    """Largest relative excess of the trace over the sharpness."""
    return identity(_excess(_first(tables, "hessian_trace"), _sharpness(tables)))


def _layers(tables: Tables) -> pd.core.groupby.SeriesGroupBy:
    return select(tables["sc_sharpness"], quantity="layer_sharpness").groupby(KEYS)["value"]


@statistic("excess of the sharpness of a layer")
def layer_excess(tables: Tables) -> Estimate:
    """Largest relative excess of the sharpness of a layer's own block over that of the whole."""
    return identity(_excess(_layers(tables).max(), _sharpness(tables)))


@statistic("excess of the sharpness of all layers")
def layers_excess(tables: Tables) -> Estimate:
    """Largest relative excess of the sum of the layers' sharpnesses over that of the whole."""
    return identity(_excess(_layers(tables).sum(), _sharpness(tables)))


def _excess(value: pd.Series, bound: pd.Series) -> pd.Series:
    return (value - bound).div(bound).clip(lower=0.0)
