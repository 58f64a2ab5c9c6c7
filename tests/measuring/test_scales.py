"""Derivatives near the ends of a precision's range, where squares and products over- and underflow."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from featurespeed.measuring.norms import norm, power_of_two
from tests.curvature.cases import Quadratic, itself, relative_error, symmetric, with_bulk
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    X,
    Y,
    cross_entropy,
    hessian,
    network,
    normal,
    right_or_refused,
    spectrum,
)
from tests.probes.cases import DOUBLE

NOTHING = torch.zeros(1), torch.zeros(1)


def times(factor, loss=cross_entropy):
    return lambda outputs, targets: loss(outputs, targets) * factor


def right(dtype=DOUBLE):
    net = network()
    return spectrum(hessian(lambda: cross_entropy(net(X), Y), net.parameters()))


# --- a loss times a number --------------------------------------------------------------------------------------------

FACTORS = {
    torch.float32: [1e-35, 1e-30, 1e-25, 1e-12, 1e12, 1e25, 1e33],
    DOUBLE: [1e-290, 1e-200, 1e-100, 1e100, 1e200, 1e290],
    torch.bfloat16: [1e-30, 1e-15, 1e15, 1e30],
    torch.float16: [1e-6, 1e-4, 1e-2, 1e2, 1e3],
}
CASES = [(dtype, factor) for dtype, factors in FACTORS.items() for factor in factors]
ERROR = {DOUBLE: 1e-5, torch.float32: 2e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}


@pytest.mark.parametrize(("dtype", "factor"), CASES)
def test_sharpness_is_linear_in_the_loss(dtype, factor):
    """Whatever the size of the loss: numbers that are lost on the way in would be zeros or infinite ones."""
    net, batch = network().to(dtype), (X.to(dtype), Y)
    wanted = right()
    found = sharpness(net, times(factor), batch)
    assert found.eigenvalue / factor == pytest.approx(float(wanted[0]), rel=ERROR[dtype]) and found.converged
    assert found.residual <= 0.1 * found.eigenvalue
    low = sharpness(net, times(factor), batch, smallest=True, max_products=40)
    assert low.eigenvalue / factor == pytest.approx(float(wanted[-1]), rel=10 * ERROR[dtype], abs=0.1 * ERROR[dtype])


@pytest.mark.parametrize(("dtype", "factor"), CASES)
def test_trace_and_density_are_linear_in_the_loss(dtype, factor):
    net, batch = network().to(dtype), (X.to(dtype), Y)
    one, many = (hessian_trace(net, loss, batch, 5) for loss in (cross_entropy, times(factor)))
    assert many.value / factor == pytest.approx(one.value, abs=ERROR[dtype])
    assert many.standard_error / factor == pytest.approx(one.standard_error, rel=10 * ERROR[dtype])
    one, many = (spectral_density(net, loss, batch, 1, 8) for loss in (cross_entropy, times(factor)))
    assert float(many.nodes.max()) / factor == pytest.approx(float(one.nodes.max()), rel=2 * ERROR[dtype])
    torch.testing.assert_close(many.weights.sum(1), torch.ones(1, dtype=DOUBLE), rtol=1e-6, atol=0)


@pytest.mark.parametrize("matrix", ["gauss_newton", "residual"])
@pytest.mark.parametrize("factor", [1e-30, 1e-20, 1e20, 1e30])
def test_other_matrices_are_linear_in_the_loss(matrix, factor):
    net, batch = network().float(), (X.float(), Y)
    one, many = (sharpness(net, loss, batch, matrix=matrix).eigenvalue for loss in (cross_entropy, times(factor)))
    assert many / factor == pytest.approx(one, rel=2e-3)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
@pytest.mark.parametrize(
    "options", [{"k": 4}, {"micro_batch": 5}, {"rates": [1.0, 2.0, 3.0, 4.0]}, {"k": 2, "seed": 3}]
)
def test_so_is_whatever_else_is_asked_for(factor, options):
    net, batch = network().float(), (X.float(), Y)
    one, many = (sharpness(net, loss, batch, **options).values for loss in (cross_entropy, times(factor)))
    assert relative_error(many / factor, one) < 3e-3


def test_a_warm_start_at_another_scale():
    net, batch = network().float(), (X.float(), Y)
    start = sharpness(net, times(1e-25), batch)
    found = sharpness(net, times(1e20), batch, start=start)
    assert found.eigenvalue == pytest.approx(1e20 * float(right()[0]), rel=2e-3) and found.converged


# --- operators of known size ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(torch.float32, 1e-36), (torch.float32, 1e-24), (torch.float32, 4e27), (torch.float32, 1e35),
     (DOUBLE, 1e-300), (DOUBLE, 1e-160), (DOUBLE, 1e160), (DOUBLE, 1e300)],
)  # fmt: skip
def test_a_quadratic_of_any_size(dtype, size):
    values = with_bulk(3.0, 3.0, 2.0, -5.0, size=60)
    model = Quadratic(symmetric(values).to(dtype))
    found = sharpness(model, times(size, itself), NOTHING, 3)
    assert found.converged and relative_error(found.values / size, torch.tensor([3.0, 3.0, 2.0]).double()) < 1e-3
    inside = Quadratic(symmetric(size * values).to(dtype))
    found = sharpness(inside, itself, NOTHING, 3)
    assert found.converged and relative_error(found.values / size, torch.tensor([3.0, 3.0, 2.0]).double()) < 1e-3
    trace = hessian_trace(inside, itself, NOTHING, 20)
    assert abs(trace.value / size - float(values.sum())) < 5 * trace.standard_error / size


@pytest.mark.parametrize("size", [1e-24, 1e-20, 1e-18, 1e-10, 1e12, 4e18, 4e20, 4e27])
def test_weights_of_any_size(size):
    """Of curvatures ``1 / size^2``, which single precision holds or does not; a result is in double precision."""
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.mul_(size)
    wanted = float(spectrum(2 * X.T @ X / 12)[0])

    def loss(outputs, targets):
        return (outputs / size).square().mean()

    def measured():
        return sharpness(model, loss, (X.float(), torch.zeros(12, 1))).eigenvalue * size**2

    if 1e-38 < size**-2 < 1e38:
        assert measured() == pytest.approx(wanted, rel=2e-3)
    else:
        right_or_refused(measured, wanted, ("model: ", "a product with the operator is not finite: "), 2e-3)


# --- feature speed in low precision -----------------------------------------------------------------------------------


def chain(width: int = 16) -> nn.Sequential:
    layers = [nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, CLASSES)]
    return network_of(layers)


def network_of(layers: list[nn.Module]) -> nn.Sequential:
    stream = torch.Generator().manual_seed(0)
    net = nn.Sequential(*layers).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=stream, dtype=DOUBLE) / max(p.shape[-1], 4) ** 0.5)
    return net


def convolutions() -> nn.Sequential:
    return network_of([nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, CLASSES)])


CHAINS = {
    "linear layers": (chain, X),
    "convolutions": (convolutions, normal(12, 1, 2, 2)),
    "normalised": (lambda: network_of([nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, CLASSES)]), X),
}
NUMBERS = ("feature_speed", "backward_norm", "gradient_norm", "loss_decay", "feature_rms", "contribution")


def assert_near(found, wanted, rel, factor=1.0):
    """Speeds with balanced rates go as ``1 / factor`` of the loss, decays do not change, gradients go as ``factor``."""
    powers = {"feature_speed": -1, "backward_norm": 1, "gradient_norm": 1}
    for name in NUMBERS:
        scaled = getattr(found, name).double() / factor ** powers.get(name, 0)
        torch.testing.assert_close(scaled, getattr(wanted, name), rtol=rel, atol=1e-30)
    torch.testing.assert_close(found.angle, wanted.angle, rtol=0, atol=rel)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [1e-7, 1e-5, 1e-3, 1.0, 300.0])
def test_feature_speed_in_low_precision(name, dtype, factor):
    build, inputs = CHAINS[name]
    wanted = measure_feature_speed(build(), cross_entropy, (inputs, Y))
    found = measure_feature_speed(build().to(dtype), times(factor), (inputs.to(dtype), Y))
    assert found.feature_speed.dtype == DOUBLE
    assert_near(found, wanted, 0.05, factor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [1e-7, 1e-5, 1.0])
def test_feature_speed_of_a_trunk_in_low_precision(dtype, factor):
    """The outputs are in single precision, the gradients inside are not."""

    class Single(nn.Linear):
        def forward(self, v):
            return super().forward(v.float())

    net = chain()
    wanted = measure_feature_speed(net, cross_entropy, BATCH)
    head = Single(16, CLASSES)
    head.load_state_dict(net[4].state_dict())
    mixed = [*copy.deepcopy(net[:4]).to(dtype), head]
    found = measure_feature_speed(mixed, times(factor), (X.to(dtype), Y))
    assert_near(found, wanted, 0.05, factor)


@pytest.mark.parametrize("factor", [1e-35, 1e-25, 1e25, 1e33])
def test_feature_speed_in_single_precision(factor):
    """With rates that suit the loss: gradients are lost in no square, velocities in no product."""
    wanted = measure_feature_speed(chain(), cross_entropy, BATCH)
    found = measure_feature_speed(chain().float(), times(factor), (X.float(), Y))
    assert_near(found, wanted, 1e-3, factor)
    rates = (wanted.learning_rate / factor**2).tolist()
    if max(rates) < 1e300:
        assert_near(measure_feature_speed(chain().float(), times(factor), (X.float(), Y), rates), wanted, 1e-3, factor)


@pytest.mark.parametrize("factor", [1e-140, 1e-90, 1e90, 1e140])
def test_feature_speed_in_double_precision(factor):
    wanted = measure_feature_speed(chain(), cross_entropy, BATCH)
    found = measure_feature_speed(chain(), times(factor), BATCH)
    assert_near(found, wanted, 1e-9, factor)


def test_rates_that_overflow_are_one_line():
    with pytest.raises(FloatingPointError, match="overflows, allowed: learning_rates of your own") as raised:
        measure_feature_speed(chain(), times(1e-200), BATCH)
    assert "\n" not in str(raised.value)
    found = measure_feature_speed(chain(), times(1e-200), BATCH, [1.0] * 5)
    plain = measure_feature_speed(chain(), cross_entropy, BATCH, [1.0] * 5)
    torch.testing.assert_close(found.feature_speed * 1e200, plain.feature_speed, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.angle, plain.angle, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_overflows_is_one_line(dtype):
    net = chain().to(dtype)
    with torch.no_grad():
        net[4].weight.mul_(torch.finfo(dtype).max / 2)
    with pytest.raises(FloatingPointError, match="not finite") as raised:
        measure_feature_speed(net, functional.mse_loss, (X.to(dtype), normal(12, CLASSES).to(dtype)))
    assert "\n" not in str(raised.value)


# --- norms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, DOUBLE])
def test_norms_at_the_ends_of_a_precision(dtype):
    info = torch.finfo(dtype)
    for value in (info.tiny, info.max / 4):
        assert norm(torch.full((16,), value, dtype=dtype)) == pytest.approx(4 * value, rel=1e-12)
    two = torch.full((9,), 2.0, dtype=dtype)
    assert norm(two, two) == pytest.approx(72**0.5, rel=1e-12)
    assert norm(torch.zeros(3, dtype=dtype)) == norm() == norm(torch.zeros(0, dtype=dtype)) == 0


@pytest.mark.parametrize("value", [1e-300, 3e-40, 0.7, 1.0, 5.0, 1e40, 1e300])
def test_a_power_of_two_brings_a_number_near_1(value):
    factor = power_of_two(value)
    assert 0.5 <= factor * value <= 1 and math.frexp(factor)[0] == 0.5


@pytest.mark.parametrize("size", [1e-30, 1e-16, 1e-10, 1e-8, 1e-6, 1e10, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_of_any_size_of_networks_in_half_precision(size, dtype):
    """Where the loss has a wider precision than the network, that one's range holds."""
    model, batch = network().half(), (X.half(), Y)
    wanted = sharpness(network(), cross_entropy, (batch[0].double(), Y)).eigenvalue
    found = sharpness(model, lambda o, t: size * cross_entropy(o.to(dtype), t), batch)
    assert found.converged and found.eigenvalue == pytest.approx(size * wanted, rel=1e-2)
