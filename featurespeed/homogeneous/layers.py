"""The layers of a network that someone gives: matrices, a chain of modules, or a :class:`HomogeneousMLP`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from featurespeed.homogeneous.chain import check_hooks, linear_weights, unwrapped
from featurespeed.homogeneous.given import EXACT, TaylorError, dtype_name, share_memory, shown, tensor_of
from featurespeed.homogeneous.network import HomogeneousMLP

RELU = (0.5, 0.5)


@dataclass(frozen=True)
class Layers:
    """A network without biases, ``Z_k = A_{k-1} W_k^T`` with ``phi(s) = a s + b |s|`` between the layers.

    Attributes:
        given: the weights as they were given.
        matrices: ``W_1 .. W_l``, float64 ``[E, m_k, m_{k-1}]``, on one device.
        moving: whether a gradient step moves the layer; a frozen one it does not.
        activation: ``(a, b)``.
        module: the chain that they were read from, if any.
    """

    given: Sequence[Tensor]
    matrices: Sequence[Tensor]
    moving: Sequence[bool]
    activation: tuple[float, float]
    module: nn.Module | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network's outputs."""
        return self.given[-1].dtype


def read_layers(weights: Any, activation: Any) -> Layers:
    """The layers of what is given.

    Raises:
        TaylorError: anything whose gradient step is not that of a chain of plain matrices.
    """
    if isinstance(weights, HomogeneousMLP):
        return _of_ours(weights, activation)
    if isinstance(weights, nn.Module) and not isinstance(weights, (nn.ModuleList, nn.ParameterList)):
        return _of_chain(weights, activation)
    entries = _entries(weights)
    if entries and all(isinstance(entry, nn.Module) for entry in entries):
        return _of_chain(nn.Sequential(*entries), activation)
    return _of_matrices(entries, activation)


def _of_ours(network: HomogeneousMLP, activation: Any) -> Layers:
    own = _slopes(network.activation)
    if activation is not RELU and _slopes(activation) != own:
        raise TaylorError(f"activation = {shown(activation)}: a network brings its own, allowed: {own}")
    plain = all(type(weight) is nn.Parameter for weight in network.weights) and not is_parametrized(network.matrices)
    if type(network).forward is not HomogeneousMLP.forward or not plain:
        raise TaylorError(
            f"weights: {type(network).__name__} with a forward or parametrized weights of its own, allowed:"
            " HomogeneousMLP as it is"
        )
    check_hooks(network, type(network).__name__)
    return _layers(network.weights, own, _moving(network.weights))


def _of_chain(module: nn.Module, activation: Any) -> Layers:
    chain = unwrapped(module)
    found = linear_weights(chain)
    if _slopes(activation) != RELU:
        raise TaylorError(f"activation = {shown(activation)}: a module brings its own, allowed: {RELU}, its ReLU")
    for k, weight in enumerate(found, 1):
        if weight.ndim != 2:
            raise TaylorError(
                f"weights: layer {k} of the module has shape {list(weight.shape)}, allowed: [m_k, m_{{k-1}}]"
            )
    return _layers(found, RELU, _moving(found), chain)


def _of_matrices(entries: Sequence[Any], activation: Any) -> Layers:
    found = [entry if isinstance(entry, Tensor) else _of_numbers(k, entry) for k, entry in enumerate(entries, 1)]
    for (j, one), (k, other) in combinations(enumerate(entries, 1), 2):
        if one is other:
            raise _shared(j, k)
    attached = [entry.requires_grad for entry in entries if isinstance(entry, Tensor)]
    if any(attached) and not all(attached):
        fixed = attached.index(False) + 1
        raise TaylorError(
            f"weights: that of layer {fixed} requires no gradient, others do, but all matrices of a list move; allowed:"
            " the module itself, whose frozen layers stay, or .detach() on all"
        )
    return _layers(found, _slopes(activation), [True] * len(found))


def _entries(weights: Any) -> list[Any]:
    """The matrices or modules one after the other."""
    if isinstance(weights, Iterable) and not isinstance(weights, (Tensor, np.ndarray, Mapping, str, bytes)):
        return list(weights)
    raise TaylorError(
        f"weights: {type(weights).__name__}, allowed: a list of matrices from input to readout, an nn.Sequential, or a"
        " HomogeneousMLP"
    )


def _of_numbers(k: int, entry: Any) -> Tensor:
    """Whole numbers in lists are numbers; arrays of integers may be quantized weights."""
    found = tensor_of(f"weights: layer {k}", entry)
    return found.to(EXACT) if isinstance(entry, (list, tuple)) and not found.is_complex() else found


def _slopes(activation: Any) -> tuple[float, float]:
    """``(a, b)`` as two finite numbers."""
    allowed = f"activation = {shown(activation)}: allowed: (a, b), two finite numbers of phi(s) = a s + b |s|"
    if not isinstance(activation, (tuple, list, Tensor, np.ndarray)):
        raise TaylorError(allowed)
    parts = activation.tolist() if isinstance(activation, (Tensor, np.ndarray)) else list(activation)
    parts = [part.item() if isinstance(part, (Tensor, np.ndarray)) and part.ndim == 0 else part for part in parts]
    if len(parts) != 2 or not all(isinstance(p, Real) and not isinstance(p, bool) and abs(p) <= 1e100 for p in parts):
        raise TaylorError(allowed)
    return float(parts[0]), float(parts[1])


def _moving(weights: Sequence[Tensor]) -> list[bool]:
    """Frozen layers do not move; all of them frozen would say that the loss is constant."""
    moving = [weight.requires_grad for weight in weights]
    if weights and not any(moving):
        raise TaylorError(
            "weights: all layers are frozen, at least one must require a gradient; allowed also: a list of matrices,"
            " all of which move"
        )
    return moving


# --- what all of them have to be --------------------------------------------------------------------------------------


def _layers(
    given: Sequence[Tensor], activation: tuple[float, float], moving: Sequence[bool], module: nn.Module | None = None
) -> Layers:
    """Checks of the numbers, which go to float64 on the device of the first layer."""
    if not given:
        raise TaylorError("weights: none given, at least one matrix is needed")
    plain = [tensor_of(f"weights: layer {k}", weight) for k, weight in enumerate(given, 1)]
    for k, w in enumerate(plain, 1):
        if w.ndim not in (2, 3) or w.ndim != plain[0].ndim or not w.is_floating_point() or not w.numel():
            raise TaylorError(
                f"weights: layer {k} has {dtype_name(w)} {list(w.shape)}, allowed: real numbers [m_k, m_{{k-1}}] in all"
                " layers, or [E, m_k, m_{k-1}] in all"
            )
    for (j, one), (k, other) in combinations(enumerate(plain, 1), 2):
        if share_memory(one, other):
            raise _shared(j, k)
    # Apple's GPUs have no float64.
    device = torch.device("cpu") if plain[0].device.type == "mps" else plain[0].device
    matrices = [(w if w.ndim == 3 else w[None]).to(device, EXACT) for w in plain]
    _check_chain(matrices)
    return Layers(given, matrices, moving, activation, module)


def _shared(j: int, k: int) -> TaylorError:
    return TaylorError(
        f"weights: layers {j} and {k} share memory, so a gradient step moves both; allowed: weights of their own, such"
        " as copies made with .clone()"
    )


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
