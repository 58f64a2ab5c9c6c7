"""Which parameters a measurement is by: blocks, tied and unused ones, and those that no derivative reaches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    Made,
    X,
    Y,
    cross_entropy,
    every_measure,
    hessian,
    network,
    refused,
    right_or_refused,
    seeded,
    spectrum,
    top,
)
from tests.probes.cases import DOUBLE, normal

ALLOWED = "allowed: "


# --- blocks -----------------------------------------------------------------------------------------------------------

BLOCKS = {
    "a tensor": lambda net: net[0].weight,
    "a list": lambda net: [net[0].weight, net[2].bias],
    "a tuple": lambda net: (net[2].weight, net[2].bias),
    "in another order": lambda net: [net[2].bias, net[0].weight],
    "a generator": lambda net: (p for p in net.parameters() if p.ndim == 2),
    "those of a layer": lambda net: net[0].parameters(),
    "values of a mapping": lambda net: dict(net[2].named_parameters()).values(),
    "one twice": lambda net: [net[0].weight, net[0].weight],
    "two twice, mixed": lambda net: [net[0].bias, net[2].weight, net[0].bias, net[2].weight],
    "all": lambda net: list(net.parameters()),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_is_that_of_its_parameters_each_once(block):
    net = network()
    given = block(net)
    distinct = list(dict.fromkeys([given] if isinstance(given, torch.Tensor) else block(net)))
    matrix = hessian(lambda: cross_entropy(net(X), Y), distinct)
    found = sharpness(net, cross_entropy, BATCH, 2, 1e-9, parameters=given)
    torch.testing.assert_close(found.values, spectrum(matrix)[:2], rtol=1e-8, atol=1e-12)
    assert found.vectors.shape == (2, len(matrix))
    small = sharpness(net, cross_entropy, BATCH, tol=1e-9, smallest=True, micro_batch=5, parameters=block(net))
    assert small.eigenvalue == pytest.approx(float(spectrum(matrix)[-1]), rel=1e-8, abs=1e-12)
    estimate = hessian_trace(net, cross_entropy, BATCH, 20, parameters=block(net))
    assert abs(estimate.value - float(matrix.trace())) <= 5 * estimate.standard_error + 1e-12
    nodes = spectral_density(net, cross_entropy, BATCH, 1, 16, parameters=block(net)).nodes
    assert float(nodes.max()) == pytest.approx(float(spectrum(matrix)[0]), rel=1e-2)


def test_rates_are_one_for_each_parameter_that_is_given():
    net = network()
    given, rates = [net[2].bias, net[0].weight], [3.0, 0.25]
    matrix = hessian(lambda: cross_entropy(net(X), Y), given)
    d = torch.cat([torch.full((p.numel(),), r, dtype=DOUBLE) for p, r in zip(given, rates, strict=True)])
    wanted = float(torch.linalg.eigvals(d[:, None] * matrix).real.max())
    found = sharpness(net, cross_entropy, BATCH, tol=1e-9, parameters=given, rates=rates)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-8)


def test_a_frozen_parameter_of_a_block_is_left_out():
    net = network()
    net[0].requires_grad_(False)
    wanted = sharpness(net, cross_entropy, BATCH, parameters=net[2].parameters()).eigenvalue
    assert sharpness(net, cross_entropy, BATCH, parameters=net.parameters()).eigenvalue == wanted
    message = "parameters: none of the model's requires a gradient"
    refused(lambda: sharpness(net, cross_entropy, BATCH, parameters=net[0].parameters()), message)


NO_PARAMETERS = {
    "a view": (lambda net: [net[0].weight[0]], "entry 1, [4]"),
    "a column": (lambda net: [net[0].bias, net[0].weight[:, 1]], "entry 2, [6]"),
    "a transposed one": (lambda net: [net[0].weight.T], "entry 1, [4, 6]"),
    "a flat one": (lambda net: net[0].weight.view(-1), "entry 1, [24]"),
    "a clone": (lambda net: [net[0].weight.clone()], "entry 1, [6, 4]"),
    "a product": (lambda net: [2 * net[0].weight], "entry 1, [6, 4]"),
    "detached": (lambda net: [net[0].weight.detach()], "entry 1, [6, 4]"),
    "data": (lambda net: [net[2].weight.data], "entry 1, [3, 6]"),
    "of a copy": (lambda net: copy.deepcopy(net).parameters(), "entry 1, [6, 4]"),
    "of another model": (lambda net: [net[0].bias, nn.Parameter(torch.ones(5))], "entry 2, [5]"),
    "the batch": (lambda net: [X], "entry 1, [12, 4]"),
    "no name": (lambda net: "3.weight", "'3.weight' fits no"),
    "a name and no name": (lambda net: ["0.weight", "weight"], "'weight' fits no"),
    "a pattern of nothing": (lambda net: "5.*", "'5.*' fits no"),
    "an empty name": (lambda net: "", "'' fits no"),
    "pairs of names": (lambda net: list(net.named_parameters()), "tuple of (str, Parameter)"),
    "named, not listed": (lambda net: net.named_parameters(), "tuple of (str, Parameter)"),
    "a module": (lambda net: net[0], "Linear"),
    "modules": (lambda net: [net[0], net[2]], "Linear"),
    "a state": (lambda net: net.state_dict(), "OrderedDict"),
    "a mapping": (lambda net: dict(net.named_parameters()), "dict"),
    "an optimizer": (lambda net: torch.optim.SGD(net.parameters(), lr=0.1), "SGD"),
    "groups": (lambda net: torch.optim.SGD(net.parameters(), lr=0.1).param_groups, "dict"),
    "lists of lists": (lambda net: [list(net[0].parameters()), list(net[2].parameters())], "list of"),
    "a number": (lambda net: 2, "int 2"),
    "a boolean": (lambda net: True, "bool True"),
    "numbers": (lambda net: [0, 1], "entry 1 is int 0"),
    "None among them": (lambda net: [net[0].weight, None], "entry 2 is NoneType"),
    "an array": (lambda net: [net[0].weight.detach().numpy()], "entry 1 is ndarray"),
    "a function": (lambda net: net.parameters, "method"),
}


@pytest.mark.parametrize(("block", "part"), NO_PARAMETERS.values(), ids=NO_PARAMETERS)
def test_what_is_no_parameter_is_refused(block, part):
    net = network()
    refused(lambda: sharpness(net, cross_entropy, BATCH, parameters=block(net)), "parameters: ", part, ALLOWED)
    refused(lambda: hessian_trace(net, cross_entropy, BATCH, parameters=block(net)), "parameters: ", ALLOWED)
    refused(lambda: spectral_density(net, cross_entropy, BATCH, parameters=block(net)), "parameters: ", ALLOWED)


@pytest.mark.parametrize("empty", [[], (), {}.values()])
def test_no_parameters_at_all(empty):
    refused(lambda: sharpness(network(), cross_entropy, BATCH, parameters=empty), "parameters: none")


# --- tied ones --------------------------------------------------------------------------------------------------------


class TiedReadout(nn.Module):
    """The table of an embedding is the readout, too."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.readout = nn.Linear(4, 7, bias=False)
        self.readout.weight = self.embed.weight

    def forward(self, tokens):
        return self.readout(torch.tanh(self.embed(tokens)))


