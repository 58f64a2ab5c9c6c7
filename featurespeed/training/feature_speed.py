"""The feature speed formula (arXiv:2311.18718, Thm 2.1) on a network in training, under its own learning rates."""

from __future__ import annotations

import math

from torch import Tensor

from featurespeed.models.layers import Weighted
from featurespeed.models.networks import Network
from featurespeed.probes.feature_speed import FeatureSpeed, measure_feature_speed
from featurespeed.training.ensemble import LOSSES


def cut_rates(network: Network) -> list[float]:
    """Factor on the learning rate of each cut of the chain: that of the layers in it that learn, 0 if none does.

    Raises:
        ValueError: they have several; :mod:`featurespeed.training.curvature_spec` refuses to measure such networks.
    """
    return [_one_rate([m.rule.lr_scale for m in module.modules() if isinstance(m, Weighted)]) for module in network]


def _one_rate(scales: list[float]) -> float:
    rates = {scale for scale in scales if scale} or {0.0}
    if not math.isclose(min(rates), max(rates), rel_tol=1e-12):
        raise ValueError(f"layers between two cut nodes learn at the rates {sorted(rates)}; one is needed")
    return min(rates)


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
