"""The backward-to-feature kernel (BFK) of arXiv:2311.18718, Sec. 3: ``K_v = sum_{l <= v} eta_l J_{v,l} J_{v,l}^T``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from featurespeed.probes.chain import Chain


def backward_feature_kernel(layers: Sequence[nn.Module], x: Tensor, learning_rates: Sequence[float] | Tensor) -> Tensor:
    """Kernel at the output of ``layers``, ``[m_v, m_v]`` with ``m_v`` the number of entries of that output.

    ``df_v/dt = -K_v b_v``; at the network's own output it is the neural tangent kernel (with ``learning_rates`` 1).
    Only parameters that require a gradient count. Memory is ``m_v`` times the number of parameters.

    Raises:
        ValueError: not one learning rate a layer.
    """
    chain = Chain(layers)
    if len(learning_rates) != len(chain.layers):
        raise ValueError(f"learning_rates: {len(learning_rates)} given, allowed: one a layer, {len(chain.layers)}")
    rates = [float(rate) for rate in learning_rates]

    def output(parameters: list[dict[str, Tensor]]) -> Tensor:
        return chain.features(parameters, x)[-1].flatten()

    value, pullback = vjp(output, chain.parameters)[:2]

    def apply(vector: Tensor) -> Tensor:
        velocity = [
            {name: rate * g for name, g in layer.items()}
            for rate, layer in zip(rates, pullback(vector)[0], strict=True)
        ]
        return jvp(output, (chain.parameters,), (velocity,))[1]

    return vmap(apply)(torch.eye(len(value), dtype=value.dtype, device=value.device))


@dataclass(frozen=True)
class KernelSummary:
    """What Thm 3.2 needs of a kernel.

    Attributes:
        ratio: ``M_1/sqrt(M_2)`` with ``M_p = tr(K^p)/m``: the limit of the cosine for a backward pass that is Gaussian
            and independent of the kernel.
        condition: ``lambda_min/lambda_max``, a lower bound of the cosine for any backward pass.
    """

    ratio: float
    condition: float


def summarize_kernel(kernel: Tensor) -> KernelSummary:
    """Spectral summary of a symmetric positive semidefinite kernel ``[m, m]`` (Thm 3.2)."""
    eigenvalues = torch.linalg.eigvalsh(kernel)
    ratio = eigenvalues.mean() / eigenvalues.square().mean().sqrt()
    return KernelSummary(float(ratio), float(eigenvalues[0].clamp(min=0.0) / eigenvalues[-1]))


def cos_bfa_of_kernel(kernel: Tensor, backward: Tensor) -> float:
    """``cos theta = <b, K b> / (|b| |K b|)`` for a backward pass ``b [m]``."""
    speed = kernel @ backward
    return float(torch.dot(speed, backward) / (speed.norm() * backward.norm()))
