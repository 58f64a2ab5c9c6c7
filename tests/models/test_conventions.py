"""The authors' ConvNets, the choices in which they differ from ours, and what is refused."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from featurespeed.models.networks import build_network
from featurespeed.models.plan import is_strided_chain, plan_network
from featurespeed.models.spec import ModelSpec
from featurespeed.models.strided import gathered_outputs
from featurespeed.parameterization import ParameterizationError
from featurespeed.training.spec import TrainingSpec
from tests.training.cases import make_spec

DOUBLE = torch.float64
IMAGE, CLASSES, CHANNELS = (3, 32, 32), 10, 6
SIMPLE = {"kind": "simple_convnet", "depth": 2, "convention": "authors"}
STAGED = {"kind": "convnet", "depth": 6, "convention": "authors"}


def network(model, parameterization="MUP", *, width=CHANNELS, image=IMAGE, seeds=(0,), **options):
    spec = ModelSpec.model_validate(model)
    options = {"input_shape": image, "classes": CLASSES, "members": len(seeds)} | options
    return build_network(spec, width, parameterization, **options).initialise(list(seeds)).to(DOUBLE)


def drawn(count=4, image=IMAGE, streams=1):
    return torch.randn(streams, count, *image, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))


def weights(net):
    return [layer.weight.detach()[0].clone().requires_grad_() for layer in net.weighted.values()]


def compare(outputs, expected, found, wanted, labels):
    """Outputs, and the gradients of a loss by all weights."""
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-14)
    gradients = torch.autograd.grad(functional.cross_entropy(outputs, labels), found)
    own = torch.autograd.grad(functional.cross_entropy(expected, labels), wanted)
    for a, b in zip(gradients, own, strict=True):
        torch.testing.assert_close(a[0], b, rtol=1e-11, atol=1e-14)


# --- the authors' networks, written out -------------------------------------------------------------------------------


def simple(w, x, n=CHANNELS):
    """conv 3->n stride 2, ReLU, max pooling, conv n->n stride 4, ReLU, max pooling, readout; gamma = sqrt(n)."""
    h = functional.conv2d(x, w[0], stride=2, padding=1) / math.sqrt(9 * 3)
    h = functional.max_pool2d(functional.relu(h), 2)
    h = functional.conv2d(h, w[1], stride=4, padding=1) / math.sqrt(9 * n)
    h = functional.max_pool2d(functional.relu(h), 2)
    return functional.linear(h.flatten(1), w[2]) / math.sqrt(n) / math.sqrt(n)


def staged(w, x, *, tau, blocks, branch, n=CHANNELS):
    """Three times: convolution without ReLU (the first of stride 2), blocks, max pooling; gamma^2 = 4 n."""
    w, h = list(w), x
    for stage in range(3):
        fan_in = 9 * (3 if stage == 0 else n)
        h = functional.conv2d(h, w.pop(0), stride=1 if stage else 2, padding=1) / math.sqrt(fan_in)
        for _ in range(blocks):
            z = functional.conv2d(functional.relu(h), w.pop(0), padding=1) * math.sqrt(2) / math.sqrt(9 * n)
            h = tau * h + branch * z
        h = functional.max_pool2d(h, 2)
    return functional.linear(h.flatten(1), w.pop(0)) / math.sqrt(4 * n) / math.sqrt(4 * n)


def test_simple_convnet_is_that_of_the_authors():
    net, x = network(SIMPLE), drawn()
    copies = weights(net)
    compare(net(x)[0], simple(copies, x[0]), net.trained, copies, torch.arange(4))


@pytest.mark.parametrize(
    ("tau", "parameterization", "branch"), [(0, "MUP", 1.0), (1, "MUP", 1.0), (1, "DEPTH_MUP", 6**-0.5)]
)
def test_convnet_is_that_of_the_authors(tau, parameterization, branch):
    net, x = network(STAGED | {"tau": tau}, parameterization), drawn()
    copies = weights(net)
    compare(net(x)[0], staged(copies, x[0], tau=tau, blocks=2, branch=branch), net.trained, copies, torch.arange(4))


@pytest.mark.parametrize(("model", "gamma2"), [(SIMPLE, CHANNELS), (STAGED, 4 * CHANNELS)])
@pytest.mark.parametrize(("parameterization", "power"), [("MUP", 1), ("NTP", 0)])
def test_every_learning_rate_is_eta_gamma_squared(model, gamma2, parameterization, power):
    """NTP has gamma = 1; the readout of muP carries 1/gamma beside 1/sqrt(inputs)."""
    layers = list(network(model, parameterization).weighted.values())
    assert [layer.rule.lr_scale for layer in layers] == pytest.approx([gamma2**power] * len(layers), rel=1e-12)
    assert layers[-1].rule.multiplier == pytest.approx(gamma2 ** (-0.5 - 0.5 * power), rel=1e-12)
    assert {layer.rule.init_std for layer in layers} == {1.0}


def test_variances_of_standard_parameterization_count_the_nine():
    layers = list(network(STAGED, "SP").weighted.values())
    assert layers[1].rule.init_std ** -2 == pytest.approx(9 * CHANNELS)
    assert layers[-1].rule.init_std ** -2 == pytest.approx(4 * CHANNELS)


def test_both_forms_are_one_network_and_train_alike():
    """a -> a s, b -> b / s, c -> c / s^2, with the authors' fan-ins."""
    first, second = network(STAGED), network(STAGED, form="rescaled")
    torch.testing.assert_close(first(drawn()), second(drawn()), rtol=1e-5, atol=1e-7)  # weights are drawn in float32
    for a, b in zip(first.weighted.values(), second.weighted.values(), strict=True):
        shift = b.rule.multiplier / a.rule.multiplier
        assert b.rule.init_std * shift == pytest.approx(a.rule.init_std, rel=1e-12)
        assert b.rule.lr_scale * shift**2 == pytest.approx(a.rule.lr_scale, rel=1e-12)


