"""Does the learning rate of a small GPT transfer? Under μP yes, as it is usually initialised no: five seeds each.

Settings are from theory: under the standard parameterization the best rate of Adam falls as 1/width (arXiv:2203.03466),
three octaves over the factor 8 of the widths here, and stays under μP. Seeds are those of no other test.
"""

from __future__ import annotations

from pydoc_data.topics import topics

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed import autoscale, transfer_check

WIDTHS = (12, 24, 48, 96)
SEEDS = (5001, 5002, 5003, 5004, 5005)
LENGTH, BATCH, STEPS, HEAD = 32, 4, 80, 12
TEXT = "".join(topics.values())[:200_000].encode("ascii", "replace")
SYMBOLS = sorted(set(TEXT))


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        n, t, width = h.shape
        q, k, v = self.qkv(self.norms[0](h)).view(n, t, 3, width // HEAD, HEAD).permute(2, 0, 3, 1, 4).unbind()
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).reshape(n, t, width))
        return h + self.down(functional.gelu(self.up(self.norms[1](h))))


class Gpt(nn.Module):
    """Two blocks, as PyTorch initialises them."""

    def __init__(self, width: int):
        super().__init__()
        self.tokens, self.places = nn.Embedding(len(SYMBOLS), width), nn.Embedding(LENGTH, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(2)))
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, len(SYMBOLS), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        return self.readout(self.norm(self.blocks(h)))


def next_symbol_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def data() -> tuple[Tensor, Tensor]:
    """Sequences and, one place on, their answers."""
    numbers = torch.tensor([SYMBOLS.index(symbol) for symbol in TEXT])
    rows = numbers[: (len(numbers) - 1) // LENGTH * LENGTH + 1]
    return rows[:-1].view(-1, LENGTH), rows[1:].view(-1, LENGTH)


def mup_model(width: int) -> nn.Module:
    """The same network with the scales of μP, relative to the smallest; its factors on the rates go with it."""
    model = Gpt(width)
    x, y = data()
    scaled = autoscale(model, next_symbol_loss, (x[:4], y[:4]), "mup", Gpt(WIDTHS[0]))
    model.factors = dict(zip(scaled.table["name"], scaled.table["lr_adam"], strict=True))
    return model


def mup_adamw(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    groups = [{"params": [p], "lr": rate * model.factors[name]} for name, p in model.named_parameters()]
    return torch.optim.AdamW(groups, weight_decay=0.0)


def adamw(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), rate, weight_decay=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "optimizer", "powers", "verdict"),
    [(mup_model, mup_adamw, range(-9, -2), "transfers"), (Gpt, adamw, range(-10, -2), "does not transfer")],
    ids=["mup", "sp"],
)
def test_transfer_of_a_gpt_with_adamw(make, optimizer, powers, verdict):
    rates = [2.0**power for power in powers]
    found = transfer_check(
        make, WIDTHS, rates, next_symbol_loss, data(), optimizer, STEPS, SEEDS, batch_size=BATCH, sharpness_at=0,
        progress=False,
    )  # fmt: skip
    assert found.verdict == verdict, found.sentence
