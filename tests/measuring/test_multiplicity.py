"""Repeated and close eigenvalues count as often as they are there, and what converged is right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import sharpness
from featurespeed.curvature.krylov import Krylov
from featurespeed.curvature.lanczos import largest_eigenvalues, random_vectors, smallest_eigenvalues
from featurespeed.curvature.operators import Operator
from featurespeed.curvature.tracking import warm_start
from tests.curvature.cases import Matrices, Quadratic, itself, relative_error, symmetric, with_bulk
from tests.measuring.cases import X, hessian, network, normal, spectrum
from tests.probes.cases import DOUBLE

NOTHING = torch.zeros(1), torch.zeros(1)


class Diagonal(Operator):
    """With these eigenvalues; to a Gaussian start it is as any other matrix that has them."""

    def __init__(self, values: torch.Tensor):
        self.values, self.members, self.size = values[None], 1, len(values)
        self.dtype, self.device = values.dtype, values.device

    def matvec(self, vectors):
        return vectors * self.values


def close(count: int, gap: float, first: float = 3.0) -> list[float]:
    """Each below the one before it by ``gap``."""
    return [first * (1 - gap) ** i for i in range(count)]


SPECTRA = {
    "pair": with_bulk(3.0, 3.0, size=120),
    "triple, pair": with_bulk(3.0, 3.0, 3.0, 2.0, 2.0, size=120),
    "six times": with_bulk(*[3.0] * 6, 1.0, size=120),
    "one above a triple": with_bulk(5.0, 3.0, 3.0, 3.0, 1.0, size=120),
    "pairs": with_bulk(4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 1.0, 1.0, size=120),
    "gaps of 1%": with_bulk(*close(6, 0.01), size=120),
    "gaps of 3%": with_bulk(*close(6, 0.03), size=120),
    "pair beside one at 1%": with_bulk(3.0, 3.0, 2.97, 2.0, size=120),
    "distinct": with_bulk(8.0, 5.0, 3.0, 2.0, 1.5, 1.0, size=120),
    "projection": torch.cat([torch.ones(12), torch.zeros(60)]).double(),
    "below 0": -torch.cat([torch.tensor([1.0, 1.0, 1.0, 1.5]), torch.linspace(2, 3, 60)]).double(),
    "all the same": torch.full((40,), -2.0, dtype=DOUBLE),
    "a network's readout": normal(20, seed=4).square().repeat_interleave(3),
}
every_spectrum = pytest.mark.parametrize("name", SPECTRA)


def assert_right(found, values, k, tol):
    """Right where it says so; all of these are found within the products that are allowed."""
    assert found.converged is True
    wanted = values.double().sort(descending=True).values[:k]
    floor = 8 * torch.finfo(found.dtype).eps * float(values.abs().max())
    assert bool(((found.values - wanted).abs() <= tol * wanted.abs() + floor).all()), (found.values, wanted)


@every_spectrum
@pytest.mark.parametrize("k", [2, 4, 10])
def test_eigenvalues_count_as_often_as_they_are_there(name, k):
    values = SPECTRA[name]
    found = largest_eigenvalues(Diagonal(values), k, seed=k)[0]
    assert_right(found, values, k, 1e-3)
    basis = found.vectors
    torch.testing.assert_close(basis @ basis.T, torch.eye(k, dtype=DOUBLE), rtol=0, atol=1e-10)
    off = basis * values - found.values[:, None] * basis
    torch.testing.assert_close(off.norm(dim=1), found.residuals, rtol=1e-3, atol=1e-9)


@every_spectrum
@pytest.mark.parametrize("seed", range(2))
def test_every_seed_finds_them(name, seed):
    values = SPECTRA[name]
    for k, tol in ((1, 1e-3), (3, 1e-2), (5, 1e-3)):
        assert_right(largest_eigenvalues(Diagonal(values), k, seed=seed, tol=tol)[0], values, k, tol)


@every_spectrum
@pytest.mark.parametrize("k", [2, 5])
def test_in_single_precision(name, k):
    values = SPECTRA[name].float()
    assert_right(largest_eigenvalues(Diagonal(values), k)[0], values, k, 1e-3)


@every_spectrum
def test_at_the_lower_end(name):
    values = SPECTRA[name]
    found = smallest_eigenvalues(Diagonal(-values), 4)[0]
    assert found.converged and relative_error(-found.values, values.sort(descending=True).values[:4]) < 1e-3


@every_spectrum
def test_to_many_digits(name):
    values = SPECTRA[name]
    assert_right(largest_eigenvalues(Diagonal(values), 4, tol=1e-9)[0], values, 4, 1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e5, 1e30])
def test_at_any_scale(scale):
    values = scale * SPECTRA["triple, pair"]
    found = largest_eigenvalues(Diagonal(values), 5)[0]
    assert found.converged and relative_error(found.values, values.sort(descending=True).values[:5]) < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_members_with_other_multiplicities_side_by_side(seed):
    lists = [(3.0, 3.0, 3.0, 1.0), (3.0, 2.0, 2.0, 2.0), (3.0, 2.9, 2.8, 2.8)]
    matrices = torch.stack([symmetric(with_bulk(*values, size=80), seed + i) for i, values in enumerate(lists)])
    for found, values in zip(largest_eigenvalues(Matrices(matrices), 4, seed=seed), lists, strict=True):
        assert found.converged and relative_error(found.values, torch.tensor(values, dtype=DOUBLE)) < 1e-3


# --- warm starts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pair", "triple, pair", "gaps of 1%", "one above a triple", "distinct"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_warm_starts_find_them_too(name, k):
    """From the result for the same operator, and for multiples of it."""
    values = SPECTRA[name]
    start = warm_start(largest_eigenvalues(Diagonal(values), k)[0]).unsqueeze(0)
    for moved in (values, values * 1.01, values * 0.5):
        assert_right(largest_eigenvalues(Diagonal(moved), k, start=start)[0], moved, k, 1e-3)


@pytest.mark.parametrize("name", ["pair", "triple, pair", "gaps of 1%", "one above a triple", "distinct"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_warm_starts_where_repeated_eigenvalues_part(name, k):
    values = SPECTRA[name]
    start = warm_start(largest_eigenvalues(Diagonal(values), k)[0]).unsqueeze(0)
    moved = values + 0.02 * torch.cos(torch.arange(120.0))
    found = largest_eigenvalues(Diagonal(moved), k, start=start, seed=1, second_start=True)[0]
    assert_right(found, moved, k, 1e-3)
    assert bool((found.residuals <= 1e-2 * found.values.abs()).all())  # the bounds that it says hold


@pytest.mark.parametrize("by", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_warm_starts_where_another_eigenvalue_has_become_the_first(by, k):
    values = with_bulk(3.0, 2.0, 1.5, 1.2, size=120)
    moved = values.clone()
    moved[2] = 3.0 * (1 + by)
    for seed in range(5):
        start = warm_start(largest_eigenvalues(Diagonal(values), k, seed=seed)[0]).unsqueeze(0)
        found = largest_eigenvalues(Diagonal(moved), k, start=start, second_start=True)[0]
        assert_right(found, moved, k, 1e-3)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_warm_start_within_the_space_of_one_eigenvalue(k):
    """It has nothing of any other eigenvector, and one direction of the first one's."""
    values = SPECTRA["triple, pair"]
    start = torch.zeros(1, 120, dtype=DOUBLE)
    start[0, :3] = torch.tensor([1.0, 2.0, -1.0])
    assert_right(largest_eigenvalues(Diagonal(values), k, start=start)[0], values, k, 1e-3)


