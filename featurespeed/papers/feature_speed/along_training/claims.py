"""Statistics of the claims about the feature speed formula along training (arXiv:2311.18718, Thm 2.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Condition, Estimate, Undecidable
from featurespeed.ledger.evidence import (
    Tables,
    identity,
    register,
    register_premise,
    select,
)

NETWORK = ["series", "learning_rate", "step"]  # what tells one network from another of the same seed


def _trained(tables: Tables, kind: str, **keys) -> pd.DataFrame:
    """Rows of the trained networks whose label ends with ``kind``: ``ConvNet`` takes in ``residual ConvNet``."""
    table = select(tables["fsf_training"], case="along training", **keys)
    rows = table[table["series"].str.endswith(kind)]
    if rows.empty:
        raise Undecidable(f"this run trained no {kind}")
    return rows


def _formula_along_training(kind: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = _trained(tables, kind, quantity="formula_error")
        models, steps = ", ".join(rows["series"].unique()), ", ".join(map(str, sorted(rows["step"].unique())))
        return identity(rows["value"], f"{models}; steps {steps}")

    return compute


def _formula_of_another_network(kind: str) -> Callable[[Tables], Estimate]:
    """Errors of each speed against what the formula gives for the next seed, at the same node, rate and step."""

    def compute(tables: Tables) -> Estimate:
        rows = _trained(tables, kind)
        nodes = rows[rows["layer"] > 0].pivot_table(
            index=[*NETWORK, "layer", "seed"], columns="quantity", values="value"
        )
        predicted = nodes["loss_decay"] / (np.cos(nodes["bfa"]) * nodes["backward_norm"])
        of_node = predicted.groupby([*NETWORK, "layer"])
        next_seed = of_node.shift(-1).fillna(of_node.transform("first"))
        return identity((nodes["feature_speed"] / next_seed - 1).abs())

    return compute


def _below_chance(kind: str) -> Callable[[Tables], Condition]:
    """Whether the networks that did not diverge end training below the loss of chance, ln(number of classes)."""

    def compute(tables: Tables) -> Condition:
        rows = _trained(tables, kind, quantity="batch_loss")
        last = rows[rows["step"] == rows["step"].max()]
        chance = float(np.log(last["output_dim"].iloc[0]))
        loss = float(last["value"].mean())
        return Condition(loss < chance, f"mean loss {loss:.3g} after training, chance {chance:.3g}")

    return compute


for _kind in ("MLP", "ConvNet"):
    register(f"formula error along training, {_kind}", _formula_along_training(_kind))
    register(f"formula error along training against the next seed, {_kind}", _formula_of_another_network(_kind))


register_premise("of MLPs trained below the loss of chance", _below_chance("MLP"))


register_premise("of ConvNets trained below the loss of chance", _below_chance("ConvNet"))
