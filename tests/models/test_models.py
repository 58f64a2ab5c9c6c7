"""Networks of the second paper: shapes, places of the pooling, weights, and equality with plain PyTorch."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from featurespeed.models import layers
from featurespeed.models.layers import MUCH_SMALLER, MemberConv
from featurespeed.models.networks import build_network
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import LayerRole, ParameterizationError, ScalingRule
from featurespeed.probes import measure_feature_speed
from featurespeed.training.ensemble import LOSSES
from tests.training.cases import (
    CLASSES,
    CONVNET,
    DOUBLE,
    MLP,
    RESIDUAL_CONVNET,
    RESIDUAL_MLP,
    SHAPE,
    images,
    initialised,
)

TWO_LAYER_LINEAR = {"kind": "two_layer_linear", "depth": 1}
THREE_BLOCKS = {"kind": "convnet", "depth": 3, "tau": 1}
MODELS = {
    "two-layer linear": TWO_LAYER_LINEAR,
    "MLP": MLP,
    "residual MLP": RESIDUAL_MLP,
    "ConvNet": CONVNET,
    "residual ConvNet": THREE_BLOCKS,
    "2 layers a block": RESIDUAL_CONVNET,
    "pooled readout": {"kind": "convnet", "depth": 3, "readout": "pooled", "activation": "gelu"},
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def batch(count=3, shape=SHAPE, members=1):
    """Different images for every member."""
    x, y = images(count * members, "models")
    x = x.repeat(1, 1, 1 + shape[1] // 8, 1 + shape[2] // 8)[:, : shape[0], : shape[1], : shape[2]]
    return x.reshape(members, count, *shape), y.reshape(members, count)


def features(network, x):
    """Shape of what goes from one module of the chain to the next, without the batch."""
    shapes = []
    for module in network:
        x = module(x)
        shapes.append(tuple(x.shape))
    return shapes


# --- architecture -----------------------------------------------------------------------------------------------------


def test_depth_of_a_plain_network_counts_the_layers_before_the_readout():
    """The 2-layer ConvNet of the paper: input convolution, one hidden convolution; then the readout."""
    shapes = {name: tuple(layer.weight.shape) for name, layer in initialised(CONVNET).weighted.items()}
    assert list(shapes.values()) == [(1, 6, 2, 3, 3), (1, 6, 6, 3, 3), (1, CLASSES, 6 * 4 * 4)]
    roles = [layer.role for layer in initialised({"kind": "mlp", "depth": 4}).weighted.values()]
    assert roles == ["input", "hidden", "hidden", "hidden", "readout"]


def test_depth_of_a_residual_network_counts_its_blocks():
    """Six blocks of two layers: depth 6; input layer and readout do not count."""
    network = initialised({"kind": "mlp", "depth": 6, "tau": 1, "layers_per_block": 2})
    roles = [layer.role for layer in network.weighted.values()]
    assert roles == ["input", *["hidden"] * 12, "readout"]
    assert len(list(network)) == 8


@every_model
def test_outputs_are_members_by_batch_by_classes(model):
    x, _ = batch(3, members=2)
    assert initialised(model, seeds=[0, 1])(x).shape == (2, 3, CLASSES)


def test_a_plain_convnet_pools_after_every_layer_but_the_last():
    shapes = features(initialised({"kind": "convnet", "depth": 4}, input_shape=(2, 32, 32)), batch(1, (2, 32, 32))[0])
    assert shapes == [(1, 6, 32, 32), (1, 6, 16, 16), (1, 6, 8, 8), (1, 6, 4, 4), (1, 1, CLASSES)]


def test_a_residual_convnet_pools_after_every_third_block_and_adds_a_convolution():
    network = initialised({"kind": "convnet", "depth": 7, "tau": 1}, input_shape=(2, 16, 16))
    sides = [shape[-1] for shape in features(network, batch(1, (2, 16, 16))[0])[:-1]]
    assert sides == [16, 16, 16, 16, 8, 8, 8, 8, 4, 4]  # input, 3 blocks, convolution, 3 blocks, convolution, block
    assert [module.tau for module in list(network)[1:-1]] == [1, 1, 1, 0, 1, 1, 1, 0, 1]


@pytest.mark.parametrize(("smallest", "sides"), [(1, [8, 4, 2, 1, 1, 1]), (4, [8, 4, 4, 4, 4, 4]), (8, [8] * 6)])
def test_pooling_stops_at_the_smallest_side(smallest, sides):
    network = initialised({"kind": "convnet", "depth": 6, "smallest_side": smallest})
    assert [shape[-1] for shape in features(network, batch()[0])[:-1]] == sides


@pytest.mark.parametrize(
    ("every", "sides"), [(0, [8, 8, 8, 8]), (1, [8, 4, 2, 1]), (2, [8, 8, 4, 4]), (3, [8, 8, 8, 4])]
)
def test_pool_every_counts_layers(every, sides):
    network = initialised({"kind": "convnet", "depth": 4, "pool_every": every})
    assert [shape[-1] for shape in features(network, batch()[0])[:-1]] == sides


def test_images_that_are_not_square_or_of_odd_size_are_halved_and_rounded_down():
    shape = (1, 6, 5)
    network = initialised({"kind": "convnet", "depth": 3}, input_shape=shape)
    assert [s[-2:] for s in features(network, batch(1, shape)[0])[:-1]] == [(6, 5), (3, 2), (1, 1)]


def test_only_layers_in_a_branch_carry_the_depth():
    """Depth-muP with Adam at N = 6, L = 3: 1/sqrt(N L) in the branches; the convolution after the pooling is none."""
    layers = list(initialised(THREE_BLOCKS, "DEPTH_MUP", optimizer="adam").weighted.values())
    assert [layer.rule.lr_scale for layer in layers] == pytest.approx([1, *[18**-0.5] * 3, 6**-0.5, 1], rel=1e-12)


def test_layers_carry_the_depth_that_is_asked_for():
    """1/sqrt(L) at L = 3, N = 6: in the branches, in a plain network at hidden layers, at common rates everywhere."""
    plain = {"kind": "mlp", "depth": 3}
    for model, choice, expected in (
        (THREE_BLOCKS, {"layer_rates": "table"}, [1, *[18**-0.5] * 3, 6**-0.5, 1]),
        (THREE_BLOCKS, {"layer_rates": "common"}, [6 / 3**0.5] * 6),
        (plain, {"layer_rates": "table"}, [1, *[18**-0.5] * 2, 1]),
    ):
        network = initialised(model, "MUP", optimizer="adam", depth_rates=True, **choice)
        for built in (network, network.take([0])):
            rates = [layer.rule.lr_scale for layer in built.weighted.values()]
            assert rates == pytest.approx(expected, rel=1e-12)


def test_common_rates_count_what_gamma_counts():
    """The authors' ConvNet: all inputs of its readout, pixels included."""
    model = {"kind": "convnet", "depth": 3, "convention": "authors", "tau": 1}
    network = initialised(model, input_shape=(2, 32, 32), optimizer="adam", layer_rates="common")
    *_, readout = network.weighted.values()
    inputs = readout.weight.shape[-1]
    assert inputs > 6
    rates = [layer.rule.lr_scale for layer in network.weighted.values()]
    assert rates == pytest.approx([inputs] * len(rates), rel=1e-12)


