"""ConvNets of a width pattern under scaled descent: muP at equal widths, bounds, coefficients against autodiff."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import Hessian
from featurespeed.homogeneous.build import network_builder
from featurespeed.homogeneous.convnet import ConvDescentNetwork, patches_of_pixels
from featurespeed.homogeneous.losses import OUTPUT_LOSSES
from featurespeed.homogeneous.spec import DescentSpec, GradientScaling
from featurespeed.homogeneous.widths import convnet_weights, hidden_widths
from featurespeed.models.networks import build_network
from featurespeed.models.spec import ModelSpec
from tests.training.cases import CLASSES, DOUBLE, SHAPE, images

PATTERNS = {"r = 0": [4, 4, 4], "r = 1": [2, 4, 6], "r = 2": [2, 8, 18], "2-layer": [3, 12]}
SCALINGS = [pytest.param(scaling, id=scaling) for scaling in GradientScaling]
LOSSES = [pytest.param(loss, id=name) for name, loss in OUTPUT_LOSSES.items()]
every_pattern = pytest.mark.parametrize("channels", PATTERNS.values(), ids=PATTERNS)


def network(channels, seeds=(0, 1), shape=SHAPE) -> ConvDescentNetwork:
    return ConvDescentNetwork(channels, shape, CLASSES, len(seeds)).to(DOUBLE).initialise(seeds)


def batch(count=6, members=2, shape=SHAPE):
    """Different images for every member."""
    x, y = images(count * members, "convnet descent")
    x = x.repeat(1, 1, 1 + shape[1] // 8, 1 + shape[2] // 8)[:, : shape[0], : shape[1], : shape[2]]
    return x.reshape(members, count, *shape), y.reshape(members, count)


def evaluate(net, scaling=GradientScaling.REL1, loss=OUTPUT_LOSSES["cross_entropy"], data=None):
    return net.evaluate(*(data or batch()), scaling, loss)


def by_hand(net: ConvDescentNetwork, x, member=0) -> tuple[list, list, list]:
    """Plain PyTorch with effective weights: these, the inputs of the layers with patches as rows, and the outputs."""
    multipliers = [layer.rule.multiplier for layer in net.network.weighted.values()]
    effective = [
        (w.detach()[member] * a).requires_grad_() for w, a in zip(net.weights, multipliers, strict=True)
    ]  # fmt: skip
    a, inputs, outputs = x[member], [], []
    for k, weight in enumerate(effective[:-1]):
        a = functional.avg_pool2d(a, 2) if k and min(a.shape[-2:]) >= 2 else a
        inputs.append(functional.unfold(a, 3, padding=1).transpose(1, 2).flatten(0, 1))  # [n * pixels, 9 C]
        z = functional.conv2d(a, weight, padding=1)
        outputs.append(z)
        a = functional.relu(z)
    inputs.append(a.flatten(1))
    outputs.append(a.flatten(1) @ effective[-1].T)
    return effective, inputs, outputs


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "shape"), [(3, SHAPE), (4, SHAPE), (6, (1, 6, 5))])
def test_equal_widths_are_the_mup_convnet_of_the_second_paper(layers, shape):
    """Same rules, same weights from one seed, same outputs: bit for bit."""
    model = ModelSpec(kind="convnet", depth=layers - 1)
    theirs = build_network(model, 5, "MUP", input_shape=shape, classes=CLASSES, members=2).to(DOUBLE).initialise([3, 4])
    ours = network([5] * (layers - 1), [3, 4], shape)
    pairs = list(zip(ours.network.weighted.values(), theirs.weighted.values(), strict=True))
    assert all(one.rule == other.rule and one.role == other.role for one, other in pairs)
    assert all(torch.equal(one.weight, other.weight) for one, other in pairs)
    x, _ = batch(shape=shape)
    assert torch.equal(ours(x), theirs(x))


def test_unequal_widths_have_the_multipliers_of_their_fan_in_and_the_rate_of_the_last_width():
    """Input 1/sqrt(9 * 2 channels), hidden 1/sqrt(m_{k-1}), readout 1/m_{l-1}; gamma^2 = m_{l-1} everywhere."""
    rules = [layer.rule for layer in network([2, 8, 18]).network.weighted.values()]
    assert [rule.multiplier for rule in rules] == pytest.approx([18**-0.5, 2**-0.5, 8**-0.5, 1 / 18], rel=1e-12)
    assert [rule.lr_scale for rule in rules] == pytest.approx([18.0] * 4, rel=1e-12)
    assert {rule.init_std for rule in rules} == {1.0}
    assert network([2, 8, 18]).rates.tolist() == [[rule.lr_scale for rule in rules]] * 2


@every_pattern
def test_weights_are_as_many_as_the_settings_count(channels):
    net = network(channels)
    assert sum(w[0].numel() for w in net.weights) == convnet_weights(channels, SHAPE, CLASSES)
    assert net.layers == len(channels) + 1 and [w.shape[1] for w in net.weights[:-1]] == channels


def test_widths_of_the_quadratic_pattern_are_the_channels():
    assert [w.shape[1] for w in network(hidden_widths(2, 2, 3)).weights] == [2, 8, 18, CLASSES]


@pytest.mark.parametrize("channels", [[], [4, 0]])
def test_a_network_without_channels_is_refused(channels):
    with pytest.raises(ValueError, match="at least one layer, of at least 1 channel each"):
        ConvDescentNetwork(channels, SHAPE, CLASSES)


def test_activations_keep_their_size_over_unequal_layers():
    """What fan-in multipliers are for: rms of the outputs of layers 2 and 3, whose fan-in differs by a factor of 16."""
    x, _ = batch(members=1, count=16)
    net = network([16, 256, 16], [0])
    rms = [float(z.detach().square().mean().sqrt()) for z in net._pass(x)[1][:-1]]
    assert 0.2 < rms[2] / rms[1] < 2.0


@every_pattern
def test_a_member_of_an_ensemble_is_the_network_alone(channels):
    together, (x, y) = network(channels, (5, 7)), batch()
    found = evaluate(together, data=(x, y))
    for member, seed in enumerate((5, 7)):
        alone = evaluate(network(channels, (seed,)), data=(x[[member]], y[[member]]))
        for name in ("losses", "factors", "c1", "c2"):
            torch.testing.assert_close(getattr(found, name)[member], getattr(alone, name)[0], rtol=1e-11, atol=1e-13)


def test_one_batch_may_serve_all_members():
    net, (x, y) = network([3, 12]), batch(members=1)
    shared, own = evaluate(net, data=(x, y)), evaluate(net, data=(x.repeat(2, 1, 1, 1, 1), y.repeat(2, 1)))
    assert torch.equal(shared.c2, own.c2) and torch.equal(shared.factors, own.factors)
    torch.testing.assert_close(net(x), net(x.repeat(2, 1, 1, 1, 1)), rtol=1e-12, atol=1e-13)


def test_single_precision_agrees_with_double():
    double, single = network([3, 12]), ConvDescentNetwork([3, 12], SHAPE, CLASSES, 2).initialise([0, 1])
    x, y = batch()
    found, wanted = evaluate(single, data=(x.float(), y)), evaluate(double, data=(x, y))
    assert found.factors.dtype == single.rates.dtype == torch.float32
    torch.testing.assert_close(found.factors.double(), wanted.factors, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.c2.double(), wanted.c2, rtol=1e-3, atol=1e-6)


def test_taken_members_are_copies_that_train_on_their_own():
    net, (x, y) = network([3, 12], (0, 1, 2)), batch(members=3)
    taken = net.take([2, 0])
    torch.testing.assert_close(taken(x[[2, 0]]), net(x)[[2, 0]], rtol=1e-12, atol=1e-13)
    before = net(x)
    for weight in taken.weights:
        weight.data.zero_()
    assert torch.equal(net(x), before)
    assert evaluate(taken, data=(x[[2, 0]], y[[2, 0]])).dead_layer.tolist() == [1, 1]


def test_hidden_features_are_rows_of_images_after_the_activation():
    net, (x, _) = network([2, 8]), batch()
    first, last = net.hidden_features(x)
    assert first.shape == (2, 6, 2 * 64) and last.shape == (2, 6, 8 * 16) and float(first.min()) == 0.0
    readout = net.network.weighted["2.layer"]
    torch.testing.assert_close(readout(last), net(x), rtol=1e-12, atol=1e-13)


# --- norms and scalings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [(8, 8), (5, 7), (1, 4), (2, 1)])
def test_patches_of_pixels_counts_how_often_unfolding_copies_each_pixel(sides):
    x = torch.randn(1, 1, *sides, dtype=DOUBLE)
    unfolded = functional.unfold(x, 3, padding=1).square().sum()
    torch.testing.assert_close((x.square() * patches_of_pixels(x)).sum(), unfolded, rtol=1e-12, atol=0)


@every_pattern
@pytest.mark.parametrize("loss", LOSSES)
def test_norms_are_those_of_the_effective_weights_gradient_and_bound_it(channels, loss):
    """With patches as rows ``dL/dV = B^T A``, so ``|dL/dV| <= |A| |B|``; norm1 is 1 / (|A| |B|)."""
    net, (x, y) = network(channels), batch()
    inverse = net.evaluate(x, y, GradientScaling.NORM1, loss)
    gradn = net.evaluate(x, y, GradientScaling.GRADN, loss)
    for member in range(2):
        effective, inputs, outputs = by_hand(net, x, member)
        value = loss.value(outputs[-1][None], y[[member]]).sum()
        backward = torch.autograd.grad(value, outputs, retain_graph=True)
        gradients = torch.autograd.grad(value, effective)
        for k, (a, b, g) in enumerate(zip(inputs, backward, gradients, strict=True)):
            rows = b.flatten(2).transpose(1, 2).flatten(0, 1) if b.ndim == 4 else b
            torch.testing.assert_close((rows.T @ a).view_as(g), g, rtol=1e-10, atol=1e-13)
            rate = net.rates[member, k]
            torch.testing.assert_close(inverse.factors[member, k] / rate, 1 / (a.norm() * b.norm()))
            torch.testing.assert_close(gradn.factors[member, k] / rate, 1 / g.norm())
            assert g.norm() <= a.norm() * b.norm()


@every_pattern
def test_steps_of_the_effective_weights_are_bounded(channels):
    """norm1: |dV_k| <= eta N a_k^2; rel1 with the cross-entropy: sqrt(2/n) times that."""
    net, (x, y) = network(channels), batch(count=6)
    for scaling, bound in ((GradientScaling.NORM1, 1.0), (GradientScaling.REL1, (2 / 6) ** 0.5)):
        found = evaluate(net, scaling, data=(x, y))
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in found.gradients], 1)
        moved = net.multipliers * found.factors * norms  # of a W, for W -= factor G
        assert (moved <= bound * net.multipliers**2 * net.rates * (1 + 1e-12)).all()


def test_without_scaling_factors_are_the_rates_of_mup():
    found = evaluate(network([2, 8]), GradientScaling.NONE)
    torch.testing.assert_close(found.factors, torch.full((2, 3), 8.0, dtype=DOUBLE), rtol=1e-12, atol=0)


def test_fsf_gives_every_layer_the_same_part_in_the_loss_decay_but_for_the_rates():
    """xi_k |dL/dV_k|^2 = |B_l|^2 / l for every layer."""
    net = network([2, 8])
    found = evaluate(net, GradientScaling.FSF)
    squares = torch.stack([g.flatten(1).square().sum(1) for g in found.gradients], 1) / net.multipliers**2
    parts = found.factors / 8.0 * squares
    torch.testing.assert_close(parts, parts[:, :1].expand_as(parts), rtol=1e-12, atol=0)


# --- Taylor coefficients ----------------------------------------------------------------------------------------------


@every_pattern
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("loss", LOSSES)
def test_coefficients_agree_with_nested_autodiff(channels, scaling, loss):
    """``s -> L(W - s Xi g)`` of plain PyTorch, differentiated twice."""
    net, (x, y) = network(channels), batch()
    found = net.evaluate(x, y, scaling, loss)
    names = [name for name, _ in net.named_parameters()]

    def along(s):
        moved = [
            w.detach() - s * f.view(-1, *[1] * (g.ndim - 1)) * g
            for w, f, g in zip(net.parameters(), found.factors.T, found.gradients, strict=True)
        ]
        return loss.value(torch.func.functional_call(net, dict(zip(names, moved, strict=True)), (x,)), y)

    at = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    for member, value in enumerate(along(at)):
        slope = torch.autograd.grad(value, at, create_graph=True)[0]
        curvature = torch.autograd.grad(slope, at, retain_graph=True)[0]
        torch.testing.assert_close(found.losses[member], value.detach(), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found.c1[member], slope.detach(), rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(found.c2[member], 0.5 * curvature, rtol=1e-10, atol=1e-14)


@every_pattern
def test_second_coefficient_is_half_the_hessian_along_the_scaled_gradient(channels):
    """``c2 = 1/2 g' Xi H Xi g`` with the Hessian-vector product of the sharpness stage."""
    net, data = network(channels), batch()
    loss = OUTPUT_LOSSES["cross_entropy"]
    found = evaluate(net, GradientScaling.REL1, loss, data)
    objective = Objective(net, loss.value, data, members=2)
    pairs = zip(found.factors.T, found.gradients, strict=True)
    direction = objective.flatten([f.view(-1, *[1] * (g.ndim - 1)) * g for f, g in pairs])
    product = Hessian(objective).matvec(direction)
    torch.testing.assert_close(found.c2, 0.5 * (direction * product).sum(1), rtol=1e-10, atol=1e-14)


