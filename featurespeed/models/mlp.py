"""The residual MLP of the first paper; with branch scale 1 it is the plain MLP.

Depth L counts the embedding and the readout. Example: ``depth=4`` is ``f_1 = W_1 x``, ``f_2`` and ``f_3`` hidden,
``f_4 = W_4 f_3``: two residual blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    # activation, and the gain that keeps the norm: E[phi(z)^2] * gain = E[z^2] for centred Gaussian z
    "relu": (torch.relu, 2.0),
    "linear": (lambda z: z, 1.0),
}


def hidden_std(width: int, activation: str = "relu") -> float:
    """Standard deviation ``sqrt(gain/m)`` of hidden weights that keeps the norm of the signal."""
    return math.sqrt(ACTIVATIONS[activation][1] / width)


class Linear(nn.Module):
    """``x -> W x`` on row vectors ``[n, fan_in]``; no bias."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


class ResidualBlock(nn.Module):
    """``f -> sqrt(1 - beta^2) f + beta W phi(f)`` (arXiv:2311.18718, Sec. 5); ``beta = 1`` is an MLP layer."""

    def __init__(self, weight: Tensor, branch_scale: float = 1.0, activation: str = "relu"):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.branch_scale = branch_scale
        self.skip_scale = math.sqrt(1.0 - branch_scale**2)
        self.activation = ACTIVATIONS[activation][0]

    def forward(self, f: Tensor) -> Tensor:
        return self.skip_scale * f + self.branch_scale * self.activation(f) @ self.weight.T


def build_residual_mlp(
    width: int,
    depth: int,
    *,
    input_dim: int,
    output_dim: int = 1,
    branch_scale: float = 1.0,
    readout_std: float | None = None,
    activation: str = "relu",
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Residual MLP with independent Gaussian weights; entry ``l - 1`` of the result is layer ``l`` of ``1..depth``.

    Embedding std ``1/sqrt(input_dim)``, hidden std ``sqrt(2/width)`` (ReLU), readout std ``readout_std``
    (default ``1/width``). Source: arXiv:2311.18718, Sec. 5 and Fig. 1.

    Raises:
        ValueError: depth below 3, or a branch scale outside [0, 1].
    """
    if depth < 3:
        raise ValueError(f"depth = {depth}: must be at least 3 (embedding, hidden layer, readout)")
    if not 0.0 <= branch_scale <= 1.0:
        raise ValueError(f"branch_scale = {branch_scale}: must lie in [0, 1]")

    def draw(rows: int, columns: int, std: float) -> Tensor:
        device = generator.device
        return torch.empty(rows, columns, dtype=dtype, device=device).normal_(0.0, std, generator=generator)

    std = hidden_std(width, activation)
    blocks = [ResidualBlock(draw(width, width, std), branch_scale, activation) for _ in range(depth - 2)]
    readout = draw(output_dim, width, 1.0 / width if readout_std is None else readout_std)
    return nn.Sequential(Linear(draw(width, input_dim, input_dim**-0.5)), *blocks, Linear(readout))
