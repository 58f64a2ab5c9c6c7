"""Taylor coefficients of the loss along scaled gradient steps: against automatic differentiation, and identities.

Float64. Errors are relative to the value; those of c2 and c3, which cancellation can make tiny, to the sum of the
absolute values of two parts: F and N of c2; of c3 the part with the third derivatives of the loss, and the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import Hessian, Scaled
from featurespeed.homogeneous.losses import OUTPUT_LOSSES, OutputLoss
from featurespeed.homogeneous.measure import taylor_coefficients
from featurespeed.homogeneous.network import HomogeneousMLP, inputs_of
from featurespeed.homogeneous.scalings import FORMULAS, dead_layers, scaling_factors
from featurespeed.homogeneous.soft_rank import gradient_soft_rank
from featurespeed.homogeneous.spec import GradientScaling
from featurespeed.homogeneous.taylor import TaylorCoefficients
from featurespeed.homogeneous.widths import hidden_widths
from featurespeed.randomness import generator

EXACT = torch.float64
MEMBERS = 8
#: Depth, pattern, base width, (a, b): every scaling and loss meets 5 of them.
NETWORKS = [
    (2, 0, 9, (0.5, 0.5)), (3, 2, 3, (0.0, 1.0)), (4, 1, 4, (0.7, 0.3)), (5, 2, 3, (0.5, 0.5)), (6, 0, 8, (1.0, 0.25)),
    (2, 2, 7, (0.0, 1.0)), (3, 0, 8, (0.5, 0.5)), (4, 2, 3, (1.0, 0.25)), (5, 1, 4, (0.0, 1.0)), (6, 1, 5, (0.7, 0.3)),
]  # fmt: skip
GROUPS = [
    (scaling, loss, *NETWORKS[(2 * k + place) % len(NETWORKS)])
    for place, scaling in enumerate(GradientScaling)
    for shift, loss in enumerate(OUTPUT_LOSSES)
    for k in range(shift, 5 + shift)
]


@dataclass(frozen=True)
class Group:
    """Eight networks side by side: what automatic differentiation says about them, and the coefficients."""

    net: HomogeneousMLP
    x: Tensor
    y: Tensor
    scaling: GradientScaling
    loss: OutputLoss
    outputs: list[Tensor]
    backward: list[Tensor]
    gradients: list[Tensor]
    factors: Tensor
    taylor: TaylorCoefficients

    @property
    def directions(self) -> list[Tensor]:
        return [self.factors[:, k, None, None] * g for k, g in enumerate(self.gradients)]

    def flat(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.flatten(1) for t in tensors], 1)


def forward(x: Tensor, weights: list[Tensor], activation: tuple[float, float]) -> tuple[list[Tensor], list[Tensor]]:
    """``A_0 .. A_{l-1}`` and ``Z_1 .. Z_l``."""
    (a, b), seen, outputs = activation, [x], []
    for matrix in weights:
        outputs.append(seen[-1] @ matrix.transpose(1, 2))
        seen.append((a + b) * outputs[-1].relu() - (a - b) * (-outputs[-1]).relu())
    return seen[:-1], outputs


def formula(scaling: str, a: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """``xi``, once more."""
    last = b[:, -1:]
    rules: dict[str, Callable[[], Tensor]] = {
        "none": lambda: g / g, "norm1": lambda: 1 / a / b, "rel1": lambda: last / a / b, "gradn": lambda: 1 / g,
        "norm2": lambda: (a * b) ** -2, "rel2": lambda: (last / a / b).square(),
        "fsf": lambda: (last / g).square() / g.shape[1],
    }  # fmt: skip
    return rules[scaling]()


@cache
def group(number: int) -> Group:
    """Networks without a dead layer, with Gaussian inputs."""
    scaling, loss_name, depth, pattern, base, activation = GROUPS[number]
    sizes = [5, *hidden_widths(pattern, base, depth - 1), 3]
    net, loss = HomogeneousMLP(sizes, 4 * MEMBERS, activation).to(EXACT), OUTPUT_LOSSES[loss_name]
    net.initialise([1000 * number + member for member in range(4 * MEMBERS)])
    stream = generator(7, number)
    x = torch.randn(MEMBERS, 6, 5, dtype=EXACT, generator=stream)
    y = torch.randint(3, (MEMBERS, 6), generator=stream)
    alive = torch.nonzero(dead_layers(net.hidden_features(x.repeat(4, 1, 1))) == 0).flatten()
    # Member i sees batch i mod 8: take one that is alive for each batch.
    chosen = [next(int(i) for i in alive if int(i) % MEMBERS == batch) for batch in range(MEMBERS)]
    net, x = net.take(chosen), inputs_of(x)
    weights = [w.detach().requires_grad_() for w in net.weights]
    seen, outputs = forward(x, weights, activation)
    found = torch.autograd.grad(loss.value(outputs[-1], y).sum(), [*weights, *outputs])
    gradients, backward = list(found[:depth]), list(found[depth:])
    norms = [torch.stack([t.detach().flatten(1).norm(dim=1) for t in part], 1) for part in (seen, backward, gradients)]
    factors = formula(scaling, *norms)
    taylor = taylor_coefficients(net, x, y, loss=loss_name, scaling=scaling)
    outputs = [z.detach() for z in outputs]
    return Group(net, x, y, scaling, loss, outputs, backward, gradients, factors, taylor)


def derivatives(g: Group) -> list[Tensor]:
    """``c0 .. c3`` by nested automatic differentiation of a function of one number."""
    step = torch.zeros(MEMBERS, dtype=EXACT, requires_grad=True)
    weights = [w.detach() - step[:, None, None] * v for w, v in zip(g.net.weights, g.directions, strict=True)]
    values = [g.loss.value(forward(g.x, weights, g.net.activation)[1][-1], g.y)]
    for _ in range(3):
        values.append(torch.autograd.grad(values[-1].sum(), step, create_graph=True)[0])
    return [value.detach() / math.factorial(p) for p, value in enumerate(values)]


def sizes(g: Group) -> list[Tensor]:
    """What errors are relative to."""
    found, third = g.taylor, g.loss.third(g.outputs[-1], g.y, g.taylor.velocities[-1]) / 6
    c2 = found.feature_part.abs() + found.output_part.abs()
    return [found.c0.abs(), found.c1.abs(), c2, third.abs() + (found.c3 - third).abs()]


def objective(g: Group, last: bool = False) -> Objective:
    parameters = g.net.weights[-1:] if last else g.net.weights
    return Objective(g.net, g.loss.value, (g.x, g.y), members=MEMBERS, parameters=parameters)


def every() -> Iterator[Group]:
    return (group(number) for number in range(len(GROUPS)))


def test_coefficients_are_those_of_nested_automatic_differentiation():
    worst, cases = torch.zeros(4, dtype=EXACT), 0
    for g in every():
        found = g.taylor.c0, g.taylor.c1, g.taylor.c2, g.taylor.c3
        errors = [((a - b).abs() / size) for a, b, size in zip(found, derivatives(g), sizes(g), strict=True)]
        worst, cases = torch.maximum(worst, torch.stack(errors).amax(1)), cases + MEMBERS
    assert cases >= 500
    assert worst[:3].max() < 1e-12 and worst[3] < 1e-10, worst


def test_every_scaling_has_a_formula():
    assert list(FORMULAS) == list(GradientScaling)


def test_groups_hold_every_scaling_loss_depth_and_activation():
    assert {(scaling, loss) for scaling, loss, *_ in GROUPS} == {(s, n) for s in GradientScaling for n in OUTPUT_LOSSES}
    assert {depth for _, _, depth, *_ in GROUPS} == {2, 3, 4, 5, 6}
    assert len({activation for *_, activation in GROUPS}) == 4 and {pattern for *_, pattern, _, _ in GROUPS} == {
        0,
        1,
        2,
    }


@pytest.mark.parametrize("number", range(0, len(GROUPS), 3))
def test_c2_is_half_the_curvature_of_the_hessian_along_the_step(number):
    g = group(number)
    step = g.flat(g.directions)
    curvature = (step * Hessian(objective(g)).matvec(step)).sum(1) / 2
    assert ((curvature - g.taylor.c2).abs() / sizes(g)[2]).max() < 1e-12
    gradient = g.flat(g.gradients)
    assert torch.allclose(g.taylor.directional_sharpness, 2 * curvature / (gradient * step).sum(1), rtol=1e-9)


@pytest.mark.parametrize("number", range(0, len(GROUPS), 7))
def test_directional_sharpness_is_at_most_that_of_the_scaled_hessian(number):
    g = group(number)
    spread = torch.cat([g.factors[:, k, None].expand(-1, w[0].numel()) for k, w in enumerate(g.net.weights)], 1)
    top = largest_eigenvalues(Scaled(Hessian(objective(g)), spread), tol=1e-10, seed=list(range(MEMBERS)))
    largest = torch.tensor([record.eigenvalue for record in top], dtype=EXACT)
    assert (g.taylor.directional_sharpness <= largest * (1 + 1e-12)).all()


def test_feature_velocity_along_the_backward_pass_is_the_loss_decay_of_the_layers_so_far():
    for g in every():
        decay = (g.factors * torch.stack([v.square().sum((1, 2)) for v in g.gradients], 1)).cumsum(1)
        pairs = zip(g.backward, g.taylor.velocities, strict=True)
        inner = torch.stack([(b * z).sum((1, 2)) for b, z in pairs], 1)
        assert ((inner + decay).abs() / decay).max() < 1e-12
        assert torch.allclose(decay[:, -1], -g.taylor.c1, rtol=1e-12)


def test_weight_times_gradient_is_output_times_its_gradient_in_every_layer():
    for g in every():
        terms = (g.backward[-1] * g.outputs[-1]).flatten(1)
        for weight, gradient in zip(g.net.weights, g.gradients, strict=True):
            error = (weight.detach() * gradient).sum((1, 2)) - terms.sum(1)
            assert (error.abs() / terms.abs().sum(1)).max() < 1e-12


def test_curvature_of_the_last_layer_under_squares_is_the_trace_over_the_gradient_soft_rank():
    for g in (g for g in every() if g.loss is OUTPUT_LOSSES["mse"]):
        gradient, features = g.gradients[-1].flatten(1), forward(g.x, g.net.weights, g.net.activation)[0][-1].detach()
        curvature = (gradient * Hessian(objective(g, last=True)).matvec(gradient)).sum(1) / gradient.square().sum(1)
        trace = features.square().sum((1, 2)) / features.shape[1]
        assert (trace / gradient_soft_rank(features, g.backward[-1]) / curvature - 1).abs().max() < 1e-12


def test_evaluation_of_a_network_is_that_of_automatic_differentiation():
    for g in [group(number) for number in range(0, len(GROUPS), 5)]:
        found = g.net.evaluate(g.x, g.y, g.scaling, g.loss)
        assert torch.allclose(found.factors, g.factors, rtol=1e-12)
        assert torch.allclose(found.losses, g.taylor.c0, rtol=1e-12) and (found.dead_layer == 0).all()
        assert torch.allclose(found.c1, g.taylor.c1, rtol=1e-11)
        for mine, wanted in zip(found.gradients, g.gradients, strict=True):
            assert torch.allclose(mine, wanted, rtol=1e-10, atol=1e-14)


def test_parts_of_c2_are_the_residual_and_the_gauss_newton_curvature():
    from featurespeed.curvature.operators import GaussNewton, Residual

    for number in (3, 20, 41):
        g = group(number)
        step = g.flat(g.directions)
        for part, kind in ((g.taylor.output_part, GaussNewton), (g.taylor.feature_part, Residual)):
            assert torch.allclose(part, (step * kind(objective(g)).matvec(step)).sum(1) / 2, rtol=1e-10, atol=1e-13)


def test_model_of_second_order_is_back_at_the_edge_and_lowest_half_way():
    for g in (group(0), group(11), group(33)):
        edge = g.taylor.edge
        has = torch.isfinite(edge)
        assert has.any() and ((g.taylor.c2 > 0) == has).all()
        assert (g.taylor.change(edge, 2)[has].abs() < 1e-12 * g.taylor.c0[has]).all()
        assert torch.allclose(edge[has], 2 / g.taylor.directional_sharpness[has], rtol=1e-12)
        assert (g.taylor.change(edge / 2, 2)[has] < g.taylor.change(edge / 3, 2)[has]).all()


# --- bounds on the step -----------------------------------------------------------------------------------------------


def step_norms(g: Group) -> Tensor:
    """``|dW_k| / eta``, ``[E, l]``."""
    return torch.stack([v.flatten(1).norm(dim=1) for v in g.directions], 1)


def test_norm1_bounds_the_step_of_every_layer_by_the_learning_rate():
    norms = torch.cat([step_norms(g).flatten() for g in every() if g.scaling == "norm1"])
    assert norms.max() <= 1 + 1e-12
    unscaled = torch.cat([step_norms(g).flatten() for g in every() if g.scaling == "none"])
    assert unscaled.max() > 1


def test_rel1_bounds_the_step_by_the_gradient_at_the_outputs_and_so_by_the_batch_size():
    for g in (g for g in every() if g.scaling == "rel1"):
        last = g.backward[-1].flatten(1).norm(dim=1)
        assert (step_norms(g) <= last[:, None] * (1 + 1e-12)).all()
        if g.loss is OUTPUT_LOSSES["cross_entropy"]:
            assert (last <= math.sqrt(2 / g.x.shape[1])).all()


def test_fsf_gives_every_layer_the_same_part_in_the_decay_of_the_loss():
    for g in (g for g in every() if g.scaling == "fsf"):
        decay = g.factors * torch.stack([v.square().sum((1, 2)) for v in g.gradients], 1)
        share = g.backward[-1].square().sum((1, 2)) / len(g.gradients)
        assert torch.allclose(decay, share[:, None].expand_as(decay), rtol=1e-12)


def test_gradn_makes_steps_of_length_one():
    for g in (g for g in every() if g.scaling == "gradn"):
        assert (step_norms(g) - 1).abs().max() < 1e-12


def test_scaled_steps_do_not_depend_on_the_unit_of_the_loss():
    a, b, g = (torch.rand(2, 3, dtype=EXACT, generator=generator(1, name)) + 0.5 for name in "abg")
    for scaling, power in (("norm1", 0), ("gradn", 0), ("none", 1), ("rel1", 1), ("fsf", 1), ("norm2", -1)):
        steps = scaling_factors(scaling, a, b, g) * g
        assert torch.allclose(scaling_factors(scaling, a, 5 * b, 5 * g) * 5 * g, 5.0**power * steps)
