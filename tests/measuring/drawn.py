"""Drawn problems: a module, a loss and data, as a :class:`Choice` says in words.

Examples lie along the first dimension of the inputs, but for the kind "time first", whose inputs are ``[time, batch,
features]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tests.measuring.drawn_modules import CHANGING, CLASSES, DOUBLE, FEATURES, FORMS, TIME, Choice, Network, chain_of

PADDING = -1
CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 3.0], dtype=DOUBLE)

# --- losses, on outputs [N, classes] and targets [N] or [N, classes] --------------------------------------------------


def _contrastive(outputs: Tensor, targets: Any) -> Tensor:
    """Each example is told from the others in the batch by itself."""
    return functional.cross_entropy(2 * outputs @ outputs.T, torch.arange(len(outputs)))


FLAT_LOSSES: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "cross entropy": functional.cross_entropy,
    "sum": lambda o, t: functional.cross_entropy(o, t, reduction="sum"),
    "class weights": lambda o, t: functional.cross_entropy(o, t, CLASS_WEIGHTS.to(o)),
    "padding": lambda o, t: functional.cross_entropy(o, t, ignore_index=PADDING),
    "smoothing": lambda o, t: functional.cross_entropy(o, t, label_smoothing=0.1),
    "mse": functional.mse_loss,
    "mse sum": lambda o, t: functional.mse_loss(o, t, reduction="sum"),
    "mse in place": lambda o, t: o.sub_(t).square().mean(),
    "root of mse": lambda o, t: functional.mse_loss(o, t).sqrt(),
    "no targets": lambda o, t: o.square().mean() + o.sin().mean(),
    "contrastive": _contrastive,
    "noisy": lambda o, t: functional.cross_entropy(o + 0.1 * torch.randn_like(o), t),
}
MEANS = {"cross entropy", "smoothing", "mse", "no targets"}  # whose batches count by their number of examples
WHOLE_ONLY = {"contrastive", "root of mse"}


def changing(choice: Choice) -> bool:
    """Whether there is nothing to measure: the loss is another one from call to call."""
    return bool(CHANGING & set(choice.twists)) or choice.loss == "noisy"


def flattened(tree: Any) -> Tensor:
    """Outputs as ``[N, classes]``."""
    found = tree["logits"] if isinstance(tree, dict) else tree
    return found.flatten(0, -2)


def loss_of(choice: Choice) -> Callable[..., Tensor]:
    """The loss as a user would write it."""
    flat = FLAT_LOSSES[choice.loss]

    def loss(outputs: Any, targets: Any) -> Tensor:
        targets = targets["labels"] if isinstance(targets, dict) else targets
        return flat(flattened(outputs), flat_targets(choice, targets))

    def of_model(model: Callable[..., Any], batch: Any) -> Tensor:
        if isinstance(batch, dict):
            return loss(model(**batch), batch)
        return loss(called(choice, model, batch[0]), batch[1])

    return of_model if choice.loss_of_model else loss


def flat_targets(choice: Choice, targets: Any) -> Any:
    if targets is None:
        return None
    return targets.flatten(0, -2) if choice.loss.startswith(("mse", "root")) else targets.flatten()


def called(choice: Choice, model: Callable[..., Any], inputs: Any) -> Any:
    """The outputs, from inputs in the form of the choice."""
    if choice.inputs == "two arguments":
        return model(*inputs)
    return model(**inputs) if choice.inputs in ("keywords", "with labels") else model(inputs)


# --- problems ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Problem:
    """A model in training mode, a loss, and the batches ``(inputs, targets)`` or mappings."""

    choice: Choice
    model: Network
    loss: Callable[..., Tensor]
    batches: list[Any]

    @property
    def given(self) -> Any:
        """The data in the form that is handed over, made anew for each call."""
        first, form = self.batches[0], self.choice.batch
        if form == "one":
            return first
        if form == "loader" and self._plain:
            inputs, targets = (torch.cat([batch[i] for batch in self.batches]) for i in (0, 1))
            return DataLoader(TensorDataset(inputs, targets), batch_size=len(first[0]))
        if form == "loader":
            return DataLoader(self.batches, batch_size=None)
        return iter(self.batches) if form == "generator" else list(self.batches)

    @property
    def _plain(self) -> bool:
        """Whether a loader would cut one data set into these batches."""
        sizes = self.choice.sizes
        pairs = all(isinstance(batch, tuple) and all(isinstance(t, Tensor) for t in batch) for batch in self.batches)
        even = len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0]
        return pairs and even and not self.choice.flat and self.choice.kind != "time first"

    @property
    def trained(self) -> list[Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]


def links_of(choice: Choice) -> list[nn.Module]:
    """The same layers as a chain, of which the first takes the inputs in their form."""
    with torch.random.fork_rng():
        torch.manual_seed(choice.seed)
        first, *others = chain_of(choice)
    return [FORMS[choice.inputs]([first], replace(choice, outputs="tensor")), *others]


def problem_of(choice: Choice) -> Problem:
    with torch.random.fork_rng():
        torch.manual_seed(choice.seed)
        model = FORMS[choice.inputs](chain_of(choice), choice)
        batches = [_batch(choice, size, place == len(choice.sizes) - 1) for place, size in enumerate(choice.sizes)]
    return Problem(choice, model, loss_of(choice), batches)


def _batch(choice: Choice, size: int, last: bool) -> Any:
    shape = {"vectors": (size,), "images": (size, 1, 3, 3), "time first": (TIME, size)}.get(choice.kind, (size, TIME))
    if choice.kind == "tokens":
        inputs: Any = torch.randint(CLASSES, shape)
    else:
        shape = shape if choice.kind == "images" else (*shape, FEATURES)
        inputs, second = torch.randn(2, *shape, dtype=DOUBLE).to(choice.dtype)
        if choice.inputs != "one":
            pair = choice.inputs in ("two arguments", "one pair")
            inputs = (inputs, second) if pair else {"a": inputs, "b": second}
    labels = {"vectors": (size,), "images": (size,), "time first": (TIME, size)}.get(choice.kind, (size, TIME))
    targets = _targets(choice, labels, last)
    if choice.flat and targets is not None:
        targets = flat_targets(choice, targets)
    return inputs | {"labels": targets} if choice.inputs == "with labels" else (inputs, targets)


def _targets(choice: Choice, shape: tuple[int, ...], last: bool) -> Tensor | None:
    if choice.loss in ("no targets", "contrastive"):
        return None
    if choice.loss.startswith(("mse", "root")):
        return torch.randn(*shape, CLASSES, dtype=DOUBLE).to(choice.dtype)
    targets = torch.randint(CLASSES, shape)
    if choice.loss == "padding":
        targets[torch.rand(shape) < 0.5] = PADDING
        if last or choice.weighted:
            targets[-1] = 1  # there is something to learn
    return targets


def weight_of(targets: Any) -> float:
    """A ``batch_weight`` that is not the number of examples."""
    return 1.0 + float((targets["labels"] if isinstance(targets, dict) else targets).double().mean()) ** 2
