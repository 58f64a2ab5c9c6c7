"""Trace, spectral density and directional sharpness against what they estimate."""

import math

import numpy as np
import pytest
import torch

import featurespeed
from featurespeed.curvature.operators import Hessian, Scaled
from featurespeed.curvature.stochastic import SpectralDensity, directional_sharpness, spectral_density, trace
from featurespeed.measuring.errors import MeasurementError
from tests.curvature.cases import CASES, Matrices, Quadratic, dense, itself, rotation, symmetric, with_bulk
from tests.probes.cases import DOUBLE, normal

# --- trace ------------------------------------------------------------------------------------------------------------


def test_the_trace_of_a_diagonal_is_exact_with_any_signs():
    values = with_bulk(-5.0, 3.0)
    found = trace(Matrices(torch.diag(values)), vectors=3)[0]
    assert found.value == pytest.approx(float(values.sum()), rel=1e-12)
    assert found.standard_error < 1e-10 and found.products == 3 and found.dtype == DOUBLE


def test_the_standard_error_of_a_trace_is_calibrated():
    """Errors over their standard errors: Student's t with 29 degrees of freedom, so 95% lie within 2.05.

    Of 300 numbers, 95% +- 1.3%; the mean is 0 +- 0.06, and their standard deviation 1.04 +- 0.05.
    """
    matrix = torch.stack([symmetric(with_bulk(-5.0, 3.0, size=60)), symmetric(torch.linspace(0, 1, 60), seed=1)])
    operator, wanted = Matrices(matrix), matrix.diagonal(dim1=1, dim2=2).sum(1)
    z = np.array(
        [
            [(t.value - float(w)) / t.standard_error for t, w in zip(trace(operator, 30, seed), wanted, strict=True)]
            for seed in range(300)
        ]
    )
    assert np.all(np.abs(np.mean(np.abs(z) < 2.045, axis=0) - 0.95) < 0.05)
    assert np.all(np.abs(z.mean(axis=0)) < 0.24) and np.all(np.abs(z.std(axis=0) - 1.04) < 0.2)


def test_the_standard_error_of_a_trace_is_that_of_the_spread_of_random_signs():
    """Variance of ``z^T A z``: twice the sum of squares off the diagonal."""
    matrix = symmetric(with_bulk(4.0, -3.0, size=40))
    off = matrix - torch.diag(matrix.diagonal())
    wanted = math.sqrt(2 * float(off.square().sum()) / 2000)
    assert trace(Matrices(matrix), 2000)[0].standard_error == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("name", ["MLP, cross_entropy", "ConvNet, mse", "attention", "user's ConvNet"])
def test_the_trace_of_a_network_is_within_its_standard_errors(name):
    for member, found in enumerate(trace(Hessian(CASES[name].objective()), 100)):
        assert abs(found.value - float(dense(name, member).hessian.trace())) < 4 * found.standard_error


def test_traces_of_other_seeds_use_other_signs():
    operator = Matrices(symmetric(with_bulk(3.0)))
    one, same, other = (trace(operator, 5, seed)[0].value for seed in (0, 0, 1))
    assert one == same != other
    drawn = torch.stack(operator.seen[:5])
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert len(torch.unique(drawn, dim=0)) == 5


# --- spectral density -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_moments_of_the_density_are_exact_for_every_random_vector(steps):
    """Of ``v^T A^p v / |v|^2``, all up to ``2 steps - 1``: a Gauss rule."""
    matrices = torch.stack([symmetric(with_bulk(-3.0, 2.0, size=50)), symmetric(torch.linspace(0, 1, 50), seed=1)])
    operator = Matrices(matrices)
    found = spectral_density(operator, vectors=3, steps=steps)
    starts = operator.seen[::steps]
    assert len(starts) == 3 and len(operator.seen) == 3 * steps == found[0].products
    for member, density in enumerate(found):
        assert density.nodes.shape == density.weights.shape == (3, steps)
        for vector, nodes, weights in zip(starts, density.nodes, density.weights, strict=True):
            v = vector[member] / vector[member].norm()
            for power in range(min(2 * steps, 6)):
                wanted = float(v @ torch.linalg.matrix_power(matrices[member], power) @ v)
                assert float((weights * nodes**power).sum()) == pytest.approx(wanted, rel=1e-10, abs=1e-12)


