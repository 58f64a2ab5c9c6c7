"""Curvature of any module's loss in one call: sharpness, trace, spectral density.

result = sharpness(model, torch.nn.functional.cross_entropy, (images, labels))
result.eigenvalue, result.residual, result.products, result.converged
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from featurespeed.curvature import stochastic
from featurespeed.curvature.blocks import Blocks, blocks_of
from featurespeed.curvature.lanczos import (
    ASYMMETRY,
    MAX_PRODUCTS,
    Eigenvalues,
    largest_asymmetry,
    largest_eigenvalues,
    random_vectors,
    smallest_eigenvalues,
)
from featurespeed.curvature.objective import CurvatureError, Loss, Objective
from featurespeed.curvature.operators import GaussNewton, Hessian, Operator, Residual, Scaled
from featurespeed.curvature.parameters import Parameters, leaves_of
from featurespeed.curvature.preconditioning import Units, units_of
from featurespeed.curvature.stability import Sharpness, with_threshold
from featurespeed.curvature.stochastic import SpectralDensity, Trace
from featurespeed.curvature.tracking import warm_start
from featurespeed.measuring.arguments import flag, whole_number
from featurespeed.measuring.context import undisturbed
from featurespeed.measuring.errors import kind_of, reported_as
from featurespeed.measuring.model import checked_model
from featurespeed.measuring.norms import norm

MATRICES: dict[str, type] = {"hessian": Hessian, "gauss_newton": GaussNewton, "residual": Residual}
Matrix = Literal["hessian", "gauss_newton", "residual"]
Batches = Any  # in the form of featurespeed.measuring.batches
# What rounding does to a product shows when its vector gets shorter by a factor that is no power of two.
SHORTER = 0.7
LOST = {torch.float64: 0.01, torch.float32: 0.01}  # part of a product above which all of it is rounding
LOST_IN_HALF = 0.3
# Largest asymmetry of a matrix whose products round: in units of their rounding, and at all.
EXPLAINED = 30.0
MOST_EXPLAINED = {torch.float64: ASYMMETRY, torch.float32: ASYMMETRY}
MOST_IN_HALF = 0.1
REPEATED = 1e-3  # largest difference of a product from the same one


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
    parameters: Parameters = None,
    micro_batch: int | None = None,
    batch_weight: Callable[[Any], float] | None = None,
    seed: int = 0,
    max_products: int = MAX_PRODUCTS,
    allow_tf32: bool = False,
    optimizer: torch.optim.Optimizer | None = None,
    blocks: Blocks = None,
) -> Sharpness:
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
        parameters: take a block of the matrix: these parameters only, such as one layer's; also by names or patterns,
            of parameters and of parts of the model: ``"readout"``, ``["h.*.attn", "**.bias"]``.
        micro_batch: so many examples at a time, where the whole batch does not fit into memory.
        batch_weight: what a batch counts for; default: its number of examples.
        seed: of the random start.
        max_products: give up after so many products (``converged`` is then False).
        allow_tf32: on a GPU, make most products in TF32.

        optimizer: of this model, as it is now: ``torch.optim.SGD``, ``Adam`` or ``AdamW``. The eigenvalues are then
            those of its own steps, of ``diag(lr_i / lr) P^-1 H`` with lr the first learning rate above 0 of its groups,
            and compare with its ``threshold``: at ``edge`` 1 it turns unstable. SGD: P = 1, ``2 / lr``; with momentum b
            ``(2 + 2b) / ((1 - dampening) lr)``, Nesterov's ``(2 + 2b) / ((1 + 2b) lr)``. Adam and AdamW: P from their
            state, ``P_t = (1 - b1^t) (sqrt(v_t / (1 - b2^t)) + eps)``, and ``(2 + 2 b1) / ((1 - b1) lr)``. Weights that
            never had a gradient from Adam, or are in no group, stand still (rate 0). A weight decay that is added to
            the gradient counts to H, but not to ``residual``; a decoupled one (AdamW) is left out: it lowers the
            threshold by ``lr weight_decay / 2`` of itself.
        blocks: the largest eigenvalue, or with ``smallest`` the smallest, of some diagonal blocks, too: ``"layers"``,
            every part that holds parameters itself; names or patterns as in ``parameters``, a block for each part or
            parameter that fits; or a mapping of your own names to parameters, names or patterns.

    Returns:
        A record with ``eigenvalue``, ``residual``, ``products``, ``converged``, and all ``values`` and ``vectors``;
        ``threshold`` and ``edge``; ``blocks``, a record each; ``.table`` and ``.plot()``.

    Raises:
        CurvatureError: NaN weights, an empty batch, no parameters, ``k`` outside 1 to the number of parameters; names
            that fit nothing; an optimizer that is not known here, has made no step, or whose groups have no common
            threshold.

    Source: arXiv:2402.17457, Sec. 2 (sharpness) and App. J.1; thresholds: arXiv:2103.00065, App. B, and
    arXiv:2207.14484.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        >>> batch = torch.randn(16, 3), torch.randint(2, (16,))
        >>> result = sharpness(net, nn.CrossEntropyLoss(), batch, optimizer=sgd, blocks="layers")
        >>> round(result.threshold, 6), list(result.blocks)
        (38.0, ['0', '2'])
        >>> result.edge < 1
        True
    """
    with reported_as(CurvatureError), undisturbed(model, loss):
        if not isinstance(matrix, str) or matrix not in MATRICES:
            raise CurvatureError(f"matrix = {matrix!r}: allowed: {', '.join(MATRICES)}")
        seed = whole_number("seed", seed, 0)
        flags = {name: flag(name, value) for name, value in (("smallest", smallest), ("allow_tf32", allow_tf32))}
        if rates is not None and optimizer is not None:
            raise CurvatureError("rates: given beside an optimizer, allowed: one of the two")
        units = None if optimizer is None else units_of(optimizer, checked_model(model))
        named: dict[str, list[Tensor]] = {}
        if blocks is not None:
            parameters = leaves_of(checked_model(model), parameters)
            named = blocks_of(checked_model(model), blocks, parameters)
        objective = Objective(
            model, loss, batch, parameters=parameters, micro_batch=micro_batch, batch_weight=batch_weight
        )
        solver = _Solver(
            matrix, units, None if rates is None else _one_each(rates, objective), flags["smallest"],
            {"tol": tol, "seed": seed, "max_products": max_products, "allow_tf32": flags["allow_tf32"]},
        )  # fmt: skip
        whole, operator = solver.solved(objective, k, start)
        whole, found = _believed(whole, operator), {}
        del operator  # and its graph
        for name, chosen in named.items():
            found[name] = _believed(*solver.solved(objective.restricted(chosen), 1, None))
        return replace(whole, blocks=found)


