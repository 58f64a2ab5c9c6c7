"""Curvature of any module's loss in one call: sharpness, trace, spectral density.

result = sharpness(model, torch.nn.functional.cross_entropy, (images, labels))
result.eigenvalue, result.residual, result.products, result.converged
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from featurespeed.curvature import stochastic
from featurespeed.curvature.krylov import Krylov
from featurespeed.curvature.lanczos import (
    MAX_PRODUCTS,
    Eigenvalues,
    largest_asymmetry,
    largest_eigenvalues,
    random_vectors,
    smallest_eigenvalues,
)
from featurespeed.curvature.objective import CurvatureError, Loss, Objective
from featurespeed.curvature.operators import GaussNewton, Hessian, Operator, Residual, Scaled
from featurespeed.curvature.place import Place
from featurespeed.curvature.stochastic import SpectralDensity, Trace
from featurespeed.curvature.tracking import warm_start
from featurespeed.measuring.arguments import flag, whole_number
from featurespeed.measuring.context import random_numbers_kept
from featurespeed.measuring.errors import kind_of, reported_as

MATRICES: dict[str, type] = {"hessian": Hessian, "gauss_newton": GaussNewton, "residual": Residual}
Matrix = Literal["hessian", "gauss_newton", "residual"]
Batches = Any  # in the form of featurespeed.measuring.batches
FEW = 6  # products that show whether a matrix is symmetric
NOTHING = 1e-3  # of what products are in the network's precision, in float64: they are rounding


def sharpness(
    model: nn.Module,
    loss: Loss,
    batch: Batches,
    k: int = 1,
    tol: float = 1e-3,
    *,
    matrix: Matrix = "hessian",
    smallest: bool = False,
    rates: Sequence[float] | None = None,
    start: Eigenvalues | None = None,
    parameters: Sequence[Tensor] | None = None,
    micro_batch: int | None = None,
    batch_weight: Callable[[Any], float] | None = None,
    seed: int = 0,
    max_products: int = MAX_PRODUCTS,
    allow_tf32: bool = False,
) -> Eigenvalues:
    """The ``k`` largest algebraic eigenvalues of the Hessian of a loss by a module's parameters.

    The largest algebraic eigenvalue is what gradient descent feels (stable up to ``2 / learning rate``); the largest in
    magnitude, which power iteration finds, is another one wherever a negative eigenvalue dominates.

    Args:
        model: any module; its mode, weights and gradients are left alone. Measured in evaluation mode.
        loss: ``(outputs, targets) -> scalar``, a mean over examples, such as ``torch.nn.functional.cross_entropy``.
        batch: ``(inputs, targets)``, or several such pairs, which count by their size.
        k: how many eigenvalues.
        tol: relative accuracy to ask for.
        matrix: ``hessian`` H, ``gauss_newton`` G, or ``residual`` R = H - G.
        smallest: the ``k`` smallest ones instead.
        rates: a factor on each parameter tensor's learning rate, in the order of ``model.parameters()``; the
            eigenvalues are then those of ``D H`` and compare with ``2 / base learning rate``.
        start: an earlier result, whose vectors are a warm start: fewer products for ``k > 1``. For ``k = 1`` about as
            many as without, because most of them look for another eigenvalue that has become the first.
        parameters: take a block of the matrix: these parameters only, such as one layer's.
        micro_batch: so many examples at a time, where the whole batch does not fit into memory.
        batch_weight: what a batch counts for; default: its number of examples.
        seed: of the random start.
        max_products: give up after so many products (``converged`` is then False).
        allow_tf32: on a GPU, make most products in TF32.

    Returns:
        A record with ``eigenvalue``, ``residual``, ``products``, ``converged``, and all ``values`` and ``vectors``.

    Raises:
        CurvatureError: NaN weights, an empty batch, no parameters, ``k`` outside 1 to the number of parameters.

    Source: arXiv:2402.17457, Sec. 2 (sharpness) and App. J.1.
    """
    with reported_as(CurvatureError), random_numbers_kept(model):
        if not isinstance(matrix, str) or matrix not in MATRICES:
            raise CurvatureError(f"matrix = {matrix!r}: allowed: {', '.join(MATRICES)}")
        seed = whole_number("seed", seed, 0)
        flags = {name: flag(name, value) for name, value in (("smallest", smallest), ("allow_tf32", allow_tf32))}
        objective = Objective(
            model, loss, batch, parameters=parameters, micro_batch=micro_batch, batch_weight=batch_weight
        )
        operator: Operator = MATRICES[matrix](objective)
        if rates is not None:
            operator = Scaled(operator, objective.fill(_one_each(rates, objective)))
        first = None if start is None else _as_start(start, operator)
        solve = smallest_eigenvalues if flags["smallest"] else largest_eigenvalues
        found = solve(
            operator, k, tol=tol, start=first, seed=seed, max_products=max_products, allow_tf32=allow_tf32,
            second_start=first is not None,
        )[0]  # fmt: skip
        return _believed(found, objective, MATRICES[matrix])


def hessian_trace(
    model: nn.Module,
    loss: Loss,
    batch: Batches,
    vectors: int = 30,
    *,
    parameters: Sequence[Tensor] | None = None,
    micro_batch: int | None = None,
    batch_weight: Callable[[Any], float] | None = None,
    seed: int = 0,
) -> Trace:
    """Trace of the Hessian with its standard error, from ``vectors`` products (Hutchinson); arguments as above."""
    with reported_as(CurvatureError), random_numbers_kept(model):
        vectors = whole_number("vectors", vectors, 1)
        seed = whole_number("seed", seed, 0)
        objective = Objective(
            model, loss, batch, parameters=parameters, micro_batch=micro_batch, batch_weight=batch_weight
        )
        return _believed(stochastic.trace(Hessian(objective), vectors, seed)[0], objective)


def spectral_density(
    model: nn.Module,
    loss: Loss,
    batch: Batches,
    vectors: int = 4,
    steps: int = 60,
    *,
    parameters: Sequence[Tensor] | None = None,
    micro_batch: int | None = None,
    batch_weight: Callable[[Any], float] | None = None,
    seed: int = 0,
) -> SpectralDensity:
    """Distribution of the Hessian's eigenvalues from ``vectors * steps`` products (stochastic Lanczos quadrature)."""
    with reported_as(CurvatureError), random_numbers_kept(model):
        vectors, steps = whole_number("vectors", vectors, 1), whole_number("steps", steps, 1)
        seed = whole_number("seed", seed, 0)
        objective = Objective(
            model, loss, batch, parameters=parameters, micro_batch=micro_batch, batch_weight=batch_weight
        )
        return _believed(stochastic.spectral_density(Hessian(objective), vectors, steps, seed)[0], objective)


