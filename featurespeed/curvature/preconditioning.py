"""The units of an optimizer: its rates and its preconditioner as a diagonal, and up to which curvature it is stable.

Near a minimum an optimizer with the preconditioner P, the rates ``lr_i = lr D_i`` and a momentum b makes steps of heavy
ball or Nesterov on the quadratic with the matrix ``D P^-1 H``. An eigenvalue of it at the threshold makes a direction
turn round at every step without shrinking; above it, it grows. Thresholds: arXiv:2103.00065, App. B (momentum),
arXiv:2207.14484 (Adam).

A weight decay w that is added to the gradient (SGD, Adam) is the curvature of a loss that the optimizer descends as
well: it adds itself to the diagonal of H. One that is decoupled (AdamW) is none, and is left out. It shrinks weights by
``lr w`` beside the step, and with it the threshold by the factor ``1 - lr w / 2``: where weights turn round,
``-x = (1 - lr w) x - lr m'`` and ``-m = m' = b m + (1 - b) P^-1 H x``.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import Around, Operator
from featurespeed.curvature.parameters import Space, as_real
from featurespeed.measuring.errors import MeasurementError
from featurespeed.measuring.optimizers import checked_optimizer

OPTIMIZERS = "allowed: torch.optim.SGD, Adam or AdamW, and subclasses with the same step"
Group = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """How an optimizer turns gradients into steps.

    Attributes:
        kinds: classes that make their steps so.
        shared: settings that must be the same in all groups that move: with others there is no one threshold.
        limit: learning rate times the largest stable eigenvalue.
        size: entries of the preconditioner of one parameter, float64, from the settings of its group and its state.
    """

    kinds: tuple[type[torch.optim.Optimizer], ...]
    shared: tuple[str, ...]
    limit: Callable[[Group], float]
    size: Callable[[Group, Tensor, Mapping[str, Any]], Tensor]


def _momentum_limit(group: Group) -> float:
    """``2 / lr`` without momentum; ``(2 + 2b) / ((1 - dampening) lr)``, Nesterov's ``(2 + 2b) / ((1 + 2b) lr)``."""
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    if not 0 <= momentum < 1:
        raise MeasurementError(f"optimizer: momentum = {momentum}, allowed: from 0 to below 1")
    if not momentum:
        return 2.0  # dampening is not used then
    if not dampening < 1:
        raise MeasurementError(f"optimizer: dampening = {dampening}, allowed: below 1")
    return (2 + 2 * momentum) / (1 + 2 * momentum if group["nesterov"] else 1 - dampening)


def _average_limit(group: Group) -> float:
    """``(2 + 2 b1) / ((1 - b1) lr)``: heavy ball whose momentum is an average of gradients."""
    decay = float(group["betas"][0])
    return (2 + 2 * decay) / (1 - decay)


def _adam_size(group: Group, parameter: Tensor, state: Mapping[str, Any]) -> Tensor:
    """``P_t = (1 - b1^t) (sqrt(v_t / (1 - b2^t)) + eps)``; infinite where nothing moves.

    A weight that never had a gradient, such as the embedding of a token that has not come yet, has no preconditioner
    but epsilon. It counts as one that does not learn.
    """
    if not _has_stepped(state):
        return torch.full((as_real(parameter.detach()).numel(),), math.inf, dtype=torch.float64)
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    if second.shape != parameter.shape:
        raise MeasurementError(
            f"optimizer: exp_avg_sq of shape {list(second.shape)}, allowed: that of its parameter,"
            f" {list(parameter.shape)}"
        )
    moments, first = _flat(second), _flat(state["exp_avg"])
    step, (first_decay, second_decay) = float(state["step"]), map(float, group["betas"])
    size = (moments / (1 - second_decay**step)).sqrt() + float(group["eps"])
    return ((1 - first_decay**step) * size).masked_fill((moments == 0) & (first == 0), math.inf)


def _flat(tensor: Tensor) -> Tensor:
    """All entries in float64 on the host, real and imaginary parts apart."""
    return as_real(tensor.detach()).reshape(-1).to("cpu", torch.float64)


def _has_stepped(state: Mapping[str, Any]) -> bool:
    return "exp_avg_sq" in state and float(state["step"]) > 0


RULES = (
    Rule(
        (torch.optim.SGD,), ("momentum", "dampening", "nesterov"), _momentum_limit,
        lambda group, parameter, state: torch.ones(as_real(parameter.detach()).numel(), dtype=torch.float64),
    ),
    Rule((torch.optim.AdamW, torch.optim.Adam), ("betas",), _average_limit, _adam_size),
)  # fmt: skip


class Preconditioned(Around):
    """``D^1/2 A D^1/2 + C`` for diagonals ``D >= 0`` and ``C``: with ``C = w D`` as if w were on the diagonal of A.

    Args:
        inner: A.
        root: ``D^1/2``, ``[1, size]``.
        added: C, ``[1, size]``; None where it is 0.
    """

    def __init__(self, inner: Operator, root: Tensor, added: Tensor | None):
        super().__init__(inner)
        self._root, self._added = root, added

    def matvec(self, vectors: Tensor) -> Tensor:
        found = self.inner.matvec(vectors * self._root) * self._root
        return found if self._added is None else found + vectors * self._added

    def scaled(self, factor: float) -> Operator:
        found = copy.copy(self)
        found.inner = self.inner.scaled(factor)
        found._added = None if self._added is None else self._added * factor
        return found


