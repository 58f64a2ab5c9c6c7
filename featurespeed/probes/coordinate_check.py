"""Coordinate check: how much activations and updates of every layer change with the width (arXiv:2203.03466, App. D.1).

For each layer ``a W x`` of a network, at step t against the initialisation,

    a W_t x_t - a W_0 x_0 = a (W_t - W_0) x_t + a W_0 (x_t - x_0),

the *effective* update by the layer's own weights and the *propagating* update by its moved input. Each is given as its
root mean square over batch, units and places; a parameterization that transfers learning rates keeps them constant in
the width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from featurespeed.models.layers import Weighted
from featurespeed.models.networks import Network
from featurespeed.parameterization import LayerRole


@dataclass(frozen=True)
class LayerCoordinates:
    """Root mean squares at one layer, ``[E]`` each, one number a member.

    Attributes:
        name, role: of the layer.
        activation: of its output ``a W_t x_t``.
        update: of the change of the output since the initialisation.
        effective, propagating: of the two parts of that change.
    """

    name: str
    role: LayerRole
    activation: Tensor
    update: Tensor
    effective: Tensor
    propagating: Tensor


@dataclass(frozen=True)
class Snapshot:
    """Weights, and the inputs and outputs of every layer on one batch, layer by layer; the features at every node."""

    weights: list[Tensor]
    inputs: list[Tensor]
    outputs: list[Tensor]
    features: list[Tensor]


@torch.no_grad()
def snapshot(network: Network, x: Tensor) -> Snapshot:
    """What :func:`compare` needs to know of a network at one step, on the batch ``x [E, B, C, H, W]``."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(layer: Weighted, arguments: tuple[Tensor], output: Tensor) -> None:
        inputs.append(arguments[0])
        outputs.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in network.weighted.values()]
    features, h = [], x
    try:
        for module in network:
            h = module(h)
            features.append(h)
    finally:
        for hook in hooks:
            hook.remove()
    weights = [layer.weight.detach().clone() for layer in network.weighted.values()]
    return Snapshot(weights, inputs, outputs, features)


@torch.no_grad()
def compare(network: Network, now: Snapshot, start: Snapshot) -> list[LayerCoordinates]:
    """Activations and updates of every layer between two snapshots of one network on one batch."""
    found = []
    for index, (name, layer) in enumerate(network.weighted.items()):
        update = now.outputs[index] - start.outputs[index]
        if torch.equal(now.inputs[index], start.inputs[index]):
            effective, propagating = update, torch.zeros_like(update)
        else:  # the second part is what the first leaves: the layer is linear in both
            effective = layer.apply_weight(now.weights[index] - start.weights[index], now.inputs[index])
            propagating = update - effective
        found.append(
            LayerCoordinates(
                name,
                layer.role,
                activation=member_rms(now.outputs[index], network.members),
                update=member_rms(update, network.members),
                effective=member_rms(effective, network.members),
                propagating=member_rms(propagating, network.members),
            )
        )
    return found


def feature_update(now: Snapshot, start: Snapshot, members: int) -> Tensor:
    """Root mean square ``[E]`` of the change of the last hidden features, skip connections included."""
    return member_rms(now.features[-2] - start.features[-2], members)


def member_rms(values: Tensor, members: int) -> Tensor:
    """Root mean square of each member; vectors ``[E, B, n]`` or images ``[B, E * C, H, W]``."""
    if values.ndim == 4:
        values = values.unflatten(1, (members, -1)).transpose(0, 1)
    return values.double().square().flatten(1).mean(1).sqrt()
