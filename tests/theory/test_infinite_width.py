"""The predicted backward-feature angles against closed forms, each other and networks built weight by weight."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from featurespeed.theory import (
    INVERSE_COS2_TAIL,
    cos_bfa_recursion,
    inverse_cos2_limit,
    mlp_mean_inverse_cos2,
    phi_limit,
    sample_mlp_cos_bfa,
)

ACTIVATIONS = ("relu", "linear")


def dense_cos_bfa(width, depth, branch_scale, activation, rng):
    """cos(theta_v), v = 2..depth-1, of one dense net in float64 with one input; NaN where a gradient vanishes."""
    a, variance = math.sqrt(1 - branch_scale**2), (2 if activation == "relu" else 1) / width
    weights = rng.standard_normal((depth - 2, width, width)) * math.sqrt(variance)  # [l - 2] is W_l
    feature, masks = rng.standard_normal(width), []
    for weight in weights:
        mask = (feature > 0).astype(float) if activation == "relu" else np.ones(width)
        masks.append(mask)  # [l - 2] is phi'(f_{l-1})
        feature = a * feature + branch_scale * weight @ (mask * feature)
    backward = [rng.standard_normal(width)]
    for weight, mask in zip(weights[:0:-1], masks[:0:-1], strict=True):
        b = backward[0]
        backward.insert(0, a * b + branch_scale * mask * (weight.T @ b))  # [l - 2] is b_l
    velocity, cos = np.zeros(width), []
    with np.errstate(invalid="ignore", divide="ignore"):
        for trained, (weight, mask, b) in enumerate(zip(weights, masks, backward, strict=True), start=1):
            velocity = a * velocity + branch_scale * weight @ (mask * velocity) + b / (b @ b) / depth
            cos.append(trained / depth / math.sqrt((velocity @ velocity) * (b @ b)))
    return np.array(cos)


@pytest.mark.parametrize("depth", [3, 4, 10, 200])
def test_recursion_equals_mlp_closed_form_at_branch_scale_one(depth):
    n = np.arange(1, depth - 1)
    np.testing.assert_allclose(cos_bfa_recursion(depth, 1.0), (1 + (n - 1) * (2 * n - 1) / (3 * n)) ** -0.5, rtol=1e-13)


def test_mlp_angle_decays_with_the_square_root_of_depth():
    cos = cos_bfa_recursion(20_000, 1.0, "linear")[-1], cos_bfa_recursion(2_000, 1.0)[-1]
    assert cos[0] * math.sqrt(20_000 / 3) == pytest.approx(1, abs=1e-3)
    assert cos[1] * math.sqrt(2_000 * 2 / 3) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feature_speed_is_parallel_to_the_backward_pass_without_branches(activation):
    np.testing.assert_allclose(cos_bfa_recursion(50, 0.0, activation), 1.0, rtol=1e-15)


@pytest.mark.parametrize("branch_scale", [0.05, 0.3, 0.8, 1.0])
def test_mask_correlation_sums_agree_with_their_definition(branch_scale):
    depth, a2 = 12, 1 - branch_scale**2
    q = [(n + 1) ** 2 - a2**2 * n**2 for n in range(depth)]

    def agreement(k, j):
        terms = (a2 ** (i - j) * math.asin(a2 ** (abs(k - i) / 2)) for i in range(j, depth - 1))
        return 2 * branch_scale**2 / math.pi * sum(terms)

    excess = {k: sum(a2 ** (k - j) * q[j - 2] * agreement(k, j) for j in range(2, k + 1)) for k in range(2, depth - 1)}
    expected = [
        (v - 1) / math.sqrt(sum(q[: v - 1]) + branch_scale**2 * sum(excess[k] for k in range(2, v)))
        for v in range(2, depth)
    ]
    np.testing.assert_allclose(cos_bfa_recursion(depth, branch_scale), expected, rtol=1e-13)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("c", [0.5, 1.0, 2.0, None])
def test_recursion_predicts_the_angles_of_wide_dense_nets(activation, c):
    depth, width, draws = 14, 400, 12
    branch_scale = 1.0 if c is None else c / math.sqrt(depth)
    rng = np.random.default_rng(11)
    inverse = np.array([dense_cos_bfa(width, depth, branch_scale, activation, rng) for _ in range(draws)]) ** -2
    predicted = cos_bfa_recursion(depth, branch_scale, activation) ** -2
    error = np.abs(inverse.mean(axis=0) - predicted)
    sampling = 4 * inverse.std(axis=0, ddof=1) / math.sqrt(draws)
    # The finite-width bias of 1/cos^2 is (2 + depth/2)/width relative for the MLP and smaller for branches.
    assert np.all(error <= sampling + (2 + depth / 2) / width * (predicted - 1) + 1e-12)


def test_prediction_without_mask_correlation_fails_on_dense_nets():
    """Treating every mask as independent of the backward pass (linear theory for a ReLU net) is refuted."""
    depth, width, branch_scale = 14, 400, 2 / math.sqrt(14)
    rng = np.random.default_rng(12)
    cos = np.array([dense_cos_bfa(width, depth, branch_scale, "relu", rng)[-1] for _ in range(8)])
    wrong = cos_bfa_recursion(depth, branch_scale, "linear")[-1]
    assert abs(cos.mean() - wrong) > 6 * cos.std(ddof=1) / math.sqrt(len(cos))


@pytest.mark.parametrize(("c", "angle"), [(0.1, 0.0816), (0.3, 0.2426), (1.0, 0.7210), (3.0, 1.2398), (10.0, 1.4708)])
def test_limit_has_the_reference_values(c, angle):
    assert phi_limit(c) == pytest.approx(angle, abs=5.1e-5)


@pytest.mark.parametrize("c", [0.1, 0.7, 2.0])
def test_limit_equals_its_double_integral(c):
    """1/cos^2 from the continuum form of the recursion, integrated over the square without the closed form of H."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    nodes, weights = (nodes + 1) / 2, weights / 2

    def mask_integral(area):
        # x - y = w = area * u^2 removes the square-root kink of arcsin on the diagonal.
        w, jacobian = area * nodes**2, 2 * area * nodes
        inner = [np.sum(weights * (area - wi) * np.exp(-wi - 2 * (area - wi) * nodes)) for wi in w]
        return 2 * np.sum(weights * jacobian * np.arcsin(np.exp(-w / 2)) * inner)

    def integrand(x):
        return x * (1 + x) * mask_integral(c**2 - x)

    excess = 4 / (math.pi * c**4) * integrate.quad(integrand, 0, c**2, epsrel=1e-9)[0]
    assert inverse_cos2_limit(c) == pytest.approx(1 + 2 * c**2 / 3 + excess, rel=1e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("c", [0.1, 0.3, 1.0, 3.0, 10.0])
def test_recursion_converges_to_the_limit_at_rate_one_over_depth(activation, c):
    angles = [math.acos(cos_bfa_recursion(n, c / math.sqrt(n), activation)[-1]) for n in (800, 1600)]
    error = np.array(angles) - phi_limit(c, activation)
    assert abs(error[0]) < 5e-3
    assert error[0] / error[1] == pytest.approx(2, abs=0.1)
    assert abs(2 * error[1] - error[0]) < 1e-4


def test_linear_limit_is_its_closed_form():
    c = np.array([0.0, 1e-3, 1.0, 100.0])
    np.testing.assert_allclose(np.cos(phi_limit(c, "linear")), (1 + 2 * c**2 / 3) ** -0.5, rtol=1e-12)


def test_small_branches_give_the_linear_angle():
    """Relative to the linear angle the masks add O(c^2), so phi(c)/c tends to sqrt(2/3) without losing digits."""
    c = np.array([1e-8, 1e-5, 1e-3])
    np.testing.assert_allclose(phi_limit(c) / c, math.sqrt(2 / 3), rtol=1e-6)
    assert phi_limit(0.0) == 0.0


@pytest.mark.parametrize("c", [10.0, 30.0, 100.0, 1000.0])
def test_tail_is_one_over_c(c):
    assert inverse_cos2_limit(c) - c**2 == pytest.approx(INVERSE_COS2_TAIL, abs=0.8 / c**2 + 1e-9 * c**2)
    assert math.cos(phi_limit(c)) * math.sqrt(c) < 0.4  # the exponent -1/2 would keep this product constant


def test_limit_increases_with_the_branches():
    assert np.all(np.diff(phi_limit(np.geomspace(1e-3, 100, 40))) > 0)


@pytest.mark.parametrize("width", [2, 5])
def test_scalar_chain_has_the_law_of_dense_nets(width):
    """Every layer's marginal, the share of dead nets, and the law of a two-layer ratio (a joint property)."""
    depth, draws = 9, 6000
    rng = np.random.default_rng(5)
    dense = np.array([dense_cos_bfa(width, depth, 1.0, "relu", rng) for _ in range(draws)])
    chain = sample_mlp_cos_bfa(width, depth, 20_000, rng)
    alive_dense, alive_chain = ~np.isnan(dense).any(axis=1), ~np.isnan(chain).any(axis=1)
    alive = (1 - 2.0**-width) ** (depth - 2)
    assert alive_dense.mean() == pytest.approx(alive, abs=4 * math.sqrt(alive * (1 - alive) / draws))
    assert alive_chain.mean() == pytest.approx(alive, abs=4 * math.sqrt(alive * (1 - alive) / len(chain)))
    dense, chain = dense[alive_dense], chain[alive_chain]
    np.testing.assert_allclose(dense[:, 0], 1.0, rtol=1e-12)
    for layer in range(1, depth - 2):
        assert stats.ks_2samp(dense[:, layer], chain[:, layer]).pvalue > 1e-3
    for layer in range(2, depth - 2):
        ratios = [cos[:, layer] / cos[:, layer - 1] for cos in (dense, chain)]
        assert stats.ks_2samp(*ratios).pvalue > 1e-3


def test_another_width_is_told_apart_by_the_same_comparison():
    """A chain at width 7 does not pass for one at width 5, so the comparison above has power."""
    rng = np.random.default_rng(6)
    five, seven = (sample_mlp_cos_bfa(width, 9, 6000, rng)[:, -1] for width in (5, 7))
    assert stats.ks_2samp(five[~np.isnan(five)], seven[~np.isnan(seven)]).pvalue < 1e-6


@pytest.mark.parametrize(("width", "depth"), [(60, 20), (200, 60)])
def test_mean_inverse_cosine_is_exact_for_the_chain(width, depth):
    inverse = sample_mlp_cos_bfa(width, depth, 20_000, np.random.default_rng(7)) ** -2
    expected = mlp_mean_inverse_cos2(width, depth)
    se = inverse.std(axis=0, ddof=1) / math.sqrt(len(inverse))
    assert inverse[:, 0] == pytest.approx(1)
    assert np.all(np.abs(inverse.mean(axis=0) - expected)[1:] <= 4 * se[1:])
    infinite = cos_bfa_recursion(depth, 1.0) ** -2
    assert abs(inverse[:, -1].mean() - infinite[-1]) > 4 * se[-1]  # the width does matter


def test_finite_width_correction_is_of_order_depth_over_width():
    depth, n = 400, 398
    infinite = (2 * n**2 + 1) / (3 * n)
    widths = np.array([10**5, 10**6])
    first_order = widths * np.array([mlp_mean_inverse_cos2(m, depth)[-1] / infinite - 1 for m in widths])
    np.testing.assert_allclose(first_order, 2 + n / 2, rtol=2e-3)


def test_chain_is_reproducible_and_alive_at_moderate_width():
    first, second = (sample_mlp_cos_bfa(100, 30, 50, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (50, 28)
    assert np.all((first > 0) & (first <= 1))


def test_width_one_nets_are_dead_or_parallel():
    cos = sample_mlp_cos_bfa(1, 4, 2000, np.random.default_rng(4))
    assert np.isnan(cos).any(axis=1).mean() == pytest.approx(0.75, abs=0.04)
    np.testing.assert_array_equal(cos[~np.isnan(cos).any(axis=1)], 1.0)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: cos_bfa_recursion(2, 0.5), "depth"),
        (lambda: cos_bfa_recursion(10, -0.1), "branch_scale"),
        (lambda: cos_bfa_recursion(10, 1.1), "branch_scale"),
        (lambda: cos_bfa_recursion(10, math.nan), "branch_scale"),
        (lambda: cos_bfa_recursion(10, 0.5, "tanh"), "activation"),
        (lambda: phi_limit(-1.0), "c ="),
        (lambda: phi_limit(math.inf), "c ="),
        (lambda: phi_limit(1.0, "gelu"), "activation"),
        (lambda: sample_mlp_cos_bfa(0, 5, 1, np.random.default_rng(0)), "width"),
        (lambda: sample_mlp_cos_bfa(5, 2, 1, np.random.default_rng(0)), "depth"),
        (lambda: mlp_mean_inverse_cos2(2, 5), "width"),
    ],
)
def test_bad_input_raises_one_line(call, named):
    with pytest.raises(ValueError, match=named) as raised:
        call()
    assert "\n" not in str(raised.value)
