"""Coordinate check: how much activations and updates of every layer change with the width (arXiv:2203.03466, App. D.1).

For each layer ``a W x`` of a network, at step t against the initialisation,

    a W_t x_t - a W_0 x_0 = a (W_t - W_0) x_t + a W_0 (x_t - x_0),

the *effective* update by the layer's own weights and the *propagating* update by its moved input. Vectors of
transformers are layers, too: of a bias, whose output is its input plus its weight, and of embeddings that are added to
the input, the effective update is the change of the weight, and the propagating one that of the input; a gain is a
diagonal matrix. Each part is given as its root mean square over batch, tokens, units and places; a parameterization
that transfers learning rates keeps them constant in the width.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        part: the role of a matrix; what a vector is (``bias``, ``gain``, ``positions``, ``token``, ``lookup``).
        activation: of its output at step t.
        update: of the change of the output since the initialisation.
        effective, propagating: of the two parts of that change.
    """

    name: str
    role: LayerRole
    part: str
    activation: Tensor
    update: Tensor
    effective: Tensor
    propagating: Tensor


@dataclass(frozen=True)
class Snapshot:
    """Layer -> weight, input and output on one batch, in the order of their use; the features at every node."""

    weights: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    features: list[Tensor]


@torch.no_grad()
def snapshot(network: Network, x: Tensor, kept: bool = True) -> Snapshot:
    """What :func:`compare` needs to know of a network at one step.

    ``x`` is the batch, ``[E, B, C, H, W]`` or ``[E, B, T]``, or with ``S`` in the place of ``E`` where members share.
    One that is ``kept`` while the network goes on learning has copies of the weights.
    """
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_layer: Weighted, arguments: tuple[Tensor], output: Tensor) -> None:
            inputs[name], outputs[name] = arguments[0], output

        return hook

    layers = network.weighted
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    features, h = [], x
    try:
        for module in network:
            h = module(h)
            features.append(h)
    finally:
        for hook in hooks:
            hook.remove()
    weights = {name: layers[name].weight.detach() for name in outputs}
    if kept:
        weights = {name: weight.clone() for name, weight in weights.items()}
    return Snapshot(weights, inputs, outputs, features)


@torch.no_grad()
def compare(network: Network, now: Snapshot, start: Snapshot) -> list[LayerCoordinates]:
    """Activations and updates of every layer, in the order of their use, between two snapshots on one batch."""
    found, layers = [], network.weighted
    for name in now.outputs:
        layer, update = layers[name], now.outputs[name] - start.outputs[name]
        if torch.equal(now.inputs[name], start.inputs[name]):
            effective, propagating = update, torch.zeros_like(update)
        else:  # the second part is what the first leaves: the layer is affine in both
            effective = layer.added_by(now.weights[name] - start.weights[name], now.inputs[name])
            propagating = update - effective
        parts = (now.outputs[name], update, effective, propagating)
        sizes = (member_rms(network.by_member(part)) for part in parts)
        found.append(LayerCoordinates(name, layer.role, layer.part, *sizes))
    return found


def feature_update(network: Network, now: Snapshot, start: Snapshot) -> Tensor:
    """Root mean square ``[E]`` of the change of the last hidden features, skip connections included."""
    return member_rms(network.by_member(now.features[-2] - start.features[-2]))


def member_rms(values: Tensor) -> Tensor:
    """Root mean square ``[E]`` of each member, over all but the first dimension of ``[E, ...]``."""
    return values.double().square().flatten(1).mean(1).sqrt()
