"""The formula in the optimizer's form: features, backward pass and loss in any motion of the parameters."""

import math

import pytest
import torch
from torch import nn

from featurespeed.probes import FeatureSpeed, measure_feature_speed
from tests.probes.cases import CASES, DOUBLE, Case, descend, normal

every_case = pytest.mark.parametrize("name", CASES)
FIELDS = ("angle", "feature_speed", "backward_norm", "loss_decay", "feature_rms", "gradient_norm", "contribution")


def motion(layers: nn.Sequential, seed: int = 0) -> dict[nn.Parameter, torch.Tensor]:
    """A random velocity for every parameter."""
    return {p: normal(*p.shape, seed=seed + place) for place, p in enumerate(layers.parameters())}


def moved(case: Case, seed: int, velocities: list[torch.Tensor], time: float) -> nn.Sequential:
    """The layers after some time of a motion."""
    layers = case.build(seed)
    with torch.no_grad():
        for parameter, velocity in zip(layers.parameters(), velocities, strict=True):
            parameter += time * velocity
    return layers


def features(layers: nn.Sequential, case: Case) -> list[torch.Tensor]:
    with torch.no_grad():
        found, f = [], case.inputs
        for layer in layers:
            f = layer(f)
            found.append(f)
    return found


@every_case
@pytest.mark.parametrize("steps", [0, 5])
def test_the_formula_holds_in_any_motion(name, steps):
    """At every cut node, at initialisation and after training; the loss decay has either sign."""
    decays = []
    for seed in range(6):
        case = CASES[name]
        layers = case.build(seed)
        start = measure_feature_speed(layers, case.loss, case.batch)
        descend(layers, case, 0.05 * start.learning_rate, steps)
        result = measure_feature_speed(layers, case.loss, case.batch, velocities=motion(layers, 10 * seed))
        assert float(result.cosine_error.max()) < 1e-13
        up = result.loss_decay < 0
        assert torch.equal(result.angle > math.pi / 2, up)
        decays.append(result.loss_decay)
    decays = torch.stack(decays)
    assert bool((decays < 0).any() and (decays > 0).any())


@every_case
def test_gradient_descent_is_one_such_motion(name):
    case = CASES[name]
    layers = case.build(0)
    expected = measure_feature_speed(layers, case.loss, case.batch)
    case.loss(layers(case.inputs), case.targets).backward()
    rates = expected.learning_rate.tolist()
    by_layer = [[-rate * p.grad for p in layer.parameters()] for rate, layer in zip(rates, layers, strict=True)]
    by_parameter = dict(zip(layers.parameters(), [v for own in by_layer for v in own], strict=True))
    for given in (by_layer, by_parameter):
        result = measure_feature_speed(layers, case.loss, case.batch, velocities=given)
        for field in FIELDS:
            torch.testing.assert_close(getattr(result, field), getattr(expected, field), rtol=1e-10, atol=1e-15)
        assert float(result.formula_error.max()) < 1e-11
        assert bool(result.learning_rate.isnan().all())


def test_two_linear_layers_in_closed_form():
    """``df_1 = x dA'``, ``df_2 = f_1 dB' + df_1 B'``, and the loss ``<f_2, y>`` has ``b_2 = y``, ``b_1 = y B``."""
    x, y, a, b, da, db = (
        normal(*shape, seed=n) for n, shape in enumerate([(4, 3), (4, 2), (5, 3), (2, 5), (5, 3), (2, 5)])
    )
    layers = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)).double()
    layers[0].weight.data, layers[1].weight.data = a.clone(), b.clone()
    result = measure_feature_speed(layers, lambda f, t: (f * t).sum(), (x, y), velocities=[[da], [db]])
    f1, df1 = x @ a.T, x @ da.T
    df2, backward = f1 @ db.T + df1 @ b.T, [y @ b, y]
    expected = {
        "feature_speed": [df1.norm(), df2.norm()],
        "backward_norm": [v.norm() for v in backward],
        "loss_decay": [-(df1 * backward[0]).sum(), -(df2 * backward[1]).sum()],
        "contribution": [-(da * (backward[0].T @ x)).sum(), -(db * (y.T @ f1)).sum()],
    }
    for field, values in expected.items():
        torch.testing.assert_close(getattr(result, field), torch.stack(values), rtol=1e-12, atol=0)
    cosines = [-(v * w).sum() / v.norm() / w.norm() for v, w in zip((df1, df2), backward, strict=True)]
    torch.testing.assert_close(result.cos, torch.stack(cosines), rtol=1e-12, atol=0)


@every_case
def test_speeds_and_loss_decay_are_those_of_finite_steps(name):
    """Central differences: errors of ``dt^2 + rounding / dt``."""
    case, dt = CASES[name], 1e-5
    layers = case.build(0)
    velocities = motion(layers)
    result = measure_feature_speed(layers, case.loss, case.batch, velocities=velocities)
    ends = [moved(case, 0, list(velocities.values()), time) for time in (dt, -dt)]
    speeds = [(f - g).norm() / (2 * dt) for f, g in zip(*(features(end, case) for end in ends), strict=True)]
    torch.testing.assert_close(result.feature_speed, torch.stack(speeds), rtol=1e-6, atol=0)
    losses = [float(case.loss(end(case.inputs), case.targets).detach()) for end in ends]
    assert (losses[1] - losses[0]) / (2 * dt) == pytest.approx(float(result.loss_decay[-1]), rel=1e-6)


