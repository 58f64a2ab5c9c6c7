"""Products are those of one symmetric matrix: inputs that change in place, and passes that differ are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    DOUBLE,
    Made,
    X,
    Y,
    cross_entropy,
    every_measure,
    hessian,
    network,
    normal,
    refused,
    spectrum,
    top,
)

# --- a forward pass that changes its inputs ---------------------------------------------------------------------------


def shifted(net, v):
    v -= 0.3
    v /= 1.5
    return net(v)


def clipped(net, v):
    return net(v.clamp_(-0.5, 0.5))


def one_column(net, v):
    v[:, 0] *= -2
    return net(v)


def through_a_view(net, v):
    v.view(-1).add_(0.25)
    return net(v)


def one_row(net, v):
    v[0].zero_()
    return net(v)


def out_argument(net, v):
    torch.tanh(v, out=v)
    return net(v)


def resized(net, v):
    v.data = v.data * 0.5
    return net(v)


EACH_EXAMPLE = {f.__name__: f for f in (shifted, clipped, one_column, through_a_view, out_argument, resized)}
IN_PLACE = EACH_EXAMPLE | {"one_row": one_row}


@every_measure
@pytest.mark.parametrize("forward", IN_PLACE.values(), ids=IN_PLACE)
def test_inputs_that_forward_changes_in_place(measure, forward):
    own = X.clone()
    found = measure(Made(forward), cross_entropy, (own, Y))
    changed = X.clone()
    forward(lambda v: v, changed)  # the same network on inputs that are as after the change
    assert found == pytest.approx(measure(network(), cross_entropy, (changed, Y)), rel=1e-9)
    assert torch.equal(own, X)


@every_measure
@pytest.mark.parametrize("size", [5])
@pytest.mark.parametrize("forward", EACH_EXAMPLE.values(), ids=EACH_EXAMPLE)
def test_inputs_that_forward_changes_in_place_under_micro_batch(measure, forward, size):
    own = X.clone()
    found = measure(Made(forward), cross_entropy, (own, Y), micro_batch=size)
    changed = X.clone()
    forward(lambda v: v, changed)
    assert found == pytest.approx(measure(network(), cross_entropy, (changed, Y)), rel=1e-9)
    assert torch.equal(own, X)


def test_a_change_of_the_first_example_of_a_batch_cannot_be_cut():
    refused(lambda: sharpness(Made(one_row), cross_entropy, BATCH, micro_batch=4), "micro_batch: ", "allowed")


@pytest.mark.parametrize("size", [None, 4])
def test_entries_of_mappings_and_tuples_that_are_changed(size):
    def of_mapping(net, a, b):
        a.mul_(2.0)
        b.sub_(a)
        return net(a + b)

    def of_tuple(net, a, b):
        b += a
        return net(b)

    mapping = {"a": X.clone(), "b": normal(12, 4, seed=3)}
    kept = {name: value.clone() for name, value in mapping.items()}
    net = network()
    wanted = float(spectrum(hessian(lambda: cross_entropy(net(kept["b"]), Y), net.parameters()))[0])
    found = sharpness(Made(of_mapping), cross_entropy, (mapping, Y), tol=1e-9, micro_batch=size)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-8)
    assert all(torch.equal(mapping[name], kept[name]) for name in mapping)
    pair = X.clone(), normal(12, 4, seed=3)
    wanted = float(spectrum(hessian(lambda: cross_entropy(net(pair[0] + kept["b"]), Y), net.parameters()))[0])
    found = sharpness(Made(of_tuple), cross_entropy, (pair, Y), tol=1e-9, micro_batch=size)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-8)
    assert torch.equal(pair[1], kept["b"])


@every_measure
@pytest.mark.parametrize("size", [None, 4])
def test_targets_and_outputs_that_the_loss_changes_in_place(measure, size):
    targets, goal = normal(12, CLASSES, seed=2), normal(12, CLASSES, seed=2)

    def smoothed(outputs, t):
        t.mul_(0.9).add_(0.1)
        return functional.mse_loss(outputs, t)

    def shifted_outputs(outputs, t):
        outputs += 1.0
        return functional.mse_loss(outputs.tanh(), t)

    found = measure(network(), smoothed, (X, targets), micro_batch=size)
    assert found == pytest.approx(measure(network(), functional.mse_loss, (X, 0.9 * goal + 0.1)), rel=1e-9)
    assert torch.equal(targets, goal)
    found = measure(network(), shifted_outputs, (X, targets), micro_batch=size)
    wanted = measure(network(), lambda o, t: functional.mse_loss((o + 1).tanh(), t), (X, targets))
    assert found == pytest.approx(wanted, rel=1e-9)


@every_measure
def test_batches_that_are_used_again_by_the_caller_after_a_change(measure):
    halves = [(X[:6].clone(), Y[:6]), (X[6:].clone(), Y[6:])]
    found = measure(Made(shifted), cross_entropy, halves)
    assert found == pytest.approx(measure(Made(shifted), cross_entropy, BATCH), rel=1e-9)
    assert torch.equal(torch.cat([x for x, _ in halves]), X)


@pytest.mark.parametrize("forward", IN_PLACE.values(), ids=IN_PLACE)
def test_feature_speed_of_a_layer_that_changes_its_inputs(forward):
    own, changed = X.clone(), X.clone()
    layers = [Made(forward), nn.Linear(CLASSES, CLASSES, dtype=DOUBLE)]
    found = measure_feature_speed(layers, cross_entropy, (own, Y))
    forward(lambda v: v, changed)
    wanted = measure_feature_speed([network(), layers[1]], cross_entropy, (changed, Y))
    torch.testing.assert_close(found.feature_speed, wanted.feature_speed, rtol=1e-10, atol=0)
    assert torch.equal(own, X)


# --- a forward pass that is not the same twice ------------------------------------------------------------------------


class Counting(nn.Module):
    """Another factor on the outputs at each of ``period`` calls, as from a schedule."""

    def __init__(self, period: int, size: float = 0.1):
        super().__init__()
        self.net, self.period, self.size, self.calls = network(), period, size, 0

    def forward(self, x):
        self.calls += 1
        return self.net(x) * (1 + self.size * (self.calls % self.period))


class Averaging(nn.Module):
    """Centres features with a running mean that moves in evaluation mode, too."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.register_buffer("mean", torch.zeros(4, dtype=DOUBLE))

    def forward(self, x):
        self.mean.lerp_(x.mean(0), 0.3)
        return self.net(x - self.mean)


