"""Table 1: measured exponents in width and depth against the stated ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, as_estimate, largest_deviation, register, select
from featurespeed.papers.super_consistency.coordinate_check.analysis import (
    WIDTH_QUANTITIES,
    Exponent,
    depth_table,
    pairs,
    width_table,
)
from featurespeed.parameterization import OptimizerName, Parameterization, covered_optimizers

#: Parameterization -> whose stated exponents are the negative control; both cover the same optimizers.
OTHER = {
    Parameterization.SP: Parameterization.MUP,
    Parameterization.NTP: Parameterization.SP,
    Parameterization.MUP: Parameterization.SP,
    Parameterization.DEPTH_MUP: Parameterization.SP,
    Parameterization.RANDOM_FEATURES: Parameterization.MUP,
}
DEPTH_OPTIMIZERS = tuple(OptimizerName)


def distance(found: Iterable[Exponent], strict: bool) -> Estimate:
    """Largest distance between measured and stated exponents, with an interval that holds for all of them.

    What is stated to be exactly 0 has no exponent and is judged on its own. ``strict``: a quantity that should have one
    and has a value of 0 cannot be decided; otherwise it is left out, which suits a control with wrong exponents.
    """
    compared = [exponent for exponent in found if exponent.stated is not None]
    missing = [exponent for exponent in compared if exponent.measured is None or exponent.left_out]
    if strict and missing:
        raise Undecidable(f"{missing[0].name}, {missing[0].quantity}: some values are exactly 0")
    compared = [exponent for exponent in compared if exponent not in missing]
    if not compared:
        raise Undecidable("this run has no such networks")
    names = {f"{exponent.name}, {exponent.quantity}": exponent for exponent in compared}
    measured = {name: exponent.measured for name, exponent in names.items()}
    estimate = largest_deviation(measured, {name: exponent.stated for name, exponent in names.items()})
    farthest = max(names, key=lambda name: abs(measured[name].value - names[name].stated))
    note = f"farthest of {len(names)}: {farthest}, {measured[farthest].value:.3f}, stated {names[farthest].stated:g}"
    return dataclasses.replace(estimate, note=note)


def _width_distance(name: str, optimizer: str, stated_of: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["sc_table1"], case="width", parameterization=name, optimizer=optimizer)
        if rows["width"].nunique() < 3:
            raise Undecidable(f"{rows['width'].nunique()} widths: at least 3 are needed for an exponent")
        return distance(width_table(rows, name, optimizer, stated_of), strict=name == stated_of)

    return compute


for _name in Parameterization:
    for _optimizer in covered_optimizers(_name):
        register(
            f"distance from the stated exponents in N, {_name}, {_optimizer}",
            _width_distance(str(_name), str(_optimizer), str(_name)),
        )
        register(
            f"distance from the exponents in N of {OTHER[_name]}, {_name}, {_optimizer}",
            _width_distance(str(_name), str(_optimizer), str(OTHER[_name])),
        )


def _zeros(tables: Tables) -> list[Exponent]:
    """Everything that Table 1 implies to be exactly 0."""
    table = select(tables["sc_table1"], case="width")
    found = [exponent for pair in pairs(table, "width") for exponent in width_table(table, *pair)]
    return [exponent for exponent in found if exponent.stated is None and exponent.quantity in WIDTH_QUANTITIES]


@statistic("largest of the updates that are stated to be 0")
def zeros(tables: Tables) -> Estimate:
    found = _zeros(tables)
    return Estimate(max(exponent.largest for exponent in found), n=len(found))


@statistic("smallest update of an input layer that learns")
def input_updates(tables: Tables) -> Estimate:
    rows = select(tables["sc_table1"], case="width", series="input", quantity="effective_update_rms")
    rows = rows[rows["parameterization"] != str(Parameterization.RANDOM_FEATURES)]
    return Estimate(float(rows["value"].min()), n=len(rows))


# --- exponents in the depth -------------------------------------------------------------------------------------------


def _depth(tables: Tables, name: str, optimizer: str) -> list[Exponent]:
    rows = select(tables["sc_table1"], case="depth", parameterization=name, optimizer=optimizer)
    if rows["depth"].nunique() < 3:
        raise Undecidable(f"{rows['depth'].nunique()} depths: at least 3 are needed for an exponent")
    return depth_table(rows, name, optimizer)


def _depth_distance(name: str, optimizer: str) -> Callable[[Tables], Estimate]:
    return lambda tables: distance(_depth(tables, name, optimizer), strict=True)


def _feature_exponent(name: str) -> Callable[[Tables], Estimate]:
    """Exponent in L of the feature update after one step of SGD, whose learning rate carries no factor in L."""

    def compute(tables: Tables) -> Estimate:
        found = next(e for e in _depth(tables, name, str(OptimizerName.SGD)) if e.name == "feature update")
        if found.measured is None:
            raise Undecidable("the features do not move")
        return as_estimate(found.measured)

    return compute


for _optimizer in DEPTH_OPTIMIZERS:
    for _name in (Parameterization.DEPTH_MUP, Parameterization.MUP):
        register(
            f"distance from the exponents in L of Depth-muP, {_name}, {_optimizer}",
            _depth_distance(str(_name), str(_optimizer)),
        )
for _name in (Parameterization.DEPTH_MUP, Parameterization.MUP):
    register(f"exponent of the feature update in L, {_name}, sgd", _feature_exponent(str(_name)))
