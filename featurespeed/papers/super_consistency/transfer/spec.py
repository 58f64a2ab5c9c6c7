"""Settings of Figures 1, 24 and 26 of arXiv:2402.17457: transfer of the learning rate over the width."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import check_over_width
from featurespeed.sweeps.spec import EarlySpec, TransferSpec


class WidthTransferSpec(TransferSpec):
    """Networks over the width, with the sharpness along training."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> WidthTransferSpec:
        check_over_width(self, "sharpness")
        return self


class EarlyWidthSpec(EarlySpec):
    """The same, of which the first steps are looked at."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> EarlyWidthSpec:
        check_over_width(self, "sharpness")
        return self
