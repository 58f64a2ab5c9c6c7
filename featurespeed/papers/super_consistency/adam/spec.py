"""Settings of Figures 20 and 21 of arXiv:2402.17457: ConvNets with Adam, over their depth and over their width."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import (
    PRECONDITIONED,
    RATES,
    check_alike,
    check_along_training,
    check_networks,
    check_over_depth,
    check_over_width,
    check_residual,
    check_setting,
)
from featurespeed.parameterization import OptimizerName, Parameterization
from featurespeed.sweeps.spec import TransferSpec

#: Labels of the networks, by which figures and claims know them.
ONE, TWO = "1 layer a block", "2 layers a block"
NO_ROOT = ", no 1/sqrt(L) in the rate"
ONE_NO_ROOT, TWO_NO_ROOT = ONE + NO_ROOT, TWO + NO_ROOT
ADAM, ADAMW, COMMON = "Adam", "AdamW", "Adam, one rate for all layers"


class AdamDepthSpec(TransferSpec):
    """Residual networks over the depth, with and without ``1/sqrt(L)`` in the rate of the blocks (Figure 20)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> AdamDepthSpec:
        check_networks(self, (ONE, TWO, ONE_NO_ROOT, TWO_NO_ROOT))
        check_over_depth(self, PRECONDITIONED)
        check_along_training(self)
        for layers, (root, no_root) in enumerate(((ONE, ONE_NO_ROOT), (TWO, TWO_NO_ROOT)), start=1):
            for label, rates in ((root, (None, True)), (no_root, (False,))):
                check_residual(self, label, layers, Parameterization.DEPTH_MUP)
                check_setting(self, label, "optimizer.name", OptimizerName.ADAM)
                check_setting(self, label, "optimizer.depth_rates", *rates)
            check_alike(self, root, no_root, *RATES, "optimizer.depth_rates", "depths")
        return self


class AdamWidthSpec(TransferSpec):
    """Networks over the width, with the rates of the table and with one rate for all layers (Figure 21)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> AdamWidthSpec:
        check_networks(self, (ADAM, ADAMW, COMMON))
        check_over_width(self, PRECONDITIONED)
        check_along_training(self)
        for label, name, rates in ((ADAM, "adam", "table"), (ADAMW, "adamw", "table"), (COMMON, "adam", "common")):
            check_setting(self, label, "parameterization", Parameterization.MUP)
            check_setting(self, label, "optimizer.name", OptimizerName(name))
            check_setting(self, label, "optimizer.layer_rates", rates)
            check_alike(self, ADAM, label, *RATES, "optimizer.name", "optimizer.layer_rates", "optimizer.weight_decay")
        if self.networks[ADAMW].optimizer.weight_decay == 0:
            raise ValueError(f"networks.{ADAMW}.optimizer.weight_decay = 0: without it, AdamW is Adam")
        return self
