"""A chain of layers as a function of its parameters, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from featurespeed.measuring.context import IN_MOTION, Replacing
from featurespeed.measuring.errors import MeasurementError, kind_of
from featurespeed.measuring.exchange import exchanged
from featurespeed.measuring.model import Call, checked_model, device_of, scalar
from featurespeed.measuring.trees import duplicate

CHAIN = "allowed: modules applied one after the other, such as [model.embed, *model.blocks, model.head]"


def layers_of(layers: Any) -> list[nn.Module]:
    """The layers of a chain, without wrappers.

    Raises:
        MeasurementError: a whole module, which must say what its layers are, or an entry that is none.
    """
    layers = _unwrapped(layers)
    if isinstance(layers, nn.Module) and not isinstance(layers, (nn.Sequential, nn.ModuleList)):
        children = ", ".join(name for name, _ in layers.named_children()) or "none"
        raise MeasurementError(f"layers: {type(layers).__name__} is one module (its parts: {children}), {CHAIN}")
    if not isinstance(layers, (nn.Module, Sequence)) or isinstance(layers, str):
        raise MeasurementError(f"layers: {kind_of(layers)}, {CHAIN}")
    found = [_unwrapped(layer) for layer in layers]
    for place, layer in enumerate(found, 1):
        if not isinstance(layer, nn.Module):
            raise MeasurementError(f"layers: entry {place} is {kind_of(layer)}, {CHAIN}")
    if not found:
        raise MeasurementError("layers: empty, at least one layer is needed")
    return [checked_model(layer) for layer in found]


def _unwrapped(layer: Any) -> Any:
    layer = getattr(layer, "_orig_mod", layer) if isinstance(layer, nn.Module) else layer
    return layer.module if isinstance(layer, nn.DataParallel) else layer


class Chain:
    """Features of a sequence of layers as a function of parameters and of additive perturbations of the features.

    A perturbation ``e_v`` added to ``f_v`` has the derivative ``dLoss/de_v = b_v``: one reverse pass gives the
    gradients and the backward pass at every cut node.
    """

    def __init__(self, layers: Sequence[nn.Module]):
        self.layers = list(layers)
        self.sources = [{n: p for n, p in layer.named_parameters() if p.requires_grad} for layer in self.layers]
        self.parameters = [{n: like(p, p.detach()) for n, p in layer.items()} for layer in self.sources]
        self.device = device_of(nn.ModuleList(self.layers))
        self._first = Call(self.layers[0]) if self.layers else None

    def arguments(self, x: Any) -> tuple[tuple, dict[str, Any]]:
        """Inputs as arguments of the first layer."""
        return self._first.arguments(x)

    def features(self, parameters: list[dict[str, Tensor]], x: Any, perturbations: Sequence = ()) -> list[Tensor]:
        """``[f_1, ..., f_L]``."""
        return self.run(parameters, perturbations, *self.arguments(duplicate(x)))

    def run(
        self, parameters: list[dict[str, Tensor]], perturbations: Sequence, args: tuple, kwargs: dict[str, Any]
    ) -> list[Tensor]:
        """The same from the arguments of the first layer."""
        features: list[Tensor] = []
        for index, (layer, values) in enumerate(zip(self.layers, parameters, strict=True)):
            if features:
                # A copy goes in: a layer that works in place (ReLU(inplace=True)) must not change what is before it.
                args, kwargs = (features[-1].clone(),), {}
            with exchanged(layer, {id(p): values[name] for name, p in self.sources[index].items()}):
                f = layer(*args, **kwargs)
            if not isinstance(f, Tensor):
                raise MeasurementError(
                    f"layers: entry {index + 1} ({type(layer).__name__}) returned {kind_of(f)}, allowed: one tensor"
                )
            features.append(f + perturbations[index] if perturbations else f)
        return features

    def loss_at(self, parameters: list[dict[str, Tensor]], perturbations: Sequence, x: Any, y: Any, loss: Callable):
        """The loss, a scalar, at these parameters and with these perturbations of the features."""
        return scalar(loss(self.features(parameters, x, perturbations)[-1], y))

    def backward(self, parameters: list[dict[str, Tensor]], x: Any, y: Any, loss: Callable):
        """``(features, [b_1, ..., b_L], gradients)`` of the loss at these parameters.

        Not by ``torch.func``: its reverse mode imports PyTorch's compiler first, more than a second of every process.
        """
        features = self.features(parameters, x)
        zeros = [torch.zeros_like(f, requires_grad=True) for f in features]
        with torch.enable_grad():
            leaves = leaves_of(parameters)
            value = self.loss_at(leaves, zeros, x, y, loss)
        return features, *derivatives(value, zeros, leaves)

    def velocity(self, parameters: list[dict[str, Tensor]], x: Any, weight_velocity: list[dict[str, Tensor]]):
        """``[df_1/dt, ..., df_L/dt]`` when the weights move with ``weight_velocity``; exact."""
        return self.velocity_of(parameters, weight_velocity, *self.arguments(duplicate(x)))

    def velocity_of(
        self,
        parameters: list[dict[str, Tensor]],
        weight_velocity: list[dict[str, Tensor]],
        args: tuple,
        kwargs: dict[str, Any],
    ) -> list[Tensor]:
        """The same from the arguments of the first layer."""
        with in_motion(self.layers):
            moving = [
                {name: like(p, forward_ad.make_dual(p, velocity[name])) for name, p in layer.items()}
                for layer, velocity in zip(parameters, weight_velocity, strict=True)
            ]
            tangents = [forward_ad.unpack_dual(f) for f in self.run(moving, (), args, kwargs)]
            return [torch.zeros_like(f) if v is None else v.detach() for f, v in tangents]


@contextmanager
def in_motion(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Where features move with the weights: forward-mode derivatives, without kernels that have none."""
    with forward_ad.dual_level(), Replacing(IN_MOTION):
        if any(isinstance(part, nn.RNNBase) for module in modules for part in module.modules()):
            with plain_recurrence():
                yield
        else:
            yield


@contextmanager
def plain_recurrence() -> Iterator[None]:
    """While inside, recurrent layers are made of plain operations: their kernels have no forward-mode derivative."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def like(parameter: Tensor, values: Tensor) -> Tensor:
    """Other values for a parameter, with the attributes that some libraries keep on it."""
    values.__dict__.update(parameter.__dict__)
    return values


def leaves_of(parameters: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Copies of parameters by which is differentiated."""
    return [{name: like(p, p.detach().requires_grad_()) for name, p in layer.items()} for layer in parameters]


def derivatives(value: Tensor, zeros: list[Tensor], leaves: list[dict[str, Tensor]]):
    """``([b_1, ..., b_L], gradients)`` of a loss by perturbations of the features and by parameters."""
    wanted = [*zeros, *(leaf for layer in leaves for leaf in layer.values())]
    found = torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True)
    gradients = iter(found[len(zeros) :])
    return list(found[: len(zeros)]), [{name: next(gradients) for name in layer} for layer in leaves]


def gradient_norms(gradients: list[dict[str, Tensor]], like: Tensor) -> Tensor:
    """``|grad_l|`` of each layer, ``[L]``; 0 for a layer without trained parameters."""
    return torch.stack(
        [sum((g.square().sum() for g in layer.values()), like.new_zeros(())) for layer in gradients]
    ).sqrt()


def descent_velocity(gradients: list[dict[str, Tensor]], learning_rates: Sequence[float] | Tensor):
    """``-eta_l grad_l`` for every layer, in the structure of the gradients."""
    return [
        {name: -rate * g for name, g in layer.items()} for rate, layer in zip(learning_rates, gradients, strict=True)
    ]
