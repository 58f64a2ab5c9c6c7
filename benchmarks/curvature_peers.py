"""Ways to the largest eigenvalues of a Hessian, ours and those of other libraries, behind one face.

Every contestant is given the same module and the same batch, builds what it needs from them, and returns its values and
whether it says of itself that they may be wrong. Products with a vector are counted where each library makes them, not
read from its records. A library that is not installed has no contestants.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from curvature_networks import Batch, Checkpoint
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.curvature.measure import sharpness
from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import Hessian
from featurespeed.curvature.tracking import Tracker
from featurespeed.randomness import generator

MISSED = 1e-3  # relative error above which a value is missed
WRONG = 0.1  # above which it is not that eigenvalue at all
LIBRARIES = {"PyHessian": "pyhessian", "curvlinops": "curvlinops", "hessian-eigenthings": "hessian_eigenthings"}
COLD, WARM = "ours, cold", "ours, warm"
SAME_ERROR = "PyHessian, tuned to our error"
Answer = tuple[Any, bool]  # values, flagged by the contestant itself
Solver = Callable[[nn.Module, Batch, int, int], Answer]  # model, batch, k, seed


@dataclass
class Counter:
    """Products with vectors so far."""

    products: int = 0


@dataclass(frozen=True)
class Call:
    """One answer: largest relative error among its values, what it took, and whether it was flagged."""

    error: float
    products: int
    seconds: float
    flagged: bool


@dataclass(frozen=True)
class Contestant:
    """A way to the k largest eigenvalues.

    Attributes:
        name: in tables.
        start: called at the begin of every trajectory with k and a seed; what it returns measures one checkpoint.
        counts: the object and the name of its function that makes a product.
        columns: products that a call with these arguments makes.
        first: the first checkpoint of a trajectory that counts.
    """

    name: str
    start: Callable[[int, int], Callable[[nn.Module, Batch], Answer]]
    counts: tuple[Any, str] = field(repr=False)
    columns: Callable[..., int] = lambda *_: 1
    first: int = 0


def installed(library: str) -> bool:
    """Whether a library can be imported."""
    return importlib.util.find_spec(LIBRARIES[library]) is not None


# --- eigenvalues ------------------------------------------------------------------------------------------------------


def _each_time(solver: Solver) -> Callable[[int, int], Callable[[nn.Module, Batch], Answer]]:
    """A solver that remembers nothing from one checkpoint to the next; every one of them has its own seed."""

    def start(k: int, seed: int) -> Callable[[nn.Module, Batch], Answer]:
        seeds = iter(range(1000 * seed, 1000 * seed + 1000))
        return lambda model, batch: solver(model, batch, k, next(seeds))

    return start


def _cold(model: nn.Module, batch: Batch, k: int, seed: int) -> Answer:
    found = sharpness(model, functional.cross_entropy, batch, k=k, seed=seed)
    return found.values, not found.converged


def _warm(k: int, seed: int) -> Callable[[nn.Module, Batch], Answer]:
    tracker = Tracker(k, seed=seed)

    def measure(model: nn.Module, batch: Batch) -> Answer:
        (found,) = tracker.measure(Hessian(Objective(model, functional.cross_entropy, batch)))
        return found.values, not found.converged or found.disagreement > MISSED

    return measure


def ours() -> list[Contestant]:
    """This package: from random vectors, and from those of the checkpoint before (the first one is cold)."""
    counts = (Hessian, "matvec")
    return [Contestant(COLD, _each_time(_cold), counts), Contestant(WARM, _warm, counts, first=1)]


def pyhessian(**settings: float) -> Solver:
    """Power iteration, one eigenvalue after the other; it does not say whether it has converged."""
    library = _pyhessian()

    def solve(model: nn.Module, batch: Batch, k: int, seed: int) -> Answer:
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it leaves graphs in .grad, of which PyTorch warns; undone below
            made = library.hessian(model, functional.cross_entropy, data=batch, cuda=False)
            values, _ = made.eigenvalues(top_n=k, **settings)
        made.gradsH = None
        model.zero_grad(set_to_none=True)
        return values, False

    return solve


def eigsh(
    dtype: Any = None, check: bool = True, ncv: Callable[[int], int] = lambda k: max(2 * k + 1, 20), tol: float = 0.0
) -> Solver:
    """curvlinops' Hessian and SciPy's ARPACK, which is told to look for the largest algebraic values."""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import ArpackNoConvergence
    from scipy.sparse.linalg import eigsh as arpack

    def solve(model: nn.Module, batch: Batch, k: int, seed: int) -> Answer:
        parameters = list(model.parameters())
        operator = HessianLinearOperator(
            model, nn.CrossEntropyLoss(), parameters, [batch], check_deterministic=check
        ).to_scipy(dtype)  # fmt: skip
        start = np.random.default_rng(seed).standard_normal(operator.shape[0]).astype(operator.dtype)
        try:
            values = arpack(
                operator, k, which="LA", v0=start, tol=tol, ncv=ncv(k), return_eigenvectors=False
            )  # fmt: skip
        except ArpackNoConvergence as error:
            return error.eigenvalues, True
        return values, False

    return solve


def eigenthings(steps: Callable[[int], int | None] = lambda k: None, **settings: str) -> Solver:
    """hessian-eigenthings' Lanczos, which makes a number of products that it is told."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    def solve(model: nn.Module, batch: Batch, k: int, seed: int) -> Answer:
        operator = HessianOperator(model, [batch], supervised_loss(functional.cross_entropy))
        found = lanczos(operator, k=k, max_iter=steps(k), seed=seed, **settings)
        return found.eigenvalues, not bool(found.converged.all())

    return solve


