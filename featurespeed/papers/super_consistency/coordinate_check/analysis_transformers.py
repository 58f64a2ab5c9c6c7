"""What the coordinate checks of transformers say: updates over the width, exponents beside stated ones.

A network is named by the label that its settings have. In the table of Figure 28 its case is ``transformer | <label>``,
in that of Table 1 ``width | <label>`` and ``depth | <label>``. The series of a layer is the role of its matrix, or what
its vectors are.
"""

from __future__ import annotations

import pandas as pd

from featurespeed.papers.super_consistency.coordinate_check.analysis import (
    Exponent,
    depth_table,
    in_order,
    layer_mean,
    measured_exponent,
    rows_of,
)
from featurespeed.papers.super_consistency.coordinate_check.spec_transformers import TRANSFORMER
from featurespeed.parameterization import OptimizerName, Parameterization, width_exponents

ADAM = OptimizerName.ADAM
#: Networks in the order of figures; others follow.
NETWORKS = ("ViT", "GPT", "post-LN")
#: Quantity of Figure 28 -> series of the stage table, quantity there.
UPDATES = {"features": ("features", "feature_update_rms"), "output": ("readout", "update_rms")}
#: Name in figures -> series of the stage table, quantity there, the layer of a chain (input, hidden, readout) whose
#: exponents in the width it shares, and whether it is a matrix. Vectors of the width scale like an input layer.
PARTS = {
    "feature update": (("features",), "feature_update_rms", 1, False),
    "input": (("input",), "effective_update_rms", 0, True),
    "hidden": (("hidden",), "effective_update_rms", 1, True),
    "readout": (("readout",), "effective_update_rms", 2, True),
    "biases": (("bias",), "effective_update_rms", 0, False),
    "gains": (("gain",), "effective_update_rms", 0, False),
    "embeddings": (("lookup", "positions", "token"), "effective_update_rms", 0, False),
}


def is_transformer(records: pd.DataFrame) -> pd.Series:
    """Which rows of the table of Figure 28 are those of transformers."""
    return records["case"].str.startswith(TRANSFORMER)


def networks(records: pd.DataFrame, case: str) -> list[str]:
    """Labels of the transformers in a stage table, whose cases are ``<case> | <label>``, in the order of figures."""
    found = records.loc[records["case"].str.startswith(f"{case} | "), "case"].unique()
    return in_order((name.partition(" | ")[2] for name in found), NETWORKS)


def parameterizations(records: pd.DataFrame, case: str) -> list[str]:
    """Parameterizations of a case, in the order of the enumeration."""
    return in_order(records.loc[records["case"] == case, "parameterization"], Parameterization)


def update_rows(records: pd.DataFrame, label: str, quantity: str) -> pd.DataFrame:
    """Rows of one of :data:`UPDATES` of one network, all parameterizations and steps."""
    series, name = UPDATES[quantity]
    keep = (records["case"] == TRANSFORMER + label) & (records["series"] == series) & (records["quantity"] == name)
    return records[keep]


def width_exponents_of(
    records: pd.DataFrame, label: str, parameterization: str, stated_of: str | None = None
) -> list[Exponent]:
    """Exponents in N after one step of Adam of the features and of the effective updates of all parts of a network.

    The layers of a part are averaged in each network. ``stated_of`` puts another parameterization's exponents beside.
    """
    rows = rows_of(records, f"width | {label}", parameterization, str(ADAM))
    rows = rows[rows["step"] == 1]
    chain = width_exponents(Parameterization(stated_of or parameterization), ADAM, 3)
    found = []
    for name, (series, quantity, place, _) in PARTS.items():
        own = rows[rows["series"].isin(series) & (rows["quantity"] == quantity)]
        stated = chain[place].update if name == "feature update" else chain[place].effective_update
        if len(own):
            found.append(measured_exponent(layer_mean(own), "width", name, quantity, stated))
    return found


def depth_exponents_of(records: pd.DataFrame, label: str, parameterization: str) -> list[Exponent]:
    """Exponents in L after one step of Adam, beside those of Depth-muP; hidden matrices by their mean."""
    return depth_table(records, parameterization, str(ADAM), case=f"depth | {label}")
