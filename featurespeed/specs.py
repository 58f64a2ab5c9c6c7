"""Specs: what each stage needs to know, as frozen typed models that refuse unknown keys and impossible values.

A stage script imports its spec from here and knows nothing of the configuration around it, so that a new figure
elsewhere in the configuration changes no stage's code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from featurespeed.parameterization import Scaling

SMALLEST_DEPTH = 3  # embedding, one hidden layer, readout


def _expand_range(value: Any) -> Any:
    """``{from: 10, to: 200, step: 10}`` stands for 10, 20, ..., 200."""
    if not isinstance(value, Mapping):
        return value
    if set(value) - {"from", "to", "step"} or not {"from", "to"} <= set(value):
        raise ValueError("a range has the keys from, to and (optionally) step")
    numbers = [value["from"], value["to"], value.get("step", 1)]
    if any(isinstance(n, bool) or not isinstance(n, int) for n in numbers) or numbers[2] < 1:
        raise ValueError("from, to and step are integers, step >= 1")
    if numbers[0] > numbers[1]:
        raise ValueError(f"an empty range: from = {numbers[0]} must not exceed to = {numbers[1]}")
    return list(range(numbers[0], numbers[1] + 1, numbers[2]))


def _distinct(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError("values must not repeat")
    return values


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would read true as 1.0
        raise ValueError("input should be a number")
    return value


_BRANCH_SCALE = re.compile(r"(?P<factor>\d*\.?\d+(?:[eE][-+]?\d+)?)(?:/(?P<by>L|sqrtL))?")


def _branch_scale_text(value: Any) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, bool) or not _BRANCH_SCALE.fullmatch(text):
        raise ValueError("a branch scale is a number in [0, 1] or a law such as '1/L' or '0.5/sqrtL'")
    return text


def _integers(kind: Any, least: int) -> Any:
    """A non-empty list of integers, or a range that stands for one; the JSON schema knows both spellings."""
    entries = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": least}}
    number = {"type": "integer"}
    bounds = {"from": number, "to": number, "step": {"type": "integer", "minimum": 1}}
    span = {"type": "object", "properties": bounds, "required": ["from", "to"], "additionalProperties": False}
    schema = WithJsonSchema({"anyOf": [entries, span]})
    return Annotated[list[kind], BeforeValidator(_expand_range), Field(min_length=1), schema]


Width = Annotated[int, Field(ge=2, strict=True)]
Depth = Annotated[int, Field(ge=SMALLEST_DEPTH, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Replicates = Annotated[int, Field(ge=2, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Number = Annotated[float, BeforeValidator(_no_truth_value)]
Positive = Annotated[Number, Field(gt=0)]
BranchScaleLaw = Annotated[
    str, BeforeValidator(_branch_scale_text), WithJsonSchema({"type": ["string", "number"], "minimum": 0, "maximum": 1})
]
Widths = _integers(Width, 2)
Depths = _integers(Depth, SMALLEST_DEPTH)
Counts = _integers(Count, 1)


def branch_scale(law: str, depth: int) -> float:
    """Value of a branch-scale law such as ``"0.5/sqrtL"`` or ``"0.999"`` at depth ``depth``.

    Raises:
        ValueError: the law is not understood, or its value at this depth is outside [0, 1].
    """
    match = _BRANCH_SCALE.fullmatch(law)
    if match is None:
        raise ValueError(f"branch scale {law!r}: a number in [0, 1] or a law such as '1/L' or '0.5/sqrtL'")
    divisor = {None: 1.0, "L": float(depth), "sqrtL": float(depth) ** 0.5}[match["by"]]
    value = float(match["factor"]) / divisor
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"branch scale is {value:.4g} at depth {depth}, allowed: [0, 1]")
    return value


# --- specs ------------------------------------------------------------------------------------------------------------


class Spec(BaseModel):
    """Base of all specs: frozen, and unknown keys raise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LogGrid(Spec):
    """``count`` values from ``low`` to ``high``, evenly spaced in the logarithm."""

    low: Positive
    high: Positive
    count: Annotated[int, Field(ge=2, strict=True)]

    @model_validator(mode="after")
    def _ordered(self) -> LogGrid:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        return self

    def values(self) -> list[float]:
        """The grid, ascending."""
        return [float(v) for v in np.geomspace(self.low, self.high, self.count)]


class BranchGrid(LogGrid):
    """A logarithmic grid of branch scales, which lie in (0, 1]."""

    high: Annotated[Number, Field(gt=0, le=1)]