def test_a_shared_weight_adds_through_each_layer_that_uses_it():
    first = nn.Linear(4, 4).double()
    layers = [first, nn.Sequential(nn.Tanh(), first), nn.Linear(4, 2).double()]
    batch = normal(6, 4), normal(6, 2, seed=1)
    result = measure_feature_speed(layers, nn.MSELoss(), batch, velocities=motion(nn.Sequential(*layers)))
    assert float(result.cosine_error.max()) < 1e-13
    assert float((result.loss_decay[0] - result.loss_decay[1]).abs()) > 1e-3


def test_a_detached_branch_breaks_the_formula():
    """Negative control: features move through what the gradient does not see."""

    class Detached(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + super().forward(x.detach())

    layers = nn.Sequential(nn.Linear(4, 4), Detached(4, 4), nn.Linear(4, 1)).double()
    batch = normal(6, 4), normal(6, 1, seed=1)
    result = measure_feature_speed(layers, nn.MSELoss(), batch, velocities=motion(layers))
    assert float(result.cosine_error[-1]) > 1e-3


def test_what_is_not_named_stands_still():
    case = CASES["MLP"]
    layers = case.build(0)
    some = {p: v for place, (p, v) in enumerate(motion(layers).items()) if place == 2}
    result = measure_feature_speed(layers, case.loss, case.batch, velocities=some)
    assert result.feature_speed[:2].tolist() == result.loss_decay[:2].tolist() == [0.0, 0.0]
    assert bool(result.angle[:2].isnan().all() and result.cosine_error[:2].isnan().all())
    assert float(result.cosine_error[2:].max()) < 1e-13
    assert torch.equal(result.loss_decay[2:], result.loss_decay[2].expand(4))
    nothing = measure_feature_speed(layers, case.loss, case.batch, velocities={})
    assert nothing.feature_speed.tolist() == nothing.loss_decay.tolist() == [0.0] * 6


@pytest.mark.parametrize("factor", [1e-250, 1e250])
def test_velocities_of_any_size_turn_nothing(factor):
    case = CASES["ResNet"]
    layers = case.build(0)
    usual, scaled = (
        measure_feature_speed(layers, case.loss, case.batch, velocities={p: k * v for p, v in motion(layers).items()})
        for k in (1.0, factor)
    )
    torch.testing.assert_close(scaled.angle, usual.angle, rtol=1e-12, atol=0)
    torch.testing.assert_close(scaled.feature_speed / factor, usual.feature_speed, rtol=1e-12, atol=0)


def test_velocities_take_the_precision_of_their_parameters_and_are_left_alone():
    case = CASES["MLP"]
    layers = case.build(0)
    given = {p: v.float().requires_grad_() for p, v in motion(layers).items()}
    before = [v.detach().clone() for v in given.values()]
    result = measure_feature_speed(layers, case.loss, case.batch, velocities=given)
    assert isinstance(result, FeatureSpeed) and float(result.cosine_error.max()) < 1e-13
    assert all(torch.equal(v, old) and v.grad is None for v, old in zip(given.values(), before, strict=True))
    assert result.angle.dtype == DOUBLE and not result.angle.requires_grad


def with_velocities(change, learning_rates=None, frozen=False):
    layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    given = motion(layers)
    layers[0].weight.requires_grad_(not frozen)
    return measure_feature_speed(
        layers,
        nn.MSELoss(),
        (normal(5, 3), normal(5, 2)),
        learning_rates,
        velocities=change(given, list(layers.parameters())),
    )


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        (
            lambda v, p: v,
            {"learning_rates": [1.0, 1.0]},
            "learning_rates, velocities: both given, allowed: one of them",
        ),
        (lambda v, p: 3, {}, "velocities: int 3, allowed: a mapping, parameter -> tensor, or one list"),
        (lambda v, p: normal(3), {}, r"velocities: a tensor \[3\], allowed: a mapping"),
        (lambda v, p: [[]], {}, "velocities: 1 lists, allowed: one a layer, 2"),
        (lambda v, p: [3.0, 3.0], {}, "velocities: entry 1 is float 3.0, allowed"),
        (
            lambda v, p: [[normal(4, 3)], []],
            {},
            "velocities: entry 1 has 1 tensors, allowed: .* requires a gradient, 2",
        ),
        (lambda v, p: v | {normal(4): normal(4)}, {}, "velocities: of a tensor that is no parameter .* allowed: .* 4"),
        (lambda v, p: v, {"frozen": True}, "velocities: of a tensor that .* needs no gradient, allowed: .* 3"),
        (lambda v, p: v | {p[0]: 1.0}, {}, "velocities: of 0.weight is float 1.0, allowed: a tensor"),
        (lambda v, p: v | {p[3]: normal(3)}, {}, r"velocities: of 1.bias has shape \(3,\), allowed: .* \(2,\)"),
        (lambda v, p: v | {p[1]: p[1] * math.inf}, {}, "velocities: of 0.bias is not finite, allowed: finite"),
        (lambda v, p: v | {p[1]: p[1] * 1j}, {}, "velocities: of 0.bias is complex, allowed: real"),
    ],
)
def test_velocities_that_are_none_are_one_line(change, options, named):
    with pytest.raises(ValueError, match=f"^{named}") as raised:
        with_velocities(change, **options)
    assert "\n" not in str(raised.value)


def test_two_velocities_of_one_weight_are_one_line():
    first = nn.Linear(3, 3, bias=False).double()
    batch = normal(5, 3), normal(5, 3, seed=1)
    same = [[normal(3, 3)], [normal(3, 3)]]
    assert float(measure_feature_speed([first, first], nn.MSELoss(), batch, velocities=same).cosine_error.max()) < 1e-13
    with pytest.raises(ValueError, match=r"^velocities: 1.weight, which several layers use, has two, allowed: one$"):
        measure_feature_speed([first, first], nn.MSELoss(), batch, velocities=[same[0], [normal(3, 3, seed=1)]])
