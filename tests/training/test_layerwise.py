"""Layer-wise rates of homogeneity -2 and what training does not see of a parameterization (Prop. 6.2, App. C)."""

import itertools

import pytest
import torch
from torch import nn

from featurespeed.models.mlp import Linear
from featurespeed.probes import measure_feature_speed
from featurespeed.training.layerwise import mlp_output, train_layerwise
from tests.probes.cases import DOUBLE, normal, quadratic

STEPS, DEPTH, WIDTH = 40, 5, 16
BATCH = normal(4, 6), normal(4, 2)
#: base rates at which training moves by about as much for every exponent, and stays finite
BASE_RATES = {0.0: 0.01, 1.0: 0.05, 2.0: 0.1, 3.0: 0.5}


def weights() -> list[torch.Tensor]:
    """Weights of an MLP 6 -> 16 -> ... -> 2 that keeps the norm of its signal."""
    sizes = itertools.pairwise([6, *[WIDTH] * (DEPTH - 1), 2])
    return [(2 / fan_in) ** 0.5 * normal(m, fan_in, seed=seed) for seed, (fan_in, m) in enumerate(sizes)]


def change(outputs: torch.Tensor, reference: torch.Tensor) -> float:
    """Distance of the last outputs over the distance that training went."""
    return float((outputs[-1] - reference[-1]).norm() / (reference[-1] - reference[0]).norm())


def train(start: list[torch.Tensor], p: float, steps: int = STEPS, **options) -> torch.Tensor:
    return train_layerwise(start, BATCH, steps=steps, base_rate=BASE_RATES[p], homogeneity=p, **options)


def rescaled() -> list[torch.Tensor]:
    """Layers multiplied by scales of product 1: the same function with other weights."""
    logs = 0.8 * normal(DEPTH, seed=7)
    return [s * w for s, w in zip(torch.exp(logs - logs.mean()), weights(), strict=True)]


MULTIPLIERS = torch.exp(0.8 * normal(DEPTH, seed=8)).tolist()


def test_training_reduces_the_loss_for_every_exponent():
    for p in BASE_RATES:
        outputs = train(weights(), p)
        losses = (outputs - BATCH[1]).square().sum((1, 2)) / 8
        assert outputs.shape == (STEPS + 1, 4, 2) and float(losses[-1]) < 0.9 * float(losses[0]), p


def test_homogeneity_minus_two_ignores_blockwise_rescaling():
    """Prop. 6.2: outputs along training are those of the other weights, to rounding of the way that training goes."""
    reference, outputs = train(weights(), 2.0), train(rescaled(), 2.0)
    assert change(outputs, reference) < 1e-11
    torch.testing.assert_close(outputs, reference, rtol=1e-9, atol=1e-11)


def test_homogeneity_minus_two_ignores_reparameterization():
    """App. C: training ``V_l`` in ``W_l = s_l V_l`` gives the outputs of training ``W_l``, for any ``s_l``."""
    assert change(train(weights(), 2.0, multipliers=MULTIPLIERS), train(weights(), 2.0)) < 1e-11


@pytest.mark.parametrize("p", [0.0, 1.0, 3.0])
def test_other_homogeneities_see_both(p):
    """Negative control: for every other exponent either change moves the outputs by a sizeable part of the way."""
    reference = train(weights(), p, steps=5)
    assert not change(train(rescaled(), p, steps=5), reference) < 0.02
    assert not change(train(weights(), p, steps=5, multipliers=MULTIPLIERS), reference) < 0.02


def test_a_multiplier_acts_as_its_power_of_the_base_rate():
    """One common ``s`` multiplies the step of the weights by ``s^(2 - p)``."""
    for p, s in ((0.0, 0.5), (1.0, 2.0), (3.0, 2.0)):
        outputs = train(weights(), p, steps=6, multipliers=[s] * DEPTH)
        rate = BASE_RATES[p] * s ** (2 - p)
        expected = train_layerwise(weights(), BATCH, steps=6, base_rate=rate, homogeneity=p)
        torch.testing.assert_close(outputs, expected, rtol=1e-9, atol=1e-11)


def test_first_step_is_the_gradient_step_of_autograd():
    layers = [w.clone().requires_grad_() for w in weights()]
    quadratic(mlp_output(layers, BATCH[0]), BATCH[1]).div(len(BATCH[0])).backward()
    rates = [0.1 / DEPTH / w.grad.square().sum() for w in layers]
    moved = [w.detach() - rate * w.grad for w, rate in zip(layers, rates, strict=True)]
    outputs = train(weights(), 2.0, steps=1)
    torch.testing.assert_close(outputs[1], mlp_output(moved, BATCH[0]), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(outputs[0], mlp_output(weights(), BATCH[0]), rtol=1e-14, atol=0)


def test_rule_of_homogeneity_minus_two_is_that_of_balanced_contributions():
    """The outputs' velocity is that of the feature speed probe with its default rates."""
    modules: list[nn.Module] = [Linear(weights()[0])]
    for weight in weights()[1:]:
        modules += [nn.ReLU(), Linear(weight)]
    result = measure_feature_speed(modules, lambda f, y: quadratic(f, y) / len(f), BATCH)
    step = 1e-6
    outputs = train_layerwise(weights(), BATCH, steps=1, base_rate=step)
    # the probe counts the parameter-free activations as layers, too: 1/9 for 1/5
    speed = float((outputs[1] - outputs[0]).norm()) / step * DEPTH / len(modules)
    assert speed == pytest.approx(float(result.feature_speed[-1]), rel=1e-4)
    assert outputs.dtype == DOUBLE
