"""Networks, small and readable, with ``width`` and ``depth`` as arguments."""

from featurespeed.models.mlp import build_residual_mlp

__all__ = ["build_residual_mlp"]
