"""Settings of Figures 6, 7 and 8 of arXiv:2402.17457: networks that have no limit of infinite depth, or width."""

from __future__ import annotations

from itertools import pairwise

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import (
    RATES,
    check_alike,
    check_along_training,
    check_networks,
    check_over_depth,
    check_over_width,
    check_residual,
    check_setting,
)
from featurespeed.parameterization import Parameterization
from featurespeed.sweeps.spec import TransferSpec
from featurespeed.values import Count

#: Labels of the networks, by which figures and claims know them.
COLD, WARM = "no warm-up", "warm-up"  # Figure 6
SHORT, LONG = "short warm-up", "long warm-up"  # Figure 7, besides no warm-up
PLAIN = "no skips"  # Figure 8
WARMUP = "optimizer.warmup_steps"


class NoScalingSpec(TransferSpec):
    """muP without 1/sqrt(L) over the depth, without and with warm-up (Figure 6).

    Attributes:
        first_steps: after how many updates the figure looks at the loss a first time.
    """

    first_steps: Count

    @model_validator(mode="after")
    def _can_be_drawn(self) -> NoScalingSpec:
        check_networks(self, (COLD, WARM))
        check_over_depth(self, "sharpness")
        check_along_training(self)
        for label in (COLD, WARM):
            check_residual(self, label, self.networks[label].model.layers_per_block, Parameterization.MUP)
        check_alike(self, COLD, WARM, *RATES, WARMUP)
        _check_warmups(self, COLD, WARM)
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
        check_networks(self, (COLD, LONG), (SHORT,))
        check_over_width(self, "sharpness")
        check_along_training(self)
        labels = [label for label in (COLD, SHORT, LONG) if label in self.networks]
        for label in labels:
            check_setting(self, label, "parameterization", Parameterization.SP)
            check_alike(self, COLD, label, *RATES, WARMUP)
        _check_warmups(self, *labels)
        return self


class NoSkipsSpec(TransferSpec):
    """muP without skip connections over the depth (Figure 8)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> NoSkipsSpec:
        check_networks(self, (PLAIN,))
        check_over_depth(self, "sharpness")
        check_along_training(self)
        check_setting(self, PLAIN, "parameterization", Parameterization.MUP)
        check_setting(self, PLAIN, "model.tau", 0)
        return self


def _check_warmups(spec: TransferSpec, cold: str, *longer: str) -> None:
    """Raise unless the first network has no warm-up, and each one after it a longer one than that before it."""
    check_setting(spec, cold, WARMUP, 0)
    for before, label in pairwise((cold, *longer)):
        own, least = (spec.networks[one].optimizer.warmup_steps for one in (label, before))
        if own <= least:
            raise ValueError(
                f"networks.{label}.{WARMUP} = {own}: must be longer than that of networks.{before}, {least}"
            )
