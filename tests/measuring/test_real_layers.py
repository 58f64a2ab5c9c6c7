"""Feature speed through layers of every kind, in either mode and with no context of the caller's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from featurespeed import measure_feature_speed
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    Of,
    Y,
    assert_formula,
    assert_real,
    cross_entropy,
    normal,
    refused,
    seeded,
)

SEQUENCES = normal(12, 5, 6)


class Attention(nn.Module):
    """PyTorch's own function, without any choice of its kernel."""

    def __init__(self, **options):
        super().__init__()
        self.mix, self.options = nn.Linear(6, 18), options

    def forward(self, f):
        query, key, value = (part.unflatten(2, (2, 3)).transpose(1, 2) for part in self.mix(f).chunk(3, dim=2))
        return f + functional.scaled_dot_product_attention(query, key, value, **self.options).transpose(1, 2).flatten(2)


class First(nn.Module):
    """The first of what a layer returns."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, f):
        return self.layer(f, f, f)[0] if isinstance(self.layer, nn.MultiheadAttention) else self.layer(f)[0]


def encoder(**options):
    return nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, **options)


ON_SEQUENCES = {
    "attention": Attention,
    "causal attention": lambda: Attention(is_causal=True),
    "attention with a scale": lambda: Attention(scale=0.3),
    "MultiheadAttention": lambda: First(nn.MultiheadAttention(6, 2, batch_first=True)),
    "encoder layer": encoder,
    "encoder layer without dropout": lambda: encoder(dropout=0.0),
    "encoder layer, norm first": lambda: encoder(norm_first=True, activation="gelu"),
    "LSTM": lambda: First(nn.LSTM(6, 6, batch_first=True)),
    "GRU of two layers": lambda: First(nn.GRU(6, 3, 2, batch_first=True, bidirectional=True)),
    "RNN": lambda: First(nn.RNN(6, 6, nonlinearity="relu", batch_first=True)),
    "LayerNorm": lambda: nn.LayerNorm(6),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "checkpointed attention": lambda: Of(lambda inside, f: checkpoint(inside, f, use_reentrant=False), Attention()),
}


@pytest.mark.parametrize("make", ON_SEQUENCES.values(), ids=ON_SEQUENCES)
@pytest.mark.parametrize("training", [True, False])
def test_layers_on_sequences(make, training):
    layers = seeded(lambda: nn.Sequential(nn.Linear(6, 6), make(), nn.Flatten(), nn.Linear(30, CLASSES))).train(
        training
    )
    assert_formula(assert_real(layers, batch=(SEQUENCES, Y)))


WRITES_IN_TRAINING = {
    "BatchNorm": lambda: nn.BatchNorm1d(6),
    "BatchNorm without statistics": lambda: nn.BatchNorm1d(6, track_running_stats=False),
    "BatchNorm with a mean of all": lambda: nn.BatchNorm1d(6, momentum=None),
    "Dropout": lambda: nn.Dropout(0.5),
    "AlphaDropout": lambda: nn.AlphaDropout(0.3),
    "RReLU": nn.RReLU,
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(6, 6)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(6, 6)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(6, 6)),
    "old weight norm": lambda: nn.utils.weight_norm(nn.Linear(6, 6)),
    "ReLU in place": lambda: nn.ReLU(inplace=True),
    "PReLU": nn.PReLU,
    "Hardsigmoid": nn.Hardsigmoid,
    "GLU": lambda: nn.Sequential(nn.Linear(6, 12), nn.GLU()),
}


@pytest.mark.parametrize("make", WRITES_IN_TRAINING.values(), ids=WRITES_IN_TRAINING)
@pytest.mark.parametrize("training", [True, False])
def test_layers_that_are_others_in_training(make, training):
    """Measured in evaluation mode, from statistics that are left as they are."""
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 6), make(), nn.Linear(6, CLASSES))).train(training)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, buffer in net.named_buffers():
            if buffer.is_floating_point() and "running" in name:
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    assert_formula(assert_real(list(net)))
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert all(module.training == training for module in net.modules())


CONVOLUTIONS = {
    "plain": lambda: nn.Conv2d(2, 3, 3),
    "strided, grouped": lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(2, 3, 2, stride=2),
    "with pooling": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2)),
    "with statistics": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True)),
    "instances": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3, affine=True)),
}


@pytest.mark.parametrize("make", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(make):
    images = normal(6, 2, 6, 6)
    size = make().double()(images).flatten(1).shape[1]
    net = seeded(lambda: nn.Sequential(make(), nn.Flatten(), nn.Linear(size, CLASSES)))
    assert_formula(assert_real(list(net), batch=(images, Y[:6])))


def three(middle):
    return list(seeded(lambda: nn.Sequential(nn.Linear(4, 6), middle, nn.Linear(6, CLASSES))))


class WithoutForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return v.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


def test_an_operation_without_a_forward_derivative_is_right_or_one_line():
    layers = three(Of(lambda inside, f: WithoutForwardMode.apply(inside(f))))
    try:
        measure_feature_speed(layers, cross_entropy, BATCH)
    except ValueError as error:
        assert str(error).startswith("model: ") and "allowed" in str(error) and "\n" not in str(error)
    else:
        assert_real(layers)


def test_a_part_that_differentiates_inside():
    def slope(inside, f):
        with torch.enable_grad():
            leaf = f if f.requires_grad else f.detach().requires_grad_()
            return f + torch.autograd.grad(inside(leaf).pow(3).sum(), leaf, create_graph=True)[0]

    layers = three(Of(slope))
    try:
        measure_feature_speed(layers, cross_entropy, BATCH)
    except ValueError:
        refused(lambda: measure_feature_speed(layers, cross_entropy, BATCH), "model: ", "allowed", kind=ValueError)
    else:
        assert_real(layers)
