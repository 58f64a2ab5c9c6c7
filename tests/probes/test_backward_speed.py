"""The backward speed formula (arXiv:2311.18718, Prop. 6.1) for positively homogeneous networks."""

import math

import pytest
import torch
from torch import nn

from featurespeed.models.mlp import Linear
from featurespeed.probes.backward_speed import measure_backward_speed
from tests.probes.cases import DOUBLE, frozen_ends, linear_loss, normal, quadratic, residual


@pytest.mark.parametrize("branch_scale", [1.0, 0.4])
@pytest.mark.parametrize("n_inputs", [1, 4])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_backward_speed_formula_holds_for_a_linear_loss(branch_scale, n_inputs, frozen, activation):
    """``-<f_v, db_v/dt>`` equals the loss decay of the layers above v, at every cut node below a trained layer."""
    layers = residual(branch_scale, activation=activation)
    if frozen:
        frozen_ends(layers)
    result = measure_backward_speed(layers, linear_loss, (normal(n_inputs, 5), normal(n_inputs, 3)))
    moving = slice(0, 4 if frozen else 5)  # above f_{L-1} only the readout is left
    assert result.alignment.shape == (5,)
    assert float(result.formula_error[moving].max()) < 1e-10
    assert bool((result.angle[moving] < math.pi / 2).all())
    trained = torch.tensor([4, 3, 2, 1, 0] if frozen else [5, 4, 3, 2, 1], dtype=DOUBLE)
    torch.testing.assert_close(result.loss_decay_above, trained / 6, rtol=1e-12, atol=1e-15)
    if frozen:
        assert math.isnan(result.angle[-1]) and float(result.alignment[-1]) == 0


def test_formula_holds_where_activations_stand_between_the_layers():
    """ReLU units as layers of their own: more cut nodes, the same identity."""
    weights = [0.6 * normal(8, 5), 0.5 * normal(8, 8), 0.5 * normal(2, 8)]
    layers = [Linear(weights[0]), nn.ReLU(), Linear(weights[1]), nn.ReLU(), Linear(weights[2])]
    result = measure_backward_speed(layers, linear_loss, (normal(3, 5), normal(3, 2)))
    assert float(result.formula_error.max()) < 1e-10


class Tanh(nn.Module):
    """An activation that is not homogeneous."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, f):
        return torch.tanh(f) @ self.weight.T


def test_formula_fails_without_homogeneity():
    """Negative control: with tanh the identity is off by much more than rounding, below every nonlinear layer."""
    layers = [Linear(normal(8, 5)), *(Tanh(0.5 * normal(8, 8, seed=seed)) for seed in range(3)), Tanh(normal(2, 8))]
    result = measure_backward_speed(layers, linear_loss, (normal(3, 5), normal(3, 2)))
    assert float(result.formula_error.min()) > 1e-2


def test_formula_fails_with_a_bias():
    """Negative control: an affine layer is not homogeneous either."""
    layers = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    for layer in layers[::2]:
        layer.weight.data, layer.bias.data = 0.5 * normal(*layer.weight.shape), normal(*layer.bias.shape)
    result = measure_backward_speed(layers, linear_loss, (normal(3, 5), normal(3, 1)))
    assert float(result.formula_error[:3].min()) > 1e-3


def test_quadratic_loss_adds_the_velocity_of_the_outputs_gradient():
    """``-<f_v, db_v/dt> = decay above v - <f_L, db_L/dt>`` with ``db_L/dt = df_L/dt``; the angle can exceed pi/2."""
    layers = residual(0.4, output_dim=1)
    x = normal(1, 5)
    with torch.no_grad():
        output = layers(x)
    target = 1.5 * output  # f_L < y: the outputs grow, and so does their gradient along f_L
    result = measure_backward_speed(layers, quadratic, (x, target))
    # the loss decays at rate 1 (six layers contribute 1/6): df_L/dt = -1/(f_L - y), so <f_L, df_L/dt> = 2
    torch.testing.assert_close(result.alignment, result.loss_decay_above - 2.0, rtol=1e-10, atol=1e-12)
    assert bool((result.angle > math.pi / 2).all())


def test_backward_pass_moves_as_a_finite_step_says():
    """``db_1/dt`` against the backward pass after a small real step, by its inner product with the feature."""
    layers, batch, dt = residual(1.0), (normal(2, 5), normal(2, 3)), 1e-6
    alignment = measure_backward_speed(layers, linear_loss, batch).alignment[0]

    def euler_product(first):  # <f_1 at the start, b_1>
        f = first.detach().requires_grad_()
        (backward,) = torch.autograd.grad(linear_loss(layers[1:](f), batch[1]), f)
        return (start * backward).sum()

    start = layers[0](batch[0]).detach()
    before = euler_product(start)
    linear_loss(layers(batch[0]), batch[1]).backward()
    with torch.no_grad():
        for layer in layers:
            layer.weight -= dt / 6 / layer.weight.grad.square().sum() * layer.weight.grad
    after = euler_product(layers[0](batch[0]))
    assert float((before - after) / dt) == pytest.approx(float(alignment), rel=1e-4)
