"""One batch and several: loaders, generators, mappings that are batches, single examples, a loss of the batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from tests.measuring.cases import (
    BATCH,
    Made,
    X,
    Y,
    cross_entropy,
    every_measure,
    forms,
    network,
    refused,
    right_or_refused,
    top,
)
from tests.probes.cases import DOUBLE

HALVES = [(X[:5], Y[:5]), (X[5:], Y[5:])]


class Examples(Dataset):
    """Single examples with integer labels."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index >= 12:
            raise IndexError
        return X[index], int(Y[index])


class Stream(IterableDataset):
    """Batches one after the other."""

    def __iter__(self):
        return iter(HALVES)


class Loader:
    """What is no loader of PyTorch's and yields batches every time that it is asked."""

    def __iter__(self):
        yield from HALVES


def loaded(examples):
    return {"inputs": torch.stack([x for x, _ in examples]), "labels": torch.tensor([y for _, y in examples])}


SEVERAL = {
    "list": lambda: HALVES,
    "list of lists": lambda: [list(pair) for pair in HALVES],
    "list of one": lambda: [BATCH],
    "list that is a pair": lambda: [X, Y],
    "generator": lambda: (pair for pair in HALVES),
    "map": lambda: map(tuple, HALVES),
    "zip": lambda: zip(X.split([4, 7, 1]), Y.split([4, 7, 1]), strict=True),
    "an object that iterates": Loader,
    "DataLoader": lambda: DataLoader(TensorDataset(X, Y), batch_size=5),
    "DataLoader, shuffled": lambda: DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True),
    "DataLoader of single examples": lambda: DataLoader(TensorDataset(X, Y), batch_size=1),
    "DataLoader without batches": lambda: DataLoader(TensorDataset(X, Y), batch_size=None),
    "DataLoader of integers": lambda: DataLoader(Examples(), batch_size=7),
    "DataLoader of a subset": lambda: DataLoader(Subset(TensorDataset(X.repeat(2, 1), Y.repeat(2)), range(12)), 4),
    "stream": Stream,
    "DataLoader of a stream": lambda: DataLoader(Stream(), batch_size=None),
    "examples and scalars": lambda: list(zip(X, Y, strict=True)),
}


@pytest.mark.parametrize("batches", SEVERAL.values(), ids=SEVERAL)
def test_several_batches_of_every_form(batches):
    wanted = forms(network(), cross_entropy, BATCH)
    assert forms(network(), cross_entropy, batches()) == pytest.approx(wanted, rel=1e-9)


def test_examples_with_integer_labels():
    """The loss must take them: what it raises is told in one line."""
    examples = [(x, int(y)) for x, y in zip(X, Y, strict=True)]

    def loss(outputs, targets):
        return cross_entropy(outputs, torch.as_tensor(targets))

    wanted = forms(network(), cross_entropy, BATCH)
    right_or_refused(lambda: forms(network(), loss, examples), wanted, "batch: ", 1e-9)
    assert forms(network(), loss, examples, batch_weight=lambda label: 1) == pytest.approx(wanted, rel=1e-9)
    refused(lambda: sharpness(network(), cross_entropy, examples), ("batch: ", "loss: "), "allowed")


@pytest.mark.parametrize("name", ["list", "generator", "DataLoader", "list that is a pair"])
def test_several_batches_in_pieces(name):
    wanted = forms(network(), cross_entropy, BATCH)
    assert forms(network(), cross_entropy, SEVERAL[name](), micro_batch=2) == pytest.approx(wanted, rel=1e-9)


@every_measure
def test_every_measure_takes_a_generator_once(measure):
    taken = []

    def batches():
        for pair in HALVES:
            taken.append(1)
            yield pair

    wanted = measure(network(), cross_entropy, BATCH)
    assert measure(network(), cross_entropy, batches()) == pytest.approx(wanted, rel=1e-8)
    assert len(taken) == 2


def test_a_data_set_is_no_batch():
    for data in (TensorDataset(X, Y), Examples(), Subset(Examples(), [0, 1]), ConcatDataset([TensorDataset(X, Y)] * 2)):
        for measure in (sharpness, hessian_trace, spectral_density):
            reason = type(data).__name__, "allowed", "DataLoader"
            refused(lambda data=data, measure=measure: measure(network(), cross_entropy, data), "batch: ", *reason)
        refused(lambda data=data: measure_feature_speed(network(), cross_entropy, data), "batch: ", kind=ValueError)


