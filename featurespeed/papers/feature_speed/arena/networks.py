"""The networks of the arena, in plain PyTorch and as it initialises them: no scheme knows them, nor they a scheme."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD = 16  # width of a head of attention: with the width grows the number of heads
PATCH = 4  # side of a patch, in pixels


class ResidualLayer(nn.Module):
    """``h + W relu(h)``: the residual layer of arXiv:2311.18718, Sec. 4."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.linear(torch.relu(h))


class Attention(nn.Module):
    """Attention with heads of :data:`HEAD` numbers."""

    def __init__(self, width: int, causal: bool):
        super().__init__()
        self.qkv, self.out, self._causal = nn.Linear(width, 3 * width), nn.Linear(width, width), causal

    def forward(self, h: Tensor) -> Tensor:
        n, length, width = h.shape
        heads = self.qkv(h).view(n, length, 3, width // HEAD, HEAD).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(*heads.unbind(0), is_causal=self._causal)
        return self.out(found.transpose(1, 2).reshape(n, length, width))


class TransformerBlock(nn.Module):
    """Pre-normalised attention and MLP, each on a branch of its own."""

    def __init__(self, width: int, causal: bool):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = Attention(width, causal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attention(self.norms[0](h))
        return h + self.mlp(self.norms[1](h))


class Patches(nn.Module):
    """Images as sequences of patches, embedded, with learned places."""

    def __init__(self, shape: tuple[int, ...], width: int):
        super().__init__()
        channels, height, _ = shape
        self.project = nn.Conv2d(channels, width, PATCH, PATCH)
        self.places = nn.Parameter(0.02 * torch.randn((height // PATCH) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x).flatten(2).transpose(1, 2) + self.places


class Words(nn.Module):
    """Tokens, embedded, with learned places."""

    def __init__(self, vocabulary: int, length: int, width: int):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x) + self.places


class MeanOverPlaces(nn.Module):
    """``[n, places, width]`` to ``[n, width]``."""

    def forward(self, h: Tensor) -> Tensor:
        return h.mean(1)


def mlp(shape: tuple[int, ...], classes: int, width: int, depth: int) -> nn.Module:
    """``depth`` hidden layers."""
    sizes = [int(torch.Size(shape).numel()), *[width] * depth]
    layers = [part for a, b in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, classes))


def residual_mlp(shape: tuple[int, ...], classes: int, width: int, depth: int) -> nn.Module:
    """An embedding, ``depth`` residual layers, a readout."""
    layers = (ResidualLayer(width) for _ in range(depth))
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), width), *layers, nn.Linear(width, classes))


def convnet(shape: tuple[int, ...], classes: int, width: int, depth: int) -> nn.Module:
    """``depth`` convolutions of 3 x 3, halving places twice, and a readout of means over places."""
    layers: list[nn.Module] = []
    for k in range(depth):
        layers += [nn.Conv2d(shape[0] if k == 0 else width, width, 3, padding=1), nn.ReLU()]
        if k < 2:
            layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def vit(shape: tuple[int, ...], classes: int, width: int, depth: int) -> nn.Module:
    """A vision transformer of ``depth`` blocks that reads the mean over patches."""
    blocks = (TransformerBlock(width, causal=False) for _ in range(depth))
    return nn.Sequential(
        Patches(shape, width), *blocks, nn.LayerNorm(width), MeanOverPlaces(), nn.Linear(width, classes)
    )


def gpt(shape: tuple[int, ...], classes: int, width: int, depth: int) -> nn.Module:
    """A decoder of ``depth`` blocks; its readout is not tied to the embedding."""
    blocks = (TransformerBlock(width, causal=True) for _ in range(depth))
    return nn.Sequential(Words(classes, shape[0], width), *blocks, nn.LayerNorm(width), nn.Linear(width, classes))


NETWORKS: dict[str, Callable[[tuple[int, ...], int, int, int], nn.Module]] = {
    "mlp": mlp,
    "residual_mlp": residual_mlp,
    "convnet": convnet,
    "vit": vit,
    "gpt": gpt,
}


def next_token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over classes, of images or of every token."""
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())
