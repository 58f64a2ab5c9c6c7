"""Taylor coefficients of modules: those of the real gradient step, or one line that says why there are none."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from featurespeed.homogeneous.measure import TaylorError, taylor_coefficients
from featurespeed.homogeneous.network import HomogeneousMLP
from tests.homogeneous.along_step import batch, coefficients_of, linear, numbers, plain

X, Y = batch()


class Readout(nn.Linear):
    """A linear layer with a factor of its own on its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 4)


class Named(nn.Linear):
    """A linear layer that computes as any other."""

    def __init__(self, into: int, out: int):
        super().__init__(into, out, bias=False)
        self.role = "hidden"


class Shifted(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - 0.1)


class Network(nn.Sequential):
    """A chain with a construction of its own."""

    def __init__(self):
        super().__init__(*plain())


class Doubled(Network):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def changed(change: Callable[[nn.Sequential], object]) -> nn.Sequential:
    """The plain network after a change in place."""
    net = plain()
    change(net)
    return net


def frozen(*places: int) -> nn.Sequential:
    return changed(lambda net: [net[place].requires_grad_(False) for place in places])


def one_activation() -> nn.Sequential:
    net, relu = plain(), nn.ReLU(inplace=True)
    return nn.Sequential(net[0], relu, net[2], relu, net[4])


def nested() -> nn.Sequential:
    net = plain()
    return nn.Sequential(nn.Sequential(nn.Flatten(), net[0]), nn.Sequential(net[1], net[2]), net[3], net[4])


# --- what has coefficients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        plain, lambda: frozen(0), lambda: frozen(2), lambda: frozen(4), lambda: frozen(0, 4), nested, one_activation,
        Network, lambda: nn.Sequential(Named(4, 5), nn.ReLU(), Named(5, 3)), lambda: nn.Sequential(linear(4, 3)),
        lambda: changed(lambda net: net.train()[0].eval()), lambda: plain().float(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss()])
def test_coefficients_are_those_of_the_real_step_of_the_module(make, loss):
    net = make()
    assert numbers(taylor_coefficients(net, X, Y, loss=loss)) == pytest.approx(coefficients_of(net, X, Y), rel=1e-9)


def no_compiler(*arguments: object) -> None:
    raise AssertionError("nothing is to be compiled")


def test_a_wrapped_network_or_layer_is_measured_as_it_is_written():
    net, wanted = plain(), coefficients_of(plain(), X, Y)
    inside = nn.Sequential(torch.compile(net[0], backend=no_compiler), *net[1:])
    in_place = plain()
    in_place.compile(backend=no_compiler)
    outside = torch.compile(net, backend=no_compiler)
    for compiled in (outside, inside, in_place, nn.DataParallel(net), nn.DataParallel(outside)):
        assert numbers(taylor_coefficients(compiled, X, Y)) == pytest.approx(wanted, rel=1e-9)
    hooked = torch.compile(plain())
    hooked.register_forward_hook(lambda module, inputs, outputs: 3 * outputs)
    with pytest.raises(TaylorError, match="hook"):
        taylor_coefficients(hooked, X, Y)


