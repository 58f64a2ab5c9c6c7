"""Settings of Figure 1 of arXiv:2311.18718: backward-feature angles at initialisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from featurespeed.papers.feature_speed.spec import NetworkSpec, check_laws
from featurespeed.values import (
    BranchGrid,
    BranchScaleLaw,
)


class InitSpec(NetworkSpec):
    """Backward-feature angles at initialisation: one panel of Figure 1 of arXiv:2311.18718.

    Exactly one of ``branch_scales`` (series label -> law) and ``branch_scale_grid`` is given; with the grid, the series
    are the depths.
    """

    layers: Literal["all", "last"]
    branch_scales: Annotated[dict[str, BranchScaleLaw], Field(min_length=1)] | None = None
    branch_scale_grid: BranchGrid | None = None

    @model_validator(mode="after")
    def _one_family_of_branch_scales(self) -> InitSpec:
        if (self.branch_scales is None) == (self.branch_scale_grid is None):
            raise ValueError("give exactly one of branch_scales and branch_scale_grid")
        check_laws(self.branch_scales or {}, self.depths + self.sampler_depths)
        return self


class OverDepthSpec(InitSpec):
    """A panel over the depth (Figure 1b): samples are compared with the dense networks of the same depth."""

    @model_validator(mode="after")
    def _samples_have_a_partner(self) -> OverDepthSpec:
        alone = [depth for depth in self.sampler_depths if depth not in self.depths]
        if alone:
            raise ValueError(
                f"sampler_depths = {alone[0]}: not one of depths, which go from {min(self.depths)} to"
                f" {max(self.depths)}; samples are compared with the dense networks of their depth"
            )
        return self
