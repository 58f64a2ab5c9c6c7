"""Small modules with every oddity that a user's code may have; a :class:`Choice` says in words what one is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

DOUBLE = torch.float64
CLASSES = 3  # of labels and tokens
FEATURES = 3  # of inputs that are no tokens
TIME = 3
WIDTH = {"vectors": 3, "images": 2, "tokens": 3, "sequences": 3, "time first": 3}


@dataclass(frozen=True)
class Choice:
    """What a problem is made of.

    Attributes:
        kind: of the inputs.
        layers: between the first and the last one.
        twists: oddities of the forward pass or of the parameters.
        loss: name of a loss.
        inputs: how the model takes them: as one tensor, two arguments, one pair, keywords, one mapping.
        outputs: one tensor, or a mapping that holds it.
        batch: one batch or several: a list, a loader, a generator; several have the given ``sizes``.
        sizes: examples in each batch.
        flat: targets of sequences are flattened.
        loss_of_model: the loss is a function ``(model, batch)``.
        micro_batch, weighted: arguments of the measuring functions; weighted is a ``batch_weight``.
        dtype: of most parameters.
        seed: of weights and data.
    """

    kind: str = "vectors"
    layers: tuple[str, ...] = ("tanh", "linear")
    twists: tuple[str, ...] = ()
    loss: str = "cross entropy"
    inputs: str = "one"
    outputs: str = "tensor"
    batch: str = "one"
    sizes: tuple[int, ...] = (5,)
    flat: bool = False
    loss_of_model: bool = False
    micro_batch: int | None = None
    weighted: bool = False
    dtype: torch.dtype = DOUBLE
    seed: int = 0


# --- modules ----------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Causal self-attention with a residual branch, ``[n, T, width]``."""

    def __init__(self, width: int):
        super().__init__()
        self.mix = nn.Linear(width, 3 * width)

    def forward(self, h: Tensor) -> Tensor:
        return h + functional.scaled_dot_product_attention(*self.mix(h).chunk(3, dim=2), is_causal=True)


class First(nn.Module):
    """The first output of a layer of PyTorch that returns several and takes ``copies`` of its input."""

    def __init__(self, layer: nn.Module, copies: int = 1):
        super().__init__()
        self.layer, self.copies = layer, copies

    def forward(self, h: Tensor) -> Tensor:
        return self.layer(*[h] * self.copies)[0]


class RunningMean(nn.Module):
    """Mean over the first dimension up to each entry."""

    def forward(self, h: Tensor) -> Tensor:
        counts = torch.arange(1, len(h) + 1, dtype=h.dtype)
        return h.cumsum(0) / counts.view(-1, *[1] * (h.ndim - 1))


class Gated(nn.Module):
    """A residual branch whose factor starts at 0: the outputs do not show it, the derivatives do."""

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch, self.factor = branch, nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.factor * self.branch(h)


EVERYWHERE: dict[str, Callable[[int], nn.Module]] = {
    "tanh": lambda width: nn.Tanh(),
    "relu in place": lambda width: nn.ReLU(inplace=True),
    "gelu": lambda width: nn.GELU(),
    "softplus": lambda width: nn.Softplus(),
    "dropout": lambda width: nn.Dropout(0.5),
}
ON_FEATURES = EVERYWHERE | {
    "linear": lambda width: nn.Linear(width, width),
    "layer norm": nn.LayerNorm,
    "gate": lambda width: Gated(nn.Sequential(nn.Linear(width, width), nn.Tanh())),
}
ON_SEQUENCES = ON_FEATURES | {
    "attention": Attention,
    "multi-head": lambda width: First(nn.MultiheadAttention(width, 1, batch_first=True), 3),
    "encoder": lambda width: nn.TransformerEncoderLayer(width, 1, 3, 0.1, batch_first=True),
    "gru": lambda width: First(nn.GRU(width, width, batch_first=True)),
}
LAYERS: dict[str, dict[str, Callable[[int], nn.Module]]] = {
    "vectors": ON_FEATURES | {
        "batch norm": nn.BatchNorm1d,
        "batch statistics": lambda width: nn.BatchNorm1d(width, track_running_stats=False),
        "gated statistics": lambda width: Gated(nn.BatchNorm1d(width, track_running_stats=False)),
    },
    "images": EVERYWHERE | {
        "conv": lambda width: nn.Conv2d(width, width, 2, padding="same"),
        "group norm": lambda width: nn.GroupNorm(1, width),
        "batch norm": nn.BatchNorm2d,
        "batch statistics": lambda width: nn.BatchNorm2d(width, track_running_stats=False),
        "max pool": lambda width: nn.MaxPool2d(3, 1, 1),
    },
    "tokens": ON_SEQUENCES,
    "sequences": ON_SEQUENCES,
    "time first": ON_FEATURES | {
        "running mean": lambda width: RunningMean(),
        "gated mean": lambda width: Gated(RunningMean()),
        "gru": lambda width: First(nn.GRU(width, width)),
        "multi-head": lambda width: First(nn.MultiheadAttention(width, 1), 3),
    },
}  # fmt: skip
STATISTICS = {"batch statistics", "gated statistics"}
OVER_TIME = {"running mean", "gated mean", "gru", "multi-head"}  # which mix the entries of "time first"


