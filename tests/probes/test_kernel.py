"""The backward-to-feature kernel (arXiv:2311.18718, Sec. 3 and Thm 3.2)."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from featurespeed.probes import measure_feature_speed
from featurespeed.probes.chain import Chain, descent_velocity
from featurespeed.probes.kernel import backward_feature_kernel, cos_bfa_of_kernel, summarize_kernel
from tests.probes.cases import CASES, DOUBLE, frozen_ends, linear_loss, normal, quadratic, residual

every_case = pytest.mark.parametrize("name", CASES)


@every_case
def test_feature_velocity_is_minus_the_kernel_times_the_backward_pass(name):
    """``df_v/dt = -K_v b_v`` at every cut node, for a batch and arbitrary rates."""
    case = CASES[name]
    layers = case.build(0)
    rates = torch.exp(normal(len(layers)))
    chain = Chain(layers)
    _, backwards, gradients = chain.backward(chain.parameters, *case.batch, case.loss)
    velocities = chain.velocity(chain.parameters, case.inputs, descent_velocity(gradients, rates))
    for v, (velocity, b) in enumerate(zip(velocities, backwards, strict=True), start=1):
        kernel = backward_feature_kernel(layers[:v], case.inputs, rates[:v])
        expected = velocity.flatten()
        assert float((kernel @ b.flatten() + expected).norm()) < 1e-12 * float(expected.norm())


@every_case
def test_kernel_is_symmetric_and_positive_semidefinite(name):
    case = CASES[name]
    layers = case.build(1)
    kernel = backward_feature_kernel(layers[:3], case.inputs, [0.3, 1.0, 2.0])
    eigenvalues = torch.linalg.eigvalsh(kernel)
    assert float((kernel - kernel.T).abs().max()) < 1e-13 * float(kernel.abs().max())
    assert float(eigenvalues[0]) > -1e-12 * float(eigenvalues[-1])


@every_case
def test_kernel_of_the_output_is_the_neural_tangent_kernel(name):
    """Against the full Jacobian by reverse mode, ``J J^T``."""
    case = CASES[name]
    layers = case.build(0)
    network = nn.Sequential(*layers)
    parameters = {key: value.detach() for key, value in network.named_parameters()}
    jacobian = jacrev(lambda p: functional_call(network, p, (case.inputs,)).flatten())(parameters)
    rows = torch.cat([block.flatten(1) for block in jacobian.values()], 1)
    kernel = backward_feature_kernel(layers, case.inputs, [1.0] * len(layers))
    assert kernel.shape == (12, 12)
    torch.testing.assert_close(kernel, rows @ rows.T, rtol=1e-11, atol=1e-12 * float(kernel.abs().max()))


def test_learning_rates_weight_the_layers_and_frozen_ones_do_not_count():
    layers, x = residual(0.5), normal(2, 5)
    parts = [backward_feature_kernel(layers, x, torch.eye(6)[layer]) for layer in range(6)]
    weights = [0.1, 2.0, 0.5, 1.0, 3.0, 0.7]
    weighted = sum(w * part for w, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(backward_feature_kernel(layers, x, weights), weighted, rtol=1e-12, atol=1e-13)
    frozen = backward_feature_kernel(frozen_ends(layers), x, weights)
    torch.testing.assert_close(frozen, weighted - 0.1 * parts[0] - 0.7 * parts[5], rtol=1e-11, atol=1e-12)


# --- Theorem 3.2 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("branch_scale", [1.0, 0.5])
def test_cosine_is_at_least_the_ratio_of_extreme_eigenvalues(branch_scale):
    """For the network's own backward pass, random ones, and the worst of a two-dimensional family."""
    x, y = normal(1, 5), normal(1, 3)
    layers = frozen_ends(residual(branch_scale, depth=8))
    result = measure_feature_speed(layers, quadratic, (x, y))
    kernel = backward_feature_kernel(layers[:-1], x, result.learning_rate[:-1])
    summary = summarize_kernel(kernel)
    assert 0 < summary.condition <= summary.ratio <= 1
    values, vectors = torch.linalg.eigh(kernel)
    assert float(result.cos[-2]) == pytest.approx(cos_bfa_of_kernel(kernel, backward_of(layers, x, y)), rel=1e-10)
    mix = [vectors[:, 0] * t + vectors[:, -1] * (1 - t) for t in torch.linspace(0, 1, 50)]
    for b in [backward_of(layers, x, y), *normal(200, 12), *mix]:
        assert cos_bfa_of_kernel(kernel, b) >= summary.condition * (1 - 1e-12)
    # the best bound there is (Kantorovich) is attained in that family, and is larger: the theorem's is loose
    kappa = float(values[-1] / values[0])
    kantorovich = 2 * kappa**0.5 / (1 + kappa)
    assert min(cos_bfa_of_kernel(kernel, b) for b in mix) == pytest.approx(kantorovich, rel=0.3)
    assert kantorovich > summary.condition