def test_depth_mup_without_residual_branches_raises_with_the_remedy():
    with pytest.raises(
        ParameterizationError, match="^parameterization = DEPTH_MUP: .*tau = 0 .*set tau: 1, or use MUP$"
    ):
        initialised(MLP, "DEPTH_MUP")
    with pytest.raises(ParameterizationError, match="^alpha = 1.0: DEPTH_MUP has 0.5; leave alpha out, or use MUP$"):
        initialised(RESIDUAL_MLP | {"alpha": 1.0}, "DEPTH_MUP")
    assert initialised(RESIDUAL_MLP | {"alpha": 0.5}, "DEPTH_MUP").members == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "two_layer_linear", "depth": 2}, "has depth 1, tau 0"),
        (MLP | {"alpha": 0.5}, "only residual networks"),
        (MLP | {"layers_per_block": 2}, "only residual networks"),
        (MLP | {"pool_every": 2}, "only a convnet is pooled by such a rule"),
        (MLP | {"readout": "pooled"}, "only a convnet pools"),
        (MLP | {"kind": "vgg"}, "'two_layer_linear', 'mlp', 'convnet', 'simple_convnet', 'vit', 'gpt' or 'post_ln'"),
        (MLP | {"widht": 3}, "Extra inputs are not permitted"),
    ],
)
def test_models_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        ModelSpec.model_validate(settings)


# --- an independent implementation ------------------------------------------------------------------------------------

