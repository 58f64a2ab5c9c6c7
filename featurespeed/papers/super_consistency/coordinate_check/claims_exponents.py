"""Table 1: measured exponents in width and depth of the updates of the first step, against the stated ones.

Sizes at initialisation are put in and are not judged. Controls hold the updates of one parameterization against the
exponents that are stated for another one; over the depth, where muP without 1/sqrt(L) explodes, another update of the
same networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, largest_estimate, register, select
from featurespeed.papers.super_consistency.coordinate_check.analysis import (
    DEPTH_QUANTITIES,
    OTHER_DEPTH_QUANTITIES,
    Exponent,
    depth_table,
    width_table,
)
from featurespeed.parameterization import OptimizerName, Parameterization, covered_optimizers

MUP, DEPTH_MUP, SP = Parameterization.MUP, Parameterization.DEPTH_MUP, Parameterization.SP
#: Quantities that a network shows once it takes a step.
OUTCOMES = ("effective_update_rms", "propagating_update_rms")
#: Parameterization -> whose updates are the negative control; both cover the same optimizers.
OTHER = {SP: MUP, Parameterization.NTP: SP, MUP: SP, DEPTH_MUP: SP, Parameterization.RANDOM_FEATURES: SP}
#: AdamW takes Adam's step as long as there is no weight decay.
OPTIMIZERS = (OptimizerName.SGD, OptimizerName.ADAM)
#: Optimizer -> what is judged over the depth; the feature update of SGD is a claim of its own.
OVER_DEPTH = {
    OptimizerName.SGD: ("hidden, effective", "readout, effective"),
    OptimizerName.ADAM: ("feature update", "hidden, effective", "readout, effective"),
}
FEATURES, HIDDEN = "feature update", "hidden, effective"


def distance(found: Iterable[Exponent]) -> Estimate:
    """Largest distance between measured and stated exponents, with simultaneous intervals over seeds.

    What is stated to be exactly 0 has no exponent and is left out.
    """
    compared = [exponent for exponent in found if exponent.stated is not None]
    for exponent in compared:
        if exponent.measured is None or exponent.left_out:
            raise Undecidable(f"{exponent.name}, {exponent.quantity}: some values are exactly 0")
    if not compared:
        raise Undecidable("this run has no such networks")
    values = np.column_stack([exponent.measured.sample for exponent in compared])
    stated = np.array([exponent.stated for exponent in compared])
    place = int(np.abs(values.mean(axis=0) - stated).argmax())
    far = compared[place]
    note = f"farthest of {len(compared)}: {far.name}, {far.quantity}, {far.measured.value:.3f}, stated {far.stated:g}"
    return largest_estimate(values, stated, note)


def _width_distance(data: str, stated_of: str, optimizer: str) -> Callable[[Tables], Estimate]:
    """The updates of one parameterization against the exponents that are stated for another one, or for itself."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["sc_table1"], case="width", parameterization=data, optimizer=optimizer)
        if rows["width"].nunique() < 3:
            raise Undecidable(f"{rows['width'].nunique()} widths: at least 3 are needed for an exponent")
        found = width_table(rows, data, optimizer, stated_of)
        return distance(exponent for exponent in found if exponent.quantity in OUTCOMES)

    return compute


for _name, _other in OTHER.items():
    for _optimizer in (o for o in OPTIMIZERS if o in covered_optimizers(_name)):
        for _data in (_name, _other):
            register(
                f"distance from the exponents in N of {_name}, {_data} with {_optimizer}",
                _width_distance(str(_data), str(_name), str(_optimizer)),
            )

# --- exponents in the depth -------------------------------------------------------------------------------------------


def _depth(
    tables: Tables, optimizer: OptimizerName, quantities: Mapping[str, tuple[str, str, float]]
) -> list[Exponent]:
    rows = select(tables["sc_table1"], case="depth", parameterization=str(DEPTH_MUP), optimizer=str(optimizer))
    if rows["depth"].nunique() < 3:
        raise Undecidable(f"{rows['depth'].nunique()} depths: at least 3 are needed for an exponent")
    return depth_table(rows, str(DEPTH_MUP), str(optimizer), quantities)


def _depth_distance(optimizer: OptimizerName) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = _depth(tables, optimizer, DEPTH_QUANTITIES)
        return distance(exponent for exponent in found if exponent.name in OVER_DEPTH[optimizer])

    return compute


def _propagating_distance(optimizer: OptimizerName) -> Callable[[Tables], Estimate]:
    """Propagating updates of the layers against the exponents of their effective updates."""
    return lambda tables: distance(_depth(tables, optimizer, OTHER_DEPTH_QUANTITIES))


def _depth_exponent(name: str) -> Callable[[Tables], Estimate]:
    """Exponent in L of one quantity after one step of SGD, whose learning rate carries no factor in L."""

    def compute(tables: Tables) -> Estimate:
        found = next(e for e in _depth(tables, OptimizerName.SGD, DEPTH_QUANTITIES) if e.name == name)
        if found.measured is None or found.left_out:
            raise Undecidable(f"{name}: some seeds do not move")
        return as_estimate(found.measured)

    return compute


for _optimizer in OVER_DEPTH:
    register(f"distance from the exponents in L of DEPTH_MUP with {_optimizer}", _depth_distance(_optimizer))
    register(
        f"distance from the exponents in L of DEPTH_MUP with {_optimizer}, propagating updates",
        _propagating_distance(_optimizer),
    )
for _quantity in (FEATURES, HIDDEN):
    register(f"exponent in L of DEPTH_MUP with sgd, {_quantity}", _depth_exponent(_quantity))
