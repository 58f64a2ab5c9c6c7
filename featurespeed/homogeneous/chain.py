"""A chain of modules: the weights of its layers, and whether they are all that it computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized

from featurespeed.homogeneous.given import TaylorError, described
from featurespeed.homogeneous.taylor import BackwardPass

ALLOWED = "allowed: an nn.Sequential of nn.Linear without bias, with nn.ReLU between them"
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
GRADIENT_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
TOLERANCE = 1e-7  # of float64 sums in another order, with room for what cancels in them


# --- reading ----------------------------------------------------------------------------------------------------------


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself behind ``torch.compile`` and ``nn.DataParallel``, which compute the same."""
    check_hooks(module, type(module).__name__)
    if type(module) is nn.DataParallel:
        return unwrapped(module.module)
    if _is_compiled(module):
        return unwrapped(module._orig_mod)
    return module


def linear_weights(module: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear layers of a chain, from input to readout.

    Args:
        module: an ``nn.Sequential``, entries of which may be such chains themselves; ``nn.Flatten`` may come first.

    Raises:
        TaylorError: what is no chain of linear layers and ReLU, or a layer that does more than ``A W^T``, or whose
            gradient step is not one of ``W``.
    """
    if not _computes_as(module, nn.Sequential):
        raise TaylorError(f"weights: {type(module).__name__}, {ALLOWED}")
    parts = list(_parts(module))
    if parts and isinstance(parts[0], nn.Flatten):
        _check_flatten(parts.pop(0))
    for place, part in enumerate(parts):
        wanted = nn.ReLU if place % 2 else nn.Linear
        if not isinstance(part, wanted) or (place % 2 and place == len(parts) - 1):
            raise TaylorError(f"weights: {type(part).__name__} at place {place + 1} of the chain, {ALLOWED}")
        if wanted is nn.Linear:
            _check_linear(part, place // 2 + 1)
        if not _computes_as(part, wanted):
            raise TaylorError(
                f"weights: {type(part).__name__} at place {place + 1} of the chain has a forward of its own, {ALLOWED}"
            )
    return [part.weight for part in parts[::2]]


def check_hooks(module: nn.Module, where: str) -> None:
    """Refuse hooks: they may change what a module computes, or its gradient."""
    if any(getattr(module, name, None) for name in HOOKS):
        raise TaylorError(
            f"weights: {where} has a hook, which may change what it computes; allowed: modules without hooks"
        )


def _parts(chain: nn.Sequential) -> Iterator[nn.Module]:
    """Entries of a chain one after the other, those of chains in it included."""
    for entry in chain._modules.values():
        part = unwrapped(entry) if not isinstance(entry, nn.Linear) else entry
        if _computes_as(part, nn.Sequential):
            yield from _parts(part)
        else:
            yield part


def _computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """A subclass may add to the construction, but must leave ``forward`` and the call alone."""
    own = type(module)
    return isinstance(module, kind) and own.forward is kind.forward and own.__call__ is nn.Module.__call__


def _is_compiled(module: nn.Module) -> bool:
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules


def _check_flatten(part: nn.Flatten) -> None:
    if not _computes_as(part, nn.Flatten) or (part.start_dim, part.end_dim) != (1, -1):
        raise TaylorError(f"weights: {part} at the beginning of the chain, allowed: nn.Flatten()")


def _check_linear(part: nn.Linear, k: int) -> None:
    """A layer's only number is its plain weight."""
    if is_parametrized(part) or "weight" not in part._parameters:
        raise TaylorError(
            f"weights: that of layer {k} is computed from other parameters (weight_norm, spectral_norm, pruning), and a"
            " gradient step moves those; allowed: plain weights, as after the removal of the parametrization"
        )
    if isinstance(part.weight, UninitializedParameter):
        raise TaylorError(f"weights: layer {k} has none yet, allowed: a lazy layer that has seen a first batch")
    if type(part.weight) is not nn.Parameter:
        raise TaylorError(
            f"weights: that of layer {k} is a {type(part.weight).__name__}, allowed: a plain nn.Parameter"
        )
    check_hooks(part, f"layer {k}")
    if any(getattr(part.weight, name, None) for name in GRADIENT_HOOKS):
        raise TaylorError(f"weights: that of layer {k} has a hook on its gradient, allowed: weights without hooks")
    if part.bias is not None:
        raise TaylorError(f"weights: layer {k} has a bias, allowed: nn.Linear(..., bias=False)")


# --- the module itself ------------------------------------------------------------------------------------------------


def check_against_module(
    module: nn.Module, weights: Sequence[Tensor], found: BackwardPass, gradients: Sequence[Tensor]
) -> None:
    """Hold outputs and gradients against a forward and a backward pass of the module itself, in float64.

    The loss, a function of the outputs, is the same on both sides, so outputs that are equal have an equal ``c0``, and
    gradients that are equal an equal ``c1``. The module is left as it is: it runs with copies of its numbers.

    Args:
        module: in evaluation mode for this time only.
        weights: the parameters in it.
        found: forward and backward pass of these weights.
        gradients: ``G_1 .. G_l`` of it, ``[1, m_k, m_{k-1}]``.

    Raises:
        TaylorError: they differ, or the module fails.
    """
    x, backward = found.activations[0][0], found.backward[-1][0]
    try:
        outputs, slopes = _by_autograd(module, weights, x, backward)
    except Exception as error:  # of the caller's code
        raise TaylorError(f"weights: the module fails on these inputs with {described(error)}; {ALLOWED}") from error
    _compare("outputs", outputs, found.outputs[0], float(found.outputs[0].norm()))
    for k, (slope, own) in enumerate(zip(slopes, gradients, strict=True)):
        size = float(found.activations[k].norm() * found.backward[k].norm())
        _compare(f"gradient of layer {k + 1}", slope, own[0], size)


def _by_autograd(
    module: nn.Module, weights: Sequence[Tensor], x: Tensor, backward: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """Outputs of the module, and gradients by the weights from that by the outputs."""
    numbers = dict(module.named_parameters()) | dict(module.named_buffers())
    with _evaluating(module), _eagerly(module), torch.enable_grad():
        copies = {
            name: part.detach().to(x.device, x.dtype if part.is_floating_point() else None, copy=True)
            for name, part in numbers.items()
        }
        leaves = [next(copies[name].requires_grad_() for name in numbers if numbers[name] is w) for w in weights]
        outputs = functional_call(module, copies, (x.clone(),))
        slopes = torch.autograd.grad(outputs, leaves, backward, allow_unused=True, materialize_grads=True)
    return outputs.detach(), slopes


def _compare(name: str, module_has: Tensor, layers_have: Tensor, size: float) -> None:
    """Raise unless they agree up to rounding errors of numbers of that size."""
    error = float((module_has - layers_have).norm()) if module_has.shape == layers_have.shape else float("inf")
    if not error <= TOLERANCE * size:
        raise TaylorError(
            f"weights: the {name} of the module itself on these inputs differs by {error:.2g}, of {size:.2g}, from what"
            " its linear layers and ReLU give: a forward that was replaced, a hook on all modules, or a unit that sits"
            f" on the kink of its ReLU; {ALLOWED}"
        )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, for this time only."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _eagerly(module: nn.Module) -> AbstractContextManager:
    """Parts that ``torch.compile`` has taken run as they are written: one pass is not worth a compilation."""
    taken = any(_is_compiled(part) or getattr(part, "_compiled_call_impl", None) for part in module.modules())
    return torch.compiler.set_stance("force_eager") if taken else nullcontext()