PHI = {"relu": functional.relu, "gelu": functional.gelu, "tanh": torch.tanh, "linear": lambda z: z}
# Width 6, 2 channels, 8 x 8: the multipliers of input, hidden and readout, written out. The input dimension of images
# is their 2 channels, that of vectors their 128 entries; a flat readout still has the multiplier of the width.
A_IN = {"images": 1 / math.sqrt(18), "vectors": 1 / math.sqrt(128)}  # 9 pixels of two channels, 2 x 8 x 8 entries
MULTIPLIERS = {
    "SP": (dict.fromkeys(A_IN, 1.0), 1.0, 1.0),
    "NTP": (A_IN, 1 / math.sqrt(6), 1 / math.sqrt(6)),
    "MUP": (A_IN, 1 / math.sqrt(6), 1 / 6),
    "DEPTH_MUP": (A_IN, 1 / math.sqrt(6), 1 / 6),
}


def plain_torch(settings, parameterization, weights, x):
    """One network on ``x [B, C, H, W]``, without anything of the package: one matrix or kernel after the other."""
    model = ModelSpec.model_validate(settings)
    images_in = model.kind == "convnet"
    inputs, a_hidden, a_out = MULTIPLIERS[parameterization]
    phi = PHI["linear" if model.kind == "two_layer_linear" else model.activation]
    weights = list(weights)

    def times_weight(z, a):
        w = weights.pop(0)
        return a * functional.conv2d(z, w, padding=1) if images_in else a * functional.linear(z, w)

    def then(z, pool):
        z = phi(z)
        return times_weight(functional.avg_pool2d(z, 2) if pool else z, a_hidden)

    h = times_weight(x if images_in else x.flatten(1), inputs["images" if images_in else "vectors"])
    if model.tau == 0:
        for _ in range(model.depth - 1):
            h = then(h, images_in)
    else:
        r = model.depth**-0.5 if parameterization == "DEPTH_MUP" else 1.0
        for block in range(1, model.depth + 1):
            z = h
            for _ in range(model.layers_per_block):
                z = then(z, False)
            h = model.tau * h + r * z
            if images_in and block % 3 == 0:
                h = then(h, True)
    z = phi(h)
    z = z.mean((2, 3)) if model.readout == "pooled" else z.flatten(1)
    outputs = a_out * functional.linear(z, weights.pop(0))
    assert not weights
    return outputs


COVERED = [
    (name, rules) for name, model in MODELS.items() for rules in MULTIPLIERS if rules != "DEPTH_MUP" or "tau" in model
]


@pytest.mark.parametrize(("name", "parameterization"), COVERED)
def test_outputs_and_gradients_are_those_of_plain_torch(name, parameterization):
    model = MODELS[name]
    network = initialised(model, parameterization)
    x, y = batch()
    copies = [layer.weight.detach()[0].clone().requires_grad_() for layer in network.weighted.values()]
    expected = plain_torch(model, parameterization, copies, x[0])
    outputs = network(x)[0]
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-13)
    gradients = torch.autograd.grad(functional.cross_entropy(outputs, y[0]), network.trained)
    for found, wanted in zip(
        gradients, torch.autograd.grad(functional.cross_entropy(expected, y[0]), copies), strict=True
    ):
        torch.testing.assert_close(found[0], wanted, rtol=1e-11, atol=1e-14)


def test_the_weight_of_the_skip_and_a_given_alpha_enter_as_written():
    """``h -> tau h + L^-alpha W phi(h) / sqrt(N)``."""
    network = initialised({"kind": "mlp", "depth": 2, "tau": 0.5, "alpha": 1.0})
    first, second, *_ = list(network)
    h = first(batch()[0])
    w = network.weighted["1.layers.0"].weight[0]
    torch.testing.assert_close(
        second(h)[0], 0.5 * h[0] + 0.5 * functional.linear(functional.relu(h[0]), w) / math.sqrt(6)
    )


# --- ensembles --------------------------------------------------------------------------------------------------------


@every_model
def test_a_member_of_an_ensemble_is_the_network_alone(model):
    """Outputs, and gradients of the loss summed over members; every member has its own images."""
    seeds = [3, 1, 4]
    x, y = batch(3, members=3)
    together = initialised(model, seeds=seeds)
    outputs = together(x)
    gradients = torch.autograd.grad(functional.cross_entropy(outputs.flatten(0, 1), y.flatten()), together.trained)
    for index, seed in enumerate(seeds):
        alone = initialised(model, seeds=[seed])
        own = alone(x[index : index + 1])
        torch.testing.assert_close(outputs[index], own[0], rtol=1e-12, atol=1e-13)
        wanted = torch.autograd.grad(functional.cross_entropy(own[0], y[index]) / 3, alone.trained)
        for found, expected in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(found[index], expected[0], rtol=1e-11, atol=1e-14)