@pytest.mark.parametrize("batches", [HALVES, [BATCH, BATCH], DataLoader(TensorDataset(X, Y), batch_size=4)])
def test_feature_speed_takes_one_batch(batches):
    net = network()
    refused(lambda: measure_feature_speed(net, cross_entropy, batches), "batch: ", "allowed: one", kind=ValueError)
    for one in ([BATCH], [X, Y], iter([BATCH]), DataLoader(TensorDataset(X, Y), batch_size=12)):
        found = measure_feature_speed(network(), cross_entropy, one)
        wanted = measure_feature_speed(network(), cross_entropy, BATCH)
        torch.testing.assert_close(found.feature_speed, wanted.feature_speed, rtol=1e-12, atol=0)


# --- a mapping that is the batch --------------------------------------------------------------------------------------


def own_loss(net, inputs, labels=None):
    outputs = net(inputs)
    return {"logits": outputs} | ({} if labels is None else {"loss": cross_entropy(outputs, labels)})


def test_a_mapping_is_the_batch_and_its_own_targets():
    wanted = forms(network(), cross_entropy, BATCH)
    batch = {"inputs": X, "labels": Y}
    loader = DataLoader(Examples(), batch_size=5, collate_fn=loaded)
    halves = [{"inputs": x, "labels": y} for x, y in HALVES]

    def by_labels(outputs, targets):
        return cross_entropy(outputs["logits"], targets["labels"])

    def logits_only(net, inputs, labels):
        return {"logits": net(inputs)}

    for loss in (lambda outputs, targets: outputs["loss"], by_labels):
        assert forms(Made(own_loss), loss, batch) == pytest.approx(wanted, rel=1e-9)
    for given, size in ((batch, None), (batch, 5), (loader, None), (halves, None)):
        assert forms(Made(logits_only), by_labels, given, micro_batch=size) == pytest.approx(wanted, rel=1e-9)


def test_losses_that_the_model_made_itself():
    """They are outputs, of which there is one a batch: batches have to say what they count for."""
    wanted = forms(network(), cross_entropy, BATCH)
    halves = [{"inputs": x, "labels": y} for x, y in HALVES]

    def loss(outputs, targets):
        return outputs["loss"]

    found = forms(Made(own_loss), loss, halves, batch_weight=lambda batch: len(batch["labels"]))
    assert found == pytest.approx(wanted, rel=1e-9)
    right_or_refused(lambda: forms(Made(own_loss), loss, halves), wanted, "batch: ", 1e-9)
    batch = {"inputs": X, "labels": Y}
    right_or_refused(lambda: forms(Made(own_loss), loss, batch, micro_batch=5), wanted, "micro_batch: ", 1e-9)


def test_a_mapping_with_more_than_the_model_takes():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, inputs):
            return self.net(inputs)

    batch = {"inputs": X, "labels": Y}
    loss = nn.CrossEntropyLoss()
    refused(lambda: sharpness(Strict(), loss, batch), ("model: ", "inputs: "), "allowed")
    found = forms(Strict(), lambda model, batch: cross_entropy(model(batch["inputs"]), batch["labels"]), batch)
    assert found == pytest.approx(forms(network(), cross_entropy, BATCH), rel=1e-9)


# --- a loss of the model and the batch --------------------------------------------------------------------------------


