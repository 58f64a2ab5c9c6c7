"""Numbers among the arguments of measuring functions."""

from __future__ import annotations

import numbers
from typing import Any

from featurespeed.measuring.errors import MeasurementError, kind_of


def whole_number(name: str, value: Any, least: int) -> int:
    """``value`` as an integer that is at least ``least``; True and 2.0 are none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise MeasurementError(f"{name} = {_shown(value)}: allowed: an integer, at least {least}")
    if value < least:
        raise MeasurementError(f"{name} = {value}: allowed: at least {least}")
    return int(value)


def positive(name: str, value: Any) -> float:
    """``value`` as a number above 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise MeasurementError(f"{name} = {_shown(value)}: allowed: a number above 0")
    number = float(value)
    if not number > 0:
        raise MeasurementError(f"{name} = {value}: allowed: above 0")
    return number


def flag(name: str, value: Any) -> bool:
    """``value``, which is True or False."""
    if not isinstance(value, bool):
        raise MeasurementError(f"{name} = {_shown(value)}: allowed: True, False")
    return value


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else kind_of(value)
