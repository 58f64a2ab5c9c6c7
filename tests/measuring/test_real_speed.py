"""Feature speed is that of a real gradient step, whatever layers do with gradients, weights and random numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import measure_feature_speed
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    Of,
    X,
    assert_formula,
    assert_real,
    cross_entropy,
    network,
    normal,
    real_speeds,
    seeded,
)
from tests.probes.cases import DOUBLE

STEP = 1e-5


def chain(*middle, seed=0):
    """An embedding, layers between, and a readout."""
    return list(
        seeded(lambda: nn.Sequential(nn.Linear(4, 6), *(make() for make in middle), nn.Linear(6, CLASSES)), seed)
    )


# --- layers that stop gradients ---------------------------------------------------------------------------------------


def under_no_grad(inside, f):
    with torch.no_grad():
        aside = inside(f)
    return f + aside


def codebook(inside, f):
    """The nearest of six rows, with a straight-through gradient."""
    distance = (f.detach()[:, None] - inside.weight.detach()).square().sum(2)
    nearest = inside.weight[distance.argmin(1)]
    return f + (nearest - f).detach() + nearest - nearest.detach()


STOPPED = {
    "detached inputs": lambda inside, f: f + inside(f.detach()),
    "detached outputs": lambda inside, f: f + inside(f).detach(),
    "detached in place": lambda inside, f: f + inside(f).detach_(),
    "data of features": lambda inside, f: f + inside(f.data),
    "data of outputs": lambda inside, f: f + inside(f).data,
    "no_grad": under_no_grad,
    "a decorator": lambda inside, f: f + torch.no_grad()(inside)(f),
    "a scale that is detached": lambda inside, f: inside(f) / f.detach().norm(dim=1, keepdim=True),
    "a largest entry that is detached": lambda inside, f: inside(f - f.detach().amax(1, keepdim=True)),
    "detached twice": lambda inside, f: inside(f.detach()).detach() * 0.5 + f,
    "within a product": lambda inside, f: f * inside(f).detach().sigmoid(),
}
NOT_STOPPED = {
    "detached weights": lambda inside, f: f + functional.linear(f, inside.weight.detach(), inside.bias),
    "data of weights": lambda inside, f: f + functional.linear(f, inside.weight.data, inside.bias),
    "rounded, straight through": lambda inside, f: inside(f) + (inside(f).round() - inside(f)).detach() + f,
    "the nearest, straight through": codebook,
    "a sign, straight through": lambda inside, f: f + inside(f) + (inside(f).sign() - inside(f)).detach(),
}


@pytest.mark.parametrize("forward", STOPPED.values(), ids=STOPPED)
def test_what_is_detached_moves_all_the_same(forward):
    """The gradient does not see it, a step does: the formula does not hold, and says so."""
    layers = chain(lambda: Of(forward), nn.Tanh)
    found = assert_real(layers)
    assert float(found.formula_error.max()) > 1e-3


@pytest.mark.parametrize("forward", NOT_STOPPED.values(), ids=NOT_STOPPED)
def test_what_goes_straight_through_moves_as_its_values_do(forward):
    assert_real(chain(lambda: Of(forward)), step=1e-7, rel=1e-5)


OUT_OF_SIGHT = {
    "a number": lambda inside, f: inside(f) * inside.weight.abs().max().item(),
    "a float": lambda inside, f: inside(f) / float(f.norm()),
    "a list": lambda inside, f: inside(f) + torch.tensor(f.mean(0).tolist(), dtype=DOUBLE),
    "an array": lambda inside, f: inside(f) + torch.from_numpy(f.detach().numpy() * 2),
    "a new tensor": lambda inside, f: inside(f) + f.new_tensor(f.detach() * 2),
}


@pytest.mark.parametrize("forward", OUT_OF_SIGHT.values(), ids=OUT_OF_SIGHT)
def test_what_leaves_the_tensors_is_right_or_refused(forward):
    """Numbers and arrays cannot be followed: right, refused, or a formula that does not hold."""
    layers = chain(lambda: Of(forward))
    try:
        found = measure_feature_speed(layers, cross_entropy, BATCH)
    except ValueError as error:
        assert "allowed" in str(error) and "\n" not in str(error)
        return
    wanted = real_speeds(layers, cross_entropy, BATCH, found.learning_rate, STEP)
    assert torch.allclose(found.feature_speed, wanted, rtol=1e-5) or float(found.formula_error.max()) > 1e-3


# --- parameters that layers share -------------------------------------------------------------------------------------


class Readout(nn.Module):
    """Reads features with a weight of somebody else's."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, f):
        return f @ self.weight


