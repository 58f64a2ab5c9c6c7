"""Settings of Figures 17, 18 and 19 of arXiv:2402.17457: residual ConvNets on larger images."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import (
    MUP,
    NTP,
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

#: Labels of the networks over the depth, by which figures and claims know them.
DEPTH_MUP, NO_ROOT = "Depth-muP", "no 1/sqrt(L)"


class ResidualWidthSpec(TransferSpec):
    """Residual ConvNets over the width, under muP and under NTP (Figure 17)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> ResidualWidthSpec:
        check_networks(self, (MUP, NTP))
        check_over_width(self, "sharpness")
        _check(self, {MUP: Parameterization.MUP, NTP: Parameterization.NTP})
        return self


class OnePassSpec(ResidualWidthSpec):
    """The same on one pass over the data, in which no image comes twice (Figure 19)."""

    @model_validator(mode="after")
    def _no_image_comes_twice(self) -> OnePassSpec:
        for label, network in self.networks.items():
            data, batch = network.data or self.data, network.batch_size
            key, steps = self.steps_of(label)
            most = data.available // batch if batch else 1
            if steps > most:
                raise ValueError(
                    f"{key} = {steps}: at most {most}, one pass over the {data.available} training images of"
                    f" {data.name} in batches of {batch}"
                )
        return self


class ResidualDepthSpec(TransferSpec):
    """Residual ConvNets over the depth, with and without ``1/sqrt(L)`` on their branches (Figure 18)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> ResidualDepthSpec:
        check_networks(self, (DEPTH_MUP, NO_ROOT))
        check_over_depth(self, "sharpness")
        _check(self, {DEPTH_MUP: Parameterization.DEPTH_MUP, NO_ROOT: Parameterization.MUP})
        return self


def _check(spec: TransferSpec, known: dict[str, Parameterization]) -> None:
    """Raise unless both are one residual ConvNet of the authors, measured along training; parameterizations differ."""
    check_along_training(spec)
    for label, parameterization in known.items():
        check_setting(spec, label, "model.kind", "convnet")
        check_residual(spec, label, 1, parameterization)
        check_setting(spec, label, "model.convention", "authors")
    check_alike(spec, *known, *RATES, "parameterization")
