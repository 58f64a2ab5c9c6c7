"""All artefacts: figures, tables, and stage tables that only feed the claims; each with its stage and its spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featurespeed.specs.along_training import AlongTrainingSpec
from featurespeed.specs.descent import DescentSweepSpec
from featurespeed.specs.feature_speed import InitSpec, ScalingSpec, SensitivitySpec, TheoremsSpec, TheorySpec
from featurespeed.specs.sharpness_methods import SharpnessMethodsSpec
from featurespeed.specs.super_consistency import CoordinateSpec, ParameterizationSpec
from featurespeed.specs.sweeps import EarlySpec, SweepSpec, TransferSpec
from featurespeed.specs.taylor import TaylorSpec
from featurespeed.specs.two_layer import ToySpec, TwoLayerRunsSpec, TwoLayerTheorySpec
from featurespeed.specs.values import Spec


@dataclass(frozen=True)
class Artefact:
    """One figure or table (or, with ``drawn = False``, a stage table that only feeds the claims).

    ``gpu`` says whether its stage uses a GPU where there is one, ``core`` whether the target ``sc_core`` makes it.
    """

    id: str
    script: str
    spec: type[Spec]
    title: str
    group: str = "fsf"
    paper: str = "arXiv:2311.18718"
    drawn: bool = True
    gpu: bool = True
    core: bool = False


def _artefact(id: str, stage: str, spec: type[Spec], title: str, **extra: Any) -> tuple[str, Artefact]:
    return id, Artefact(id, f"{stage}.py", spec, title, **extra)


def _sweep(id: str, spec: type[Spec], title: str) -> tuple[str, Artefact]:
    """An artefact of the second paper that gathers what was trained and measured elsewhere."""
    return _artefact(id, "gather", spec, title, **CORE)


def _descent(id: str, title: str) -> tuple[str, Artefact]:
    """An artefact of the third paper that gathers runs of scaled descent."""
    return _artefact(id, "gather_descent", DescentSweepSpec, title, gpu=False, **BEOS)


SC = {"group": "sc", "paper": "arXiv:2402.17457"}
CORE = SC | {"gpu": False, "core": True}
BEOS = {"group": "beos", "paper": "arXiv:2502.13110"}

ARTEFACTS: Mapping[str, Artefact] = dict(
    [
        _artefact("fsf_fig1a", "init_bfa", InitSpec, "Backward-feature angle through the layers"),
        _artefact("fsf_fig1b", "init_bfa", InitSpec, "Output backward-feature angle against depth"),
        _artefact("fsf_fig1c", "init_bfa", InitSpec, "Output backward-feature angle against c = sqrt(L) beta"),
        _artefact("fsf_fig2a", "sensitivity", SensitivitySpec, "Output sensitivity of the MLP against depth"),
        _artefact("fsf_fig2b", "sensitivity", SensitivitySpec, "Output sensitivity of the ResNet against depth"),
        _artefact("fsf_table1", "scaling_tables", ScalingSpec, "Scalings of the ReLU MLP: measured exponents"),
        _artefact("fsf_table2", "scaling_tables", ScalingSpec, "FSC scaling of the ResNet: measured exponents"),
        _artefact("fsf_theory", "theory", TheorySpec, "Infinite-width theory and finite-width corrections (ours)"),
        _artefact("fsf_theorems", "theorems", TheoremsSpec, "Theorems tested directly", drawn=False, gpu=False),
        _artefact(
            "fsf_training", "along_training", AlongTrainingSpec, "The formula along training", drawn=False, gpu=False
        ),
        _artefact("sc_fig28", "coordinate_check", CoordinateSpec, "Coordinate check over the width", **SC),
        _artefact(
            "sc_table1", "parameterizations", ParameterizationSpec, "Parameterizations: measured exponents", **SC
        ),
        _artefact(
            "sc_sharpness_methods",
            "sharpness_methods",
            SharpnessMethodsSpec,
            "Measuring the sharpness: error against cost",
            gpu=False,
            **SC,
        ),
        _artefact("sc_sharpness", "gather", SweepSpec, "Curvature along training", drawn=False, gpu=False, **SC),
        _sweep("sc_fig01", TransferSpec, "Sharpness, loss and learning rate transfer over the width"),
        _sweep("sc_fig02", SweepSpec, "Eigenvalues of the Hessian and of the NTK over the width"),
        _sweep("sc_fig03", SweepSpec, "Distance from infinite width along training"),
        _artefact(
            "sc_fig05",
            "two_layer",
            TwoLayerRunsSpec,
            "Gauss-Newton and residual parts of a two-layer linear network",
            **CORE,
        ),
        _sweep("sc_fig09", SweepSpec, "Full-batch gradient descent at the edge of stability"),
        _artefact("sc_fig10", "two_layer_toy", ToySpec, "The two-layer linear toy", **CORE),
        _sweep("sc_fig11", SweepSpec, "Residuals against the Gauss-Newton eigenvalue"),
        _sweep("sc_fig23", SweepSpec, "NTK, sharpness, loss and Hessian trace over the width"),
        _sweep("sc_fig24", EarlySpec, "Early dynamics over the width"),
        _sweep("sc_fig26", TransferSpec, "Random features, muP and NTP: transfer and sharpness"),
        _sweep("sc_fig27", SweepSpec, "Sharpness along the gradient over the width"),
        _artefact("sc_theory", "two_layer_theory", TwoLayerTheorySpec, "Two-layer linear theory", **CORE),
        _sweep("sc_bridge", TransferSpec, "Feature speed beside sharpness and transfer (ours)"),
        _descent("beos_fig1", "Stability over learning rate, gradient scaling and width pattern"),
        _descent("beos_fig2", "Loss, sharpness and soft rank along training"),
        _descent("beos_fig3", "Soft rank and final sharpness over the learning rate"),
        _descent("beos_fig4", "Cosine of new and cumulative updates"),
        _descent("beos_fig5", "Geometry-aware learning rates"),
        _artefact("beos_fig6", "taylor_coefficients", TaylorSpec, "Taylor coefficients of the loss", gpu=False, **BEOS),
        _descent("beos_table1", "All runs of scaled descent"),
        _descent("beos_bridge", "ConvNets of the second paper under scaled descent"),
    ]
)
