"""Table 1 for transformers with Adam: measured exponents in width and depth of the first step, against the stated ones.

Vectors of the width (biases, gains, embeddings) move by Adam's rate, which is put in; matrices and features are judged.
"""

from __future__ import annotations

from collections.abc import Callable

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, register, select
from featurespeed.papers.super_consistency.coordinate_check.analysis_transformers import (
    NETWORKS,
    PARTS,
    depth_exponents_of,
    width_exponents_of,
)
from featurespeed.papers.super_consistency.coordinate_check.claims_exponents import distance
from featurespeed.parameterization import Parameterization

SP, MUP, DEPTH_MUP = Parameterization.SP, Parameterization.MUP, Parameterization.DEPTH_MUP
FEWEST_SIZES = 3
#: What is judged over the width: the features, and the effective updates of the matrices.
JUDGED = {"feature update", *(name for name, (*_, is_matrix) in PARTS.items() if is_matrix)}


def _check_sizes(tables: Tables, size: str, label: str, name: Parameterization) -> None:
    rows = select(tables["sc_table1"], case=f"{size} | {label}", parameterization=str(name))
    if rows[size].nunique() < FEWEST_SIZES:
        raise Undecidable(f"{rows[size].nunique()} {size}s: at least {FEWEST_SIZES} are needed for an exponent")


def _width_distance(label: str, name: Parameterization) -> Callable[[Tables], Estimate]:
    """Updates of one parameterization against the exponents of muP."""

    def compute(tables: Tables) -> Estimate:
        _check_sizes(tables, "width", label, name)
        found = width_exponents_of(tables["sc_table1"], label, str(name), stated_of=str(MUP))
        return distance(one for one in found if one.name in JUDGED)

    return compute


def _depth_distance(label: str, name: Parameterization) -> Callable[[Tables], Estimate]:
    """Updates of one parameterization against the exponents of Depth-muP."""

    def compute(tables: Tables) -> Estimate:
        _check_sizes(tables, "depth", label, name)
        return distance(depth_exponents_of(tables["sc_table1"], label, str(name)))

    return compute


for _label in NETWORKS:
    for _name in (MUP, SP):
        register(
            f"distance from the exponents in N of muP, {_label}, {_name} with adam", _width_distance(_label, _name)
        )
    for _name in (DEPTH_MUP, MUP):
        _key = f"distance from the exponents in L of Depth-muP, {_label}, {_name} with adam"
        register(_key, _depth_distance(_label, _name))
