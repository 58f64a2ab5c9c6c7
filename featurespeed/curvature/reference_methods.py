"""Common ways to the largest eigenvalue, as own small implementations that count products: for comparison only.

Nothing is measured with these. They are here so that a figure can say what each costs, and where it is wrong: methods
that look for the largest magnitude return a negative eigenvalue where that dominates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.objective import CurvatureError
from featurespeed.curvature.operators import Operator

#: Relative difference up to which two double-precision measurements count as one value.
AGREEMENT = 1e-8


@dataclass(frozen=True)
class Measured:
    """What a method returns, and what it took.

    Attributes:
        value: its estimate of the largest eigenvalue.
        products: products of the operator with a vector.
        converged: whether its own stopping rule was met.
        residual: ``|A v - value v|`` for its unit vector v, where the method knows it; else NaN.
    """

    value: float
    products: int
    converged: bool
    residual: float = math.nan


class PowerIteration:
    """Power iteration from one start, which can be asked for the estimates of several stopping rules at one cost.

    The rule is that of PyHessian 0.1, App. J.1 of arXiv:2402.17457: stop when the Rayleigh quotient ``v^T A v`` has
    changed by less than ``tol`` relative to the one before, and return the one before. It finds the eigenvalue of
    largest magnitude, whatever its sign.

    Args:
        operator: of one network.
        start: ``[1, size]``, not 0.
    """

    def __init__(self, operator: Operator, start: Tensor):
        self._operator = operator
        self._vector = _normalised(start)
        self._found: list[tuple[float, float]] = []

    def estimate(self, tol: float = 1e-3, max_products: int = 100) -> Measured:
        """The estimate when the rule stops, after ``max_products`` at most. The defaults are PyHessian's."""
        before, residual = self._quotient(0)
        for done in range(1, max_products):
            now, residual_now = self._quotient(done)
            if abs(before - now) / (abs(before) + 1e-6) < tol:
                return Measured(before, done + 1, True, residual)
            before, residual = now, residual_now
        return Measured(before, max_products, False, residual)

    def _quotient(self, index: int) -> tuple[float, float]:
        """The Rayleigh quotient number ``index``, and its residual."""
        while len(self._found) <= index:
            vector = _normalised(self._vector)  # a second time, as the original does
            image = self._operator.matvec(vector)
            value = float((image * vector).sum())
            self._found.append((value, float((image - value * vector).norm())))
            self._vector = _normalised(image)
        return self._found[index]


def _normalised(vector: Tensor) -> Tensor:
    return vector / (vector.norm() + 1e-6)  # as PyHessian does, so that 0 stays 0


def arpack(
    operator: Operator, start: Tensor, which: str = "LM", tol: float = 0.0, vectors: int | None = None
) -> Measured:
    """``scipy.sparse.linalg.eigsh`` for one eigenvalue: implicitly restarted Lanczos (ARPACK).

    Args:
        operator: of one network, with more than one dimension.
        start: ``[1, size]``, not 0.
        which: ``LA``, largest algebraic, or ``LM``, largest magnitude; the defaults here are those of SciPy.
        tol: relative; 0 asks for what the precision of the operator resolves.
        vectors: dimensions of the Krylov space between two restarts, which is also the least cost; default 20.

    An iteration that gives up without an eigenvalue counts as an estimate of 0 that is not converged.
    """
    products = 0
    dtype = start.cpu().numpy().dtype

    def product(vector: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        image = operator.matvec(torch.from_numpy(vector.reshape(1, -1).astype(dtype)).to(start))
        return image.cpu().numpy().ravel()

    linear = LinearOperator((operator.size, operator.size), matvec=product, dtype=dtype)
    options = {"tol": tol, "ncv": vectors, "v0": start.cpu().numpy().ravel(), "return_eigenvectors": False}
    try:
        found = eigsh(linear, k=1, which=which, **options)
    except ArpackNoConvergence as stopped:
        return Measured(float(stopped.eigenvalues[0]) if len(stopped.eigenvalues) else 0.0, products, False)
    return Measured(float(found[0]), products, True)


def true_largest_eigenvalue(operator: Operator, seeds: Sequence[int] = (0, 1), tol: float = 1e-10) -> Measured:
    """The largest eigenvalue of a double-precision operator, measured from several starts that must agree.

    ``products`` are those of all starts.

    Raises:
        CurvatureError: the operator is not in double precision, a measurement did not converge, or two differ by more
            than 1e-8 of the value.
    """
    if operator.dtype != torch.float64:
        raise CurvatureError(f"dtype = {operator.dtype}: allowed for the true eigenvalue: torch.float64")
    found = [largest_eigenvalues(operator, tol=tol, seed=seed)[0] for seed in seeds]
    values = [record.eigenvalue for record in found]
    apart = max(values) - min(values)
    if not all(record.converged for record in found) or apart > AGREEMENT * abs(max(values)):
        raise CurvatureError(
            f"true eigenvalue: {values} from {len(seeds)} starts, converged {[r.converged for r in found]};"
            f" allowed: all converged, and equal to {AGREEMENT:g}"
        )
    best = max(found, key=lambda record: record.eigenvalue)
    return Measured(best.eigenvalue, sum(record.products for record in found), True, best.residual)
