"""One training run of a user's own model and optimizer, step by step, to be stopped and continued."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from featurespeed.measuring.batches import Part, parts_of
from featurespeed.measuring.errors import MeasurementError, first_line
from featurespeed.measuring.model import Call, arguments_of, calling, checked_model, device_of, scalar
from featurespeed.measuring.model import takes_batch as is_of_model
from featurespeed.measuring.state import REGISTRIES, Attributes, Containers
from featurespeed.measuring.trees import leaves, tensors
from featurespeed.own.data import Source
from featurespeed.own.making import MakeModel, MakeOptimizer, made_model, made_optimizer
from featurespeed.own.seeds import seed_everything

Loss = Callable[..., Tensor]
PLAIN = "torch.optim"  # whose classes hold nothing that moves but what their ``state_dict`` tells

OF_FUSED = {"_step_supports_amp_scaling", "_need_device_dtype_check_for_fused"}  # what fused ones hold besides


class Beginning:
    """What a loss holds at first, if it is a module or a method of one, so that every run can begin with that.

    Args:
        loss: a module whose buffers, parameters or attributes may change from call to call; else nothing is held.
    """

    def __init__(self, loss: Any):
        owner = loss if isinstance(loss, nn.Module) else getattr(loss, "__self__", None)
        self._modules = list(owner.modules()) if isinstance(owner, nn.Module) else []
        self._attributes, self._containers = [Attributes(part) for part in self._modules], Containers(self._modules)
        self._buffers = [dict(part._buffers) for part in self._modules]
        self._leaves = self._now()
        self._values = [(tensor, tensor.detach().clone()) for tensor in self.tensors]

    @property
    def tensors(self) -> list[Tensor]:
        """Those of the beginning."""
        return tensors(self._leaves)

    @property
    def is_left(self) -> bool:
        """Whether it is another one now."""
        now = self._now()
        same = len(now) == len(self._leaves) and all(a is b for a, b in zip(now, self._leaves, strict=True))
        return not same or not all(torch.equal(tensor, value) for tensor, value in self._values)

    @torch.no_grad()
    def restore(self) -> None:
        """Make the loss what it was. What did not change is not touched."""
        for part, buffers, attributes in zip(self._modules, self._buffers, self._attributes, strict=True):
            part._buffers.clear()
            part._buffers.update(buffers)
            attributes.restore()
        self._containers.restore()
        for tensor, value in self._values:
            if not torch.equal(tensor, value):
                tensor.copy_(value)

    def _now(self) -> list[Any]:
        own = [{name: held for name, held in vars(part).items() if name not in REGISTRIES} for part in self._modules]
        registered = [[dict(part._buffers), dict(part._parameters)] for part in self._modules]
        return list(leaves([own, registered]))


@dataclass
class Recipe:
    """What a user trains, made anew for every size, seed and learning rate.

    Attributes:
        make_model, optimizer, loss: as in :func:`featurespeed.own.transfer.transfer_check`.
        source: the batches of every seed.
        device: where to train; None leaves models where they are made.
        takes_batch: the loss is a function of the model and the batch.
    """

    make_model: MakeModel
    optimizer: MakeOptimizer
    loss: Loss
    source: Source
    device: torch.device | None = None
    takes_batch: bool = field(init=False)
    _alive: weakref.WeakSet[nn.Module] = field(default_factory=weakref.WeakSet, init=False, repr=False)
    digest: str | None = field(default=None, init=False, repr=False)  # of all data, once somebody asks
    beginning: Beginning = field(init=False, repr=False)  # of the loss
    _ways: dict[type, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.takes_batch = is_of_model(self.loss)
        self.beginning = Beginning(self.loss)

    def network(self, size: int, seed: int) -> nn.Module:
        """A new network with the weights of a seed, in training mode.

        Raises:
            MeasurementError: it cannot be made, or is one that was made before.
        """
        found = made_model(self.make_model, size, seed)
        if found in self._alive:
            raise MeasurementError(f"make_model({size}): returned an earlier model, allowed: a new one at every call")
        self._alive.add(found)
        if not found.training:
            found.train()
        model = checked_model(found)
        return model if self.device is None else model.to(self.device)

    def optimizer_of(self, model: nn.Module, rate: float) -> torch.optim.Optimizer:
        """The optimizer of a network at a learning rate; what makes it may draw random numbers, always the same."""
        seed_everything(0, "optimizer")
        return made_optimizer(self.optimizer, model, rate)

    def part(self, batch: Any, model: nn.Module) -> Part:
        """A batch on the device of a model."""
        return parts_of([batch], device_of(model), self.takes_batch)[0]

    def parts(self, model: nn.Module, seed: int, start: int = 0) -> Iterator[Part]:
        """The batches of a seed from a step on, without end."""
        return (self.part(batch, model) for batch in self.source.stream(seed, start))

    def value(self, model: nn.Module, part: Part) -> Tensor:
        """The loss of a model on a batch, a scalar with a graph."""
        if self.takes_batch:
            with calling("loss", part.whole):
                return scalar(self.loss(model, part.whole))
        args, kwargs = arguments_of(self._way(model, part.inputs), part.inputs)
        with calling("model", part.inputs):
            outputs = model(*args, **kwargs)
        with calling("loss", outputs):
            return scalar(self.loss(outputs, part.targets))

    def _way(self, model: nn.Module, inputs: Any) -> str:
        """How models take their inputs; found once, because finding it may call a model, which may count its calls."""
        if type(inputs) not in self._ways:
            self._ways[type(inputs)] = Call(model).way(inputs)
        return self._ways[type(inputs)]


class Trainer(Protocol):
    """Networks of one size that take their steps at the same time.

    Attributes:
        seeds, rates: theirs; one network a seed and learning rate.
    """

    @property
    def seeds(self) -> tuple[int, ...]: ...

    @property
    def rates(self) -> tuple[float, ...]: ...

    def step(self, parts: list[Part], step: int) -> Tensor:
        """Train on one batch a seed; losses before that, ``[seeds, rates]``."""
        ...

    def weights(self, seed: int, rate: int) -> list[Tensor]:
        """Parameters of the network at these places."""
        ...

    def parts(self, start: int) -> Iterator[list[Part]]:
        """One batch a seed and step, without end."""
        ...

    @property
    def resumes(self) -> bool:
        """Whether :meth:`state` is all that there is; else a run that was stopped begins anew."""
        ...

    def state(self) -> dict[str, Any]:
        """All that is needed to go on later."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from an earlier state."""
        ...