class NetworkSpec(Spec):
    """What the panels of Figures 1 and 2 share."""

    artefact: str
    width: Width
    depths: Depths
    input_dim: Count
    draws: Count
    sampler_seeds: Replicates
    sampler_depths: Depths
    finite_step: Positive
    seed: Seed

    _distinct_depths = field_validator("depths", "sampler_depths")(_distinct)


def _check_laws(laws: Mapping[str, str], depths: list[int]) -> None:
    for label, law in laws.items():
        for depth in depths:
            try:
                branch_scale(law, depth)
            except ValueError as error:
                raise ValueError(f"{label} = {law!r}: {error}") from None


class InitSpec(NetworkSpec):
    """Backward-feature angles at initialisation: one panel of Figure 1 of arXiv:2311.18718.

    Exactly one of ``branch_scales`` (series label -> law) and ``branch_scale_grid`` is given; with the grid, the series
    are the depths.
    """

    layers: Literal["all", "last"]
    branch_scales: Annotated[dict[str, BranchScaleLaw], Field(min_length=1)] | None = None
    branch_scale_grid: BranchGrid | None = None

    @model_validator(mode="after")
    def _one_family_of_branch_scales(self) -> InitSpec:
        if (self.branch_scales is None) == (self.branch_scale_grid is None):
            raise ValueError("give exactly one of branch_scales and branch_scale_grid")
        _check_laws(self.branch_scales or {}, self.depths + self.sampler_depths)
        return self


class SensitivitySpec(NetworkSpec):
    """Output sensitivities at initialisation: one panel of Figure 2 of arXiv:2311.18718."""

    scalings: Annotated[list[Scaling], Field(min_length=1)]
    branch_scales: Annotated[dict[str, BranchScaleLaw], Field(min_length=1)]
    target: Number

    _distinct_scalings = field_validator("scalings")(_distinct)

    @model_validator(mode="after")
    def _one_family_of_series(self) -> SensitivitySpec:
        if len(self.scalings) > 1 and len(self.branch_scales) > 1:
            raise ValueError("series are either scalings or branch_scales: only one of the two may list several")
        _check_laws(self.branch_scales, self.depths + self.sampler_depths)
        return self


class ScalingSpec(Spec):
    """Measured exponents of Tables 1 and 2 of arXiv:2311.18718.

    The first entry of ``widths``, ``depths``, ``input_dims`` and ``output_dims`` is the reference; the others vary one
    size at a time.
    """

    artefact: str
    scalings: Annotated[list[Scaling], Field(min_length=1)]
    branch_scale: BranchScaleLaw
    widths: Annotated[Widths, Field(min_length=2)]
    depths: Annotated[Depths, Field(min_length=2)]
    input_dims: Annotated[Counts, Field(min_length=2)]
    output_dims: Annotated[Counts, Field(min_length=2)]
    seeds: Replicates
    seed: Seed

    _distinct_values = field_validator("widths", "depths", "input_dims", "output_dims", "scalings")(_distinct)

    @model_validator(mode="after")
    def _laws_hold(self) -> ScalingSpec:
        _check_laws({"branch_scale": self.branch_scale}, self.depths)
        return self


class PhiSpec(Spec):
    """Panel 1 of ``fsf_theory``: the limit angle phi(c) of the ResNet with branch scale c/sqrt(L)."""

    width: Width
    depth: Depth
    c: LogGrid
    seeds: Replicates

    @model_validator(mode="after")
    def _branch_scale_in_range(self) -> PhiSpec:
        _check_laws({"c.high": f"{self.c.high}/sqrtL"}, [self.depth])
        return self


class FiniteWidthSpec(Spec):
    """Panel 2 of ``fsf_theory``: how the angle of the MLP and the ResNet depends on the width."""

    widths: Annotated[Widths, Field(min_length=2)]
    depth: Depth
    seeds: Replicates


class WideMlpSpec(Spec):
    """Angles through the layers of a very wide MLP, ReLU and linear; no panel, feeds the exponent of the angle."""

    width: Width
    depth: Depth
    seeds: Replicates


class TheorySpec(Spec):
    """Our infinite-width theory beside exact samples at large width (artefact ``fsf_theory``)."""

    artefact: str
    phi: PhiSpec
    tail: PhiSpec
    finite_width: FiniteWidthSpec
    wide_mlp: WideMlpSpec
    seed: Seed


class TheoremsSpec(Spec):
    """Direct tests of the paper's theorems on small float64 networks (stage table ``fsf_theorems``)."""

    artefact: str
    width: Width
    depths: Annotated[Depths, Field(min_length=3)]
    kernel_width: Width
    input_dim: Count
    n_inputs: Replicates
    seeds: Replicates
    training_steps: Annotated[int, Field(ge=2, strict=True)]
    invariance_steps: Annotated[int, Field(ge=2, strict=True)]
    seed: Seed
