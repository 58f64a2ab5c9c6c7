"""Coefficients and soft ranks in any precision and scale: all digits of float64, or one line."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.homogeneous.losses import CrossEntropy
from featurespeed.homogeneous.measure import TaylorError, soft_ranks, taylor_coefficients
from featurespeed.homogeneous.steady import SteadyCrossEntropy
from tests.homogeneous.along_step import batch, coefficients_of, numbers, plain

X, Y = batch()
EXACT = torch.float64
PRECISIONS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
ranks_of = ("participation_ratio", "stable_rank", "entropy_rank")


# --- Taylor coefficients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss(), functional.cross_entropy])
def test_coefficients_are_those_of_the_same_numbers_in_float64(dtype, loss):
    net, x = plain().to(dtype), X.to(dtype)
    found = taylor_coefficients(net, x, Y, loss=loss)
    assert numbers(found) == pytest.approx(coefficients_of(net, x, Y), rel=1e-9)
    assert {t.dtype for t in (found.c0, found.c1, found.c2, found.c3, found.directional_sharpness)} == {EXACT}


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("scale", [1e-24, 1e-12, 1e12, 1e27])
def test_gradients_of_any_scale_have_coefficients(dtype, scale):
    """Of a loss that is scaled: the step of order p scales with its power p, and so does everything."""
    net, x = plain().to(dtype), X.to(dtype)
    found = taylor_coefficients(net, x, Y, loss=lambda z, y: scale * functional.cross_entropy(z, y))
    wanted = [scale ** (p + 1) * c for p, c in enumerate(coefficients_of(net, x, Y))]
    assert numbers(found) == pytest.approx(wanted, rel=1e-9, abs=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e9, 1e30])
def test_weights_of_any_scale_have_coefficients(scale):
    """One layer under squares, by hand: outputs and gradient scale with the inputs, targets are 0."""
    x, w = scale * X, plain()[0].weight.detach()
    z = x @ w.T
    gradient = z.T @ x / len(x)
    curvature = (x @ gradient.T).square().sum() / (2 * len(x))
    wanted = [float(z.square().sum() / (2 * len(x))), -float(gradient.square().sum()), float(curvature), 0.0]
    found = taylor_coefficients([w], x, torch.zeros(6, 9), loss="mse")
    assert numbers(found) == pytest.approx(wanted, rel=1e-12, abs=0)


@pytest.mark.parametrize("scaling", ["norm1", "rel1", "norm2", "rel2", "gradn", "fsf"])
@pytest.mark.parametrize("dtype", PRECISIONS[:3])
def test_scalings_are_computed_in_float64(scaling, dtype):
    net = plain().to(dtype)
    found, wanted = (taylor_coefficients(n, X.to(dtype), Y, scaling=scaling) for n in (net, net.double()))
    assert numbers(found) == pytest.approx(numbers(wanted), rel=1e-12)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_autocast_changes_nothing(dtype):
    net = plain().to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = taylor_coefficients(net, X, Y)
    assert numbers(found) == pytest.approx(coefficients_of(net, X, Y), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_classes_in_single_precision_keep_working(dtype):
    classes, seen = torch.tensor([0.2, 1.0, 3.0]), []

    def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(outputs.dtype)
        return functional.cross_entropy(outputs, targets, weight=classes.to(dtype))

    net = plain().to(dtype)
    exact = coefficients_of(net, X, Y, lambda z, y: functional.cross_entropy(z, y, weight=classes.double()))
    module = taylor_coefficients(net, X, Y, loss=nn.CrossEntropyLoss(weight=classes))
    assert numbers(module) == pytest.approx(exact, rel=1e-9)
    assert numbers(taylor_coefficients(net, X, Y, loss=weighted)) == pytest.approx(exact, rel=1e-4)
    assert seen[-1] == dtype  # float64 does not go together with what the function holds


@pytest.mark.parametrize("loss", [functional.mse_loss, functional.huber_loss, functional.smooth_l1_loss])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_numbers_as_targets_of_any_precision(loss, dtype):
    net, targets = plain().to(dtype), X[:, :3].to(dtype)
    wanted = coefficients_of(net, X, targets.double(), loss)
    assert numbers(taylor_coefficients(net, X, targets, loss=loss)) == pytest.approx(wanted, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("margin", [-60.0, 0.0, 1.0, 20.0, 40.0, 60.0])
def test_an_almost_perfect_fit_has_all_digits(margin):
    """One input 1 and two classes: with ``p = 1/(1 + e^m)`` the gradient is ``(-p, p)``, and the margin grows by 2p."""
    p, q = 1 / (1 + math.exp(margin)), 1 / (1 + math.exp(-margin))
    third = -p * q * (q - p) * (2 * p) ** 3 / 6
    loss = math.log1p(math.exp(-margin)) if margin >= 0 else -margin + math.log1p(math.exp(margin))
    wanted = [loss, -2 * p**2, p * q * (2 * p) ** 2 / 2, third]
    found = taylor_coefficients([torch.tensor([[margin], [0.0]])], torch.ones(1, 1), torch.tensor([0]))
    assert numbers(found) == pytest.approx(wanted, rel=1e-12, abs=1e-300 if margin else 1e-16)


def test_the_steady_cross_entropy_is_the_cross_entropy():
    torch.manual_seed(0)
    z, y = 5 * torch.randn(3, 20, 4, dtype=EXACT), torch.randint(4, (1, 20))
    u, v = torch.randn(2, 3, 20, 4, dtype=EXACT)
    steady, known = SteadyCrossEntropy(), CrossEntropy()
    for found, wanted in ((steady.value(z, y), known.value(z, y)), (steady.gradient(z, y), known.gradient(z, y)),
                          (steady.second(z, y, u, v), known.second(z, y, u, v)),
                          (steady.third(z, y, u), known.third(z, y, u))):  # fmt: skip
        assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-15)
    leaf = z.clone().requires_grad_()
    slope = torch.autograd.grad(steady.value(leaf, y).sum(), leaf)[0]
    assert torch.allclose(slope, steady.gradient(z, y), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (1e-110, "the gradient by the outputs of layer 1 on this batch has entries of at most"),
        (1e-50, "the velocity of layer 1 on this batch has"),
        (1e110, "the gradient by the outputs of layer"),
        (1e80, "c3 is "),
    ],
)
def test_numbers_whose_cubes_are_none_of_float64_are_refused(scale, message):
    x = X if scale != 1e-50 else 1e-40 * X
    with pytest.raises(TaylorError) as error:
        taylor_coefficients(plain(), x, Y, loss=lambda z, y: scale * functional.cross_entropy(z, y))
    assert message in str(error.value) and "\n" not in str(error.value)


# --- soft ranks -------------------------------------------------------------------------------------------------------


def ranks_by_numpy(features: np.ndarray) -> list[float]:
    """From singular values, whose squares are the eigenvalues of the Gram matrix."""
    values = np.linalg.svd(features / np.abs(features).max(), compute_uv=False) ** 2
    shares = values[values > 0] / values.sum()
    return [
        values.sum() ** 2 / (values**2).sum(), values.sum() / values.max(), math.exp(-(shares * np.log(shares)).sum())
    ]  # fmt: skip


def ranks(features: object) -> list[float]:
    found = soft_ranks(features)
    assert all(getattr(found, name).dtype == EXACT and not getattr(found, name).requires_grad for name in ranks_of)
    return [float(getattr(found, name)) for name in ranks_of]


A = torch.randn(5, 7, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
REAL, COUNTS = A.real.contiguous(), (3 * A.real).long()


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-300, 1e-170, 1e-90, 1e-5, 1.0, 1e5, 1e90, 1e150, 1e170, 1e307])
@pytest.mark.parametrize("features", [A, REAL, REAL.T, A.T, A[:1], torch.eye(4).double()], ids=str)
def test_soft_ranks_have_no_scale(features, scale):
    if scale < 1e-300:
        features = (features.real * 4).round() + 0.0  # whole multiples of the smallest numbers
    wanted = ranks_by_numpy(features.numpy())
    assert ranks(scale * features.to(torch.complex128 if features.is_complex() else EXACT)) == pytest.approx(
        wanted, rel=1e-9
    )


def test_every_network_has_a_scale_of_its_own():
    found = soft_ranks(torch.stack([1e-170 * REAL, REAL, 1e170 * REAL]))
    for name, wanted in zip(ranks_of, ranks_by_numpy(REAL.numpy()), strict=True):
        assert getattr(found, name).tolist() == pytest.approx([wanted] * 3, rel=1e-12)


@pytest.mark.parametrize(
    "features",
    [
        COUNTS, COUNTS.to(torch.int8), REAL > 0, REAL.clone().requires_grad_(), REAL.to_sparse(), REAL.numpy(),
        REAL.numpy()[::-1], REAL.tolist(), REAL.half(), REAL.to(torch.float8_e4m3fn), REAL.bfloat16(), REAL.float(),
        A.to(torch.complex64), 1e-7 * REAL.half().double(), REAL[:1], COUNTS[:, :1], nn.Parameter(REAL),
        REAL.expand(1, 5, 7), A.conj(), A.mH,
    ],
    ids=lambda features: f"{type(features).__name__} {getattr(features, 'dtype', '')}",
)  # fmt: skip
def test_soft_ranks_of_any_kind_of_numbers(features):
    plain_numbers = features.detach().to_dense() if isinstance(features, Tensor) else torch.tensor(np.array(features))
    exact = plain_numbers.to(torch.complex128 if plain_numbers.is_complex() else EXACT).resolve_conj().numpy()
    assert ranks(features) == pytest.approx(ranks_by_numpy(exact.reshape(exact.shape[-2:])), rel=1e-6)


def test_half_precision_features_beyond_its_squares():
    features = (3e4 * REAL / REAL.abs().max()).half()
    assert ranks(features) == pytest.approx(ranks_by_numpy(features.double().numpy()), rel=1e-12)


@pytest.mark.parametrize(
    "features", [torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.complex64), torch.zeros(1, 1).int()]
)
def test_features_of_zero_have_no_rank(features):
    assert all(math.isnan(rank) for rank in ranks(features))


@pytest.mark.filterwarnings("ignore:.*nested.*:UserWarning")
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (REAL[0], "features: of shape [7], allowed: [n, m] or [E, n, m]"), (REAL[None, None], "of shape [1, 1, 5, 7]"),
        (torch.tensor(3.0), "of shape []"), (REAL[:0], "of shape [0, 7]"), (REAL[:, :0], "of shape [5, 0]"),
        (REAL[None][:0], "of shape [0, 5, 7]"), (REAL / 0, "NaN or infinite"), (A * math.nan, "NaN or infinite"),
        (None, "features: NoneType, allowed: a tensor"), ({"a": REAL}, "dict, allowed"), (plain(), "Sequential, allo"),
        ([REAL, REAL[:2]], "list that is no array of numbers"), ("features", "str, allowed"), (3, "int, allowed"),
        ([["a", "b"]], "no array of numbers"), (np.array([None, 1]), "ndarray that is no array of numbers"),
        (np.ma.masked_array(REAL.numpy(), REAL.numpy() > 0), "masked entries"),
        (REAL.to("meta"), "the meta device"), (torch.nested.nested_tensor([REAL, REAL[:2]]), "quantized or nested"),
    ],
    ids=str,
)  # fmt: skip
def test_what_has_no_soft_rank_is_named(features, message):
    with pytest.raises(TaylorError) as error:
        soft_ranks(features)
    assert message in str(error.value) and "\n" not in str(error.value)
