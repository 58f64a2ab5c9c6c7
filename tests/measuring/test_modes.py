"""Contexts and wrappers around a measurement, and what it leaves as it was, also when it fails."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from featurespeed import hessian_trace, measure_feature_speed, sharpness
from tests.curvature.cases import Attention, token_cross_entropy, tokens
from tests.curvature.cases import seeded as with_statistics
from tests.measuring.cases import (
    BATCH,
    CLASSES,
    MEASURES,
    Made,
    X,
    Y,
    cross_entropy,
    every_measure,
    network,
    normal,
    refused,
    seeded,
    top,
)
from tests.probes.cases import DOUBLE

IMAGES, LABELS = normal(6, 2, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])


def speed(model, loss, batch):
    return float(measure_feature_speed([model], loss, batch).feature_speed[0])


EVERY = MEASURES | {"feature speed": speed}
ALL = pytest.mark.parametrize("measure", EVERY.values(), ids=EVERY)


def convolutions():
    def build():
        first, second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, stride=2)
        return nn.Sequential(first, nn.Tanh(), second, nn.Flatten(), nn.Linear(12, CLASSES))

    return seeded(build)


NETWORKS = {
    "linear": (network, cross_entropy, BATCH),
    "convolutions": (convolutions, cross_entropy, (IMAGES, LABELS)),
    "attention": (lambda: with_statistics(Attention), token_cross_entropy, (tokens(4, 5), tokens(4, 5, seed=1))),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


# --- contexts of the caller -------------------------------------------------------------------------------------------


@ALL
@every_network
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_that_are_on_or_off_outside_do_not_matter(measure, name, context):
    build, loss, batch = NETWORKS[name]
    wanted = measure(build(), loss, batch)
    model = build()
    with context():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = measure(model, loss, batch)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert found == pytest.approx(wanted, rel=1e-12)


@ALL
def test_a_batch_that_was_made_under_inference_mode(measure):
    wanted = measure(network(), cross_entropy, BATCH)
    with torch.inference_mode():
        x, y = X.clone(), Y.clone()
        pair = {"a": X - 1, "b": torch.ones(4, dtype=DOUBLE)}
    assert x.is_inference()
    assert measure(network(), cross_entropy, (x, y)) == pytest.approx(wanted, rel=1e-12)
    model = Made(lambda net, a, b: net(a + b))
    assert measure(model, cross_entropy, (pair, y)) == pytest.approx(wanted, rel=1e-12)


def test_weights_that_were_made_under_inference_mode_are_one_line():
    with torch.inference_mode():
        net = network()
    refused(
        lambda: sharpness(net, cross_entropy, BATCH), "model: 0.weight was made under torch.inference_mode", "allowed"
    )
    refused(
        lambda: measure_feature_speed(net, cross_entropy, BATCH), "model: weight was made under torch.inference_mode",
        "allowed", kind=ValueError,
    )  # fmt: skip


@pytest.mark.parametrize("saved", [torch.autograd.graph.save_on_cpu, lambda: torch.autograd.set_detect_anomaly(True)])
def test_hooks_of_the_caller_on_saved_tensors(saved):
    wanted = sharpness(network(), cross_entropy, BATCH).eigenvalue
    with saved():
        assert sharpness(network(), cross_entropy, BATCH).eigenvalue == pytest.approx(wanted, rel=1e-12)


# --- automatic mixed precision ----------------------------------------------------------------------------------------


class Inside(nn.Module):
    """Mixed precision that the model switches on itself."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.net(x).float()


@pytest.mark.parametrize("name", ["linear", "convolutions"])
@pytest.mark.parametrize("where", ["inside", "around", "both"])
@pytest.mark.parametrize("size", [None, 2])
def test_autocast(name, where, size):
    build, loss, batch = NETWORKS[name]
    net, batch = build().float(), (batch[0].float(), batch[1])
    net64 = build()
    wanted = top(lambda: loss(net64(batch[0].double()), batch[1]), net64)
    model = net if where == "around" else Inside(net)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=where != "inside"):
        found = sharpness(model, loss, batch, micro_batch=size)
        assert torch.is_autocast_enabled("cpu") == (where != "inside")
    assert found.eigenvalue == pytest.approx(wanted, rel=5e-2) and found.dtype == torch.float32
    assert found.asymmetry > 1e-5  # it was in mixed precision
    speed = measure_feature_speed([model], loss, batch)
    exact = measure_feature_speed([net64], loss, (batch[0].double(), batch[1]))
    torch.testing.assert_close(speed.feature_speed, exact.feature_speed, rtol=5e-2, atol=0)


@pytest.mark.parametrize("loss", [nn.functional.mse_loss, nn.functional.l1_loss, nn.functional.smooth_l1_loss])
def test_autocast_and_losses_of_two_precisions(loss):
    """Outputs in bfloat16, targets in float32, in one piece, in several and in two batches."""
    net, goal = network().float(), normal(12, CLASSES, seed=3).float()
    wanted = hessian_trace(net, loss, (X.float(), goal), 5).value
    batches = [(X[:5].float(), goal[:5]), (X[5:].float(), goal[5:])]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for batch, size in (((X.float(), goal), None), ((X.float(), goal), 5), (batches, None)):
            found = hessian_trace(net, loss, batch, 5, micro_batch=size).value
            assert found == pytest.approx(wanted, rel=0.1)


# --- wrapped, compiled and scripted models ----------------------------------------------------------------------------


def compiled(build):
    return torch.compile(build(), backend="aot_eager")


def compiled_in_place(build):
    model = build()
    model.compile(backend="aot_eager")
    return model


