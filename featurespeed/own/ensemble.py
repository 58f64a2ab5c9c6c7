"""Networks of one size trained side by side: one forward pass, one optimizer, many seeds and learning rates.

Parameters are stacked, ``[seeds, rates, ...]``, and the loss is mapped over the first two dimensions (``torch.vmap``).
One optimizer of the user's class moves the stacks at the largest of the learning rates. That is exact where a step is
proportional to the learning rate and the optimizer's state does not depend on it: the change of each network is then
made smaller by its own rate over the largest one. :data:`PROPORTIONAL` are the optimizers of which that is known.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from featurespeed.measuring.batches import Part, parts_of
from featurespeed.measuring.exchange import exchanged
from featurespeed.measuring.trees import mapped, same_form, tensors
from featurespeed.own.training import Recipe, beside_values, is_told_by_state

#: Every number of a parameter moves by itself, by learning rate times what does not depend on the learning rate.
PROPORTIONAL = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
)
EXACT = (torch.float32, torch.float64)  # precisions in which a share of a step is that step at a smaller rate
RATES = ("lr", "initial_lr")  # options of a parameter group that may differ between learning rates


class NotSideBySide(Exception):
    """Networks that cannot be trained side by side; ``str(error)`` says why."""


class SideBySide:
    """Networks of some seeds and learning rates, trained side by side.

    Args:
        recipe: what is trained.
        size, seeds, rates: of the networks.
        any_optimizer: also one that is not known to be proportional to its learning rate.

    Raises:
        NotSideBySide: it would not be what each of them does alone.
    """

    def __init__(
        self, recipe: Recipe, size: int, seeds: Sequence[int], rates: Sequence[float], any_optimizer: bool = False
    ):
        self.seeds, self.rates, self._recipe = tuple(seeds), tuple(rates), recipe
        recipe.beginning.restore()
        networks = [recipe.network(size, seed) for seed in seeds]
        self._base, self._first = networks[0], beside_values(networks[0])
        groups = [
            groups_of(network, recipe.optimizer_of(network, rate), any_optimizer)
            for network in networks
            for rate in rates
        ]
        self._ids = {id(p): place for place, p in enumerate((*self._base.parameters(), *self._base.buffers()))}
        values = [[*(p.detach() for p in network.parameters()), *network.buffers()] for network in networks]
        self._values = [self._stacked(same) for same in _columns(values)]
        self._count = len(list(self._base.parameters()))
        self._learning = [k for k, p in enumerate(self._base.parameters()) if p.requires_grad]
        if any(self._values[place].dtype not in EXACT for place in self._learning):
            raise NotSideBySide("weights in half precision, in which shares of a step round")
        for place in self._learning:
            self._values[place].requires_grad_()
        self._optimizer, self._factors = self._shared_optimizer(groups)
        self._moving = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._before = [torch.empty_like(p) for p in self._moving]

    def _stacked(self, same: Sequence[Tensor]) -> Tensor:
        """One tensor of all seeds, once for every rate: ``[seeds, rates, ...]``."""
        together = torch.stack(list(same)).unsqueeze(1)
        return together.expand(-1, len(self.rates), *together.shape[2:]).contiguous()

    def _shared_optimizer(self, groups: list[Groups]) -> tuple[torch.optim.Optimizer, list[Tensor | None]]:
        """One optimizer at the largest rates, and for each tensor that it moves every network's own rate over that."""
        kind: Any = groups[0][0]
        first = groups[0][1]
        made, factors = [], []
        for k, (options, places) in enumerate(first):
            others = [own[k] if k < len(own) else None for _, own in groups]
            if any(o is None or o[1] != places or _without_rates(o[0]) != _without_rates(options) for o in others):
                raise NotSideBySide("groups of the optimizer differ between networks in more than their learning rates")
            rates = [float(other[0]["lr"]) for other in others if other is not None]
            most = max(rates)
            made.append({**options, "lr": most, "params": [self._values[place] for place in places]})
            factors += [self._factor(rates, most, self._values[place]) for place in places]
        if any(len(own) != len(first) for _, own in groups):
            raise NotSideBySide("groups of the optimizer differ between networks in more than their learning rates")
        try:
            return kind(made), factors
        except Exception as error:
            raise NotSideBySide(f"{kind.__name__} cannot be made from groups: {error}") from error

    def _factor(self, rates: list[float], most: float, like: Tensor) -> Tensor | None:
        """``[seeds, rates, 1, ...]``; None where all rates are the same."""
        if min(rates) == most:
            return None
        shares = torch.tensor([rate / most for rate in rates], dtype=torch.float64).to(like)
        return shares.reshape(len(self.seeds), len(self.rates), *[1] * (like.ndim - 2))

    def step(self, parts: list[Part], step: int) -> Tensor:
        losses = self.differentiate(parts)
        self.move()
        return losses

    def differentiate(self, parts: list[Part]) -> Tensor:
        """Losses ``[seeds, rates]``; gradients are then those of the stacked parameters, each network's own."""
        learning = [self._values[place] for place in self._learning]
        with _plain_operations():
            losses = self._losses(parts)
            gradients = torch.autograd.grad(losses.sum(), learning, allow_unused=True)
        for parameter, gradient in zip(learning, gradients, strict=True):
            parameter.grad = gradient
        return losses.detach()

    def _losses(self, parts: list[Part]) -> Tensor:
        if len(parts) == 1:
            return self._over_rates([value[0] for value in self._values], parts[0].whole).unsqueeze(0)
        first = parts[0].whole
        if not all(_same_shapes(first, part.whole) for part in parts[1:]):
            alone = [([value[k] for value in self._values], part.whole) for k, part in enumerate(parts)]
            return torch.stack([self._over_rates(values, batch) for values, batch in alone])
        # One map over seeds and rates, not one inside the other: some losses of PyTorch fail there.
        batches = [torch.stack(same) for same in _columns([tensors(part.whole) for part in parts])]
        leaves = [leaf.repeat_interleave(len(self.rates), 0) for leaf in batches]

        def of_one(own: list[Tensor], leaves: list[Tensor]) -> Tensor:
            return self._of_one(own, _filled(first, leaves))

        losses = torch.vmap(of_one)([value.flatten(0, 1) for value in self._values], leaves)
        return losses.unflatten(0, (len(self.seeds), len(self.rates)))

    def _over_rates(self, values: list[Tensor], batch: Any) -> Tensor:
        """Losses of all rates on the batch of their seed, ``[rates]``."""
        return torch.vmap(lambda own: self._of_one(own, batch))(values)

    def _of_one(self, own: list[Tensor], batch: Any) -> Tensor:
        """The loss of one network."""
        part = parts_of([batch], None, self._recipe.takes_batch)[0]
        with exchanged(self._base, {key: own[place] for key, place in self._ids.items()}):
            return self._recipe.value(self._base, part)

    @torch.no_grad()
    def move(self) -> None:
        """One step of every network at its own learning rate."""
        torch._foreach_copy_(self._before, self._moving)
        self._optimizer.step()
        for before, now, factor in zip(self._before, self._moving, self._factors, strict=True):
            if factor is not None:
                torch.lerp(before, now, factor, out=now)

    def weights(self, seed: int, rate: int) -> list[Tensor]:
        return [value.detach()[seed, rate] for value in self._values[: self._count]]

    def gradients(self, seed: int, rate: int) -> list[Tensor | None]:
        """Gradients of the parameters of one network; None where there is none."""
        own = self._values[: self._count]
        return [None if value.grad is None else value.grad[seed, rate] for value in own]

    def parts(self, start: int) -> Iterator[list[Part]]:
        streams = [self._recipe.parts(self._base, seed, start) for seed in self.seeds]
        return (list(parts) for parts in zip(*streams, strict=False))

    @property
    def resumes(self) -> bool:
        told = is_told_by_state(self._optimizer) and beside_values(self._base) == self._first
        return told and not self._recipe.beginning.is_left

    def state(self) -> dict[str, Any]:
        return {"tensors": [value.detach() for value in self._values], "optimizer": self._optimizer.state_dict()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        for own, kept in zip(self._values, state["tensors"], strict=True):
            own.copy_(kept)
        self._optimizer.load_state_dict(state["optimizer"])


Groups = tuple[type[torch.optim.Optimizer], list[tuple[dict[str, Any], list[int]]]]


def groups_of(model: nn.Module, optimizer: torch.optim.Optimizer, any_optimizer: bool = False) -> Groups:
    """Class of an optimizer, and of every group of it the options and the places of its parameters in the model.

    Raises:
        NotSideBySide: its steps may not be proportional to its learning rate.
    """
    kind = type(optimizer)
    if kind not in PROPORTIONAL and not any_optimizer:
        raise NotSideBySide(f"steps of {kind.__name__} are not known to be proportional to its learning rate")
    if "step" in vars(optimizer) or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise NotSideBySide("the optimizer has a scheduler or hooks")
    if optimizer.state and kind not in (torch.optim.Adagrad,):  # which makes its state, zeros, beforehand
        raise NotSideBySide("the optimizer has made steps before")
    places = {id(parameter): place for place, parameter in enumerate(model.parameters())}
    found = []
    for group in optimizer.param_groups:
        options = {key: value for key, value in group.items() if key != "params"}
        if any(isinstance(value, Tensor) for value in options.values()):
            raise NotSideBySide("options of the optimizer are tensors")
        found.append((options, [places[id(parameter)] for parameter in group["params"]]))
    return kind, found


def _without_rates(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in RATES}


def _columns(rows: list[list[Tensor]]) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of the same place, of all seeds.

    Raises:
        NotSideBySide: their shapes differ.
    """
    for same in zip(*rows, strict=True):
        if len({(tensor.shape, tensor.dtype) for tensor in same}) > 1:
            raise NotSideBySide("shapes differ between seeds")
        yield same


def _same_shapes(first: Any, second: Any) -> bool:
    shapes = [[(tensor.shape, tensor.dtype) for tensor in tensors(tree)] for tree in (first, second)]
    return shapes[0] == shapes[1] and same_form(first, second)


def _filled(tree: Any, values: list[Tensor]) -> Any:
    """The tree with other tensors in the place of its own, in order."""
    left = iter(values)
    return mapped(lambda leaf: next(left) if isinstance(leaf, Tensor) else leaf, tree)


@contextmanager
def _plain_operations() -> Iterator[None]:
    """Attention by its plain formula, which is one product for all networks; others are loops over them."""
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield
