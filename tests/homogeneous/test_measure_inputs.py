"""What may be given to `taylor_coefficients` besides a network: batches, losses, names, inference mode."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from featurespeed.homogeneous.measure import TaylorError, soft_ranks, taylor_coefficients
from featurespeed.homogeneous.network import HomogeneousMLP
from tests.homogeneous.along_step import batch, coefficients_of, linear, numbers, plain

X, Y = batch()
NET = plain()
WANTED = coefficients_of(NET, X, Y)
MATRICES = [part.weight for part in NET[::2]]
CROSS_ENTROPY = functional.cross_entropy


def refusal(*arguments: object, **options: object) -> str:
    """The one line."""
    with pytest.raises(TaylorError) as error:
        taylor_coefficients(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- inference mode ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss", ["cross_entropy", nn.CrossEntropyLoss(), CROSS_ENTROPY, nn.CrossEntropyLoss(torch.ones(3))]
)
@pytest.mark.parametrize("network_inside", [False, True])
@pytest.mark.parametrize("batch_inside", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inference_mode_changes_nothing(loss, network_inside, batch_inside, dtype):
    with torch.inference_mode(network_inside):
        net = nn.Sequential(linear(4, 9), nn.ReLU(), linear(9, 7), nn.ReLU(), linear(7, 3)).to(dtype)
        for part, known in zip(net[::2], MATRICES, strict=True):
            part.weight.data.copy_(known.detach())
    with torch.inference_mode(batch_inside):
        x, y = X.to(dtype) + 0, Y + 0
    assert (net[0].weight.is_inference(), y.is_inference()) == (network_inside, batch_inside)
    wanted = coefficients_of(NET.to(dtype).double(), x.clone().double(), Y)
    for inside in (False, True):
        with torch.inference_mode(inside):
            found = [taylor_coefficients(w, x, y, loss=loss) for w in (net, [part.weight for part in net[::2]])]
        for one in found:
            assert numbers(one) == pytest.approx(wanted, rel=1e-9)
            assert not one.c1.is_inference() and not one.velocities[0].is_inference()


def test_soft_ranks_in_inference_mode_are_ordinary_numbers():
    wanted = float(soft_ranks(X).entropy_rank)
    with torch.inference_mode():
        for features in (X, X + 0):
            found = soft_ranks(features).entropy_rank
            assert float(found) == pytest.approx(wanted, rel=1e-12) and not found.is_inference()


def test_modes_of_differentiation_are_put_back():
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with mode():
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            taylor_coefficients(NET, X, Y, loss=CROSS_ENTROPY)
            soft_ranks(X)
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


# --- batches ----------------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    "given",
    [
        (X, Y), (X.numpy(), Y.numpy()), (X.tolist(), Y.tolist()), (X.clone().requires_grad_(), Y.int()),
        (X.to_sparse(), Y), (X.numpy().copy()[::-1][::-1], np.broadcast_to(Y.numpy(), (6,))), (X, Y.to(torch.uint8)),
        (list(X.numpy()), list(Y.numpy())), ((X, Y),), ([X, Y],), (Pair(X, Y),), ((X.numpy(), Y.tolist()),),
        (next(iter(DataLoader(TensorDataset(X, Y), 6))),),
    ],
)  # fmt: skip
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_batches_of_tensors_arrays_lists_and_pairs(given, loss):
    own = {
        "cross_entropy": CROSS_ENTROPY,
        "mse": lambda z, y: (z - functional.one_hot(y, 3)).square().sum(1).mean() / 2,
    }
    wanted = coefficients_of(NET, X, Y, own[loss])
    assert numbers(taylor_coefficients(NET, *given, loss=loss)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    "given",
    [X, {"x": X, "y": Y}, [(X, Y), (X, Y)], ((X, Y), (X, Y)), [(X, Y)], (X, Y, Y), (X,), None, "batch",
     DataLoader(TensorDataset(X, Y)), iter([(X, Y)]), ({"x": X}, Y)],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_other_forms_of_a_batch_are_refused(given):
    assert f"inputs: {type(given).__name__} without targets, allowed: inputs and targets, or one pair" in refusal(
        NET, given
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((X, Y), Y), "inputs: tuple that is no array of numbers"), (({"x": X}, Y), "inputs: dict, allowed: a tensor"),
        ((X + 1j, Y), "inputs: complex128, allowed: real numbers"), ((None, Y), "inputs: NoneType"),
        ((X, None), "targets: NoneType, allowed: a tensor"), ((X, "classes"), "targets: str"),
        ((X, {"y": Y}), "targets: dict"),
        ((X, Y.cfloat()), "targets: complex64, allowed for cross_entropy: classes"), ((X, Y > 0), "targets: bool"),
        ((X.to("meta"), Y), "inputs: on the meta device"), ((X, Y.to("meta")), "targets: on the meta device"),
        ((X, ["a"] * 6), "targets: list that is no array of numbers"), ((X[0], Y[:1]), "inputs: of shape [4]"),
        ((X, Y.tolist()[:5]), "targets: of shape [5], allowed: [6]"), ((X, Y.double().tolist()), "targets: float64"),
    ],
)  # fmt: skip
def test_a_batch_that_is_none_is_named(given, message):
    assert message in refusal(NET, *given)


def test_whole_numbers_for_one_output_of_squares_are_no_classes():
    matrices = [torch.ones(1, 4)]
    assert "targets: int64 for one output, allowed: numbers [6, 1]" in refusal(matrices, X, 0 * Y, loss="mse")
    assert "targets: NaN or infinite" in refusal(matrices, X, torch.full((6, 1), torch.nan), loss="mse")
    found = taylor_coefficients(matrices, X, torch.zeros(6, 1), loss="mse")
    assert float(found.c0) == pytest.approx(float(X.sum(1).square().mean() / 2))


@pytest.mark.parametrize("targets", [None, "anything", {"unused": Y}, 3])
def test_targets_that_a_loss_ignores_may_be_anything(targets):
    wanted = coefficients_of(NET, X, None, lambda z, y: z.square().mean())
    found = taylor_coefficients(NET, X, targets, loss=lambda z, y: z.square().mean())
    assert numbers(found) == pytest.approx(wanted, rel=1e-9, abs=1e-14)
    pair = taylor_coefficients(NET, (X, targets), loss=lambda z, y: z.square().mean())
    assert numbers(pair) == numbers(found)


@pytest.mark.parametrize(
    ("targets", "loss"),
    [
        ({"y": Y, "name": "a"}, lambda z, t: CROSS_ENTROPY(z, t["y"])), ((Y, 2), lambda z, t: CROSS_ENTROPY(z, t[0])),
        ([Y, [Y]], lambda z, t: CROSS_ENTROPY(z, t[1][0])), (Pair(X, Y), lambda z, t: CROSS_ENTROPY(z, t.y)),
        (OrderedDict(y=Y), lambda z, t: CROSS_ENTROPY(z, t["y"])), (Y.numpy(), CROSS_ENTROPY),
        (Y, partial(CROSS_ENTROPY, reduction="mean")), (Y, nn.CrossEntropyLoss().forward),
        (Y, lambda z, t: CROSS_ENTROPY(z.mul_(1), t.clamp_(0, 2))), (Y, lambda z, t: CROSS_ENTROPY(z, t).reshape(1, 1)),
    ],
)  # fmt: skip
def test_losses_and_targets_of_many_kinds(targets, loss):
    assert numbers(taylor_coefficients(NET, X, targets, loss=loss)) == pytest.approx(WANTED, rel=1e-9)


def test_what_a_loss_does_in_place_stays_its_own():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            self.calls += 1
            return self.scale * (outputs - targets.mul_(2)).square().mean()

    loss, targets, inputs = Counting(), X[:, :3].clone(), X.clone()
    found = taylor_coefficients(NET, inputs, targets, loss=loss)
    wanted = coefficients_of(NET, X, 2 * X[:, :3], functional.mse_loss)
    assert numbers(found) == pytest.approx(wanted, rel=1e-9, abs=1e-14)
    assert torch.equal(targets, X[:, :3]) and torch.equal(inputs, X)
    assert float(loss.calls) == 0 and loss.scale.grad is None


# --- losses that are none ---------------------------------------------------------------------------------------------


class Once(torch.autograd.Function):
    """The square, whose derivative cannot be differentiated."""

    @staticmethod
    def forward(context, z):
        context.save_for_backward(z)
        return z.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, slope):
        return 2 * slope * context.saved_tensors[0]


class Never(torch.autograd.Function):
    """The square, whose derivative refuses to be differentiated."""

    @staticmethod
    def forward(context, z):
        context.save_for_backward(z)
        return z.square()

    @staticmethod
    def backward(context, slope):
        if torch.is_grad_enabled():
            raise RuntimeError("no\nsecond derivative")
        return 2 * slope * context.saved_tensors[0]


class Constant(torch.autograd.Function):
    """The square, with a gradient that is made in the forward pass, as fused losses do."""

    @staticmethod
    def forward(context, z):
        context.save_for_backward(2 * z)
        return z.square()

    @staticmethod
    def backward(context, slope):
        return slope * context.saved_tensors[0]


class Twice(torch.autograd.Function):
    """The cube, whose second derivative is a constant."""

    @staticmethod
    def forward(context, z):
        context.save_for_backward(z)
        return z**3

    @staticmethod
    def backward(context, slope):
        (z,) = context.saved_tensors
        return slope * (3 * z.detach() ** 2 + 6 * z.detach() * (z - z.detach()))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.MSELoss, "loss: the class MSELoss, allowed: cross_entropy, mse, or a function, such as MSELoss()"),
        (None, "loss = None: allowed: cross_entropy, mse"), (["mse"], "loss = ['mse']: allowed"), (1.0, "loss = 1.0"),
        ("ce", "loss = 'ce': allowed: cross_entropy, mse, or a function of outputs and targets"),
        (lambda z, y: z, "loss: returns shape [6, 3], allowed: a scalar tensor"),
        (lambda z, y: 1.5, "loss: returns float, allowed: a scalar tensor"), (lambda z, y: None, "returns NoneType"),
        (lambda z, y: (CROSS_ENTROPY(z, y), 1), "loss: returns tuple"),
        (lambda z, y: CROSS_ENTROPY(z, y).item(), "loss: returns float"),
        (lambda z, y: CROSS_ENTROPY(z, y).detach(), "loss: its value cannot be differentiated by the outputs"),
        (lambda z, y: (z.argmax(1) == y).sum(), "loss: returns int64, allowed: a real number"),
        (lambda z, y: CROSS_ENTROPY(z, y) * 1j, "loss: returns complex128, allowed: a real number"),
        (lambda z, y: torch.ones((), requires_grad=True) + 0, "loss: its value does not depend on the outputs"),
        (lambda z: z.sum(), "loss: fails with TypeError"), (lambda z, y: z @ z, "loss: fails with RuntimeError"),
        (lambda z, y: z.foo, "loss: fails with AttributeError"), (nn.BCELoss(), "loss: fails with ValueError"),
        (lambda z, y: CROSS_ENTROPY(functional.dropout(z), y), "for the same outputs, allowed: a loss without chance"),
        (nn.Sequential(nn.Dropout()).forward, "loss: fails with TypeError"),
        (lambda z, y: Once.apply(z).mean(), "loss: its derivative of order 2 is not that of its values"),
        (lambda z, y: Never.apply(z).mean(), "loss: its derivative of order 2 fails with RuntimeError: no"),
        (lambda z, y: CROSS_ENTROPY(z, y) + z.detach().square().mean(), "its derivative of order 1 is not that of its"),
        (lambda z, y: Constant.apply(z).mean(), "loss: its derivative of order 2 is not that of its values"),
        (lambda z, y: Twice.apply(z).mean(), "loss: its derivative of order 3 is not that of its values"),
        (lambda z, y: CROSS_ENTROPY(z, y) + MATRICES[0].square().sum(), "depends on the weights themselves"),
        (lambda z, y: CROSS_ENTROPY(z, y) * torch.nan, "gradient of the loss on this batch is NaN or infinite"),
        (lambda z, y: CROSS_ENTROPY(z, y) + torch.inf, "c0 is inf on this batch"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("weights", [NET, MATRICES])
def test_what_is_no_loss_is_named(loss, message, weights):
    assert message in refusal(weights, X, Y, loss=loss)


@pytest.mark.parametrize(("operation", "power", "order"), [(Once, 2, 1), (Constant, 2, 1), (Twice, 3, 2)])
def test_a_loss_without_higher_derivatives_has_the_lower_coefficients(operation, power, order):
    found = taylor_coefficients(NET, X, Y, loss=lambda z, y: operation.apply(z).mean(), order=order)
    wanted = coefficients_of(NET, X, Y, lambda z, y: (z**power).mean())
    assert numbers(found)[: order + 1] == pytest.approx(wanted[: order + 1], rel=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        nn.L1Loss(), nn.MSELoss(reduction="sum"), nn.HuberLoss(delta=0.1), nn.SmoothL1Loss(), lambda z, t: z.mean(),
        nn.SoftMarginLoss(), nn.HingeEmbeddingLoss(margin=0.3), lambda z, t: (1e6 * z - t).square().mean(),
        lambda z, t: functional.softplus(1e4 * (z - t)).mean(), lambda z, t: (z**4).mean(), nn.CosineEmbeddingLoss(),
        lambda z, t: (z / 1e8 - t).square().mean(), nn.PoissonNLLLoss(), nn.KLDivLoss(reduction="batchmean"),
        lambda z, t: z.logsumexp(1).mean(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_losses_of_many_kinds_and_scales_fit_their_differences(loss, dtype, scale):
    targets = X[:, :3].sign() if not isinstance(loss, nn.KLDivLoss) else X[:, :3].softmax(1)
    used = loss if not isinstance(loss, nn.CosineEmbeddingLoss) else lambda z, t: loss(z, t, torch.ones(6).to(z))
    net, x = plain().to(dtype), (scale * X).to(dtype)
    wanted = coefficients_of(net, x, targets.to(dtype).double(), used)
    found = numbers(taylor_coefficients(net, x, targets.to(dtype), loss=used))
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9 * abs(wanted[1]))


# --- names and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [True, False, 2.0, 0, 4, -1, "2", None, [1], np.True_, np.float64(2)])
def test_an_order_that_is_no_whole_number_from_1_to_3_is_refused(order):
    assert refusal(NET, X, Y, order=order) == f"order = {order!r}: allowed: 1, 2, 3"


def test_an_order_may_be_any_whole_number():
    assert numbers(taylor_coefficients(NET, X, Y, order=np.int64(3))) == pytest.approx(WANTED, rel=1e-9)


@pytest.mark.parametrize("scaling", [None, "rel3", "", 1, True, ["none"], {}, nn.ReLU()])
def test_a_scaling_that_is_none_of_the_names_is_refused(scaling):
    assert "allowed: none, norm1, rel1, norm2, rel2, gradn, fsf" in refusal(NET, X, Y, scaling=scaling)


@pytest.mark.parametrize(
    "activation",
    [(1.0,), (1, 2, 3), "ab", None, ("a", "b"), ("0.5", "0.5"), (float("nan"), 1.0), (1.0, float("inf")), (1j, 0), 0.5,
     (True, False), {0.5, 0.7}, {0.5: 1, 0.7: 2}, nn.ReLU(), (None, 1), [[0.5, 0.5]], torch.eye(2), (10**400, 1)],
)  # fmt: skip
def test_an_activation_that_is_no_pair_of_numbers_is_refused(activation):
    for weights in (NET, MATRICES):
        assert "allowed: (a, b), two finite numbers of phi(s) = a s + b |s|" in refusal(
            weights, X, Y, activation=activation
        )


@pytest.mark.parametrize(
    "activation", [(1, 0), [1.0, 0.0], np.array([1.0, 0]), torch.tensor([1.0, 0.0]), (torch.tensor(1), 0)]
)
def test_an_activation_may_be_any_pair_of_numbers(activation):
    linear_net = nn.Sequential(*copy.deepcopy(list(NET[::2])))
    wanted = coefficients_of(linear_net, X, Y)
    assert numbers(taylor_coefficients(MATRICES, X, Y, activation=activation)) == pytest.approx(wanted, rel=1e-9)


def test_an_activation_of_another_kind_than_the_network_has_is_refused():
    ours = HomogeneousMLP([4, 9, 3], activation=(1.0, 0.0)).double().initialise([0])
    for activation in ((0.5, 0.5), (0.7, 0.3)):
        assert "brings its own, allowed: (1.0, 0.0)" in refusal(ours, X, Y, activation=activation)
    assert numbers(taylor_coefficients(ours, X, Y, activation=(1, 0))) == numbers(taylor_coefficients(ours, X, Y))


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs two devices")
@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss(torch.ones(3).double())])
def test_inputs_targets_and_loss_go_to_the_device_of_the_first_weight(loss):
    on_gpu, split = copy.deepcopy(NET).cuda(), copy.deepcopy(NET)
    split[2].cuda()
    state = torch.cuda.get_rng_state()
    for net, x, y in ((on_gpu, X, Y), (NET, X.cuda(), Y.cuda()), (on_gpu, X.cuda(), Y), (split, X, Y.cuda())):
        found = taylor_coefficients(net, x, y, loss=loss)
        assert numbers(found) == pytest.approx(WANTED, rel=1e-9) and found.c0.device == net[0].weight.device
    assert torch.equal(torch.cuda.get_rng_state(), state)
