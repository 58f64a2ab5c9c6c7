"""Lanczos against known spectra and dense matrices, along a training run, and from one measurement to the next."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from featurespeed.curvature.lanczos import Krylov, largest_eigenvalues, random_vectors, smallest_eigenvalues
from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.curvature.operators import GaussNewton, Hessian, Residual, Scaled
from featurespeed.curvature.tracking import Tracker
from featurespeed.measuring.errors import MeasurementError
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.trainer import Trainer
from tests.curvature.cases import CASES, Matrices, dense, largest, relative_error, symmetric, with_bulk
from tests.probes.cases import DOUBLE
from tests.training.cases import Batches, make_job, make_spec

MATRICES = {"hessian": Hessian, "gauss_newton": GaussNewton, "residual": Residual}
SPECTRA = {
    "outliers": with_bulk(3.0, 2.8, 2.0),
    "dominant negative": with_bulk(-50.0, -20.0, 3.0, 1.0),
    "all negative": -1 - with_bulk(1.0).abs(),
    "geometric": 0.8 ** torch.arange(200).double(),
    "wide": torch.cat([-(10 ** torch.linspace(-8, 3, 60)), 10 ** torch.linspace(-8, 2, 60)]).double(),
    "close together": with_bulk(1.0, 1.0 - 1e-4, 1.0 - 2e-4),
    "two values": torch.tensor([2.0, *[-1.0] * 11]).double(),
}


# --- known spectra ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_eigenvalues_of_a_known_spectrum(spectrum, k):
    """Relative error below 1e-8; residuals bound the error and are those of the vectors, which are orthonormal."""
    matrix = symmetric(spectrum)
    operator = Matrices(matrix)
    result = largest_eigenvalues(operator, k, tol=1e-10)[0]
    wanted = spectrum.sort(descending=True).values[:k]
    assert result.converged and not result.warm and math.isnan(result.disagreement)
    assert relative_error(result.values, wanted) < 1e-8
    torch.testing.assert_close(result.vectors @ result.vectors.T, torch.eye(k).double(), rtol=0, atol=1e-10)
    off = (result.vectors @ matrix - result.values[:, None] * result.vectors).norm(dim=1)
    rounding = 1e-13 * float(spectrum.abs().max())
    assert float((off - result.residuals).abs().max()) < rounding
    assert bool(((result.values - wanted).abs() <= result.residuals + rounding).all())
    assert result.products == len(operator.seen)


def test_sharpness_ignores_a_dominant_negative_eigenvalue():
    operator = Matrices(symmetric(with_bulk(-50.0, 3.0)))
    assert largest_eigenvalues(operator)[0].eigenvalue == pytest.approx(3.0, rel=1e-3)
    assert smallest_eigenvalues(operator)[0].eigenvalue == pytest.approx(-50.0, rel=1e-3)


def test_smallest_eigenvalues_come_smallest_first():
    result = smallest_eigenvalues(Matrices(symmetric(with_bulk(-3.0, -2.0, 4.0))), 3, tol=1e-10)[0]
    assert relative_error(result.values, torch.tensor([-3.0, -2.0, -0.3]).double()) < 1e-8
    assert result.eigenvalue == float(result.values[0]) and result.residual == float(result.residuals[0])


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_unit_of_the_matrix_does_not_matter(scale):
    spectrum = with_bulk(3.0, 2.5, -4.0)
    one, other = (largest_eigenvalues(Matrices(c * symmetric(spectrum)), 2)[0] for c in (1.0, scale))
    assert other.products == one.products
    assert relative_error(other.values, scale * one.values) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize(("value", "name"), [(2.0, "identity"), (0.0, "zero"), (-3.0, "negative")])
def test_multiples_of_the_identity(value, name, dtype):
    """Every vector is an eigenvector, and the Krylov space is exhausted at once."""
    result = largest_eigenvalues(Matrices(value * torch.eye(50, dtype=dtype)), 5)[0]
    assert torch.allclose(result.values, torch.full((5,), value, dtype=DOUBLE), rtol=1e-6, atol=0)
    assert result.converged and result.residual <= 1e-6 * abs(value)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_eigenvalues_of_a_tiny_matrix(size):
    matrix = symmetric(torch.linspace(-1, 2, size).double())
    result = largest_eigenvalues(Matrices(matrix), size, tol=1e-10)[0]
    assert torch.allclose(result.values, largest(matrix, size), rtol=1e-12, atol=1e-14)
    assert result.converged and result.products == size


REPEATED = {
    "few values": [3.0] * 3 + [1.0] * 9,
    "few values, large": [3.0] * 3 + [1.0] * 150 + [-2.0] * 150,
    "all at the top": [2.0] * 4,
    "pairs": [5.0, 5.0, 4.0, 4.0, 0.0, -1.0],
}


@pytest.mark.parametrize("values", REPEATED.values(), ids=REPEATED)
def test_an_eigenvalue_counts_as_often_as_it_has_eigenvectors(values):
    matrix = symmetric(values)
    result = largest_eigenvalues(Matrices(matrix), 4, tol=1e-10)[0]
    assert torch.allclose(result.values, largest(matrix, 4), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(result.vectors @ result.vectors.T, torch.eye(4).double(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_no_eigenvalue_is_found_twice(dtype):
    """Without reorthogonalisation, copies of the converged ones appear in a geometric spectrum."""
    spectrum = 100 * 0.6 ** torch.arange(120).double()
    result = largest_eigenvalues(Matrices(symmetric(spectrum).to(dtype)), 12, tol=1e-5)[0]
    assert result.dtype == dtype and result.values.dtype == DOUBLE
    assert float((result.values - spectrum[:12]).abs().max()) < 1e-5 * 100
    assert result.products < 60


def test_float32_finds_the_eigenvalues_to_its_precision():
    spectrum = with_bulk(-40.0, 3.0, 2.5, 2.0)
    result = largest_eigenvalues(Matrices(symmetric(spectrum).float()), 3, tol=1e-6)[0]
    assert relative_error(result.values, torch.tensor([3.0, 2.5, 2.0]).double()) < 1e-5


def test_the_basis_is_orthonormal_and_the_projection_tridiagonal():
    matrix = torch.stack([symmetric(with_bulk(3.0)), symmetric(SPECTRA["wide"].repeat(4)[:400])])
    operator = Matrices(matrix)
    krylov = Krylov(operator, random_vectors(operator, 0))
    for _ in range(60):
        krylov.extend()
    v = krylov.basis
    torch.testing.assert_close(v @ v.mT, torch.eye(60).double().expand(2, -1, -1), rtol=0, atol=1e-12)
    wanted = (v @ matrix @ v.mT).numpy()
    scale = np.abs(matrix.numpy()).max(axis=(1, 2), keepdims=True)
    assert np.max(np.abs(krylov.projection() - wanted) / scale) < 1e-10


# --- when it stops ----------------------------------------------------------------------------------------------------


def test_a_result_that_was_cut_short_says_so():
    operator = Matrices(symmetric(with_bulk(1.0, 0.999, 0.998)))
    result = largest_eigenvalues(operator, tol=1e-10, max_products=12)[0]
    assert not result.converged and result.products == 12
    assert result.residual > 1e-10 * result.eigenvalue


def test_a_tighter_tolerance_costs_more_and_is_met():
    products = []
    for tol in (1e-1, 1e-3, 1e-6, 1e-10):
        result = largest_eigenvalues(Matrices(symmetric(with_bulk(1.0, 0.9, 0.8))), tol=tol)[0]
        products.append(result.products)
        assert abs(result.eigenvalue - 1.0) <= tol and result.converged
        assert result.residual <= 10 * tol  # the error is of second order in it
    assert products == sorted(set(products))


@pytest.mark.parametrize(("gap", "allowed"), [(0.3, 0), (0.1, 1), (0.03, 5), (0.01, 10)])
def test_a_first_eigenvalue_near_the_second_is_seldom_missed(gap, allowed):
    """Of 100 random starts in 400 dimensions: some have so little of the first vector that the second one converges
    before it. The value is then off by the gap at most.
    """
    operator = Matrices(symmetric(with_bulk(1.0 + gap, 1.0, -1.2)))
    found = [largest_eigenvalues(operator, seed=seed)[0] for seed in range(100)]
    misses = [result for result in found if abs(result.eigenvalue / (1.0 + gap) - 1) > 1e-3]
    assert len(misses) <= allowed
    assert all(result.products >= 10 and result.eigenvalue >= 1.0 - 1e-3 for result in found)


@pytest.mark.parametrize("seed", range(5))
def test_a_repeated_eigenvalue_is_found_as_often_as_it_has_eigenvectors(seed):
    """One start has one direction in its plane; further chains of products find the others."""
    values = with_bulk(2.0, 2.0, 2.0, 1.5, 1.2)
    result = largest_eigenvalues(Matrices(symmetric(values)), 5, seed=seed)[0]
    assert result.converged
    torch.testing.assert_close(result.values, values[:5], rtol=1e-3, atol=0)


def test_equal_seeds_give_equal_bits_and_other_seeds_other_starts():
    operator = Matrices(symmetric(with_bulk(2.0, 1.0)))
    one, same, other = (largest_eigenvalues(operator, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one.vectors, same.vectors) and torch.equal(one.values, same.values)
    assert not torch.equal(one.vectors, other.vectors)
    assert other.eigenvalue == pytest.approx(one.eigenvalue, rel=1e-5)


def test_a_member_finds_what_it_finds_alone():
    """Also beside one whose Krylov space is exhausted at once, and one that is 0."""
    matrices = torch.stack(
        [symmetric(with_bulk(3.0, 2.0, size=60)), 2 * torch.eye(60).double(), torch.zeros(60, 60).double(),
         1e6 * symmetric(with_bulk(-5.0, 1.0, size=60), seed=1)]
    )  # fmt: skip
    together = largest_eigenvalues(Matrices(matrices), 2, tol=1e-10, seed=[4, 5, 6, 7])
    for member, seed in enumerate([4, 5, 6, 7]):
        alone = largest_eigenvalues(Matrices(matrices[member]), 2, tol=1e-10, seed=seed)[0]
        assert torch.allclose(together[member].values, alone.values, rtol=1e-9, atol=0)
        assert together[member].products >= alone.products


class Rounded(Matrices):
    """Products to 10 bits wherever TF32 is allowed, as on a GPU."""

    def matvec(self, vectors):
        image = super().matvec(vectors)
        if not torch.backends.cuda.matmul.allow_tf32:
            return image
        mantissa, exponent = torch.frexp(image)
        return torch.ldexp((mantissa * 2**11).round() / 2**11, exponent)


@pytest.mark.parametrize("k", [1, 2])
def test_tf32_products_are_followed_by_a_rayleigh_quotient_in_full_precision(k):
    """An error of d in the vectors is one of d^2 in the values; the setting of the process is left as it was."""
    operator = Rounded(symmetric(with_bulk(3.0, 2.0, -2.5)).float())
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    result = largest_eigenvalues(operator, k, allow_tf32=True)[0]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert relative_error(result.values, torch.tensor([3.0, 2.0][:k]).double()) < 2e-5
    assert result.products == len(operator.seen)
    torch.testing.assert_close(result.vectors @ result.vectors.T, torch.eye(k), rtol=0, atol=1e-5)
    off = (result.vectors @ operator.matrices[0] - result.values[:, None] * result.vectors).norm(dim=1)
    torch.testing.assert_close(off, result.residuals, rtol=1e-2, atol=1e-6)
    assert float(result.residuals.max()) > 1e-5  # what TF32 left in the vectors


def test_values_that_exact_products_do_not_bear_out_have_not_converged():
    """Small ones beside a large one: rounded products have them steady and with small residuals, and wrong."""
    spectrum = 0.5 ** torch.arange(150).double()
    result = largest_eigenvalues(Rounded(symmetric(spectrum).float()), 20, allow_tf32=True)[0]
    assert relative_error(result.values, spectrum[:20]) > 0.1 and not result.converged
    few = largest_eigenvalues(Rounded(symmetric(spectrum).float()), 3, allow_tf32=True)[0]
    assert relative_error(few.values, spectrum[:3]) < 1e-3 and few.converged


class Overflowing(Rounded):
    """Overflows in full precision only."""

    def matvec(self, vectors):
        return super().matvec(vectors) * (1.0 if torch.backends.cuda.matmul.allow_tf32 else math.inf)


def test_an_exact_product_that_is_not_finite_is_one_clear_error():
    with pytest.raises(CurvatureError, match="^a product with the operator is not finite"):
        largest_eigenvalues(Overflowing(symmetric(with_bulk(3.0, 2.0)).float()), 2, allow_tf32=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k = 0: allowed: 1 to the 400 dimensions of the operator"),
        ({"k": 401}, "k = 401: allowed: 1 to the 400 dimensions of the operator"),
        ({"tol": 0.0}, "tol = 0.0: allowed: above 0"),
        ({"tol": -1e-3}, "tol = -0.001: allowed: above 0"),
        ({"tol": math.nan}, "tol = nan: allowed: above 0"),
        ({"k": 3, "max_products": 2}, "max_products = 2: allowed: at least k = 3"),
        ({"seed": [1, 2]}, "seed: 2 given, allowed: one, or one a member, 1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_any_product(arguments, message):
    operator = Matrices(symmetric(with_bulk(1.0)))
    with pytest.raises(MeasurementError) as error:
        largest_eigenvalues(operator, **arguments)
    assert str(error.value) == message and not operator.seen


def test_products_that_are_not_finite_are_one_clear_error():
    operator = Matrices(torch.full((3, 3), math.inf, dtype=DOUBLE))
    with pytest.raises(CurvatureError, match="^a product with the operator is .*: derivatives overflow .*$"):
        largest_eigenvalues(operator)


# --- every model and loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", CASES)
def test_eigenvalues_of_every_model_and_loss_are_those_of_the_dense_matrix(name, matrix):
    """But for one matrix whose eigenvalues all have as many eigenvectors as the network is wide, the three largest."""
    operator = MATRICES[matrix](CASES[name].objective())
    k = 1 if matrix == "residual" and name.startswith("two-layer linear") else 3
    top = largest_eigenvalues(operator, k, tol=1e-10)
    bottom = smallest_eigenvalues(operator, min(k, 2), tol=1e-10) if matrix != "gauss_newton" else None
    for member in range(operator.members):
        wanted = torch.linalg.eigvalsh(getattr(dense(name, member), matrix))
        assert top[member].converged
        assert relative_error(top[member].values, wanted.flip(0)[:k]) < 1e-8
        if bottom is not None:
            assert relative_error(bottom[member].values, wanted[: min(k, 2)]) < 1e-8


# --- along a training run ---------------------------------------------------------------------------------------------

STEPS = [0, 10, 20, 40, 80, 120, 200, 300]


@pytest.fixture(scope="session")
def checkpoints():
    """Operators ``gamma^2 H`` in float32 at eight times of full-batch descent; their largest eigenvalues in float64."""
    spec = make_spec(
        width=16, learning_rates=[0.1], seeds=1, steps=STEPS[-1], batch_size=None, loss="mse", probe_steps=STEPS
    )
    operators = []

    def keep(probe):
        operators.append([_scaled(probe.network.take([0]).to(dtype), dtype) for dtype in (torch.float32, DOUBLE)])
        return []

    Trainer(make_job(spec), on_probe=keep).run()
    return [single for single, _ in operators], [_by_scipy(double) for _, double in operators]


def _scaled(network, dtype):
    x, y = Batches([0], 24, full=True).batch(0)
    objective = Objective(network, LOSSES["mse"], (x.to(dtype), y), members=1, parameters=network.trained)
    return Scaled(Hessian(objective), next(iter(network.weighted.values())).rule.lr_scale)


def _by_scipy(operator):
    def product(v):
        return operator.matvec(torch.from_numpy(v).view(1, -1))[0].numpy()

    matrix = LinearOperator((operator.size, operator.size), matvec=product, dtype=np.float64)
    return float(eigsh(matrix, k=3, which="LA", ncv=60, return_eigenvectors=False).max())


def test_from_50_starts_at_8_checkpoints_of_a_training_run_the_sharpness_is_right(checkpoints):
    """Error <= 1e-3 in at least 99% of the calls, and none that missed it says that it converged."""
    operators, wanted = checkpoints
    assert len(operators) == 8 and max(wanted) > 3 * min(wanted)  # progressive sharpening
    found = [(largest_eigenvalues(o, seed=s)[0], value) for o, value in zip(operators, wanted, strict=True)
             for s in range(50)]  # fmt: skip
    misses = [result for result, value in found if abs(result.eigenvalue - value) > 1e-3 * value]
    unflagged = [result for result in misses if result.converged]
    print(f"{len(found)} calls, {len(misses)} missed, {len(unflagged)} of them unflagged")
    assert len(misses) <= 0.01 * len(found)
    assert not unflagged
    assert np.median([result.products for result, _ in found]) <= 13


def test_a_warm_start_needs_fewer_products_along_a_training_run(checkpoints):
    operators, wanted = checkpoints
    trackers = Tracker(cold_every=100), Tracker(cold_every=1)
    warm, both = ([tracker.measure(operator)[0] for operator in operators] for tracker in trackers)
    assert [record.warm for record in warm] == [False] + [True] * 7
    cold = [largest_eigenvalues(operator)[0].products for operator in operators]
    assert sum(record.products for record in warm[1:]) < 0.9 * sum(cold[1:])
    for record, value in zip(warm + both, wanted * 2, strict=True):
        assert record.eigenvalue == pytest.approx(value, rel=1e-3)
    assert all(record.disagreement < 1e-3 for record in both[1:]) and math.isnan(both[0].disagreement)
