"""Predictions for the backward-feature angle that are drawn over the measurements (ours, not the paper's)."""

from featurespeed.theory.infinite_width import (
    INVERSE_COS2_TAIL,
    cos_bfa_recursion,
    inverse_cos2_limit,
    mlp_mean_inverse_cos2,
    phi_limit,
    sample_mlp_cos_bfa,
)

__all__ = [
    "INVERSE_COS2_TAIL",
    "cos_bfa_recursion",
    "inverse_cos2_limit",
    "mlp_mean_inverse_cos2",
    "phi_limit",
    "sample_mlp_cos_bfa",
]
