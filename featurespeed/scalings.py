"""The scalings of the first paper as tables of numbers (arXiv:2311.18718, Tables 1 and 2).

A scaling states how the initialisation standard deviations and the layer-wise learning rates of a network depend on
the hidden width ``m``, the depth ``L`` (embedding and readout included), the input dimension ``d`` and the output
dimension ``k``, in the dense setting ``|x| = sqrt(d)``, ``|dLoss/df_L| = 1/sqrt(k)``; every entry holds up to
constants. The table images of the paper were not available: both tables are rebuilt from the proofs of its
Propositions 5.3 and 5.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from featurespeed.parameterization import LayerRole, PowerLaw

#: The four size variables a scaling depends on.
SIZE_VARIABLES = ("m", "L", "d", "k")


class Scaling(StrEnum):
    """Labels of the first paper: the rows of its Table 1, and the ResNet of its Table 2."""

    NTK = "NTK"
    MF_MUP = "MF+muP"
    FSC = "FSC"
    RESNET_FSC = "ResNet FSC"


@dataclass(frozen=True)
class LayerScaling:
    """Initialisation and learning rate of one layer role under one scaling."""

    init_std: PowerLaw
    learning_rate: PowerLaw


_SQRT2 = math.sqrt(2.0)
_INPUT_STD = PowerLaw(d=-0.5)
_RELU_STD = PowerLaw(constant=_SQRT2, m=-0.5)

#: Tables 1 and 2 of arXiv:2311.18718.
LAYER_SCALINGS: Mapping[Scaling, Mapping[LayerRole, LayerScaling]] = MappingProxyType(
    {
        Scaling.NTK: {
            LayerRole.INPUT: LayerScaling(_INPUT_STD, PowerLaw(L=-1, d=-1)),
            LayerRole.HIDDEN: LayerScaling(_RELU_STD, PowerLaw(L=-1, m=-1)),
            LayerRole.READOUT: LayerScaling(PowerLaw(k=0.5, m=-0.5), PowerLaw(k=1, L=-1, m=-1)),
        },
        Scaling.MF_MUP: {
            LayerRole.INPUT: LayerScaling(_INPUT_STD, PowerLaw(m=1, L=-1.5, d=-1)),
            LayerRole.HIDDEN: LayerScaling(_RELU_STD, PowerLaw(L=-1.5)),
            LayerRole.READOUT: LayerScaling(PowerLaw(k=0.5, m=-1), PowerLaw(k=1, m=-1, L=-1.5)),
        },
        Scaling.FSC: {
            LayerRole.INPUT: LayerScaling(_INPUT_STD, PowerLaw(m=1, L=-2, d=-1)),
            LayerRole.HIDDEN: LayerScaling(_RELU_STD, PowerLaw(L=-2)),
            LayerRole.READOUT: LayerScaling(PowerLaw(k=0.5, L=0.5, m=-1), PowerLaw(k=1, L=-1, m=-1)),
        },
        Scaling.RESNET_FSC: {
            LayerRole.INPUT: LayerScaling(_INPUT_STD, PowerLaw(m=1, L=-1, d=-1)),
            # Table 2 prints 1/sqrt(m); a ReLU branch keeps the norm with sqrt(2/m), the same up to constants.
            LayerRole.HIDDEN: LayerScaling(_RELU_STD, PowerLaw(L=-1, beta=-2)),
            LayerRole.READOUT: LayerScaling(PowerLaw(k=0.5, m=-1), PowerLaw(k=1, L=-1, m=-1)),
        },
    }
)

#: Whether the paper states that a scaling has the properties SP, FL, LD, BC (Prop. 5.3 and 5.4).
STATED_PROPERTIES: Mapping[Scaling, Mapping[str, bool]] = MappingProxyType(
    {
        Scaling.NTK: {"SP": True, "FL": False, "LD": True, "BC": True},
        Scaling.MF_MUP: {"SP": True, "FL": True, "LD": False, "BC": True},
        Scaling.FSC: {"SP": True, "FL": True, "LD": True, "BC": True},
        Scaling.RESNET_FSC: {"SP": True, "FL": True, "LD": True, "BC": True},
    }
)


def layer_scaling(scaling: Scaling, role: LayerRole) -> LayerScaling:
    """Row ``role`` of ``scaling`` in Tables 1 and 2 of arXiv:2311.18718."""
    return LAYER_SCALINGS[Scaling(scaling)][LayerRole(role)]


def readout_std(scaling: Scaling, width: int, depth: int, output_dim: int = 1) -> float:
    """Standard deviation of the readout; ``1/sqrt(m)``, ``1/m``, ``sqrt(L)/m`` for NTK, MF+muP, FSC at k = 1."""
    return layer_scaling(scaling, LayerRole.READOUT).init_std(width, depth, 1, output_dim)


def _stated_exponents(scaling: Scaling) -> dict[str, dict[str, float]]:
    # Only the ResNet's rules depend on beta; its Table 2 is measured on the ray beta = c/sqrt(L).
    exponents = {}
    for role, rule in LAYER_SCALINGS[scaling].items():
        exponents[f"init_std_{role}"] = rule.init_std.exponents(-0.5)
        exponents[f"learning_rate_{role}"] = rule.learning_rate.exponents(-0.5)
    return exponents


#: ``FSF_EXPONENTS[scaling][quantity] -> {"m": .., "L": .., "d": .., "k": ..}``: what the paper states.
FSF_EXPONENTS: Mapping[str, Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {str(scaling): _stated_exponents(scaling) for scaling in Scaling}
)