class TiedTransposed(nn.Module):
    """An encoder and a decoder that is its transpose."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        return torch.tanh(x @ self.weight.T) @ self.weight


class Repeated(nn.Module):
    """One layer, used three times, under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first

    def forward(self, x):
        return self.first(torch.tanh(self.again(torch.tanh(self.first(x)))))


TOKENS = torch.arange(9) % 7, (3 * torch.arange(9) + 1) % 7
TIED = {
    "readout": (TiedReadout, cross_entropy, TOKENS, lambda m: [m.embed.weight, m.readout.weight]),
    "transposed": (TiedTransposed, functional.mse_loss, (X, normal(12, 4, seed=1)), lambda m: [m.weight, m.weight]),
    "repeated": (
        Repeated, functional.mse_loss, (X, normal(12, 4, seed=1)),
        lambda m: [*m.first.parameters(), *m.again.parameters()],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("build", "loss", "batch", "named"), TIED.values(), ids=TIED)
def test_tied_parameters_count_once(build, loss, batch, named):
    model = seeded(build)
    matrix = hessian(lambda: loss(model(batch[0]), batch[1]), model.parameters())
    for options in ({}, {"parameters": named(model)}, {"parameters": named(model), "micro_batch": 4}):
        found = sharpness(model, loss, batch, 3, 1e-9, **options)
        torch.testing.assert_close(found.values, spectrum(matrix)[:3], rtol=1e-7, atol=0)
        estimate = hessian_trace(model, loss, batch, 20, **options)
        assert abs(estimate.value - float(matrix.trace())) < 5 * estimate.standard_error


# --- that no derivative reaches ---------------------------------------------------------------------------------------


def under_no_grad(net, x):
    with torch.no_grad():
        hidden = net[:2](x)
    return net[2](hidden)


def under_inference_mode(net, x):
    with torch.inference_mode():
        hidden = net[:2](x)
    return net[2](hidden.clone())


def half_of_a_residual(net, x):
    with torch.no_grad():
        hidden = net[0](x)
    return net[2](hidden) + 0 * x.sum()


def of_a_copy(net, x):
    return net[2](copy.deepcopy(net[:2])(x))


CUT_OFF = {
    "no_grad": under_no_grad,
    "inference_mode": under_inference_mode,
    "half of a residual": half_of_a_residual,
    "a decorator": lambda net, x: net[2](torch.no_grad()(lambda v: net[:2](v))(x)),
    "detached features": lambda net, x: net[2](net[:2](x).detach()),
    "detached in place": lambda net, x: net[2](net[:2](x).detach_()),
    "data of features": lambda net, x: net[2](net[:2](x).data),
    "detached weights": lambda net, x: net[2](functional.linear(x, net[0].weight.detach()).tanh() + net[0].bias),
    "data of weights": lambda net, x: net[2](functional.linear(x, net[0].weight.data, net[0].bias).tanh()),
    "numbers": lambda net, x: net[2](torch.tensor(net[:2](x).tolist(), dtype=DOUBLE)),
    "an array": lambda net, x: net[2](torch.from_numpy(net[:2](x).detach().numpy())),
    "a state": lambda net, x: net[2](torch.func.functional_call(net[0], net[0].state_dict(), (x,)).tanh()),
    "a copy": of_a_copy,
    "a reentrant checkpoint": lambda net, x: net[2](checkpoint(net[:2], x, use_reentrant=True)),
    "one of an input with a gradient": lambda net, x: net[2](
        checkpoint(net[:2], x.clone().requires_grad_(), use_reentrant=True)
    ),
}
#: Where the derivative is 0 wherever there is one.
STEPS = {
    "a step": lambda net, x: net[2]((net[0](x) > 0).to(x)),
    "the place of the largest": lambda net, x: net[2](functional.one_hot(net[0](x).argmax(1), 6).to(x)),
    "a sign": lambda net, x: net[2](net[0](x).sign()),
    "rounding": lambda net, x: net[2](net[0](x).round()),
}


@every_measure
@pytest.mark.parametrize("forward", CUT_OFF.values(), ids=CUT_OFF)
def test_parameters_that_no_derivative_reaches_are_refused(measure, forward):
    refused(lambda: measure(Made(forward), cross_entropy, BATCH), "parameters: net.0.", "allowed")


@pytest.mark.parametrize("forward", STEPS.values(), ids=STEPS)
def test_steps_are_flat_or_refused(forward):
    model = Made(forward)
    wanted = top(lambda: cross_entropy(model(X), Y), model)
    right_or_refused(lambda: sharpness(model, cross_entropy, BATCH, tol=1e-7).eigenvalue, wanted, "parameters: ", 1e-6)


@pytest.mark.parametrize("name", ["no_grad", "detached features", "a reentrant checkpoint", "data of weights"])
@pytest.mark.parametrize("options", [{"micro_batch": 5}, {"matrix": "gauss_newton"}, {"matrix": "residual"}, {"k": 2}])
def test_they_are_refused_whatever_is_asked_for(name, options):
    refused(lambda: sharpness(Made(CUT_OFF[name]), cross_entropy, BATCH, **options), "parameters: net.0.", "allowed")


@pytest.mark.parametrize("name", ["no_grad", "detached features", "data of features", "a copy"])
def test_those_that_are_frozen_are_constants(name):
    """The remedy that the message names: the rest of the network is then measured."""
    model = Made(CUT_OFF[name])
    model.net[0].requires_grad_(False)
    hidden = torch.tanh(functional.linear(X, model.net[0].weight, model.net[0].bias))
    wanted = top(lambda: cross_entropy(model.net[2](hidden), Y), model.net[2])
    assert sharpness(model, cross_entropy, BATCH, tol=1e-9).eigenvalue == pytest.approx(wanted, rel=1e-8)
    blind = Made(CUT_OFF[name])
    block = blind.net[2].parameters()
    assert sharpness(blind, cross_entropy, BATCH, tol=1e-9, parameters=block).eigenvalue == pytest.approx(
        wanted, rel=1e-8
    )


# --- that are not used, or on one way only ----------------------------------------------------------------------------

HARMLESS = {
    "detached on one of two ways": lambda net, x: net[2](net[:2](x) + net[:2](x).detach()),
    "no_grad on one of two ways": lambda net, x: net(x) + under_no_grad(net, x),
    "a norm that is looked at": lambda net, x: net(x) / net[0].weight.detach().norm(),
    "a copy beside it": lambda net, x: net(x) - of_a_copy(net, x),
    "a mask made of its features": lambda net, x: net[2](net[:2](x) * (net[0](x) > 0)),
}


@pytest.mark.parametrize("forward", HARMLESS.values(), ids=HARMLESS)
def test_parameters_that_are_reached_on_one_way_are_measured(forward):
    model = Made(forward)
    wanted = top(lambda: cross_entropy(model(X), Y), model)
    assert sharpness(model, cross_entropy, BATCH, tol=1e-9).eigenvalue == pytest.approx(wanted, rel=1e-8)


class TwoHeads(nn.Module):
    """A head that counts, one that does not, and a table that is never used."""

    def __init__(self, form):
        super().__init__()
        self.trunk, self.head, self.aside = nn.Linear(4, 5), nn.Linear(5, CLASSES), nn.Linear(5, 2)
        self.unused = nn.Embedding(3, 2)
        self.form = form

    def forward(self, x):
        hidden = torch.tanh(self.trunk(x))
        found = self.head(hidden), self.aside(hidden)
        return {"tuple": found, "dict": {"main": found[0], "aside": found[1]}, "first": found[0]}[self.form]


FIRST = {
    "tuple": lambda outputs, targets: cross_entropy(outputs[0], targets),
    "dict": lambda outputs, targets: cross_entropy(outputs["main"], targets),
    "first": cross_entropy,
}


@pytest.mark.parametrize("form", FIRST)
@pytest.mark.parametrize("size", [None, 5])
def test_parameters_that_the_loss_does_not_use_add_nothing(form, size):
    model = seeded(lambda: TwoHeads(form))
    used = [*model.trunk.parameters(), *model.head.parameters()]
    matrix = hessian(lambda: FIRST[form](model(X), Y), used)
    found = sharpness(model, FIRST[form], BATCH, 3, 1e-9, micro_batch=size)
    torch.testing.assert_close(found.values, spectrum(matrix)[:3], rtol=1e-7, atol=0)
    assert found.vectors.shape[1] == sum(p.numel() for p in model.parameters())
    estimate = hessian_trace(model, FIRST[form], BATCH, 20, micro_batch=size)
    assert abs(estimate.value - float(matrix.trace())) < 5 * estimate.standard_error
    for block in (model.aside.parameters(), model.unused.parameters()):
        alone = sharpness(model, FIRST[form], BATCH, parameters=block, micro_batch=size)
        assert alone.eigenvalue == 0 and alone.converged


def test_feature_speed_with_parameters_that_are_not_used():
    model = seeded(lambda: TwoHeads("first"))
    found = measure_feature_speed([model], cross_entropy, BATCH)
    used = torch.autograd.grad(cross_entropy(model(X), Y), [*model.trunk.parameters(), *model.head.parameters()])
    assert float(found.gradient_norm[0]) == pytest.approx(
        float(torch.cat([g.flatten() for g in used]).norm()), rel=1e-12
    )
    assert float(found.formula_error.max()) < 1e-12
