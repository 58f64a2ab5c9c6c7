"""What a model computes once and keeps is computed at every pass, and the caller's caches stay what they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from featurespeed import measure_feature_speed, sharpness
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    DOUBLE,
    X,
    Y,
    by_differences,
    cross_entropy,
    every_measure,
    network,
    normal,
    real_speeds,
    refused,
    seeded,
    spectrum,
)


class Caching(nn.Module):
    """Keeps a product of its weights in evaluation mode."""

    def __init__(self, cache=dict):
        super().__init__()
        self.net = network()
        self.left, self.right = nn.Parameter(normal(3, 2, seed=5)), nn.Parameter(normal(2, 4, seed=6))
        self.cache = cache()

    def weight(self):
        if self.training:
            return self.left @ self.right
        if not self.cache:
            made = self.left @ self.right
            self.cache.append(made) if isinstance(self.cache, list) else self.cache.update(made=made)
        return self.cache[0] if isinstance(self.cache, list) else self.cache["made"]

    def forward(self, v):
        return self.net(v) + v @ self.weight().T


class Plain(Caching):
    def weight(self):
        return self.left @ self.right


FORMS = {"whole": {}, "micro_batch": {"micro_batch": 4}, "block": {"block": True}}


@pytest.mark.parametrize("cache", [dict, list])
@pytest.mark.parametrize("form", FORMS)
@every_measure
def test_a_cache_of_evaluation_mode(measure, form, cache):
    def found(model):
        options = dict(FORMS[form])
        if options.pop("block", False):
            options["parameters"] = [model.left, model.right]
        return measure(model.double(), cross_entropy, BATCH, **options)

    model = Caching(cache)
    assert found(model) == pytest.approx(found(Plain()), rel=1e-9)
    assert model.training and not model.cache
    with torch.no_grad():
        model.left.mul_(2)
    other = Plain()
    with torch.no_grad():
        other.left.mul_(2)
    assert found(model) == pytest.approx(found(other), rel=1e-9)


def test_a_cache_that_the_caller_has_filled_is_told():
    model = Caching().double().eval()
    with torch.no_grad():
        model(X)
    (kept,) = model.cache.values()
    refused(lambda: sharpness(model, cross_entropy, BATCH), "parameters: left is not used", "cache", "allowed")
    assert model.cache["made"] is kept


@pytest.mark.parametrize("held", [[torch.ones(4, dtype=DOUBLE)], {"scale": torch.ones(4, dtype=DOUBLE)}])
def test_constants_beside_a_parameter_that_is_not_used(held):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.unused, self.held = network(), nn.Parameter(torch.ones(3, dtype=DOUBLE)), held

        def forward(self, v):
            return self.net(v * (self.held[0] if isinstance(self.held, list) else self.held["scale"]))

    found = sharpness(Scaled(), cross_entropy, BATCH, tol=1e-9)
    assert found.eigenvalue == pytest.approx(sharpness(network(), cross_entropy, BATCH, tol=1e-9).eigenvalue)


class Leaving(nn.Module):
    """Leaves a penalty where the loss finds it."""

    def __init__(self, held):
        super().__init__()
        self.net, self.held = network(), held

    def forward(self, v):
        hidden = self.net[1](self.net[0](v))
        self.held.clear()
        if isinstance(self.held, list):
            self.held.append(3 * hidden.square().mean())
        else:
            self.held["penalty"] = 3 * hidden.square().mean()
        return self.net[2](hidden)


@every_measure
@pytest.mark.parametrize("held", [list, dict])
@pytest.mark.parametrize("before", ["empty", "filled without a graph", "filled by a step of training"])
def test_losses_that_read_what_forward_has_left(measure, held, before):
    model = Leaving(held())

    def loss(outputs, targets):
        (penalty,) = model.held if isinstance(model.held, list) else model.held.values()
        return cross_entropy(outputs, targets) + penalty

    def plain(model, batch):
        hidden = model[1](model[0](batch[0]))
        return cross_entropy(model[2](hidden), batch[1]) + 3 * hidden.square().mean()

    if before == "filled without a graph":
        with torch.no_grad():
            model(X)
    elif before == "filled by a step of training":
        loss(model(X), Y).backward()
        model.zero_grad()
    kept = list(model.held)
    assert measure(model, loss, BATCH) == pytest.approx(measure(network(), plain, BATCH), rel=1e-9)
    assert list(model.held) == kept


class ReadOnly(dict):
    """As some libraries keep their settings."""

    def _refuse(self, *arguments, **named):
        raise TypeError("read-only")

    __setitem__ = update = pop = _refuse


def test_read_only_mappings_stay_what_they_are():
    model = network()
    model.config = ReadOnly(width=6, scale=torch.ones(1))
    model.unused = nn.Parameter(torch.ones(2, dtype=DOUBLE))
    found = sharpness(model, lambda o, t: cross_entropy(o, t), BATCH)
    assert found.eigenvalue == pytest.approx(sharpness(network(), cross_entropy, BATCH).eigenvalue, rel=1e-3)
    assert list(model.config) == ["width", "scale"]


def test_attributes_and_random_numbers_of_any_kind_are_as_before():
    class Busy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.calls, self.last, self.seen = network(), 0, None, [1]

        def forward(self, v):
            self.calls, self.last, self.new = self.calls + 1, (v, random.random(), np.random.rand()), {"v": v}  # noqa: NPY002
            self.seen = [*self.seen, v]
            return self.net(v)

    model = Busy()
    seen, states = model.seen, (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    sharpness(model, cross_entropy, BATCH)
    measure_feature_speed([model, nn.Linear(CLASSES, 2, dtype=DOUBLE)], functional.cross_entropy, (X, Y % 2))
    assert model.calls == 0 and model.last is None and model.seen is seen == [1] and not hasattr(model, "new")
    assert states == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_feature_speed_of_a_layer_with_a_cache():
    layers = [Caching().double(), nn.Linear(CLASSES, CLASSES, dtype=DOUBLE)]
    plain = [Plain().double(), layers[1]]
    found = measure_feature_speed(layers, cross_entropy, BATCH)
    wanted = real_speeds(plain, cross_entropy, BATCH, found.learning_rate, 1e-5)
    torch.testing.assert_close(found.feature_speed, wanted, rtol=1e-6, atol=0)
    assert not layers[0].cache


NORMS = {"weight_norm": parametrizations.weight_norm, "spectral_norm": parametrizations.spectral_norm}


@pytest.mark.parametrize("name", NORMS)
def test_inside_of_the_cache_of_parametrizations(name):
    model = seeded(lambda: nn.Sequential(NORMS[name](nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, CLASSES))).eval()
    wanted = float(spectrum(by_differences(lambda: cross_entropy(model(X), Y), model.parameters()))[0])
    speed = measure_feature_speed(model, cross_entropy, BATCH).feature_speed
    with parametrize.cached():
        before = model[0].weight
        assert sharpness(model, cross_entropy, BATCH, tol=1e-9).eigenvalue == pytest.approx(wanted, rel=1e-6)
        assert torch.equal(measure_feature_speed(model, cross_entropy, BATCH).feature_speed, speed)
        assert model[0].weight is before


class Normalised(nn.Module):
    """A loss with batch statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(CLASSES, dtype=DOUBLE)

    def forward(self, outputs, targets):
        return functional.cross_entropy(self.norm(outputs), targets)


@every_measure
def test_a_loss_that_is_a_module_is_measured_in_evaluation_mode_and_left_as_it_was(measure):
    loss, still = Normalised(), Normalised().eval()
    assert measure(network(), loss, BATCH) == pytest.approx(measure(network(), still, BATCH), rel=1e-12)
    assert loss.training and not loss.norm.running_mean.any() and loss.norm.num_batches_tracked == 0
    speeds = [measure_feature_speed(network(), each, BATCH).feature_speed for each in (loss, still)]
    assert torch.equal(*speeds) and loss.training and loss.norm.num_batches_tracked == 0


def test_a_function_of_ones_own_without_a_forward_derivative_under_vmap_is_one_line():
    class Own(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(v):
            return v.tanh()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx, g):
            return g * (1 - ctx.saved_tensors[0] ** 2)

    class Mapped(nn.Linear):
        def forward(self, v):
            return torch.func.vmap(Own.apply)(super().forward(v))

    layers = [Mapped(4, 6, dtype=DOUBLE), nn.Linear(6, CLASSES, dtype=DOUBLE)]
    refused(lambda: measure_feature_speed(layers, cross_entropy, BATCH), ("model: ", "layers: "), kind=ValueError)
