"""Settings of Figures 4c, 15 and 16 of arXiv:2402.17457, and of CompleteP beside them: transformers with Adam."""

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
    check_setting,
)
from featurespeed.parameterization import OptimizerName, Parameterization
from featurespeed.sweeps.spec import TransferSpec

#: Labels of the networks, by which figures and claims know them.
NO_ROOT = ", no 1/sqrt(L) in the rate"
VIT, GPT = "ViT", "GPT"
VIT_NO_ROOT, GPT_NO_ROOT = VIT + NO_ROOT, GPT + NO_ROOT
POST_LN, POST_LN_SP = "muP", "SP"
DEPTH_MUP, COMPLETE_P, U_MUP = "Depth-muP", "CompleteP", "u-muP"
GAMMA = "gamma_sharpness"  # N times the largest eigenvalue of the Hessian, without Adam's preconditioner

ADAPTIVE = (OptimizerName.ADAM, OptimizerName.ADAMW)


class VitDepthSpec(TransferSpec):
    """A ViT over the depth, with and without ``1/sqrt(L)`` in its one rate for all layers (Figure 4c)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> VitDepthSpec:
        check_networks(self, (VIT, VIT_NO_ROOT))
        check_over_depth(self, PRECONDITIONED, GAMMA)
        check_along_training(self)
        _check_depth_rates(self, VIT, VIT_NO_ROOT, "vit")
        check_setting(self, VIT, "optimizer.layer_rates", "common")
        return self


class GptDepthSpec(TransferSpec):
    """A decoder over the depth, with and without ``1/sqrt(L)`` in the rate of its branches (Figure 15)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> GptDepthSpec:
        check_networks(self, (GPT_NO_ROOT, GPT))
        check_over_depth(self, PRECONDITIONED, GAMMA)
        check_along_training(self)
        _check_depth_rates(self, GPT, GPT_NO_ROOT, "gpt")
        check_setting(self, GPT, "optimizer.layer_rates", "table")
        return self


class PostLnWidthSpec(TransferSpec):
    """A transformer with normalisation after its branches over the width, under muP and under SP (Figure 16)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> PostLnWidthSpec:
        check_networks(self, (POST_LN, POST_LN_SP))
        check_over_width(self, PRECONDITIONED)
        check_along_training(self)
        for label, parameterization in ((POST_LN, Parameterization.MUP), (POST_LN_SP, Parameterization.SP)):
            _check_kind(self, label, "post_ln", parameterization)
            check_setting(self, label, "optimizer.layer_rates", "table")
        check_alike(self, POST_LN, POST_LN_SP, *RATES, "parameterization")
        return self


class CompletePSpec(TransferSpec):
    """The decoder of Figure 15 over the depth under three parameterizations (ours, for arXiv:2505.01618)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> CompletePSpec:
        known = {
            DEPTH_MUP: Parameterization.DEPTH_MUP,
            COMPLETE_P: Parameterization.COMPLETE_P,
            U_MUP: Parameterization.U_MUP,
        }
        check_networks(self, tuple(known))
        check_over_depth(self, PRECONDITIONED)
        check_along_training(self)
        for label, parameterization in known.items():
            _check_kind(self, label, "gpt", parameterization)
            check_setting(self, label, "optimizer.depth_rates", None)
            check_alike(self, DEPTH_MUP, label, *RATES, "parameterization")
        return self


def _check_kind(spec: TransferSpec, label: str, kind: str, parameterization: Parameterization) -> None:
    check_setting(spec, label, "model.kind", kind)
    check_setting(spec, label, "parameterization", parameterization)
    check_setting(spec, label, "optimizer.name", *ADAPTIVE)


def _check_depth_rates(spec: TransferSpec, root: str, no_root: str, kind: str) -> None:
    """One network with ``1/sqrt(L)`` in the rate, and the same one without."""
    common = spec.networks[root].optimizer.layer_rates == "common"
    for label, rates in ((root, (True,) if common else (None, True)), (no_root, (False,))):
        _check_kind(spec, label, kind, Parameterization.DEPTH_MUP)
        check_setting(spec, label, "optimizer.depth_rates", *rates)
    check_alike(spec, root, no_root, *RATES, "optimizer.depth_rates")
