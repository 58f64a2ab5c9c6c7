"""Configuration: validated once at the door, then frozen typed specs.

``config.yaml`` has one block an artefact, ``workflow/scales/<scale>.yaml`` holds what a scale changes, and a user's own
file or ``--config`` comes last. :func:`load_config` merges the three and checks every key; a fault raises
:class:`ConfigError`, whose text is one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from featurespeed.parameterization import Scaling

ScaleName = Literal["smoke", "laptop", "gpu", "paper"]
SCALES: tuple[str, ...] = get_args(ScaleName)
SMALLEST_DEPTH = 3  # embedding, one hidden layer, readout


class ConfigError(ValueError):
    """A fault in the configuration; ``str(error)`` is one line with the key, the value and what is allowed."""


# --- values -----------------------------------------------------------------------------------------------------------


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


_BRANCH_SCALE = re.compile(r"(?P<factor>\d*\.?\d+(?:[eE][-+]?\d+)?)(?:/(?P<by>L|sqrtL))?")


def _branch_scale_text(value: Any) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, bool) or not _BRANCH_SCALE.fullmatch(text):
        raise ValueError("a branch scale is a number in [0, 1] or a law such as '1/L' or '0.5/sqrtL'")
    return text


Width = Annotated[int, Field(ge=2, strict=True)]
Depth = Annotated[int, Field(ge=SMALLEST_DEPTH, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Replicates = Annotated[int, Field(ge=2, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[float, Field(gt=0)]
BranchScaleLaw = Annotated[str, BeforeValidator(_branch_scale_text)]
Widths = Annotated[list[Width], BeforeValidator(_expand_range), Field(min_length=1)]
Depths = Annotated[list[Depth], BeforeValidator(_expand_range), Field(min_length=1)]
Counts = Annotated[list[Count], BeforeValidator(_expand_range), Field(min_length=1)]


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

    high: Annotated[float, Field(gt=0, le=1)]


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
    target: float

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


@dataclass(frozen=True)
class Artefact:
    """One figure or table (or, with ``drawn = False``, a stage table that only feeds the claims)."""

    id: str
    stage: str
    script: str
    spec: type[Spec]
    title: str
    group: str = "fsf"
    paper: str = "arXiv:2311.18718"
    drawn: bool = True


def _artefact(id: str, stage: str, spec: type[Spec], title: str, **extra: Any) -> tuple[str, Artefact]:
    return id, Artefact(id, stage, f"{stage}.py", spec, title, **extra)


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
        _artefact("fsf_theorems", "theorems", TheoremsSpec, "Theorems tested directly", drawn=False),
    ]
)


class Config(Spec):
    """The whole configuration of one run."""

    scale: ScaleName
    fsf_fig1a: InitSpec
    fsf_fig1b: InitSpec
    fsf_fig1c: InitSpec
    fsf_fig2a: SensitivitySpec
    fsf_fig2b: SensitivitySpec
    fsf_table1: ScalingSpec
    fsf_table2: ScalingSpec
    fsf_theory: TheorySpec
    fsf_theorems: TheoremsSpec

    def block(self, artefact: str) -> Spec:
        """Spec of one artefact; an unknown id raises :class:`ConfigError`."""
        return getattr(self, check_artefact(artefact).id)

    def params(self, artefact: str) -> dict[str, Any]:
        """The spec as plain JSON values, as rules and tables carry it."""
        return self.block(artefact).model_dump(mode="json", exclude_none=True)


# --- loading ----------------------------------------------------------------------------------------------------------


def merge(base: Mapping, changes: Mapping) -> dict:
    """``base`` with ``changes`` laid over it, block by block; neither argument is modified.

    A range or a list replaces the old value whole: only artefact blocks and their named sub-blocks are merged.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both_blocks = isinstance(value, Mapping) and isinstance(old, Mapping) and key not in _REPLACED_WHOLE
        merged[key] = merge(old, value) if both_blocks else value
    return merged


_REPLACED_WHOLE = frozenset({"depths", "sampler_depths", "widths", "input_dims", "output_dims", "branch_scales"})


def check_choice(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    """``value`` if it is one of ``allowed``, else a :class:`ConfigError` that names key, value and choices."""
    if value not in allowed:
        raise ConfigError(f"config: {key} = {value!r}: unknown, allowed: {', '.join(allowed)}{_hint(value, allowed)}")
    return value


def check_artefact(artefact: str) -> Artefact:
    """The :class:`Artefact` of this id, else a :class:`ConfigError`."""
    return ARTEFACTS[check_choice("artefact", artefact, tuple(ARTEFACTS))]


def load_config(base: Mapping, scales: Mapping[str, Mapping], user: Mapping) -> Config:
    """Merge ``base`` (config.yaml), the scale's own file and the user's changes, and validate the result.

    Args:
        base: ``config.yaml`` as read.
        scales: scale name -> ``workflow/scales/<name>.yaml`` as read.
        user: what the user changed on top; may hold ``scale``.

    Raises:
        ConfigError: one line with the key, the value and what is allowed.
    """
    scale = check_choice("scale", user.get("scale", base.get("scale")), SCALES)
    for key, block in {**base, **user}.items():
        if key not in Config.model_fields:
            raise ConfigError(_unknown_key((key,), block, Config))
        if key in ARTEFACTS and not isinstance(block, Mapping):
            raise ConfigError(f"config: {key} = {_show(block)}: must be a block of settings")
    merged = merge(merge(base, scales[scale]), user)
    for artefact in ARTEFACTS:
        if artefact in merged:
            if "artefact" in merged[artefact]:
                raise ConfigError(_unknown_key((artefact, "artefact"), merged[artefact]["artefact"], Config))
            merged[artefact] = {**merged[artefact], "artefact": artefact}
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from None


def config_schema() -> dict[str, Any]:
    """JSON schema of the merged configuration, for editors; kept in ``workflow/schemas``."""
    return Config.model_json_schema()


def _one_line(error: ValidationError) -> str:
    faults = error.errors()
    first = faults[0]
    path = tuple(str(part) for part in first["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, first["input"], Config) + more
    if first["type"] == "missing":
        return f"config: {'.'.join(path)}: missing, a value is required{more}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    # A rule across keys fails on the whole block; its message names the key and the value itself.
    value = (
        "" if isinstance(first["input"], Mapping) and first["type"] == "value_error" else f" = {_show(first['input'])}"
    )
    return f"config: {'.'.join(path)}{value}: {message}{more}"


def _unknown_key(path: tuple[str, ...], value: Any, model: type[BaseModel]) -> str:
    for part in path[:-1]:
        nested = model.model_fields[part].annotation if part in model.model_fields else None
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            model = nested
    allowed = tuple(name for name in model.model_fields if name != "artefact")
    key, hint = ".".join(path), _hint(path[-1], allowed)
    return f"config: {key} = {_show(value)}: unknown key, allowed: {', '.join(allowed)}{hint}"


def _hint(value: Any, allowed: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(str(value), allowed, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _show(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
