"""The schemes of the arena: initial weights, and a factor on Adam's learning rate for every parameter.

Each compares a network with a smaller one of the same kind, the base, at which all but FSC leave everything as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.own.forward import Structure, structure_of
from featurespeed.own.function import linear_weight
from featurespeed.own.measure import measure
from featurespeed.own.roles import Role, counterparts, roles_of
from featurespeed.own.scale import Scheme, autoscale
from featurespeed.parameterization import LayerRole

Factors = dict[str, float]
MATRICES = (LayerRole.HIDDEN, LayerRole.READOUT)
CLIPPED = (0.5, 1.0)  # exponents of alignment between none and full
LOOKED_AT = 30  # steps of the base after which its alignment is measured


@dataclass(frozen=True, eq=False)
class Setting:
    """What a scheme may look at.

    Attributes:
        loss: of outputs and targets.
        batch: the first one of the seed.
        base: the network of the base size, at initialisation, with weights of the same seed.
        batches: of the seed, for schemes that train the base a little.
        rate: learning rate of Adam at which they do.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    batch: tuple[Tensor, Tensor]
    base: nn.Module
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    rate: float


def _structures(model: nn.Module, own: Setting) -> tuple[Structure, Structure]:
    return structure_of(model, own.loss, own.batch), structure_of(own.base, own.loss, own.batch)


def _roles(model: nn.Module, own: Setting) -> dict[str, Role]:
    return roles_of(model, own.base, *_structures(model, own))


def standard(model: nn.Module, own: Setting) -> Factors:
    """SP: PyTorch's initialisation, one learning rate."""
    return {name: 1.0 for name, _ in model.named_parameters()}


def _per_layer(exponent: float) -> Callable[[nn.Module, Setting], Factors]:
    """SP with rates that fall as a power of the fan-in at hidden layers and the readout (arXiv:2407.05872)."""

    def factors(model: nn.Module, own: Setting) -> Factors:
        return {
            name: (role.fan_in / role.base_fan_in) ** -exponent if role.role in MATRICES and not role.vector else 1.0
            for name, role in _roles(model, own).items()
        }

    return factors


def _scaled(scheme: Scheme) -> Callable[[nn.Module, Setting], Factors]:
    """What :func:`featurespeed.autoscale` says."""

    def factors(model: nn.Module, own: Setting) -> Factors:
        table = autoscale(model, own.loss, own.batch, scheme, None if scheme == "fsc" else own.base).table
        return dict(zip(table["name"], table["lr_adam"].astype(float), strict=True))

    return factors


def function_space(model: nn.Module, own: Setting) -> Factors:
    """FLeRM (arXiv:2502.17405), set once: every tensor's first step changes the outputs as that of the base does.

    What a block of the base adds is split among the blocks that stand for it in a deeper network. The authors measure
    again while training, and match a whole series.
    """
    first, second = _function_updates(model, own), _function_updates(own.base, own)
    names = counterparts(*_structures(model, own)) if list(first) != list(second) else {name: name for name in first}
    shared: dict[str, int] = {}
    for base in names.values():
        shared[base] = shared.get(base, 0) + 1
    return {
        name: second[names[name]] / shared[names[name]] / update if update > 0 else 1.0
        for name, update in first.items()
    }


def _function_updates(model: nn.Module, own: Setting) -> dict[str, float]:
    """Parameter -> root mean square change of the outputs by its first step with Adam at the learning rate 1."""
    adam = torch.optim.Adam(model.parameters(), lr=1.0)
    table = measure(model, own.loss, own.batch, optimizer=adam).parameters
    return dict(zip(table["name"], table["function_update"].astype(float), strict=True))


def measured_alignment(model: nn.Module, own: Setting) -> Factors:
    """maxP's rule with the alignment of the base, measured once after some steps: ``c = max(alpha, u)`` in SP.

    The exponent of a layer's rate in its fan-in is that of the alignment of its update with its input, before or after
    the input has moved (the closed form of the linear program for Adam, where residuals are 0).
    """
    structure, smaller = _structures(model, own)
    roles = roles_of(model, own.base, structure, smaller)
    same = [name for name, _ in model.named_parameters()] == [name for name, _ in own.base.named_parameters()]
    names = {name: name for name in roles} if same else counterparts(structure, smaller)
    exponents = _alignments(own)
    found = {}
    for name, role in roles.items():
        falls = role.role in MATRICES and not role.vector
        exponent = exponents.get(names[name].rpartition(".")[0], 1.0)
        found[name] = (role.fan_in / role.base_fan_in) ** -exponent if falls else 1.0
    return found


def _alignments(own: Setting) -> dict[str, float]:
    """Layer of the base -> ``max(alpha, u)``, between none (1/2) and full (1)."""
    import copy

    model = copy.deepcopy(own.base)
    layers = {n: m for n, m in model.named_modules() if linear_weight(m) is not None}
    before = {name: _weight(layer).clone() for name, layer in layers.items()}
    inputs = _inputs(model, layers, own.batch[0])
    adam = torch.optim.Adam(model.parameters(), lr=own.rate)
    for _, (x, y) in zip(range(LOOKED_AT), own.batches(), strict=False):
        adam.zero_grad()
        own.loss(model(x), y).backward()
        adam.step()
    moved = _inputs(model, layers, own.batch[0])
    found = {}
    for name, layer in layers.items():
        change = _weight(layer) - before[name]
        exponents = [_exponent(h, change) for h in (inputs[name], moved[name] - inputs[name])]
        known = [value for value in exponents if math.isfinite(value)]
        found[name] = min(max(max(known, default=1.0), CLIPPED[0]), CLIPPED[1])
    return found


def _weight(layer: nn.Module) -> Tensor:
    weight = linear_weight(layer)
    assert weight is not None
    return weight.detach()


@torch.no_grad()
def _inputs(model: nn.Module, layers: Mapping[str, nn.Module], x: Tensor) -> dict[str, Tensor]:
    """What every layer is given on a batch, ``[rows, in]``."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            found[name] = args[0].detach().flatten(0, -2)

        return hook

    hooks = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    model(x)
    for hook in hooks:
        hook.remove()
    return found


def _exponent(h: Tensor, change: Tensor) -> float:
    """Log of ``rms(h W^T) / (rms(h) rms(W))`` over that of the fan-in: 1/2 without alignment, 1 with all of it."""
    product = h.double() @ change.double().T
    sizes = [float(tensor.double().square().mean().sqrt()) for tensor in (product, h, change)]
    if min(sizes) <= 0:
        return math.nan
    return math.log(sizes[0] / (sizes[1] * sizes[2])) / math.log(change.shape[1])


SCHEMES: dict[str, Callable[[nn.Module, Setting], Factors]] = {
    "sp": standard,
    "ntp": _per_layer(0.5),
    "sp_full_alignment": _per_layer(1.0),
    "mup": _scaled("mup"),
    "depth_mup": _scaled("depth_mup"),
    "fsc": _scaled("fsc"),
    "flerm": function_space,
    "maxp": measured_alignment,
}
