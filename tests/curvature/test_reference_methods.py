"""Other ways to the largest eigenvalue: our versions do what the originals do, and are wrong where those are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import ArpackNoConvergence
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.curvature import reference_methods
from featurespeed.curvature.lanczos import random_vectors
from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.curvature.operators import Hessian, Operator
from featurespeed.curvature.reference_methods import PowerIteration, arpack, true_largest_eigenvalue
from featurespeed.randomness import generator

SIZE = 60


class Diagonal(Operator):
    """A known spectrum, which counts its products."""

    def __init__(self, values: list[float], dtype: torch.dtype = torch.float64):
        self.values = torch.tensor([values], dtype=dtype)
        self.members, self.size, self.dtype, self.device = 1, len(values), dtype, torch.device("cpu")
        self.products = 0

    def matvec(self, vectors: Tensor) -> Tensor:
        self.products += 1
        return vectors * self.values


def spectrum(*ends: float, dtype: torch.dtype = torch.float64) -> Diagonal:
    """``ends``, and many small values of both signs."""
    return Diagonal([*ends, *np.linspace(-0.5, 0.5, SIZE - len(ends)).tolist()], dtype)


def start(operator: Operator, seed: int = 0) -> Tensor:
    return random_vectors(operator, seed)


def network_and_batch(seed: int) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A small network of the default precision, which is PyHessian's."""
    stream = generator(seed, "pyhessian")
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=stream)
    return model, (torch.randn(32, 6, generator=stream), torch.randint(3, (32,), generator=stream))


@pytest.fixture
def double_by_default():
    """PyHessian draws in the default precision; in double, rounding moves no stopping rule."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.usefixtures("double_by_default")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("tol", "most"), [(1e-3, 100), (1e-5, 400), (1e-3, 4)])
def test_power_iteration_is_that_of_pyhessian_product_by_product(seed, tol, most, monkeypatch):
    pyhessian = pytest.importorskip("pyhessian.hessian")
    model, batch = network_and_batch(seed)
    calls, original = [], pyhessian.hessian_vector_product

    def counted(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(pyhessian, "hessian_vector_product", counted)
    torch.manual_seed(seed)
    theirs = pyhessian.hessian(model, functional.cross_entropy, data=batch, cuda=False)
    expected = theirs.eigenvalues(maxIter=most, tol=tol)[0][0]
    model.zero_grad()
    torch.manual_seed(seed)
    drawn = torch.cat([torch.randn(parameter.size()).flatten() for parameter in model.parameters()])
    ours = PowerIteration(Hessian(Objective(model, functional.cross_entropy, batch)), drawn[None]).estimate(tol, most)
    assert ours.products == len(calls)
    assert ours.value == pytest.approx(expected, rel=1e-12)


def test_power_iteration_returns_a_dominant_negative_eigenvalue():
    operator = spectrum(1.0, -1.5)
    found = PowerIteration(operator, start(operator)).estimate(1e-8, 500)
    assert found.converged and found.value == pytest.approx(-1.5, rel=1e-5)


def test_power_iteration_says_that_it_reached_its_limit():
    operator = spectrum(1.0, -1.0)  # no eigenvalue dominates: the quotient settles on a mixture, the vector never
    limited = PowerIteration(operator, start(operator)).estimate(1e-15, 7)
    assert (limited.products, limited.converged) == (7, False)
    assert limited.residual > 0.1


def test_several_stopping_rules_share_their_products():
    operator = spectrum(1.0, 0.8)
    power = PowerIteration(operator, start(operator))
    tight, loose = power.estimate(1e-6, 200), power.estimate(1e-3, 100)
    assert operator.products == tight.products > loose.products
    alone = PowerIteration(operator, start(operator)).estimate(1e-3, 100)
    assert alone == loose


def test_residual_bounds_the_error_of_power_iteration():
    operator = spectrum(1.0, 0.8)
    found = PowerIteration(operator, start(operator)).estimate()
    assert 0 < abs(found.value - 1.0) <= found.residual


@pytest.mark.parametrize("vectors", [None, 10])
def test_arpack_finds_the_largest_algebraic_or_the_largest_magnitude(vectors):
    operator = spectrum(1.0, -1.5)
    algebraic = arpack(operator, start(operator), "LA", vectors=vectors)
    assert algebraic.products == operator.products
    magnitude = arpack(operator, start(operator), vectors=vectors)
    assert (algebraic.value, magnitude.value) == pytest.approx((1.0, -1.5), rel=1e-12)
    assert algebraic.converged and magnitude.converged


def test_arpack_equals_the_dense_hessian():
    model, (x, y) = network_and_batch(0)
    model, batch = model.double(), (x.double(), y)
    operator = Hessian(Objective(model, functional.cross_entropy, batch))
    dense = torch.cat([operator.matvec(row[None]) for row in torch.eye(operator.size, dtype=torch.float64)])
    largest = float(torch.linalg.eigvalsh(dense)[-1])
    assert arpack(operator, start(operator), "LA").value == pytest.approx(largest, rel=1e-10)
    assert true_largest_eigenvalue(operator).value == pytest.approx(largest, rel=1e-10)


def test_a_space_of_fewer_dimensions_makes_arpack_cheaper():
    operator = spectrum(4.0, 1.0, dtype=torch.float32)
    usual, tuned = (arpack(operator, start(operator), "LA", 1e-3, vectors) for vectors in (None, 10))
    assert tuned.products < usual.products
    assert tuned.value == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize(("values", "expected"), [([], 0.0), ([0.7], 0.7)])
def test_arpack_that_gives_up_is_not_converged(values, expected, monkeypatch):
    def gives_up(linear, **options):
        linear.matvec(options["v0"])
        raise ArpackNoConvergence("no convergence", np.array(values), np.zeros((SIZE, len(values))))

    monkeypatch.setattr(reference_methods, "eigsh", gives_up)
    found = arpack(spectrum(1.0), torch.ones(1, SIZE, dtype=torch.float64))
    assert (found.value, found.products, found.converged) == (expected, 1, False)


def test_truth_needs_double_precision():
    with pytest.raises(CurvatureError, match=r"dtype = torch\.float32: allowed .* torch\.float64"):
        true_largest_eigenvalue(spectrum(1.0, dtype=torch.float32))


def test_truth_needs_starts_that_agree(monkeypatch):
    honest = reference_methods.largest_eigenvalues

    def blind(operator, seed, **options):  # from one start only the second eigenvector is seen
        return honest(spectrum(0.9) if seed else operator, seed=seed, **options)

    operator = spectrum(1.0, 0.9)
    assert true_largest_eigenvalue(operator).value == pytest.approx(1.0, rel=1e-12)
    monkeypatch.setattr(reference_methods, "largest_eigenvalues", blind)
    with pytest.raises(CurvatureError, match="true eigenvalue: .* from 2 starts"):
        true_largest_eigenvalue(operator)
