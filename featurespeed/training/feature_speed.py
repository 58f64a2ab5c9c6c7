"""The feature speed formula (arXiv:2311.18718, Thm 2.1) on a network in training.

Under the learning rates of its layers, or in the optimizer's form: the weights move by the optimizer's own update.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from featurespeed.models.layers import Weighted
from featurespeed.models.networks import Network
from featurespeed.probes.feature_speed import FeatureSpeed, measure_feature_speed
from featurespeed.training.ensemble import LOSSES, Ensemble
from featurespeed.training.spec import OptimizerSpec

Batch = tuple[Tensor, Tensor]  # x [B, C, H, W], y [B], or tokens and answers [B, T] each


def cut_rates(network: Network) -> list[float] | None:
    """Factor on the learning rate of each cut of the chain, frozen ones included: that of the role of its layers. None
    if the layers between two cuts have different ones, as those of a transformer do under Adam.
    """
    factors = [{m.rule.lr_scale for m in module.modules() if isinstance(m, Weighted)} for module in network]
    return [next(iter(own)) for own in factors] if all(len(own) == 1 for own in factors) else None


def feature_speed_of(network: Network, loss: str, batch: Batch, learning_rate: float) -> FeatureSpeed:
    """Feature speed, angle and loss decay at every cut node of a network of one member.

    Every weight moves against its gradient on this batch, at its own learning rate.

    Args:
        network: of one member.
        loss: its name.
        batch: ``x [B, C, H, W], y [B]``, or tokens and answers ``[B, T]`` each.
        learning_rate: base learning rate; each layer's factor comes on top.

    Raises:
        FloatingPointError: the loss or a gradient is not finite.
    """
    factors = cut_rates(network)
    if factors is not None:
        return _measured(network, loss, batch, learning_rates=[learning_rate * factor for factor in factors])
    ensemble = Ensemble(network, OptimizerSpec(), [learning_rate], loss)  # for its gradients
    x, y = batch
    gradients = dict(zip(ensemble.optimizer.names, ensemble.gradients(x[None], y[None])[1], strict=True))
    rates = {name: learning_rate * network.weighted[name].rule.lr_scale for name in gradients}
    return feature_speed_in(network, loss, batch, {name: -rates[name] * g for name, g in gradients.items()})


def feature_speed_in(network: Network, loss: str, batch: Batch, update: Mapping[str, Tensor]) -> FeatureSpeed:
    """The same while the weights move by an update: the optimizer's form of the formula
    (:mod:`featurespeed.probes.feature_speed`). Time counts updates.

    Args:
        network: of one member.
        loss, batch: of which gradients and backward passes are taken; the update may come from another batch.
        update: layer -> change of its weight.
    """
    velocities = {network.weighted[name].weight: change for name, change in update.items()}
    return _measured(network, loss, batch, velocities=velocities)


def next_update(
    network: Network,
    loss: str,
    batch: Batch,
    optimizer: OptimizerSpec,
    learning_rate: float,
    state: Mapping[str, Mapping[str, Tensor]],
    step: int,
) -> dict[str, Tensor]:
    """Layer -> what the optimizer adds to its weight in the update that follows ``step`` others; of one member.

    The optimizer itself is run, on a copy in the precision of the network. Adam's update is ``-eta lr_scale m' /
    (sqrt(v') + eps)``, where ``m'`` and ``v'`` are the corrected means with this batch taken in; its first one is
    ``-eta lr_scale g / (|g| + eps)``.

    Args:
        network: as it is after ``step`` updates; it is left alone.
        batch: that of the update.
        state: of the optimizer after ``step`` updates, slot -> layer -> ``[1, ...]``; empty for SGD without momentum,
            and before the first update.

    Raises:
        FloatingPointError: the gradient is not finite.
    """
    copy = network.take([0])
    ensemble = Ensemble(copy, optimizer, [learning_rate], loss)
    for slot, mine in ensemble.optimizer.moments().items():
        for name, kept in state.get(slot, {}).items():
            mine[name].copy_(kept)
    before = {name: layer.weight.detach().clone() for name, layer in copy.weighted.items()}
    x, y = batch
    ensemble.step(x[None], y[None], step)
    found = {name: copy.weighted[name].weight.detach() - before[name] for name in ensemble.optimizer.names}
    if not all(torch.isfinite(change).all() for change in found.values()):
        raise FloatingPointError("the gradient of the network is not finite")
    return found


def _measured(network: Network, loss: str, batch: Batch, **motion) -> FeatureSpeed:
    x, y = batch
    return measure_feature_speed(
        list(network), lambda outputs, labels: LOSSES[loss](outputs, labels).sum(), (x[None], y[None]), **motion
    )
