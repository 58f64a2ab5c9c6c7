"""Taylor coefficients of a loss along a scaled gradient step, and soft ranks of features, in one call.

result = taylor_coefficients(network, images, labels, scaling="rel1")
result.c1, result.c2, result.c3, result.directional_sharpness, result.edge
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor, nn

from featurespeed.homogeneous import soft_rank
from featurespeed.homogeneous.chain import check_against_module
from featurespeed.homogeneous.given import (
    EXACT,
    TaylorError,
    inputs_of_layers,
    pair_of,
    shown,
    targets_of_loss,
    tensor_of,
)
from featurespeed.homogeneous.layers import RELU, Layers, read_layers
from featurespeed.homogeneous.losses import OUTPUT_LOSSES, OutputLoss
from featurespeed.homogeneous.network import backward_pass, factors_of, forward_pass
from featurespeed.homogeneous.own_loss import OwnLoss, own_loss
from featurespeed.homogeneous.scalings import FORMULAS, dead_layers
from featurespeed.homogeneous.soft_rank import SoftRanks
from featurespeed.homogeneous.steady import SteadyCrossEntropy
from featurespeed.homogeneous.taylor import BackwardPass, TaylorCoefficients, coefficients

__all__ = ["TaylorError", "soft_ranks", "taylor_coefficients"]

Weights = Sequence[Tensor] | Sequence[nn.Module] | nn.Module
Loss = Literal["cross_entropy", "mse"] | Callable[[Tensor, Any], Tensor]
Scaling = Literal["none", "norm1", "rel1", "norm2", "rel2", "gradn", "fsf"]
NAMED_LOSSES = {**OUTPUT_LOSSES, "cross_entropy": SteadyCrossEntropy()}
#: Largest entries that are allowed: squares and cubes of such numbers are float64 numbers, too.
SMALLEST, LARGEST = 1e-100, 1e100


def taylor_coefficients(
    weights: Weights,
    inputs: Tensor | tuple[Tensor, Any],
    targets: Any = ...,
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

    All is computed in float64 on the device of the first weight, whatever the precision of the network, with ``G`` the
    gradient of real numbers: nothing is rounded to the network's precision on the way. Works under
    ``torch.inference_mode``; the network, its gradients, mode and buffers, the caller's tensors and the state of the
    random generators stay as they are.

    Args:
        weights: of a network without biases, ``Z_k = A_{k-1} W_k^T`` with an activation between the layers: matrices
            ``[m_k, m_{k-1}]`` from input to readout, or ``[E, m_k, m_{k-1}]`` for ``E`` networks side by side, all of
            which move; an ``nn.Sequential`` (or list of modules) of ``nn.Linear(..., bias=False)`` with ``nn.ReLU``
            between them, where ``nn.Flatten`` may come first and entries may be such chains; or a
            :class:`HomogeneousMLP`. ``torch.compile`` and ``nn.DataParallel`` may be around it. A module is measured
            in evaluation mode, and its own forward and backward pass is compared with that of its layers. Layers that
            are frozen (``requires_grad=False``) do not move: their ``xi_k`` is 0.
        inputs: ``[n, ...]``, or ``[E, n, ...]`` if ``weights`` are those of ``E`` networks and each has a batch of its
            own. Rows are flattened and otherwise taken as they are: to measure a ``HomogeneousMLP`` at what its own
            forward pass sees, give ``inputs_of(images)``. Or a pair ``(inputs, targets)``, and no ``targets``.
        targets: what the loss takes: classes, int64 ``[n]`` (or ``[E, n]``); for ``mse`` also numbers ``[n, m_l]``; for
            a function anything, None included.
        loss: ``cross_entropy``, ``mse`` (half the squared distance, to the one-hot label for classes), or a function
            ``(outputs [n, m_l], targets) -> scalar``, a mean over the batch, for one network; its derivatives by the
            outputs are then automatic. It gets outputs, targets and its own weights in float64, or, if it fails on
            these, outputs in the precision of the network, and targets and weights as they are.
        scaling: ``none``, ``norm1``, ``rel1``, ``norm2``, ``rel2``, ``gradn`` or ``fsf``; their formulas for ``xi_k``
            are in :mod:`featurespeed.homogeneous.scalings`.
        activation: ``(a, b)`` of ``phi(s) = a s + b |s|``; the default is ReLU. A ``HomogeneousMLP`` brings its own.
        order: highest coefficient, 1 to 3; those beyond are NaN.

    Returns:
        :class:`TaylorCoefficients`, float64 tensors ``[E]`` (``[1]`` for one network). The ``directional_sharpness`` is
        ``-2 c2/c1``, and ``edge = -c1/c2`` the step at which the quadratic model is back at the loss of before.

    Raises:
        TaylorError: (a ValueError) an unknown name, shapes that do not chain, numbers that are not finite or whose
            cubes are none of float64, or a layer without an active unit, whose ``xi`` is not finite. A module that is
            more than its matrices: biases, other modules, a forward of its own, hooks, weight or spectral
            normalisation, layers or weights that are shared. A loss that fails, is no differentiable real scalar, is
            drawn at random, depends on the weights themselves, or whose derivatives (such as those of an operation
            that can be differentiated only once) differ from its differences.

    Source: ours, for arXiv:2502.13110, whose abstract announces such formulas and does not give them.

    Example:
        >>> matrices = [torch.ones(2, 3), torch.ones(1, 2)]
        >>> result = taylor_coefficients(matrices, torch.ones(4, 3), torch.zeros(4, 1), loss="mse")
        >>> result.c0.item(), result.c1.item()
        (18.0, -864.0)
    """
    if targets is ...:
        inputs, targets = pair_of(inputs)
    with torch.inference_mode(False), torch.no_grad():  # leaving inference mode switches gradients on
        layers = read_layers(weights, activation)
        if not isinstance(order, Integral) or isinstance(order, bool) or order not in (1, 2, 3):
            raise TaylorError(f"order = {shown(order)}: allowed: 1, 2, 3")
        _check_scaling(scaling)
        with _generators_kept(layers.matrices[0].device):
            return _measured(layers, inputs, targets, loss, scaling, int(order))