def test_with_as_many_steps_as_dimensions_the_nodes_are_the_eigenvalues():
    values = torch.tensor([3.0, 1.0, 0.5, -2.0], dtype=DOUBLE)
    density = spectral_density(Matrices(symmetric(values)), vectors=2, steps=60)[0]
    assert density.nodes.shape == (2, 4) and density.products == 8
    torch.testing.assert_close(density.nodes, values.expand(2, 4), rtol=1e-10, atol=1e-10)


def test_the_density_has_the_mass_of_each_part_of_the_spectrum():
    """A quarter at 2, three quarters at -1, 200 vectors: the mass at 2 is 0.25 +- 0.005."""
    values = torch.tensor([2.0] * 10 + [-1.0] * 30, dtype=DOUBLE)
    density = spectral_density(Matrices(symmetric(values)), vectors=200, steps=10)[0]
    torch.testing.assert_close(density.weights.sum(1), torch.ones(200, dtype=DOUBLE), rtol=1e-12, atol=0)
    at_two = float((density.weights * (density.nodes > 1.9)).sum(1).mean())
    assert at_two == pytest.approx(0.25, abs=0.02)
    assert density.mean() == pytest.approx(3 * at_two - 1, abs=1e-10)


@pytest.mark.parametrize("width", [None, 0.3])
def test_the_smoothed_density_integrates_to_1_and_has_its_mean(width):
    density = spectral_density(Matrices(symmetric(with_bulk(-3.0, 2.0, size=80))), vectors=3, steps=20)[0]
    grid, heights = density.smoothed(4000, width)
    assert grid.shape == heights.shape == (4000,) and bool((heights >= 0).all())
    assert float(torch.trapezoid(heights, grid)) == pytest.approx(1.0, abs=1e-4)
    assert float(torch.trapezoid(heights * grid, grid)) == pytest.approx(density.mean(), abs=1e-4)
    spread = 0.01 * 5.0 if width is None else width
    second = float((density.weights * density.nodes**2).sum(1).mean()) + spread**2
    assert float(torch.trapezoid(heights * grid**2, grid)) == pytest.approx(second, rel=1e-2)


def test_a_spectrum_of_one_point_can_be_smoothed():
    density = spectral_density(Matrices(2 * torch.eye(5, dtype=DOUBLE)), vectors=2)[0]
    assert isinstance(density, SpectralDensity)
    grid, heights = density.smoothed()
    assert float(torch.trapezoid(heights, grid)) == pytest.approx(1.0, abs=1e-4)
    assert float(grid[heights.argmax()]) == pytest.approx(2.0, abs=0.01)