def test_modules_in_a_list_are_a_chain():
    wanted = coefficients_of(frozen(2), X, Y)
    for several in (list(frozen(2)), tuple(frozen(2)), nn.ModuleList(frozen(2))):
        assert numbers(taylor_coefficients(several, X, Y)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("scaling", ["norm1", "rel1", "norm2", "rel2", "gradn", "fsf"])
@pytest.mark.parametrize("places", [(0,), (2,), (4,), (0, 2)])
def test_a_frozen_layer_has_the_factor_zero_and_the_others_their_own(scaling, places):
    net = plain()
    seen, outputs = [X], []
    for part in net[::2]:
        outputs.append(part(seen[-1]))
        seen.append(outputs[-1].relu())
    loss = functional.cross_entropy(outputs[-1], Y)
    found = torch.autograd.grad(loss, [*outputs, *net.parameters()])
    b, g = ([float(t.norm()) for t in part] for part in (found[:3], found[3:]))
    a, last = [float(t.detach().norm()) for t in seen], float(found[2].norm())
    rules = {"norm1": lambda k: 1 / (a[k] * b[k]), "rel1": lambda k: last / (a[k] * b[k]), "gradn": lambda k: 1 / g[k],
             "norm2": lambda k: (a[k] * b[k]) ** -2, "rel2": lambda k: (last / (a[k] * b[k])) ** 2,
             "fsf": lambda k: last**2 / (3 * g[k] ** 2)}  # fmt: skip
    factors = [rules[scaling](k) for k in range(3) if 2 * k not in places]
    wanted = coefficients_of(frozen(*places), X, Y, factors=factors)
    assert numbers(taylor_coefficients(frozen(*places), X, Y, scaling=scaling)) == pytest.approx(wanted, rel=1e-9)


def test_a_frozen_layer_of_our_own_network_does_not_move():
    net, ours = frozen(0), HomogeneousMLP([4, 9, 7, 3]).double()
    for mine, part in zip(ours.matrices, net[::2], strict=True):
        mine.data[0] = part.weight.data
        mine.requires_grad_(part.weight.requires_grad)
    assert numbers(taylor_coefficients(ours, X, Y)) == pytest.approx(coefficients_of(net, X, Y), rel=1e-9)


# --- what is refused --------------------------------------------------------------------------------------------------


def tied() -> nn.Sequential:
    net = nn.Sequential(linear(4, 4), nn.ReLU(), linear(4, 4), nn.ReLU(), linear(4, 3))
    net[2].weight = net[0].weight
    return net


def tied_by_memory(transposed: bool) -> nn.Sequential:
    net = nn.Sequential(linear(4, 4), nn.ReLU(), linear(4, 4), nn.ReLU(), linear(4, 3))
    net[2].weight.data = net[0].weight.data.T if transposed else net[0].weight.data
    return net


def used_twice() -> nn.Sequential:
    one = linear(4, 4)
    return nn.Sequential(one, nn.ReLU(), one, nn.ReLU(), linear(4, 3))


def with_matrices_in_layers() -> nn.Sequential:
    net = plain()
    net[0].weight = nn.Parameter(net[0].weight.detach()[None])
    return net


SHARED, COMPUTED, HOOK = "share memory, so a gradient step moves both", "computed from other parameters", "has a hook"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(linear(4, 8), nn.ReLU(), Readout(8, 3, bias=False)), "Readout at place 3 of the chain"),
        (lambda: nn.Sequential(linear(4, 8), Shifted(), linear(8, 3)), "Shifted at place 2 of the chain has a forward"),
        (Doubled, "weights: Doubled, allowed: an nn.Sequential"),
        (lambda: nn.Sequential(Doubled(), nn.ReLU(), linear(3, 3)), "Doubled at place 1"),
        (lambda: nn.Sequential(linear(4, 8), nn.LeakyReLU(), linear(8, 3)), "LeakyReLU at place 2"),
        (lambda: nn.Sequential(linear(4, 8), nn.ReLU6(), linear(8, 3)), "ReLU6 at place 2"),
        (lambda: nn.Sequential(nn.Flatten(0), linear(24, 3)), "Flatten(start_dim=0, end_dim=-1) at the beginning"),
        (lambda: changed(lambda net: net[0].register_forward_hook(lambda m, i, o: 3 * o)), "layer 1 " + HOOK),
        (lambda: changed(lambda net: net[2].register_forward_pre_hook(lambda m, i: (2 * i[0],))), "layer 2 " + HOOK),
        (lambda: changed(lambda net: net[1].register_forward_hook(lambda m, i, o: 3 * o)), "ReLU " + HOOK),
        (lambda: changed(lambda net: net.register_forward_hook(lambda m, i, o: 3 * o)), "Sequential " + HOOK),
        (lambda: changed(lambda net: net[4].register_full_backward_hook(lambda m, i, o: (2 * i[0],))), HOOK),
        (lambda: changed(lambda net: net[1].register_full_backward_pre_hook(lambda m, o: (2 * o[0],))), HOOK),
        (lambda: nn.DataParallel(changed(lambda net: net.register_forward_hook(lambda m, i, o: 3 * o))), HOOK),
        (lambda: changed(lambda net: net[0].weight.register_hook(lambda g: 0 * g)), "a hook on its gradient"),
        (lambda: changed(lambda net: parametrizations.weight_norm(net[0])), "that of layer 1 is " + COMPUTED),
        (lambda: changed(lambda net: parametrizations.spectral_norm(net[2])), "that of layer 2 is " + COMPUTED),
        (lambda: changed(lambda net: parametrizations.orthogonal(net[4])), "that of layer 3 is " + COMPUTED),
        (lambda: changed(lambda net: nn.utils.weight_norm(net[0])), COMPUTED),
        (lambda: changed(lambda net: nn.utils.spectral_norm(net[0])), COMPUTED),
        (lambda: changed(lambda net: prune.l1_unstructured(net[2], "weight", 0.5)), COMPUTED),
        (used_twice, "layers 1 and 2 " + SHARED),
        (tied, "layers 1 and 2 " + SHARED),
        (lambda: tied_by_memory(transposed=False), "layers 1 and 2 " + SHARED),
        (lambda: tied_by_memory(transposed=True), "layers 1 and 2 " + SHARED),
        (lambda: frozen(0, 2, 4), "all layers are frozen"),
        (lambda: HomogeneousMLP([4, 9, 3]).requires_grad_(False), "all layers are frozen"),
        (lambda: nn.Sequential(nn.LazyLinear(3, bias=False)), "layer 1 has none yet"),
        (lambda: torch.jit.script(plain()), "RecursiveScriptModule, allowed: an nn.Sequential"),
        (with_matrices_in_layers, "layer 1 of the module has shape [1, 9, 4], allowed: [m_k, m_{k-1}]"),
        (lambda: plain().to("meta"), "layer 1: on the meta device"),
        (lambda: nn.ModuleDict({"a": linear(4, 3)}), "ModuleDict, allowed: an nn.Sequential"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_module_that_is_more_than_its_matrices_is_refused(make, message):
    with pytest.raises(TaylorError) as error:
        taylor_coefficients(make(), X, Y)
    assert message in str(error.value) and "allowed" in str(error.value) and "\n" not in str(error.value)


def scaled(layer: nn.Linear, x: Tensor) -> Tensor:
    return functional.linear(x, 1.001 * layer.weight)


def cut_off(layer: nn.Linear, x: Tensor) -> Tensor:
    """Right outputs, and half of the gradient."""
    z = functional.linear(x, layer.weight)
    return (z + z.detach()) / 2


def failing(layer: nn.Linear, x: Tensor) -> Tensor:
    raise RuntimeError("two\nlines")


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (scaled, "the outputs of the module itself"),
        (cut_off, "the gradient of layer"),
        (failing, "the module fails on these inputs with RuntimeError: two;"),
    ],
)
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_what_no_look_at_the_modules_finds_shows_when_they_are_run(monkeypatch, forward, message, everywhere, dtype):
    net = plain().to(dtype)
    if everywhere:
        monkeypatch.setattr(nn.Linear, "forward", forward)
    else:
        monkeypatch.setattr(net[2], "forward", lambda x: forward(net[2], x))
    with pytest.raises(TaylorError) as error:
        taylor_coefficients(net, X, Y)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_hook_on_all_modules_shows_when_they_are_run():
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, outputs: 2 * outputs if isinstance(module, nn.ReLU) else None
    )
    try:
        with pytest.raises(TaylorError, match="a hook on all modules"):
            taylor_coefficients(plain(), X, Y)
    finally:
        handle.remove()
    assert numbers(taylor_coefficients(plain(), X, Y)) == pytest.approx(coefficients_of(plain(), X, Y), rel=1e-9)


