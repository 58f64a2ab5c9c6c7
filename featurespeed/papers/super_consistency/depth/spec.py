"""Settings of Figures 4, 22 and 25 of arXiv:2402.17457: residual ConvNets over their depth."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.papers.super_consistency.spec import (
    RATES,
    check_alike,
    check_along_training,
    check_networks,
    check_over_depth,
    check_residual,
)
from featurespeed.parameterization import Parameterization
from featurespeed.sweeps.spec import SweepSpec, TransferSpec

SIZES = ("widths", "depths")  # those with two layers a block may be narrower, for time
#: Labels of the networks, by which figures and claims know them.
ONE, TWO = "1 layer a block", "2 layers a block"


class DepthTransferSpec(TransferSpec):
    """Transfer of the learning rate over the depth, with the sharpness along training (Figure 4)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> DepthTransferSpec:
        _check(self, "sharpness")
        return self


class DepthCurveSpec(SweepSpec):
    """The same runs, of which distances to the deepest network are drawn (Figure 22)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> DepthCurveSpec:
        _check(self, "sharpness")
        return self


class DepthSpectrumSpec(SweepSpec):
    """The same runs, with eigenvalues of the Hessian and of the NTK (Figure 25)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> DepthSpectrumSpec:
        _check(self, "sharpness", "ntk_eigenvalue")
        return self


def _check(spec: SweepSpec, *needed: str) -> None:
    check_networks(spec, (ONE, TWO))
    check_over_depth(spec, *needed)
    check_along_training(spec)
    for label, layers in ((ONE, 1), (TWO, 2)):
        check_residual(spec, label, layers, Parameterization.DEPTH_MUP)
    check_alike(spec, ONE, TWO, *RATES, *SIZES, "model.layers_per_block")
