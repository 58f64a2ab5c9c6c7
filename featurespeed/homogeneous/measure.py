"""Taylor coefficients of a loss along a scaled gradient step, and soft ranks of features, in one call.

result = taylor_coefficients(network, images, labels, scaling="rel1")
result.c1, result.c2, result.c3, result.directional_sharpness, result.edge
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from featurespeed.errors import UserError
from featurespeed.homogeneous import soft_rank
from featurespeed.homogeneous.losses import OUTPUT_LOSSES, AnyLoss, OutputLoss
from featurespeed.homogeneous.network import HomogeneousMLP, backward_pass, factors_of
from featurespeed.homogeneous.scalings import dead_layers
from featurespeed.homogeneous.soft_rank import SoftRanks
from featurespeed.homogeneous.spec import GradientScaling
from featurespeed.homogeneous.taylor import BackwardPass, TaylorCoefficients, coefficients

Weights = Sequence[Tensor] | nn.Sequential | HomogeneousMLP
Loss = Literal["cross_entropy", "mse"] | Callable[[Tensor, Tensor], Tensor]
Scaling = Literal["none", "norm1", "rel1", "norm2", "rel2", "gradn", "fsf"]
RELU = (0.5, 0.5)


class TaylorError(UserError, ValueError):
    """What cannot be measured; one line that names what is wrong and what is allowed."""


@torch.no_grad()
def taylor_coefficients(
    weights: Weights,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss = "cross_entropy",
    scaling: Scaling = "none",
    activation: tuple[float, float] = RELU,
    order: int = 3,
) -> TaylorCoefficients:
    """Coefficients of ``s -> L(W - s xi G)``, the loss along a gradient step that is scaled layer by layer.

    The step takes ``s xi_k G_k`` from the weight of layer ``k``. So ``s > 0`` goes down the gradient, ``c1 <= 0``, and
    ``s`` has the unit of a learning rate: ``c1`` is a loss over a learning rate, ``c2`` over its square, and so on.
    With the Gram matrices ``K_k = A_k A_k^T`` of features, ``K^B_k = B_k B_k^T`` of the backward pass, and
    ``R_k^(0) = K_k``,

        Z_k^(p) = A_{k-1}^(p) W_k^T - xi_k R_{k-1}^(p-1) B_k      A_k^(p) = D_k Z_k^(p)      R_k^(p) = A_k^(p) A_k^T
        c0 = L
        c1 = -sum_k xi_k <K_{k-1}, K^B_k>                          = -sum_k xi_k |G_k|^2
        c2 = -sum_k xi_k <R_{k-1}^(1), K^B_k> + <Z^(1), H Z^(1)>/2 = F + N
        c3 = -sum_k xi_k <R_{k-1}^(2), K^B_k> + <Z^(1), H Z^(2)> + T[Z^(1), Z^(1), Z^(1)]/6

    where ``A_0^(p) = 0``, ``Z = Z_l`` are the outputs, ``D_k`` the slopes of the activation, and ``H`` and ``T`` the
    second and third derivatives of the loss by the outputs. Every order from the second on costs one forward pass;
    nothing is differentiated by the weights twice. Exact as long as no unit crosses the kink of its activation.

    Args:
        weights: of a network without biases, ``Z_k = A_{k-1} W_k^T`` with an activation between the layers: matrices
            ``[m_k, m_{k-1}]`` from input to readout, or ``[E, m_k, m_{k-1}]`` for ``E`` networks side by side; an
            ``nn.Sequential`` of ``nn.Linear(..., bias=False)`` with ``nn.ReLU`` between them (``nn.Flatten`` may come
            first); or a :class:`HomogeneousMLP`.
        inputs: ``[n, ...]``, or ``[E, n, ...]`` if ``weights`` are those of ``E`` networks and each has a batch of its
            own. Rows are flattened and otherwise taken as they are: to measure a ``HomogeneousMLP`` at what its own
            forward pass sees, give ``inputs_of(images)``.
        targets: what the loss takes: classes, int64 ``[n]`` (or ``[E, n]``); for ``mse`` also numbers ``[n, m_l]``.
        loss: ``cross_entropy``, ``mse`` (half the squared distance, to the one-hot label for classes), or a function
            ``(outputs [n, m_l], targets) -> scalar``, a mean over the batch, for one network; its derivatives by the
            outputs are then automatic.
        scaling: ``none``, ``norm1``, ``rel1``, ``norm2``, ``rel2``, ``gradn`` or ``fsf``; their formulas for ``xi_k``
            are in :mod:`featurespeed.homogeneous.scalings`.
        activation: ``(a, b)`` of ``phi(s) = a s + b |s|``; the default is ReLU. A ``HomogeneousMLP`` brings its own.
        order: highest coefficient, 1 to 3; those beyond are NaN.

    Returns:
        :class:`TaylorCoefficients`, tensors ``[E]`` (``[1]`` for one network) in the precision of the weights. The
        ``directional_sharpness`` is ``-2 c2/c1``, and ``edge = -c1/c2`` the step at which the quadratic model is back
        at the loss of before.

    Raises:
        TaylorError: (a ValueError) an unknown name, biases or other modules, shapes that do not chain, numbers that are
            not finite, or a layer without an active unit, whose ``xi`` is not finite.

    Source: ours, for arXiv:2502.13110, whose abstract announces such formulas and does not give them.

    Example:
        >>> matrices = [torch.ones(2, 3), torch.ones(1, 2)]
        >>> result = taylor_coefficients(matrices, torch.ones(4, 3), torch.zeros(4, 1), loss="mse")
        >>> result.c0, result.c1
        (tensor([18.]), tensor([-864.]))
    """
    matrices, (a, b) = _matrices(weights, activation)
    if order not in (1, 2, 3):
        raise TaylorError(f"order = {order!r}: allowed: 1, 2, 3")
    factors_name, output_loss = _scaling(scaling), _loss(loss, len(matrices[0]))
    x = _inputs(inputs, matrices)
    y = targets if isinstance(output_loss, AnyLoss) else _targets(targets, x, matrices, str(loss))
    found = backward_pass(x, y, matrices, output_loss, (a, b))
    _check_outputs(found)
    factors = factors_of(found, found.gradients(), factors_name)
    _check_factors(factors, found, factors_name)
    return coefficients(found, matrices, factors, output_loss, y, order)


@torch.no_grad()
def soft_ranks(features: Tensor) -> SoftRanks:
    """How many directions the features of a batch take: participation ratio, stable rank and entropy rank.

    Args:
        features: ``A``, ``[n, m]`` for n examples and m units, or ``[E, n, m]`` for ``E`` networks. Take the mean off
            first if a common offset should not count.

    Returns:
        :class:`SoftRanks` of the Gram matrix ``K = A A^T``, tensors ``[E]`` (``[1]`` for one network), pure numbers
        between 1 and the rank: ``tr(K)^2/tr(K^2)``, ``tr(K)/lambda_max``, and the exponential of the entropy of the
        eigenvalues over their sum. Computed in float64; NaN for features that are all 0.

    Raises:
        TaylorError: (a ValueError) another number of dimensions, or features that are not finite.

    Source: standard definitions. Which soft rank arXiv:2502.13110 means, its abstract does not say.

    Example:
        >>> soft_ranks(torch.eye(5)).participation_ratio
        tensor([5.], dtype=torch.float64)
    """
    if features.ndim not in (2, 3):
        raise TaylorError(f"features: of shape {list(features.shape)}, allowed: [n, m] or [E, n, m]")
    if not torch.isfinite(features).all():
        raise TaylorError("features: NaN or infinite, finite numbers are needed")
    return soft_rank.soft_ranks(features if features.ndim == 3 else features[None])


# --- what is given ----------------------------------------------------------------------------------------------------


def _matrices(weights: Weights, activation: tuple[float, float]) -> tuple[list[Tensor], tuple[float, float]]:
    """``W_1 .. W_l`` as ``[E, m_k, m_{k-1}]``, and the activation that belongs to them."""
    if isinstance(weights, HomogeneousMLP):
        found, activation = [w.detach() for w in weights.weights], weights.activation
    elif isinstance(weights, nn.Module):
        found = _of_modules(weights)
        if tuple(activation) != RELU:
            raise TaylorError(f"activation = {activation}: a module brings its own, allowed: {RELU}, its ReLU")
    else:
        found = [torch.as_tensor(w).detach() for w in weights]
    if not found:
        raise TaylorError("weights: none given, at least one matrix is needed")
    for k, w in enumerate(found, 1):
        if w.ndim not in (2, 3) or w.ndim != found[0].ndim or not w.is_floating_point():
            raise TaylorError(
                f"weights: layer {k} has {str(w.dtype).removeprefix('torch.')} {list(w.shape)}, allowed: real numbers"
                " [m_k, m_{k-1}] in all layers, or [E, m_k, m_{k-1}] in all"
            )
    found = [w if w.ndim == 3 else w[None] for w in found]
    _check_chain(found)
    return found, activation


def _of_modules(module: nn.Module) -> list[Tensor]:
    """The weights of a chain of linear layers with ReLU between them."""
    allowed = "allowed: an nn.Sequential of nn.Linear without bias, with nn.ReLU between them"
    if not isinstance(module, nn.Sequential):
        raise TaylorError(f"weights: {type(module).__name__}, {allowed}")
    parts = list(module)[1:] if len(module) and isinstance(module[0], nn.Flatten) else list(module)
    for place, part in enumerate(parts):
        wanted = nn.ReLU if place % 2 else nn.Linear
        if not isinstance(part, wanted) or (place % 2 and place == len(parts) - 1):
            raise TaylorError(f"weights: {type(part).__name__} at place {place + 1} of the chain, {allowed}")
        if place % 2 == 0 and part.bias is not None:
            raise TaylorError(f"weights: layer {place // 2 + 1} has a bias, allowed: nn.Linear(..., bias=False)")
    return [part.weight.detach() for part in parts[::2]]


def _check_chain(matrices: Sequence[Tensor]) -> None:
    for k, (before, after) in enumerate(zip(matrices, matrices[1:], strict=False), 2):
        if len(before) != len(after):
            raise TaylorError(f"weights: layer {k} is of {len(after)} networks, allowed: {len(before)}, as before it")
        if before.shape[1] != after.shape[2]:
            raise TaylorError(
                f"weights: layer {k} takes {after.shape[2]} inputs, allowed: {before.shape[1]}, as layer {k - 1} has"
            )
    for k, matrix in enumerate(matrices, 1):
        if not torch.isfinite(matrix).all():
            raise TaylorError(f"weights: layer {k} holds NaN or infinity, finite numbers are needed")


def _scaling(name: str) -> GradientScaling:
    try:
        return GradientScaling(name)
    except ValueError:
        raise TaylorError(f"scaling = {name!r}: allowed: {', '.join(GradientScaling)}") from None


def _loss(loss: Loss, members: int) -> OutputLoss:
    if not callable(loss):
        if loss not in OUTPUT_LOSSES:
            names = ", ".join(OUTPUT_LOSSES)
            raise TaylorError(f"loss = {loss!r}: allowed: {names}, or a function of outputs and targets")
        return OUTPUT_LOSSES[loss]
    if members > 1:
        names = ", ".join(OUTPUT_LOSSES)
        raise TaylorError(f"loss: a function is for one network, {members} are given; allowed for several: {names}")

    def scalar(outputs: Tensor, targets: Tensor) -> Tensor:
        value = loss(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TaylorError(f"loss: returns {what}, allowed: a scalar tensor, the mean over the batch")
        if outputs.requires_grad and not value.requires_grad:
            raise TaylorError("loss: its value cannot be differentiated by the outputs, allowed: operations of torch")
        return value

    return AnyLoss(scalar)


def _inputs(inputs: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """``[E, n, m_0]`` in the precision of the weights."""
    members, _, wanted = matrices[0].shape
    shape = list(inputs.shape)
    if len(shape) >= 2 and math.prod(shape[1:]) == wanted:
        rows = inputs.flatten(1)[None]
    elif len(shape) >= 3 and shape[0] in (1, members) and math.prod(shape[2:]) == wanted:
        rows = inputs.flatten(2)
    else:
        own = f" or [{members}, n, {wanted}]" if members > 1 else ""
        raise TaylorError(f"inputs: of shape {shape}, allowed: [n, {wanted}]{own}, as layer 1 takes {wanted} inputs")
    if not rows.shape[1]:
        raise TaylorError("inputs: an empty batch, at least one row is needed")
    if not torch.isfinite(rows).all():
        raise TaylorError("inputs: NaN or infinite, finite numbers are needed")
    return rows.to(matrices[0]).expand(members, -1, -1)


def _targets(targets: Tensor, x: Tensor, matrices: Sequence[Tensor], loss: str) -> Tensor:
    """Classes ``[1 or E, n]``, or numbers ``[1 or E, n, m_l]``."""
    members, examples, outputs = len(x), x.shape[1], matrices[-1].shape[1]
    if targets.is_floating_point() and loss == "mse":
        shape = (examples, outputs)
    elif targets.is_floating_point() or targets.dtype == torch.bool:
        raise TaylorError(f"targets: {str(targets.dtype).removeprefix('torch.')}, allowed for {loss}: classes, int64")
    else:
        shape = (examples,)
    given = targets[None] if targets.shape == shape else targets
    if tuple(given.shape[1:]) != shape or len(given) not in (1, members):
        own = f" or {[members, *shape]}" if members > 1 else ""
        raise TaylorError(f"targets: of shape {list(targets.shape)}, allowed: {list(shape)}{own}")
    if given.is_floating_point():
        return given.to(x)
    if given.min() < 0 or given.max() >= outputs:
        raise TaylorError(f"targets: classes {int(given.min())} to {int(given.max())}, allowed: 0 to {outputs - 1}")
    return given.to(x.device, torch.int64)


# --- what comes out ---------------------------------------------------------------------------------------------------


def _check_outputs(found: BackwardPass) -> None:
    for name, tensor in (("outputs of the network", found.outputs), ("gradient of the loss", found.backward[-1])):
        if not torch.isfinite(tensor).all():
            raise TaylorError(f"inputs: the {name} on this batch is NaN or infinite, finite numbers are needed")


def _check_factors(factors: Tensor, found: BackwardPass, scaling: GradientScaling) -> None:
    """Name the layer to blame where a factor is not finite."""
    bad = ~torch.isfinite(factors)
    if not bad.any():
        return
    member = int(bad.any(1).to(torch.int64).argmax())
    of = f" of network {member + 1}" if len(factors) > 1 else ""
    dead = int(dead_layers(found.activations[1:])[member]) if len(found.activations) > 1 else 0
    if dead:
        raise TaylorError(f"layer {dead}{of}: no unit is active on this batch, so its scaling {scaling} is not finite")
    layer = int(bad[member].to(torch.int64).argmax()) + 1
    raise TaylorError(f"layer {layer}{of}: its gradient is 0 on this batch, so its scaling {scaling} is not finite")
