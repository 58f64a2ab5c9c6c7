"""Settings of the infinite-width theory (ours) beside exact samples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from featurespeed.papers.feature_speed.spec import check_laws
from featurespeed.values import (
    Depth,
    LogGrid,
    Replicates,
    Seed,
    Spec,
    Width,
    Widths,
)


class PhiSpec(Spec):
    """Panel 1 of ``fsf_theory``: the limit angle phi(c) of the ResNet with branch scale c/sqrt(L)."""

    width: Width
    depth: Depth
    c: LogGrid
    seeds: Replicates

    @model_validator(mode="after")
    def _branch_scale_in_range(self) -> PhiSpec:
        check_laws({"c.high": f"{self.c.high}/sqrtL"}, [self.depth])
        return self


class FiniteWidthSpec(Spec):
    """Panel 2 of ``fsf_theory``: how the angle of the MLP and the ResNet depends on the width."""

    widths: Annotated[Widths, Field(min_length=2)]
    depth: Depth
    seeds: Replicates


class WideMlpSpec(Spec):
    """Angles through the layers of a very wide MLP, ReLU and linear; no panel, feeds the exponent of the angle.

    Attributes:
        depth: angles are looked at from a third of it on, and the first layer has none.
    """

    width: Width
    depth: Annotated[int, Field(ge=6, strict=True)]
    seeds: Replicates


class TheorySpec(Spec):
    """Our infinite-width theory beside exact samples at large width (artefact ``fsf_theory``)."""

    artefact: str
    phi: PhiSpec
    tail: PhiSpec
    finite_width: FiniteWidthSpec
    wide_mlp: WideMlpSpec
    seed: Seed
