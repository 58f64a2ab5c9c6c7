"""Settings of Tables 1 and 2 of arXiv:2311.18718: measured exponents of the scalings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from featurespeed.papers.feature_speed.spec import check_laws
from featurespeed.scalings import Scaling
from featurespeed.values import (
    BranchScaleLaw,
    Counts,
    Depths,
    Replicates,
    Seed,
    Spec,
    Widths,
    branch_scale,
    distinct,
)


class ScalingSpec(Spec):
    """Measured exponents of Tables 1 and 2 of arXiv:2311.18718.

    The first entry of ``widths``, ``depths``, ``input_dims`` and ``output_dims`` is the reference; the others vary one
    size at a time.
    """

    artefact: str
    scalings: Annotated[list[Scaling], Field(min_length=1)]
    branch_scale: BranchScaleLaw
    widths: Annotated[Widths, Field(min_length=2)]
    depths: Annotated[Depths, Field(min_length=2)]
    input_dims: Annotated[Counts, Field(min_length=2)]
    output_dims: Annotated[Counts, Field(min_length=2)]
    seeds: Replicates
    seed: Seed

    _distinct_values = field_validator("widths", "depths", "input_dims", "output_dims", "scalings")(distinct)

    @model_validator(mode="after")
    def _laws_hold(self) -> ScalingSpec:
        check_laws({"branch_scale": self.branch_scale}, self.depths)
        if not all(branch_scale(self.branch_scale, depth) for depth in self.depths):
            raise ValueError(f"branch_scale = {self.branch_scale!r}: without branches the hidden layers have no rates")
        return self
