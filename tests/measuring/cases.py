"""Small models and batches for the measuring functions, and what is known of them without these functions.

Dense second derivatives are those of plain automatic differentiation, row by row; speeds are those of real gradient
steps, by central differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from featurespeed.curvature.objective import CurvatureError
from tests.probes.cases import DOUBLE, normal

CLASSES = 3
X = normal(12, 4)
Y = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 1, 2])
BATCH = X, Y
cross_entropy = functional.cross_entropy

#: Every function of the Hessian, as a number that takes few products.
MEASURES: dict[str, Callable[..., float]] = {
    "sharpness": lambda *arguments, **options: sharpness(*arguments, **options).eigenvalue,
    "trace": lambda *arguments, **options: hessian_trace(*arguments, 3, **options).value,
    "density": lambda *arguments, **options: spectral_density(*arguments, 1, 6, **options).mean(),
}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module in float64 with the same weights every time, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double()


def network(inputs: int = 4, hidden: int = 6, outputs: int = CLASSES, seed: int = 0) -> nn.Sequential:
    """Two layers with tanh between them."""
    return seeded(lambda: nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs)), seed)


class Made(nn.Module):
    """The two-layer network inside a forward pass that a test writes: ``forward(network, *inputs)``."""

    def __init__(self, forward: Callable[..., Any], seed: int = 0):
        super().__init__()
        self.net = network(seed=seed)
        self._forward = forward

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self._forward(self.net, *inputs, **named)


def real(tensors: Iterable[Tensor]) -> Tensor:
    """All entries one after the other in float64, real and imaginary parts apart."""
    parts = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
    return torch.cat([part.reshape(-1).to(DOUBLE) for part in parts])


def hessian(loss: Callable[[], Tensor], parameters: Iterable[Tensor]) -> Tensor:
    """``[P, P]``: second derivatives of what ``loss()`` returns, row by row."""
    parameters = list(parameters)
    with sdpa_kernel(SDPBackend.MATH):
        first = torch.autograd.grad(loss(), parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    rows = []
    for gradient in first:
        flat = torch.view_as_real(gradient).reshape(-1) if gradient.is_complex() else gradient.reshape(-1)
        for entry in flat:
            rows.append(_row(entry, parameters))
    return torch.stack(rows)


def _row(entry: Tensor, parameters: list[Tensor]) -> Tensor:
    if not entry.requires_grad:
        return real(torch.zeros_like(p) for p in parameters)
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    return real(torch.autograd.grad(entry, parameters, **options))


def by_differences(loss: Callable[[], Tensor], parameters: Iterable[Tensor], step: float = 1e-5) -> Tensor:
    """``[P, P]``: central differences of first derivatives, symmetrised; the error is of the order ``step^2``."""
    parameters = list(parameters)

    def gradient() -> Tensor:
        return real(torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True))

    rows = []
    for parameter in parameters:
        for entry in parameter.detach().view(-1).unbind():
            kept = entry.clone()
            ends = []
            for sign in (1, -1):
                entry.copy_(kept + sign * step)
                ends.append(gradient())
            entry.copy_(kept)
            rows.append((ends[0] - ends[1]) / (2 * step))
    found = torch.stack(rows)
    return (found + found.T) / 2


def spectrum(matrix: Tensor) -> Tensor:
    """Eigenvalues, largest first."""
    return torch.linalg.eigvalsh(matrix).flip(0)


def top(loss: Callable[[], Tensor], model: nn.Module) -> float:
    """Largest eigenvalue of the Hessian by all parameters that require a gradient."""
    return float(spectrum(hessian(loss, [p for p in model.parameters() if p.requires_grad]))[0])


def real_speeds(
    layers: Sequence[nn.Module], loss: Callable, batch: tuple[Tensor, Tensor], rates: Iterable[float], step: float
) -> Tensor:
    """``|df_v/dt|`` by central differences of real gradient steps ``[L]``, errors of the order ``step^2``.

    Every parameter moves once, by its whole gradient, at the rate of the first layer that has it.
    """
    layers, (x, y) = list(layers), batch
    owners: dict[Tensor, float] = {}
    for layer, rate in zip(layers, rates, strict=True):
        for parameter in layer.parameters():
            if parameter.requires_grad:
                owners.setdefault(parameter, float(rate))

    def features() -> list[Tensor]:
        found = [x]
        for layer in layers:
            found.append(layer(found[-1].clone()))
        return found[1:]

    moving = list(owners)
    gradients = torch.autograd.grad(loss(features()[-1], y), moving, allow_unused=True, materialize_grads=True)

    def after(time: float) -> list[Tensor]:
        kept = [parameter.detach().clone() for parameter in moving]
        with torch.no_grad():
            for parameter, gradient in zip(moving, gradients, strict=True):
                parameter.sub_(time * owners[parameter] * gradient)
            found = [feature.clone() for feature in features()]
            for parameter, value in zip(moving, kept, strict=True):
                parameter.copy_(value)
        return found

    pairs = zip(after(step), after(-step), strict=True)
    return torch.stack([torch.linalg.vector_norm(a - b).to(DOUBLE) / (2 * step) for a, b in pairs])


def refused(
    call: Callable[[], Any], start: str | tuple[str, ...], *parts: str, kind: type[Exception] = CurvatureError
) -> str:
    """The message of a call that must raise one line that begins with ``start``, or one of them, and has ``parts``."""
    with pytest.raises(kind) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(start), message
    for part in parts:
        assert part in message, message
    return message


def right_or_refused(call: Callable[[], float], wanted: float, start: str | tuple[str, ...], rel: float) -> None:
    """A call that returns ``wanted``, or raises one line that begins with ``start``; never another value."""
    try:
        found = call()
    except CurvatureError as error:
        assert str(error).startswith(start) and "\n" not in str(error), error
    else:
        assert found == pytest.approx(wanted, rel=rel)


def forms(model: nn.Module, loss: Callable, batch: Any, **options: Any) -> float:
    """Three quadratic forms of the Hessian, summed, with the same vectors every time: exact, at three products."""
    return hessian_trace(model, loss, batch, 3, **options).value


class Of(nn.Module):
    """A layer with a linear map inside, and a forward pass that a test writes: ``forward(inside, features)``."""

    def __init__(self, forward, inside=None):
        super().__init__()
        self.inside, self._forward = nn.Linear(6, 6) if inside is None else inside, forward

    def forward(self, f):
        return self._forward(self.inside, f)


def assert_real(layers, loss=cross_entropy, batch=BATCH, rates=None, rel=1e-6, step=1e-5):
    """Speeds as of real steps, in evaluation mode; returns what was measured."""
    found = measure_feature_speed(layers, loss, batch, rates)
    modes = [layer.training for layer in layers]
    for layer in layers:
        layer.eval()
    wanted = real_speeds(layers, loss, batch, found.learning_rate, step)
    for layer, mode in zip(layers, modes, strict=True):
        layer.train(mode)
    torch.testing.assert_close(found.feature_speed, wanted, rtol=rel, atol=rel * float(wanted.max()) * 1e-3)
    return found


def assert_formula(found, limit=1e-9):
    assert float(found.formula_error.nan_to_num(0).max()) < limit
