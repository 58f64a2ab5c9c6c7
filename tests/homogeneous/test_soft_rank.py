"""Soft ranks of features: closed forms, limits, and what a rank must not depend on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from featurespeed.homogeneous.soft_rank import gradient_soft_rank, participation_ratio, soft_ranks
from featurespeed.randomness import generator

EXACT = torch.float64
NAMES = ("participation_ratio", "stable_rank", "entropy_rank")


def orthogonal(size: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, dtype=EXACT, generator=generator(seed, "rotation")))[0]


def features(values: list[float], examples: int = 7, units: int = 9) -> Tensor:
    """``[1, n, m]`` with these singular values."""
    left, right = orthogonal(examples, 1)[:, : len(values)], orthogonal(units, 2)[:, : len(values)]
    return (left @ torch.diag(torch.tensor(values, dtype=EXACT)) @ right.T)[None]


def all_ranks(a: Tensor) -> list[float]:
    return [float(getattr(soft_ranks(a), name)) for name in NAMES]


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_equal_singular_values_are_counted(count):
    assert all_ranks(features([3.0] * count)) == pytest.approx([count] * 3, rel=1e-12)


def test_ranks_of_two_singular_values_are_their_closed_forms():
    a = features([2.0, 1.0])  # eigenvalues 4 and 1
    p = [4 / 5, 1 / 5]
    entropy = math.exp(-sum(share * math.log(share) for share in p))
    assert all_ranks(a) == pytest.approx([25 / 17, 5 / 4, entropy], rel=1e-12)
    assert float(participation_ratio(a)) == pytest.approx(25 / 17, rel=1e-12)


def test_ranks_are_ordered_and_lie_between_one_and_the_rank():
    a = torch.randn(20, 12, 30, dtype=EXACT, generator=generator(3, "features")) * torch.logspace(0, -2, 30)
    ranks = soft_ranks(a)
    stable, participation, entropy = ranks.stable_rank, ranks.participation_ratio, ranks.entropy_rank
    assert (stable >= 1).all() and (stable <= participation * (1 + 1e-12)).all()
    assert (participation <= entropy * (1 + 1e-12)).all() and (entropy <= 12).all()


@pytest.mark.parametrize("change", [lambda a: 100 * a, lambda a: a.transpose(1, 2), lambda a: a.flip(1),
                                    lambda a: a @ orthogonal(9, 5), lambda a: torch.cat([a, a], 1)])  # fmt: skip
def test_ranks_do_not_depend_on_scale_rotation_order_or_repeated_examples(change):
    a = torch.randn(1, 7, 9, dtype=EXACT, generator=generator(4, "features"))
    assert all_ranks(change(a)) == pytest.approx(all_ranks(a), rel=1e-10)


def test_participation_ratio_without_eigenvalues_is_that_with_them_in_either_shape():
    for shape in ((3, 5, 40), (3, 40, 5)):
        a = torch.randn(*shape, generator=generator(6, "features"))
        assert torch.allclose(participation_ratio(a), soft_ranks(a).participation_ratio, rtol=1e-5)


def test_features_that_are_all_zero_have_no_rank():
    zero = torch.zeros(1, 4, 3)
    assert all(math.isnan(rank) for rank in all_ranks(zero)) and participation_ratio(zero).isnan().all()


def test_single_precision_features_are_ranked_in_double():
    a = features([1.0, 1e-3])
    assert all_ranks(a.float()) == pytest.approx(all_ranks(a), rel=1e-5)
    assert soft_ranks(a.float()).stable_rank.dtype == EXACT


# --- the soft rank of the gradient ------------------------------------------------------------------------------------


def test_gradient_soft_rank_is_the_participation_ratio_for_isotropic_gradients():
    a = features([3.0, 2.0, 1.0, 0.5])
    assert float(gradient_soft_rank(a, torch.eye(7, dtype=EXACT)[None])) == pytest.approx(all_ranks(a)[0], rel=1e-12)


def test_gradient_soft_rank_is_the_stable_rank_for_gradients_in_the_top_eigenspace():
    a = features([3.0, 2.0, 1.0])
    top = torch.linalg.eigh(a[0] @ a[0].T)[1][:, -1:]
    assert float(gradient_soft_rank(a, (top * torch.tensor([1.0, -2.0]))[None])) == pytest.approx(
        all_ranks(a)[1], rel=1e-12
    )


def test_gradient_soft_rank_of_an_eigenvector_is_the_trace_over_its_eigenvalue():
    a = features([3.0, 2.0, 1.0])
    values, vectors = torch.linalg.eigh(a[0] @ a[0].T)
    for place in (-1, -2, -3):
        found = float(gradient_soft_rank(a, vectors[None, :, place : place + 1 or None]))
        assert found == pytest.approx(float(values.sum() / values[place]), rel=1e-10)


def test_gradient_soft_rank_is_at_least_the_stable_rank_and_does_not_depend_on_scales():
    stream = generator(8, "both")
    a = torch.randn(30, 6, 9, dtype=EXACT, generator=stream) * torch.logspace(0, -2, 9)
    b = torch.randn(30, 6, 4, dtype=EXACT, generator=stream)
    found = gradient_soft_rank(a, b)
    assert (found >= soft_ranks(a).stable_rank * (1 - 1e-12)).all()
    assert torch.allclose(gradient_soft_rank(5 * a, 0.1 * b), found, rtol=1e-12)
