"""Slips in the arguments: one line that names the argument, what was given and what is allowed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from featurespeed.curvature.objective import CurvatureError
from featurespeed.errors import UserError
from tests.measuring.cases import BATCH, CLASSES, X, Y, cross_entropy, network, refused
from tests.probes.cases import DOUBLE

NET = network()


def one_argument(outputs):
    return outputs.mean()


def three_arguments(outputs, targets, weights):
    return cross_entropy(outputs, targets)


def with_value(value):
    net = network()
    net[2].weight.data[0, 1] = value
    return net


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(CLASSES)

    def forward(self, x):
        return self.layer(x.float())


# --- model, loss and batch: of all three functions of the Hessian -----------------------------------------------------

MODELS = {
    "None": (None, "model: NoneType"),
    "a function": (lambda x: NET(x), "model: function"),
    "a class": (nn.Linear, "model: the class Linear"),
    "a name": ("resnet18", "model: 'resnet18'"),
    "a list of layers": (list(NET), "model: list"),
    "weights": (NET.state_dict(), "model: OrderedDict"),
    "parameters": (list(NET.parameters()), "model: list"),
    "a bound forward pass": (NET.forward, "model: method"),
    "a lazy layer": (Lazy(), "model: layer.weight has no values yet"),
    "on no device": (nn.Linear(4, CLASSES, device="meta"), "model: weight is on the device 'meta'"),
    "a list that is no network": (nn.ModuleList(NET), "model: "),
    "without a forward pass": (nn.Module(), "parameters: none"),
    "of another size": (network(inputs=5), "model: called with a tensor [12, 4], float64"),
    "of another precision": (network().float(), "model: called with a tensor [12, 4], float64"),
    "frozen": (network().requires_grad_(False), "parameters: none of the model's requires a gradient"),
    "without parameters": (nn.Tanh(), "parameters: none of the model's requires a gradient"),
    "not a number": (with_value(math.nan), "2.weight: 1 of 18 weights are NaN or infinite"),
    "infinite": (with_value(math.inf), "2.weight: 1 of 18 weights are NaN or infinite"),
}
LOSSES = {
    "None": (None, "loss: NoneType"),
    "a name": ("cross_entropy", "loss: 'cross_entropy'"),
    "a class": (nn.CrossEntropyLoss, "loss: the class CrossEntropyLoss"),
    "a number": (0.5, "loss: float 0.5"),
    "a tensor": (torch.tensor(0.5), "loss: a tensor []"),
    "a Python number": (lambda o, t: cross_entropy(o, t).item(), "loss: returned float"),
    "nothing": (lambda o, t: None, "loss: returned NoneType"),
    "a tuple": (lambda o, t: (cross_entropy(o, t), o), "loss: returned tuple"),
    "an array": (lambda o, t: cross_entropy(o, t).detach().numpy(), "loss: returned "),
    "one value an example": (nn.CrossEntropyLoss(reduction="none"), "loss: returned 12 values"),
    "the outputs": (lambda o, t: o, "loss: returned 36 values"),
    "no values": (lambda o, t: o[:0, 0], "loss: returned 0 values"),
    "complex": (lambda o, t: cross_entropy(o, t) * (1 + 1j), "loss: returned "),
    "detached": (lambda o, t: cross_entropy(o, t).detach(), "loss: no operation of PyTorch connects"),
    "of detached outputs": (lambda o, t: cross_entropy(o.detach(), t), "loss: no operation of PyTorch connects"),
    "a constant": (lambda o, t: torch.tensor(1.0), "loss: no operation of PyTorch connects"),
    "under no_grad": (torch.no_grad()(lambda o, t: cross_entropy(o, t)), "loss: no operation of PyTorch connects"),
    "accuracy": (lambda o, t: (o.argmax(1) == t).double().mean(), "loss: no operation of PyTorch connects"),
    "one argument": (one_argument, "loss: called with"),
    "three arguments": (three_arguments, "loss: called with"),
    "arguments swapped": (lambda t, o: functional.nll_loss(o, t), "loss: called with"),
    "another loss for these targets": (functional.binary_cross_entropy, "loss: called with"),
    "infinite": (lambda o, t: cross_entropy(o, t) / 0, "loss: [inf]"),
    "not a number": (lambda o, t: (cross_entropy(o, t) - 10).sqrt(), "loss: [nan]"),
    "an error of its own": (lambda o, t: {}["weight"], "loss: called with"),
}
BATCHES = {
    "labels of another number": ((X, Y[:11]), "loss: called with"),
    "labels out of range": ((X, Y + 7), "loss: called with"),
    "labels as numbers": ((X, Y.double()), "loss: called with"),
    "swapped": ((Y, X), "model: called with"),
    "of another width": ((X[:, :3], Y), "model: called with"),
    "an array": ((X.numpy(), Y), "model: called with"),
    "lists of numbers": ((X.tolist(), Y.tolist()), ("model: called with", "inputs: ")),
    "a model": (NET, "batch: "),
    "a path": ("data/train.pt", "batch: "),
}
FUNCTIONS = {"sharpness": sharpness, "trace": hessian_trace, "density": spectral_density}
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


@every_function
@pytest.mark.parametrize(("model", "start"), MODELS.values(), ids=MODELS)
def test_models(function, model, start):
    message = refused(lambda: function(model, cross_entropy, BATCH), start)
    assert "allowed" in message or "at least one must" in message or "diverged" in message


@every_function
@pytest.mark.parametrize(("loss", "start"), LOSSES.values(), ids=LOSSES)
def test_losses(function, loss, start):
    message = refused(lambda: function(NET, loss, BATCH), start)
    assert "allowed" in message or "finite values are needed" in message


@pytest.mark.parametrize("name", ["a name", "a Python number", "one value an example", "detached", "not a number"])
def test_losses_with_several_batches_and_in_pieces(name):
    loss, start = LOSSES[name]
    refused(lambda: sharpness(NET, loss, [(X[:6], Y[:6]), (X[6:], Y[6:])]), "loss: ")
    refused(lambda: sharpness(NET, loss, BATCH, micro_batch=5), "loss: ")
    for matrix in ("gauss_newton", "residual"):
        refused(lambda matrix=matrix: sharpness(NET, loss, BATCH, matrix=matrix), start)


@every_function
@pytest.mark.parametrize(("batch", "start"), BATCHES.values(), ids=BATCHES)
def test_batches(function, batch, start):
    refused(lambda: function(NET, cross_entropy, batch), start, "allowed")


def test_arguments_in_another_order():
    refused(lambda: sharpness(NET, BATCH, cross_entropy), "loss: tuple of (Tensor, Tensor)", "allowed")
    refused(lambda: sharpness(cross_entropy, NET, BATCH), "model: function", "allowed")
    refused(lambda: hessian_trace(NET, X, Y), "loss: a tensor [12, 4]", "allowed")
    refused(lambda: spectral_density(BATCH, NET, cross_entropy), "model: tuple of (Tensor, Tensor)", "allowed")


# --- numbers and options ----------------------------------------------------------------------------------------------

START = sharpness(network(hidden=5), cross_entropy, BATCH)
OPTIONS = {
    "k": [0, -1, 52, 10**9, 2.0, 1.5, "2", None, True, [1], math.nan, torch.tensor([1, 2])],
    "tol": [0, 0.0, -1e-3, math.nan, "1e-3", None, True, [1e-3], 1j, {}],
    "max_products": [0, -5, 2.5, 100.0, "all", None, True, math.inf],
    "seed": [-1, 0.5, "0", None, True, math.nan, [0]],
    "micro_batch": [0, -4, 4.0, "4", True, [4], math.nan],
    "matrix": ["fisher", "Hessian", "", None, 0, True, ["hessian"], {"hessian"}, nn.Linear],
    "smallest": [1, 0, "yes", None, 1.0, []],
    "allow_tf32": [1, 0, "no", None],
    "rates": [0.1, 1, "1, 1, 1, 1", [], [1.0], [1.0] * 5, [1, 1, 1, None], [1, 1, 1, "x"], [1, 1, 1, -1.0],
              [1, 1, 1, math.nan], [math.inf] * 4, [[1, 2]] * 4, torch.ones(4, 2), {"lr": 0.1}, [1, 1, 1, 1j]],
    "start": [0.5, "last", START.vectors, START.values, [START], (START, START), START, NET, torch.randn(51)],
    "batch_weight": [3, "size", [1.0], True, lambda targets: None, lambda targets: "x", lambda targets: -1.0,
                     lambda targets: math.nan, lambda targets: math.inf, lambda targets: 0, lambda targets: targets,
                     lambda: 1.0, lambda targets: targets.missing],
}  # fmt: skip


def named(pairs):
    """Names of cases that are the same in every process."""
    return [f"{name} {type(value).__name__} {place}" for place, (name, value) in enumerate(pairs)]


GIVEN = [(name, value) for name, values in OPTIONS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), GIVEN, ids=named(GIVEN))
def test_options_of_sharpness(name, value):
    refused(lambda: sharpness(NET, cross_entropy, BATCH, **{name: value}), name, "allowed")


NUMBERS = {"vectors": [0, -3, 2.0, "30", None, True, math.inf], "seed": [-1, 0.5, "0", None, True]}
SHARED = [(name, value) for name in ("micro_batch", "batch_weight") for value in OPTIONS[name]]
OF_TRACE = [(n, v) for n, values in NUMBERS.items() for v in values] + [("vectors", 1)] + SHARED
OF_DENSITY = (
    [(n, v) for n, values in NUMBERS.items() for v in values] + [("steps", v) for v in NUMBERS["vectors"]] + SHARED
)


@pytest.mark.parametrize(("name", "value"), OF_TRACE, ids=named(OF_TRACE))
def test_options_of_the_trace(name, value):
    refused(lambda: hessian_trace(NET, cross_entropy, BATCH, **{name: value}), name, "allowed")


@pytest.mark.parametrize(("name", "value"), OF_DENSITY, ids=named(OF_DENSITY))
def test_options_of_the_density(name, value):
    refused(lambda: spectral_density(NET, cross_entropy, BATCH, **{name: value}), name, "allowed")


@pytest.mark.parametrize("whole", [np.int64(2), torch.tensor(2).item(), 2])
def test_integers_of_other_libraries_are_integers(whole):
    found = sharpness(NET, cross_entropy, BATCH, k=whole, max_products=whole + 30, seed=whole, micro_batch=whole)
    assert found.values.shape == (2,)
    assert hessian_trace(NET, cross_entropy, BATCH, vectors=whole).products == 2


def test_numbers_of_other_libraries_are_numbers():
    for tol in (np.float32(1e-2), np.float64(1e-2), 1):
        assert sharpness(NET, cross_entropy, BATCH, tol=tol).converged
    for rates in (np.ones(4), torch.ones(4), (1, 1, 1, 1), iter([1.0] * 4), range(1, 5)):
        assert sharpness(NET, cross_entropy, BATCH, rates=rates).converged


# --- feature speed ----------------------------------------------------------------------------------------------------

Attention = nn.TransformerEncoderLayer(4, 2, batch_first=True, dtype=DOUBLE)
LAYERS = {
    "None": (None, "layers: NoneType"),
    "a name": ("resnet", "layers: 'resnet'"),
    "a function": (torch.tanh, "layers: builtin_function_or_method"),
    "a class": (nn.Sequential, "layers: the class Sequential"),
    "a number": (3, "layers: int 3"),
    "one module": (Attention, "layers: TransformerEncoderLayer is one module (its parts: self_attn, linear1"),
    "one layer": (nn.Linear(4, CLASSES), "layers: Linear is one module (its parts: none)"),
    "a mapping of modules": (nn.ModuleDict({"a": NET[0]}), "layers: ModuleDict"),
    "a mapping": ({"a": NET[0]}, "layers: dict"),
    "a set": ({NET[0]}, "layers: set"),
    "a generator": ((layer for layer in NET), "layers: generator"),
    "named": (list(NET.named_children()), "layers: entry 1 is tuple"),
    "a function among them": ([NET[0], torch.tanh, NET[2]], "layers: entry 2 is builtin_function_or_method"),
    "a class among them": ([NET[0], nn.Tanh, NET[2]], "layers: entry 2 is the class Tanh"),
    "None among them": ([NET[0], None], "layers: entry 2 is NoneType"),
    "parameters": (list(NET.parameters()), "layers: entry 1 is a tensor [6, 4]"),
    "lists": ([[NET[0]], [NET[2]]], "layers: entry 1 is list"),
    "none": ([], "layers: empty"),
    "none in a module": (nn.Sequential(), "layers: empty"),
    "several outputs": ([nn.LSTM(4, 3, dtype=DOUBLE)], "layers: entry 1 (LSTM) returned tuple"),
    "a mapping as output": ([nn.Sequential(NET), Attention], ("model: ", "layers: ")),
    "sizes that do not fit": ([NET[0], NET[0]], "model: called with"),
    "another precision": (network().float(), "model: called with"),
    "a lazy layer": ([nn.LazyLinear(CLASSES)], "model: weight has no values yet"),
    "on no device": ([nn.Linear(4, CLASSES, device="meta")], "model: weight is on the device 'meta'"),
}


@pytest.mark.parametrize(("layers", "start"), LAYERS.values(), ids=LAYERS)
def test_layers_of_feature_speed(layers, start):
    message = refused(lambda: measure_feature_speed(layers, cross_entropy, BATCH), start, kind=ValueError)
    assert "allowed" in message or "at least one layer is needed" in message


FINITE = [name for name in LOSSES if name not in ("infinite", "not a number")]


@pytest.mark.parametrize("name", FINITE)
def test_losses_of_feature_speed(name):
    refused(lambda: measure_feature_speed(NET, LOSSES[name][0], BATCH), "loss: ", "allowed", kind=ValueError)


@pytest.mark.parametrize("name", ["infinite", "not a number"])
def test_losses_that_are_not_finite(name):
    kind = (FloatingPointError, ValueError)
    refused(lambda: measure_feature_speed(NET, LOSSES[name][0], BATCH), ("loss: ", "the loss"), "finite", kind=kind)


@pytest.mark.parametrize(("batch", "start"), BATCHES.values(), ids=BATCHES)
def test_batches_of_feature_speed(batch, start):
    refused(lambda: measure_feature_speed(NET, cross_entropy, batch), start, "allowed", kind=ValueError)


RATES = [0.1, 1, "0.1", [], [0.1], [0.1] * 4, [0.1, 0.1, None], [0.1, 0.1, "x"], [0.1, 0.1, -0.1], [0.1, 0.1, math.nan],
         [0.1, 0.1, math.inf], [[0.1, 0.1, 0.1]], {"lr": 0.1}, {0.1}, torch.ones(2), torch.tensor(0.1), np.ones((3, 1)),
         [0.1, 0.1, 1j], [[0.1], [0.1, 0.2], 0.1], NET, torch.optim.SGD(NET.parameters(), lr=0.1)]  # fmt: skip


@pytest.mark.parametrize("rates", RATES, ids=[str(i) for i, _ in enumerate(RATES)])
def test_rates_of_feature_speed(rates):
    refused(
        lambda: measure_feature_speed(NET, cross_entropy, BATCH, rates), "learning_rates: ", "allowed", kind=ValueError
    )


@pytest.mark.parametrize(
    "rates", [(1, 2, 3), [1.0, 0.0, 0.5], np.ones(3), torch.ones(3), torch.ones(3, dtype=torch.int), range(3)]
)
def test_rates_of_other_kinds(rates):
    found = measure_feature_speed(NET, cross_entropy, BATCH, rates)
    assert found.learning_rate.tolist() == [float(rate) for rate in rates]


def test_errors_are_those_of_the_package():
    with pytest.raises(CurvatureError) as raised:
        sharpness(NET, "loss", BATCH)
    assert isinstance(raised.value, UserError) and isinstance(raised.value, ValueError)
