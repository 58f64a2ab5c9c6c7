"""Statistics of the claims about Tables 1 and 2 of arXiv:2311.18718: exponents of the scalings."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from featurespeed.ledger.engine import Estimate
from featurespeed.ledger.evidence import Tables, as_estimate, largest_deviation, register, select
from featurespeed.records import SIZE_COLUMNS
from featurespeed.scalings import FSF_EXPONENTS, SIZE_VARIABLES, Scaling
from featurespeed.statistics import Interval, loglog_exponents

# --- Tables 1 and 2 ---------------------------------------------------------------------------------------------------


TABLE_OF = {s: "fsf_table2" if s == Scaling.RESNET_FSC else "fsf_table1" for s in Scaling}


PROPERTIES = {
    "SP": "forward_rms",
    "FL": "feature_speed_rms",
    "LD": "loss_decay",
    "BC": "contribution_ratio",
}


def exponents(rows: pd.DataFrame) -> dict[str, Interval]:
    """Exponents of ``value`` in m, L, d, k."""
    by_column = loglog_exponents(rows, list(SIZE_COLUMNS.values()), "value")
    return {variable: by_column[column] for variable, column in SIZE_COLUMNS.items()}


def _rule_deviation(scaling: Scaling, quantity: str, offset: float) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        stated = dict(FSF_EXPONENTS[scaling][quantity])
        stated["m"] += offset
        return largest_deviation(exponents(rows), stated)

    return compute


def _property_deviation(scaling: Scaling, quantity: str, variables: tuple[str, ...]) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        measured = {variable: interval for variable, interval in exponents(rows).items() if variable in variables}
        return largest_deviation(measured, dict.fromkeys(variables, 0.0))

    return compute


def _one_rate_for_all(scaling: Scaling) -> Callable[[Tables], Estimate]:
    """Contributions of embedding over hidden layer if all layers had the same learning rate (control of BC)."""

    def compute(tables: Tables) -> Estimate:
        table = select(tables[TABLE_OF[scaling]], scaling=str(scaling))
        keys = [*SIZE_COLUMNS.values(), "seed"]
        hidden = select(table, quantity="learning_rate_hidden").set_index(keys)["value"]
        embedding = select(table, quantity="learning_rate_input").set_index(keys)["value"]
        ratio = (hidden / embedding).rename("value").reset_index()
        return largest_deviation(exponents(ratio), dict.fromkeys(SIZE_VARIABLES, 0.0))

    return compute


for _scaling in Scaling:
    for _quantity in FSF_EXPONENTS[_scaling]:
        register(f"{_scaling}, {_quantity}", _rule_deviation(_scaling, _quantity, 0.0))
        register(f"{_scaling}, {_quantity}, wrong exponent of m", _rule_deviation(_scaling, _quantity, 0.5))
    for _property, _quantity in PROPERTIES.items():
        register(f"{_scaling}, {_property}", _property_deviation(_scaling, _quantity, SIZE_VARIABLES))
    register(f"{_scaling}, one learning rate for all layers", _one_rate_for_all(_scaling))


def _property_exponent(scaling: Scaling, quantity: str, variable: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        return as_estimate(exponents(rows)[variable])

    return compute


for _scaling in (Scaling.NTK, Scaling.FSC):
    register(f"exponent of the feature speed in m, {_scaling}", _property_exponent(_scaling, "feature_speed_rms", "m"))


for _scaling in (Scaling.MF_MUP, Scaling.FSC):
    register(f"exponent of the readout std in L, {_scaling}", _property_exponent(_scaling, "init_std_readout", "L"))