# --- matrices ---------------------------------------------------------------------------------------------------------


SQUARE = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).double()
TALL = torch.randn(7, 4, generator=torch.Generator().manual_seed(2)).double()
ARRAY = np.arange(16.0).reshape(4, 4)


@pytest.mark.parametrize(
    "weights",
    [
        [SQUARE, SQUARE], [SQUARE, SQUARE.T], [TALL[:4], TALL[3:]], [TALL[0::2], TALL[2:6]], [SQUARE, TALL[:4], SQUARE],
        [ARRAY, ARRAY], [ARRAY, ARRAY.T], [SQUARE.tolist()] * 2, [nn.Parameter(SQUARE), nn.Parameter(SQUARE)],
        [SQUARE.expand(2, 4, 4), SQUARE.expand(2, 4, 4)],
    ],
)  # fmt: skip
def test_matrices_that_share_numbers_are_refused(weights):
    with pytest.raises(TaylorError, match="layers 1 and [23] share memory"):
        taylor_coefficients(weights, X, Y)


def test_parts_of_one_tensor_that_do_not_overlap_are_weights_of_their_own():
    flat = torch.randn(4, 16, generator=torch.Generator().manual_seed(4)).double()
    for one, other in (
        (flat[:, :4], flat[:, 4:8]),
        (flat[:, 0:8:2], flat[:, 1:8:2]),
        torch.unbind(flat.view(4, 4, 4))[:2],
    ):
        net = nn.Sequential(linear(4, 4), nn.ReLU(), linear(4, 4)).double()
        net[0].weight.data, net[2].weight.data = one.clone(), other.clone()
        assert numbers(taylor_coefficients([one, other], X, Y)) == pytest.approx(coefficients_of(net, X, Y), rel=1e-9)


