"""An ensemble on one minibatch with its Taylor coefficients, and the errors of all that must hold between them (ours).

Errors are relative to the value; where terms may cancel, to the sum of their absolute values. Each comes with its
control, in which one side is that of the next network of the ensemble (:data:`ANOTHER`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import Hessian, Operator, Scaled
from featurespeed.homogeneous.autodiff import autodiff_coefficients, loss_along
from featurespeed.homogeneous.losses import MeanSquaredError, OutputLoss
from featurespeed.homogeneous.network import HomogeneousMLP, backward_pass, factors_of, phi
from featurespeed.homogeneous.soft_rank import gradient_soft_rank
from featurespeed.homogeneous.spec import GradientScaling
from featurespeed.homogeneous.taylor import BackwardPass, TaylorCoefficients, coefficients
from featurespeed.randomness import derive_seed

ANOTHER = ", another network's"
TOLERANCES = (1e-3, 1e-13)  # of lambda_Xi, one after the other where the first does not decide


@dataclass(frozen=True)
class Minibatch:
    """Networks on their minibatches, with all that the coefficients are made of.

    Attributes:
        x, y: inputs ``[E, n, m_0]`` as the first layer sees them, and classes ``[E, n]``.
        weights: ``W_1 .. W_l``.
        activation, loss: of the networks.
        found: forward and backward pass.
        gradients, factors: ``G_1 .. G_l``, and ``xi`` ``[E, l]``.
        taylor: coefficients of ``s -> L(W - s xi G)``.
    """

    x: Tensor
    y: Tensor
    weights: Sequence[Tensor]
    activation: tuple[float, float]
    loss: OutputLoss
    found: BackwardPass
    gradients: Sequence[Tensor]
    factors: Tensor
    taylor: TaylorCoefficients

    @classmethod
    @torch.no_grad()
    def of(
        cls, net: HomogeneousMLP, x: Tensor, y: Tensor, scaling: GradientScaling, loss: OutputLoss, order: int = 3
    ) -> Minibatch:
        """Coefficients up to ``order`` of networks on inputs ``x``, which are taken as they are."""
        weights = [weight.detach() for weight in net.weights]
        found = backward_pass(x, y, weights, loss, net.activation)
        gradients = found.gradients()
        factors = factors_of(found, gradients, scaling)
        taylor = coefficients(found, weights, factors, loss, y, order)
        return cls(x, y, weights, net.activation, loss, found, gradients, factors, taylor)

    @property
    def directions(self) -> list[Tensor]:
        """``xi_k G_k``, ``[E, m_k, m_{k-1}]`` each."""
        return [self.factors[:, k, None, None] * gradient for k, gradient in enumerate(self.gradients)]

    def change(self, step: Tensor, linear: bool = False) -> Tensor:
        """``L(W - s xi G) - L(W)`` of steps ``s [E]``; ``linear``: as if the linear region never ended."""
        slopes = self.found.slopes if linear else None
        network = self.x, self.y, self.weights, self.directions
        return loss_along(*network, step, self.loss, self.activation, slopes) - self.taylor.c0

    def objective(self, last: bool = False) -> Objective:
        """The loss as a function of all weights, or of the last layer's."""
        net = _Outputs(self.weights, self.activation)
        parameters = list(net.matrices)[-1:] if last else list(net.matrices)
        return Objective(net, self.loss.value, (self.x, self.y), members=len(self.x), parameters=parameters)

    def scaled_hessian(self, hessian: Hessian) -> Operator:
        """``Xi^1/2 H Xi^1/2``."""
        sizes = torch.tensor([weight[0].numel() for weight in self.weights], device=self.x.device)
        return Scaled(hessian, self.factors.repeat_interleave(sizes, 1))


class _Outputs(nn.Module):
    """``[E, n, m_l]`` of inputs as they are: automatic differentiation goes through these few lines."""

    def __init__(self, weights: Sequence[Tensor], activation: tuple[float, float]):
        super().__init__()
        self.matrices = nn.ParameterList([nn.Parameter(weight.clone()) for weight in weights])
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for matrix in self.matrices[:-1]:
            x = phi(x @ matrix.transpose(1, 2), self.activation)
        return x @ self.matrices[-1].transpose(1, 2)


Errors = Iterator[tuple[str, Tensor]]


