"""Small float64 networks of four kinds, their batches and losses: one table of cases for all tests of the probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featurespeed.models.mlp import Linear, ResidualBlock, build_residual_mlp
from featurespeed.probes.chain import Chain, descent_velocity
from featurespeed.probes.residual_mlp import DenseNetwork
from featurespeed.randomness import generator

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64, the same for the same shape and seed."""
    return torch.randn(*shape, generator=generator(seed, "tests", *shape), dtype=DOUBLE)


def quadratic(outputs: Tensor, targets: Tensor) -> Tensor:
    """``|f - y|^2 / 2`` summed over the batch."""
    return (outputs - targets).square().sum() / 2


def linear_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """``<f, y>``, whose gradient does not depend on the network."""
    return (outputs * targets).sum()


class TinyAttention(nn.Module):
    """Pre-norm self-attention with a residual MLP on ``[n, tokens, width]``, written out in matrix products."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, f: Tensor) -> Tensor:
        z = self.norm(f)
        scores = self.query(z) @ self.key(z).transpose(-1, -2) / z.shape[-1] ** 0.5
        f = f + scores.softmax(-1) @ self.value(z)
        return f + self.mlp(f)


def residual(branch_scale: float, seed: int = 0, **options) -> nn.Sequential:
    """A residual MLP of width 12 and depth 6 with 3 outputs, all layers trained, unless ``options`` say otherwise."""
    sizes = {"width": 12, "depth": 6, "input_dim": 5, "output_dim": 3, "readout_std": 0.3} | options
    stream = generator(seed, "tests", "weights")
    return build_residual_mlp(branch_scale=branch_scale, generator=stream, dtype=DOUBLE, **sizes)


def _seeded(build: Callable[[], nn.Sequential], seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double()


def _convnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4)),
        nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3)),
        nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)),
    )


def _transformer() -> nn.Sequential:
    readout = nn.Sequential(nn.LayerNorm(8), nn.Flatten(), nn.Linear(5 * 8, 3))
    return nn.Sequential(nn.Linear(4, 8), TinyAttention(8), TinyAttention(8), readout)


@dataclass(frozen=True)
class Case:
    """A chain of layers with a batch of inputs and a loss."""

    build: Callable[[int], nn.Sequential]
    inputs: Tensor
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        return self.inputs, self.targets


_CLASSES = torch.tensor([0, 2, 1, 2])
CASES: dict[str, Case] = {
    "MLP": Case(lambda seed: residual(1.0, seed), normal(4, 5), normal(4, 3), quadratic),
    "ResNet": Case(lambda seed: residual(6**-0.5, seed), normal(4, 5), normal(4, 3), quadratic),
    "ConvNet": Case(lambda seed: _seeded(_convnet, seed), normal(4, 2, 6, 6), _CLASSES, nn.CrossEntropyLoss()),
    "transformer": Case(lambda seed: _seeded(_transformer, seed), normal(4, 5, 4), _CLASSES, nn.CrossEntropyLoss()),
}


def descend(layers: nn.Sequential, case: Case, learning_rates: Tensor, steps: int = 1) -> None:
    """Layer-wise gradient descent in place."""
    for _ in range(steps):
        chain = Chain(layers)
        gradients = chain.backward(chain.parameters, *case.batch, case.loss)[2]
        for layer, velocity in zip(layers, descent_velocity(gradients, learning_rates), strict=True):
            for name, change in velocity.items():
                layer.get_parameter(name).data += change


def frozen_ends(layers: nn.Sequential) -> nn.Sequential:
    """The same layers with embedding and readout frozen, as in the paper's figures."""
    for layer in (layers[0], layers[-1]):
        layer.requires_grad_(False)
    return layers


def as_modules(network: DenseNetwork, branch_scale: float, readout_std: float) -> nn.Sequential:
    """One series of a dense draw as a chain of modules, embedding and readout frozen."""
    blocks = [ResidualBlock(weight.clone(), branch_scale) for weight in network.hidden]
    return frozen_ends(nn.Sequential(Linear(network.input_weight), *blocks, Linear(readout_std * network.readout)))
