"""The feature speed formula (arXiv:2311.18718, Thm 2.1 and Prop. 4.1) on networks of four kinds, and its parts."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from featurespeed.models.mlp import Linear, build_residual_mlp
from featurespeed.probes import backward_feature_angle, measure_feature_speed
from featurespeed.randomness import generator
from tests.probes.cases import CASES, DOUBLE, descend, frozen_ends, linear_loss, normal, quadratic, residual

every_case = pytest.mark.parametrize("name", CASES)


# --- Theorem 2.1 ------------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("seed", range(3))
def test_feature_speed_equals_loss_decay_over_backward_cosine(name, steps, seed):
    """At every cut node, at initialisation and after training, for arbitrary positive learning rates."""
    case = CASES[name]
    layers = case.build(seed)
    rates = torch.exp(normal(len(layers), seed=seed))
    start = measure_feature_speed(layers, case.loss, case.batch)
    descend(layers, case, 0.05 * rates * start.learning_rate, steps)
    for given in (None, rates, 1e-3 / rates):
        result = measure_feature_speed(layers, case.loss, case.batch, given)
        assert result.formula_error.shape == (len(layers),)
        assert float(result.formula_error.max()) < 1e-11
        assert bool((result.angle >= 0).all() and (result.angle < math.pi / 2).all())


@every_case
def test_formula_fails_with_the_speeds_of_another_layer(name):
    """Negative control: the identity is not a matter of scale, so speeds moved by one layer break it everywhere."""
    case = CASES[name]
    result = measure_feature_speed(case.build(0), case.loss, case.batch)
    wrong = result.feature_speed.roll(1) * result.cos * result.backward_norm / result.loss_decay
    assert float((wrong - 1).abs().min()) > 1e-2


@every_case
def test_loss_decay_is_minus_the_velocity_of_the_loss(name):
    """Against central differences of real gradient steps: error O(dt^2) + rounding/dt."""
    case, dt = CASES[name], 1e-5
    rates = torch.full((len(case.build(0)),), 0.1, dtype=DOUBLE)
    decay = measure_feature_speed(case.build(0), case.loss, case.batch, rates).loss_decay[-1]
    # forwards and backwards along the gradient at the start, in one step each
    ends = []
    for sign in (1.0, -1.0):
        layers = case.build(0)
        descend(layers, case, sign * dt * rates)
        with torch.no_grad():
            ends.append(case.loss(layers(case.inputs), case.targets))
    assert float((ends[1] - ends[0]) / (2 * dt)) == pytest.approx(float(decay), rel=1e-6)


@every_case
def test_exact_tangent_is_the_limit_of_finite_steps_at_first_order(name):
    """Features after a real step: the error of the speed halves when dt halves, at all nodes above the first."""
    case = CASES[name]
    layers = case.build(0)
    result = measure_feature_speed(layers, case.loss, case.batch)
    errors = []
    for dt in (2e-5, 1e-5):
        moved = case.build(0)
        descend(moved, case, dt * result.learning_rate)
        with torch.no_grad():
            before, after, speeds = case.inputs, case.inputs, []
            for old, new in zip(layers, moved, strict=True):
                before, after = old(before), new(after)
                speeds.append((after - before).norm() / dt)
        errors.append((torch.stack(speeds) - result.feature_speed).abs()[1:] / result.feature_speed[1:])
    assert float(errors[0].max()) < 1e-3 and float(errors[0].min()) > 1e-8
    torch.testing.assert_close(errors[0] / errors[1], torch.full_like(errors[0], 2.0), rtol=0.02, atol=0)


def test_frozen_layers_do_not_move_the_features():
    layers = frozen_ends(residual(0.5))
    result = measure_feature_speed(layers, quadratic, CASES["MLP"].batch)
    assert float(result.feature_speed[0]) == float(result.loss_decay[0]) == float(result.gradient_norm[0]) == 0
    assert math.isnan(result.angle[0]) and math.isnan(result.formula_error[0])
    assert float(result.formula_error[1:].max()) < 1e-12
    assert float(result.learning_rate[-1]) == 0 and float(result.loss_decay[-1]) == float(result.loss_decay[-2])


def test_balanced_rates_let_every_trained_layer_contribute_the_same():
    result = measure_feature_speed(frozen_ends(residual(1.0)), quadratic, CASES["MLP"].batch)
    expected = torch.tensor([0, 1, 1, 1, 1, 0], dtype=DOUBLE) / 6
    torch.testing.assert_close(result.contribution, expected, rtol=1e-14, atol=0)


def test_reported_norms_are_those_of_autograd():
    case = CASES["MLP"]
    layers = case.build(0)
    result = measure_feature_speed(layers, case.loss, case.batch)
    features, f = [], case.inputs
    for layer in layers:
        f = layer(f)
        f.retain_grad()
        features.append(f)
    case.loss(f, case.targets).backward()
    for index, (layer, f) in enumerate(zip(layers, features, strict=True)):
        assert float(result.backward_norm[index]) == pytest.approx(float(f.grad.norm()), rel=1e-12)
        assert float(result.gradient_norm[index]) == pytest.approx(float(layer.weight.grad.norm()), rel=1e-12)
        assert float(result.feature_rms[index]) == pytest.approx(float(f.detach().square().mean().sqrt()), rel=1e-12)
        assert int(result.size[index]) == f.numel()


def test_sensitivity_is_the_speed_a_unit_of_loss_decay():
    """``S_v = 1/(cos theta_v m_v rms(b_v))``: the definition and the form the formula gives it."""
    result = measure_feature_speed(residual(0.4), quadratic, CASES["ResNet"].batch)
    expected = 1 / (result.cos * result.size * result.backward_norm / result.size.sqrt())
    torch.testing.assert_close(result.feature_sensitivity, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.inverse_backward_norm, expected * result.cos, rtol=1e-12, atol=0)


# --- Proposition 4.1 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("branch_scale", [1.0, 0.3])
@pytest.mark.parametrize("depth", [4, 9, 20])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_feature_learning_holds_with_the_backward_norm_of_proposition_4_1(branch_scale, depth, factor):
    """With balanced rates and ``rms(b) = factor/(m cos theta)``, ``rms(df/dt) = loss decay/factor``, at any size.

    Loss decay is ``(L-2)/L`` where embedding and readout are frozen: so FL, BC and LD hold together for factor 1.
    """
    width = 24
    sizes = {"width": width, "depth": depth, "output_dim": 1}
    layers = frozen_ends(residual(branch_scale, **sizes))
    batch = normal(1, 5), torch.ones(1, 1, dtype=DOUBLE)
    plain = measure_feature_speed(layers, linear_loss, batch)
    backward_rms = plain.backward_norm[-2] / width**0.5
    multiplier = factor / (width * plain.cos[-2]) / backward_rms
    readout = Linear(layers[-1].weight * multiplier).requires_grad_(False)
    result = measure_feature_speed([*layers[:-1], readout], linear_loss, batch)
    speed_rms = float(result.feature_speed[-2]) / width**0.5
    assert float(result.loss_decay[-1]) == pytest.approx((depth - 2) / depth, rel=1e-12)
    assert speed_rms == pytest.approx(float(result.loss_decay[-1]) / factor, rel=1e-11)
    assert float(result.angle[-2]) == pytest.approx(float(plain.angle[-2]), rel=1e-9)  # the multiplier turns nothing


def test_loss_decay_and_balance_fail_with_rates_of_another_exponent():
    """Negative control of Prop. 4.1: ``eta = 1/(L |grad|)`` neither balances the layers nor keeps the loss decay."""
    case = CASES["MLP"]
    balanced = measure_feature_speed(case.build(0), case.loss, case.batch)
    wrong = measure_feature_speed(case.build(0), case.loss, case.batch, 1 / (6 * balanced.gradient_norm))
    assert float(balanced.contribution.max() / balanced.contribution.min()) == pytest.approx(1, rel=1e-12)
    assert float(wrong.contribution.max() / wrong.contribution.min()) > 1.5
    assert abs(float(wrong.loss_decay[-1]) - 1) > 0.5


# --- the angle --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [1e-9, 1e-6, 1e-3, 1.0, math.pi / 2, 3.0, math.pi - 1e-6, math.pi])
@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_angle_is_accurate_from_tiny_to_straight(angle, scale):
    u, v = torch.linalg.qr(normal(50, 2))[0].T
    velocity = scale * (math.cos(angle) * u + math.sin(angle) * v)
    measured = backward_feature_angle(velocity, -3.0 / scale * u)
    assert float(measured) == pytest.approx(angle, rel=2e-7 if angle < 1e-6 else 1e-9, abs=1e-15)


def test_arc_cosine_would_not_resolve_a_tiny_angle():
    """Negative control: the textbook formula returns 0 or 1e-8 for an angle of 1e-9."""
    u, v = torch.linalg.qr(normal(50, 2))[0].T
    w = math.cos(1e-9) * u + math.sin(1e-9) * v
    textbook = torch.acos((torch.dot(u, w) / u.norm() / w.norm()).clamp(-1, 1))
    assert abs(float(textbook) - 1e-9) > 1e-10


def test_angle_has_the_papers_sign():
    """A feature that moves against the backward pass makes the angle 0, along it pi."""
    b = normal(7)
    assert float(backward_feature_angle(-b, b)) == 0
    assert float(backward_feature_angle(b, b)) == math.pi


def test_angle_of_a_zero_vector_is_not_defined():
    b = normal(3, 7)
    velocity = -b.clone()
    velocity[1] = 0
    angle = backward_feature_angle(velocity, b)
    assert angle.isnan().tolist() == [False, True, False]
    assert bool(backward_feature_angle(b, torch.zeros_like(b)).isnan().all())


def test_angle_works_row_by_row():
    velocity, backward = normal(4, 3, 9), normal(4, 3, 9, seed=1)
    pairs = zip(velocity, backward, strict=True)
    rows = [[backward_feature_angle(v, b) for v, b in zip(*pair, strict=True)] for pair in pairs]
    torch.testing.assert_close(backward_feature_angle(velocity, backward), torch.tensor(rows, dtype=DOUBLE))


# --- faults and the model ---------------------------------------------------------------------------------------------


def build(**options):
    sizes = {"width": 4, "depth": 5, "input_dim": 3, "generator": generator(0, "faults")}
    return build_residual_mlp(**(sizes | options))


def infinite_outputs():
    layers = residual(1.0)
    layers[2].weight.data.fill_(math.inf)
    return measure_feature_speed(layers, quadratic, CASES["MLP"].batch)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: measure_feature_speed([], quadratic, CASES["MLP"].batch), ValueError, "layers"),
        (
            lambda: measure_feature_speed(residual(1.0), quadratic, CASES["MLP"].batch, [1.0, 2.0]),
            ValueError,
            r"learning_rates: shape \(2,\), allowed: one a layer, \(6,\)",
        ),
        (infinite_outputs, FloatingPointError, "not finite"),
        (lambda: build(depth=2), ValueError, "depth = 2: must be at least 3"),
        (lambda: build(branch_scale=1.5), ValueError, r"branch_scale = 1.5: must lie in \[0, 1\]"),
        (lambda: build(branch_scale=-0.1), ValueError, "branch_scale = -0.1"),
        (lambda: build(branch_scale=math.nan), ValueError, "branch_scale = nan"),
    ],
)
def test_bad_input_raises_one_line(call, error, named):
    with pytest.raises(error, match=named) as raised:
        call()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("branch_scale", [0.0, 0.5, 1.0])
def test_initialisation_keeps_the_norm_of_the_signal(activation, branch_scale):
    """``rms(f_l)`` stays 1 through ten blocks at width 300: a deviation of 0.35 is four standard errors and more."""
    layers = build_residual_mlp(
        300,
        12,
        input_dim=9,
        branch_scale=branch_scale,
        activation=activation,
        generator=generator(3, "norm"),
        dtype=DOUBLE,
    )
    f = torch.ones(1, 9, dtype=DOUBLE)
    with torch.no_grad():
        for layer in layers[:-1]:
            f = layer(f)
            assert float(f.square().mean().sqrt()) == pytest.approx(1, abs=0.35)
    assert len(layers) == 12 and layers[-1].weight.shape == (1, 300)
    assert float(layers[-1].weight.detach().std()) == pytest.approx(1 / 300, rel=0.2)


def test_networks_depend_on_the_generator_alone():
    first, second, other = (residual(0.5, seed) for seed in (0, 0, 1))
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a.weight, b.weight) and not torch.equal(a.weight, c.weight)


def test_measurement_leaves_the_network_as_it_was():
    layers = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)).double().eval()
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    measure_feature_speed(layers, quadratic, (normal(2, 3), normal(2, 1)))
    assert not any(module.training for module in layers)
    assert all(torch.equal(before[name], value) for name, value in layers.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in layers.parameters())


def test_a_layer_that_works_in_place_leaves_the_feature_before_it_alone():
    def net(inplace: bool) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 1)).double()

    batch = normal(4, 3), normal(4, 1, seed=1)
    apart, inplace = (measure_feature_speed(net(flag), nn.MSELoss(), batch) for flag in (False, True))
    torch.testing.assert_close(inplace.angle, apart.angle)
    torch.testing.assert_close(inplace.feature_rms, apart.feature_rms)


def test_a_loss_that_is_no_scalar_raises():
    batch = normal(4, 3), normal(4, 1, seed=1)
    net = nn.Sequential(nn.Linear(3, 1)).double()
    with pytest.raises(ValueError, match=r"loss: returns shape \(4, 1\), allowed: a scalar"):
        measure_feature_speed(net, nn.MSELoss(reduction="none"), batch)


def test_gradients_need_not_be_on_where_it_is_called():
    case = CASES["ResNet"]
    usual = measure_feature_speed(case.build(0), case.loss, case.batch)
    with torch.no_grad():
        off = measure_feature_speed(case.build(0), case.loss, case.batch)
    assert torch.equal(off.angle, usual.angle) and torch.equal(off.loss_decay, usual.loss_decay)
    assert not any(value.requires_grad for value in vars(off).values())


def test_a_loss_of_which_the_outputs_are_no_part_is_refused_and_one_that_is_flat_moves_nothing():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()
    batch = normal(4, 3), normal(4, 1, seed=1)
    for loss in (lambda outputs, targets: targets.sum(), lambda outputs, targets: outputs.detach().sum()):
        with pytest.raises(ValueError, match="^loss: no operation of PyTorch connects its value with the outputs"):
            measure_feature_speed(net, loss, batch)
    result = measure_feature_speed(net, lambda outputs, targets: (0 * outputs).sum(), batch)
    assert result.feature_speed.tolist() == result.backward_norm.tolist() == result.loss_decay.tolist() == [0.0, 0.0]
    assert bool(result.formula_error.isnan().all())


def test_measuring_does_not_import_the_compiler():
    """It would take more than a second of every process that measures."""
    program = (
        "import sys, torch; from torch import nn; from featurespeed import measure_feature_speed;"
        "measure_feature_speed([nn.Linear(3, 2)], nn.MSELoss(), (torch.ones(4, 3), torch.ones(4, 2)));"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