def backward_of(layers, x, y):
    chain = Chain(layers)
    return chain.backward(chain.parameters, x, y, quadratic)[1][-2].flatten()


def test_bound_is_attained_by_no_rotation_and_broken_by_an_indefinite_kernel():
    """The identity kernel has cosine 1; the bound rests on positive eigenvalues, an indefinite kernel breaks it."""
    assert cos_bfa_of_kernel(torch.eye(5, dtype=DOUBLE), normal(5)) == pytest.approx(1)
    indefinite = torch.diag(torch.tensor([-1.0, 0.5, 1.0], dtype=DOUBLE))
    assert cos_bfa_of_kernel(indefinite, torch.tensor([1.0, 0.0, 0.1], dtype=DOUBLE)) < 0


def gaussian_limit_error(width: int, draws: int = 40) -> float:
    """Root mean square of ``cos theta / (M1/sqrt(M2)) - 1`` over Gaussian backward passes independent of the kernel."""
    layers = frozen_ends(residual(0.6, depth=5, width=width))
    kernel = backward_feature_kernel(layers[:-1], normal(1, 5), [0.0, 1.0, 1.0, 1.0])
    ratio = summarize_kernel(kernel).ratio
    errors = torch.tensor([cos_bfa_of_kernel(kernel, b) / ratio - 1 for b in normal(draws, width)])
    return float(errors.square().mean().sqrt())


def test_cosine_of_a_gaussian_backward_pass_tends_to_the_moment_ratio():
    """The error shrinks about as m^-1/2; exponent within 0.25 of that over a factor of 16."""
    errors = {width: gaussian_limit_error(width) for width in (16, 64, 256)}
    assert errors[16] > 1.4 * errors[64] > 1.4**2 * errors[256]
    exponent = torch.log2(torch.tensor(errors[256] / errors[16])) / 4
    assert float(exponent) == pytest.approx(-0.5, abs=0.25)


def test_cosine_of_the_networks_own_backward_pass_tends_to_the_moment_ratio():
    """A linear loss makes ``b_{L-1}`` a Gaussian readout row that the kernel does not know."""
    errors = []
    for width in (8, 100):
        squares = []
        for seed in range(20):
            layers = frozen_ends(residual(0.9, seed, depth=6, width=width, output_dim=1))
            x, rates = normal(1, 5, seed=seed), [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
            result = measure_feature_speed(layers, linear_loss, (x, torch.ones(1, 1, dtype=DOUBLE)), rates)
            ratio = summarize_kernel(backward_feature_kernel(layers[:-1], x, rates[:-1])).ratio
            squares.append(float(result.cos[-2] / ratio - 1) ** 2)
        errors.append((sum(squares) / len(squares)) ** 0.5)
    assert errors[1] < 0.5 * errors[0] and errors[1] < 0.1


def test_a_backward_pass_that_knows_the_kernel_has_another_cosine():
    """Negative control of the limit: the top eigenvector gives cosine 1, whatever the width."""
    layers = frozen_ends(residual(0.6, depth=5, width=128))
    kernel = backward_feature_kernel(layers[:-1], normal(1, 5), [0.0, 1.0, 1.0, 1.0])
    top = torch.linalg.eigh(kernel).eigenvectors[:, -1]
    assert cos_bfa_of_kernel(kernel, top) == pytest.approx(1, abs=1e-9)
    assert summarize_kernel(kernel).ratio < 0.9


def test_summary_of_a_known_spectrum():
    summary = summarize_kernel(torch.diag(torch.tensor([1.0, 3.0, 2.0], dtype=DOUBLE)))
    assert summary.ratio == pytest.approx(2 / (14 / 3) ** 0.5, rel=1e-14)
    assert summary.condition == pytest.approx(1 / 3, rel=1e-14)


def test_rates_must_be_one_a_layer():
    with pytest.raises(ValueError, match="learning_rates: 2 given, allowed: one a layer, 6") as raised:
        backward_feature_kernel(residual(1.0), normal(1, 5), [1.0, 1.0])
    assert "\n" not in str(raised.value)
