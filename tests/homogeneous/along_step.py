"""What the coefficients have to be, by plain automatic differentiation of a module in float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from featurespeed.homogeneous.taylor import TaylorCoefficients


def linear(into: int, out: int) -> nn.Linear:
    return nn.Linear(into, out, bias=False)


def plain() -> nn.Sequential:
    """Three layers, float64."""
    torch.manual_seed(3)
    return nn.Sequential(linear(4, 9), nn.ReLU(), linear(9, 7), nn.ReLU(), linear(7, 3)).double()


def batch() -> tuple[Tensor, Tensor]:
    """Inputs ``[6, 4]``, float64, and classes."""
    torch.manual_seed(5)
    return torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 2, 1, 0])


def coefficients_of(
    module: nn.Module,
    x: Tensor,
    y: Any,
    loss: Callable[[Tensor, Any], Tensor] = functional.cross_entropy,
    factors: Sequence[float] | None = None,
) -> list[float]:
    """``c0 .. c3`` of ``s -> L(W - s xi G)``: the real module, whose parameters move if they require a gradient.

    Args:
        factors: ``xi`` of those that move, 1 if not given.
    """
    module = copy.deepcopy(module).double().eval()
    weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
    x = x.detach().double()
    gradients = torch.autograd.grad(loss(module(x), y), list(weights.values()))
    factors = [1.0] * len(gradients) if factors is None else factors
    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = {
        name: w.detach() - step * factor * g
        for (name, w), factor, g in zip(weights.items(), factors, gradients, strict=True)
    }
    found = [loss(functional_call(module, moved, (x,)), y)]
    for _ in range(3):
        found.append(torch.autograd.grad(found[-1], step, create_graph=True)[0])
    return [float(value.detach()) / math.factorial(p) for p, value in enumerate(found)]


def numbers(found: TaylorCoefficients) -> list[float]:
    """``c0 .. c3`` of one network."""
    return [float(value) for value in (found.c0, found.c1, found.c2, found.c3)]
