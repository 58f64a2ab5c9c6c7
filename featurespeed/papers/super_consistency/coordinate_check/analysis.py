"""What the stage tables of coordinate checks say: exponents in width and depth, beside those that a table states.

Figures and claims of arXiv:2402.17457 read the same numbers from here. The rows of a stage table are those of this
room's ``measuring.py``: one a layer, seed, step and quantity, and the update of the last hidden features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from featurespeed.parameterization import (
    DEPTH_MUP_EXPONENTS,
    LayerRole,
    OptimizerName,
    Parameterization,
    WidthExponents,
    width_exponents,
)
from featurespeed.statistics import Interval, loglog_slope

#: Quantity -> how a figure names it. Activations are those at initialisation, updates those of the first step.
WIDTH_QUANTITIES = {
    "activation_rms": "activation at initialisation",
    "effective_update_rms": "effective update",
    "propagating_update_rms": "propagating update",
}
#: Quantity over the depth -> (series of the stage table, its quantity, stated exponent in L).
DEPTH_QUANTITIES = {
    "feature update": ("features", "feature_update_rms", DEPTH_MUP_EXPONENTS["feature_update"]),
    "hidden, effective": ("hidden", "effective_update_rms", DEPTH_MUP_EXPONENTS["effective_update_hidden"]),
    "readout, effective": ("readout", "effective_update_rms", DEPTH_MUP_EXPONENTS["effective_update_readout"]),
}
#: The other update of the same layers, beside the exponents that are stated for the effective one.
OTHER_DEPTH_QUANTITIES = {
    f"{series}, propagating": (series, "propagating_update_rms", DEPTH_QUANTITIES[f"{series}, effective"][2])
    for series in ("hidden", "readout")
}


@dataclass(frozen=True)
class Exponent:
    """One measured exponent beside the stated one.

    Attributes:
        name: of the layer (``input``, ``hidden 1``, ..., ``readout``) or, over the depth, of the quantity.
        quantity: of the stage table.
        stated: exponent; None where the quantity is stated to be exactly 0.
        measured: exponent over seeds; None where no two seeds have values above 0 at every size.
        largest: of the values themselves: 0 says that the quantity is exactly 0.
        left_out: seeds without a part in ``measured``, because a value of theirs is 0.
    """

    name: str
    quantity: str
    stated: float | None
    measured: Interval | None
    largest: float
    left_out: int = 0


def fit_exponent(rows: pd.DataFrame, size: str) -> tuple[Interval | None, int]:
    """Exponent of ``value`` in the column ``size``, one fit a seed, and how many seeds are left out.

    A seed with a value of 0 has no logarithm at that size; None where fewer than two seeds are left.
    """
    rows = rows.sort_values(["seed", size])  # sums in one order, so that equal tables give equal bytes
    kept = rows[rows.groupby("seed")["value"].transform("min") > 0]
    left_out = rows["seed"].nunique() - kept["seed"].nunique()
    if kept["seed"].nunique() < 2:
        return None, left_out
    return loglog_slope(kept[size], kept["value"], kept["seed"]), left_out


def layer_mean(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over the layers of one role of each network: one row a size, seed and step."""
    keys = ["width", "depth", "step", "seed"]
    return rows.groupby(keys, as_index=False)["value"].mean()


def stated_exponents(rows: pd.DataFrame, name: str, optimizer: str) -> tuple[WidthExponents, ...]:
    """What Table 1 implies for the networks in ``rows``, whose layers count from 1 (input) to the readout's number."""
    return width_exponents(Parameterization(name), OptimizerName(optimizer), int(rows["layer"].max()))


def width_table(records: pd.DataFrame, name: str, optimizer: str, stated_of: str | None = None) -> list[Exponent]:
    """Exponents in N of every layer and quantity of one parameterization and optimizer, in the order of the layers.

    ``stated_of`` puts another parameterization's stated exponents beside them.
    """
    rows = rows_of(records, "width", name, optimizer)
    if rows.empty:
        return []
    found = []
    for layer, stated in enumerate(stated_exponents(rows, stated_of or name, optimizer), start=1):
        values = {
            "activation_rms": stated.activation,
            "effective_update_rms": stated.effective_update,
            "propagating_update_rms": stated.propagating_update,
        }
        label = f"hidden {layer - 1}" if stated.role == LayerRole.HIDDEN else str(stated.role)
        for quantity in WIDTH_QUANTITIES:
            step = 0 if quantity == "activation_rms" else 1
            own = rows[(rows["layer"] == layer) & (rows["quantity"] == quantity) & (rows["step"] == step)]
            found.append(measured_exponent(own, "width", label, quantity, values[quantity]))
    return found


def depth_table(
    records: pd.DataFrame,
    name: str,
    optimizer: str,
    quantities: Mapping[str, tuple[str, str, float]] = DEPTH_QUANTITIES,
    case: str = "depth",
) -> list[Exponent]:
    """Exponents in L after the first step, beside those of Depth-muP; hidden layers by their mean."""
    rows = rows_of(records, case, name, optimizer)
    rows = rows[rows["step"] == 1]
    found = []
    for label, (series, quantity, stated) in quantities.items():
        own = layer_mean(rows[(rows["series"] == series) & (rows["quantity"] == quantity)])
        if len(own):
            found.append(measured_exponent(own, "depth", label, quantity, stated))
    return found


def pairs(records: pd.DataFrame, case: str) -> list[tuple[str, str]]:
    """Parameterizations and optimizers of a case, in the order of their enumerations."""
    rows = records[records["case"] == case]
    present = set(zip(rows["parameterization"], rows["optimizer"], strict=True))
    return [(str(p), str(o)) for p in Parameterization for o in OptimizerName if (str(p), str(o)) in present]


def in_order(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """Distinct names, known ones first in their order."""
    rank = {str(name): place for place, name in enumerate(order)}
    return sorted(set(names), key=lambda name: (rank.get(name, len(rank)), name))


def rows_of(records: pd.DataFrame, case: str, name: str, optimizer: str) -> pd.DataFrame:
    """The records of one case, parameterization and optimizer."""
    keep = (records["case"] == case) & (records["parameterization"] == name) & (records["optimizer"] == optimizer)
    return records[keep]


def measured_exponent(rows: pd.DataFrame, size: str, name: str, quantity: str, stated: float | None) -> Exponent:
    """The exponent of these records in a size, beside the stated one."""
    measured, left_out = fit_exponent(rows, size)
    return Exponent(name, quantity, stated, measured, float(rows["value"].max()), left_out)
