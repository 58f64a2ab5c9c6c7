"""Two-layer linear network: laws, curvature and Jacobian against automatic differentiation."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import grad, jacrev

from featurespeed.parameterization import Parameterization
from featurespeed.randomness import generator
from featurespeed.theory.two_layer import (
    EXACT,
    State,
    Weights,
    compressed,
    gradient_step,
    infinite_width,
    initial_weights,
    law_step,
    least_sharpness,
    map_jacobian,
    population,
    printed_correction,
    printed_jacobian,
    regression,
    state_of,
    two_layer_net,
    uniform_weights,
)
from featurespeed.theory.two_layer_curvature import (
    dense_hessian,
    dense_parts,
    effective_map,
    flat,
    gauss_newton_eigenvalue,
    residual_bound,
    sharpness,
)

SIZES = [("MUP", 3, 5, 1.0), ("MUP", 9, 4, 2.0), ("NTP", 3, 5, 0.5), ("NTP", 9, 4, 1.0), ("SP", 7, 4, 1.0)]


def network(name: str, width: int, dim: int, gamma0: float = 1.0):
    stream = generator(3, name, width, dim)
    net = two_layer_net(Parameterization(name), width, dim, gamma0)
    inputs = torch.randn(2 * dim, dim, dtype=EXACT, generator=stream)
    targets = torch.randn(2 * dim, dtype=EXACT, generator=stream)
    return net, initial_weights(net, stream), (inputs, targets)


def relative(found, expected) -> float:
    return float((torch.as_tensor(found) - expected).norm() / torch.as_tensor(expected).norm())


def differences(first: State, second: State) -> float:
    return max(relative(a, b) for a, b in ((first.w, second.w), (first.e, second.e), (first.v, second.v)))


@pytest.mark.parametrize(("name", "width", "dim", "gamma0"), SIZES)
def test_gradient_step_is_that_of_autograd_on_the_data(name, width, dim, gamma0):
    net, weights, (x, y) = network(name, width, dim, gamma0)

    def loss(parameters):
        hidden, readout = parameters[: width * dim].view(width, dim), parameters[width * dim :]
        return ((x @ hidden.T @ readout) * net.scale / net.gamma - y).square().mean() / 2

    stepped = flat(weights) - 0.1 * net.gamma**2 * grad(loss)(flat(weights))
    quadratic = regression(x, y)
    assert relative(flat(gradient_step(net, weights, quadratic, 0.1)), stepped) < 1e-14
    assert float(quadratic.loss(effective_map(net, stepped))) == pytest.approx(float(loss(stepped)), rel=1e-13)


@pytest.mark.parametrize(("name", "width", "dim", "gamma0"), SIZES)
def test_laws_follow_gradient_descent_exactly(name, width, dim, gamma0):
    net, weights, data = network(name, width, dim, gamma0)
    for loss in (population(torch.ones(dim, dtype=EXACT)), regression(*data)):
        state, now = state_of(net, weights), weights
        for _ in range(10):
            now = gradient_step(net, now, loss, 0.05)
            state = law_step(net.coupling, state, loss, 0.05)
        assert differences(state, state_of(net, now)) < 1e-13
        first_order = law_step(net.coupling, state, loss, 0.05, second_order=False)
        assert differences(first_order, law_step(net.coupling, state, loss, 0.05)) > 1e-9


def test_batches_of_networks_and_rates_step_as_each_alone():
    net, weights, _ = network("MUP", 9, 4)
    loss, rates = population(torch.ones(4, dtype=EXACT)), torch.tensor([0.1, 0.7], dtype=EXACT)
    both = Weights(weights.hidden.repeat(2, 1, 1), weights.readout.repeat(2, 1))
    stepped = gradient_step(net, both, loss, rates)
    for index in range(2):
        alone = gradient_step(net, weights, loss, float(rates[index]))
        assert relative(stepped.hidden[index], alone.hidden) < 1e-14
        assert relative(stepped.readout[index], alone.readout) < 1e-14


def test_compressed_weights_have_the_same_trajectory():
    net, weights, data = network("NTP", 40, 4)
    small, loss = compressed(weights), regression(*data)
    assert small.hidden.shape == (5, 4)
    for _ in range(5):
        weights, small = gradient_step(net, weights, loss, 0.5), gradient_step(net, small, loss, 0.5)
    assert differences(state_of(net, small), state_of(net, weights)) < 1e-13


@pytest.mark.parametrize(("name", "width", "dim", "gamma0"), SIZES)
def test_eigenvalues_from_three_variables_are_those_of_the_dense_matrices(name, width, dim, gamma0):
    net, weights, data = network(name, width, dim, gamma0)
    for loss in (population(torch.ones(dim, dtype=EXACT)), regression(*data)):
        hessian, (gauss_newton, residual) = dense_hessian(net, weights, loss), dense_parts(net, weights, loss)
        assert relative(gauss_newton + residual, hessian) < 1e-14
        top, top_g, top_r = (float(torch.linalg.eigvalsh(m)[-1]) for m in (hessian, gauss_newton, residual))
        state = state_of(net, weights)
        assert sharpness(net, state, loss) == pytest.approx(top, rel=1e-13)
        assert gauss_newton_eigenvalue(state, loss) == pytest.approx(top_g, rel=1e-13)
        assert residual_bound(net, state, loss) == pytest.approx(top_r, rel=1e-13)
        assert abs(top - top_g) <= top_r * (1 + 1e-12)


def test_sharpness_at_a_minimiser_is_the_gauss_newton_eigenvalue():
    net, weights, _ = network("MUP", 9, 4)
    state = state_of(net, weights)
    loss = population(state.w)
    assert residual_bound(net, state, loss) == 0.0
    assert sharpness(net, state, loss) == gauss_newton_eigenvalue(state, loss)


def test_jacobian_is_that_of_the_law_and_the_printed_one_is_not():
    net, weights, _ = network("MUP", 9, 4)
    state, loss = state_of(net, weights), population(torch.ones(4, dtype=EXACT))
    for w in (state.w, loss.minimiser):
        there = State(w, state.e, state.v)
        truth = jacrev(lambda w: law_step(net.coupling, State(w, state.e, state.v), loss, 0.7).w)(w)
        assert relative(map_jacobian(net.coupling, there, loss, 0.7), truth) < 1e-14
    exact = torch.eye(4, dtype=EXACT) * (1 - 0.7 * state.v) - 0.7 * state.e
    assert relative(map_jacobian(net.coupling, there, loss, 0.7), exact) < 1e-14
    assert relative(printed_jacobian(net.coupling, there, loss, 0.7), exact) > 0.1


def test_printed_correction_is_half_at_the_muP_edge_at_every_width():
    for width in (8, 512):
        net, target = two_layer_net(Parameterization.MUP, width, 10), torch.ones(10, dtype=EXACT)
        assert least_sharpness(net, target) == pytest.approx(2.0)
        assert printed_correction(net.coupling, target, 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["MUP", "NTP"])
def test_no_weights_that_give_w_are_flatter_than_the_least_sharpness(name):
    net, weights, _ = network(name, 9, 4)
    state = state_of(net, weights)
    bound = least_sharpness(net, state.w)
    assert gauss_newton_eigenvalue(state, population(state.w)) > bound
    balanced = torch.outer(torch.eye(9, dtype=EXACT)[0], state.w)
    size = math.sqrt(net.gamma / net.scale / float(state.w.norm()))  # rank one, |W| = |V|: attains it
    flattest = state_of(net, Weights(balanced * size, torch.eye(9, dtype=EXACT)[0] * size * float(state.w.norm())))
    assert relative(flattest.w, state.w) < 1e-14
    assert gauss_newton_eigenvalue(flattest, population(state.w)) == pytest.approx(bound, rel=1e-13)


@pytest.mark.parametrize("name", ["MUP", "NTP", "SP"])
def test_wide_networks_start_near_the_stated_limit(name):
    net = two_layer_net(Parameterization(name), 20_000, 3)
    state, limit = state_of(net, initial_weights(net, generator(0, name))), infinite_width(net)
    assert relative(state.e, limit.e) < 0.05 and relative(state.v, limit.v) < 0.05
    assert float(limit.v) == pytest.approx(1.0 if name == "SP" else 1 / 3)


@pytest.mark.parametrize("name", ["MUP", "SP"])
def test_uniform_weights_have_the_means_of_gaussian_ones_and_two_fifths_of_the_variance(name):
    net = two_layer_net(Parameterization(name), 500, 3)
    states = [state_of(net, uniform_weights(net, generator(0, name, draw))) for draw in range(1000)]
    limit, v = infinite_width(net), torch.stack([state.v for state in states])
    assert relative(torch.stack([state.e for state in states]).mean(0), limit.e) < 0.01
    assert float(v.mean() / limit.v) == pytest.approx(1, abs=0.005)
    assert float(v.var() / (2 * limit.v**2 / 500)) == pytest.approx(0.4, rel=0.2)


def test_other_parameterizations_are_refused():
    with pytest.raises(ValueError, match="DEPTH_MUP.*allowed are MUP, NTP, and SP"):
        two_layer_net(Parameterization.DEPTH_MUP, 8, 4)
    with pytest.raises(ValueError, match=r"SP, gamma0 = 2.0"):
        two_layer_net(Parameterization.SP, 8, 4, 2.0)
