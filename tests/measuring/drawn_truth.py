"""What is true of a drawn problem: plain autograd row by row, and differences of real steps; all in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.measuring.drawn import FLAT_LOSSES, Problem, called, flat_targets, flattened, weight_of
from tests.measuring.drawn_modules import DOUBLE, Choice, Network

STEP = 1e-5  # largest change of a parameter


@torch.inference_mode(False)
@torch.enable_grad()
def dense(problem: Problem, places: list[int], matrix: str = "hessian") -> Tensor:
    """``[P, P]``: H, G or H - G of the loss of all data, by the trained parameters at these places; float64."""
    model = exact(problem.model)
    trained = [p for p in model.parameters() if p.requires_grad]
    wanted = [trained[place] for place in places]
    with sdpa_kernel(SDPBackend.MATH):
        outputs, loss = _outputs_and_loss(problem, model)
        hessian = _rows(_flat_gradient(loss(outputs), wanted), wanted)
        if matrix == "hessian":
            return hessian
        leaf = outputs.detach().requires_grad_()
        curvature = _rows(_flat_gradient(loss(leaf), [leaf]), [leaf])
        jacobian = _rows(outputs.flatten(), wanted)
    gauss_newton = jacobian.T @ curvature @ jacobian
    return gauss_newton if matrix == "gauss_newton" else hessian - gauss_newton


def exact(module: nn.Module) -> nn.Module:
    """A copy in float64 and in evaluation mode."""
    return copy.deepcopy(module).double().eval()


def _outputs_and_loss(problem: Problem, model: Network) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Outputs ``[N, classes]`` of all data, and the loss as a function of them."""
    choice, outputs, targets = problem.choice, [], []
    for batch in problem.batches:
        inputs, wanted = (batch, batch["labels"]) if isinstance(batch, dict) else batch
        outputs.append(flattened(called(choice, model, doubled(inputs))))
        targets.append(flat_targets(choice, doubled(wanted)))
    sizes, flat = [len(o) for o in outputs], FLAT_LOSSES[choice.loss]
    whole = None if targets[0] is None else torch.cat(targets)

    def loss(values: Tensor) -> Tensor:
        if not choice.weighted:
            return flat(values.clone(), whole)
        weights = [weight_of(batch if isinstance(batch, dict) else batch[1]) for batch in problem.batches]
        parts = [flat(o.clone(), t) for o, t in zip(values.split(sizes), targets, strict=True)]
        return sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)

    return torch.cat(outputs), loss


def doubled(tree: Any) -> Any:
    """A copy in float64."""
    if isinstance(tree, dict):
        return {name: doubled(value) for name, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(doubled(value) for value in tree)
    if tree is None:
        return None
    return tree.double() if tree.is_floating_point() and tree.dtype != DOUBLE else tree.clone()


def _flat_gradient(value: Tensor, parameters: list[Tensor]) -> Tensor:
    found = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def _rows(values: Tensor, parameters: list[Tensor]) -> Tensor:
    return torch.stack(list(_derivatives(values, parameters)))


def _derivatives(values: Tensor, parameters: list[Tensor]) -> Iterator[Tensor]:
    size = sum(parameter.numel() for parameter in parameters)
    for value in values:
        if not value.requires_grad:
            yield torch.zeros(size, dtype=DOUBLE)
            continue
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        yield torch.cat([derivative.flatten() for derivative in found])


# --- gradient descent -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Motion:
    """Of a chain under gradient descent: per layer its features, their velocities, derivatives of the loss by them."""

    features: list[Tensor]
    velocities: list[Tensor]
    backward: list[Tensor]
    gradient_norms: list[float]


@torch.inference_mode(False)
@torch.enable_grad()
def motion(choice: Choice, layers: Sequence[nn.Module], batch: Any, rates: Sequence[float]) -> Motion:
    """Central differences of real steps; a parameter moves once, at the rate of the first layer that has it."""
    links = exact(nn.ModuleList(layers))
    owner: dict[Tensor, int] = {}
    for place, link in enumerate(links):
        for parameter in link.parameters():
            if parameter.requires_grad:
                owner.setdefault(parameter, place)
    with sdpa_kernel(SDPBackend.MATH):
        features = _features(choice, links, batch)
        targets = flat_targets(choice, doubled(batch["labels"] if isinstance(batch, dict) else batch[1]))
        loss = FLAT_LOSSES[choice.loss](flattened(features[-1].clone()), targets)
        found = torch.autograd.grad(loss, [*features, *owner], allow_unused=True, materialize_grads=True)
        gradients = dict(zip(owner, found[len(features) :], strict=True))
        steps = {parameter: rates[owner[parameter]] * g for parameter, g in gradients.items()}
        size = STEP / max((float(step.abs().max()) for step in steps.values()), default=0.0) if _any(steps) else 1.0
        ahead, behind = (_after(choice, links, batch, steps, way * size) for way in (1, -1))
    norms = [sum(float(g.square().sum()) for p, g in gradients.items() if owner[p] == i) for i in range(len(links))]
    velocities = [(a - b) / (2 * size) for a, b in zip(ahead, behind, strict=True)]
    return Motion(features, velocities, list(found[: len(features)]), [norm**0.5 for norm in norms])


def _any(steps: dict[Tensor, Tensor]) -> bool:
    return any(bool(step.any()) for step in steps.values())


def _features(choice: Choice, links: nn.ModuleList, batch: Any) -> list[Tensor]:
    features: list[Tensor] = []
    for link in links:
        if features:  # a copy goes in: a layer that works in place leaves what is before it
            found = link(features[-1].clone())
        else:
            found = called(choice, link, doubled(batch if isinstance(batch, dict) else batch[0]))
        features.append(found if found.requires_grad else found.requires_grad_(torch.is_grad_enabled()))
    return features


@torch.no_grad()
def _after(choice: Choice, links: nn.ModuleList, batch: Any, steps: dict[Tensor, Tensor], time: float) -> list[Tensor]:
    """The features when all parameters have taken a step of gradient descent."""
    before = {parameter: parameter.clone() for parameter in steps}
    for parameter, step in steps.items():
        parameter -= time * step
    found = _features(choice, links, batch)
    for parameter, value in before.items():
        parameter.copy_(value)
    return found
