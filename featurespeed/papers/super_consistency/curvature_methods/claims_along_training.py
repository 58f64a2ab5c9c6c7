"""Curvature along training: what every measurement must fulfil, whatever the network (mathematics, not a finding).

Controls hold one network against the other one of the same size, seed and step: a bound is one of its own network.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, identity, register, select

ARTEFACT = "sc_sharpness"
NETWORK, SIZE = ["series", "learning_rate"], ["width", "depth", "seed", "step"]  # keys of one measurement


def _largest(tables: Tables, quantity: str) -> pd.Series:
    """The first eigenvalue, the only value, or the largest over layers, of every network and step."""
    rows = select(tables[ARTEFACT], quantity=quantity)
    return rows[rows["index"] <= 1].groupby([*NETWORK, *SIZE])["value"].max()


def _sharpness(tables: Tables) -> pd.Series:
    return _largest(tables, "sharpness")


def _parts(tables: Tables) -> pd.Series:
    return _largest(tables, "gauss_newton_eigenvalue") + _largest(tables, "residual_eigenvalue")


def _directional(tables: Tables) -> pd.Series:
    return _largest(tables, "directional_sharpness")


def _layers(tables: Tables) -> pd.Series:
    return _largest(tables, "layer_sharpness")


@statistic("disagreement of warm and cold starts")
def warm_disagreement(tables: Tables) -> Estimate:
    """Largest relative difference of the sharpness measured from a warm and from a cold start."""
    return identity(select(tables[ARTEFACT], quantity="warm_start_disagreement", case="sharpness")["value"])


@statistic("change of the sharpness between probe steps")
def change_between_steps(tables: Tables) -> Estimate:
    """Largest relative difference of the sharpness at neighbouring probe steps: what a stale value would be off by."""
    networks = _sharpness(tables).sort_index().groupby(level=[*NETWORK, *SIZE[:-1]])
    return identity(networks.pct_change().dropna().abs())


Measured = Callable[[Tables], pd.Series]
#: Name -> what is bounded, and by what.
BOUNDS: dict[str, tuple[Measured, Measured]] = {
    "the sharpness over the sum of its parts": (_sharpness, _parts),
    "the curvature along the gradient over the sharpness": (_directional, _sharpness),
    "the sharpness of a layer over that of the network": (_layers, _sharpness),
}


def _excess(value: Measured, bound: Measured) -> Callable[[Tables], Estimate]:
    """Largest relative excess of a value over its bound."""

    def compute(tables: Tables) -> Estimate:
        limit = bound(tables)
        return identity((value(tables) - limit).div(limit))

    return compute


def _excess_over_the_other(value: Measured, bound: Measured) -> Callable[[Tables], Estimate]:
    """The same over the bound of every other network of the same size, seed and step."""

    def compute(tables: Tables) -> Estimate:
        both = value(tables).rename("value").reset_index().merge(
            bound(tables).rename("bound").reset_index(), on=SIZE, suffixes=("", "_other")
        )  # fmt: skip
        both = both[(both[NETWORK] != both[[f"{key}_other" for key in NETWORK]].to_numpy()).any(axis=1)]
        if both.empty:
            raise Undecidable("this run has one network only")
        return identity((both["value"] - both["bound"]).div(both["bound"]))

    return compute


for _name, _pair in BOUNDS.items():
    register(f"excess of {_name}", _excess(*_pair))
    register(f"excess of {_name}, bound of the other network", _excess_over_the_other(*_pair))
