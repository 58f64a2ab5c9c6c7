"""What exact products make of eigenvalues of rounded ones: when a few will do, and when each vector needs its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from featurespeed.curvature import exact
from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.tracking import Tracker
from featurespeed.randomness import generator
from tests.curvature.cases import Matrices, relative_error, symmetric, with_bulk

TEN = (6.0, 5.5, 5.0, 4.6, 4.2, 3.8, 3.4, 3.0, 2.6, 2.2)
TOL = 1e-3
FEW = 5  # exact products for ten values


def cut(matrix: Tensor, bits: int = 10) -> Tensor:
    """Its entries without the digits after so many, as tensor cores read them."""
    mantissa, exponent = torch.frexp(matrix)
    return torch.ldexp((mantissa * 2 ** (bits + 1)).trunc() / 2 ** (bits + 1), exponent)


class Changed(Matrices):
    """Products of other matrices wherever TF32 is allowed; counts exact ones."""

    def __init__(self, matrices: Tensor, rounded: Tensor):
        super().__init__(matrices)
        self.rounded = Matrices(rounded)
        self.exact = 0

    def matvec(self, vectors: Tensor) -> Tensor:
        if torch.backends.cuda.matmul.allow_tf32:
            return self.rounded.matvec(vectors)
        self.exact += 1
        return super().matvec(vectors)


def noise(size: int, seed: int = 0) -> Tensor:
    """A random symmetric matrix of norm 1."""
    drawn = torch.randn(size, size, generator=generator(seed, "noise"), dtype=torch.float64)
    found = (drawn + drawn.T) / 2
    return found / torch.linalg.matrix_norm(found, 2)


def matrix(*values: float) -> Tensor:
    return symmetric(with_bulk(*values))


def found_by(operator: Changed, k: int = 10, **options):
    return largest_eigenvalues(operator, k, tol=TOL, allow_tf32=True, **options)


def test_factors_that_are_cut_off_take_half_of_the_exact_products_for_ten_values():
    true = matrix(*TEN).float()
    operator = Changed(true, cut(true))
    (record,) = found_by(operator)
    plain = torch.linalg.eigvalsh(cut(true).double()).flip(0)[:10]
    assert operator.exact == FEW and record.converged
    assert relative_error(record.values, torch.tensor(TEN).double()) < 0.1 * relative_error(
        plain, torch.tensor(TEN).double()
    )
    assert record.products == operator.exact + len(operator.rounded.seen)


def test_a_shift_of_all_values_is_put_right():
    """Without exact products all ten would be off by 8e-4; combinations leave less than a tenth of that."""
    true = matrix(*TEN).float()
    operator = Changed(true, (1 - 8e-4) * true)
    (record,) = found_by(operator)
    assert operator.exact == FEW and record.converged
    assert relative_error(record.values, torch.tensor(TEN).double()) < 5e-5


@pytest.mark.parametrize("member", range(10))
def test_one_value_that_alone_is_wrong_is_found(member):
    """By 0.6 times the tolerance, whichever of ten it is; by more there is a product for each vector."""
    true = matrix(*TEN).double()
    values, vectors = torch.linalg.eigh(true)
    vector = vectors[:, -1 - member]
    for off, products in ((0.6, FEW), (1.5, 1 + 10), (4.0, 1 + 10)):
        wrong = true + off * TOL * values[-1 - member] * torch.outer(vector, vector)
        operator = Changed(true.float(), wrong.float())
        (record,) = found_by(operator)
        assert operator.exact == products and record.converged
        assert relative_error(record.values, torch.tensor(TEN).double()) < 0.3 * TOL


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [1e-3, 4e-3, 0.01, 0.03, 0.1, 0.3])
def test_noise_between_vectors_never_goes_unnoticed(size, seed):
    """A random matrix of any size beside the true one: values are within the tolerance, or have not converged."""
    true = matrix(*TEN).double()
    operator = Changed(true.float(), (true + size * TEN[0] * noise(len(true), seed)).float())
    (record,) = found_by(operator, seed=seed)
    error = relative_error(record.values, torch.tensor(TEN).double())
    assert error < TOL or not record.converged
    assert error < TOL or operator.exact > 10


def test_members_that_do_not_agree_take_the_others_along():
    """One product a vector is made for all: what an ensemble shares are products."""
    true = torch.stack([matrix(*TEN), matrix(*TEN)]).float()
    rounded = true.clone()
    rounded[1] += 0.02 * TEN[0] * noise(true.shape[-1]).float()
    operator = Changed(true, rounded)
    records = found_by(operator)
    assert 10 < operator.exact < 10 + FEW  # left as soon as two combinations do not agree
    for record in records:
        assert relative_error(record.values, torch.tensor(TEN).double()) < TOL


@pytest.mark.parametrize(
    "values", [(*TEN[:5],), (*TEN[:9], 1e-3 * TEN[0]), (*TEN[:4], -1.0)], ids=["few", "small", "negative"]
)
def test_where_combinations_say_little_each_vector_has_its_product(values):
    bulk = torch.linspace(-3.0, -2.0, 60).double() if min(values) < 0 else torch.linspace(-1.0, -0.5, 60).double()
    true = symmetric(torch.cat([torch.tensor(values).double(), bulk])).float()
    operator = Changed(true, cut(true))
    (record,) = found_by(operator, len(values))
    assert operator.exact == len(values)
    assert record.products == len(values) + len(operator.rounded.seen)


def test_values_come_largest_first_also_when_corrections_change_their_order():
    true = matrix(*TEN[:4], 3.0, 2.9985).double()
    values, vectors = torch.linalg.eigh(true)
    swapped = (
        true
        - 1.2e-3 * torch.outer(vectors[:, -5], vectors[:, -5])
        + 1.2e-3 * torch.outer(vectors[:, -6], vectors[:, -6])
    )
    operator = Changed(true.float(), swapped.float())
    (record,) = found_by(operator, 6)
    assert bool((record.values.diff() <= 0).all())
    assert relative_error(record.values, values.flip(0)[:6]) < TOL
    off = (record.vectors @ true.float() - record.values[:, None].float() * record.vectors).norm(dim=1)
    assert float((off.double() / record.values).max()) < 3 * TOL


def test_residuals_grow_by_what_rounding_has_added():
    """Of the size of the true ones, which the rounded products do not know of."""
    true = matrix(*TEN).double()
    operator = Changed(true.float(), (true + 2e-3 * noise(len(true))).float())
    (record,) = found_by(operator)
    assert operator.exact == FEW
    off = (record.vectors.double() @ true - record.values[:, None] * record.vectors.double()).norm(dim=1)
    ratio = float(record.residuals.square().mean().sqrt() / off.square().mean().sqrt())
    assert 0.9 < ratio < 2.5
    assert bool((record.residuals > 0.7 * off).all())


@pytest.mark.parametrize("times", [math.inf, math.nan])
def test_a_combination_that_is_not_finite_is_one_clear_error(times):
    true = matrix(*TEN).float()
    with pytest.raises(exact.CurvatureError, match="^a product with the operator is not finite"):
        found_by(Changed(times * torch.ones_like(true), true))


def test_the_first_of_a_series_may_be_rounded_and_its_checks_may_not():
    true = matrix(*TEN).float()
    operator = Changed(true, cut(true))
    tracker = Tracker(10, tol=TOL, cold_every=2, allow_tf32=True)
    counts = []
    for _ in range(3):
        before = operator.exact
        (record,) = tracker.measure(operator)
        counts.append(operator.exact - before)
    assert counts[:2] == [FEW] * 2
    assert counts[2] > 20  # a measurement from a random start
    assert record.disagreement < TOL / 4


def with_coupling(spectrum: torch.Tensor, couplings: dict[tuple[int, int], float]) -> tuple[Tensor, Tensor]:
    """A matrix, and the same without what couples its eigenvectors; rounding may be of that kind."""
    turn = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator(7, "turn")).double())[0]
    inner = torch.diag(spectrum)
    for (i, j), size in couplings.items():
        inner[i, j] = inner[j, i] = size
    return (turn @ inner @ turn.T).float(), (turn @ torch.diag(spectrum) @ turn.T).float()


@pytest.mark.parametrize("size", [2.0, 2.4, 3.0, 4.4])
@pytest.mark.parametrize("k", [6, 10, 16, 20])
def test_what_rounding_does_to_the_last_vector_alone_is_not_shared_out(k, size):
    """It couples the last one to its close neighbour outside of the k, and no other: combinations hardly see that."""
    bulk = torch.linspace(-0.3, 0.5, 200 - k - 1).double()
    spectrum = torch.cat([torch.linspace(3, 1.3, k - 1).double(), torch.tensor([1.0, 1.0 - 2e-4]).double(), bulk])
    true, rounded = with_coupling(spectrum, {(k - 1, k): size * TOL})
    (record,) = found_by(Changed(true, rounded), k)
    wanted = torch.linalg.eigvalsh(true.double()).flip(0)[:k]
    assert relative_error(record.values, wanted) < TOL or not record.converged
    off = (record.vectors @ true - record.values[:, None].float() * record.vectors).norm(dim=1).double()
    assert bool((record.residuals > 0.9 * off - 1e-6).all())


@pytest.mark.parametrize("seed", range(30))
def test_couplings_that_move_the_first_value_in_all_combinations_alike_are_found(seed):
    """A large value beside many small ones, of which each is mixed with it."""
    drawn = 0.7 * TOL * torch.randn(7, generator=generator(seed, "star")).double()
    spectrum = torch.cat([torch.tensor([10.0]), torch.linspace(1.1, 0.9, 7), torch.linspace(-0.3, 0.5, 100)]).double()
    true, rounded = with_coupling(spectrum, {(0, 1 + i): float(value) for i, value in enumerate(drawn)})
    (record,) = found_by(Changed(true, rounded), 8, seed=seed)
    wanted = torch.linalg.eigvalsh(true.double()).flip(0)[:8]
    assert record.converged and relative_error(record.values, wanted) < TOL


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30])
def test_values_of_any_size_are_found(scale):
    true = scale * matrix(*TEN).float()
    (record,) = found_by(Changed(true, cut(true)))
    assert relative_error(record.values / scale, torch.tensor(TEN).double()) < 1e-4
