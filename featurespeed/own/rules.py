"""Factors on weights and learning rates by the rules of a parameterization, relative to a smaller model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from featurespeed.measuring.errors import MeasurementError
from featurespeed.measuring.norms import rms
from featurespeed.own.branches import last_matrix
from featurespeed.own.forward import Structure
from featurespeed.own.roles import Role, roles_of
from featurespeed.own.tracing import part_of
from featurespeed.parameterization import (
    OptimizerName,
    Parameterization,
    branch_multiplier,
    covered_optimizers,
    scaling_rule,
)

PARAMETERIZATIONS = {
    "mup": Parameterization.MUP,
    "depth_mup": Parameterization.DEPTH_MUP,
    "ntp": Parameterization.NTP,
}
KINDS = {"sgd": OptimizerName.SGD, "adam": OptimizerName.ADAM}
ATTENTION = "muP divides products of queries and keys by d_head; where heads grow with the width, that is yours to do"


def rows_by_rule(
    model: nn.Module, base: nn.Module, scheme: str, structure: Structure, smaller: Structure
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Parameter -> its row of the table, and what the parameterization asks for besides.

    Raises:
        MeasurementError: residual branches in one of the models only.
    """
    parameterization = PARAMETERIZATIONS[scheme]
    if bool(structure.depth) != bool(smaller.depth):
        raise MeasurementError(
            f"base: {smaller.depth} residual blocks, allowed: some, as the model has {structure.depth}, or none in both"
        )
    if parameterization == Parameterization.DEPTH_MUP and not structure.depth:
        raise MeasurementError(
            "scheme = 'depth_mup': no part of the model adds to its input, allowed: mup, or residual blocks that are"
            " modules of their own"
        )
    depths = structure.depth or 1, smaller.depth or 1
    written = {name if _is_plain(model, name) else f"{name}.out_proj" for name in structure.writers}
    rows = {}
    for name, role in roles_of(model, base, structure, smaller).items():
        module = name.rpartition(".")[0]
        ends = _ends(parameterization, role, depths, name in structure.inside, module in written)
        actual, wanted = rms(model.get_parameter(name).detach()), rms(role.base.detach()) * ends["std"]
        rescaled = not role.vector and actual > 0 and wanted > 0 and model.get_parameter(name).requires_grad
        rows[name] = {
            "role": "vector" if role.vector else str(role.role),
            "width": role.width,
            "base_width": role.base_width,
            "factor": wanted / actual if rescaled else 1.0,
            "lr_sgd": ends["sgd"],
            "lr_adam": ends["adam"],
        }
    attends = parameterization != Parameterization.NTP and any("attention" in kind for kind in _kinds(model))
    return rows, (ATTENTION,) if attends else ()


def _ends(
    parameterization: Parameterization, role: Role, depths: tuple[int, int], inside: bool, writes: bool
) -> Mapping[str, float]:
    """Ratios between the two models: of the standard deviation, and of the rates with SGD and with Adam.

    Multipliers are within the weights: ``a w`` with the rate ``c`` is the weight ``w' = a w`` with ``a^2 c`` under SGD
    and ``a c`` under Adam.
    """
    found = {"std": 1.0, "sgd": math.nan, "adam": math.nan}
    branches = [branch_multiplier(parameterization, depth) if writes else 1.0 for depth in depths]
    for kind, optimizer in KINDS.items():
        if optimizer not in covered_optimizers(parameterization):
            continue
        sizes = zip((role.width, role.base_width), (role.fan_in, role.base_fan_in), depths, strict=True)
        rules = [
            scaling_rule(
                parameterization, role.role, width, depth, fan_in=fan_in, gamma_fan_in=width, optimizer=optimizer,
                counted=inside, vector=role.vector,
            )
            for width, fan_in, depth in sizes
        ]  # fmt: skip
        power = 2 if optimizer == OptimizerName.SGD else 1
        multipliers = [rule.multiplier * branch for rule, branch in zip(rules, branches, strict=True)]
        rates = [rule.lr_scale * m**power for rule, m in zip(rules, multipliers, strict=True)]
        deviations = [rule.init_std * m for rule, m in zip(rules, multipliers, strict=True)]
        found[kind] = rates[0] / rates[1]
        found["std"] = deviations[0] / deviations[1]
    return found


def _is_plain(model: nn.Module, name: str) -> bool:
    return last_matrix(part_of(model, name)) is part_of(model, name)


def _kinds(model: nn.Module) -> set[str]:
    return {type(part).__name__.lower() for part in model.modules()}
