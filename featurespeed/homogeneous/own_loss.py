"""A loss that the caller has written: a function of outputs and targets, differentiated automatically."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from featurespeed.homogeneous.given import EXACT, TaylorError, copies_of, described
from featurespeed.homogeneous.losses import OutputLoss

Function = Callable[[Tensor, Any], Tensor]
Scalar = Callable[[Tensor], Tensor]
SHARES = (1e-2, 1e-4, 1e-6, 1e-8)  # step sizes of differences, in units of the largest output and of 1
ALLOWED = "allowed: a function (outputs [n, m_l], targets) -> scalar of operations of torch"


class OwnLoss(OutputLoss):
    """A function ``(outputs [n, C], targets) -> scalar``, for one network; outputs and derivatives are float64.

    The function gets copies: whatever it does in place, the caller's targets and its own buffers stay as they are.

    Args:
        function: a module, or any other function.
        dtype: in which it gets the outputs, with targets and weights of its own as they are; None: all in float64.
    """

    def __init__(self, function: Function, dtype: torch.dtype | None = None):
        self._function, self._dtype = function, dtype

    def value(self, z: Tensor, y: Any) -> Tensor:
        outputs = z[0].to(self._dtype or EXACT, copy=True)
        value = self._called(outputs, copies_of(y, z.device, None if self._dtype else EXACT))
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TaylorError(f"loss: returns {what}, allowed: a scalar tensor, such as the mean over the batch")
        if not value.is_floating_point():
            raise TaylorError(f"loss: returns {value.dtype}, allowed: a real number".replace("torch.", ""))
        return value.reshape(1).to(z)

    def gradient(self, z: Tensor, y: Any) -> Tensor:
        with _told(1):
            return super().gradient(z, y)

    def second(self, z: Tensor, y: Any, u: Tensor, v: Tensor) -> Tensor:
        with _told(2):
            return super().second(z, y, u, v)

    def third(self, z: Tensor, y: Any, u: Tensor) -> Tensor:
        with _told(3):
            return super().third(z, y, u)

    def check(self, z: Tensor, y: Any, weights: Sequence[Tensor]) -> None:
        """Refuse what is no differentiable function of the outputs alone.

        Args:
            z, y: outputs ``[1, n, C]`` and targets.
            weights: of the network, as they were given.
        """
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = self.value(leaf, y)
            if not value.requires_grad:
                raise TaylorError(
                    "loss: its value cannot be differentiated by the outputs, allowed: operations of torch"
                )
            watched = [leaf, *(w for w in weights if w.requires_grad and not w.is_inference())]
            slopes = torch.autograd.grad(value, watched, allow_unused=True)
        if slopes[0] is None:
            raise TaylorError(
                "loss: its value does not depend on the outputs, allowed: a function of outputs and targets"
            )
        if any(slope is not None for slope in slopes[1:]):
            raise TaylorError(
                "loss: depends on the weights themselves (weight decay?), allowed: a function of outputs and targets"
            )
        value, again = value.detach(), self.value(z, y)
        rounding = 100 * torch.finfo(self._dtype or EXACT).eps  # some sums on a GPU come in any order
        if not torch.allclose(again, value, rtol=rounding, atol=0, equal_nan=True):
            raise TaylorError(
                f"loss: {float(value):g} and then {float(again):g} for the same outputs, allowed: a loss without chance"
            )

    def check_derivatives(self, z: Tensor, y: Any, direction: Tensor, order: int) -> None:
        """Hold the derivatives along a direction against central differences of those of one order less.

        An operation that can be differentiated only once, or a part that is detached, counts as a constant afterwards,
        and nothing else would tell.
        """
        if not direction.any():
            return
        u = direction / direction.abs().max()
        along = (lambda z: self.value(z, y), lambda z: (self.gradient(z, y) * u).sum((1, 2)),
                 lambda z: self.second(z, y, u, u), lambda z: self.third(z, y, u))  # fmt: skip
        for p in range(1, order + 1):
            if _differs(along[p], along[p - 1], z, u, torch.finfo(self._dtype or EXACT).eps):
                once = f"an operation that can be differentiated {p - 1} times only, " if p > 1 else ""
                raise TaylorError(
                    f"loss: its derivative of order {p} is not that of its values ({once}a detached part, a kink at"
                    " these outputs, or rounding errors of a perfect fit), allowed: a lower order of the coefficients,"
                    " a loss that can be differentiated as often, or 'cross_entropy' and 'mse' by name"
                )

    def _called(self, outputs: Tensor, targets: Any) -> Tensor:
        if not isinstance(self._function, nn.Module) or isinstance(self._function, torch.jit.ScriptModule):
            return self._function(outputs, targets)
        own = dict(self._function.named_parameters()) | dict(self._function.named_buffers())
        dtype = None if self._dtype else EXACT
        state = {
            name: part.to(outputs.device, dtype if part.is_floating_point() else None, copy=True)
            for name, part in own.items()
        }
        return functional_call(self._function, state, (outputs, targets))


def own_loss(function: Function, dtype: torch.dtype, z: Tensor, y: Any, weights: Sequence[Tensor]) -> OwnLoss:
    """The loss in float64 if the function takes that, else with outputs in the precision of the network.

    A function may hold tensors in the precision of the network, such as the weights of classes, that do not go together
    with float64.

    Args:
        function: the caller's.
        dtype: precision of the network.
        z, y: outputs ``[1, n, C]``, float64, and targets.
        weights: of the network, as they were given.

    Raises:
        TaylorError: it fails on these outputs, or is no differentiable function of them alone.
    """
    for loss in (OwnLoss(function), OwnLoss(function, dtype)):
        try:
            loss.check(z, y, weights)
            return loss
        except TaylorError:
            raise
        except Exception as error:  # of the caller's code
            failure = error
    raise TaylorError(f"loss: fails with {described(failure)}; {ALLOWED}") from failure


def _differs(derivative: Scalar, function: Scalar, z: Tensor, u: Tensor, eps: float) -> bool:
    """Whether central differences of a function along ``u`` show that a derivative is not its own.

    Steps of many sizes are tried, as some are too long for the function's own scale or cross a kink, and in others
    rounding errors hide all: their size is seen in the shortest steps. The derivative is right if some difference
    agrees with it, or if a shorter step makes the disagreement vanish in the rounding errors (a derivative of 0, beyond
    the kinks).

    Args:
        derivative, function: of ``z``, ``[1]``.
        u: the direction, with a largest entry of 1.
        eps: of the precision in which the function computes.
    """
    claimed, value, largest = float(derivative(z)), float(function(z)), float(z.abs().max())
    sizes = sorted({unit * share for unit in (largest, 1.0) for share in SHARES}, reverse=True)
    steps = [size for size in sizes if size > 100 * eps * largest]
    changes = [float(function(z + step * u) - function(z - step * u)) for step in steps]
    noise = 10 * (max(map(abs, changes[3:][-2:] or changes[-1:]), default=0.0) + eps * abs(value))
    own_rounding = 1e4 * eps * abs(value) / max(largest, 1.0)
    before, seen = 0.0, False
    for step, change in zip(steps, changes, strict=True):
        difference, rounding = change / (2 * step), noise / (2 * step) + own_rounding
        error = abs(difference - claimed)
        if error <= 1e-3 * max(abs(difference), abs(claimed)) or error <= rounding <= 0.01 * before:
            return False
        seen, before = seen or error > rounding, error
    return seen


@contextmanager
def _told(order: int) -> Iterator[None]:
    try:
        yield
    except TaylorError:
        raise
    except Exception as error:  # of the caller's code, or of its derivatives
        raise TaylorError(
            f"loss: its derivative of order {order} fails with {described(error)}; allowed: a lower order of the"
            " coefficients, or a loss that can be differentiated as often"
        ) from error
