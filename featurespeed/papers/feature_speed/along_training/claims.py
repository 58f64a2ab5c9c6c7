"""Statistics of the claims about the feature speed formula along training (arXiv:2311.18718, Thm 2.1)."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import (
    Tables,
    identity,
    register,
    select,
)


def _trained(tables: Tables, kind: str, quantity: str) -> pd.DataFrame:
    """Rows of the trained networks whose label ends with ``kind``: ``ConvNet`` takes in ``residual ConvNet``."""
    table = select(tables["fsf_training"], case="along training", quantity=quantity)
    rows = table[table["series"].str.endswith(kind)]
    if rows.empty:
        raise Undecidable(f"this run trained no {kind}")
    return rows


def _formula_along_training(kind: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = _trained(tables, kind, "formula_error")
        models, steps = ", ".join(rows["series"].unique()), ", ".join(map(str, sorted(rows["step"].unique())))
        return identity(rows["value"], f"{models}; steps {steps}")

    return compute


def _neighbouring_speeds(kind: str) -> Callable[[Tables], Estimate]:
    """Largest error if each node had the speed of its neighbour: the formula's two sides are then in their ratio."""

    def compute(tables: Tables) -> Estimate:
        rows = _trained(tables, kind, "feature_speed").sort_values("layer")
        by_net = rows.groupby(["series", "learning_rate", "seed", "step"])["value"]
        neighbour = by_net.shift(1).fillna(by_net.transform("last"))
        return identity((neighbour / rows["value"] - 1).abs())

    return compute


for _kind in ("MLP", "ConvNet"):
    register(f"formula error along training, {_kind}", _formula_along_training(_kind))
    register(f"formula error along training with shuffled layers, {_kind}", _neighbouring_speeds(_kind))