@dataclass(frozen=True)
class _Solver:
    """What is asked of a matrix and of its blocks.

    Attributes:
        rates: id of a parameter -> factor on its learning rate; None: without.
        options: of :func:`largest_eigenvalues`.
    """

    matrix: str
    units: Units | None
    rates: Mapping[int, float] | None
    smallest: bool
    options: Mapping[str, Any]

    def solved(self, objective: Objective, k: int, start: Eigenvalues | None) -> tuple[Sharpness, Operator]:
        """The first ``k`` eigenvalues by the parameters of an objective, and the matrix whose products were taken."""
        operator: Operator = MATRICES[self.matrix](objective)
        factor = 1.0
        threshold: tuple[float, float, str | None] = (math.nan, math.nan, None)
        if self.rates is not None:
            operator = Scaled(operator, objective.fill([self.rates[id(p)] for p in objective.parameters]))
        if self.units is not None:
            operator, factor = self.units.preconditioned(operator, objective, decays=self.matrix != "residual")
            threshold = (self.units.learning_rate, self.units.threshold, self.units.optimizer)
        first = None if start is None else _as_start(start, operator)
        solve = smallest_eigenvalues if self.smallest else largest_eigenvalues
        found = solve(operator, k, start=first, second_start=first is not None, **self.options)[0]
        return with_threshold(found, factor, *threshold), operator