class Remembering(nn.Module):
    """Adds what it made of the batch before."""

    def __init__(self):
        super().__init__()
        self.net, self.last = network(), 0.0

    def forward(self, x):
        outputs = self.net(x)
        found = outputs + 0.5 * self.last
        self.last = outputs.detach().mean(0)
        return found


UNSTEADY = {
    "dropout": lambda: Made(lambda net, v: net[2](functional.dropout(net[1](net[0](v)), 0.2, True))),
    "alpha dropout": lambda: Made(lambda net, v: net[2](functional.feature_alpha_dropout(net[0](v), 0.2, True))),
    "noise on inputs": lambda: Made(lambda net, v: net(v + 0.01 * torch.randn_like(v))),
    "noise on outputs": lambda: Made(lambda net, v: net(v) * (1 + 0.01 * torch.randn(len(v), 1, dtype=v.dtype))),
    "noise on weights": lambda: Made(
        lambda net, v: functional.linear(v, net[0].weight * torch.rand(6, 1)) @ net[2].weight.T
    ),
    "random rounding": lambda: Made(lambda net, v: net(torch.floor(8 * v + torch.rand_like(v)) / 8)),
    "random pairs": lambda: Made(lambda net, v: net(0.7 * v + 0.3 * v[torch.randperm(len(v))])),
    "gumbel": lambda: Made(lambda net, v: functional.gumbel_softmax(net(v))),
    "rrelu": lambda: Made(lambda net, v: functional.rrelu(net(v), training=True)),
    "counting to 2": lambda: Counting(2),
    "counting to 3": lambda: Counting(3),
    "counting to 7": lambda: Counting(7),
    "averaging": Averaging,
    "remembering": Remembering,
}
unsteady = pytest.mark.parametrize("make", UNSTEADY.values(), ids=UNSTEADY)
#: Several batches, pieces of one, and a loss that calls the model itself.
FORMS = {
    "whole": (cross_entropy, BATCH, {}),
    "micro_batch": (cross_entropy, BATCH, {"micro_batch": 4}),
    "batches": (cross_entropy, [(X[i : i + 3], Y[i : i + 3]) for i in (0, 3, 6, 9)], {}),
    "loss of the batch": (lambda model, batch: cross_entropy(model(batch[0]), batch[1]), BATCH, {}),
}


