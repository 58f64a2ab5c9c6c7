"""Every form in which inputs and outputs come: tuples, mappings, objects of another library."""

from __future__ import annotations

import inspect
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType

import pytest
import torch
from torch import nn

from featurespeed import measure_feature_speed, sharpness
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    Made,
    X,
    Y,
    cross_entropy,
    forms,
    network,
    normal,
    refused,
    right_or_refused,
    top,
)
from tests.probes.cases import DOUBLE

A, B = X - 0.5, normal(12, 4, seed=3)
Pair = namedtuple("Pair", ["a", "b"])


def summed(net, a, b):
    return net(a) - net(b).tanh()


def loss_of_two(model, batch):
    return cross_entropy(summed(model.net, A, B), Y)


# --- inputs -----------------------------------------------------------------------------------------------------------


class Encoding(UserDict):
    """A mapping that is no dict, as of a tokenizer."""


class Attributes(OrderedDict):
    """A mapping whose entries are attributes as well."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


#: A forward pass, and inputs for it.
INPUTS = {
    "tuple, several arguments": (summed, (A, B)),
    "list, several arguments": (summed, [A, B]),
    "tuple, one argument": (lambda net, ab: summed(net, *ab), (A, B)),
    "list, one argument": (lambda net, ab: summed(net, *ab), [A, B]),
    "named tuple, several arguments": (summed, Pair(A, B)),
    "named tuple, one argument": (lambda net, ab: summed(net, ab.a, ab.b), Pair(A, B)),
    "dict, keywords": (summed, {"a": A, "b": B}),
    "dict in another order": (summed, {"b": B, "a": A}),
    "dict, one argument": (lambda net, ab: summed(net, ab["a"], ab["b"]), {"a": A, "b": B}),
    "UserDict, keywords": (summed, Encoding(a=A, b=B)),
    "UserDict, one argument": (lambda net, ab: summed(net, ab.data["a"], ab["b"]), Encoding(a=A, b=B)),
    "OrderedDict with attributes": (lambda net, ab: summed(net, ab.a, ab.b), Attributes(a=A, b=B)),
    "a mapping that cannot be made": (summed, MappingProxyType({"a": A, "b": B})),
    "nested": (lambda net, ab: summed(net, ab["x"][0], ab["x"][1]["b"]), {"x": (A, {"b": B})}),
    "nested, several arguments": (lambda net, a, rest: summed(net, a, rest["b"]), (A, {"b": B})),
    "with None": (lambda net, a, mask, b: summed(net, a, b), (A, None, B)),
    "an option by its name": (lambda net, a, b, scale=3.0: summed(net, a, b), {"a": A, "b": B}),
    "starred": (lambda net, *ab: summed(net, *ab), (A, B)),
    "starred keywords": (lambda net, **ab: summed(net, ab["a"], ab["b"]), {"a": A, "b": B}),
}


def explicit(forward):
    """A module with the signature of ``forward`` as its own."""

    class Explicit(Made):
        def __init__(self):
            super().__init__(forward)
            self.forward = lambda *inputs, **named: forward(self.net, *inputs, **named)
            self.forward.__signature__ = _without_first(forward)

    return Explicit()


def _without_first(function):
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


@pytest.mark.parametrize(("forward", "inputs"), INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("size", [None, 5])
def test_inputs_of_every_form(forward, inputs, size):
    wanted = forms(Made(summed), loss_of_two, BATCH)
    for model in (Made(forward), explicit(forward)):
        assert forms(model, cross_entropy, (inputs, Y), micro_batch=size) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("forward", "inputs"), INPUTS.values(), ids=INPUTS)
def test_feature_speed_of_inputs_of_every_form(forward, inputs):
    layer = nn.Linear(CLASSES, CLASSES, dtype=DOUBLE)
    wanted = measure_feature_speed([Made(summed), layer], cross_entropy, ((A, B), Y))
    found = measure_feature_speed([explicit(forward), layer], cross_entropy, (inputs, Y))
    torch.testing.assert_close(found.feature_speed, wanted.feature_speed, rtol=1e-10, atol=0)


def test_inputs_that_may_be_meant_in_two_ways():
    """An optional argument: the way that works, or one line where both do and differ."""

    def optional(net, a, b=None):
        return net(a) if b is None else summed(net, a, b)

    wanted = forms(Made(summed), loss_of_two, BATCH)
    assert forms(explicit(optional), cross_entropy, ((A, B), Y)) == pytest.approx(wanted, rel=1e-9)

    def either(net, a, b=None):
        return net(a[0] + a[1]) if b is None else summed(net, a, b)

    refused(lambda: sharpness(explicit(either), cross_entropy, ((A, B), Y)), "inputs: tuple", "allowed")


def test_inputs_that_the_model_does_not_take():
    for inputs in ((A, B, A), {"a": A}, {"a": A, "c": B}, A, "text", None, 3, [A]):
        batch, start = (inputs, Y), ("model: called with", "batch: ")
        refused(lambda batch=batch: sharpness(explicit(summed), cross_entropy, batch), start, "allowed")


# --- objects of another library ---------------------------------------------------------------------------------------


class Graph:
    """Nodes, edges, and to which graph a node belongs; iterates over its fields as some libraries' graphs do."""

    def __init__(self, nodes, edges, member, labels):
        self.nodes, self.edges, self.member, self.labels = nodes, edges, member, labels
        self.clones = 0

    def clone(self):
        return Graph(self.nodes.clone(), self.edges.clone(), self.member.clone(), self.labels.clone())

    def to(self, device):
        return Graph(*(t.to(device) for t in (self.nodes, self.edges, self.member, self.labels)))

    def __iter__(self):
        return iter([("nodes", self.nodes), ("edges", self.edges)])


