"""The networks of a coordinate check: made anew, steps of the user's optimizer, a look at their nodes after each."""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from featurespeed.measuring.arguments import positive
from featurespeed.measuring.batches import Part, parts_of
from featurespeed.measuring.context import evaluation
from featurespeed.measuring.errors import MeasurementError, first_line, kind_of
from featurespeed.measuring.model import Call, calling, checked_model, device_of, scalar, takes_batch
from featurespeed.measuring.trees import duplicate
from featurespeed.own.making import OPTIMIZERS, MakeModel, checked_maker, made_model, made_optimizer, takes_rate
from featurespeed.own.node_sizes import NodeSizes, Size
from featurespeed.own.seeds import own_streams, seed_everything
from featurespeed.randomness import derive_seed

MOST_STEPS = 1000
BATCHES = "allowed: a list of batches, a DataLoader, or a function seed -> batches; one step a batch"

Loss = Callable[..., Tensor]
Optimizers = Callable[[nn.Module], torch.optim.Optimizer]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Run:
    """One network.

    Attributes:
        width, seed: which one.
        parameters: how many numbers its parameters hold.
        sizes: node -> size, at the initialisation and after every step until it diverged.
        learning: node -> whether it depends on a parameter that learns.
        diverged: the step after which a node was not finite; None if all stayed finite.
    """

    width: int
    seed: int
    parameters: int
    sizes: tuple[dict[str, Size], ...]
    learning: dict[str, bool]
    diverged: int | None


class Runs:
    """Makes the networks of one check and lets them take their steps."""

    def __init__(self, make_model: MakeModel, loss: Loss, optimizers: Optimizers, patterns: Sequence[str] | None):
        self._make_model, self._loss, self._optimizers, self._patterns = make_model, loss, optimizers, patterns
        self._alive: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def run(self, width: int, seed: int, parts: Sequence[Part]) -> Run:
        """One network of a width, with the weights of a seed, one step a batch."""
        with streams(seed, "coordinates"):
            model = self._new(width, seed)
            optimizer = self._optimizers(model)
            if not model.training:
                model.train()  # what it holds in evaluation mode on purpose stays so if it is itself in training mode
            network = checked_model(model)
            training = _Training(network, self._loss, _on(device_of(network), parts, takes_batch(self._loss)))
            return self._steps(Run(width, seed, _count(network), (), {}, None), training, optimizer)

    def _new(self, width: int, seed: int) -> nn.Module:
        model = made_model(self._make_model, width, seed)
        if model in self._alive:
            raise MeasurementError(
                f"make_model({width}): returned the model of an earlier call, allowed: a new one at every call"
            )
        self._alive.add(model)
        return model

    def _steps(self, start: Run, training: _Training, optimizer: torch.optim.Optimizer) -> Run:
        nodes = NodeSizes(training.model, training.look_at_first, self._patterns)
        sizes, diverged = [], None
        for step in range(len(training.parts) + 1):
            if step:
                training.step(optimizer, training.parts[step - 1])
            with evaluation(training.model):
                found = nodes.look()
            wrong = [node for node, size in found.items() if not all(map(math.isfinite, size))]
            if wrong and not step:
                raise MeasurementError(f"make_model({start.width}): {wrong[0]} is not finite before the first step")
            if wrong:
                diverged = step
                break
            sizes.append(found)
        return Run(start.width, start.seed, start.parameters, tuple(sizes), nodes.learning, diverged)


