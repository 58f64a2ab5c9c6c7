"""Statistics of the claims about the feature speed formula along training (arXiv:2311.18718, Thm 2.1).

Under SGD the error is relative to the loss decay. In the optimizer's form, under Adam, the loss decay may pass 0: there
it is that of the cosine, ``|cos theta - loss decay / (|df/dt| |b|)|``.
"""

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


#: Transformer and the optimizer that trained it, as labels name them -> the quantity that tells the error there.
TRANSFORMERS = {
    f"{kind} with {optimizer}": error
    for kind in ("ViT", "GPT", "post-LN")
    for optimizer, error in (("SGD", "formula_error"), ("Adam", "cosine_error"))
}


def _trained(tables: Tables, kind: str, **keys) -> pd.DataFrame:
    """Rows of the trained networks whose label ends with ``kind``: ``ConvNet`` takes in ``residual ConvNet``."""
    table = select(tables["fsf_training"], case="along training", **keys)
    rows = table[table["series"].str.endswith(kind)]
    if rows.empty:
        raise Undecidable(f"this run trained no {kind}")
    return rows


def _formula_along_training(kind: str, error: str = "formula_error") -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = _trained(tables, kind, quantity=error)
        models, steps = ", ".join(rows["series"].unique()), ", ".join(map(str, sorted(rows["step"].unique())))
        return identity(rows["value"], f"{models}; steps {steps}")

    return compute


def _formula_of_another_network(kind: str) -> Callable[[Tables], Estimate]:
    """Errors of each speed against what the formula gives for the next seed, at the same node, rate and step."""

    def compute(tables: Tables) -> Estimate:
        nodes = _nodes(tables, kind)
        predicted = nodes["loss_decay"] / (np.cos(nodes["bfa"]) * nodes["backward_norm"])
        return identity((nodes["feature_speed"] / _of_next_seed(predicted) - 1).abs())

    return compute


def _cosine_of_another_network(kind: str) -> Callable[[Tables], Estimate]:
    """Distance of each cosine from what the formula gives for the next seed, at the same node, rate and step."""

    def compute(tables: Tables) -> Estimate:
        nodes = _nodes(tables, kind)
        predicted = nodes["loss_decay"] / (nodes["feature_speed"] * nodes["backward_norm"])
        return identity((np.cos(nodes["bfa"]) - _of_next_seed(predicted)).abs())

    return compute


def _nodes(tables: Tables, kind: str) -> pd.DataFrame:
    """What was measured at each cut node of each network, a column a quantity."""
    rows = _trained(tables, kind)
    index = [*NETWORK, "layer", "seed"]
    return rows[rows["layer"] > 0].pivot_table(index=index, columns="quantity", values="value")


def _of_next_seed(values: pd.Series) -> pd.Series:
    """At every node the number of the same node of the next seed, at the last one that of the first."""
    of_node = values.groupby([*NETWORK, "layer"])
    return of_node.shift(-1).fillna(of_node.transform("first"))


def _below_chance(kind: str) -> Callable[[Tables], Condition]:
    """Whether the networks that did not diverge end training below the loss of chance, ln(number of classes)."""

    def compute(tables: Tables) -> Condition:
        rows = _trained(tables, kind, quantity="batch_loss")
        last = rows[rows["step"] == rows["step"].max()]
        chance = float(np.log(last["output_dim"].iloc[0]))
        loss = float(last["value"].mean())
        return Condition(loss < chance, f"mean loss {loss:.3g} after training, chance {chance:.3g}")

    return compute


def _below_frequencies(kind: str) -> Callable[[Tables], Condition]:
    """Whether networks end training, on average, below the loss of who knows the frequencies of the labels alone."""

    def compute(tables: Tables) -> Condition:
        rows = _trained(tables, kind, quantity="batch_loss")
        chance = float(_trained(tables, kind, quantity="label_entropy")["value"].iloc[0])
        loss = float(rows[rows["step"] == rows["step"].max()]["value"].mean())
        return Condition(loss < chance, f"mean loss {loss:.3g} after training, entropy of the labels {chance:.3g}")

    return compute


for _kind in ("MLP", "ConvNet"):
    register(f"formula error along training, {_kind}", _formula_along_training(_kind))
    register(f"formula error along training against the next seed, {_kind}", _formula_of_another_network(_kind))


register_premise("of MLPs trained below the loss of chance", _below_chance("MLP"))


register_premise("of ConvNets trained below the loss of chance", _below_chance("ConvNet"))


for _label, _error in TRANSFORMERS.items():
    _next = _formula_of_another_network if _error == "formula_error" else _cosine_of_another_network
    register(f"formula error along training, {_label}", _formula_along_training(_label, _error))
    register(f"formula error along training against the next seed, {_label}", _next(_label))


register_premise("ViT with SGD: trained below the entropy of the labels", _below_frequencies("ViT with SGD"))
register_premise("ViT with Adam: trained below the entropy of the labels", _below_frequencies("ViT with Adam"))
register_premise("GPT with SGD: trained below the entropy of the labels", _below_frequencies("GPT with SGD"))
register_premise("GPT with Adam: trained below the entropy of the labels", _below_frequencies("GPT with Adam"))
register_premise("post-LN with SGD: trained below the entropy of the labels", _below_frequencies("post-LN with SGD"))
register_premise("post-LN with Adam: trained below the entropy of the labels", _below_frequencies("post-LN with Adam"))
