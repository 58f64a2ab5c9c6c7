"""Results on the command line: as a table with a sentence, or as one JSON object."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch

MOST = 4096  # numbers of one array that are printed
WORDS = ("sentence", "verdict")  # what records say besides their fields
UNPRINTED = ("vectors", "runner_up")  # as long as a network has parameters
_LEFT_OUT = object()


def as_json(result: Any) -> str:
    """One JSON object on one line; NaN and infinity, which JSON does not know, are null."""
    found = plain(result)
    return json.dumps(found if isinstance(found, dict) else {"value": found}, allow_nan=False)


def as_text(result: Any) -> str:
    """The summary or the table, if there is one, else the fields; then the sentence."""
    table, sentence = getattr(result, "summary", getattr(result, "table", None)), getattr(result, "sentence", None)
    parts = [table.to_string(index=False, float_format="%.4g")] if isinstance(table, pd.DataFrame) else []
    if not parts:
        fields = plain(result)
        shown = fields if isinstance(fields, dict) else {"value": fields}
        parts = [f"{name}: {_short(value)}" for name, value in shown.items() if name not in WORDS]
    return "\n".join([*parts, *(["", sentence] if sentence else [])])


def plain(value: Any) -> Any:
    """Numbers, texts, lists and mappings in place of a result; what is none of these is left out of it."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(float(value)) else None
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, pd.DataFrame):
        return [plain(dict(zip(value.columns, row, strict=True))) for row in value.itertuples(index=False, name=None)]
    if isinstance(value, (torch.Tensor, np.ndarray, pd.Series)):
        return plain(value.tolist()) if math.prod(value.shape) <= MOST else _LEFT_OUT
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(_fields(value))
    if isinstance(value, Mapping):
        found = {str(key): plain(entry) for key, entry in value.items()}
        return {key: entry for key, entry in found.items() if entry is not _LEFT_OUT}
    if isinstance(value, (list, tuple)):
        return [entry for entry in map(plain, value) if entry is not _LEFT_OUT]
    return _LEFT_OUT


def _fields(record: Any) -> dict[str, Any]:
    """What a record says in words, then its fields; its table, which may be a property, among them."""
    names = [*WORDS, *(field.name for field in dataclasses.fields(record)), "table"]
    return {
        name: getattr(record, name) for name in dict.fromkeys(names) if name not in UNPRINTED and _has(record, name)
    }


def _has(record: Any, name: str) -> bool:
    return hasattr(record, name) and not callable(getattr(record, name))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return str(value)
