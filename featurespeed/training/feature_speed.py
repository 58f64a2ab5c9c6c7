"""The feature speed formula (arXiv:2311.18718, Thm 2.1) on a network in training, under its own learning rates."""

from __future__ import annotations

from torch import Tensor

from featurespeed.models.layers import Weighted
from featurespeed.models.networks import Network
from featurespeed.probes.feature_speed import FeatureSpeed, measure_feature_speed
from featurespeed.training.ensemble import LOSSES


def cut_rates(network: Network) -> list[float]:
    """Factor on the learning rate of each cut of the chain, frozen ones included: that of the layer's role."""
    return [next(m.rule.lr_scale for m in module.modules() if isinstance(m, Weighted)) for module in network]


def feature_speed_of(network: Network, loss: str, batch: tuple[Tensor, Tensor], learning_rate: float) -> FeatureSpeed:
    """Feature speed, angle and loss decay at every cut node of a network of one member.

    Args:
        network: of one member.
        loss: its name.
        batch: ``x [B, C, H, W], y [B]``.
        learning_rate: base learning rate; each layer's factor comes on top.

    Raises:
        FloatingPointError: the loss or a gradient is not finite.
    """
    x, y = batch
    rates = [learning_rate * factor for factor in cut_rates(network)]
    return measure_feature_speed(
        list(network), lambda outputs, labels: LOSSES[loss](outputs, labels).sum(), (x[None], y[None]), rates
    )
