"""What the monitor's callbacks for training libraries share: base classes that are imported when they are needed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from featurespeed.measuring.errors import MeasurementError
from featurespeed.own.monitor import Monitor

_DERIVED: dict[tuple[type, ...], type] = {}


class Callback:
    """A monitor in the training loop of another library, whose own callback class becomes a base of each object.

    So the library is imported when a callback is made, and not before.

    Attributes:
        monitor: the :class:`Monitor` of the last training that began; None before the first.
    """

    monitor: Monitor | None = None

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        bases = cls.bases()
        return object.__new__(cls if issubclass(cls, bases) else _derived(cls, bases))

    @classmethod
    def bases(cls) -> tuple[type, ...]:
        """Classes that the library's trainer knows.

        Raises:
            ImportError: the library is missing; one line that says how to install it.
        """
        raise NotImplementedError

    @property
    def table(self) -> pd.DataFrame:
        """That of the monitor.

        Raises:
            MeasurementError: no training has begun.
        """
        return self._begun().table

    def plot(self) -> Any:
        """That of the monitor.

        Raises:
            MeasurementError: no training has begun.
        """
        return self._begun().plot()

    def _begun(self) -> Monitor:
        if self.monitor is None:
            raise MeasurementError("monitor: no training has begun, allowed: after it has")
        return self.monitor


def _derived(own: type, bases: tuple[type, ...]) -> type:
    key = (own, *bases)
    if key not in _DERIVED:
        _DERIVED[key] = type(own.__name__, key, {"__module__": own.__module__, "__doc__": own.__doc__})
    return _DERIVED[key]
