"""Against three libraries that measure Hessians: equal products, equal eigenvalues where theirs is the algebraic one.

On networks that all can take: curvlinops has no Hessian of GroupNorm, and neither it nor hessian-eigenthings one of
PyTorch's attention.
"""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import hessian_trace, sharpness
from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import GaussNewton, Hessian
from tests.curvature.cases import Case, Quadratic, dense_of, itself, seeded, symmetric, with_bulk
from tests.probes.cases import normal

with warnings.catch_warnings():  # about torch.jit
    warnings.simplefilter("ignore")
    import curvlinops
    import hessian_eigenthings
    import pyhessian

pytestmark = pytest.mark.filterwarnings("ignore")


def convnet():
    """Convolutions with a stride and groups; batch normalisation and dropout, both in training mode."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 2, bias=False),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


_INPUTS, _LABELS = normal(6, 2, 5, 5), torch.arange(6) % 3
PEER_CASES = {
    "MLP": Case(
        lambda: seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(50, 4), nn.Tanh(), nn.Linear(4, 3))),
        functional.cross_entropy, _INPUTS, _LABELS,
    ),
    "ConvNet": Case(lambda: seeded(convnet), functional.cross_entropy, _INPUTS, _LABELS),
    "ConvNet, mse": Case(lambda: seeded(convnet), functional.mse_loss, _INPUTS, normal(6, 3)),
    "saddle": Case(lambda: Quadratic(symmetric(with_bulk(-5.0, 3.0, size=40))), itself, torch.zeros(1), torch.zeros(1)),
}  # fmt: skip
NETWORKS = [name for name in PEER_CASES if name != "saddle"]
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def _float64():
    """PyHessian draws its vectors in the default precision, and from the global random numbers."""
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(torch.float32)


def mlp():
    """Past some training steps the sharpness is positive and dominates."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = normal(12, 4), torch.arange(12) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, functional.cross_entropy, (x, y)


def saddle():
    """A quadratic whose largest eigenvalue in magnitude is negative."""
    case = PEER_CASES["saddle"]
    return case.build(), case.loss, case.batch


def their_operator(kind, model, loss, batches):
    """A curvlinops operator on a copy of the model in evaluation mode."""
    model = copy.deepcopy(model).eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    criterion = loss
    if loss in (functional.cross_entropy, functional.mse_loss):
        criterion = nn.CrossEntropyLoss() if loss is functional.cross_entropy else nn.MSELoss()
    return kind(model, criterion, parameters, batches)


# --- curvlinops -------------------------------------------------------------------------------------------------------


@every_network
@pytest.mark.parametrize(
    ("ours", "theirs"), [(Hessian, curvlinops.HessianLinearOperator), (GaussNewton, curvlinops.GGNLinearOperator)]
)
def test_products_are_those_of_curvlinops(name, ours, theirs):
    """On one batch, and on uneven ones."""
    case = PEER_CASES[name]
    model = case.build()
    uneven = list(zip(case.inputs.split([1, 3, 2]), case.targets.split([1, 3, 2]), strict=True))
    for batches in ([case.batch], uneven):
        operator = ours(Objective(model, case.loss, batches))
        other = their_operator(theirs, model, case.loss, batches)
        v = normal(1, operator.size)
        torch.testing.assert_close(operator.matvec(v)[0], other @ v[0], rtol=1e-9, atol=1e-11)


def test_eigenvalues_and_trace_are_those_of_curvlinops():
    model, loss, batch = mlp()
    other = their_operator(curvlinops.HessianLinearOperator, model, loss, [batch])
    dense_matrix = other @ torch.eye(other.shape[1])
    found = sharpness(model, loss, batch, 3, 1e-10)
    wanted = torch.linalg.eigvalsh((dense_matrix + dense_matrix.T) / 2).flip(0)[:3]
    torch.testing.assert_close(found.values, wanted, rtol=1e-8, atol=0)
    trace = hessian_trace(model, loss, batch, 200)
    assert abs(trace.value - float(dense_matrix.trace())) < 4 * trace.standard_error


# --- PyHessian --------------------------------------------------------------------------------------------------------


def test_eigenvalues_are_those_of_pyhessian_where_they_are_positive_and_dominate():
    model, loss, batch = mlp()
    peer = pyhessian.hessian(copy.deepcopy(model), loss, data=batch, cuda=False)
    wanted, _ = peer.eigenvalues(maxIter=2000, tol=1e-12, top_n=2)
    assert wanted[0] > 0
    assert sharpness(model, loss, batch, 2, 1e-10).values.tolist() == pytest.approx(wanted, rel=1e-5)