#: One pass, with buffers and attributes as they were, is what the caller would get: see the next test.
ALLOWED = {(name, form) for name in ("averaging", "remembering") for form in ("whole", "loss of the batch")}
REFUSED = [(name, form) for name in UNSTEADY for form in FORMS if (name, form) not in ALLOWED]


@pytest.mark.parametrize(("name", "form"), REFUSED)
def test_a_forward_pass_that_is_not_the_same_twice_is_refused(name, form):
    loss, batch, options = FORMS[form]
    model = UNSTEADY[name]()
    refused(lambda: sharpness(model, loss, batch, **options), ("model: ", "loss: ", "micro_batch: "), "allowed")


@pytest.mark.parametrize("number", [2, 3, 4, 6])
@pytest.mark.parametrize("period", [2, 3, 4, 6, 12])
def test_a_counter_is_seen_whatever_its_period(period, number):
    batches = list(zip(X.tensor_split(number), Y.tensor_split(number), strict=True))
    refused(lambda: sharpness(Counting(period), cross_entropy, batches), "model: ", "allowed")


def test_a_buffer_that_moves_starts_where_it_was():
    """Of one batch in one piece there is one pass to differentiate: the one that the caller would get."""
    model, net = Averaging(), network()
    wanted = top(lambda: cross_entropy(net(X - 0.3 * X.mean(0)), Y), net)
    assert sharpness(model, cross_entropy, BATCH, tol=1e-9).eigenvalue == pytest.approx(wanted, rel=1e-8)
    assert not model.mean.any()


@pytest.mark.parametrize("name", ["dropout", "noise on outputs", "counting to 3"])
def test_the_other_measures_refuse_it_too(name):
    make = UNSTEADY[name]
    for measure in (hessian_trace, spectral_density):
        refused(lambda measure=measure: measure(make(), cross_entropy, BATCH), "model: ", "allowed")
    for matrix in ("gauss_newton", "residual"):
        refused(lambda matrix=matrix: sharpness(make(), cross_entropy, BATCH, matrix=matrix), "model: ", "allowed")


@unsteady
def test_it_is_refused_by_feature_speed(make):
    layers = [make(), nn.Linear(CLASSES, CLASSES, dtype=DOUBLE)]
    start = "layers: two passes"
    refused(lambda: measure_feature_speed(layers, cross_entropy, BATCH), start, "allowed", kind=ValueError)


@every_measure
@pytest.mark.parametrize("after", [4, 9, 13])
def test_a_change_in_the_midst_of_the_products_is_seen(measure, after):
    """With pieces that are run again for each product; one graph that is kept stays what it is."""

    class Late(Counting):
        def forward(self, x):
            self.calls += 1
            return self.net(x) * (2.0 if self.calls > after else 1.0)

    refused(lambda: measure(Late(1), cross_entropy, BATCH, micro_batch=4), ("model: ", "micro_batch: "), "allowed")
    assert measure(Late(1), cross_entropy, BATCH) == measure(network(), cross_entropy, BATCH)


def test_rounding_between_passes_is_no_difference():
    """In bfloat16 the rows of a product are rounded otherwise in a batch of another size."""
    model = network(hidden=64).to(torch.bfloat16)
    batch = X.to(torch.bfloat16), Y
    whole = sharpness(model, cross_entropy, batch).eigenvalue
    for size in (1, 5):
        assert sharpness(model, cross_entropy, batch, micro_batch=size).eigenvalue == pytest.approx(whole, rel=3e-2)