def test_a_list_of_which_some_matrices_are_frozen_is_refused():
    matrices = [part.weight for part in frozen(2)[::2]]
    with pytest.raises(
        TaylorError, match="that of layer 2 requires no gradient, others do, but all matrices of a list"
    ):
        taylor_coefficients(matrices, X, Y)
    wanted = coefficients_of(plain(), X, Y)
    for all_alike in ([w.detach() for w in matrices], [part.weight for part in frozen(0, 2, 4)[::2]]):
        assert numbers(taylor_coefficients(all_alike, X, Y)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("weights", [None, 3, "net", {"0.weight": SQUARE}, SQUARE, ARRAY, plain().state_dict()])
def test_what_is_no_list_of_matrices_is_named(weights):
    with pytest.raises(TaylorError, match=rf"weights: {type(weights).__name__}, allowed: a list of matrices"):
        taylor_coefficients(weights, X, Y)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (SQUARE.int(), "layer 1 has int32"), (SQUARE.cfloat(), "layer 1 has complex64"), ("a", "layer 1: str"),
        (None, "layer 1: NoneType"), (SQUARE[:0], "layer 1 has float64 [0, 4]"), (SQUARE.to("meta"), "the meta device"),
        ([[1.0, 2.0], [3.0]], "layer 1: list that is no array"), (linear(4, 4), "layer 1: Linear, allowed: a tensor"),
    ],
)  # fmt: skip
def test_a_matrix_of_no_real_numbers_is_named(entry, message):
    with pytest.raises(TaylorError) as error:
        taylor_coefficients([entry, TALL[:3]], X, Y)
    assert message in str(error.value) and "\n" not in str(error.value)


# --- nothing is changed -----------------------------------------------------------------------------------------------


def test_network_gradients_modes_and_generators_are_left_alone():
    net = plain().train()
    net[1].eval()
    functional.cross_entropy(net(X), Y).backward()
    before = copy.deepcopy([(p.detach(), p.grad) for p in net.parameters()]), [m.training for m in net.modules()]
    state = torch.get_rng_state()
    inputs = X.clone().requires_grad_()

    def drawing(outputs: Tensor, targets: Tensor) -> Tensor:
        torch.rand(3)
        return functional.cross_entropy(outputs, targets)

    found = taylor_coefficients(net, inputs, Y, loss=drawing)
    assert numbers(found) == pytest.approx(coefficients_of(net, X, Y), rel=1e-9) and not found.c1.requires_grad
    after = [(p.detach(), p.grad) for p in net.parameters()], [m.training for m in net.modules()]
    assert all(torch.equal(w, v) and torch.equal(g, h) for (w, g), (v, h) in zip(before[0], after[0], strict=True))
    assert before[1] == after[1] and inputs.grad is None and all(p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