def test_pyhessian_returns_the_dominant_negative_eigenvalue_and_we_do_not():
    model, loss, batch = saddle()
    peer = pyhessian.hessian(copy.deepcopy(model), loss, data=batch, cuda=False)
    assert peer.eigenvalues(maxIter=1000, tol=1e-10)[0][0] == pytest.approx(-5.0, rel=1e-4)
    assert sharpness(model, loss, batch).eigenvalue == pytest.approx(3.0, rel=1e-3)
    assert sharpness(model, loss, batch, smallest=True).eigenvalue == pytest.approx(-5.0, rel=1e-3)


def test_the_trace_is_that_of_pyhessian():
    """Two estimates with random signs: within 4 standard errors of the difference. Its density needs an old PyTorch."""
    model, loss, batch = mlp()
    peer = pyhessian.hessian(copy.deepcopy(model), loss, data=batch, cuda=False)
    theirs = np.array(peer.trace(maxIter=200, tol=0.0))
    ours = hessian_trace(model, loss, batch, 200)
    both = np.hypot(ours.standard_error, theirs.std(ddof=1) / np.sqrt(len(theirs)))
    assert abs(ours.value - theirs.mean()) < 4 * both


def test_pyhessian_leaves_evaluation_mode_behind_and_we_do_not():
    case = PEER_CASES["ConvNet"]
    model, other = (case.build().train() for _ in range(2))
    pyhessian.hessian(other, case.loss, data=case.batch, cuda=False)
    sharpness(model, case.loss, case.batch)
    assert model.training and not other.training
    assert model[0].weight.grad is None and other[0].weight.grad is not None


# --- hessian-eigenthings ----------------------------------------------------------------------------------------------


def eigenthings(model, loss, batches):
    return hessian_eigenthings.HessianOperator(
        copy.deepcopy(model).eval(), batches, hessian_eigenthings.supervised_loss(loss)
    )


@every_network
def test_products_are_those_of_hessian_eigenthings(name):
    case = PEER_CASES[name]
    model = case.build()
    operator, v = Hessian(case.objective(model)), normal(1, case.objective(model).size)
    theirs = eigenthings(model, case.loss, [case.batch]).matvec(v[0])
    torch.testing.assert_close(operator.matvec(v)[0], theirs, rtol=1e-9, atol=1e-11)


def test_uneven_batches_count_by_their_size_unlike_in_hessian_eigenthings():
    """A mean over batches of means differs from the mean over examples."""
    case = PEER_CASES["ConvNet"]
    model = case.build()
    batches = list(zip(case.inputs.split([1, 5]), case.targets.split([1, 5]), strict=True))
    ours, v = Hessian(Objective(model, case.loss, batches)), normal(1, case.objective(model).size)
    torch.testing.assert_close(ours.matvec(v)[0], dense_of(case).hessian @ v[0], rtol=1e-9, atol=1e-11)
    theirs = eigenthings(model, case.loss, batches).matvec(v[0])
    assert float((theirs - ours.matvec(v)[0]).norm() / theirs.norm()) > 0.1


@pytest.mark.parametrize("name", PEER_CASES)
def test_eigenvalues_are_those_of_hessian_eigenthings(name):
    """With ``which="LA"``; its default, the largest in magnitude, is another one where a negative one dominates."""
    case = PEER_CASES[name]
    model = case.build()
    operator = eigenthings(model, case.loss, [case.batch])
    options = {"k": 2, "max_iter": min(120, operator.size), "tol": 1e-10, "reorthogonalize": True, "seed": 0}
    ours = sharpness(model, case.loss, case.batch, 2, 1e-10)
    theirs = hessian_eigenthings.lanczos(operator, which="LA", **options).eigenvalues
    torch.testing.assert_close(ours.values, theirs.double(), rtol=1e-8, atol=0)
    ends = torch.linalg.eigvalsh(dense_of(case).hessian)[[0, -1]]
    default = float(hessian_eigenthings.lanczos(operator, **options).eigenvalues[0])
    assert default == pytest.approx(float(ends[ends.abs().argmax()]), rel=1e-8)
    assert (default == pytest.approx(ours.eigenvalue, rel=1e-8)) == (float(ends.sum()) > 0)


def test_power_iteration_of_hessian_eigenthings_finds_the_negative_eigenvalue():
    model, loss, batch = saddle()
    operator = eigenthings(model, loss, [batch])
    found = hessian_eigenthings.deflated_power_iteration(operator, k=1, max_iter=1000, tol=1e-8, seed=0)
    assert float(found.eigenvalues[0]) == pytest.approx(-5.0, rel=1e-4)
    assert largest_eigenvalues(Hessian(Objective(model, loss, batch)))[0].eigenvalue == pytest.approx(3.0, rel=1e-3)
