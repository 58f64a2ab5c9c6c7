"""First derivatives of outputs by the parameters, and of the loss by the outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from featurespeed.curvature.objective import Chunk, CurvatureError, Objective
from featurespeed.curvature.parameters import as_real
from featurespeed.measuring.context import reached_from


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


class Jacobian:
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


def of_the_outputs(objective: Objective, chunk: Chunk) -> Tensor:
    """What the model makes of a chunk, for an operator that is made of its derivatives.

    Raises:
        CurvatureError: the loss calls the model itself, or outputs are no tensor.
    """
    if objective.takes_batch:
        raise CurvatureError("loss: of the model and the batch, allowed for this operator: (outputs, targets)")
    outputs = objective.outputs(chunk)
    if not isinstance(outputs, Tensor):
        raise CurvatureError(f"model: returned {type(outputs).__name__}, allowed for this operator: one tensor")
    return outputs


def by_output(objective: Objective, outputs: Tensor, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Outputs as a leaf, and the derivative of the loss by them, which can be differentiated again.

    Raises:
        CurvatureError: the loss depends on the weights in another way, too.
    """
    leaf = outputs.detach().requires_grad_()
    loss = objective.loss(leaf.clone(), chunk)
    if reached_from([loss]) & {id(parameter) for parameter in objective.parameters}:
        raise CurvatureError(
            "loss: it takes weights of the model, allowed for this operator: a function of outputs and targets"
        )
    return leaf, torch.autograd.grad(loss, leaf, create_graph=True)[0]
