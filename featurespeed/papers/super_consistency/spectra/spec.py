"""Settings of Figures 2, 3 and 23 of arXiv:2402.17457: spectra over the width."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import check_over_width
from featurespeed.sweeps.spec import SweepSpec


class SpectrumSpec(SweepSpec):
    """Eigenvalues of the Hessian and of the NTK along training (Figure 2)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> SpectrumSpec:
        check_over_width(self, "sharpness", "ntk_eigenvalue")
        return self


class WidthSpec(SweepSpec):
    """The sharpness, and what else is measured, along training (Figures 3 and 23)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> WidthSpec:
        check_over_width(self, "sharpness")
        return self