def soft_ranks(features: Tensor) -> SoftRanks:
    """How many directions the features of a batch take: participation ratio, stable rank and entropy rank.

    Args:
        features: ``A``, ``[n, m]`` for n examples and m units, or ``[E, n, m]`` for ``E`` networks; real or complex, of
            any precision and scale. Take the mean off first if a common offset should not count.

    Returns:
        :class:`SoftRanks` of the Gram matrix ``K = A A^H``, tensors ``[E]`` (``[1]`` for one network), pure numbers
        between 1 and the rank: ``tr(K)^2/tr(K^2)``, ``tr(K)/lambda_max``, and the exponential of the entropy of the
        eigenvalues over their sum. Computed in float64; NaN for features that are all 0.

    Raises:
        TaylorError: (a ValueError) another number of dimensions, no features, or such that are not finite.

    Source: standard definitions. Which soft rank arXiv:2502.13110 means, its abstract does not say.

    Example:
        >>> soft_ranks(torch.eye(5)).participation_ratio
        tensor([5.], dtype=torch.float64)
    """
    with torch.inference_mode(False), torch.no_grad():
        found = tensor_of("features", features)
        if found.ndim not in (2, 3) or not found.numel():
            raise TaylorError(
                f"features: of shape {list(found.shape)}, allowed: [n, m] or [E, n, m], with examples and units in them"
            )
        found = (found if found.ndim == 3 else found[None]).to(torch.complex128 if found.is_complex() else EXACT)
        if not torch.isfinite(found).all():
            raise TaylorError("features: NaN or infinite, finite numbers are needed")
        return _complex_ranks(found) if found.is_complex() else soft_rank.soft_ranks(_of_size_one(found))


def _of_size_one(features: Tensor) -> Tensor:
    """Each member's features over a power of two, so that the largest entry is about 1: ranks have no scale."""
    exponents = torch.frexp(features.abs().amax((1, 2), keepdim=True)).exponent
    return features / torch.ldexp(torch.ones_like(features[:, :1, :1]), exponents.clamp(-1022, 1022))


def _complex_ranks(features: Tensor) -> SoftRanks:
    """From the real matrix ``[[Re, -Im], [Im, Re]]``, whose Gram matrix has every eigenvalue of ``A A^H`` twice."""
    real, imaginary = features.real, features.imag
    rows = torch.cat([real, -imaginary], 2), torch.cat([imaginary, real], 2)
    twice = soft_rank.soft_ranks(_of_size_one(torch.cat(rows, 1)))
    return SoftRanks(twice.participation_ratio / 2, twice.stable_rank / 2, twice.entropy_rank / 2)