Evidence = TypeVar("Evidence", Eigenvalues, Trace, SpectralDensity)


def _believed(found: Evidence, objective: Objective, matrix: type[Operator] = Hessian) -> Evidence:
    """What was measured, unless its products were not those of one symmetric matrix."""
    allowed = largest_asymmetry(found.dtype)
    if found.asymmetry <= allowed:
        return found
    cause = "the forward pass changes from call to call, or an operation in it has a wrong second derivative"
    if found.dtype != torch.float64 and _lost_in_rounding(objective, matrix):
        cause = "by these parameters the curvature is lost in rounding: measure in float64, model.double()"
    raise CurvatureError(
        f"model: asymmetry = {found.asymmetry:.2g} of products with its second derivatives, allowed: {allowed}; {cause}"
    )


def _lost_in_rounding(objective: Objective, matrix: type[Operator]) -> bool:
    """Whether products are symmetric in float64, or hardly there."""
    place = Place(objective, torch.float64)
    try:
        own = _few_products(matrix(objective))
        exact = place.at(place.weights, lambda here: _few_products(matrix(here)))
    except (RuntimeError, TypeError, ValueError):  # operations that do not know float64
        return False
    return exact.asymmetry.max() <= largest_asymmetry(torch.float64) or exact.norm < NOTHING * own.norm


def _few_products(operator: Operator) -> Krylov:
    with operator.measuring():
        krylov = Krylov(operator, random_vectors(operator, 0))
        for _ in range(min(FEW, operator.size)):
            krylov.extend()
    return krylov


def _one_each(rates: Any, objective: Objective) -> list[float]:
    try:
        values = [float(rate) for rate in rates]
    except (TypeError, ValueError):
        raise CurvatureError(
            f"rates: {kind_of(rates)}, allowed: a list of numbers, one a parameter, {len(objective.parameters)}"
        ) from None
    if len(values) != len(objective.parameters):
        raise CurvatureError(f"rates: {len(values)} given, allowed: one a parameter, {len(objective.parameters)}")
    return values


def _as_start(start: Any, operator: Operator) -> Tensor:
    if not isinstance(start, Eigenvalues):
        raise CurvatureError(f"start: {kind_of(start)}, allowed: an earlier result of sharpness")
    if start.vectors.shape[1] != operator.size:
        raise CurvatureError(f"start: of {start.vectors.shape[1]} dimensions, allowed: {operator.size}")
    return warm_start(start).unsqueeze(0).to(device=operator.device, dtype=operator.dtype)
