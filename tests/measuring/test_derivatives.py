"""Wrong second derivatives show as products of no symmetric matrix; sound ones leave rounding only."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from featurespeed.curvature.lanczos import ASYMMETRY, largest_eigenvalues, smallest_eigenvalues
from tests.curvature.cases import Attention, Matrices, encoder, symmetric, token_cross_entropy, tokens, user_convnet
from tests.curvature.cases import seeded as with_statistics
from tests.measuring.cases import (
    BATCH,
    Made,
    X,
    Y,
    by_differences,
    cross_entropy,
    every_measure,
    network,
    real_speeds,
    refused,
    seeded,
    spectrum,
)
from tests.probes.cases import DOUBLE, normal

# --- operations with a wrong second derivative ------------------------------------------------------------------------


class Tanh(torch.autograd.Function):
    """With the right derivatives of every order."""

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return v.tanh()

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g * (1 - v.tanh() ** 2)


class GradientCutOff(Tanh):
    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g.detach() * (1 - v.tanh() ** 2)


class WithoutGraph(Tanh):
    @staticmethod
    def backward(ctx, g):
        with torch.no_grad():
            (v,) = ctx.saved_tensors
            return g * (1 - v.tanh() ** 2)


class DifferentiableOnce(Tanh):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g * (1 - v.tanh() ** 2)


class Slope(torch.autograd.Function):
    """The product of a slope and a gradient, with a derivative by the gradient that is too large."""

    @staticmethod
    def forward(ctx, g, v):
        ctx.save_for_backward(g, v)
        return g * (1 - v.tanh() ** 2)

    @staticmethod
    def backward(ctx, u):
        g, v = ctx.saved_tensors
        return 1.5 * u * (1 - v.tanh() ** 2), -2 * u * g * v.tanh() * (1 - v.tanh() ** 2)


class SlopeOfItsOwn(Tanh):
    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return Slope.apply(g, v)


class CrossEntropy(torch.autograd.Function):
    """A fused loss that computes its gradient in the forward pass and keeps that."""

    @staticmethod
    def forward(ctx, outputs, targets):
        rest = outputs.softmax(1) - nn.functional.one_hot(targets, outputs.shape[1])
        ctx.save_for_backward(rest / len(targets))
        return nn.functional.cross_entropy(outputs, targets)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


def inside(function: type) -> Made:
    return Made(lambda net, v: net[2](function.apply(net[0](v))))


WRONG = [GradientCutOff, WithoutGraph, DifferentiableOnce, SlopeOfItsOwn]
every_wrong = pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)


@every_measure
@every_wrong
@pytest.mark.parametrize("size", [None, 5])
def test_an_operation_with_a_wrong_second_derivative_is_refused(measure, function, size):
    refused(
        lambda: measure(inside(function), cross_entropy, BATCH, micro_batch=size),
        "model: ",
        "second derivative",
        "allowed",
    )


@every_wrong
@pytest.mark.parametrize(
    "options", [{"k": 3}, {"smallest": True}, {"matrix": "residual"}, {"rates": [1.0, 2.0, 3.0, 4.0]}]
)
def test_it_is_refused_whatever_is_asked_for(function, options):
    refused(
        lambda: sharpness(inside(function), cross_entropy, BATCH, **options), "model: ", "second derivative", "allowed"
    )


@every_wrong
def test_it_is_refused_by_a_block_of_parameters_before_it(function):
    """There nothing but the values is wrong: what is missing of the matrix is symmetric itself."""
    model = inside(function)
    block = list(model.net[0].parameters())
    refused(lambda: sharpness(model, cross_entropy, BATCH, parameters=block), ("model: ", "parameters: "), "allowed")


@every_measure
def test_a_loss_that_keeps_its_gradient_as_a_constant_is_refused(measure):
    """The matrix is then symmetric, and lacks the curvature of the loss."""
    refused(lambda: measure(network(), CrossEntropy.apply, BATCH), ("loss: ", "model: "), "allowed")


@every_measure
def test_an_operation_of_ones_own_with_right_derivatives_is_measured(measure):
    assert measure(inside(Tanh), cross_entropy, BATCH) == pytest.approx(
        measure(network(), cross_entropy, BATCH), rel=1e-9
    )


# --- asymmetry of sound networks --------------------------------------------------------------------------------------

LIMITS = {DOUBLE: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}
SOUND = {
    "two layers": (network, cross_entropy, BATCH),
    "mse": (lambda: network(hidden=20), nn.functional.mse_loss, (X, normal(12, 3, seed=4))),
    "convolutions": (
        lambda: with_statistics(user_convnet), cross_entropy, (normal(6, 2, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])),
    ),
    "attention": (lambda: with_statistics(Attention), token_cross_entropy, (tokens(4, 5), tokens(4, 5, seed=1))),
    "encoder layer": (
        lambda: with_statistics(encoder), cross_entropy, (normal(6, 4, 3), torch.tensor([0, 1, 2, 0, 1, 2])),
    ),
}  # fmt: skip


def in_precision(model, batch, dtype):
    inputs, targets = (part.to(dtype) if part.is_floating_point() else part for part in batch)
    return model.to(dtype), (inputs, targets)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", SOUND)
def test_sound_networks_leave_rounding_only(name, dtype):
    make, loss, batch = SOUND[name]
    model, batch = in_precision(make(), batch, dtype)
    found = [
        sharpness(model, loss, batch),
        sharpness(model, loss, batch, smallest=True, micro_batch=3, max_products=12),
        hessian_trace(model, loss, batch, 5),
        spectral_density(model, loss, batch, 1, 12),
    ]
    for record in found:
        assert 0 <= record.asymmetry < LIMITS[dtype]
    assert found[0].asymmetry > 0  # it was looked for


# --- operators that are not symmetric ---------------------------------------------------------------------------------


def skew(size: int, seed: int = 0) -> torch.Tensor:
    drawn = normal(size, size, seed=seed)
    return (drawn - drawn.T) / (2 * size) ** 0.5


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("size", [6, 60])
@pytest.mark.parametrize("part", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("options", [{}, {"k": 3}, {"tol": 1e-1}])
def test_an_operator_that_is_not_symmetric_never_converges(seed, size, part, options):
    matrix = symmetric(torch.linspace(-1, 1, size, dtype=DOUBLE) ** 3, seed) + part * skew(size, seed + 10)
    for solve in (largest_eigenvalues, smallest_eigenvalues):
        found = solve(Matrices(matrix), seed=seed, **options)[0]
        assert found.converged is False and found.asymmetry > ASYMMETRY


@pytest.mark.parametrize("part", [1e-12, 1e-8, 1e-6])
def test_asymmetry_is_that_of_the_operator(part):
    """Within a factor of what one vector sees of a matrix."""
    matrix = symmetric(torch.linspace(-1, 1, 100, dtype=DOUBLE)) + part * skew(100)
    found = largest_eigenvalues(Matrices(matrix), tol=1e-2)[0]
    assert part / 10 < found.asymmetry < 10 * part and found.converged
    assert found.eigenvalue == pytest.approx(1.0, rel=1e-2)


def test_a_member_that_is_not_symmetric_leaves_the_others_alone():
    sound = symmetric(torch.linspace(-1, 2, 50, dtype=DOUBLE))
    records = largest_eigenvalues(Matrices(torch.stack([sound, sound + skew(50), 3 * sound])), max_products=50)
    assert [record.converged for record in records] == [True, False, True]
    assert records[0].eigenvalue == pytest.approx(2, rel=1e-3) and records[2].eigenvalue == pytest.approx(6, rel=1e-3)


@pytest.mark.parametrize("period", [2, 3, 10])
def test_an_operator_that_changes_between_products_never_converges(period):
    class Changing(Matrices):
        def matvec(self, vectors):
            factor = 1.5 if len(self.seen) % period == period - 1 else 1.0
            return factor * super().matvec(vectors)

    found = largest_eigenvalues(Changing(symmetric(torch.linspace(-1, 2, 60, dtype=DOUBLE))), tol=1e-2)[0]
    assert found.converged is False


# --- reparametrised weights -------------------------------------------------------------------------------------------


def wrapped(wrap, layer=None, **options) -> nn.Sequential:
    def build():
        first = nn.Linear(4, 6) if layer is None else layer()
        return nn.Sequential(wrap(first, **options), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))

    model = seeded(build)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        model(images() if layer else X)
    return model.double()


def images():
    return normal(12, 2, 4, 4)


def conv():
    return nn.Conv2d(2, 2, 3)


NORMS = {
    "weight_norm": lambda: wrapped(parametrizations.weight_norm),
    "weight_norm, dim 1": lambda: wrapped(parametrizations.weight_norm, dim=1),
    "weight_norm, all dimensions": lambda: wrapped(parametrizations.weight_norm, dim=None),
    "weight_norm of a convolution": lambda: wrapped(parametrizations.weight_norm, conv),
    "old weight_norm": lambda: wrapped(nn.utils.weight_norm),
    "old weight_norm of a convolution": lambda: wrapped(nn.utils.weight_norm, conv),
    "spectral_norm": lambda: wrapped(parametrizations.spectral_norm),
    "spectral_norm of a convolution": lambda: wrapped(parametrizations.spectral_norm, conv),
    "old spectral_norm": lambda: wrapped(nn.utils.spectral_norm),
    "orthogonal": lambda: wrapped(parametrizations.orthogonal, orthogonal_map="cayley"),
}


@pytest.mark.parametrize("name", NORMS)
def test_reparametrised_weights_are_right(name):
    model = NORMS[name]()
    batch = (images() if "convolution" in name else X), Y
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = sharpness(model, cross_entropy, batch, tol=1e-8)
    speed = measure_feature_speed(model, cross_entropy, batch)
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.eval()
    wanted = spectrum(by_differences(lambda: cross_entropy(model(batch[0]), Y), model.parameters()))[0]
    assert found.eigenvalue == pytest.approx(float(wanted), rel=1e-6) and found.asymmetry < 1e-12
    wanted = real_speeds(model, cross_entropy, batch, speed.learning_rate, 1e-5)
    torch.testing.assert_close(speed.feature_speed, wanted, rtol=1e-6, atol=0)
