"""What a measurement leaves as it was: weights, buffers, attributes, modes, gradients and random numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.weight_norm import WeightNorm

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from tests.measuring.cases import BATCH, CLASSES, X, Y, cross_entropy, network, seeded
from tests.probes.cases import DOUBLE

MEASURES = {
    "sharpness": sharpness,
    "pieces": lambda model, loss, batch: sharpness(model, loss, batch, micro_batch=5),
    "trace": lambda model, loss, batch: hessian_trace(model, loss, batch, 3),
    "density": lambda model, loss, batch: spectral_density(model, loss, batch, 1, 5),
    "feature speed": lambda model, loss, batch: measure_feature_speed([model], loss, batch),
}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


class Statistics(nn.Module):
    """Layers whose forward pass in training mode writes into the module."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, CLASSES))
        self.norm = nn.utils.parametrizations.spectral_norm(nn.Linear(CLASSES, CLASSES))

    def forward(self, x):
        return self.norm(self.net(x))


class Counter(nn.Module):
    """Counts its calls in a buffer in place."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.calls += 1
        return self.net(x)


class Rebinding(Counter):
    """Puts another tensor in the place of a buffer."""

    def forward(self, x):
        self.calls = self.calls + 1
        return self.net(x)


class OfParts(Counter):
    """A buffer that is not saved, of a part of it, and one that is None at first."""

    def __init__(self):
        super().__init__()
        self.part = nn.Identity()
        self.part.register_buffer("largest", torch.zeros(4, dtype=DOUBLE), persistent=False)
        self.part.register_buffer("seen", None)

    def forward(self, x):
        self.part.largest = torch.maximum(self.part.largest, x.detach().amax(0))
        self.part.seen = x.detach()
        return self.net(x)


class Keeping(nn.Module):
    """Keeps its hidden features as an attribute, as from a hook."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.before = torch.ones(2)

    def forward(self, x):
        self.hidden = self.net[0](x)
        self.before = self.hidden * 2
        return self.net(x)


class TwoNames(nn.Module):
    """One layer under two names, and a weight in two layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.other, self.readout = nn.Linear(4, 4, bias=False), nn.Linear(4, CLASSES)
        self.other.weight = self.first.weight

    def forward(self, x):
        return self.readout(self.other(torch.tanh(self.again(torch.tanh(self.first(x))))))


MODELS = {
    "plain": network,
    "one layer under two names": lambda: seeded(TwoNames),
    "statistics": lambda: seeded(Statistics),
    "a counter": Counter,
    "another buffer": Rebinding,
    "buffers of parts": OfParts,
    "features that are kept": Keeping,
    "old weight norm": lambda: seeded(lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, CLASSES)))),
    "old spectral norm": lambda: seeded(lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, CLASSES)))),
}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def state(model: nn.Module) -> dict[str, object]:
    """Everything that a module is made of, tensors by their values."""
    found: dict[str, object] = {}
    for path, module in model.named_modules():
        found[f"{path} training"] = module.training
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            found[f"{path}.{name}"] = tensor if tensor is None else tensor.detach().clone()
        for name, value in vars(module).items():
            if isinstance(value, (torch.Tensor, int, float, str)) and not name.startswith("__"):
                found[f"{path}.{name} (attribute)"] = (
                    value.detach().clone() if isinstance(value, torch.Tensor) else value
                )
    for name, parameter in model.named_parameters():
        found[f"{name} grad"] = None if parameter.grad is None else parameter.grad.clone()
        found[f"{name} requires grad"] = parameter.requires_grad
    return found


def assert_unchanged(before, after):
    assert list(before) == list(after)
    for name, value in before.items():
        same = torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name]
        assert same, name


def failing(outputs, targets):
    raise KeyError("of the caller's own")


def fails_late():
    """A loss that raises at its fourth call."""
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("of the caller's own")
        return cross_entropy(outputs, targets)

    return loss


LOSSES = {"measured": lambda: cross_entropy, "an error": lambda: failing, "a late error": fails_late}


@every_measure
@every_model
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_model_is_left_as_it_was(measure, build, loss):
    model = build().train()
    next(model.modules()).training = False  # of one module only
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    identities = {name: id(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    before, numbers = state(model), torch.get_rng_state()
    try:
        measure(model, loss(), BATCH)
    except ValueError:
        assert loss() is not cross_entropy
    assert_unchanged(before, state(model))
    assert identities == {name: id(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    if not any(isinstance(hook, WeightNorm) for m in model.modules() for hook in m._forward_pre_hooks.values()):
        copy.deepcopy(model)  # nothing in it is part of a graph
    assert model(X).requires_grad


@every_measure
def test_random_numbers_are_left_where_they_were(measure):
    """Also by a model that draws some, and is refused for that."""

    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(functional.dropout(x, 0.5, True))

    for model in (network(), seeded(lambda: nn.Sequential(Noisy(4, CLASSES)))):
        numbers = torch.get_rng_state()
        try:
            measure(model, cross_entropy, BATCH)
        except ValueError as error:
            assert "two passes" in str(error) or "micro_batch" in str(error)
        assert torch.equal(torch.get_rng_state(), numbers)


@every_measure
def test_the_callers_tensors_are_left_as_they_were(measure):
    x, y = X.clone().requires_grad_(), Y.clone()
    versions = x._version, y._version
    measure(network(), cross_entropy, (x, y))
    assert (x._version, y._version) == versions and x.grad is None and x.requires_grad


@every_measure
def test_hooks_of_the_caller_run_and_stay(measure):
    calls = []
    net = network()
    net[0].register_forward_hook(lambda module, inputs, outputs: calls.append(1))
    net[1].register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    doubled = network()
    with torch.no_grad():
        doubled[0].weight.mul_(2)
        doubled[0].bias.mul_(2)
    measure(net, cross_entropy, BATCH)
    assert calls and len(net[0]._forward_hooks) == len(net[1]._forward_pre_hooks) == 1
    torch.testing.assert_close(net(X), doubled(X))


@every_measure
def test_what_a_caller_raises_on_purpose_is_kept_as_the_cause(measure):
    with pytest.raises(ValueError, match="^loss: called with .*allowed: .*KeyError") as raised:
        measure(network(), failing, BATCH)
    assert isinstance(raised.value.__cause__, KeyError) and "\n" not in str(raised.value)


@every_measure
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, torch.OutOfMemoryError])
def test_what_is_no_mistake_of_the_caller_stays_what_it_is(measure, error):
    def loss(outputs, targets):
        raise error

    model = seeded(Statistics).train()
    before = state(model)
    with pytest.raises(error):
        measure(model, loss, BATCH)
    assert_unchanged(before, state(model))