def test_warm_starts_of_a_model():
    model = Quadratic(symmetric(with_bulk(3.0, 3.0, 2.0, 2.0, 2.0, size=120)))
    cold = sharpness(model, itself, NOTHING, 5)
    warm = sharpness(model, itself, NOTHING, 5, start=cold)
    wanted = torch.tensor([3.0, 3.0, 2.0, 2.0, 2.0], dtype=DOUBLE)
    for found in (cold, warm):
        assert found.converged and relative_error(found.values, wanted) < 1e-3
    assert warm.warm and not cold.warm


@pytest.mark.parametrize("by", [0.01, 0.05])
def test_a_warm_start_of_sharpness_looks_beyond_the_eigenvalue_that_was_the_first(by):
    """One chain from there does not leave it, in any of these."""
    values = with_bulk(3.0, 2.0, 1.5, 1.2, size=120)
    moved = values.clone()
    moved[2] = 3.0 * (1 + by)
    for seed in range(5):
        before = sharpness(Quadratic(symmetric(values)), itself, NOTHING, seed=seed)
        found = sharpness(Quadratic(symmetric(moved)), itself, NOTHING, start=before)
        assert_right(found, moved, 1, 1e-3)


@pytest.mark.parametrize(("seed", "k"), [(0, 2), (1, 3), (3, 5)])
def test_a_chain_that_was_left_goes_on_where_a_further_one_finds_a_close_value(seed, k):
    """Its residuals are then too large for what is known of the gaps, and no other chain makes them smaller."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10))
        batch = torch.randn(256, 64), torch.randint(0, 10, (256,))
    found = sharpness(net, functional.cross_entropy, batch, k)
    assert found.converged and found.products < 150
    more = sharpness(net, functional.cross_entropy, batch, k + 3, tol=1e-4, seed=1)
    torch.testing.assert_close(found.values, more.values[:k], rtol=1e-3, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_the_chain_that_adds_most_is_the_one_to_go_on_with(seed):
    values = SPECTRA["gaps of 1%"]
    operator = Diagonal(values)
    krylov = Krylov(operator, random_vectors(operator, seed))
    for _ in range(12):
        krylov.extend()
    before = krylov.ritz()[1][0, 0]
    krylov.restart()
    for _ in range(25):
        krylov.extend()
    assert krylov.open_end(1, np.array([True])) == 11
    krylov.resume(11)
    for _ in range(12):
        krylov.extend()
    found, bounds, coordinates = krylov.ritz()
    assert bounds[0, 0] < before / 10 and krylov.chain == 12
    exact = krylov.residuals(coordinates[:, :, :1])[0, 0]
    vector = krylov.vectors(coordinates[:, :, :1])[0, 0]
    assert exact == pytest.approx(float((vector * values - float(found[0, 0]) * vector).norm()), rel=1e-6)
    assert exact <= bounds[0, 0] and krylov.asymmetry[0] < 1e-12


# --- networks whose eigenvalues are repeated --------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2, 3, 5])
@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_model_under_squared_error(outputs, bias):
    """Every eigenvalue of ``2 X^T X / (n outputs)``, as often as there are outputs."""
    model = nn.Linear(4, outputs, bias=bias, dtype=DOUBLE)
    inputs = torch.cat([X, torch.ones(12, 1, dtype=DOUBLE)], 1) if bias else X
    wanted = spectrum(2 * inputs.T @ inputs / (12 * outputs)).repeat_interleave(outputs)
    k = min(len(wanted), 7)
    found = sharpness(model, functional.mse_loss, (X, normal(12, outputs, seed=2)), k)
    assert found.converged and relative_error(found.values, wanted[:k]) < 1e-3


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32])
@pytest.mark.parametrize("k", [2, 4, 8])
def test_the_readout_of_a_network_under_squared_error(dtype, k):
    net = network(hidden=20, outputs=4)
    goal = normal(12, 4, seed=2)
    hidden = net[:2](X)
    features = torch.cat([hidden, torch.ones(12, 1, dtype=DOUBLE)], 1)
    wanted = spectrum(2 * features.T @ features / 48).repeat_interleave(4)[:k].detach()
    net, batch = net.to(dtype), (X.to(dtype), goal.to(dtype))
    found = sharpness(net, functional.mse_loss, batch, k, parameters=net[2].parameters())
    assert found.converged and relative_error(found.values, wanted) < 1e-3
    pieces = sharpness(net, functional.mse_loss, batch, k, parameters=net[2].parameters(), micro_batch=6)
    assert pieces.converged and relative_error(pieces.values, wanted) < 1e-3


def test_a_symmetric_network_has_each_eigenvalue_twice():
    """Two copies side by side, each with a batch of its own that is the same."""
    net, twin = network(), network()
    both = nn.ModuleList([net, twin])

    def loss(model, batch):
        return sum(functional.cross_entropy(part(batch[0]), batch[1]) for part in model)

    labels = torch.arange(12) % 3
    wanted = spectrum(hessian(lambda: functional.cross_entropy(net(X), labels), net.parameters()))[:3]
    found = sharpness(both, loss, (X, labels), 6)
    assert found.converged and relative_error(found.values, wanted.repeat_interleave(2)) < 1e-3


# --- what converged is right ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_converged_is_right(k):
    """Random spectra: of those that say so, 98% and more are right.

    A start that is random has next to nothing of the eigenvector that is looked for once in a while.
    """
    stream = torch.Generator().manual_seed(k)
    said, wrong = 0, 0
    for seed in range(60):
        size, outliers = (int(torch.randint(*of, (), generator=stream)) for of in ((20, 60), (1, 6)))
        repeated = (1 + 2 * torch.rand(outliers, generator=stream, dtype=DOUBLE)).repeat_interleave(1 + seed % 3)
        values = torch.cat([repeated, 0.5 * torch.randn(size, generator=stream, dtype=DOUBLE).clamp(-2, 1)])
        found = largest_eigenvalues(Diagonal(values), k, seed=seed, max_products=40)[0]
        said += found.converged
        wrong += found.converged and relative_error(found.values, values.sort(descending=True).values[:k]) > 2e-3
    assert said > 45 and wrong <= 0.02 * said


def test_products_that_do_not_suffice():
    for k, most in ((2, 11), (4, 14), (10, 20)):
        found = largest_eigenvalues(Diagonal(SPECTRA["gaps of 1%"]), k, max_products=most)[0]
        assert found.converged is False and found.products <= most and found.values.shape == (k,)