def of_pair(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


class OfTriple(nn.Module):
    def forward(self, model, batch):
        x, y, weights = batch
        return (cross_entropy(model(x), y, reduction="none") * weights).mean()


def of_mapping(model, given, scale=1.0):
    return cross_entropy(model(given["x"]), given["y"]) * scale


def of_nothing(model, batch):
    return cross_entropy(model(X), Y)


def of_tensor(model, batch):
    return cross_entropy(model(batch[:, :4]), batch[:, 4].long())


def of_halves(model, batch):
    return (5 * of_pair(model, HALVES[0]) + 7 * of_pair(model, HALVES[1])) / 12


OF_BATCH = {
    "pair": (of_pair, BATCH),
    "list of pairs": (of_pair, HALVES),
    "loader": (of_pair, DataLoader(TensorDataset(X, Y), batch_size=5)),
    "triple": (OfTriple().forward, (X, Y, torch.ones(12, dtype=DOUBLE))),
    "mapping": (of_mapping, {"x": X, "y": Y}),
    "None": (of_nothing, None),
    "a number": (of_nothing, 3),
    "text": (of_nothing, "all of it"),
    "a tensor": (of_tensor, torch.cat([X, Y[:, None]], 1)),
    "twice in one loss": (of_halves, BATCH),
}


@pytest.mark.parametrize(("loss", "batch"), OF_BATCH.values(), ids=OF_BATCH)
def test_a_loss_of_the_model_and_the_batch(loss, batch):
    net = network()
    wanted = top(lambda: cross_entropy(net(X), Y), net)
    assert sharpness(net, loss, batch, tol=1e-7).eigenvalue == pytest.approx(wanted, rel=1e-6)


def test_a_loss_with_derivatives_by_the_inputs():
    """As of a differential equation: ``|du/dx|^2``, in which the network is differentiated by what it is given."""
    net = network(outputs=1)

    def loss(model, batch):
        x = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return slope.square().mean() + model(x).square().mean()

    wanted = top(lambda: loss(net, BATCH), net)
    assert sharpness(net, loss, BATCH, tol=1e-7).eigenvalue == pytest.approx(wanted, rel=1e-6)


def test_what_such_a_loss_cannot_be_asked():
    net = network()
    refused(lambda: sharpness(net, of_pair, BATCH, micro_batch=5), "micro_batch = 5", "allowed")
    for matrix in ("gauss_newton", "residual"):
        refused(lambda matrix=matrix: sharpness(net, of_pair, BATCH, matrix=matrix), "loss: ", "allowed")
    reason = "loss: called the model 2 times", "allowed"
    refused(lambda: measure_feature_speed(net, of_halves, BATCH), *reason, kind=ValueError)


@pytest.mark.parametrize("name", ["pair", "triple", "mapping", "None", "a tensor"])
def test_feature_speed_of_such_a_loss(name):
    loss, batch = OF_BATCH[name]
    found, wanted = (measure_feature_speed(network(), *of) for of in ((loss, batch), (cross_entropy, BATCH)))
    torch.testing.assert_close(found.feature_speed, wanted.feature_speed, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.angle, wanted.angle, rtol=0, atol=1e-10)


# --- few examples, and no targets -------------------------------------------------------------------------------------


def energy(outputs, targets):
    assert targets is None
    return outputs.square().mean()


@pytest.mark.parametrize("size", [None, 5])
def test_no_targets(size):
    net = network()
    wanted = forms(net, lambda o, t: o.square().mean(), (X, Y))
    for batch in ((X, None), [X, None], [(X, None)], [(X[:5], None), (X[5:], None)]):
        assert forms(net, energy, batch, micro_batch=size) == pytest.approx(wanted, rel=1e-9)
    assert measure_feature_speed(net, energy, (X, None)).formula_error.max() < 1e-10


@pytest.mark.parametrize("label", [Y[3], 1])
def test_one_example_without_a_batch(label):
    net = network()

    def loss(outputs, targets):
        return cross_entropy(outputs, torch.as_tensor(targets))

    wanted = top(lambda: cross_entropy(net(X[3]), Y[3]), net)
    assert sharpness(net, loss, (X[3], label), tol=1e-7).eigenvalue == pytest.approx(wanted, rel=1e-6)
    found = measure_feature_speed(net, loss, (X[3], label))
    torch.testing.assert_close(found.angle, measure_feature_speed(net, cross_entropy, (X[3:4], Y[3:4])).angle)


def test_numbers_as_inputs_and_targets():
    model = Made(lambda net, v: net(torch.full((2, 4), v, dtype=DOUBLE)).mean())
    wanted = top(lambda: (model(0.5) - 2.0) ** 2, model)
    found = sharpness(model, lambda o, t: (o - t) ** 2, (0.5, 2.0), tol=1e-7)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-6)


@every_measure
def test_one_example_in_a_batch_and_pieces_longer_than_the_batch(measure):
    one = X[:1], Y[:1]
    wanted = measure(network(), cross_entropy, one)
    for size in (1, 2, 100):
        assert measure(network(), cross_entropy, one, micro_batch=size) == pytest.approx(wanted, rel=1e-12)
    assert measure(network(), cross_entropy, BATCH, micro_batch=12) == measure(network(), cross_entropy, BATCH)


NO_BATCHES = {
    "no examples": (torch.zeros(0, 4, dtype=DOUBLE), torch.zeros(0, dtype=torch.long)),
    "no batches": [],
    "an exhausted generator": iter([]),
    "an empty batch among others": [BATCH, (X[:0], Y[:0])],
    "None": None,
    "a tensor": X,
    "a list of tensors": [X],
    "three": (X, Y, Y),
    "a list of three": [X, Y, Y],
    "triples": [(X, Y, Y)],
    "triples of a loader": DataLoader(TensorDataset(X, Y, Y)),
    "inputs only of a loader": DataLoader(TensorDataset(X)),
    "text": "x, y",
    "names": ("x", "y"),
    "a number": 12,
    "a loss": cross_entropy,
    "a module": nn.Linear(4, 3),
    "an empty tuple": (),
    "an object": object(),
}


@pytest.mark.parametrize("batch", NO_BATCHES.values(), ids=NO_BATCHES)
def test_what_is_no_batch(batch):
    refused(lambda: sharpness(network(), cross_entropy, batch), "batch: ")
    if not hasattr(batch, "__next__"):
        refused(lambda: hessian_trace(network(), cross_entropy, batch), "batch: ")
        refused(lambda: measure_feature_speed(network(), cross_entropy, batch), "batch: ", kind=ValueError)