def hessian_trace(
    model: nn.Module,
    loss: Loss,
    batch: Batches,
    vectors: int = 30,
    *,
    parameters: Parameters = None,
    micro_batch: int | None = None,
    batch_weight: Callable[[Any], float] | None = None,
    seed: int = 0,
) -> Trace:
    """Trace of the Hessian with its standard error, from ``vectors`` products (Hutchinson); arguments as above."""
    with reported_as(CurvatureError), undisturbed(model, loss):
        vectors = whole_number("vectors", vectors, 1)
        seed = whole_number("seed", seed, 0)
        objective = Objective(
            model, loss, batch, parameters=parameters, micro_batch=micro_batch, batch_weight=batch_weight
        )
        operator = Hessian(objective)
        return _believed(stochastic.trace(operator, vectors, seed)[0], operator)


def spectral_density(
    model: nn.Module,
    loss: Loss,
    batch: Batches,
    vectors: int = 4,
    steps: int = 60,
    *,
    parameters: Parameters = None,
    micro_batch: int | None = None,
    batch_weight: Callable[[Any], float] | None = None,
    seed: int = 0,
) -> SpectralDensity:
    """Distribution of the Hessian's eigenvalues from ``vectors * steps`` products (stochastic Lanczos quadrature)."""
    with reported_as(CurvatureError), undisturbed(model, loss):
        vectors, steps = whole_number("vectors", vectors, 1), whole_number("steps", steps, 1)
        seed = whole_number("seed", seed, 0)
        objective = Objective(
            model, loss, batch, parameters=parameters, micro_batch=micro_batch, batch_weight=batch_weight
        )
        operator = Hessian(objective)
        return _believed(stochastic.spectral_density(operator, vectors, steps, seed)[0], operator)


Evidence = TypeVar("Evidence", Sharpness, Trace, SpectralDensity)


def _believed(found: Evidence, operator: Operator) -> Evidence:
    """What was measured, unless its products were not those of one symmetric matrix.

    Warns:
        RuntimeWarning: they are rounding, as by parameters on which the loss does not depend.
    """
    allowed = largest_asymmetry(found.dtype)
    if found.asymmetry <= allowed:
        return found
    rounding = _rounding(operator)
    if rounding > LOST.get(found.dtype, LOST_IN_HALF):
        precision = str(found.dtype).removeprefix("torch.")
        remedy = "" if found.dtype == torch.float64 else "; in float64 more may be seen"
        warnings.warn(
            f"the curvature by these parameters is 0 up to rounding in {precision}{remedy}",
            RuntimeWarning, stacklevel=3,
        )  # fmt: skip
        return found
    if found.asymmetry <= min(MOST_EXPLAINED.get(found.dtype, MOST_IN_HALF), EXPLAINED * rounding):
        return found
    raise CurvatureError(
        f"model: asymmetry = {found.asymmetry:.2g} of products with its second derivatives, allowed: {allowed};"
        " the forward pass changes from call to call, or an operation in it has a wrong second derivative"
    )


def _rounding(operator: Operator) -> float:
    """Part of products that changes when vectors become shorter; 0 where it changes by itself."""
    vectors = random_vectors(operator, 0)
    with operator.measuring():
        products = [operator.matvec(vectors * factor) / factor for factor in (1.0, 1.0, SHORTER, SHORTER, 1.0)]
    first, again, shorter, shorter_again, last = products
    size = norm(first) or 1.0
    if max(norm(again - first), norm(shorter_again - shorter), norm(last - first)) > REPEATED * size:
        return 0.0
    return norm(shorter - first) / size


def _one_each(rates: Any, objective: Objective) -> dict[int, float]:
    try:
        values = [float(rate) for rate in rates]
    except (TypeError, ValueError):
        raise CurvatureError(
            f"rates: {kind_of(rates)}, allowed: a list of numbers, one a parameter, {len(objective.parameters)}"
        ) from None
    if len(values) != len(objective.parameters):
        raise CurvatureError(f"rates: {len(values)} given, allowed: one a parameter, {len(objective.parameters)}")
    return {id(parameter): value for parameter, value in zip(objective.parameters, values, strict=True)}


def _as_start(start: Any, operator: Operator) -> Tensor:
    if not isinstance(start, Eigenvalues):
        raise CurvatureError(f"start: {kind_of(start)}, allowed: an earlier result of sharpness")
    if start.vectors.shape[1] != operator.size:
        raise CurvatureError(f"start: of {start.vectors.shape[1]} dimensions, allowed: {operator.size}")
    return warm_start(start).unsqueeze(0).to(device=operator.device, dtype=operator.dtype)
