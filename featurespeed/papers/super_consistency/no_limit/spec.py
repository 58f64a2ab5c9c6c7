"""Settings of Figures 6, 7 and 8 of arXiv:2402.17457: networks that have no limit of infinite depth, or width."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import check_networks, check_over_depth, check_over_width
from featurespeed.sweeps.spec import TransferSpec
from featurespeed.values import Count

#: Labels of the networks, by which figures and claims know them.
COLD, WARM = "no warm-up", "warm-up"  # Figure 6
SHORT, LONG = "short warm-up", "long warm-up"  # Figure 7, besides no warm-up
PLAIN = "no skips"  # Figure 8


class NoScalingSpec(TransferSpec):
    """muP without 1/sqrt(L) over the depth, without and with warm-up (Figure 6).

    Attributes:
        first_steps: after how many updates the figure looks at the loss a first time.
    """

    first_steps: Count

    @model_validator(mode="after")
    def _can_be_drawn(self) -> NoScalingSpec:
        check_networks(self, COLD, WARM)
        check_over_depth(self, "sharpness")
        if not self.record_every <= self.first_steps <= self.steps:
            raise ValueError(
                f"first_steps = {self.first_steps}: allowed: from record_every = {self.record_every} to steps ="
                f" {self.steps}"
            )
        return self


class StandardSpec(TransferSpec):
    """SP over the width, with three warm-ups (Figure 7)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> StandardSpec:
        check_networks(self, COLD, LONG)
        check_over_width(self, "sharpness")
        return self


class NoSkipsSpec(TransferSpec):
    """muP without skip connections over the depth (Figure 8)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> NoSkipsSpec:
        check_networks(self, PLAIN)
        check_over_depth(self, "sharpness")
        return self
