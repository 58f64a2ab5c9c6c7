"""The vectors of a Krylov space: kept in pieces, in the precision of the products; what is said if they may not fit."""

import warnings

import psutil
import pytest
import torch

from featurespeed.curvature import basis
from featurespeed.curvature.basis import Basis, MemoryWarning, foresee
from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.operators import Operator
from tests.curvature.cases import Matrices, assert_same, largest, symmetric, with_bulk
from tests.probes.cases import DOUBLE, normal


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(basis, "PIECE", (3, 3))


def filled(members: int = 2, size: int = 30, steps: int = 10, dtype: torch.dtype = DOUBLE):
    """A basis of random orthonormal vectors, and the vectors ``[E, steps, size]``."""
    rows = torch.stack([torch.linalg.qr(normal(size, steps, seed=seed))[0].T for seed in range(members)]).to(dtype)
    found = Basis(members, size, rows[:, 0])
    for step in range(steps):
        found.append(rows[:, step])
    return found, rows


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_projections_and_sums_are_those_of_one_matrix(small_pieces, dtype):
    found, rows = filled(dtype=dtype)
    v = normal(2, 30, seed=9).to(dtype)
    rest = v.clone()
    inside = found.project_out(rest)
    assert found.steps == 10 and found.joined().dtype == dtype
    assert torch.equal(found.joined(), rows)
    assert_same(inside, torch.einsum("esp,ep->es", rows, v), rtol=1e-5)
    assert_same(rest, v - torch.einsum("esp,es->ep", rows, inside), rtol=1e-5)
    weights = normal(2, 4, 10, seed=3).to(dtype)
    assert_same(found.combined(weights), weights @ rows, rtol=1e-5)


def test_the_size_of_the_pieces_does_not_matter(monkeypatch):
    matrix = symmetric(with_bulk(3.0, 2.5, 2.5, -4.0))
    whole = largest_eigenvalues(Matrices(matrix), 4, tol=1e-8)[0]
    monkeypatch.setattr(basis, "PIECE", (2, 2))
    pieces = largest_eigenvalues(Matrices(matrix), 4, tol=1e-8)[0]
    assert pieces.products == whole.products
    torch.testing.assert_close(pieces.values, whole.values, rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.values, largest(matrix, 4), rtol=1e-8, atol=0)


def test_pieces_are_never_copied_when_vectors_are_added(small_pieces):
    found, _ = filled(steps=3)
    first = found._pieces[0].data_ptr()
    for step in range(7):
        found.append(normal(2, 30, seed=20 + step))
    assert found._pieces[0].data_ptr() == first and len(found._pieces) == 4


def test_on_a_cpu_there_is_nowhere_to_go(small_pieces):
    found, rows = filled()
    assert found.to_host() is False
    assert torch.equal(found.joined(), rows)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_basis_that_went_to_the_host_is_the_same(small_pieces):
    found, rows = filled()
    device = Basis(2, 30, rows[:, 0].cuda())
    for step in range(7):
        device.append(rows[:, step].cuda())
    assert device.to_host() and device.to_host() is False
    for step in range(7, 10):
        device.append(rows[:, step].cuda())
    assert {piece.device.type for piece in device._pieces} == {"cpu"}
    v, w = normal(2, 30, seed=9), normal(2, 30, seed=9).cuda()
    assert_same(device.project_out(w).cpu(), found.project_out(v), rtol=1e-12)
    assert_same(w.cpu(), v, rtol=1e-12)
    weights = normal(2, 4, 10, seed=3)
    assert_same(device.combined(weights.cuda()).cpu(), found.combined(weights), rtol=1e-12)


def test_vectors_that_will_not_fit_are_foreseen(monkeypatch):
    """With the numbers: 20 vectors of 124 million float32 take 9.2 GiB."""
    cpu = torch.device("cpu")
    free = psutil.virtual_memory()._replace(available=8 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.warns(
        MemoryWarning, match=r"about 20 products take 9\.2 GiB, 8\.0 GiB are free; a block of parameters"
    ):
        foresee(1, 124_000_000, torch.float32, cpu, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        foresee(1, 124_000_000, torch.bfloat16, cpu, 20)  # half of it fits
        foresee(1, 50_000_000, torch.float32, cpu, 20)


def test_vectors_that_are_moved_away_for_a_new_piece_stay(small_pieces):
    class Full(Basis):
        """Memory runs out when the third piece is wanted."""

        def _new_piece(self):
            if self.steps == 6:
                self._device = torch.device("cuda")
                assert self.to_host()
            return super()._new_piece()

    rows = normal(1, 10, 30)
    found = Full(1, 30, rows[:, 0])
    for step in range(10):
        found.append(rows[:, step])
    assert torch.equal(found.joined(), rows)


class Large(Operator):
    members, size, dtype, device = 1, 50_000_000, torch.float32, torch.device("cpu")

    def matvec(self, vectors):
        raise AssertionError("no product is wanted")


def test_it_is_said_before_the_first_product(monkeypatch):
    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    operator = Large()
    with warnings.catch_warnings():
        warnings.simplefilter("error", MemoryWarning)
        with pytest.raises(MemoryWarning, match="are free"):
            largest_eigenvalues(operator)
