"""Losses of outputs and their derivatives, against automatic differentiation and PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from featurespeed.homogeneous.losses import OUTPUT_LOSSES, AnyLoss
from featurespeed.randomness import generator

EXACT = torch.float64


@pytest.mark.parametrize("name", OUTPUT_LOSSES)
def test_derivatives_of_losses_are_those_of_automatic_differentiation(name):
    loss, stream = OUTPUT_LOSSES[name], generator(5, name)
    z, u, v = (2 * torch.randn(4, 6, 5, dtype=EXACT, generator=stream) for _ in range(3))
    y = torch.randint(5, (4, 6), generator=stream)
    for member in range(4):
        one = AnyLoss(lambda outputs, targets: loss.value(outputs[None], targets[None])[0])
        place, own = slice(member, member + 1), (z[member : member + 1], y[member])
        pairs = [
            (loss.gradient(z, y)[place], one.gradient(*own)),
            (loss.second(z, y, u, v)[place], one.second(*own, u[place], v[place])),
            (loss.third(z, y, u)[place], one.third(*own, u[place])),
        ]
        for mine, wanted in pairs:
            assert torch.allclose(mine, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("name", "function"), [("cross_entropy", functional.cross_entropy), ("mse", None)])
def test_losses_are_those_of_pytorch(name, function):
    z, y = torch.randn(1, 6, 5, dtype=EXACT, generator=generator(5, "z")), torch.tensor([[0, 4, 2, 2, 1, 3]])
    squares = 5 / 2 * functional.mse_loss(z[0], functional.one_hot(y[0], 5).double())
    wanted = function(z[0], y[0]) if function else squares
    assert float(OUTPUT_LOSSES[name].value(z, y)) == pytest.approx(float(wanted), rel=1e-14)


def test_cross_entropy_of_a_perfect_fit_has_no_curvature_and_huge_outputs_are_finite():
    loss, y = OUTPUT_LOSSES["cross_entropy"], torch.zeros(1, 2, dtype=torch.int64)
    z, u = torch.tensor([[[800.0, -800.0, 0.0]] * 2], dtype=EXACT), torch.ones(1, 2, 3, dtype=EXACT).cumsum(2)
    assert float(loss.value(z, y)) == 0 and float(loss.second(z, y, u, u)) == 0 and float(loss.third(z, y, u)) == 0


def test_a_function_that_is_linear_or_quadratic_in_the_outputs_has_zero_higher_derivatives():
    z, u = (torch.randn(1, 4, 3, dtype=EXACT, generator=generator(6, name)) for name in "zu")
    linear, quadratic = AnyLoss(lambda z, y: z.sum()), AnyLoss(lambda z, y: z.square().sum())
    assert float(linear.second(z, None, u, u)) == float(linear.third(z, None, u)) == 0
    assert float(quadratic.second(z, None, u, u)) == pytest.approx(2 * u.square().sum().item())
    assert float(quadratic.third(z, None, u)) == 0