# --- choices, one at a time -------------------------------------------------------------------------------------------


def multipliers(model):
    return [layer.rule.multiplier for layer in network(model, "NTP").weighted.values()]


def test_each_choice_changes_what_it_names_and_nothing_else():
    n, base = CHANNELS, multipliers(STAGED)
    input_, block, _, stage, *_, readout = base
    assert [input_, block, stage, readout] == pytest.approx(
        [27**-0.5, math.sqrt(2) / math.sqrt(9 * n), (9 * n) ** -0.5, (4 * n) ** -0.5], rel=1e-12
    )
    changed = multipliers(STAGED | {"fan_in": "channels"})
    assert [new / old for new, old in zip(changed, base, strict=True)] == pytest.approx([1, *[3] * 8, 2], rel=1e-12)
    changed = multipliers(STAGED | {"gain": 1.0})
    ratios = [new / old for new, old in zip(changed, base, strict=True)]
    in_blocks = [2**-0.5, 2**-0.5]
    assert ratios == pytest.approx([1, *in_blocks, 1, *in_blocks, 1, *in_blocks, 1], rel=1e-12)
    for model in (STAGED | {"gamma_fan_in": "channels"}, STAGED | {"pooling": "average"}):
        assert multipliers(model) == base
    rates = [layer.rule.lr_scale for layer in network(STAGED | {"gamma_fan_in": "channels"}).weighted.values()]
    assert rates == pytest.approx([n] * len(rates), rel=1e-12)


def test_pooling_and_strides_change_the_outputs_only_as_they_should():
    x = drawn()
    sizes = [layer.size for layer in plan_network(ModelSpec.model_validate(SIMPLE), 4, IMAGE, 10).layers]
    assert sizes == [(16, 16), (2, 2), (1, 1)]
    plain = ModelSpec.model_validate(SIMPLE | {"strides": [1]})
    assert [layer.size for layer in plan_network(plain, 4, IMAGE, 10).layers] == [(32, 32), (16, 16), (1, 1)]
    assert plan_network(plain, 4, IMAGE, 10).gamma_fan_in == 8 * 8 * 4
    assert not torch.allclose(network(SIMPLE)(x), network(SIMPLE | {"pooling": "average"})(x))


def test_what_is_counted_as_depth():
    deep = STAGED | {"tau": 1, "layers_per_block": 2}
    assert [ModelSpec.model_validate(deep | choice).counted_depth for choice in ({}, {"depth_counts": "layers"})] == [
        6, 12
    ]  # fmt: skip
    branches = [module.branch for module in list(network(deep | {"depth_counts": "layers"}, "DEPTH_MUP"))[1:-1]]
    assert branches == pytest.approx([12**-0.5, 12**-0.5, 1] * 2 + [12**-0.5] * 2)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(STAGED, 64), (SIMPLE, 16), (STAGED | {"gamma_fan_in": "channels"}, 16), ({"kind": "mlp", "depth": 2}, 16)],
)
def test_width_of_the_authors_figures_is_the_readout_s(model, inputs):
    assert plan_network(ModelSpec.model_validate(model), 16, IMAGE, 10).gamma_fan_in == inputs