def compiled_part(build):
    model = build()
    model[0] = torch.compile(model[0], backend="aot_eager")
    return model


def compiled_and_run(build):
    model = compiled(build)
    model(IMAGES if isinstance(model._orig_mod[0], nn.Conv2d) else X)
    return model


WRAPPERS = {
    "torch.compile": compiled,
    "model.compile": compiled_in_place,
    "a part": compiled_part,
    "after a call": compiled_and_run,
    "DataParallel": lambda build: nn.DataParallel(build()),
    "in a module": lambda build: nn.Sequential(build()),
    "a list of modules": lambda build: nn.Sequential(*build()),
}


@pytest.mark.parametrize("measure", [EVERY["sharpness"], speed])
@pytest.mark.parametrize("name", ["convolutions"])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrapped_models_are_measured_as_they_were_written(measure, name, wrap):
    build, loss, batch = NETWORKS[name]
    model = wrap(build)
    assert measure(model, loss, batch) == pytest.approx(measure(build(), loss, batch), rel=1e-9)
    model(batch[0])  # it still works


@pytest.mark.parametrize("name", ["linear"])
def test_a_compiled_loss(name):
    build, loss, batch = NETWORKS[name]
    wanted = sharpness(build(), loss, batch).eigenvalue
    compiled_loss = torch.compile(lambda o, t: cross_entropy(o, t), backend="aot_eager")
    assert sharpness(build(), compiled_loss, batch).eigenvalue == pytest.approx(wanted, rel=1e-9)


@every_measure
@pytest.mark.parametrize("script", ["script", "trace"])
def test_scripted_models(measure, script):
    net = network()
    model = torch.jit.script(net) if script == "script" else torch.jit.trace(net, X)
    assert measure(model, cross_entropy, BATCH) == pytest.approx(measure(net, cross_entropy, BATCH), rel=1e-9)
    assert model.training


def test_feature_speed_of_a_scripted_layer_is_right_or_one_line():
    net = network()
    try:
        found = measure_feature_speed([torch.jit.script(net)], cross_entropy, BATCH)
    except ValueError as error:
        assert "allowed" in str(error) and "\n" not in str(error)
    else:
        wanted = measure_feature_speed([net], cross_entropy, BATCH)
        torch.testing.assert_close(found.feature_speed, wanted.feature_speed)


class Ensemble(nn.Module):
    """Networks with stacked weights, run side by side by ``vmap`` and averaged."""

    def __init__(self, build, members: int = 3):
        super().__init__()
        models = [build(seed) for seed in range(members)]
        stacked, _ = stack_module_state(models)
        self.base = [models[0]]
        self.names = list(stacked)
        self.weights = nn.ParameterList(nn.Parameter(value.detach()) for value in stacked.values())

    def forward(self, x):
        weights = dict(zip(self.names, self.weights, strict=True))
        return vmap(lambda own: functional_call(self.base[0], own, (x,)))(weights).mean(0)


def small_convnet(seed):
    return seeded(lambda: nn.Sequential(nn.Conv2d(2, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, CLASSES)), seed)


@pytest.mark.parametrize("size", [None, 4])
def test_ensembles_by_vmap(size):
    for build, batch in ((lambda seed: network(seed=seed), BATCH), (small_convnet, (IMAGES, LABELS))):
        model = Ensemble(build)
        members = [build(seed) for seed in range(3)]

        def loss(models=members, batch=batch):
            return cross_entropy(sum(member(batch[0]) for member in models) / 3, batch[1])

        wanted = top(loss, nn.ModuleList(members))
        found = sharpness(model, cross_entropy, batch, tol=1e-6, micro_batch=size)
        assert found.eigenvalue == pytest.approx(wanted, rel=1e-5)


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, blocks, **options):
        super().__init__()
        self.blocks, self.options = nn.ModuleList(blocks), {"use_reentrant": False} | options

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, **self.options)
        return x


class Blocks(nn.Module):
    """Attention by PyTorch's own function, in a checkpoint."""

    def __init__(self, again: bool):
        super().__init__()
        self.inside, self.again = Attention(), again

    def forward(self, x):
        return checkpoint(self.inside, x, use_reentrant=False) if self.again else self.inside(x)


@ALL
@pytest.mark.parametrize("build", [network, convolutions])
@pytest.mark.parametrize("options", [{}, {"preserve_rng_state": False}])
def test_checkpoints(measure, build, options):
    batch = BATCH if build is network else (IMAGES, LABELS)
    wanted = measure(build(), cross_entropy, batch)
    assert measure(Checkpointed(build(), **options), cross_entropy, batch) == pytest.approx(wanted, rel=1e-9)


@every_measure
@pytest.mark.parametrize("build", [network, convolutions])
@pytest.mark.parametrize("size", [None, 4])
def test_checkpoints_of_segments(measure, build, size):
    class Segments(nn.Sequential):
        def forward(self, x):
            return checkpoint_sequential(list(self), 2, x, use_reentrant=False)

    batch = BATCH if build is network else (IMAGES, LABELS)
    wanted = measure(build(), cross_entropy, batch)
    assert measure(Segments(*build()), cross_entropy, batch, micro_batch=size) == pytest.approx(wanted, rel=1e-9)


@every_measure
@pytest.mark.parametrize("size", [None, 2])
def test_checkpoints_of_attention(measure, size):
    batch = tokens(4, 5), tokens(4, 5, seed=1)
    plain, again = (with_statistics(lambda flag=flag: Blocks(flag)) for flag in (False, True))
    wanted = measure(plain, token_cross_entropy, batch)
    assert measure(again, token_cross_entropy, batch, micro_batch=size) == pytest.approx(wanted, rel=1e-9)
