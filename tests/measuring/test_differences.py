"""What is not PyTorch's own, or detached, is held against differences, in any precision and at any size."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import sharpness
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    DOUBLE,
    Made,
    X,
    Y,
    cross_entropy,
    network,
    normal,
    refused,
    right_or_refused,
    seeded,
    top,
)
from tests.measuring.test_derivatives import CrossEntropy, GradientCutOff, Tanh, in_precision, inside


class SquaredError(torch.autograd.Function):
    """The mean squared error, with its gradient kept as a constant."""

    @staticmethod
    def forward(ctx, outputs, targets):
        ctx.save_for_backward(2 * (outputs - targets) / outputs.numel())
        return (outputs - targets).square().mean()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


@pytest.fixture(autouse=True)
def without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


# --- wrong ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("upcast", [torch.float32, DOUBLE], ids=str)
def test_a_fused_loss_behind_a_cast(dtype, upcast):
    model, batch = in_precision(network(), BATCH, dtype)
    refused(lambda: sharpness(model, lambda o, t: CrossEntropy.apply(o.to(upcast), t), batch), "loss: CrossEntropy")


@pytest.mark.parametrize("size", [1.0, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=str)
@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_large_residuals_hide_nothing(size, dtype, matrix):
    batch = X.to(dtype), (size * normal(12, CLASSES, seed=2)).to(dtype)
    linear = nn.Linear(4, CLASSES, dtype=dtype)
    refused(lambda: sharpness(linear, SquaredError.apply, batch, matrix=matrix), "loss: SquaredError", "allowed")
    model = network().to(dtype)
    wanted = sharpness(model, functional.mse_loss, batch, matrix=matrix).eigenvalue  # nearly all residual, if large
    right_or_refused(
        lambda: sharpness(model, SquaredError.apply, batch, matrix=matrix).eigenvalue, wanted, "loss: ", 2e-3
    )


@pytest.mark.parametrize("size", [10.0, 100.0, 1e3, 1e4])
@pytest.mark.parametrize("seed", range(3))
def test_a_coarse_agreement_does_not_outweigh_a_sharp_difference(size, seed):
    """Where the residual part is a few times larger than what is missing, at small steps rounding could hide it."""
    model, batch = network(seed=seed), (X, size * normal(12, CLASSES, seed=seed + 2))
    wanted = sharpness(model, functional.mse_loss, batch).eigenvalue
    right_or_refused(lambda: sharpness(model, SquaredError.apply, batch).eigenvalue, wanted, "loss: ", 1e-3)


@pytest.mark.parametrize(
    ("matrix", "block"),
    [("hessian", False), ("gauss_newton", False), ("residual", False), ("hessian", True), ("gauss_newton", True)],
)
def test_every_matrix_of_a_model_is_checked(matrix, block):
    model = inside(GradientCutOff)
    chosen = list(model.net[0].parameters()) if block else None
    refused(lambda: sharpness(model, cross_entropy, BATCH, matrix=matrix, parameters=chosen), "model: GradientCutOff")


@pytest.mark.parametrize("share", [0.3, 0.03, 0.003])
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=str)
def test_a_small_part_of_the_loss_is_found_too(share, dtype):
    model, batch = in_precision(network(), BATCH, dtype)
    refused(
        lambda: sharpness(model, lambda o, t: cross_entropy(o, t) + share * CrossEntropy.apply(o, t), batch),
        "loss: CrossEntropy",
    )


class Listed(nn.Module):
    """Its weights are used by the names that a list has for them."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.held = list(self.net.parameters())

    def forward(self, v):
        first, bias, second, last = self.held
        return functional.linear(functional.linear(v, first, bias).tanh(), second, last)


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=str)
def test_weights_that_a_list_holds(dtype):
    model, batch = in_precision(Listed(), BATCH, dtype)
    if dtype == DOUBLE:
        refused(lambda: sharpness(model, CrossEntropy.apply, batch), "loss: CrossEntropy")
    else:  # it may be kinks, at steps of this precision
        with pytest.warns(RuntimeWarning, match="^loss: derivatives of CrossEntropy could not be checked"):
            sharpness(model, CrossEntropy.apply, batch)
    wanted = sharpness(network().to(dtype), cross_entropy, batch).eigenvalue
    assert sharpness(model, cross_entropy, batch).eigenvalue == pytest.approx(wanted, rel=1e-4)


def test_a_weight_that_the_loss_holds():
    model = network()
    weight = model[2].weight
    holding = Made(lambda net, v: net[1](net[0](v)))
    holding.net = model
    refused(
        lambda: sharpness(holding, lambda h, t: CrossEntropy.apply(h @ weight.T, t), BATCH, parameters=[weight]),
        "loss: CrossEntropy",
    )


def surrogate(outputs, targets):
    """Has the gradient of the cross-entropy."""
    with torch.no_grad():
        slope = outputs.softmax(1) - functional.one_hot(targets, CLASSES)
    return (outputs * slope).sum() / len(targets)


DETACHED = {
    "a norm": (lambda net, v: net[2](functional.normalize(net[0](v)) * net[0](v).norm().detach()), cross_entropy),
    "a norm by no_grad": (lambda net, v: net[2](net[0](v) / size_of(net[0](v))), cross_entropy),
    "a number": (lambda net, v: net[2](net[0](v).tanh() / net[0](v).norm().item()), cross_entropy),
    "a gradient": (lambda net, v: net(v), surrogate),
}