def tied_embedding():
    embed = nn.Linear(4, 6, bias=False, dtype=DOUBLE)
    return [embed, nn.Tanh(), nn.Linear(6, 6, dtype=DOUBLE), nn.Tanh(), Readout(embed.weight)]


def tokens_tied():
    table = seeded(lambda: nn.Embedding(7, 6))
    readout = nn.Linear(6, 7, bias=False, dtype=DOUBLE)
    readout.weight = table.weight
    return [table, network(6, 8, 6), readout]


def repeated():
    one = seeded(lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh()))
    first, last = chain()
    return [first, one, one, one, last]


def partly_shared():
    layers = chain(lambda: nn.Linear(6, 6), lambda: nn.Linear(6, 6))
    layers[2].bias = layers[1].bias
    return layers


def shared_and_frozen():
    layers = repeated()
    layers[2][0].weight.requires_grad_(False)
    return layers


TOKENS = torch.arange(12) % 7, (torch.arange(12) * 3 + 1) % 7
TARGETS = normal(12, 4, seed=5)
SHARED = {
    "embedding and readout": (tied_embedding, functional.mse_loss, (X, TARGETS)),
    "embedding and readout of tokens": (tokens_tied, cross_entropy, TOKENS),
    "one layer, three times": (repeated, cross_entropy, BATCH),
    "a bias": (partly_shared, cross_entropy, BATCH),
    "one that is partly frozen": (shared_and_frozen, cross_entropy, BATCH),
}


@pytest.mark.parametrize(("build", "loss", "batch"), SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("rates", [None, "others"])
def test_shared_parameters_move_once_by_their_whole_gradient(build, loss, batch, rates):
    layers = build()
    given = None if rates is None else [0.3 + 0.2 * i for i in range(len(layers))]
    found = assert_real(layers, loss, batch, given)
    assert_formula(found)
    distinct = {id(p): p for layer in layers for p in layer.parameters() if p.requires_grad}
    f = batch[0]
    for layer in layers:
        f = layer(f)
    gradients = torch.autograd.grad(loss(f, batch[1]), list(distinct.values()))
    total = sum(float(gradient.square().sum()) for gradient in gradients)
    assert float(found.gradient_norm.square().sum()) == pytest.approx(total, rel=1e-9)


def test_parameters_that_the_loss_uses_itself_are_right_or_refused():
    """A penalty on the weights is part of their gradient, and of the step."""
    layers = chain(nn.Tanh)

    def penalised(outputs, targets):
        return cross_entropy(outputs, targets) + 0.1 * sum(
            p.square().sum() for layer in layers for p in layer.parameters()
        )

    def read_again(outputs, targets):
        return cross_entropy(outputs @ layers[2].weight @ layers[2].weight.T, targets)

    for loss in (penalised, read_again):
        try:
            measure_feature_speed(layers, loss, BATCH)
        except ValueError as error:
            assert str(error).startswith("loss: ") and "allowed" in str(error)
        else:
            assert_real(layers, loss)


# --- frozen and complex ones ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [(0,), (2,), (4,), (0, 2), (0, 4), (2, 4)])
def test_frozen_layers(places):
    layers = chain(nn.Tanh, lambda: nn.Linear(6, 6), nn.Tanh)
    for place in places:
        layers[place].requires_grad_(False)
    found = assert_real(layers)
    assert_formula(found)
    assert all(float(found.gradient_norm[place]) == float(found.contribution[place]) == 0 for place in places)


def test_a_part_of_a_layer_that_is_frozen():
    layers = chain(nn.Tanh)
    layers[0].bias.requires_grad_(False)
    layers[2].weight.requires_grad_(False)
    assert_formula(assert_real(layers))


class Spectral(nn.Module):
    """A complex matrix between Fourier transforms."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(0.5 * torch.randn(4, 4, dtype=torch.complex128))

    def forward(self, f):
        return torch.fft.irfft(torch.fft.rfft(f) @ self.mix, n=6)


class Wave(nn.Module):
    """Complex features."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6, dtype=torch.complex128))

    def forward(self, f):
        return torch.tanh(f.to(self.weight) @ self.weight)


class Modulus(nn.Module):
    def forward(self, f):
        return f.abs()


@pytest.mark.parametrize("middle", [(Spectral, nn.Tanh), (Wave, Modulus), (Wave, Wave, Modulus)])
def test_complex_parameters_and_features(middle):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(4, 6).double(), *(make() for make in middle), nn.Linear(6, CLASSES).double()]
    found = assert_real(layers)
    assert_formula(found)
    assert found.size.tolist() == [72] * (len(layers) - 1) + [36]
