"""Transformers as ensembles of members: a ViT, and decoders of tokens with normalisation before or after the branches.

A network is a chain: an embedding, residual branches of attention and of an MLP in turn, a readout. With ``r`` the
multiplier of branches and ``LN`` a layer normalisation with gain and bias,

    h -> h + r B(LN(h))     (``vit``, ``gpt``)        h -> LN(h + r B(h))     (``post_ln``),

and attention is ``softmax(c q k^T) v`` with ``c`` of :func:`featurespeed.parameterization.attention_scale`. Sequences
are ``[E, batch, tokens, features]``. Between two modules of the chain all that later ones know of the input is one
feature, the cut node of arXiv:2311.18718.

Source: arXiv:2402.17457, App. J.2 and J.3; arXiv:2010.11929 (ViT); arXiv:1706.03762 (post-LN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.models.layers import ACTIVATIONS, MemberLinear, Weighted
from featurespeed.models.plan import LayerPlan, ModulePlan, NetworkPlan
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import LayerRole, Parameterization, ScalingRule, attention_scale

# Tokens up to which, on a CPU, products one after the other beat PyTorch's fused attention, which is made for long
# sequences: forward and backward of 17 tokens with 8 features a head are 2.3 times as fast, of 65 tokens 0.96 times.
SHORT = 32

MakeLayer = Callable[[LayerPlan], Weighted]


class Vector(Weighted):
    """What is no matrix: one vector a member, ``[E, n]``, or a table of them, ``[E, rows, n]``.

    Args:
        shape: of the weight.
        rule: its row of the table of parameterizations, that of an input layer with ``D = 1``.
        std: of its initialisation, in place of the table's.
    """

    part = "vector"

    def __init__(self, shape: tuple[int, ...], rule: ScalingRule, std: float | None = None):
        if std is not None:
            rule = ScalingRule(std, rule.multiplier, rule.lr_scale, rule.epsilon_scale)
        super().__init__(shape, LayerRole.INPUT, rule)

    def spread(self, weight: Tensor, x: Tensor) -> Tensor:
        """The vectors with ones for the dimensions of ``x`` that they lack, ``[E, 1, 1, n]``: to be broadcast."""
        vectors = weight if self.rule.multiplier == 1.0 else weight * self.rule.multiplier
        return vectors.unflatten(0, (-1, *[1] * (x.ndim - weight.ndim)))

    def apply_weight(self, weight: Tensor, x: Tensor) -> Tensor:
        """The vectors, once for every input and token; ``x [E, B, T, n]`` or ``[E, B, n]`` gives the shape."""
        return self.spread(weight, x).expand_as(x)


class Bias(Vector):
    """``x -> x + b``; the same at every token."""

    part = "bias"

    def __init__(self, shape: tuple[int, ...], rule: ScalingRule, std: float | None = 0.0):
        super().__init__(shape, rule, std)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.spread(self.weight, x)


class Positions(Bias):
    """``x -> x + b`` with one row of a table for each token."""

    part = "positions"

    def __init__(self, shape: tuple[int, ...], rule: ScalingRule):
        super().__init__(shape, rule, std=None)


class Gain(Vector):
    """``x -> g x``, unit by unit; ones at first."""

    part = "gain"
    mean = 1.0

    def __init__(self, shape: tuple[int, ...], rule: ScalingRule):
        super().__init__(shape, rule, 0.0)

    def apply_weight(self, weight: Tensor, x: Tensor) -> Tensor:
        return self.spread(weight, x) * x


class Token(Vector):
    """One more token, before the others: ``[E, B, T, n] -> [E, B, T + 1, n]``."""

    part = "token"

    def added_by(self, change: Tensor, x: Tensor) -> Tensor:
        return torch.cat([self.apply_weight(change, x[:, :, :1]), torch.zeros_like(x)], dim=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.apply_weight(self.weight, x[:, :, :1]), x], dim=2)


class Lookup(Vector):
    """Embeddings of tokens: ``[E, B, T]`` or ``[S, B, T]``, whole numbers, to ``[E, B, T, n]``."""

    part = "lookup"

    def apply_weight(self, weight: Tensor, x: Tensor) -> Tensor:
        members, rows, _ = weight.shape
        first = torch.arange(0, members * rows, rows, device=x.device)  # row of each member's first token
        chosen = x.repeat_interleave(members // len(x), 0) + first[:, None, None]
        return functional.embedding(chosen, weight.flatten(0, 1)) * self.rule.multiplier


_VECTORS: dict[str, type[Vector]] = {
    "lookup": Lookup,
    "bias": Bias,
    "gain": Gain,
    "token": Token,
    "positions": Positions,
}


def make_vector(members: int, plan: LayerPlan, rule: ScalingRule) -> Vector:
    """A vector or a table of vectors as it is planned."""
    rows = (plan.inputs,) if plan.vector in ("lookup", "positions") else ()
    return _VECTORS[plan.vector]((members, *rows, plan.outputs), rule)


class Norm(nn.Module):
    """Layer normalisation over the features, then gain and bias."""

    def __init__(self, gain: Gain, bias: Bias):
        super().__init__()
        self.gain, self.bias = gain, bias

    def forward(self, x: Tensor) -> Tensor:
        return self.bias(self.gain(functional.layer_norm(x, x.shape[-1:])))


class TokenEmbedding(nn.Module):
    """``h_1``: embeddings of the tokens plus those of their positions."""

    def __init__(self, lookup: Lookup, positions: Bias):
        super().__init__()
        self.lookup, self.positions = lookup, positions

    def forward(self, x: Tensor) -> Tensor:
        return self.positions(self.lookup(x))


class PatchEmbedding(nn.Module):
    """``h_1``: squares of pixels, each through one matrix, behind a class token, plus embeddings of the positions.

    Args:
        layer: ``[side^2 * channels] -> width``.
        bias: of that layer, if it has one.
        side: of the squares.
    """

    def __init__(self, layer: MemberLinear, bias: Bias | None, token: Token, positions: Bias, side: int):
        super().__init__()
        self.layer, self.bias, self.token, self.positions, self.side = layer, bias, token, positions, side

    def forward(self, x: Tensor) -> Tensor:
        squares = x.unflatten(-1, (-1, self.side)).unflatten(-3, (-1, self.side))
        # [S, B, C, rows, side, columns, side]
        h = self.layer(squares.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3))
        return self.positions(self.token(h if self.bias is None else self.bias(h)))


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> Tensor:
    """``softmax(scale q k^T) v`` of ``[..., T, d_head]``; ``causal`` sees no later token."""
    if q.device.type != "cpu" or q.shape[-2] > SHORT:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    scores = (q * scale) @ k.transpose(-1, -2)
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(-1) @ v


class Attention(nn.Module):
    """Self-attention of several heads; ``causal`` sees no later token.

    Args:
        query, key, value: width to width.
        projection: of the joined heads, with its bias; none if empty.
        heads: that divide the width.
        scale: factor on the products of queries and keys.
    """

    def __init__(
        self,
        query: MemberLinear,
        key: MemberLinear,
        value: MemberLinear,
        projection: Sequence[Weighted],
        heads: int,
        scale: float,
        causal: bool,
    ):
        super().__init__()
        self.query, self.key, self.value = query, key, value
        self.projection = nn.Sequential(*projection)
        self.heads, self.scale, self.causal = heads, scale, causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(0, 1)  # [E * B, heads, T, d_head]
            for layer in (self.query, self.key, self.value)
        )
        z = attend(q, k, v, self.causal, self.scale)
        return self.projection(z.unflatten(0, x.shape[:2]).transpose(2, 3).flatten(3))


class Perceptron(nn.Module):
    """``W_2 phi(W_1 x + b_1) + b_2`` at every token."""

    def __init__(self, layers: Sequence[Weighted], activation: str):
        super().__init__()
        self.inner, self.inner_bias, self.outer, self.outer_bias = layers
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        z = ACTIVATIONS[self.activation](self.inner_bias(self.inner(x)))
        return self.outer_bias(self.outer(z))


class PreNormBranch(nn.Module):
    """``h -> h + r B(LN(h))``."""

    def __init__(self, norm: Norm, body: nn.Module, branch: float):
        super().__init__()
        self.norm, self.body, self.branch = norm, body, branch

    def forward(self, h: Tensor) -> Tensor:
        return torch.add(h, self.body(self.norm(h)), alpha=self.branch)


class PostNormBranch(nn.Module):
    """``h -> LN(h + r B(h))``."""

    def __init__(self, norm: Norm, body: nn.Module, branch: float):
        super().__init__()
        self.body, self.norm, self.branch = body, norm, branch  # in the order of their use, as they are planned

    def forward(self, h: Tensor) -> Tensor:
        return self.norm(torch.add(h, self.body(h), alpha=self.branch))


class TransformerReadout(nn.Module):
    """``f = a W LN(h)`` at every token, or at the first one; without ``LN`` where the features are normalised."""

    def __init__(self, norm: Norm | None, layer: MemberLinear, first_only: bool):
        super().__init__()
        self.norm, self.layer, self.first_only = norm, layer, first_only

    def forward(self, h: Tensor) -> Tensor:
        z = h[:, :, 0] if self.first_only else h
        return self.layer(z if self.norm is None else self.norm(z))


def transformer_modules(
    model: ModelSpec,
    width: int,
    parameterization: Parameterization,
    plan: NetworkPlan,
    make: MakeLayer,
    branch: float,
) -> list[nn.Module]:
    """The modules of a transformer, from its embedding to its readout.

    Args:
        model, width, parameterization: of the network.
        plan: of the network.
        make: a planned layer -> the layer.
        branch: multiplier of residual branches.
    """
    entry, *branches, last = plan.modules
    scale = attention_scale(parameterization, width // model.transformer.heads)
    return [
        _entry(model, [make(layer) for layer in entry.layers]),
        *(_branch_module(model, planned, make, branch, scale) for planned in branches),
        _readout(model, [make(layer) for layer in last.layers]),
    ]


def _entry(model: ModelSpec, layers: Sequence[Weighted]) -> nn.Module:
    if model.reads_tokens:
        return TokenEmbedding(*layers)
    matrix, *bias, token, positions = layers
    if bias:
        own = bias[0].rule  # without a multiplier in either form, and so with the same rate
        for layer in (matrix, *bias):  # as PyTorch draws them, with this variance
            layer.rule = ScalingRule((3 * matrix.weight.shape[-1]) ** -0.5, 1.0, own.lr_scale, own.epsilon_scale)
    return PatchEmbedding(matrix, bias[0] if bias else None, token, positions, model.transformer.patch)


def _branch_module(model: ModelSpec, planned: ModulePlan, make: MakeLayer, branch: float, scale: float) -> nn.Module:
    post = model.kind == "post_ln"
    layers = [make(layer) for layer in planned.layers]
    norm, own = (layers[-2:], layers[:-2]) if post else (layers[:2], layers[2:])
    if any(layer.attended for layer in planned.layers):
        query, key, value, *projection = own
        heads, causal = model.transformer.heads, model.reads_tokens
        body: nn.Module = Attention(query, key, value, projection, heads, scale, causal)
    else:
        body = Perceptron(own, planned.activation)
    return (PostNormBranch if post else PreNormBranch)(Norm(*norm), body, branch)


def _readout(model: ModelSpec, layers: Sequence[Weighted]) -> nn.Module:
    *norm, matrix = layers
    return TransformerReadout(Norm(*norm) if norm else None, matrix, first_only=not model.reads_tokens)