class Plain:
    """An object that can be copied only, whose nodes a model changes."""

    def __init__(self, nodes):
        self.nodes = nodes


def of_graph(net, graph):
    graph.nodes = graph.nodes * 2
    graph.nodes -= 0.1
    messages = torch.zeros_like(graph.nodes).index_add(0, graph.edges[1], graph.nodes[graph.edges[0]])
    pooled = torch.zeros(int(graph.member.max()) + 1, 4, dtype=DOUBLE).index_add(0, graph.member, messages)
    return net(pooled)


def graph(first=0, count=4):
    nodes = normal(3 * count, 4, seed=first)
    edges = torch.stack([torch.arange(3 * count), (torch.arange(3 * count) + 1) % (3 * count)])
    return Graph(nodes, edges, torch.arange(3 * count) // 3, torch.arange(count) % CLASSES)


def graph_loss(net, given):
    return cross_entropy(of_graph(net, given.clone()), given.labels)


def test_graphs():
    given = graph()
    kept = given.nodes.clone()
    model = Made(of_graph)
    wanted = top(lambda: graph_loss(model.net, given), model)
    for batch in ((given, given.labels), [(given, given.labels)], iter([(given, given.labels)])):
        assert sharpness(model, cross_entropy, batch, tol=1e-7).eigenvalue == pytest.approx(wanted, rel=1e-6)
    found = sharpness(model, lambda model, batch: cross_entropy(model(batch.clone()), batch.labels), given, tol=1e-7)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-6)
    assert torch.equal(given.nodes, kept)
    speed = measure_feature_speed([model], cross_entropy, (given, given.labels))
    gradients = torch.autograd.grad(graph_loss(model.net, given), list(model.parameters()))
    total = float(torch.cat([g.flatten() for g in gradients]).norm())
    assert float(speed.gradient_norm[0]) == pytest.approx(total, rel=1e-9)
    refused(
        lambda: sharpness(model, cross_entropy, (given, given.labels), micro_batch=2),
        "micro_batch = 2",
        "Graph",
        "allowed",
    )
    refused(lambda: sharpness(model, cross_entropy, given), "batch: ", "allowed")
    refused(lambda: sharpness(model, cross_entropy, [given, graph(1)]), ("batch: ", "loss: "), "allowed")


