"""A chain at one point: features, backward pass, gradients, and how fast the features move with the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from featurespeed.measuring.batches import Part
from featurespeed.measuring.context import REPLACEMENTS, Replacing, reached_from
from featurespeed.measuring.errors import MeasurementError, refused_by_torch
from featurespeed.measuring.model import calling, scalar, takes_batch
from featurespeed.measuring.norms import inner, norm
from featurespeed.measuring.passes import check_same
from featurespeed.measuring.state import Containers
from featurespeed.measuring.trees import duplicate
from featurespeed.probes.chain import Chain, derivatives, leaves_of

#: Factors on the loss that keep derivatives in float16 away from 0, tried one after the other until none overflows.
LOSS_SCALES = [2.0**power for power in range(16, -17, -4)]


def descend(chain: Chain, part: Part, loss: Callable[..., Any]) -> Descent:
    """Features, backward pass and gradients of a chain on a batch, inside ``evaluation``.

    Raises:
        MeasurementError: a model, a loss or a batch that cannot be measured.
        FloatingPointError: features, loss or gradients that are not finite.
    """
    run = _Run(chain, part, loss)
    for scale in LOSS_SCALES if torch.float16 in run.precisions else [1.0]:
        descent = Descent(run, scale)
        if descent.finite:
            return descent
    raise FloatingPointError("the outputs or the gradients of the network are not finite")


class Descent:
    """What gradient descent, or any other motion of the parameters, does to a chain at one point.

    A motion is the velocity of each parameter that moves, by the ``id`` of the parameter.

    Attributes:
        features, backward: ``[f_1, ..., f_L]`` and ``scale`` times ``[b_1, ..., b_L]``.
        scale: factor on the loss, by which derivatives do not underflow.
        norms: norm of the gradient of each layer's own parameters; a shared one belongs to the first that uses it.
        finite: whether all of it is.
    """

    def __init__(self, run: _Run, scale: float):
        self._run, self.scale, self.features = run, scale, run.features
        self.backward, self._through = run.derivatives(scale)
        self._sources = run.chain.sources
        self._owner: dict[int, int] = {}
        self._whole: dict[int, Tensor] = {}
        for index, (layer, gradients) in enumerate(zip(self._sources, self._through, strict=True)):
            for name, parameter in layer.items():
                self._owner.setdefault(id(parameter), index)
                before = self._whole.get(id(parameter))
                self._whole[id(parameter)] = gradients[name] if before is None else before + gradients[name]
        self.norms = [self._norm_of(index) / scale for index in range(len(self._sources))]
        self.finite = all(map(math.isfinite, self.norms)) and all(
            bool(torch.isfinite(vector).all()) for vector in (*self.features, *self.backward)
        )

    def contributions(self, rates: Sequence[float]) -> list[float]:
        """What each layer adds to the decay of the loss when every parameter moves at the rate of its owner."""
        if len(self._owner) == sum(map(len, self._sources)):  # no parameter is shared
            return [rate * size * size for rate, size in zip(rates, self.norms, strict=True)]
        found = []
        for layer, through in zip(self._sources, self._through, strict=True):
            terms = [
                rates[self._owner[id(p)]] * inner(through[name], self._whole[id(p)]) / self.scale**2
                for name, p in layer.items()
            ]
            found.append(math.fsum(terms))
        return found

    def feature_velocities(self, rates: Sequence[float], scale: float) -> list[Tensor]:
        """``scale * [df_1/dt, ..., df_L/dt]``."""
        factors = {key: -rates[owner] * scale / self.scale for key, owner in self._owner.items()}
        return self._moved({key: _times(gradient, factors[key]) for key, gradient in self._whole.items()})

    def contributions_in(self, motion: Mapping[int, Tensor]) -> list[float]:
        """What each layer adds to the decay of the loss in a motion, ``-<dw, gradient through it>``; of either sign."""
        return [
            -math.fsum(inner(through[name], motion[id(p)]) / self.scale for name, p in layer.items() if id(p) in motion)
            for layer, through in zip(self._sources, self._through, strict=True)
        ]

    def feature_velocities_in(self, motion: Mapping[int, Tensor], scale: float) -> list[Tensor]:
        """``scale * [df_1/dt, ..., df_L/dt]`` in a motion."""
        still = {id(p): torch.zeros_like(p.detach()) for layer in self._sources for p in layer.values()}
        return self._moved(still | {key: _times(velocity, scale) for key, velocity in motion.items()})

    def _moved(self, motion: Mapping[int, Tensor]) -> list[Tensor]:
        return self._run.velocities([{name: motion[id(p)] for name, p in layer.items()} for layer in self._sources])

    def _norm_of(self, layer: int) -> float:
        return norm(*(self._whole[key] for key, owner in self._owner.items() if owner == layer))


class _Run:
    """A batch on its way through a chain: with which arguments the chain is called, and its features."""

    def __init__(self, chain: Chain, part: Part, loss: Callable[..., Any]):
        self.chain, self._part, self._loss = chain, part, loss
        self._takes_batch = takes_batch(loss)
        self._containers = Containers(module for layer in chain.layers for module in layer.modules())
        self._calls: list[tuple[tuple, dict[str, Any]]] = []
        self.features = self._first_pass()

    @property
    def precisions(self) -> set[torch.dtype]:
        """Of weights and features."""
        weights = (p for layer in self.chain.parameters for p in layer.values())
        return {tensor.dtype for tensor in (*weights, *self.features)}

    def derivatives(self, scale: float) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """``([b_1, ..., b_L], gradients)`` of ``scale`` times the loss."""
        zeros = [torch.zeros_like(f, requires_grad=True) for f in self.features]
        leaves = leaves_of(self.chain.parameters)
        with torch.enable_grad():
            value, (features,) = self._value_and_features(leaves, zeros)
        check_same("layers", features, self.features)
        check_same("loss", [value], [self._value])
        if not torch.isfinite(value.detach()):
            raise FloatingPointError("the loss of the network is not finite")
        if not value.requires_grad:
            raise MeasurementError(
                "loss: no operation of PyTorch connects its value with the outputs, allowed: a value that can be"
                " differentiated (no detach, item, no_grad or constant)"
            )
        if reached_from([value]) & {id(p) for layer in self.chain.sources for p in layer.values()}:
            raise MeasurementError("loss: it takes weights of the chain, allowed: a function of outputs and targets")
        return derivatives(value * scale, zeros, leaves)

    def velocities(self, weight_velocity: list[dict[str, Tensor]]) -> list[Tensor]:
        """``[df_1/dt, ..., df_L/dt]``."""
        args, kwargs = self._calls[0]
        try:
            self._containers.restore()
            return self.chain.velocity_of(self.chain.parameters, weight_velocity, duplicate(args), duplicate(kwargs))
        except AssertionError as error:  # PyTorch's, about what has no forward-mode derivative
            raise MeasurementError(refused_by_torch(error)) from error

    def _first_pass(self) -> list[Tensor]:
        if not self._takes_batch:
            self._calls.append(self.chain.arguments(self._part.inputs))
        self._value, found = self._value_and_features(self.chain.parameters, ())
        if len(found) != 1:
            raise MeasurementError(f"loss: called the model {len(found)} times, allowed: once")
        return found[0]

    def _value_and_features(
        self, parameters: list[dict[str, Tensor]], perturbations: Sequence[Tensor]
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """The loss, and the features of every call of the chain."""
        found: list[list[Tensor]] = []

        def model(*args: Any, **kwargs: Any) -> Tensor:
            self._calls.append((args, kwargs))
            found.append(self._features(parameters, perturbations, args, kwargs))
            return found[-1][-1]

        with Replacing(REPLACEMENTS):
            if self._takes_batch:
                value = self._called(model, duplicate(self._part.whole))
            else:
                found.append(self._features(parameters, perturbations, *self._calls[0]))
                value = self._called(found[0][-1].clone(), duplicate(self._part.targets))
        return scalar(value), found

    def _features(
        self, parameters: list[dict[str, Tensor]], perturbations: Sequence[Tensor], args: tuple, kwargs: dict[str, Any]
    ) -> list[Tensor]:
        with calling("model", args[0] if len(args) == 1 and not kwargs else args or kwargs):
            self._containers.restore()
            return self.chain.run(parameters, perturbations, duplicate(args), duplicate(kwargs))

    def _called(self, *arguments: Any) -> Any:
        with calling("loss", arguments[-1] if self._takes_batch else arguments[0]):
            return self._loss(*arguments)


def _times(tensor: Tensor, factor: float) -> Tensor:
    """A multiple by any factor, rounded once."""
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return (tensor.to(wide) * factor).to(tensor.dtype)
