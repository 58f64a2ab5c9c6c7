"""Specs of the artefacts of arXiv:2311.18718."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from featurespeed.scalings import Scaling
from featurespeed.specs.values import (
    BranchGrid,
    BranchScaleLaw,
    Count,
    Counts,
    Depth,
    Depths,
    LogGrid,
    Number,
    Positive,
    Replicates,
    Seed,
    Spec,
    Width,
    Widths,
    branch_scale,
    distinct,
)


class NetworkSpec(Spec):
    """What the panels of Figures 1 and 2 share."""

    artefact: str
    width: Width
    depths: Depths
    input_dim: Count
    draws: Count
    sampler_seeds: Replicates
    sampler_depths: Depths
    finite_step: Positive
    seed: Seed

    _distinct_depths = field_validator("depths", "sampler_depths")(distinct)


def _check_laws(laws: Mapping[str, str], depths: list[int]) -> None:
    for label, law in laws.items():
        for depth in depths:
            try:
                branch_scale(law, depth)
            except ValueError as error:
                raise ValueError(f"{label} = {law!r}: {error}") from None


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
        _check_laws(self.branch_scales or {}, self.depths + self.sampler_depths)
        return self


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
        _check_laws(self.branch_scales, self.depths + self.sampler_depths)
        return self


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
        _check_laws({"branch_scale": self.branch_scale}, self.depths)
        return self


class PhiSpec(Spec):
    """Panel 1 of ``fsf_theory``: the limit angle phi(c) of the ResNet with branch scale c/sqrt(L)."""

    width: Width
    depth: Depth
    c: LogGrid
    seeds: Replicates

    @model_validator(mode="after")
    def _branch_scale_in_range(self) -> PhiSpec:
        _check_laws({"c.high": f"{self.c.high}/sqrtL"}, [self.depth])
        return self


class FiniteWidthSpec(Spec):
    """Panel 2 of ``fsf_theory``: how the angle of the MLP and the ResNet depends on the width."""

    widths: Annotated[Widths, Field(min_length=2)]
    depth: Depth
    seeds: Replicates


class WideMlpSpec(Spec):
    """Angles through the layers of a very wide MLP, ReLU and linear; no panel, feeds the exponent of the angle."""

    width: Width
    depth: Depth
    seeds: Replicates


class TheorySpec(Spec):
    """Our infinite-width theory beside exact samples at large width (artefact ``fsf_theory``)."""

    artefact: str
    phi: PhiSpec
    tail: PhiSpec
    finite_width: FiniteWidthSpec
    wide_mlp: WideMlpSpec
    seed: Seed


class TheoremsSpec(Spec):
    """Direct tests of the paper's theorems on small float64 networks (stage table ``fsf_theorems``)."""

    artefact: str
    width: Width
    depths: Annotated[Depths, Field(min_length=3)]
    kernel_width: Width
    input_dim: Count
    n_inputs: Replicates
    seeds: Replicates
    training_steps: Annotated[int, Field(ge=2, strict=True)]
    invariance_steps: Annotated[int, Field(ge=2, strict=True)]
    seed: Seed