@every_model
def test_taken_members_are_copies(model):
    network = initialised(model, seeds=[0, 1, 2])
    x, _ = batch(2, members=3)
    before = network(x).detach()
    taken = network.take([2, 0])
    torch.testing.assert_close(taken(x[[2, 0]]), before[[2, 0]], rtol=1e-12, atol=1e-13)
    with torch.no_grad():
        for layer in taken.weighted.values():
            layer.weight.zero_()
    assert torch.equal(network(x), before)


def test_what_is_taken_from_a_network_of_random_features_still_does_not_learn():
    taken = initialised(MLP, "RANDOM_FEATURES", seeds=[0, 1]).take([1])
    assert [layer.weight.requires_grad for layer in taken.weighted.values()] == [False, False, False, True]


# --- initialisation ---------------------------------------------------------------------------------------------------


def weights(network, member=0):
    return [layer.weight.detach()[member] for layer in network.weighted.values()]


def test_members_of_one_seed_start_equal_whatever_else_is_in_the_ensemble():
    alone = weights(initialised(CONVNET, seeds=[5]))
    crowd = initialised(CONVNET, seeds=[1, 5, 2, 5])
    assert all(torch.equal(a, b) for a, b in zip(alone, weights(crowd, 1), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alone, weights(crowd, 3), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(alone, weights(crowd, 2), strict=True))


def test_every_precision_starts_from_the_same_numbers():
    """Drawn once in float32: the float64 weights differ by the rounding of one product only."""
    single, double = (weights(initialised(MLP, "SP", dtype=dtype)) for dtype in (torch.float32, DOUBLE))
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2**-23, atol=0)


def test_initial_weights_are_gaussian_of_the_stated_size_and_differ_between_layers():
    """SP at N = 64: std 1/sqrt(D), 1/sqrt(N); 4096 numbers give their std to 1.1%, so 5% are more than 4 sigma."""
    _, first, second, _ = weights(initialised(MLP, "SP", width=64))
    assert float(first.std()) * 8 == pytest.approx(1.0, rel=0.05)
    assert float(first.mean()) * 8 == pytest.approx(0.0, abs=0.07)
    assert float((first.abs() * 8 < 1).double().mean()) == pytest.approx(0.6827, abs=0.035)
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.07


def test_only_the_readout_of_random_features_requires_a_gradient():
    for model in (MLP, CONVNET, TWO_LAYER_LINEAR):
        network = initialised(model, "RANDOM_FEATURES")
        *frozen, readout = network.weighted.values()
        assert [p is readout.weight for p in network.trained] == [True]
        assert not any(layer.weight.requires_grad for layer in frozen)
        assert len(initialised(model, "NTP").trained) == len(frozen) + 1


def test_a_new_network_is_on_the_device_and_in_the_precision_asked_for():
    options = {"input_shape": SHAPE, "classes": CLASSES, "members": 2}
    network = build_network(ModelSpec.model_validate(CONVNET), 4, "MUP", **options)
    assert {p.dtype for p in network.parameters()} == {torch.float32} and network.members == 2
    assert {p.dtype for p in network.to(DOUBLE).take([0]).parameters()} == {DOUBLE}


# --- derivatives of the network ---------------------------------------------------------------------------------------


@every_model
def test_hessian_vector_products_are_differences_of_gradients(model):
    """By double backward; central differences have an error of O(dt^2) + rounding/dt. Smooth, for want of kinks."""
    network = initialised(model | {"activation": "tanh"}, "NTP", seeds=[0, 1])
    x, y = batch(3, members=2)
    direction = [
        torch.randn(p.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE) for p in network.trained
    ]

    def gradient(create_graph=False):
        loss = functional.cross_entropy(network(x).flatten(0, 1), y.flatten())
        return torch.autograd.grad(loss, network.trained, create_graph=create_graph)

    inner = sum((g * v).sum() for g, v in zip(gradient(True), direction, strict=True))
    product = torch.autograd.grad(inner, network.trained)
    dt, ends = 1e-6, []
    for sign in (1, -2):
        with torch.no_grad():
            for p, v in zip(network.trained, direction, strict=True):
                p.add_(v, alpha=sign * dt)
        ends.append(gradient())
    for exact, ahead, behind in zip(product, *ends, strict=True):
        torch.testing.assert_close(exact, (ahead - behind) / (2 * dt), rtol=1e-5, atol=1e-7)


