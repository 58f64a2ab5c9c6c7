"""Settings of Figures 9, 11 and 27 of arXiv:2402.17457: at the edge of stability, over the width."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import check_one_size, check_over_width
from featurespeed.sweeps.spec import SweepSpec


class FullBatchSpec(SweepSpec):
    """Gradient descent with the sharpness along training (Figure 9)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> FullBatchSpec:
        check_over_width(self, "sharpness")
        return self


class ResidualSpec(SweepSpec):
    """Residual norm and Gauss-Newton eigenvalue along training (Figure 11)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> ResidualSpec:
        check_over_width(self, "gauss_newton_eigenvalue", "residual_norm")
        return self


class DirectionalSpec(SweepSpec):
    """Curvature along the gradient (Figure 27), over the width or the depth."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> DirectionalSpec:
        check_one_size(self, "directional_sharpness")
        return self
