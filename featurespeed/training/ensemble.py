"""One training step of an ensemble: forward, backward, update; on a GPU captured once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from featurespeed.machine.device import tf32
from featurespeed.models.networks import Network
from featurespeed.training.optimizers import MemberOptimizer
from featurespeed.training.spec import OptimizerSpec

MemberLoss = Callable[[Tensor, Tensor], Tensor]
WARM_UP_RUNS = 3  # before a capture: libraries choose their kernels and take their workspaces


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each member, over tokens, too; ``[E, B, ..., classes], [E, B, ...] -> [E]``."""
    losses = functional.cross_entropy(outputs.flatten(0, -2), labels.flatten(), reduction="none")
    return losses.view(len(labels), -1).mean(1)


def mean_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance to the one-hot label, mean over the batch, and over tokens, too;
    ``[E, B, ..., classes], [E, B, ...] -> [E]``.
    """
    target = functional.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
    return 0.5 * (outputs - target).square().sum(-1).flatten(1).mean(1)


LOSSES: dict[str, MemberLoss] = {"cross_entropy": cross_entropy, "mse": mean_squared_error}


@contextmanager
def fast_kernels(allow_tf32: bool) -> Iterator[None]:
    """Training steps on a GPU: TF32 where it is allowed, and the convolution kernels that were fastest when tried."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        with tf32(allow_tf32):
            yield
    finally:
        torch.backends.cudnn.benchmark = before


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """The one side stream of all captures: each stream that multiplies matrices keeps a workspace for good."""
    return torch.cuda.Stream(device)


class Ensemble:
    """A network of ``E`` members and their optimizer.

    ``step`` either finishes or, when memory runs out, leaves weights and optimizer as they were: the update allocates
    nothing of the size of the activations and comes after all that does.
    """

    def __init__(self, network: Network, optimizer: OptimizerSpec, learning_rates: Sequence[float], loss: str):
        self.network = network
        self.optimizer = MemberOptimizer(network, optimizer, learning_rates)
        self.loss = LOSSES[loss]
        self._replay: Callable[[], Tensor] | None = None
        self._inputs: tuple[Tensor, Tensor] | None = None

    @property
    def members(self) -> int:
        """Number of networks."""
        return self.network.members

    def gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Losses ``[E]`` and the gradients of their sum by the trained weights.

        ``x [S, B, C, H, W], y [S, B]``: one batch a member, or one for every ``E / S`` members in turn.
        """
        losses = self.loss(self.network(x), y.repeat_interleave(self.members // len(y), 0))
        return losses.detach(), torch.autograd.grad(losses.sum(), self.optimizer.weights)

    def step(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        """One update, the ``number``-th (the first is 0); the losses ``[E]`` before it."""
        self.optimizer.prepare(number)
        if self._replay is None:
            return self._update(x, y)
        for static, new in zip(self._inputs, (x, y), strict=True):
            static.copy_(new)
        return self._replay()

    def _update(self, x: Tensor, y: Tensor) -> Tensor:
        losses, gradients = self.gradients(x, y)
        self.optimizer.step(gradients)
        return losses

    def capture(self, x: Tensor, y: Tensor) -> None:
        """Record the step as a CUDA graph for batches of this shape; weights and optimizer are left as they are."""
        changed = [*self.optimizer.weights, *(t for slot in self.optimizer.state.values() for t in slot)]
        before = [tensor.detach().clone() for tensor in changed]
        self._inputs = (x.clone(), y.clone())
        try:
            self._replay = self._captured()
        finally:
            with torch.no_grad():
                for tensor, old in zip(changed, before, strict=True):
                    tensor.copy_(old)

    def _captured(self) -> Callable[[], Tensor]:
        stream = capture_stream(self.optimizer.rates.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                self._update(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            losses = self._update(*self._inputs)

        def replay() -> Tensor:
            graph.replay()
            return losses.clone()

        return replay

    def state(self) -> dict[str, list[Tensor]]:
        """Weights and optimizer, on the CPU; every tensor has the members first."""
        tensors = {"weights": [layer.weight.detach() for layer in self.network.weighted.values()]}
        return {name: [t.cpu() for t in found] for name, found in (tensors | self.optimizer.state).items()}

    def load(self, state: dict[str, list[Tensor]]) -> None:
        """Put back what :meth:`state` gave."""
        weights = [layer.weight.data for layer in self.network.weighted.values()]
        for name, tensors in ({"weights": weights} | self.optimizer.state).items():
            for mine, saved in zip(tensors, state[name], strict=True):
                mine.copy_(saved)

    def take(self, members: Sequence[int]) -> Ensemble:
        """An ensemble of some of the members, with copies of their weights and of their optimizer's state."""
        other = object.__new__(Ensemble)
        other.network = self.network.take(members)
        other.optimizer = self.optimizer.take(other.network, torch.as_tensor(members, dtype=torch.long))
        other.loss, other._replay, other._inputs = self.loss, None, None
        return other
