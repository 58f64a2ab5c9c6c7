"""The base of all specs, and the value types that they share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

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


def distinct(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError("values must not repeat")
    return values


def as_written(value: Any) -> str:
    """A value as a settings file has it.

    >>> as_written(None), as_written(True), as_written((0.5, 1))
    ('null', 'true', '[0.5, 1]')
    """
    text = str(list(value) if isinstance(value, tuple) else value)
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


def did_you_mean(value: Any, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown name: the allowed one that looks most like it, if any does."""
    names = {name.casefold(): name for name in allowed}  # a wrong case is the smallest of mistakes
    close = difflib.get_close_matches(str(value).casefold(), list(names), n=1)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def check_labels(key: str, labels: Iterable[str], *reserved: str) -> None:
    """Raise for a label that tables of figures could not tell from other names.

    Args:
        key: of the settings whose keys are the labels.
        reserved: how names begin that stand for something else, such as ``N=`` for a width.
    """
    for label in labels:
        if " | " in label:
            raise ValueError(f"{key} = {label!r}: a label must not hold ' | ', which stands between names in tables")
        if label.startswith(reserved):
            raise ValueError(f"{key} = {label!r}: a label must not begin with {' or '.join(map(repr, reserved))}")


def check_file_names(key: str, names: Mapping[str, str]) -> None:
    """Raise if two labels, of the settings ``key``, would make the same file; ``names``: label -> name of its file."""
    labels: dict[str, str] = {}
    for label, name in names.items():
        if name in labels:
            raise ValueError(f"{key} = {label!r}: its files would be those of {labels[name]!r}, {name}; rename one")
        labels[name] = label


def _a_number(value: Any) -> Any:
    if isinstance(value, bool | str):  # pydantic would read true as 1.0, and a text as the number in it
        raise ValueError("input should be a number")
    return value


_BRANCH_SCALE = re.compile(r"(?P<factor>\d*\.?\d+(?:[eE][-+]?\d+)?)(?:/(?P<by>L|sqrtL))?")


def _branch_scale_text(value: Any) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, bool) or not _BRANCH_SCALE.fullmatch(text):
        raise ValueError("a branch scale is a number in [0, 1] or a law such as '1/L' or '0.5/sqrtL'")
    return text


def integers(kind: Any, least: int) -> Any:
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
Number = Annotated[float, BeforeValidator(_a_number)]
Positive = Annotated[Number, Field(gt=0)]
BranchScaleLaw = Annotated[
    str, BeforeValidator(_branch_scale_text), WithJsonSchema({"type": ["string", "number"], "minimum": 0, "maximum": 1})
]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Steps = Annotated[int, Field(ge=0, strict=True)]
Widths = integers(Width, 2)
Depths = integers(Depth, SMALLEST_DEPTH)
Counts = integers(Count, 1)


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

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, without what has been worked out of the old ones (cached properties)."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


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