@every_model
def test_forward_and_reverse_derivatives_agree(model):
    """``<u, J v> = <J^T u, v>`` with torch.func."""
    network = initialised(model)
    x, _ = batch()
    names = [name for name, _ in network.named_parameters()]
    stream = torch.Generator().manual_seed(1)
    point = [p.detach() for p in network.parameters()]
    v = [torch.randn(p.shape, generator=stream, dtype=DOUBLE) for p in point]

    def outputs(*values):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x,))

    value, moved = torch.func.jvp(outputs, tuple(point), tuple(v))
    u = torch.randn(value.shape, generator=stream, dtype=DOUBLE)
    _, pullback = torch.func.vjp(outputs, *point)
    reverse = sum((g * w).sum() for g, w in zip(pullback(u), v, strict=True))
    torch.testing.assert_close((u * moved).sum(), reverse, rtol=1e-11, atol=1e-13)


def ensemble_loss(outputs, targets):
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


@every_model
@pytest.mark.parametrize("parameterization", ["NTP", "MUP", "RANDOM_FEATURES"])
def test_the_feature_speed_formula_holds_at_every_cut_node(model, parameterization):
    """arXiv:2311.18718, Thm 2.1, on the chain ``list(network)``; random features move at the output only."""
    result = measure_feature_speed(list(initialised(model, parameterization)), ensemble_loss, batch(5))
    moving = result.feature_speed > 0
    assert moving.tolist() == [parameterization != "RANDOM_FEATURES"] * (len(moving) - 1) + [True]
    assert float(result.formula_error[moving].max()) < 1e-10


AUTHORS_CONVNET = {"kind": "convnet", "depth": 3, "convention": "authors", "strides": [1]}


@pytest.mark.parametrize("tau", [0, 1])
def test_channels_last_in_training_are_the_same_numbers(tau, monkeypatch):
    network = initialised(AUTHORS_CONVNET | {"tau": tau}, seeds=[0, 1], parameterization="MUP", input_shape=(1, 16, 16))
    x, y = batch(4, (1, 16, 16), members=2)
    layouts = []
    for layer in network.modules():
        if isinstance(layer, MemberConv):
            layer.register_forward_hook(lambda *found: layouts.append(found[2].is_contiguous()))

    def results():
        layouts.clear()
        losses = LOSSES["cross_entropy"](network(x), y)
        return losses, torch.autograd.grad(losses.sum(), network.trained)

    (losses, gradients), usual = results(), set(layouts)
    monkeypatch.setattr(layers, "on_gpu", lambda x: True)
    (others, found), last = results(), set(layouts)
    assert usual == {True} and last == {False}
    torch.testing.assert_close(others, losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(found, gradients, rtol=1e-10, atol=1e-13)
    network.eval()
    results()
    assert set(layouts) == {True}  # derivatives of second order gain nothing


def test_only_networks_with_max_pooling_train_with_channels_last():
    def chosen(model):
        return initialised(model, seeds=[0], parameterization="MUP", input_shape=(1, 16, 16))[0].channels_last

    assert chosen(AUTHORS_CONVNET) and not chosen(CONVNET)


@every_model
def test_members_with_one_seed_may_share_their_input(model):
    network = initialised(model, seeds=[0, 1, 2, 3], parameterization="MUP")
    x, _ = batch(members=2)
    shared = network(x)
    assert torch.allclose(shared, network(x.repeat_interleave(2, 0)), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(shared, network(x.flip(0).repeat_interleave(2, 0)))


@pytest.mark.parametrize(("batch", "scaled_input"), [(1, True), (64, False)])
def test_the_multiplier_of_a_convolution_acts_alike_on_inputs_and_on_weights(batch, scaled_input):
    """Forward and in derivatives; of wide layers on few pixels it is the input that is multiplied."""
    layer = MemberConv(2, 96, 32, LayerRole.HIDDEN, ScalingRule(1.0, 0.37, 1.0, 1.0))
    torch.nn.init.normal_(layer.weight)
    x = torch.randn(batch, 2 * 96, 1, 1, requires_grad=True)
    assert (MUCH_SMALLER * batch * 96 < layer.weight[0].numel()) is scaled_input
    expected = 0.37 * functional.conv2d(x, layer.weight.flatten(0, 1), padding=1, groups=2)
    found, direction = layer(x), torch.randn_like(expected)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-4)
    inputs = (x, layer.weight)
    for mine, theirs in zip(*(torch.autograd.grad(z, inputs, direction) for z in (found, expected)), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-4)
