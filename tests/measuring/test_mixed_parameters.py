"""Parameters of several precisions in one model, and complex ones, which are real and imaginary parts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from featurespeed import hessian_trace, measure_feature_speed, sharpness
from tests.measuring.cases import BATCH, CLASSES, X, Y, cross_entropy, hessian, real_speeds, spectrum
from tests.probes.cases import DOUBLE


class Mixed(nn.Module):
    """A trunk in low precision under a head in single precision."""

    def __init__(self, low: torch.dtype):
        super().__init__()
        self.trunk, self.head = nn.Sequential(nn.Linear(4, 6), nn.Tanh()).to(low), nn.Linear(6, CLASSES).float()
        self.low = low

    def forward(self, x):
        return self.head(self.trunk(x.to(self.low)).float())


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [None, 5])
def test_parameters_of_several_precisions(low, size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Mixed(low)
    wide = copy.deepcopy(model).double()
    wide.low = DOUBLE
    wide.forward = lambda x: wide.head(wide.trunk(x))
    matrix = hessian(lambda: cross_entropy(wide(X), Y), wide.parameters())
    found = sharpness(model, cross_entropy, (X.float(), Y), micro_batch=size)
    assert found.eigenvalue == pytest.approx(float(spectrum(matrix)[0]), rel=2e-2) and found.dtype == torch.float32
    for block in (model.trunk, model.head):
        matrix = hessian(
            lambda: cross_entropy(wide(X), Y), (wide.trunk if block is model.trunk else wide.head).parameters()
        )
        found = sharpness(model, cross_entropy, (X.float(), Y), micro_batch=size, parameters=block.parameters())
        assert found.eigenvalue == pytest.approx(float(spectrum(matrix)[0]), rel=2e-2)


class Fourier(nn.Module):
    """A complex matrix between Fourier transforms, and real weights after it."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(0.5 * torch.randn(3, 3, dtype=torch.complex128))
        self.readout = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.readout(torch.fft.irfft(torch.fft.rfft(x) @ self.mix, n=4).tanh())


class Amplitude(nn.Module):
    """Complex weights alone, and a real output that is not analytic in them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, 4, dtype=torch.complex128))
        self.phase = nn.Parameter(torch.randn(CLASSES, dtype=torch.complex128))

    def forward(self, x):
        return (x.to(self.weight) @ self.weight.T + self.phase).abs() + (x.to(self.weight) @ self.weight.mH).real


class Wave(nn.Module):
    """Complex weights whose output is complex as well."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, CLASSES, dtype=torch.complex128))

    def forward(self, x):
        return torch.tanh(x.to(self.weight) @ self.weight)


def squared_modulus(outputs, targets):
    return outputs.abs().square().mean()


def of_modulus(outputs, targets):
    return cross_entropy(outputs.abs(), targets)


def made(build) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
    if build is Fourier:
        model.readout.double()
    return model


COMPLEX = [(Fourier, cross_entropy), (Amplitude, cross_entropy), (Wave, squared_modulus), (Wave, of_modulus)]
every_complex = pytest.mark.parametrize(("build", "loss"), COMPLEX)


@every_complex
@pytest.mark.parametrize("size", [None, 5])
def test_complex_parameters_are_real_and_imaginary_parts(build, loss, size):
    model = made(build)
    matrix = hessian(lambda: loss(model(X), Y), model.parameters())
    found = sharpness(model, loss, BATCH, 3, 1e-9, micro_batch=size)
    torch.testing.assert_close(found.values, spectrum(matrix)[:3], rtol=1e-7, atol=0)
    assert found.vectors.shape[1] == len(matrix) and found.dtype == DOUBLE
    small = sharpness(model, loss, BATCH, tol=1e-9, smallest=True, micro_batch=size)
    assert small.eigenvalue == pytest.approx(float(spectrum(matrix)[-1]), rel=1e-7, abs=1e-12)
    estimate = hessian_trace(model, loss, BATCH, 20, micro_batch=size)
    assert abs(estimate.value - float(matrix.trace())) < 5 * estimate.standard_error


@every_complex
def test_several_batches_with_complex_outputs_add_up(build, loss):
    model = made(build)
    parts = [(X[:5], Y[:5]), (X[5:], Y[5:])]
    wanted = spectrum(hessian(lambda: loss(model(X), Y), model.parameters()))[0]
    assert sharpness(model, loss, parts, tol=1e-9).eigenvalue == pytest.approx(float(wanted), rel=1e-7)


@every_complex
def test_feature_speed_of_complex_layers_is_that_of_a_real_step(build, loss):
    model = made(build)
    found = measure_feature_speed([model], loss, BATCH)
    wanted = real_speeds([model], loss, BATCH, found.learning_rate, 1e-6)
    torch.testing.assert_close(found.feature_speed, wanted, rtol=1e-6, atol=0)
    assert float(found.formula_error.max()) < 1e-10
    gradients = torch.autograd.grad(loss(model(X), Y), list(model.parameters()))
    total = sum(float(gradient.abs().square().sum()) for gradient in gradients)
    assert float(found.gradient_norm[0]) == pytest.approx(total**0.5, rel=1e-12)
