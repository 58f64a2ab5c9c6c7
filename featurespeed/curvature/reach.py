"""Which parameters derivatives reach, and what stands in their way: seen while every chunk is differentiated once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from featurespeed.measuring.context import Replacing, foreign, reached_from

DETACHED = "a value that is detached"
HOOK = "a gradient hook"


class Reach:
    """What is known of parameters, by their ids; ``done`` when nothing more is to be looked for."""

    def __init__(self, parameters: Sequence[Tensor], done: bool = False):
        self.done = done
        self._parameters = parameters
        self._cut_off: set[int] = set()
        self._reached: set[int] = set()
        self._foreign: dict[str, str] = {}

    @contextmanager
    def watching(self, name: str, mode: Replacing | None) -> Iterator[None]:
        """Around a call of ``model`` or ``loss``: see what is taken out of the graph there, and hooks."""
        if self.done or mode is None:
            yield
            return
        with mode.watching(self._parameters) as cut_off:
            yield
        self._cut_off |= cut_off
        if cut_off:
            self._foreign.setdefault(DETACHED, name)
        if mode.hooked or any(parameter._backward_hooks for parameter in self._parameters):
            self._foreign.setdefault(HOOK, name)

    def note(self, name: str, found: Sequence[Tensor]) -> None:
        """See what stands behind the results of such a call."""
        if not self.done:
            self._reached |= reached_from(found)
            self._foreign = dict.fromkeys(sorted(foreign(found)), name) | self._foreign

    def take_foreign(self) -> dict[str, str]:
        """Operations that are not PyTorch's, by name, and whether they are of ``model`` or ``loss``; only once."""
        found, self._foreign = self._foreign, {}
        return found

    @property
    def lost(self) -> set[int]:
        """Parameters that are used, but that no derivative reaches."""
        return self._cut_off - self._reached

    @property
    def unused(self) -> set[int]:
        """Parameters that are not used at all."""
        return {id(parameter) for parameter in self._parameters} - self._reached - self._cut_off