class _Training:
    """A model with its loss and batches, all on one device."""

    def __init__(self, model: nn.Module, loss: Loss, parts: Sequence[Part]):
        self.model, self.parts = model, parts
        self._loss, self._takes_batch, self._call = loss, takes_batch(loss), Call(model)
        if not self._takes_batch:
            with evaluation(model):  # both ways may be tried, before anything is watched
                self._call.way(parts[0].inputs)

    def look_at_first(self) -> None:
        """A pass over the first batch."""
        first = self.parts[0]
        if self._takes_batch:
            self._value(first)
        else:
            with calling("model", first.inputs):
                self._call(duplicate(first.inputs))

    def step(self, optimizer: torch.optim.Optimizer, part: Part) -> None:
        """One step of the optimizer; some of them ask for the loss more than once."""

        def closure() -> float:
            optimizer.zero_grad()
            value = scalar(self._value(part))
            if not value.requires_grad:
                raise MeasurementError("loss: its value does not depend on the weights, allowed: a differentiable one")
            torch.autograd.backward(value)
            return float(value.detach())

        try:
            optimizer.step(closure)
        except (MeasurementError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise MeasurementError(f"optimizer: its step raised {first_line(error)}, {OPTIMIZERS}") from error

    def _value(self, part: Part) -> Any:
        if self._takes_batch:
            with calling("loss", part.whole):
                return self._loss(self.model, duplicate(part.whole))
        with calling("model", part.inputs):
            outputs = self._call(duplicate(part.inputs))
        with calling("loss", outputs):
            return self._loss(outputs, duplicate(part.targets))


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _on(device: torch.device | None, parts: Sequence[Part], takes: bool) -> list[Part]:
    return parts_of(iter([part.whole for part in parts]), device, takes)


@contextmanager
def streams(seed: int, name: str) -> Iterator[None]:
    """Random numbers of a seed for whatever draws some inside; the caller's go on as before afterwards."""
    with own_streams():
        seed_everything(seed, name)
        yield


# --- batches ----------------------------------------------------------------------------------------------------------


class Batches:
    """The batches of every seed: the same for all, or those that a DataLoader or a function gives for it."""

    def __init__(self, given: Any, takes: bool):
        self._given, self._takes = given, takes
        self._by_seed = callable(given) and not hasattr(given, "__iter__") and not isinstance(given, nn.Module)
        anew = self._by_seed or isinstance(given, torch.utils.data.DataLoader)
        self._parts = None if anew else self._listed(given)  # a generator can be read once

    def of(self, seed: int) -> list[Part]:
        """Those of one seed, where they are."""
        if self._parts is not None:
            return self._parts
        with streams(seed, "batches"), _reseeded(getattr(self._given, "generator", None), seed):
            if not self._by_seed:
                return self._listed(self._given)
            try:
                found = self._given(seed)
            except Exception as error:
                raise MeasurementError(f"batches({seed}): it raised {first_line(error)}, {BATCHES}") from error
            return self._listed(found)

    def _listed(self, found: Any) -> list[Part]:
        if isinstance(found, (torch.utils.data.DataLoader, Iterator)):
            found = islice(found, MOST_STEPS + 1)  # it may never end
        parts = parts_of(found, None, self._takes)
        if len(parts) > MOST_STEPS:
            raise MeasurementError(f"batches: more than {MOST_STEPS}, allowed: a few, one step a batch")
        return parts


@contextmanager
def _reseeded(generator: torch.Generator | None, seed: int) -> Iterator[None]:
    """A DataLoader's own generator begins with the seed, and is as before afterwards."""
    if not isinstance(generator, torch.Generator):
        yield
        return
    state = generator.get_state()
    generator.manual_seed(derive_seed(seed, "loader"))
    try:
        yield
    finally:
        generator.set_state(state)


# --- optimizers -------------------------------------------------------------------------------------------------------


def optimizers(make: Any, rate: Any) -> Optimizers:
    """``model -> optimizer``, from a class, ``(model, learning_rate)`` or ``(model)``.

    Raises:
        MeasurementError: none of them, or a learning rate is missing or too much.
    """
    checked_maker("optimizer", make, OPTIMIZERS)
    if rate is None:
        if isinstance(make, type) or not _takes_model_alone(make):
            raise MeasurementError(
                f"learning_rate: None with the optimizer {kind_of(make)}, allowed: a number above 0, or an optimizer"
                " that is made from the model alone"
            )
        return lambda model: made_optimizer(lambda network, _rate: make(network), model, math.nan)
    value = positive("learning_rate", rate)
    if not takes_rate(make):
        raise MeasurementError(f"learning_rate: {value:g}, allowed: None with an optimizer made from the model alone")
    return lambda model: made_optimizer(make, model, value)


def _takes_model_alone(make: Callable[..., Any]) -> bool:
    try:
        inspect.signature(make).bind(None)
    except (TypeError, ValueError):
        return False
    return True