# --- gathered pixels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [IMAGE, (1, 28, 36), (2, 47, 33)])
@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
def test_gathered_outputs_and_gradients_are_those_of_the_modules(image, activation):
    """Members that share their images, sizes that halve with a rest."""
    net = network(SIMPLE | {"activation": activation}, image=image, seeds=(0, 1, 2, 3))
    x = drawn(3, image, streams=2)
    found, expected = gathered_outputs(list(net), net._places, x), net(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    for a, b in zip(*(torch.autograd.grad(f.square().sum(), net.trained) for f in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_three_strided_convolutions_are_gathered_too():
    model = SIMPLE | {"depth": 3, "strides": [1, 3, 3]}
    net, x = network(model, image=(1, 72, 72)), drawn(2, (1, 72, 72))
    torch.testing.assert_close(gathered_outputs(list(net), net._places, x), net(x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "model",
    [STAGED, SIMPLE | {"strides": [2, 2]}, SIMPLE | {"pooling": "average"}, SIMPLE | {"activation": "gelu"},
     {"kind": "mlp", "depth": 2}],
)  # fmt: skip
def test_chains_that_overlap_or_average_are_left_to_the_modules(model):
    assert not is_strided_chain(plan_network(ModelSpec.model_validate(model), 4, IMAGE, 10))
    assert network(model)._places is None


# --- what does not exist ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "mlp", "depth": 2, "convention": "authors"}, "convention = 'authors': .* only convnet or simple_con"),
        ({"kind": "convnet", "depth": 2, "convention": "theirs"}, "Input should be 'ours' or 'authors'"),
        (STAGED | {"gamma_fan_in": "hidden"}, "Input should be 'channels' or 'readout'"),
        (STAGED | {"depth": 4}, "depth = 4: .* a multiple of 3"),
        (STAGED | {"pool_every": 2}, "pools after each stage"),
        (STAGED | {"smallest_side": 2}, "pools after each stage"),
        (SIMPLE | {"pool_every": 1}, "pool_every = 1: only a convnet"),
        (SIMPLE | {"tau": 1}, "tau = 1: a simple_convnet has no skip"),
        (SIMPLE | {"layers_per_block": 2}, "layers_per_block = 2: only residual"),
        (SIMPLE | {"pooling": "min"}, "Input should be 'average' or 'max'"),
        (SIMPLE | {"strides": [0]}, "greater than or equal to 1"),
        (SIMPLE | {"gain": 0}, "greater than 0"),
        (
            SIMPLE | {"gain": 2.0},
            r"gain = 2.0: only residual networks \(tau = 1\) and the authors' convnet have blocks",
        ),
        (SIMPLE | {"depth_counts": "layers"}, "depth_counts = layers: only residual"),
        (SIMPLE | {"smallest_side": 4}, "smallest_side = 4: a simple_convnet always pools"),
        (SIMPLE | {"strides": []}, r"strides = \[\]: at least one is needed"),
        ({"kind": "mlp", "depth": 2, "pooling": "max"}, "pooling = 'max': only ConvNets have the choice"),
        ({"kind": "mlp", "depth": 2, "strides": [2]}, "strides = .*: only ConvNets have the choice"),
    ],
)
def test_models_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        ModelSpec.model_validate(settings)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SIMPLE, r"strides = \[2, 4\]: an image of 1 x 1 is left to be pooled, which leaves no pixel"),
        (SIMPLE | {"strides": [1, 2, 1]}, r"strides = \[1, 2, 1\]: 1 more than there are convolutions"),
        (STAGED | {"tau": 1}, r"strides = \[2\]: an image of 1 x 1 is left to be pooled"),
    ],
)
def test_a_stride_that_leaves_no_pixel_is_refused_with_the_job(model, message):
    """Digits have 8 x 8 pixels."""
    with pytest.raises(ValidationError, match=message):
        make_spec(model=model)


def test_strides_for_small_images_are_accepted():
    assert isinstance(make_spec(model=SIMPLE | {"strides": [1, 2]}), TrainingSpec)
    assert isinstance(make_spec(model=STAGED | {"strides": [1]}), TrainingSpec)


def test_depth_mup_still_asks_for_skip_connections():
    with pytest.raises(ParameterizationError, match="set tau: 1, or use MUP"):
        network(STAGED, "DEPTH_MUP")
