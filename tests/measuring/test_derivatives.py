"""Wrong second derivatives show as products of no symmetric matrix; sound ones leave rounding only."""

from __future__ import annotations

import warnings
from collections.abc import Callable

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
    Of,
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


class Rounded(Tanh):
    """A staircase that passes gradients straight through."""

    @staticmethod
    def forward(ctx, v):
        return (16 * v).round() / 16

    @staticmethod
    def backward(ctx, g):
        return g


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
def test_gradients_that_are_not_those_of_the_forward_pass_are_refused(dtype):
    model, batch = in_precision(inside(Rounded), BATCH, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(lambda: sharpness(model, cross_entropy, batch), "model: Rounded", "second derivative", "allowed")


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return v.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


def custom_sine() -> Callable[[torch.Tensor], torch.Tensor]:
    """An operation of the library of operations, with a derivative of its own."""

    @torch.library.custom_op("featurespeed_tests::sine", mutates_args=())
    def sine(v: torch.Tensor) -> torch.Tensor:
        return v.sin()

    sine.register_autograd(
        lambda ctx, g: g * ctx.saved_tensors[0].cos(),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    )
    return sine


#: Own operations, and the ones that they stand for.
RIGHT = {
    "tanh": (Tanh.apply, torch.tanh),
    "kinks": (Relu.apply, torch.relu),
    "of the library": (custom_sine(), torch.sin),
}


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", RIGHT)
def test_right_operations_are_believed_in_every_precision(name, dtype):
    own, plain = RIGHT[name]

    def build(activation):
        net = seeded(lambda: nn.Sequential(nn.Linear(4, 300), nn.Identity(), nn.Linear(300, 3)))
        model = Of(lambda net, v: net[2](activation(net[0](v))), net)
        return in_precision(model, BATCH, dtype)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (model, batch), (other, _) = build(own), build(plain)
        before = [(p.data_ptr(), p._version, p.clone()) for p in model.parameters()]
        found = sharpness(model, cross_entropy, batch)
    assert found.eigenvalue == pytest.approx(sharpness(other, cross_entropy, batch).eigenvalue, rel=2e-2)
    for p, (place, version, values) in zip(model.parameters(), before, strict=True):
        assert (p.data_ptr(), p._version) == (place, version) and torch.equal(p, values) and p.grad is None


@pytest.mark.parametrize("convert", [lambda v: v.float(), lambda v: v.double(), lambda v: v])
def test_an_operation_that_knows_one_precision_is_checked_in_that(convert):
    class Single(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            if v.dtype != torch.float32:
                raise RuntimeError("expected scalar type Float")
            ctx.save_for_backward(v)
            return v.tanh()

        backward = Tanh.backward

    class Constant(Single):
        backward = GradientCutOff.backward

    model, batch = in_precision(inside(Single), BATCH, torch.float32)
    wanted = sharpness(network().float(), cross_entropy, batch).eigenvalue
    assert sharpness(model, cross_entropy, batch).eigenvalue == pytest.approx(wanted, rel=1e-4)
    model, batch = in_precision(inside(Constant), BATCH, torch.float32)
    block = list(model.net[0].parameters())
    with pytest.warns(RuntimeWarning, match="^model: derivatives of Constant could not be checked"):
        sharpness(model, cross_entropy, batch, parameters=block)  # it may be kinks, at steps of this precision


def test_gradients_that_cannot_be_compared_are_told():
    """A staircase of which larger steps of the weights cross some, and smaller ones nothing."""

    class Fine(Rounded):
        @staticmethod
        def forward(ctx, v):
            return (3e5 * v).round() / 3e5

    with pytest.warns(RuntimeWarning, match="^model: derivatives of Fine could not be checked"):
        sharpness(inside(Fine), cross_entropy, BATCH)


def test_curvature_that_is_lost_in_rounding_says_so():
    with pytest.warns(RuntimeWarning, match="0 up to rounding in float32; in float64"):
        found = sharpness(network().float(), lambda o, t: 1e-43 * cross_entropy(o, t), (X.float(), Y))
    assert found.converged is False and abs(found.eigenvalue) < 1e-41


@every_measure
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=str)
@pytest.mark.parametrize("kind", ["logits", "keys", "before a norm"])
def test_curvature_by_what_the_loss_does_not_depend_on_is_0_up_to_rounding(measure, kind, dtype):
    """Logits that are shifted together, biases of keys in attention, biases before a normalisation."""

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift, self.net = nn.Parameter(torch.randn(12, 1)), network()
            self.queries, self.keys, self.conv = nn.Linear(4, 4), nn.Linear(4, 4), nn.Conv1d(4, 6, 1)

        def forward(self, v):
            if kind == "logits":
                return self.net(v) + self.shift
            if kind == "keys":
                return self.net((self.queries(v) @ self.keys(v).T).softmax(1) @ v)
            series = v[:, :, None] * v.softmax(1)[:, None]
            return self.net[2](nn.functional.instance_norm(self.conv(series))[:, :, 0])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Shifted()
    block = {"logits": model.shift, "keys": model.keys.bias, "before a norm": model.conv.bias}[kind]
    model, batch = in_precision(model, BATCH, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = measure(model, cross_entropy, batch, parameters=[block])
    assert abs(found) < (1e-14 if dtype == DOUBLE else 1e-5)


def test_asymmetry_in_single_precision_that_is_no_rounding_names_its_cause():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.calls = network().float(), 0

        def forward(self, v):
            self.calls += 1
            return self.net(v) * (2.0 if self.calls > 20 and self.calls % 9 > 6 else 1.0)

    batch = X.float(), Y
    refused(lambda: sharpness(Late(), cross_entropy, batch, micro_batch=4), "model: asymmetry", "from call to call")


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
