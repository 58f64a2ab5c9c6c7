"""Settings of Figure 2 of arXiv:2311.18718: output sensitivities."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from featurespeed.papers.feature_speed.spec import NetworkSpec, check_laws
from featurespeed.scalings import Scaling
from featurespeed.values import (
    BranchScaleLaw,
    Number,
    distinct,
)


class SensitivitySpec(NetworkSpec):
    """Output sensitivities at initialisation: one panel of Figure 2 of arXiv:2311.18718."""

    scalings: Annotated[list[Scaling], Field(min_length=1)]
    branch_scales: Annotated[dict[str, BranchScaleLaw], Field(min_length=1)]
    target: Number

    _distinct_scalings = field_validator("scalings")(distinct)

    @model_validator(mode="after")
    def _one_family_of_series(self) -> SensitivitySpec:
        if len(self.scalings) > 1 and len(self.branch_scales) > 1:
            raise ValueError("series are either scalings or branch_scales: only one of the two may list several")
        check_laws(self.branch_scales, self.depths + self.sampler_depths)
        return self
