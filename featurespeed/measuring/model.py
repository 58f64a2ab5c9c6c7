"""Which models and losses are measured, and how a model is called with its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.measuring.errors import MeasurementError, first_line, kind_of
from featurespeed.measuring.trees import difference, duplicate, tensors

WHOLE, SPREAD, KEYWORDS = "one object", "several arguments", "keyword arguments"
LOSSES = "allowed: a function (outputs, targets) -> scalar, such as torch.nn.functional.cross_entropy"


def checked_model(model: Any) -> nn.Module:
    """The module to measure: without the wrapper of ``torch.compile``, whose graphs have no second derivative.

    Raises:
        MeasurementError: no module, or one whose weights hold no numbers yet or none that can be differentiated.
    """
    if not isinstance(model, nn.Module):
        raise MeasurementError(f"model: {kind_of(model)}, allowed: a torch.nn.Module")
    model = getattr(model, "_orig_mod", model)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise MeasurementError(
                f"model: {name} has no values yet (a lazy layer), allowed after a first forward pass"
            )
        if parameter.is_meta:
            raise MeasurementError(
                f"model: {name} is on the device 'meta' and holds no values, allowed: cpu, cuda, ..."
            )
        if parameter.is_inference():
            raise MeasurementError(
                f"model: {name} was made under torch.inference_mode, allowed: weights made outside of it"
            )
    return model


def checked_loss(loss: Any) -> Callable[..., Any]:
    """A loss that can be called.

    Raises:
        MeasurementError: a name, a class in place of an instance, or what is no function.
    """
    if isinstance(loss, type):
        raise MeasurementError(f"loss: {kind_of(loss)}, allowed: an instance, such as {loss.__name__}()")
    if not callable(loss):
        raise MeasurementError(f"loss: {kind_of(loss)}, {LOSSES}")
    return loss


def scalar(value: Any) -> Tensor:
    """A loss that was returned.

    Raises:
        MeasurementError: it is no scalar tensor.
    """
    if not isinstance(value, Tensor):
        raise MeasurementError(f"loss: returns {kind_of(value)}, allowed: a scalar tensor")
    if value.numel() != 1 or value.is_complex():
        raise MeasurementError(f"loss: returns shape {tuple(value.shape)}, allowed: a scalar")
    return value.reshape(())


def takes_batch(loss: Callable[..., Any]) -> bool:
    """Whether a loss is a function of the model and the batch: its first parameter is called ``model``."""
    try:
        names = list(inspect.signature(loss).parameters)
    except (TypeError, ValueError):  # builtin functions tell nothing
        return False
    return len(names) >= 2 and names[0] == "model"


def device_of(model: nn.Module) -> torch.device | None:
    """The one device of a model's weights; None if there are several or none."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    return devices.pop() if len(devices) == 1 else None


def arguments_of(way: str, inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Positional and keyword arguments for inputs that are handed over in one of the three ways."""
    if way == SPREAD:
        return tuple(inputs), {}
    return ((), dict(inputs)) if way == KEYWORDS else ((inputs,), {})


class Call:
    """How a model takes its inputs: a mapping as keyword arguments, a tuple as several ones, if its signature says so.

    Where it would take them either way (an optional second argument) both are tried once, and must give the same.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self._ways: dict[type, str] = {}

    def __call__(self, inputs: Any) -> Any:
        args, kwargs = self.arguments(inputs)
        return self.model(*args, **kwargs)

    def arguments(self, inputs: Any) -> tuple[tuple, dict[str, Any]]:
        """The inputs as positional and keyword arguments of the model."""
        return arguments_of(self.way(inputs), inputs)

    def way(self, inputs: Any) -> str:
        """How the model is called with inputs of this type."""
        if not isinstance(inputs, (Mapping, tuple, list)):
            return WHOLE
        known = self._ways.get(type(inputs))
        if known is None:
            known = self._ways[type(inputs)] = self._find(inputs)
        return known

    def _find(self, inputs: Any) -> str:
        apart = KEYWORDS if isinstance(inputs, Mapping) else SPREAD
        ways = [way for way in (apart, WHOLE) if self._binds(way, inputs)]
        return ways[0] if len(ways) == 1 else self._try_both(apart, inputs)

    def _binds(self, way: str, inputs: Any) -> bool:
        try:
            signature = inspect.signature(self.model.forward)
        except (TypeError, ValueError):  # a scripted module
            return True
        args, kwargs = arguments_of(way, inputs)
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    def _try_both(self, apart: str, inputs: Any) -> str:
        found, errors = {}, {}
        for way in (apart, WHOLE):
            try:
                with torch.no_grad():
                    args, kwargs = arguments_of(way, duplicate(inputs))
                    found[way] = self.model(*args, **kwargs)
            except (torch.OutOfMemoryError, MemoryError):
                raise
            except Exception as error:
                errors[way] = error
        if not found:
            raise called_in_vain("model", inputs, errors[apart])
        if len(found) == 2 and difference(found[apart], found[WHOLE]) > 0:
            raise MeasurementError(
                f"inputs: {kind_of(inputs)}, which the model takes as {WHOLE} and as {apart}, with other outputs;"
                " allowed: a loss(model, batch) that calls it as you mean it"
            )
        return next(iter(found))


@contextmanager
def calling(name: str, given: Any) -> Iterator[None]:
    """Around a call of a user's model or loss: what it raises becomes one line; memory that runs out stays that."""
    try:
        yield
    except (MeasurementError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise called_in_vain(name, given, error) from error


def called_in_vain(name: str, inputs: Any, error: Exception) -> MeasurementError:
    """One line for a model or loss that raised an error of its own; the error stays attached."""
    allowed = {
        "model": "what it takes: one object, a tuple of arguments, a mapping of keywords",
        "loss": "loss(outputs, targets), or loss(model, batch) with a parameter named model",
    }
    shapes = [list(tensor.shape) for tensor in tensors(inputs)][:3]
    what = f"{type(inputs).__name__} of tensors {shapes}" if shapes else kind_of(inputs)
    if isinstance(inputs, Tensor):
        what = f"a tensor {list(inputs.shape)}, {str(inputs.dtype).removeprefix('torch.')}"
    found = MeasurementError(f"{name}: called with {what}, allowed: {allowed[name]}; it raised {first_line(error)}")
    found.__cause__ = error
    return found
