"""Settings of what connects both papers: networks that are known by their labels, over the width or the depth."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import (
    check_along_training,
    check_networks,
    check_one_size,
    check_over_depth,
    check_places,
    check_residual,
)
from featurespeed.parameterization import Parameterization
from featurespeed.sweeps.spec import TransferSpec

#: Networks whose best learning rate may shift, over the width or the depth, all without weight decay.
SHIFTED = ("muP", "NTP", "Depth-muP over depth", "muP over depth")
#: Network -> the same with weight decay.
DECAYED = {"muP": "muP, weight decay", "NTP": "NTP, weight decay"}


class BridgeSpec(TransferSpec):
    """Runs of the networks that have a place in the figure: :data:`SHIFTED` and :data:`DECAYED`."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> BridgeSpec:
        check_one_size(self, "sharpness", "feature_speed")
        if not set(SHIFTED) & set(self.networks):
            raise ValueError(f"networks = {list(self.networks)}: one of {', '.join(SHIFTED)} is needed")
        check_places(self, (*SHIFTED, *DECAYED.values()))
        for label, decayed in DECAYED.items():
            self._check_pair(label, decayed)
        return self

    def _check_pair(self, label: str, decayed: str) -> None:
        """A network and the same with decay are compared at the widths that both have."""
        if label in self.networks and decayed in self.networks:
            own, other = (self.networks[name].widths or self.widths for name in (label, decayed))
            if len(set(own) & set(other)) < 2:
                raise ValueError(
                    f"networks.{decayed}.widths = {other}: at least 2 of those of {label} are needed, which are {own}"
                )


#: Networks of the figure over the depth: with and without 1/sqrt(L) on residual branches of one and two layers.
OVER_DEPTH = (
    "1 layer a block",
    "2 layers a block",
    "1 layer a block, no 1/sqrt(L)",
    "2 layers a block, no 1/sqrt(L)",
)


class DepthBridgeSpec(TransferSpec):
    """Runs of the networks :data:`OVER_DEPTH`, with the feature speed at initialisation."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> DepthBridgeSpec:
        check_networks(self, OVER_DEPTH)
        check_over_depth(self, "sharpness", "feature_speed")
        check_along_training(self)
        for label, layers, parameterization in zip(
            OVER_DEPTH, (1, 2, 1, 2), [Parameterization.DEPTH_MUP] * 2 + [Parameterization.MUP] * 2, strict=True
        ):
            check_residual(self, label, layers, parameterization)
        return self