def test_a_short_step_changes_the_loss_as_predicted():
    """The remainder is of third order: an eighth of it at half the step."""
    net, (x, y) = network([3, 12, 27]), batch()
    found = evaluate(net, GradientScaling.REL1, data=(x, y))
    start, remainders = [w.detach().clone() for w in net.weights], []
    for s in (4e-4, 2e-4):
        for k, weight in enumerate(net.weights):
            weight.data = start[k] - s * found.factors[:, k].view(-1, *[1] * (weight.ndim - 1)) * found.gradients[k]
        change = evaluate(net, data=(x, y)).losses - found.losses
        remainders.append((change - found.c1 * s - found.c2 * s**2).abs())
    ratio = remainders[0] / remainders[1]
    assert ((ratio > 6) & (ratio < 10)).all()


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_layer_without_active_units_is_named_and_does_not_raise():
    net = network([3, 12])
    net.weights[1].data[0] = -net.weights[1].data[0].abs()  # inputs of a second layer are never negative
    found = evaluate(net)
    assert found.dead_layer.tolist() == [2, 0] and torch.isfinite(found.factors[1]).all()
    assert not torch.isfinite(found.factors[0]).all()


def test_a_network_that_diverged_has_no_finite_loss_and_does_not_touch_the_others():
    net = network([3, 12])
    alone = evaluate(net)
    net.weights[0].data[0] = torch.inf
    found = evaluate(net)
    assert not torch.isfinite(found.losses[0]) and found.dead_layer[0] == 0
    assert torch.equal(found.c2[1], alone.c2[1])


def test_a_job_builds_the_channels_of_its_settings():
    job = DescentSpec.model_validate(
        {
            "run": "test", "kind": "convnet", "hidden": [2, 8], "scaling": "rel1", "schedule": "constant",
            "kappas": [0.5], "data": {"name": "digits"}, "layers": 3, "batch_size": 4, "steps": 2, "record_every": 1,
            "probe_steps": [0, 2], "curvature_images": 4, "rank_images": 4, "seeds": 2, "seed": 1,
        }
    )  # fmt: skip
    net = network_builder(job, SHAPE, CLASSES, torch.device("cpu"), DOUBLE)(2)
    assert [w.shape[1] for w in net.weights] == [2, 8, CLASSES] and net.weights[0].dtype == DOUBLE
