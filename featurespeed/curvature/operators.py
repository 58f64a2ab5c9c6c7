"""Linear operators of a loss and its network, known by their products with vectors.

Each is symmetric, and block-diagonal over the networks of an ensemble: ``matvec`` takes and returns ``[E, size]``, one
row a network. Derivatives are exact. The graph of the first derivatives is built once and kept for all products, unless
the batch comes in several chunks; it is that of the weights at this time.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from featurespeed.curvature.differences import Derivative, check_derivatives
from featurespeed.curvature.jacobian import Jacobian, by_output, of_the_outputs, pull_back
from featurespeed.curvature.objective import Chunk, CurvatureError, Objective
from featurespeed.curvature.parts import (
    derivative_of,
    loss_by_outputs,
    loss_by_weights,
    outputs_by_weights,
    pulled_back_slopes,
)
from featurespeed.curvature.place import Place
from featurespeed.machine.device import tf32
from featurespeed.measuring.norms import norm

Product = Callable[[Tensor], Tensor]


class Operator(ABC):
    """A symmetric operator on each of ``members`` spaces of ``size`` dimensions."""

    members: int
    size: int
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def matvec(self, vectors: Tensor) -> Tensor:
        """The operator times ``vectors [E, size]``."""

    def measuring(self) -> AbstractContextManager[None]:
        """What must hold while products are taken."""
        return nullcontext()

    def scaled(self, factor: float) -> Operator:
        """The operator times a power of two, whose products are smaller or larger from the start."""
        return Multiple(self, factor)


class Curvature(Operator):
    """An operator in the space of parameters that is a sum over the chunks of a batch."""

    def __init__(self, objective: Objective):
        self.objective = objective
        self.members, self.size = objective.members, objective.size
        self.dtype, self.device = objective.dtype, objective.device
        self._kept: list[Product] = []
        self._replaying = False  # checkpoints that repeat operations which we replace

    def matvec(self, vectors: Tensor) -> Tensor:
        found = self._replayed(vectors)
        foreign = self.objective.take_foreign()
        if foreign:
            check_derivatives(self.objective, self.parts, foreign, lambda here: self._apart(here, vectors, found))
        return found

    @staticmethod
    @abstractmethod
    def parts(place: Place) -> list[Derivative]:
        """The derivatives that products are made of."""

    def _apart(self, here: Objective, vectors: Tensor, found: Tensor) -> float:
        """How far a product here is from one that was taken, relative to its size."""
        image = self.product_of(here, vectors.to(here.dtype))
        return norm(image - found.to(image)) / (norm(found) or 1.0)

    def _replayed(self, vectors: Tensor) -> Tensor:
        try:
            return self._product(vectors)
        except CheckpointError:  # forward is repeated in the product, and must be replaced in the same way
            if self._replaying:
                raise
        self._replaying = True
        self._kept.clear()
        return self._product(vectors)

    def measuring(self) -> AbstractContextManager[None]:
        return self.objective.differentiable()

    def scaled(self, factor: float) -> Operator:
        self._kept.clear()  # two graphs would take twice the memory
        return type(self)(self.objective.scaled(factor))

    def _product(self, vectors: Tensor) -> Tensor:
        with self.objective.replacing() if self._replaying else nullcontext():
            if len(self.objective.chunks) > 1:
                return self._sum(vectors)
            if not self._kept:
                with tf32(False):  # rounded first derivatives would make another operator, also for exact products
                    self._kept.append(self.linearise(self.objective.chunks[0]))
                self.objective.check_reached()
            return self._kept[0](vectors)

    def _sum(self, vectors: Tensor) -> Tensor:
        first, *others = self.objective.chunks
        total = self.linearise(first)(vectors)
        for chunk in others:
            total += self.linearise(chunk)(vectors)
        self.objective.check_reached()
        return total

    @classmethod
    def product_of(cls, objective: Objective, vectors: Tensor) -> Tensor:
        """This operator of an objective times vectors."""
        return cls(objective).matvec(vectors)

    @abstractmethod
    def linearise(self, chunk: Chunk) -> Product:
        """The chunk's part of the operator."""

    def _derivative_of(self, gradients: Sequence[Tensor]) -> Product:
        """``v -> d<gradients, v>/d parameters``."""
        objective = self.objective  # not self: an operator that holds itself keeps its graph until it is collected
        parts = [i for i, gradient in enumerate(gradients) if gradient.requires_grad]  # the others are constant

        def product(vectors: Tensor) -> Tensor:
            if not parts:
                return torch.zeros_like(vectors)
            directions = objective.unflatten(vectors)
            return objective.flatten(
                pull_back([gradients[i] for i in parts], [directions[i] for i in parts], objective.parameters)
            )

        return product

    def _gradients(self, number: Tensor) -> tuple[Tensor, ...]:
        """Derivatives of a number by the parameters, which can be differentiated again."""
        return torch.autograd.grad(
            number, self.objective.parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )


class Hessian(Curvature):
    """``H``, second derivatives of the mean loss."""

    @staticmethod
    def parts(place: Place) -> list[Derivative]:
        return [loss_by_weights(place), derivative_of(place, Objective.gradient, Hessian.product_of)]

    def linearise(self, chunk: Chunk) -> Product:
        with self.objective.replacing():
            return self._derivative_of(self._gradients(self.objective.loss_of(chunk)))


