"""Settings of Figures 20 and 21 of arXiv:2402.17457: ConvNets with Adam, over their depth and over their width."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import check_networks, check_over_depth, check_over_width
from featurespeed.sweeps.spec import TransferSpec

#: Labels of the networks, by which figures and claims know them.
ONE, TWO = "1 layer a block", "2 layers a block"
NO_ROOT = ", no 1/sqrt(L) in the rate"
ONE_NO_ROOT, TWO_NO_ROOT = ONE + NO_ROOT, TWO + NO_ROOT
ADAM, ADAMW, COMMON = "Adam", "AdamW", "Adam, one rate for all layers"
#: ``lambda_max(D P^-1 H)``, in which the learning rate is.
PRECONDITIONED = "preconditioned_sharpness"


class AdamDepthSpec(TransferSpec):
    """Residual networks over the depth, with and without ``1/sqrt(L)`` in the rate of the blocks (Figure 20)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> AdamDepthSpec:
        check_networks(self, ONE, TWO, ONE_NO_ROOT, TWO_NO_ROOT)
        check_over_depth(self, PRECONDITIONED)
        return self


class AdamWidthSpec(TransferSpec):
    """Networks over the width, with the rates of the table and with one rate for all layers (Figure 21)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> AdamWidthSpec:
        check_networks(self, ADAM, ADAMW, COMMON)
        check_over_width(self, PRECONDITIONED)
        return self
