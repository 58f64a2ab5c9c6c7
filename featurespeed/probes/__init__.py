"""Probes: they take a network and a batch, and know nothing of training."""

from featurespeed.probes.feature_speed import FeatureSpeed, backward_feature_angle, measure_feature_speed

__all__ = ["FeatureSpeed", "backward_feature_angle", "measure_feature_speed"]