@dataclass(frozen=True, eq=False)
class Units:
    """The units of an optimizer at this time.

    Attributes:
        optimizer: name of its class.
        learning_rate: the first one above 0; eigenvalues are in units of it.
        threshold: the largest stable eigenvalue.
    """

    optimizer: str
    learning_rate: float
    threshold: float
    _rule: Rule
    _places: Mapping[int, tuple[Group, Tensor, Mapping[str, Any]]]

    def preconditioned(self, operator: Operator, objective: Objective, decays: bool) -> tuple[Operator, float]:
        """An operator in these units, divided by its largest rate, which half precision may not hold; and that rate.

        Args:
            operator: of ``objective``.
            decays: whether the weight decay is part of it.
        """
        rates = [self._rates(parameter) for parameter in objective.parameters]
        if not all(bool(torch.isfinite(own).all()) for own in rates):
            raise MeasurementError("optimizer: its second moments are NaN, or 0 with eps = 0, allowed: finite steps")
        largest = max(float(own.max()) for own in rates) or 1.0
        rates = [own / largest for own in rates]
        added = None
        if decays and any(map(self._decay, objective.parameters)):
            parts = [self._decay(p) * own for p, own in zip(objective.parameters, rates, strict=True)]
            added = _joined(parts, objective.space)
        root = _joined([own.sqrt() for own in rates], objective.space)
        return Preconditioned(operator, root, added), largest

    def _rates(self, parameter: Tensor) -> Tensor:
        """``lr_i / (lr P)`` of one parameter, float64, flat."""
        place = self._places.get(id(parameter))
        if place is None:  # in no group: it stands still
            return torch.zeros(as_real(parameter.detach()).numel(), dtype=torch.float64)
        return _rate(place[0]) / self.learning_rate / self._rule.size(*place)

    def _decay(self, parameter: Tensor) -> float:
        """The weight decay that is added to the gradient of a parameter."""
        place = self._places.get(id(parameter))
        if place is None or place[0]["decoupled_weight_decay"]:
            return 0.0
        return float(place[0]["weight_decay"])


def units_of(optimizer: Any, model: nn.Module) -> Units:
    """The units of an optimizer of a model.

    Raises:
        MeasurementError: an optimizer whose threshold is not known here, groups without a common one, one that climbs,
            stands still, or has no preconditioner yet.
    """
    optimizer = checked_optimizer(optimizer, model)
    rule = _rule_of(optimizer)
    moving = [
        group for group in optimizer.param_groups if any(p.requires_grad for p in group["params"]) and _rate(group) > 0
    ]
    if not moving:
        rates = [_rate(group) for group in optimizer.param_groups]
        raise MeasurementError(
            f"optimizer: lr = {', '.join(map(str, rates))}, allowed: above 0 for some parameters that require a"
            " gradient"
        )
    _check_shared(rule, moving)
    held = [p for group in moving for p in group["params"] if p.requires_grad]
    if rule.size is _adam_size and not any(_has_stepped(optimizer.state.get(p, {})) for p in held):
        raise MeasurementError(
            f"optimizer: {type(optimizer).__name__} has no second moments yet, allowed: after its first step"
        )
    rate = _rate(moving[0])
    default = {"decoupled_weight_decay": isinstance(optimizer, torch.optim.AdamW)}  # where groups do not say it
    places = {id(p): (default | group, p, optimizer.state.get(p, {})) for group in moving for p in group["params"]}
    return Units(type(optimizer).__name__, rate, rule.limit(moving[0]) / rate, rule, places)


def _rule_of(optimizer: torch.optim.Optimizer) -> Rule:
    for rule in RULES:
        for kind in rule.kinds:
            if isinstance(optimizer, kind) and _step(type(optimizer)) is _step(kind):
                return rule
    raise MeasurementError(f"optimizer: {type(optimizer).__name__}, {OPTIMIZERS}")


def _step(kind: type[torch.optim.Optimizer]) -> Any:
    """The step of a class without the wrappers that PyTorch puts around it."""
    return inspect.unwrap(kind.step)


def _check_shared(rule: Rule, groups: Sequence[Group]) -> None:
    for key in rule.shared:
        values = [_plain(group[key]) for group in groups]
        if any(value != values[0] for value in values):
            raise MeasurementError(
                f"optimizer: {key} = {', '.join(map(str, values))} in its groups, allowed: the same in all that move"
            )
    if any(group["maximize"] for group in groups):
        raise MeasurementError("optimizer: maximize = True, allowed: False, with a loss that is to fall")


def _rate(group: Group) -> float:
    rate = float(group["lr"])
    if not 0 <= rate < math.inf:
        raise MeasurementError(f"optimizer: lr = {rate}, allowed: finite and not negative")
    return rate


def _plain(value: Any) -> Any:
    """Numbers in the place of tensors."""
    if isinstance(value, (tuple, list)):
        return tuple(_plain(entry) for entry in value)
    return value.item() if isinstance(value, Tensor) else value


def _joined(parts: Sequence[Tensor], space: Space) -> Tensor:
    """One vector ``[1, P]`` of the parameters' flat parts."""
    return torch.cat([part.to(space.dtype) for part in parts]).unsqueeze(0).to(space.device)