def test_several_batches_of_graphs_count_by_their_labels():
    """Their outputs are tensors, which are put together although the graphs are not."""
    model, given = Made(of_graph), [graph(0, 4), graph(1, 2)]
    mean = [forms(model, lambda model, batch: graph_loss(model.net, batch), each) for each in given]
    found = forms(model, cross_entropy, [(each, each.labels) for each in given])
    assert found == pytest.approx((4 * mean[0] + 2 * mean[1]) / 6, rel=1e-9)


def test_objects_that_can_only_be_copied():
    def of_plain(net, given):
        given.nodes -= 0.5
        return net(given.nodes)

    given = Plain(X.clone())
    wanted = forms(network(), cross_entropy, (A, Y))
    assert forms(Made(of_plain), cross_entropy, (given, Y)) == pytest.approx(wanted, rel=1e-9)
    assert torch.equal(given.nodes, X)


# --- outputs ----------------------------------------------------------------------------------------------------------


@dataclass
class Output:
    """Outputs as attributes."""

    logits: torch.Tensor
    hidden: torch.Tensor | None = None


class Record(OrderedDict):
    """Outputs as entries and as attributes, without those that are None."""

    def __init__(self, *args, **kwargs):
        super().__init__({k: v for k, v in dict(*args, **kwargs).items() if v is not None})

    def __getattr__(self, name):
        return self.get(name)


OUTPUTS = {
    "dict": (lambda net, v: {"logits": net(v), "twice": 2 * net(v)}, lambda o: o["logits"]),
    "tuple": (lambda net, v: (net(v), net(v).sum(1)), lambda o: o[0]),
    "list": (lambda net, v: [net(v)], lambda o: o[0]),
    "named tuple": (lambda net, v: Pair(net(v), v), lambda o: o.a),
    "record": (lambda net, v: Record(logits=net(v), hidden=net[0](v), loss=None), lambda o: o.logits),
    "UserDict": (lambda net, v: Encoding(logits=net(v)), lambda o: o.data["logits"]),
    "nested": (lambda net, v: {"a": [(net(v), v > 0)]}, lambda o: o["a"][0][0]),
    "with labels": (lambda net, v: {"logits": net(v), "best": net(v).argmax(1)}, lambda o: o["logits"]),
    "channels last": (lambda net, v: net(v).T.contiguous().T, lambda o: o),
}


@pytest.mark.parametrize(("forward", "choose"), OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("size", [None, 5])
def test_outputs_of_every_form(forward, choose, size):
    wanted = forms(network(), cross_entropy, BATCH)

    def loss(outputs, targets):
        return cross_entropy(choose(outputs), targets)

    assert forms(Made(forward), loss, BATCH, micro_batch=size) == pytest.approx(wanted, rel=1e-9)
    halves = [(X[:5], Y[:5]), (X[5:], Y[5:])]
    assert forms(Made(forward), loss, halves) == pytest.approx(wanted, rel=1e-9)


def test_outputs_as_an_object():
    """One batch at a time is fine; several have to say what they count for."""
    model, halves = Made(lambda net, v: Output(net(v), net[0](v))), [(X[:5], Y[:5]), (X[5:], Y[5:])]

    def loss(outputs, targets):
        return cross_entropy(outputs.logits, targets)

    wanted = forms(network(), cross_entropy, BATCH)
    assert forms(model, loss, BATCH) == pytest.approx(wanted, rel=1e-9)
    assert forms(model, loss, halves, batch_weight=len) == pytest.approx(wanted, rel=1e-9)
    right_or_refused(lambda: forms(model, loss, halves), wanted, "batch: ", 1e-9)


def test_outputs_as_an_object_are_not_cut():
    model = Made(lambda net, v: Output(net(v)))

    def loss(outputs, targets):
        return cross_entropy(outputs.logits, targets)

    refused(lambda: sharpness(model, loss, BATCH, micro_batch=5), "micro_batch: the model returned Output", "allowed")


def test_a_layer_that_returns_several_tensors_is_one_line():
    layers = [nn.GRU(4, 3, batch_first=True, dtype=DOUBLE), nn.Linear(3, 3, dtype=DOUBLE)]
    message = "layers: entry 1 (GRU) returned tuple"
    refused(lambda: measure_feature_speed(layers, cross_entropy, (X[:, None], Y)), message, "allowed", kind=ValueError)
