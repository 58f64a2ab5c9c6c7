"""Where the examples of a batch lie: tokens, masks, time before examples, and outputs in low precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import hessian_trace, sharpness
from tests.measuring.cases import (
    CLASSES,
    Made,
    X,
    Y,
    cross_entropy,
    every_measure,
    forms,
    network,
    refused,
    right_or_refused,
    seeded,
    top,
)
from tests.probes.cases import DOUBLE, normal

TOKENS, NEXT = (torch.randint(7, (4, 6), generator=torch.Generator().manual_seed(s)) for s in (0, 1))


def language_model():
    return seeded(lambda: nn.Sequential(nn.Embedding(7, 4), nn.Tanh(), nn.Linear(4, 7)))


def flattened(outputs, targets):
    return cross_entropy(outputs.reshape(-1, 7), targets.reshape(-1))


def classes_second(outputs, targets):
    return cross_entropy(outputs.transpose(1, 2), targets)


# --- tokens -----------------------------------------------------------------------------------------------------------


@every_measure
@pytest.mark.parametrize("size", [1, 3, 4, 9])
@pytest.mark.parametrize("loss", [flattened, classes_second])
def test_tokens_with_a_target_each(measure, size, loss):
    wanted = measure(language_model(), flattened, (TOKENS, NEXT))
    assert measure(language_model(), loss, (TOKENS, NEXT), micro_batch=size) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_targets_that_were_flattened(size):
    model = language_model()
    wanted = forms(model, flattened, (TOKENS, NEXT))
    for targets in (NEXT.flatten(), NEXT.reshape(8, 3), NEXT.reshape(24, 1)):
        assert forms(model, flattened, (TOKENS, targets), micro_batch=size) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("count", [3, 6, 23])
def test_targets_that_belong_to_no_number_of_examples(count):
    def some(outputs, targets):
        return cross_entropy(outputs.reshape(-1, 7)[: len(targets)], targets)

    targets = NEXT.flatten()[:count]
    refused(
        lambda: sharpness(language_model(), some, (TOKENS, targets), micro_batch=2), "micro_batch", "targets", "allowed"
    )


@pytest.mark.parametrize("size", [None, 1, 3])
def test_padded_tokens(size):
    """Means over what is no padding, of which the sentences have different numbers, one none at all."""
    padded = NEXT.clone()
    for row, length in enumerate((2, 6, 0, 3)):
        padded[row, length:] = -100
    model = language_model()
    wanted = top(lambda: flattened(model(TOKENS), padded), model)
    found = sharpness(model, flattened, (TOKENS, padded), tol=1e-6, micro_batch=size)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-5)
    wanted = forms(model, flattened, (TOKENS, padded))
    for order in ([0, 1, 2, 3], [2, 0, 1, 3], [3, 1, 0, 2]):
        batches = [(TOKENS[i : i + 1], padded[i : i + 1]) for i in order]
        assert forms(model, flattened, batches, micro_batch=size) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("loss", [flattened, classes_second])
def test_batches_of_sentences_of_another_length(loss):
    """The mean over all tokens, or one line: batches that count by their sentences would be something else."""
    model = language_model()
    batches = [(TOKENS[:1], NEXT[:1]), (TOKENS[1:, :2], NEXT[1:, :2])]
    wanted = sum(forms(model, flattened, batch) for batch in batches) / 2  # six tokens each
    right_or_refused(lambda: forms(model, loss, batches), wanted, "batch: ", 1e-9)
    assert forms(model, loss, batches, batch_weight=lambda t: t.numel()) == pytest.approx(wanted, rel=1e-9)


# --- time before examples ---------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """``[time, examples, inputs]`` to outputs at every time, or at the last one."""

    def __init__(self, last: bool):
        super().__init__()
        self.rnn, self.readout, self.last = nn.GRU(3, 4), nn.Linear(4, CLASSES), last

    def forward(self, x):
        found = self.readout(self.rnn(x)[0])
        return found[-1] if self.last else found


SEQUENCES = normal(5, 12, 3)
LABELS = torch.randint(CLASSES, (5, 12), generator=torch.Generator().manual_seed(2))


def each_time(outputs, targets):
    return cross_entropy(outputs.flatten(0, 1), targets.flatten())


def test_time_before_examples_is_one_batch():
    model = seeded(lambda: Recurrent(last=False))
    wanted = top(lambda: each_time(model(SEQUENCES), LABELS), model)
    found = sharpness(model, each_time, (SEQUENCES, LABELS), tol=1e-9)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-7)
    model = seeded(lambda: Recurrent(last=True))
    wanted = top(lambda: cross_entropy(model(SEQUENCES), Y), model)
    assert sharpness(model, cross_entropy, (SEQUENCES, Y), tol=1e-9).eigenvalue == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_sequence_is_not_cut_in_time(size):
    sequences = SEQUENCES, LABELS
    refused(
        lambda: sharpness(seeded(lambda: Recurrent(last=False)), each_time, sequences, micro_batch=size),
        "micro_batch", "allowed",
    )  # fmt: skip
    refused(
        lambda: sharpness(seeded(lambda: Recurrent(last=True)), cross_entropy, (SEQUENCES, Y), micro_batch=size),
        "micro_batch", "allowed",
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [[6, 6], [5, 7], [1, 11], [4, 4, 4]])
def test_batches_with_time_before_examples(sizes):
    """All examples together, whether or not the batches are of one size."""
    model = seeded(lambda: Recurrent(last=False))
    wanted = forms(model, each_time, (SEQUENCES, LABELS))
    batches = list(zip(SEQUENCES.split(sizes, 1), LABELS.split(sizes, 1), strict=True))
    right_or_refused(lambda: forms(model, each_time, batches), wanted, "batch: ", 1e-9)
    assert forms(model, each_time, batches, batch_weight=lambda t: t.numel()) == pytest.approx(wanted, rel=1e-9)


# --- masks that all examples share ------------------------------------------------------------------------------------


def attention(net, x, mask):
    scores = (x @ x.transpose(1, 2)).masked_fill(~mask, -torch.inf)
    return net(scores.softmax(-1) @ x).mean(1)


@pytest.mark.parametrize("form", ["mapping", "tuple"])
@pytest.mark.parametrize("size", [None, 1, 5])
def test_a_mask_of_positions_goes_to_every_piece(form, size):
    x, mask = normal(12, 5, 4), torch.ones(5, 5, dtype=torch.bool).tril()
    model = Made(attention)
    wanted = top(lambda: cross_entropy(model(x, mask), Y), model)
    inputs = {"x": x, "mask": mask} if form == "mapping" else (x, mask)
    found = sharpness(model, cross_entropy, (inputs, Y), tol=1e-6, micro_batch=size)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("size", [None, 5])
def test_numbers_and_scalars_go_to_every_piece(size):
    model = Made(lambda net, x, temperature, shift, off: net(x / temperature + shift) if not off else x)
    wanted = forms(model.net, cross_entropy, (X / 2 + 0.5, Y))
    inputs = {"x": X, "temperature": torch.tensor(2.0, dtype=DOUBLE), "shift": torch.tensor(0.5), "off": None}
    assert forms(model, cross_entropy, (inputs, Y), micro_batch=size) == pytest.approx(wanted, rel=1e-9)
    plain = inputs | {"temperature": 2.0, "shift": 0.5}
    right_or_refused(lambda: forms(model, cross_entropy, (plain, Y), micro_batch=size), wanted, "micro_batch", 1e-9)


def test_a_mask_as_long_as_the_batch_is_measured_right_or_not_at_all():
    """Nothing tells its rows from examples."""
    x, mask = normal(5, 5, 4), torch.ones(5, 5, dtype=torch.bool).tril()
    refused(
        lambda: sharpness(Made(attention), cross_entropy, ((x, mask), Y[:5]), micro_batch=2),
        ("micro_batch", "model"),
        "allowed",
    )


@pytest.mark.parametrize("size", [None, 5])
def test_outputs_and_targets_of_any_form(size):
    def two(net, x):
        return {"a": net(x), "b": [net(-x), net(x).sum(1)]}

    def loss(outputs, targets):
        labels, extra = targets["labels"], targets["extra"][0]
        return (
            cross_entropy(outputs["a"], labels) + functional.mse_loss(outputs["b"][0], extra) + outputs["b"][1].mean()
        )

    model, targets = Made(two), {"labels": Y, "extra": [normal(12, CLASSES, seed=3), None]}
    wanted = top(lambda: loss(model(X), targets), model)
    found = sharpness(model, loss, (X, targets), tol=1e-6, micro_batch=size)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-5)


# --- outputs in low precision -----------------------------------------------------------------------------------------


class Upcast(nn.Module):
    """A network in low precision with outputs in single precision."""

    def __init__(self, net, low):
        super().__init__()
        self.net, self.low = net.to(low), low

    def forward(self, x):
        return self.net(x.to(self.low)).float()


@pytest.mark.parametrize(("low", "upcast"), [(torch.bfloat16, False), (torch.bfloat16, True), (torch.float16, True)])
@pytest.mark.parametrize("name", ["weights", "padded", "sum"])
def test_pieces_of_networks_in_low_precision(low, upcast, name):
    weights = torch.tensor([1.0, 5.0, 20.0], dtype=torch.float32 if upcast else low)
    loss = {"weights": nn.CrossEntropyLoss(weight=weights), "sum": nn.CrossEntropyLoss(reduction="sum")}.get(
        name, cross_entropy
    )
    labels = torch.where(torch.arange(12) < 5, -100, Y) if name == "padded" else Y
    net = network(hidden=20)
    wide = {"weights": nn.CrossEntropyLoss(weight=weights.double())}.get(name, loss)
    wanted = top(lambda: wide(net(X), labels), net)
    model = Upcast(net, low) if upcast else net.to(low)
    inputs = X.float() if upcast else X.to(low)
    for batch, size in (
        ((inputs, labels), 1),
        ((inputs, labels), 5),
        ([(inputs[:5], labels[:5]), (inputs[5:], labels[5:])], None),
    ):
        found = sharpness(model, loss, batch, micro_batch=size)
        assert found.eigenvalue == pytest.approx(wanted, rel=3e-2)


def test_a_trace_of_pieces_in_single_precision():
    net = network(hidden=20).float()
    whole = hessian_trace(net, cross_entropy, (X.float(), Y), 5).value
    assert hessian_trace(net, cross_entropy, (X.float(), Y), 5, micro_batch=5).value == pytest.approx(whole, rel=1e-4)