class Wrapped(nn.Module):
    """A layer in another one's place: called in its own precision, or as a checkpoint."""

    def __init__(self, layer: nn.Module, checkpointed: bool):
        super().__init__()
        self.layer, self.checkpointed = layer, checkpointed

    def forward(self, h: Tensor) -> Tensor:
        if h.is_floating_point():
            h = h.to(next((p.dtype for p in self.layer.parameters()), h.dtype))
        return checkpoint(self.layer, h, use_reentrant=False) if self.checkpointed else self.layer(h)


class Twist(nn.Module):
    """What happens to the first hidden features; parameters that do not learn, or are not used."""

    def __init__(self, name: str, dtype: torch.dtype):
        super().__init__()
        self.name, self.calls = name, 0
        self.gain = nn.Parameter(torch.full((1,), 0.7, dtype=dtype)) if name in CUT_OFF | {"unused"} else None

    def forward(self, h: Tensor) -> Tensor:
        self.calls += 1
        return {
            "unused": lambda: h,
            "detached branch": lambda: h + 0.3 * torch.tanh(h.detach()),
            "detached parameter": lambda: h * self.gain.detach().to(h),
            "no_grad parameter": lambda: h * torch.no_grad()(torch.exp)(self.gain).to(h),
            "noise": lambda: h + 0.1 * torch.randn_like(h),
            "dropout on": lambda: functional.dropout(h, 0.5),
            "counter": lambda: h + 0.1 * self.calls * torch.sin(h),
        }[self.name]()


CHANGING = {"noise", "dropout on", "counter"}
CUT_OFF = {"detached parameter", "no_grad parameter"}
OF_FEATURES = ("unused", "detached branch", *sorted(CUT_OFF), *sorted(CHANGING))
TWISTS = ("frozen", "tied", "mixed precision", "input in place", "checkpoint", "zero readout", *OF_FEATURES)


def chain_of(choice: Choice) -> list[nn.Module]:
    """All layers, applied one after the other."""
    width = WIDTH[choice.kind]
    first = {"images": lambda: nn.Conv2d(1, width, 2), "tokens": lambda: nn.Embedding(CLASSES, width)}
    found = [first.get(choice.kind, lambda: nn.Linear(FEATURES, width))()]
    found += [LAYERS[choice.kind][name](width) for name in choice.layers]
    found += [nn.Flatten(), nn.Linear(4 * width, CLASSES)] if choice.kind == "images" else [nn.Linear(width, CLASSES)]
    for layer in found:
        for name, buffer in layer.named_buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.normal_()
    return _twisted(found, choice)


def _twisted(layers: list[nn.Module], choice: Choice) -> list[nn.Module]:
    mixed, checkpointed = ("mixed precision" in choice.twists), ("checkpoint" in choice.twists)
    if "zero readout" in choice.twists:
        nn.init.zeros_(layers[-1].weight)
    if "tied" in choice.twists:
        _tie(layers)
    if "frozen" in choice.twists:
        layers[0].requires_grad_(False)
    for place, layer in enumerate(layers):
        layer.to(torch.float32 if mixed and place % 2 else choice.dtype)
    if mixed or checkpointed:
        layers = [Wrapped(layer, checkpointed) for layer in layers]
    return [layers[0], *(Twist(name, choice.dtype) for name in choice.twists if name in OF_FEATURES), *layers[1:]]


def _tie(layers: list[nn.Module]) -> None:
    """One matrix for the first two layers that may share theirs."""
    seen: dict[torch.Size, Tensor] = {}
    for layer in layers:
        weight = getattr(layer, "weight", None)
        if isinstance(layer, (nn.Linear, nn.Embedding, nn.Conv2d)):
            if weight.shape in seen:
                layer.weight = seen[weight.shape]
                return
            seen[weight.shape] = weight


class Network(nn.Module):
    """Layers one after the other; ``forward`` takes inputs in one of several forms."""

    def __init__(self, layers: list[nn.Module], choice: Choice):
        super().__init__()
        self.layers, self.outputs = nn.Sequential(*layers), choice.outputs
        self.in_place = "input in place" in choice.twists

    def body(self, x: Tensor) -> Any:
        if self.in_place:
            x = x.mul_(0.5).add_(0.1) if x.is_floating_point() else x.add_(1).remainder_(CLASSES)
        h = self.layers(x)
        return {"logits": h, "rest": h * 2} if self.outputs == "mapping" else h


class OneTensor(Network):
    def forward(self, x: Tensor) -> Any:
        return self.body(x)


class TwoArguments(Network):
    def forward(self, a: Tensor, b: Tensor) -> Any:
        return self.body(_both(a, b))


class OnePair(Network):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Any:
        return self.body(_both(*pair))


class Keywords(Network):
    def forward(self, a: Tensor, b: Tensor, labels: Tensor | None = None) -> Any:
        return self.body(_both(a, b))


class OneMapping(Network):
    def forward(self, batch: dict[str, Tensor]) -> Any:
        return self.body(_both(batch["a"], batch["b"]))


def _both(a: Tensor, b: Tensor) -> Tensor:
    return a.add_(b.tanh())  # changes a


FORMS: dict[str, type[Network]] = {
    "one": OneTensor, "two arguments": TwoArguments, "one pair": OnePair, "keywords": Keywords, "mapping": OneMapping,
    "with labels": Keywords,
}  # fmt: skip
