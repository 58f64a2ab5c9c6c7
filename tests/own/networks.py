"""Small networks that this project did not write, each with a loss and a batch, in float64 or float32."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.measuring.trees import mapped


@dataclass(frozen=True)
class Case:
    """A network, a loss and a batch that go together."""

    model: nn.Module
    loss: Callable[..., Tensor]
    batch: Any


def next_word_loss(outputs: Any, tokens: Tensor) -> Tensor:
    """Cross-entropy of the next token, of logits in an object or a tensor."""
    logits = getattr(outputs, "logits", outputs)
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def class_loss(outputs: Any, labels: Tensor) -> Tensor:
    """Cross-entropy of the class, of logits in an object or a tensor."""
    return functional.cross_entropy(getattr(outputs, "logits", outputs), labels)


def gpt2(layers: int = 2, width: int = 16, tied: bool = True) -> nn.Module:
    """GPT-2 of transformers, from a small configuration."""
    complete_torchvision()
    import transformers

    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=width, n_layer=layers, n_head=2, tie_word_embeddings=tied,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def bert() -> nn.Module:
    """BERT of transformers with a readout for classes."""
    complete_torchvision()
    import transformers

    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def lora() -> nn.Module:
    """GPT-2 with adapters of low rank by peft: nothing else moves."""
    complete_torchvision()
    import peft

    config = peft.LoraConfig(r=2, target_modules=["c_attn", "c_proj"], init_lora_weights=False, fan_in_fan_out=True)
    return peft.get_peft_model(gpt2(), config)


def timm_model(name: str, **settings: Any) -> nn.Module:
    """A network of timm."""
    complete_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    return timm.create_model(name, **settings)


@cache
def complete_torchvision() -> None:
    """Its compiled part may not fit this torch; the others import it all the same, and none of them needs it."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for operation in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operation}", "(Tensor d, Tensor s, float t) -> Tensor")


class Recurrent(nn.Module):
    """Two LSTM layers and a readout of the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class TwoHeads(nn.Module):
    """A trunk with two outputs: behind neither of them stands all that learns."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.trunk, self.a, self.b = nn.Linear(inputs, 8), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x).relu()
        return self.a(h), self.b(h)


def foreign(name: str, dtype: torch.dtype = torch.float64) -> Case:
    """One of :data:`FOREIGN`, the same at every call."""
    torch.manual_seed(0)
    made = FOREIGN[name]()

    def converted(leaf: Any) -> Any:
        return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    return Case(made.model.to(dtype), made.loss, mapped(converted, made.batch))


def _tokens() -> Tensor:
    return torch.randint(20, (5, 8))


def _texts(model: Callable[[], nn.Module]) -> Callable[[], Case]:
    def made() -> Case:
        tokens = _tokens()
        return Case(model(), next_word_loss, (tokens, tokens))

    return made


def _images(name: str, **settings: Any) -> Callable[[], Case]:
    return lambda: Case(
        timm_model(name, num_classes=3, **settings), class_loss, (torch.randn(4, 3, 32, 32), torch.randint(3, (4,)))
    )


def _transformer() -> Case:
    source, target = torch.randn(5, 6, 8), torch.randn(5, 4, 8)
    model = nn.Transformer(8, 2, 2, 2, 16, batch_first=True)
    return Case(model, functional.mse_loss, ((source, target), torch.randn(5, 4, 8)))


FOREIGN: dict[str, Callable[[], Case]] = {
    "gpt2": _texts(gpt2),
    "bert": lambda: Case(bert(), class_loss, (_tokens(), torch.randint(3, (5,)))),
    "lora": _texts(lora),
    "vit": _images("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2),
    "resnet": _images("resnet10t", stem_width=8, channels=(8, 8, 16, 16)),
    "transformer": _transformer,
    "lstm": lambda: Case(Recurrent(), class_loss, (torch.randn(6, 5, 4), torch.randint(3, (6,)))),
}