def _pyhessian() -> Any:
    return importlib.import_module("pyhessian.hessian")  # the package has a class of the same name


def rivals(k: int) -> list[Contestant]:
    """Contestants of the libraries that are installed, for k eigenvalues: at their defaults, and tuned.

    Tuned by hand on the trajectories of `curvature.py`: power iteration has the loosest tolerance whose median error is
    at most MISSED, and a second one for an error as near to ours as it gets (it adds 1e-6 to every norm, so that its
    errors stay above 2e-6); Lanczos of a fixed number of products has so many that few calls miss; eigsh is fastest.
    """
    found: list[Contestant] = []
    if installed("PyHessian"):
        counts = (_pyhessian(), "hessian_vector_product")
        loose, tight = (3e-4, 1e-7) if k == 1 else (3e-5, 1e-6)
        for name, settings in (
            ("PyHessian, defaults", {}),
            ("PyHessian, tuned to 1e-3", {"tol": loose, "maxIter": 1000}),
            (SAME_ERROR, {"tol": tight, "maxIter": 1000}),
        ):
            found.append(Contestant(name, _each_time(pyhessian(**settings)), counts))
    if installed("curvlinops"):
        from curvlinops import HessianLinearOperator

        tuned = eigsh(np.float32, check=False, ncv=lambda k: 10 if k == 1 else 2 * k, tol=1e-3)
        for name, solver in (
            ("curvlinops + eigsh, defaults", eigsh()),
            ("curvlinops + eigsh, float32", eigsh(np.float32)),
            ("curvlinops + eigsh, tuned", tuned),
        ):
            counts = (HessianLinearOperator, "_matmat")
            found.append(Contestant(name, _each_time(solver), counts, lambda _, columns: columns[0].shape[-1]))
    if installed("hessian-eigenthings"):
        from hessian_eigenthings import HessianOperator

        tuned = eigenthings(lambda k: 15 if k == 1 else 5 * k, which="LA")
        for name, solver in (("defaults", eigenthings()), ("tuned", tuned)):
            counts = (HessianOperator, "matvec")
            found.append(Contestant(f"hessian-eigenthings, {name}", _each_time(solver), counts))
    return found


def absent() -> list[str]:
    """Libraries that are not installed."""
    return [library for library in LIBRARIES if not installed(library)]


# --- one call ---------------------------------------------------------------------------------------------------------


@contextmanager
def counting(contestant: Contestant) -> Iterator[Counter]:
    """Count the products that a contestant makes inside."""
    (owner, name), counter = contestant.counts, Counter()
    original = getattr(owner, name)

    def counted(*arguments: Any, **keywords: Any) -> Any:
        counter.products += contestant.columns(*arguments)
        return original(*arguments, **keywords)

    with patch.object(owner, name, counted):
        yield counter


def error_of(values: Any, exact: Tensor, k: int) -> float:
    """Largest relative error of k values, in whatever order they come; infinite where some are missing."""
    found = torch.as_tensor([float(value) for value in values], dtype=torch.float64)
    if len(found) != k:
        return float("inf")
    ordered = found.sort(descending=True).values
    return float(((ordered - exact[:k]) / exact[:k]).abs().max())


def call(contestant: Contestant, measure: Callable[[nn.Module, Batch], Answer], at: Checkpoint, k: int) -> Call:
    """One measurement; its seconds are those that this process, one thread, computes."""
    with counting(contestant) as counter:
        started = time.process_time()
        values, flagged = measure(at.model, at.batch)
        seconds = time.process_time() - started
    return Call(error_of(values, at.exact, k), counter.products, seconds, flagged)


# --- one product ------------------------------------------------------------------------------------------------------


def products(model: nn.Module, batch: Batch) -> dict[str, Callable[[], object]]:
    """Ways to one product with a random vector, everything that is made only once already made."""
    inputs, classes = batch
    parameters = list(model.parameters())
    vector = torch.randn(sum(p.numel() for p in parameters), generator=generator(0, "vector"))
    parts = [part.view_as(p) for part, p in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True)]
    operator = Hessian(Objective(model, functional.cross_entropy, batch))

    def fresh() -> object:
        loss = functional.cross_entropy(model(inputs), classes)
        return torch.autograd.grad(torch.autograd.grad(loss, parameters, create_graph=True), parameters, parts)

    def loss_of(weights: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(torch.func.functional_call(model, weights, (inputs,)), classes)

    names = [name for name, _ in model.named_parameters()]
    weights = dict(zip(names, (p.detach() for p in parameters), strict=True))
    tangents = dict(zip(names, parts, strict=True))
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: operator.matvec(vector.unsqueeze(0)),
        "fresh double backward": fresh,
        "torch.func, forward over reverse": lambda: torch.func.jvp(torch.func.grad(loss_of), (weights,), (tangents,)),
    }
    if installed("PyHessian"):
        slopes = torch.autograd.grad(functional.cross_entropy(model(inputs), classes), parameters, create_graph=True)
        ways["PyHessian"] = lambda: _pyhessian().hessian_vector_product(slopes, parameters, parts)
    if installed("curvlinops"):
        from curvlinops import HessianLinearOperator

        theirs = HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, [batch], check_deterministic=False)
        ways["curvlinops"] = lambda: theirs @ vector
    if installed("hessian-eigenthings"):
        from hessian_eigenthings import HessianOperator, supervised_loss

        things = HessianOperator(model, [batch], supervised_loss(functional.cross_entropy))
        ways["hessian-eigenthings"] = lambda: things.matvec(vector)
    return ways
