"""SGD, Adam and AdamW for ensembles: one learning rate a member, one factor a layer.

PyTorch's optimizers know one learning rate a parameter; here a parameter holds many networks, each with its own. All
updates are in place and the rates live in tensors, so that a step can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from featurespeed.models.networks import Network
from featurespeed.parameterization import OptimizerName, ScalingRule
from featurespeed.training.spec import OptimizerSpec

State = dict[str, list[Tensor]]


def warmup_factor(step: int, warmup_steps: int) -> float:
    """Factor on the learning rate of the update number ``step`` (the first is 0): rises to 1 over ``warmup_steps``."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def layer_epsilon(spec: OptimizerSpec, rule: ScalingRule) -> float:
    """Adam's epsilon at one layer."""
    return spec.epsilon * (rule.epsilon_scale if spec.epsilon_by_layer else 1.0)


class MemberOptimizer:
    """Updates the trained weights of a network with one base learning rate for each member.

    Args:
        network: its weights are changed in place; those with a learning rate of 0 are left alone.
        spec: kind and constants.
        learning_rates: base rates ``eta_0``, one a member; each layer multiplies them with its ``lr_scale``.

    ``eps = 0`` is allowed: where a weight has never had a gradient, Adam's step is then 0, not 0/0.
    """

    def __init__(self, network: Network, spec: OptimizerSpec, learning_rates: Sequence[float]):
        self.spec = spec
        layers = {name: layer for name, layer in network.weighted.items() if layer.weight.requires_grad}
        self.names = list(layers)
        self.weights = [layer.weight for layer in layers.values()]
        self.rules: list[ScalingRule] = [layer.rule for layer in layers.values()]
        like = self.weights[0]
        self.rates = torch.tensor(learning_rates, dtype=torch.float64).to(device=like.device, dtype=like.dtype)
        self.negative_rates = [-self.rates.view(-1, *[1] * (w.ndim - 1)) for w in self.weights]
        # What changes from step to step: warm-up factor, and Adam's two bias corrections.
        self.schedule = torch.ones(3, dtype=like.dtype, device=like.device)
        slots = {OptimizerName.SGD: ["momentum"] if spec.momentum else []}.get(spec.name, ["first", "second"])
        self.state: State = {slot: [torch.zeros_like(w) for w in self.weights] for slot in slots}
        self._set = (1.0, 1.0, 1.0)
        # Room for Adam's ratio: an update that allocated could run out of memory between two layers.
        room = max(w.numel() for w in self.weights) if slots == ["first", "second"] else 0
        self._ratio = like.new_empty(room)
        self._zero = torch.empty(room if spec.epsilon == 0.0 else 0, dtype=torch.bool, device=like.device)

    def prepare(self, step: int) -> None:
        """Set what depends on the number of the step (the first is 0); not part of a captured graph."""
        first, second = self.spec.betas
        values = (warmup_factor(step, self.spec.warmup_steps), 1.0 - first ** (step + 1), 1.0 - second ** (step + 1))
        if self.spec.name == OptimizerName.SGD:
            values = (values[0], 1.0, 1.0)
        if values != self._set:
            self.schedule.copy_(torch.tensor(values, dtype=torch.float64))
            self._set = values

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One update from the gradients of the loss, summed over members."""
        if self.spec.weight_decay:
            self._decay()
        update = self._sgd if self.spec.name == OptimizerName.SGD else self._adam
        for index, gradient in enumerate(gradients):
            update(index, gradient)

    def _decay(self) -> None:
        for weight, rule, negative in zip(self.weights, self.rules, self.negative_rates, strict=True):
            follows = rule.lr_scale if self.spec.decay_follows_layer else 1.0
            weight.mul_(1.0 + negative * self.schedule[0] * (self.spec.weight_decay * follows))

    def _sgd(self, index: int, gradient: Tensor) -> None:
        if self.spec.momentum:
            gradient = self.state["momentum"][index].mul_(self.spec.momentum).add_(gradient)
        rate = self.negative_rates[index]
        if self.spec.warmup_steps:
            rate = rate * self.schedule[0]
        self.weights[index].addcmul_(gradient, rate, value=self.rules[index].lr_scale)

    def _adam(self, index: int, gradient: Tensor) -> None:
        spec, rule = self.spec, self.rules[index]
        first = self.state["first"][index].lerp_(gradient, 1.0 - spec.betas[0])
        second = self.state["second"][index].mul_(spec.betas[1]).addcmul_(gradient, gradient, value=1.0 - spec.betas[1])
        epsilon = layer_epsilon(spec, rule)
        size = self._ratio[: first.numel()].view_as(first)
        torch.div(second, self.schedule[2], out=size).sqrt_().add_(epsilon)
        if epsilon == 0.0:
            zero = self._zero[: first.numel()].view_as(first)
            size.masked_fill_(torch.eq(size, 0.0, out=zero), float("inf"))
        rate = self.negative_rates[index] * (self.schedule[0] / self.schedule[1])
        self.weights[index].addcmul_(torch.div(first, size, out=size), rate, value=rule.lr_scale)

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Slot of the state -> layer -> its tensor: Adam's ``first`` and ``second`` moments, SGD's ``momentum``."""
        return {slot: dict(zip(self.names, tensors, strict=True)) for slot, tensors in self.state.items()}

    def take(self, network: Network, members: Tensor) -> MemberOptimizer:
        """The optimizer of some of the members, whose weights are already in ``network``; its state is copied."""
        other = MemberOptimizer(network, self.spec, self.rates.double()[members.to(self.rates.device)].tolist())
        for slot, tensors in self.state.items():
            for mine, copy in zip(tensors, other.state[slot], strict=True):
                copy.copy_(mine[members.to(mine.device)])
        return other