# --- what is given ----------------------------------------------------------------------------------------------------


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    """The caller's code may draw random numbers: the generators of the CPU and of this device are put back."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type="cuda" if device.type == "cpu" else device.type):
        yield


def _check_scaling(name: Any) -> None:
    if not isinstance(name, str) or name not in FORMULAS:
        raise TaylorError(f"scaling = {shown(name)}: allowed: {', '.join(FORMULAS)}")


def _check_loss(loss: Loss, members: int) -> None:
    names = ", ".join(OUTPUT_LOSSES)
    if isinstance(loss, type):
        raise TaylorError(
            f"loss: the class {loss.__name__}, allowed: {names}, or a function, such as {loss.__name__}()"
        )
    if not callable(loss) and not (isinstance(loss, str) and loss in OUTPUT_LOSSES):
        raise TaylorError(f"loss = {shown(loss)}: allowed: {names}, or a function of outputs and targets")
    if callable(loss) and members > 1:
        raise TaylorError(f"loss: a function is for one network, {members} are given; allowed for several: {names}")


# --- what comes out ---------------------------------------------------------------------------------------------------


def _measured(
    layers: Layers, inputs: Any, targets: Any, loss: Loss, scaling: Scaling, order: int
) -> TaylorCoefficients:
    """The coefficients, once it is known which layers there are."""
    matrices = layers.matrices
    _check_loss(loss, len(matrices[0]))
    x = inputs_of_layers(inputs, matrices)
    output_loss, y = _loss_and_targets(loss, targets, x, layers)
    found = backward_pass(x, y, matrices, output_loss, layers.activation)
    gradients = found.gradients()
    _check_outputs(found)
    _check_range("input of layer", found.activations)
    _check_range("gradient by the outputs of layer", found.backward)
    _check_range("gradient of layer", gradients)
    if isinstance(output_loss, OwnLoss):
        output_loss.check_derivatives(found.outputs, y, found.backward[-1], order)
    if layers.module is not None:
        check_against_module(layers.module, layers.given, found, gradients)
    factors = factors_of(found, gradients, scaling)
    factors = torch.where(torch.tensor(layers.moving, device=x.device), factors, 0.0)
    _check_factors(factors, found, scaling)
    result = coefficients(found, matrices, factors, output_loss, y, order, gradients)
    _check_range("velocity of layer", result.velocities)
    _check_coefficients(result, order)
    return result


def _loss_and_targets(loss: Loss, targets: Any, x: Tensor, layers: Layers) -> tuple[OutputLoss, Any]:
    """A function takes its targets as they are given; it is tried on the outputs first."""
    if isinstance(loss, str):
        return NAMED_LOSSES[loss], targets_of_loss(targets, x, layers.matrices, loss)
    outputs = forward_pass(x, layers.matrices, layers.activation)[2]
    _check_finite("outputs of the network", outputs)
    return own_loss(loss, layers.dtype, outputs, targets, layers.given), targets


def _check_outputs(found: BackwardPass) -> None:
    _check_finite("outputs of the network", found.outputs)
    _check_finite("gradient of the loss", found.backward[-1])


def _check_finite(name: str, tensor: Tensor) -> None:
    if not torch.isfinite(tensor).all():
        raise TaylorError(f"inputs: the {name} on this batch is NaN or infinite, finite numbers are needed")


def _check_range(name: str, tensors: Iterable[Tensor]) -> None:
    """Refuse numbers whose cubes overflow, or vanish although the numbers are not 0."""
    for k, tensor in enumerate(tensors, 1):
        sizes = tensor.abs().flatten(1).amax(1)
        wrong = sizes[(sizes != 0) & ~((sizes >= SMALLEST) & (sizes <= LARGEST))]
        if len(wrong):
            raise TaylorError(
                f"inputs: the {name} {k} on this batch has entries of at most {float(wrong[0]):g}, allowed: 0, or"
                f" {SMALLEST:g} to {LARGEST:g}; give inputs or loss in other units, or ask for a lower order"
            )


def _check_coefficients(result: TaylorCoefficients, order: int) -> None:
    for name in ("c0", "c1", "c2", "c3")[: order + 1]:
        value = getattr(result, name)
        if not torch.isfinite(value).all():
            wrong = float(value[~torch.isfinite(value)][0])
            raise TaylorError(f"loss: {name} is {wrong} on this batch, finite numbers are needed")


def _check_factors(factors: Tensor, found: BackwardPass, scaling: Scaling) -> None:
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