class Alone:
    """One network with its own optimizer."""

    def __init__(self, recipe: Recipe, size: int, seed: int, rate: float):
        self.seeds, self.rates, self._recipe = (seed,), (rate,), recipe
        recipe.beginning.restore()
        self.model = recipe.network(size, seed)
        self._first = beside_values(self.model)
        self.optimizer = recipe.optimizer_of(self.model, rate)

    def step(self, parts: list[Part], step: int) -> Tensor:
        loss = self.differentiate(parts[0], step)
        self.move()
        return loss.reshape(1, 1)

    def differentiate(self, part: Part, step: int) -> Tensor:
        """The loss on a batch; gradients are then those of the parameters."""
        seed_everything(self.seeds[0], "step", step)  # dropout and the like
        self.model.zero_grad(set_to_none=True)
        loss = self._recipe.value(self.model, part)
        if not loss.requires_grad:
            raise MeasurementError("loss: it does not depend on the model's parameters, allowed: one that does")
        loss.backward()
        return loss.detach()

    def move(self) -> None:
        """One step of the optimizer."""
        try:
            self.optimizer.step()
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise MeasurementError(
                f"optimizer: step() raised {first_line(error)}, allowed: optimizers whose step() takes no argument"
            ) from error

    def weights(self, seed: int = 0, rate: int = 0) -> list[Tensor]:
        return [parameter.detach() for parameter in self.model.parameters()]

    def parts(self, start: int) -> Iterator[list[Part]]:
        return ([part] for part in self._recipe.parts(self.model, self.seeds[0], start))

    @property
    def resumes(self) -> bool:
        told = is_told_by_state(self.optimizer) and beside_values(self.model) == self._first
        return told and not self._recipe.beginning.is_left

    def state(self) -> dict[str, Any]:
        return {"tensors": held(self.model), "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        own = held(self.model)
        for name, kept in state["tensors"].items():
            if name in own:  # a buffer may be made by a forward pass only
                own[name].copy_(kept)
        self.optimizer.load_state_dict(state["optimizer"])


def held(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a model by their names, those included that ``state_dict`` leaves out."""
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def beside_values(model: nn.Module) -> dict[str, Any]:
    """What else of a model may move in training: which tensors it holds, and attributes that are counters or names."""
    plain = {
        f"{part}.{name}": value
        for part, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str))
    }
    return plain | dict.fromkeys(held(model))


def is_told_by_state(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the ``state_dict`` of an optimizer is all that its next steps depend on.

    Not so with hooks, with a schedule (which takes the place of its ``step``), with a class of somebody's own, and with
    attributes that a new one of its class does not have.
    """
    kind: Any = type(optimizer)
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks or "step" in vars(optimizer):
        return False
    if kind.__module__.split(".")[:2] != PLAIN.split("."):
        return False
    fresh = kind([nn.Parameter(torch.zeros(1, 1))], lr=1e-3)
    return vars(optimizer).keys() <= vars(fresh).keys() | OF_FUSED
