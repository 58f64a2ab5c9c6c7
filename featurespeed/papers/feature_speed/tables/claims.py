"""Statistics of the claims about Tables 1 and 2 of arXiv:2311.18718: exponents of the scalings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate
from featurespeed.ledger.evidence import Tables, largest_estimate, mean_estimate, per_table, register, select
from featurespeed.records import SIZE_COLUMNS
from featurespeed.scalings import FSF_EXPONENTS, SIZE_VARIABLES, Scaling
from featurespeed.statistics import unit_exponents

TABLE_OF = {s: "fsf_table2" if s == Scaling.RESNET_FSC else "fsf_table1" for s in Scaling}
MLP_SCALINGS = [s for s in Scaling if s != Scaling.RESNET_FSC]
LEARNING_RATES = ("learning_rate_input", "learning_rate_hidden", "learning_rate_readout")
PROPERTIES = {
    "SP": "forward_rms",
    "FL": "feature_speed_rms",
    "LD": "loss_decay",
    "BC": "contribution_ratio",
}


@per_table
def _fits(table: pd.DataFrame, scaling: Scaling, quantity: str) -> np.ndarray:
    """Exponents of a quantity in m, L, d, k, one fit a seed, ``[seeds, 4]``."""
    rows = select(table, scaling=str(scaling), quantity=quantity)
    return unit_exponents(rows, list(SIZE_COLUMNS.values()), "value")


def exponents(tables: Tables, scaling: Scaling, quantity: str) -> np.ndarray:
    """Exponents of a quantity under a scaling in m, L, d, k, one fit a seed, ``[seeds, 4]``."""
    return _fits(tables[TABLE_OF[scaling]], scaling, quantity)


def largest_exponent_gap(measured: dict[str, np.ndarray], stated: dict[str, Sequence[float]]) -> Estimate:
    """Largest ``|measured - stated|`` over quantities and sizes, ``{name: [seeds, 4]}``; the note says where."""
    gaps = np.concatenate([measured[name] - np.asarray(stated[name]) for name in measured], axis=1)
    names = [f"{name} in {size}" for name in measured for size in SIZE_VARIABLES]
    worst = int(np.abs(gaps.mean(0)).argmax())
    found = np.concatenate(list(measured.values()), axis=1).mean(0)[worst]
    return largest_estimate(gaps, note=f"largest at {names[worst]}: exponent {found:.3f}")


# --- what the scalings ask for ----------------------------------------------------------------------------------------


def _against_stated(measured: Scaling, stated: Scaling, quantities: Sequence[str]) -> Callable[[Tables], Estimate]:
    """Exponents measured under one scaling against those that the table states for one (the same, or a control)."""

    def compute(tables: Tables) -> Estimate:
        found = {quantity: exponents(tables, measured, quantity) for quantity in quantities}
        expected = {
            quantity: [FSF_EXPONENTS[stated][quantity][size] for size in SIZE_VARIABLES] for quantity in quantities
        }
        return largest_exponent_gap(found, expected)

    return compute


#: Scaling whose rates are stated -> the one whose measured rates must not fit them: the nearest by its exponents.
ANOTHER = {
    Scaling.NTK: Scaling.MF_MUP,
    Scaling.MF_MUP: Scaling.FSC,
    Scaling.FSC: Scaling.MF_MUP,
    Scaling.RESNET_FSC: Scaling.NTK,
}
for _stated, _other in ANOTHER.items():
    for _measured in (_stated, _other):
        register(
            f"learning rates measured under {_measured} against those stated for {_stated}",
            _against_stated(_measured, _stated, LEARNING_RATES),
        )


#: The readout std is an outcome where Prop. 4.1 sets it by the measured angle; elsewhere it is put in.
for _stated in (Scaling.FSC, Scaling.RESNET_FSC):
    for _measured in (Scaling.FSC, Scaling.RESNET_FSC):
        register(
            f"readout std measured under {_measured} against that stated for {_stated}",
            _against_stated(_measured, _stated, ["init_std_readout"]),
        )


# --- what the stated scalings do --------------------------------------------------------------------------------------


def _properties(scalings: Sequence[Scaling], names: Sequence[str]) -> Callable[[Tables], Estimate]:
    """Largest exponent of the quantities that the properties demand to be independent of the sizes."""

    def compute(tables: Tables) -> Estimate:
        found = {f"{s}, {name}": exponents(tables, s, PROPERTIES[name]) for s in scalings for name in names}
        return largest_exponent_gap(found, dict.fromkeys(found, np.zeros(len(SIZE_VARIABLES))))

    return compute


register("SP of all scalings of the MLP", _properties(MLP_SCALINGS, ["SP"]))


register("BC of all scalings of the MLP", _properties(MLP_SCALINGS, ["BC"]))


for _scaling, _name in (
    (Scaling.NTK, "LD"), (Scaling.MF_MUP, "LD"), (Scaling.FSC, "LD"),
    (Scaling.NTK, "FL"), (Scaling.MF_MUP, "FL"), (Scaling.FSC, "FL"),
):  # fmt: skip
    register(f"{_name} of {_scaling}", _properties([_scaling], [_name]))


for _scaling in (Scaling.RESNET_FSC, Scaling.MF_MUP):
    register(f"SP, FL, LD and BC of {_scaling}", _properties([_scaling], list(PROPERTIES)))


def _one_rate_for_all(tables: Tables) -> Estimate:
    """Exponents of the contribution of a hidden layer over that of the embedding if both had one learning rate.

    Balanced rates are inverse to the squared gradients, which one rate for all would leave as they are.
    """
    found = {
        str(scaling): exponents(tables, scaling, "learning_rate_input")
        - exponents(tables, scaling, "learning_rate_hidden")
        for scaling in MLP_SCALINGS
    }
    return largest_exponent_gap(found, dict.fromkeys(found, np.zeros(len(SIZE_VARIABLES))))


register("contributions under one learning rate for all layers", _one_rate_for_all)


def _speed_in_width(scaling: Scaling) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        return mean_estimate(exponents(tables, scaling, "feature_speed_rms")[:, SIZE_VARIABLES.index("m")])

    return compute


for _scaling in (Scaling.NTK, Scaling.FSC):
    register(f"exponent of the feature speed in m, {_scaling}", _speed_in_width(_scaling))