class GaussNewton(Curvature):
    """``G = J^T H_out J``: what is left of the Hessian if the network is linear in its parameters.

    ``H_out`` are the second derivatives of the mean loss by the outputs.
    """

    @staticmethod
    def parts(place: Place) -> list[Derivative]:
        return [outputs_by_weights(place), loss_by_outputs(place)]

    def linearise(self, chunk: Chunk) -> Product:
        with self.objective.replacing():
            outputs = of_the_outputs(self.objective, chunk)
            jacobian = Jacobian(self.objective, outputs)
            leaf, slope = by_output(self.objective, outputs, chunk)

        def product(vectors: Tensor) -> Tensor:
            if not slope.requires_grad:  # a loss that is linear in the outputs
                return torch.zeros_like(vectors)
            moved = pull_back([slope], [jacobian.times(vectors)], [leaf])[0]
            return jacobian.transposed_times(moved)

        return product


class Residual(Curvature):
    """``R = H - G = sum_i dL/df_i d^2 f_i``: the part of the Hessian that the network's own curvature makes.

    Computed as such, not as a difference.
    """

    @staticmethod
    def parts(place: Place) -> list[Derivative]:
        return [derivative_of(place, pulled_back_slopes(place), Residual.product_of)]

    def linearise(self, chunk: Chunk) -> Product:
        with self.objective.replacing():
            outputs = of_the_outputs(self.objective, chunk)
            slope = by_output(self.objective, outputs, chunk)[1].detach()
            return self._derivative_of(self._gradients((outputs * slope).sum()))


class NeuralTangentKernel(Operator):
    """``K = J D J^T / n`` on the ``n`` examples' outputs, ``D`` a diagonal of ``rates``.

    Divided by ``n``, its eigenvalues are, for half the mean squared error, those of the Gauss-Newton matrix (with
    ``D^1/2`` on both sides) that are not 0.

    Args:
        objective: the loss is not used.
        rates: ``[1, P]``, ``[E, P]`` or a number.
    """

    def __init__(self, objective: Objective, rates: Tensor | float = 1.0):
        self.objective, self.rates = objective, rates
        self.members, self.dtype, self.device = objective.members, objective.dtype, objective.device
        self._kept: Jacobian | None = None
        with objective.replacing(), torch.no_grad():
            shapes = [of_the_outputs(objective, chunk).shape for chunk in objective.chunks]
        self.shapes = shapes
        self.sizes = [shape.numel() // self.members for shape in shapes]
        self.size = sum(self.sizes)
        self.examples = sum(chunk.examples for chunk in objective.chunks)

    def measuring(self) -> AbstractContextManager[None]:
        return self.objective.differentiable()

    def matvec(self, vectors: Tensor) -> Tensor:
        parts = vectors.split(self.sizes, dim=1)
        directions = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        chunks = self.objective.chunks
        pulled = sum(self._jacobian(chunk).transposed_times(u) for chunk, u in zip(chunks, directions, strict=True))
        pulled = pulled * (self.rates / self.examples)
        return torch.cat([self._jacobian(chunk).times(pulled).reshape(self.members, -1) for chunk in chunks], dim=1)

    def _jacobian(self, chunk: Chunk) -> Jacobian:
        if self._kept is not None:
            return self._kept
        if len(self.objective.chunks) > 1:
            return self._linearise(chunk)
        with tf32(False):
            self._kept = self._linearise(chunk)
        return self._kept

    def _linearise(self, chunk: Chunk) -> Jacobian:
        with self.objective.replacing():
            return Jacobian(self.objective, of_the_outputs(self.objective, chunk))


class Around(Operator):
    """An operator made of another one, and what the two have in common."""

    def __init__(self, inner: Operator):
        self.inner = inner
        self.members, self.size, self.dtype, self.device = inner.members, inner.size, inner.dtype, inner.device

    def measuring(self) -> AbstractContextManager[None]:
        return self.inner.measuring()

    def scaled(self, factor: float) -> Operator:
        found = copy.copy(self)
        found.inner = self.inner.scaled(factor)
        return found


class Scaled(Around):
    """``D^1/2 A D^1/2`` for a diagonal ``D >= 0``: an operator in the units of each parameter's own learning rate.

    Its eigenvalues are those of ``D A``. With ``D = gamma^2`` this is ``gamma^2 A``; with Adam's preconditioner,
    ``D = lr / P``.

    Args:
        rates: the diagonal, ``[1, size]``, ``[E, size]`` or a number.
    """

    def __init__(self, inner: Operator, rates: Tensor | float):
        super().__init__(inner)
        rates = torch.as_tensor(rates, dtype=inner.dtype, device=inner.device)
        if not (torch.isfinite(rates).all() and (rates >= 0).all()):
            raise CurvatureError("rates: the diagonal must be finite and not negative, allowed: at least 0")
        self._root = rates.sqrt()

    def matvec(self, vectors: Tensor) -> Tensor:
        return self.inner.matvec(vectors * self._root) * self._root


class Negative(Around):
    """``-A``: its largest eigenvalue is minus the smallest one of ``A``."""

    def matvec(self, vectors: Tensor) -> Tensor:
        return -self.inner.matvec(vectors)


class Multiple(Around):
    """``c A`` for a number c."""

    def __init__(self, inner: Operator, factor: float):
        super().__init__(inner)
        self.factor = factor

    def matvec(self, vectors: Tensor) -> Tensor:
        return self.inner.matvec(vectors) * self.factor