def test_a_member_has_the_density_that_it_has_alone():
    """Also beside one whose Krylov space is exhausted at once."""
    matrix = symmetric(with_bulk(-3.0, 2.0, size=50))
    beside = spectral_density(Matrices(torch.stack([torch.eye(50).double(), matrix])), 2, 10)[1]
    alone = spectral_density(Matrices(matrix), 2, 10)[0]
    torch.testing.assert_close(beside.nodes, alone.nodes, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(beside.weights, alone.weights, rtol=1e-8, atol=1e-12)


def test_the_density_of_a_network_has_the_moments_of_its_hessian():
    """Unbiased: over 80 vectors, the mean eigenvalue within 4 standard errors, and the ends of the spectrum."""
    name = "MLP, mse"
    for member, density in enumerate(spectral_density(Hessian(CASES[name].objective()), 80, 20)):
        hessian = dense(name, member).hessian
        means = (density.nodes * density.weights).sum(1)
        error = float(means.std()) / math.sqrt(80)
        assert abs(density.mean() - float(hessian.trace()) / len(hessian)) < 4 * error
        ends = torch.linalg.eigvalsh(hessian)[[0, -1]]
        torch.testing.assert_close(torch.stack([density.nodes.min(), density.nodes.max()]), ends, rtol=1e-6, atol=0)


# --- along the gradient -----------------------------------------------------------------------------------------------


def test_directional_sharpness_of_a_quadratic_is_closed_form():
    """With the gradient ``A w``: ``w^T A^3 w / w^T A^2 w``, and in units of the learning rates ``D``
    ``g^T D A D g / g^T D g``.
    """
    matrix = symmetric([4.0, 1.0, -2.0])
    model = Quadratic(matrix)
    operator = Hessian(featurespeed.curvature.objective.Objective(model, itself, (torch.zeros(1), torch.zeros(1))))
    w, g = model.w.detach(), operator.objective.gradient()
    torch.testing.assert_close(g[0], matrix @ w)
    found = directional_sharpness(operator, g)
    wanted = w @ matrix @ matrix @ matrix @ w / (w @ matrix @ matrix @ w)
    assert found.shape == (1,) and found.dtype == DOUBLE
    torch.testing.assert_close(found[0], wanted, rtol=1e-12, atol=0)
    rates = torch.tensor([[2.0, 0.5, 1.0]], dtype=DOUBLE)
    scaled = directional_sharpness(Scaled(operator, rates), rates.sqrt() * g)
    dg = rates[0] * g[0]
    torch.testing.assert_close(scaled[0], dg @ matrix @ dg / (g[0] @ dg), rtol=1e-12, atol=0)


def test_directional_sharpness_of_every_member_is_between_its_eigenvalues():
    name = "ConvNet, cross_entropy"
    objective = CASES[name].objective()
    gradient = objective.gradient()
    found = directional_sharpness(Hessian(objective), gradient)
    for member, g in enumerate(gradient):
        hessian = dense(name, member).hessian
        assert float(found[member]) == pytest.approx(float(g @ hessian @ g / (g @ g)), rel=1e-10)


def test_along_an_eigenvector_the_directional_sharpness_is_its_eigenvalue_and_without_a_gradient_nan():
    q, values = rotation(5), torch.tensor([3.0, 1.0, 0.0, -1.0, -4.0], dtype=DOUBLE)
    operator = Matrices(torch.stack([q * values @ q.T] * 3))
    along = torch.stack([7 * q[:, 4], -q[:, 0], torch.zeros(5, dtype=DOUBLE)])
    found = directional_sharpness(operator, along)
    assert found[:2].tolist() == pytest.approx([-4.0, 3.0], rel=1e-12) and math.isnan(found[2])


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: trace(o, 1), "vectors = 1: allowed: at least 2, for a standard error"),
        (lambda o: spectral_density(o, 0, 5), "vectors = 0: allowed: at least 1"),
        (lambda o: spectral_density(o, 2, 0), "steps = 0: allowed: at least 1"),
    ],
)
def test_estimates_without_evidence_are_refused(call, message):
    operator = Matrices(torch.diag(normal(4)))
    with pytest.raises(MeasurementError) as error:
        call(operator)
    assert str(error.value) == message and not operator.seen


def test_estimates_in_float32_agree_with_float64():
    matrix = symmetric(with_bulk(-3.0, 2.0, size=80))
    single, double = (trace(Matrices(matrix.to(dtype)), 10)[0] for dtype in (torch.float32, DOUBLE))
    assert single.dtype == torch.float32
    assert single.value == pytest.approx(double.value, rel=1e-5)
    density = spectral_density(Matrices(matrix.float()), 2, 30)[0]
    assert float(density.nodes.max()) == pytest.approx(2.0, rel=1e-5)
    torch.testing.assert_close(density.weights.sum(1), torch.ones(2, dtype=DOUBLE), rtol=1e-6, atol=0)