def autodiff_errors(batch: Minibatch) -> Errors:
    """``(name, error [E])`` of c0 to c3 against nested automatic differentiation.

    Relative to the sum of the absolute values of two parts: for c2 F and N, for c3 that with T and all the rest.
    """
    taylor, outputs = batch.taylor, batch.found.outputs
    wanted = autodiff_coefficients(batch.x, batch.y, batch.weights, batch.directions, batch.loss, batch.activation)
    third = batch.loss.third(outputs, batch.y, taylor.velocities[-1]) / 6
    sizes = (wanted[0].abs(), wanted[1].abs(), _parts(taylor), third.abs() + (wanted[3] - third).abs())
    found = (taylor.c0, taylor.c1, taylor.c2, taylor.c3)
    for order, (value, truth, size) in enumerate(zip(found, wanted, sizes, strict=True)):
        yield from _both(f"c{order}", value, truth, size)


def identity_errors(batch: Minibatch, seed: int) -> Errors:
    """``(name, error [E])`` of what must hold between coefficients, Hessian and backward pass.

    ``seed`` is that of the random starts for ``lambda_Xi``.
    """
    taylor, objective = batch.taylor, batch.objective()
    hessian, direction = Hessian(objective), objective.flatten(batch.directions)
    curvature = (direction * hessian.matvec(direction)).sum(1) / 2
    yield "curvature form of c2", (curvature - taylor.c2).abs() / _parts(taylor)
    excess, other = _excess(taylor.directional_sharpness, batch.scaled_hessian(hessian), seed)
    yield "directional sharpness at most lambda_Xi", excess
    yield f"directional sharpness at most lambda_Xi{ANOTHER}", other
    yield from _feature_identity(batch)
    yield from _euler_identity(batch)
    if isinstance(batch.loss, MeanSquaredError):
        yield from _soft_rank_identity(batch)


def _both(name: str, value: Tensor, truth: Tensor, size: Tensor) -> Errors:
    """Errors of ``value [E, ...]`` relative to ``size``, the largest of each network; and of the next network's."""
    for suffix, found in (("", value), (ANOTHER, value.roll(-1, 0))):
        yield f"{name}{suffix}", ((found - truth).abs() / size).reshape(len(value), -1).amax(1)


def _parts(taylor: TaylorCoefficients) -> Tensor:
    return taylor.feature_part.abs() + taylor.output_part.abs()


def _excess(below: Tensor, operator: Operator, seed: int) -> tuple[Tensor, Tensor]:
    """By how much values, and those of the next network, exceed an operator's largest eigenvalue; 0 where they do not.

    Relative to it. Lanczos finds a lower bound of that one, so a bound above the values is enough; where it is not, it
    goes on.
    """
    starts = [derive_seed(seed, "start", member) for member in range(operator.members)]
    excess = other = torch.full_like(below, torch.inf)
    for tol in TOLERANCES:
        if excess.any():
            found = [record.eigenvalue for record in largest_eigenvalues(operator, tol=tol, seed=starts)]
            above = torch.tensor(found, dtype=below.dtype, device=below.device)
            excess, other = (((own - above) / above.abs()).clamp(min=0) for own in (below, below.roll(-1, 0)))
    return excess, other


def _feature_identity(batch: Minibatch) -> Errors:
    """``<B_k, Z_k^(1)> = -sum_{j <= k} xi_j |G_j|^2`` at every layer: the feature speed formula."""
    squares = torch.stack([gradient.square().sum((1, 2)) for gradient in batch.gradients], 1)
    decay = (batch.factors * squares).cumsum(1)
    pairs = zip(batch.found.backward, batch.taylor.velocities, strict=True)
    inner = torch.stack([(b * z).sum((1, 2)) for b, z in pairs], 1)
    yield from _both("backward feature identity", inner, -decay, decay)


def _euler_identity(batch: Minibatch) -> Errors:
    """``<W_k, G_k> = <B_l, Z_l>`` at every layer, as the outputs are homogeneous in each weight."""
    terms = (batch.found.backward[-1] * batch.found.outputs).flatten(1)
    found = torch.stack([(w * g).sum((1, 2)) for w, g in zip(batch.weights, batch.gradients, strict=True)], 1)
    yield from _both("Euler identity", found, terms.sum(1, keepdim=True), terms.abs().sum(1, keepdim=True))


def _soft_rank_identity(batch: Minibatch) -> Errors:
    """Curvature along the last layer's gradient is ``(tr K / n) / SR_B`` under the mean squared error."""
    objective, features = batch.objective(last=True), batch.found.activations[-1]
    gradient = objective.flatten([batch.gradients[-1]])
    curvature = (gradient * Hessian(objective).matvec(gradient)).sum(1) / gradient.square().sum(1)
    trace = features.square().sum((1, 2)) / features.shape[1]
    by_rank = trace / gradient_soft_rank(features, batch.found.backward[-1])
    yield from _both("soft rank identity", by_rank, curvature, curvature)