def size_of(v):
    with torch.no_grad():
        return v.norm()


@pytest.mark.parametrize("name", DETACHED)
def test_parts_that_are_detached_count_as_constants_which_is_said(name):
    """As in plain automatic differentiation; many mean it so."""
    forward, loss = DETACHED[name]
    model = Made(forward)
    with pytest.warns(RuntimeWarning, match="^(model|loss): a value that is detached counts as a constant"):
        found = sharpness(model, loss, BATCH, tol=1e-9)
    assert found.eigenvalue == pytest.approx(top(lambda: loss(model(X), Y), model), rel=1e-8)


HOOKS = {"smaller": lambda g: g / 8, "larger": lambda g: 2 * g, "clipped": lambda g: g.clamp(-1e-3, 1e-3)}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_that_change_gradients_are_refused(name):
    model = network()
    for parameter in model.parameters():
        parameter.register_hook(HOOKS[name])
    refused(lambda: sharpness(model, cross_entropy, BATCH), "model: a gradient hook", "allowed")

    def hooked(net, v):
        hidden = net[1](net[0](v))
        hidden.register_hook(HOOKS[name])
        return net[2](hidden)

    refused(lambda: sharpness(Made(hooked), cross_entropy, BATCH), "model: a gradient hook", "allowed")


# --- right ones -------------------------------------------------------------------------------------------------------


def test_hooks_that_look_at_gradients_are_no_matter():
    seen, model = [], network()
    for parameter in model.parameters():
        parameter.register_hook(lambda g: seen.append(g.shape))
    model.register_full_backward_hook(lambda module, inputs, outputs: seen.append(module))
    found = sharpness(model, cross_entropy, BATCH, tol=1e-8)
    assert found.eigenvalue == pytest.approx(sharpness(network(), cross_entropy, BATCH, tol=1e-8).eigenvalue) and seen


def steady(outputs, targets):
    """The cross-entropy, whose largest output is taken off first: that changes nothing but its rounding."""
    largest = outputs.max(1, keepdim=True).values.detach()
    rest = outputs - largest
    return (rest.exp().sum(1).log() - rest.gather(1, targets[:, None])[:, 0]).mean()


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16], ids=str)
def test_a_detached_value_that_does_not_matter(dtype):
    model, batch = in_precision(network(), BATCH, dtype)
    wanted = sharpness(model, cross_entropy, batch).eigenvalue
    assert sharpness(model, steady, batch).eigenvalue == pytest.approx(wanted, rel=2e-2)


class Asserting(Tanh):
    """Knows float32 only, and says so in the backward pass."""

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        assert v.dtype == torch.float32
        return g * (1 - v.tanh() ** 2)


@pytest.mark.parametrize("inner", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=str)
@pytest.mark.parametrize("function", [Tanh, Asserting])
def test_right_operations_behind_casts(inner, dtype, function):
    if function is Asserting and inner != torch.float32:
        pytest.skip("it knows float32 only")
    model, batch = in_precision(
        Made(lambda net, v: net[2](function.apply(net[0](v).to(inner)).to(v.dtype))), BATCH, dtype
    )
    wanted = sharpness(network().to(dtype), cross_entropy, batch).eigenvalue
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # half precisions may not be comparable
        found = sharpness(model, cross_entropy, batch)
    assert found.eigenvalue == pytest.approx(wanted, rel=2e-2)


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        return v.view_as(v)

    @staticmethod
    def backward(ctx, g):
        return g


def looking(v):
    if v.requires_grad:
        v.register_hook(lambda g: None)
    return v


LOOKS = {"an identity": Same.apply, "a hook": looking, "a logged mean": lambda v: (v.detach().mean().item(), v)[1]}


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_kinks_and_casts_are_no_reason_to_refuse(name, dtype, seed):
    """Sound networks with ReLU, whose loss asks for float32."""

    class Net(nn.Module):
        def __init__(self, look):
            super().__init__()
            self.first, self.second, self.third = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 5)
            self.look = look

        def forward(self, v):
            return self.third(self.look(self.second(self.first(v).relu())).relu())

    inputs, classes = normal(128, 20, seed=seed).to(dtype), torch.arange(128) % 5
    looked, plain = (seeded(lambda look=look: Net(look), seed).to(dtype) for look in (LOOKS[name], lambda v: v))
    found, wanted = (
        sharpness(model, lambda o, t: cross_entropy(o.float(), t), (inputs, classes)) for model in (looked, plain)
    )
    assert found.eigenvalue == wanted.eigenvalue


def test_nothing_is_compared_without_need(monkeypatch):
    """Plain networks pay nothing for it."""
    monkeypatch.setattr("featurespeed.curvature.operators.check_derivatives", None)
    models = {
        "mlp": (network(), X, cross_entropy),
        "convolutions": (
            seeded(lambda: nn.Sequential(nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten())),
            X[:, None],
            cross_entropy,
        ),
        "encoder": (
            seeded(lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)),
            X[:, None],
            lambda o, t: cross_entropy(o[:, 0], t),
        ),
        "recurrent": (
            seeded(lambda: nn.LSTM(4, 3, batch_first=True)),
            X[:, None],
            lambda o, t: cross_entropy(o[0][:, 0], t),
        ),
    }
    for model, inputs, loss in models.values():
        assert sharpness(model, loss, (inputs, Y)).converged
