"""What parts of a batch count for: their losses add up to the loss of all examples, or there is no such weight."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import hessian_trace, sharpness, spectral_density
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    Made,
    X,
    Y,
    cross_entropy,
    every_measure,
    forms,
    hessian,
    network,
    refused,
    right_or_refused,
    seeded,
    spectrum,
    top,
)
from tests.probes.cases import DOUBLE, normal

CLASS_WEIGHTS = torch.tensor([1.0, 5.0, 20.0], dtype=DOUBLE)
PADDED = torch.tensor([0, 1, 2, 1, -100, 2, -100, -100, 0, -100, -100, 1])
PADDED_FIRST = torch.tensor([-100] * 5 + [0, 1, 2, 1, 0, -100, 2])
PADDED_LAST = PADDED_FIRST.flip(0)
GOAL, PROBABILITIES = normal(12, CLASSES, seed=7), torch.softmax(normal(12, CLASSES, seed=8), 1)
MASK = torch.tensor([1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0], dtype=DOUBLE)
EACH = torch.rand(12, dtype=DOUBLE, generator=torch.Generator().manual_seed(3))


def masked_mean(outputs, targets):
    goal, mask = targets
    return ((outputs - goal).square().mean(1) * mask).sum() / mask.sum()


def masked_with_floor(outputs, targets):
    goal, mask = targets
    return ((outputs - goal).square().mean(1) * mask).sum() / mask.sum().clamp(min=1)


def weighted_examples(outputs, targets):
    labels, weights = targets
    return (cross_entropy(outputs, labels, reduction="none") * weights).sum() / weights.sum()


def unnormalised(outputs, targets):
    labels, weights = targets
    return (cross_entropy(outputs, labels, reduction="none") * weights).mean()


def focal(outputs, targets):
    each = cross_entropy(outputs, targets, reduction="none")
    return ((1 - torch.exp(-each)) ** 2 * each).mean()


def hinge(outputs, targets):
    """Flat for most examples."""
    own = outputs.gather(1, targets[:, None])
    return (outputs - own + 0.02).relu().square().mean()


def with_decay(outputs, targets):
    return cross_entropy(outputs, targets) + 1.5


#: Losses that are weighted means or sums over examples, with their targets.
ADDITIVE = {
    "mean": (cross_entropy, Y),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), Y),
    "class weights": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), Y),
    "class weights, sum": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, reduction="sum"), Y),
    "a class of weight 0": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.0, 2.0], dtype=DOUBLE)), Y),
    "padding": (cross_entropy, PADDED),
    "padding at the start": (cross_entropy, PADDED_FIRST),
    "padding at the end": (cross_entropy, PADDED_LAST),
    "another padding label": (nn.CrossEntropyLoss(ignore_index=0), Y),
    "label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.2), Y),
    "all of it": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, label_smoothing=0.2, ignore_index=-100), PADDED),
    "probabilities": (cross_entropy, PROBABILITIES),
    "nll": (lambda o, t: functional.nll_loss(o.log_softmax(1), t, weight=CLASS_WEIGHTS), Y),
    "kl": (lambda o, t: functional.kl_div(o.log_softmax(1), t, reduction="batchmean"), PROBABILITIES),
    "mse": (functional.mse_loss, GOAL),
    "mse, sum": (nn.MSELoss(reduction="sum"), GOAL),
    "huber": (functional.huber_loss, GOAL),
    "binary": (functional.binary_cross_entropy_with_logits, PROBABILITIES),
    "positive weights": (nn.BCEWithLogitsLoss(pos_weight=CLASS_WEIGHTS), PROBABILITIES),
    "masked": (masked_mean, (GOAL, MASK)),
    "masked, with a floor": (masked_with_floor, (GOAL, MASK)),
    "weighted examples": (weighted_examples, (Y, EACH)),
    "unnormalised weights": (unnormalised, (Y, EACH)),
    "focal": (focal, Y),
    "hinge": (hinge, Y),
    "with a constant": (with_decay, Y),
    "negative": (lambda o, t: -cross_entropy(o, t), Y),
}
every_additive = pytest.mark.parametrize(("loss", "targets"), ADDITIVE.values(), ids=ADDITIVE)


def pieces(inputs, targets, sizes):
    """Several batches of a whole one."""
    several = isinstance(targets, tuple)
    split = zip(*(t.split(sizes) for t in targets), strict=True) if several else targets.split(sizes)
    return list(zip(inputs.split(sizes), split, strict=True))


@every_additive
def test_parts_add_up_to_the_whole(loss, targets):
    """The whole batch is right, and pieces of it, and several batches in any order, are the same matrix."""
    net = network()
    matrix = hessian(lambda: loss(net(X), targets), net.parameters())
    found = sharpness(net, loss, (X, targets))
    assert found.eigenvalue == pytest.approx(float(spectrum(matrix)[0]), rel=1e-3)
    wanted = forms(net, loss, (X, targets))
    for size in (1, 5):
        assert forms(net, loss, (X, targets), micro_batch=size) == pytest.approx(wanted, rel=1e-9)
    for sizes in ([4, 1, 7], [7, 5]):
        assert forms(net, loss, pieces(X, targets, sizes)) == pytest.approx(wanted, rel=1e-9)


@every_measure
@pytest.mark.parametrize("name", ["class weights", "sum"])
def test_every_measure_of_parts(measure, name):
    loss, targets = ADDITIVE[name]
    wanted = measure(network(), loss, (X, targets))
    assert measure(network(), loss, (X, targets), micro_batch=5) == pytest.approx(wanted, rel=1e-7)
    assert measure(network(), loss, pieces(X, targets, [5, 7])) == pytest.approx(wanted, rel=1e-7)


@every_measure
def test_batches_in_pieces(measure):
    """Both at once: weights of the batches, and of the pieces of each."""
    loss, targets = ADDITIVE["all of it"]
    parts = pieces(X, targets, [5, 7])
    wanted = measure(network(), loss, (X, targets))
    assert measure(network(), loss, parts, micro_batch=4) == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("matrix", ["gauss_newton", "residual"])
@pytest.mark.parametrize("name", ["class weights", "padding at the start"])
def test_parts_of_the_other_matrices(matrix, name):
    loss, targets = ADDITIVE[name]
    wanted = sharpness(network(), loss, (X, targets), tol=1e-8, matrix=matrix).eigenvalue
    found = sharpness(network(), loss, (X, targets), tol=1e-8, matrix=matrix, micro_batch=6)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-7)


def test_a_network_whose_outputs_are_all_the_same():
    """With a readout of 0 the derivatives by the outputs are those of constant probabilities."""
    net = network()
    nn.init.zeros_(net[2].weight)
    nn.init.zeros_(net[2].bias)
    for name in ("class weights", "padding", "sum", "masked"):
        loss, targets = ADDITIVE[name]
        wanted = forms(net, loss, (X, targets))
        assert forms(net, loss, (X, targets), micro_batch=4) == pytest.approx(wanted, rel=1e-9)


def test_weights_of_the_callers_own_count_as_they_are():
    net = network()
    parts = pieces(X, Y, [5, 7])
    matrices = [hessian(lambda x=x, y=y: cross_entropy(net(x), y), net.parameters()) for x, y in parts]
    for weights in ((1.0, 3.0), (2.0, 0.0), (1e-3, 1e3)):
        given = {5: weights[0], 7: weights[1]}
        mean = (weights[0] * matrices[0] + weights[1] * matrices[1]) / sum(weights)
        found = sharpness(net, cross_entropy, parts, tol=1e-9, batch_weight=lambda t, given=given: given[len(t)])
        assert found.eigenvalue == pytest.approx(float(spectrum(mean)[0]), rel=1e-7)
    padded = pieces(X, PADDED_FIRST, [5, 7])
    found = sharpness(net, cross_entropy, padded, tol=1e-9, batch_weight=lambda t: (t >= 0).sum())
    wanted = top(lambda: cross_entropy(net(X), PADDED_FIRST), net)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-7)


# --- losses without weights -------------------------------------------------------------------------------------------


def info_nce(outputs, targets):
    units = functional.normalize(outputs)
    return cross_entropy(units @ units.T / 0.5, (torch.arange(len(outputs)) + 1) % len(outputs))


def supervised_contrast(outputs, targets):
    units = functional.normalize(outputs)
    same = (targets[:, None] == targets[None]).to(outputs)
    return -((units @ units.T).log_softmax(1) * same).sum() / same.sum()


def decorrelated(outputs, targets):
    return cross_entropy(outputs, targets) + 0.1 * torch.cov(outputs.T).square().sum()


def neighbours(outputs, targets):
    return cross_entropy(outputs, targets) + (outputs[1:] - outputs[:-1]).square().mean()


#: Losses that compare examples, or are not linear in a mean over them.
JOINT = {
    "contrastive": (info_nce, Y),
    "supervised contrastive": (supervised_contrast, Y),
    "decorrelating": (decorrelated, Y),
    "neighbours": (neighbours, Y),
    "root of a mean": (lambda o, t: functional.mse_loss(o, t).sqrt(), GOAL),
    "logarithm of a mean": (lambda o, t: functional.mse_loss(o, t).log(), GOAL),
    "square of a mean": (lambda o, t: cross_entropy(o, t) ** 2, Y),
    "explained variance": (lambda o, t: (o - t).square().sum() / (o - o.mean(0)).square().sum(), GOAL),
    "hardest half": (lambda o, t: cross_entropy(o, t, reduction="none").topk(len(o) // 2 or 1)[0].mean(), Y),
    "triplets": (lambda o, t: functional.triplet_margin_loss(o, o.roll(1, 0), t), GOAL),
    "correlation": (lambda o, t: -functional.cosine_similarity(o.flatten(), t.flatten(), 0), GOAL),
}
every_joint = pytest.mark.parametrize(("loss", "targets"), JOINT.values(), ids=JOINT)


@every_joint
def test_a_loss_that_is_no_weighted_sum_is_measured_in_one_piece_only(loss, targets):
    net = network()
    wanted = top(lambda: loss(net(X), targets), net)
    assert sharpness(net, loss, (X, targets), tol=1e-6).eigenvalue == pytest.approx(wanted, rel=1e-5, abs=1e-12)
    reason = "no weighted sum", "allowed", "batch_weight"
    refused(lambda: sharpness(net, loss, (X, targets), micro_batch=3), "micro_batch: ", *reason)
    refused(lambda: sharpness(net, loss, pieces(X, targets, [5, 7])), "batch: ", *reason)
    refused(lambda: hessian_trace(net, loss, (X, targets), micro_batch=4), "micro_batch: ", *reason)


@every_joint
def test_the_mean_over_batches_may_be_asked_for(loss, targets):
    net, parts = network(), pieces(X, targets, [5, 7])
    total = sum(hessian(lambda x=x, t=t: loss(net(x), t), net.parameters()) for x, t in parts)
    found = sharpness(net, loss, parts, tol=1e-6, batch_weight=lambda t: 1.0)
    assert found.eigenvalue == pytest.approx(float(spectrum(total / 2)[0]), rel=1e-5, abs=1e-12)


def test_a_maximum_over_examples_is_that_of_the_part_which_has_it():
    net = network()

    def largest(outputs, targets):
        return cross_entropy(outputs, targets, reduction="none").amax()

    wanted = forms(net, largest, BATCH)
    right_or_refused(lambda: forms(net, largest, BATCH, micro_batch=4), wanted, "micro_batch: ", 1e-9)
    right_or_refused(lambda: forms(net, largest, pieces(X, Y, [5, 7])), wanted, "batch: ", 1e-9)


def test_a_loss_that_fails_on_a_part_says_so():
    for loss in (
        lambda o, t: (EACH * cross_entropy(o, t, reduction="none")).mean(),
        lambda o, t: cross_entropy(o, Y),
        lambda o, t: cross_entropy(o.view(3, 4, CLASSES).flatten(0, 1), t),
        lambda o, t: {12: cross_entropy(o, t)}[len(o)],
    ):
        message = "micro_batch", "loss: "
        refused(lambda loss=loss: sharpness(network(), loss, BATCH, micro_batch=5), message, "allowed")
        refused(lambda loss=loss: sharpness(network(), loss, pieces(X, Y, [5, 7])), ("batch", "loss: "), "allowed")


# --- models that mix examples -----------------------------------------------------------------------------------------

MIXING = {
    "batch statistics": lambda: nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Tanh(), nn.Linear(6, CLASSES)
    ),
    "centred": lambda: Made(lambda net, v: net(v - v.mean(0))),
    "attention over examples": lambda: Made(lambda net, v: net((v @ v.T).softmax(1) @ v)),
    "the first as a reference": lambda: Made(lambda net, v: net(v) - net(v)[:1]),
    "sorted": lambda: Made(lambda net, v: net(v.sort(0)[0])),
}


@pytest.mark.parametrize("build", MIXING.values(), ids=MIXING)
def test_models_that_mix_examples_are_not_cut(build):
    model = seeded(build)
    wanted = top(lambda: cross_entropy(model(X), Y), model)
    assert sharpness(model, cross_entropy, BATCH, tol=1e-9).eigenvalue == pytest.approx(wanted, rel=1e-7)
    for measure in (sharpness, hessian_trace, spectral_density):
        refused(lambda measure=measure: measure(model, cross_entropy, BATCH, micro_batch=4), "micro_batch: ", "allowed")


def test_batches_of_such_a_model_are_each_a_batch():
    model = seeded(MIXING["batch statistics"])
    parts = pieces(X, Y, [5, 7])
    total = sum(
        len(y) / 12 * hessian(lambda x=x, y=y: cross_entropy(model(x), y), model.parameters()) for x, y in parts
    )
    found = sharpness(model, cross_entropy, parts, tol=1e-9)
    assert found.eigenvalue == pytest.approx(float(spectrum(total)[0]), rel=1e-7)
