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
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from featurespeed.curvature.differences import Derivative, check_derivatives
from featurespeed.curvature.objective import Chunk, CurvatureError, Objective
from featurespeed.curvature.parameters import as_real
from featurespeed.curvature.place import Place
from featurespeed.machine.device import tf32
from featurespeed.measuring.context import reached_from
from featurespeed.measuring.norms import norm

Product = Callable[[Tensor], Tensor]


def pull_back(
    outputs: Sequence[Tensor], directions: Sequence[Tensor], inputs: Sequence[Tensor], create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Derivatives of ``sum_i <directions_i, outputs_i>`` by the inputs, 0 where none depends on one; keeps the graph.

    Taken of one number: given the directions as ``grad_outputs``, PyTorch would first import a computer algebra system,
    which costs every process 0.4 s.
    """
    with torch.enable_grad():
        number = sum(_inner(output, direction) for output, direction in zip(outputs, directions, strict=True))
    return torch.autograd.grad(
        number, inputs, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )


def _inner(output: Tensor, direction: Tensor) -> Tensor:
    """A real number: real and imaginary parts count as coordinates of their own."""
    if output.is_complex():
        output, direction = as_real(output), as_real(direction)
    return (output * direction).sum()


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
        image = type(self)(here).matvec(vectors.to(here.dtype))
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

    @abstractmethod
    def linearise(self, chunk: Chunk) -> Product:
        """The chunk's part of the operator."""

    @classmethod
    def _derivative_at(cls, place: Place, function: Callable[[Objective], Tensor]) -> Derivative:
        """Of a function whose derivative is this operator."""
        return Derivative(
            place.weights,
            lambda weights: place.at(weights, function),
            lambda directions: place.at(place.weights, lambda here: cls(here).matvec(here.flatten(directions))),
        )

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
        return [_loss_by_weights(place), Hessian._derivative_at(place, Objective.gradient)]

    def linearise(self, chunk: Chunk) -> Product:
        with self.objective.replacing():
            return self._derivative_of(self._gradients(self.objective.loss_of(chunk)))


class _Jacobian:
    """``J`` of one chunk's outputs by the parameters: ``J v`` and ``J^T u`` from one graph."""

    def __init__(self, objective: Objective, outputs: Tensor):
        self.objective, self.outputs = objective, outputs
        # J^T u is linear in u, so the derivative of <J^T u, v> by u is J v, whatever u.
        self._u = torch.zeros_like(outputs, requires_grad=True)
        found = pull_back([outputs], [self._u], objective.parameters, create_graph=True)
        self._parts = [i for i, gradient in enumerate(found) if gradient.requires_grad]
        self._transposed = found

    def times(self, vectors: Tensor) -> Tensor:
        """``J v``, of the outputs' shape."""
        directions = self.objective.unflatten(vectors)
        parts = self._parts
        return pull_back([self._transposed[i] for i in parts], [directions[i] for i in parts], [self._u])[0]

    def transposed_times(self, u: Tensor) -> Tensor:
        """``J^T u`` as vectors ``[E, P]``."""
        return self.objective.flatten(pull_back([self.outputs], [u], self.objective.parameters))


def _of_the_outputs(objective: Objective, chunk: Chunk) -> Tensor:
    if objective.takes_batch:
        raise CurvatureError("loss: of the model and the batch, allowed for this operator: (outputs, targets)")
    outputs = objective.outputs(chunk)
    if not isinstance(outputs, Tensor):
        raise CurvatureError(f"model: returned {type(outputs).__name__}, allowed for this operator: one tensor")
    return outputs


class GaussNewton(Curvature):
    """``G = J^T H_out J``: what is left of the Hessian if the network is linear in its parameters.

    ``H_out`` are the second derivatives of the mean loss by the outputs.
    """

    @staticmethod
    def parts(place: Place) -> list[Derivative]:
        return [_outputs_by_weights(place), _loss_by_outputs(place)]

    def linearise(self, chunk: Chunk) -> Product:
        with self.objective.replacing():
            outputs = _of_the_outputs(self.objective, chunk)
            jacobian = _Jacobian(self.objective, outputs)
            leaf, by_output = _by_output(self.objective, outputs, chunk)

        def product(vectors: Tensor) -> Tensor:
            if not by_output.requires_grad:  # a loss that is linear in the outputs
                return torch.zeros_like(vectors)
            moved = pull_back([by_output], [jacobian.times(vectors)], [leaf])[0]
            return jacobian.transposed_times(moved)

        return product


class Residual(Curvature):
    """``R = H - G = sum_i dL/df_i d^2 f_i``: the part of the Hessian that the network's own curvature makes.

    Computed as such, not as a difference.
    """

    @staticmethod
    def parts(place: Place) -> list[Derivative]:
        def outputs(here: Objective) -> list[Tensor]:
            return [_of_the_outputs(here, chunk) for chunk in here.chunks]

        def slopes(here: Objective) -> list[Tensor]:
            pairs = zip(outputs(here), here.chunks, strict=True)
            return [_by_output(here, output, chunk)[1].detach() for output, chunk in pairs]

        def pulled_back(here: Objective) -> Tensor:
            with here.replacing():
                return here.flatten(pull_back(outputs(here), fixed, here.parameters))

        fixed = place.at(place.weights, lambda here: _inside(here, slopes))
        return [Residual._derivative_at(place, pulled_back)]

    def linearise(self, chunk: Chunk) -> Product:
        with self.objective.replacing():
            outputs = _of_the_outputs(self.objective, chunk)
            by_output = _by_output(self.objective, outputs, chunk)[1].detach()
            return self._derivative_of(self._gradients((outputs * by_output).sum()))


def _by_output(objective: Objective, outputs: Tensor, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Outputs as a leaf, and the derivative of the loss by them, which can be differentiated again."""
    leaf = outputs.detach().requires_grad_()
    loss = objective.loss(leaf.clone(), chunk)
    if reached_from([loss]) & {id(parameter) for parameter in objective.parameters}:
        raise CurvatureError(
            "loss: it takes weights of the model, allowed for this operator: a function of outputs and targets"
        )
    return leaf, torch.autograd.grad(loss, leaf, create_graph=True)[0]


def _inside(objective: Objective, function: Callable[[Objective], Any]) -> Any:
    with objective.replacing():
        return function(objective)


def _loss_by_weights(place: Place) -> Derivative:
    """Where gradients are not those of the loss's values, as behind a hook that changes them, neither are products."""

    def value(here: Objective) -> Tensor:
        with here.replacing():
            return torch.stack([here.value(chunk) for chunk in here.chunks]).sum().reshape(1)

    def along(here: Objective, directions: Sequence[Tensor]) -> Tensor:
        return (here.gradient() * here.flatten(directions)).sum().reshape(1)

    return Derivative(
        place.weights,
        lambda weights: place.at(weights, value),
        lambda directions: place.at(place.weights, lambda here: along(here, directions)),
        optional=True,
    )


def _outputs_by_weights(place: Place) -> Derivative:
    def outputs(here: Objective) -> Tensor:
        with here.replacing():
            return torch.cat([as_real(_of_the_outputs(here, chunk).detach()).flatten() for chunk in here.chunks])

    def along(here: Objective, directions: Sequence[Tensor]) -> Tensor:
        with here.replacing():
            jacobians = [_Jacobian(here, _of_the_outputs(here, chunk)) for chunk in here.chunks]
            return torch.cat([as_real(j.times(here.flatten(directions))).flatten() for j in jacobians])

    return Derivative(
        place.weights,
        lambda weights: place.at(weights, outputs),
        lambda directions: place.at(place.weights, lambda here: along(here, directions)),
    )


def _loss_by_outputs(place: Place) -> Derivative:
    def outputs(here: Objective) -> list[Tensor]:
        with here.replacing():
            return [_of_the_outputs(here, chunk).detach() for chunk in here.chunks]

    def slopes(here: Objective, points: Sequence[Tensor]) -> Tensor:
        with here.replacing():
            pairs = zip(points, here.chunks, strict=True)
            return torch.cat([as_real(_by_output(here, z, chunk)[1].detach()).flatten() for z, chunk in pairs])

    def along(here: Objective, directions: Sequence[Tensor]) -> Tensor:
        found = []
        with here.replacing():
            for z, direction, chunk in zip(points, directions, here.chunks, strict=True):
                leaf, by_output = _by_output(here, z, chunk)
                moves = by_output.requires_grad
                found.append(pull_back([by_output], [direction], [leaf])[0] if moves else torch.zeros_like(leaf))
        return torch.cat([as_real(part).flatten() for part in found])

    points = place.at(place.weights, outputs)
    return Derivative(
        points,
        lambda moved: place.at(place.weights, lambda here: slopes(here, moved)),
        lambda directions: place.at(place.weights, lambda here: along(here, directions)),
    )


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
        self._kept: _Jacobian | None = None
        with objective.replacing(), torch.no_grad():
            shapes = [_of_the_outputs(objective, chunk).shape for chunk in objective.chunks]
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

    def _jacobian(self, chunk: Chunk) -> _Jacobian:
        if self._kept is not None:
            return self._kept
        if len(self.objective.chunks) > 1:
            return self._linearise(chunk)
        with tf32(False):
            self._kept = self._linearise(chunk)
        return self._kept

    def _linearise(self, chunk: Chunk) -> _Jacobian:
        with self.objective.replacing():
            return _Jacobian(self.objective, _of_the_outputs(self.objective, chunk))


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
