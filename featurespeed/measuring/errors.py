"""How a measuring function says no: one line that names the argument, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from featurespeed.errors import UserError

LONGEST = 240  # characters of somebody else's message that are repeated
#: Refusals of PyTorch, by what stands in their message, and what helps.
REMEDIES = {
    "incompatible with .grad()": "checkpoints with use_reentrant=False",
    "not compatible with .grad()": "checkpoints with use_reentrant=False",
    "forward AD": "operations with a forward-mode derivative, or a layer whose parts have one",
    "Forward AD": "operations with a forward-mode derivative, or a layer whose parts have one",
    "jvp": "an autograd.Function with a jvp method, or plain operations in its place",
    "setup_context": "an autograd.Function with setup_context, or plain operations in its place",
    "double backward": "the model as it was before torch.compile",
    "parse": "embeddings with sparse=False",
    "stateless API": "plain modules, not scripted or wrapped ones",
}
DIFFERENTIABLE = "operations that PyTorch differentiates as often as it takes"


class MeasurementError(UserError, ValueError):
    """What cannot be measured; one line that names what is wrong and what is allowed."""


@contextmanager
def reported_as(kind: type[ValueError]) -> Iterator[None]:
    """What is wrong with a caller's arguments, and what PyTorch refuses on the way, as one line of a function's kind.

    Memory that runs out stays what it is: another size may fit.
    """
    try:
        yield
    except MeasurementError as error:
        if type(error) is kind:
            raise
        raise kind(str(error)) from error.__cause__
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except RuntimeError as error:  # NotImplementedError is one
        raise kind(refused_by_torch(error)) from error


def refused_by_torch(error: Exception) -> str:
    """One line for what PyTorch could not differentiate."""
    text = str(error)
    remedy = next((remedy for part, remedy in REMEDIES.items() if part in text), DIFFERENTIABLE)
    return f"model: allowed: {remedy}; PyTorch has no derivative here ({first_line(error)})"


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of its message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def kind_of(value: Any) -> str:
    """A word for what was given: the name of its type, of a class itself, or of a function."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, (list, tuple)) and len(value) <= 3:
        return f"{type(value).__name__} of ({', '.join(type(entry).__name__ for entry in value)})"
    return f"{type(value).__name__} {value!r}" if isinstance(value, (bool, int, float)) else type(value).__name__
