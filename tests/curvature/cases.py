"""Small float64 models of every kind with their dense second derivatives, and operators of known spectra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import Operator
from featurespeed.randomness import generator
from featurespeed.training.ensemble import LOSSES
from tests.probes.cases import DOUBLE, normal
from tests.training.cases import CONVNET, MLP, RESIDUAL_CONVNET, RESIDUAL_MLP, initialised

IMAGE = (1, 4, 4)
CLASSES = 3
EXAMPLES = 6
MEMBERS = 2
NETWORKS: dict[str, dict[str, Any]] = {
    "two-layer linear": {"kind": "two_layer_linear", "depth": 1},
    "MLP": MLP,
    "smooth MLP": MLP | {"activation": "tanh"},
    "residual MLP": RESIDUAL_MLP,
    "ConvNet": CONVNET,
    "residual ConvNet": {"kind": "convnet", "depth": 3, "tau": 1},
    "2 layers a block": RESIDUAL_CONVNET,
    "pooled readout": {"kind": "convnet", "depth": 3, "readout": "pooled", "activation": "gelu"},
}


# --- modules of a user ------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """A causal language model of one pre-norm block: tokens ``[n, T]`` to logits ``[n, T, tokens]``."""

    def __init__(self, tokens: int = 5, width: int = 4, heads: int = 2):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(tokens, width)
        self.norm = nn.LayerNorm(width)
        self.mix, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 6), nn.GELU(), nn.Linear(6, width))
        self.readout = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens)
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.mix(self.norm(h)).chunk(3, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        h = h + self.project(mixed.transpose(1, 2).flatten(2))
        return self.readout(h + self.mlp(h))


class TokenMembers(nn.Module):
    """Two-layer networks on tokens, side by side: ``[E, n, T]`` to logits ``[E, n, T, tokens]``."""

    def __init__(self, members: int, tokens: int = 5, width: int = 4):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(members, tokens, width))
        self.readout = nn.Parameter(torch.randn(members, width, tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = torch.stack([table[own] for table, own in zip(self.embed, tokens, strict=True)])
        return torch.tanh(hidden) @ self.readout.unsqueeze(1)


def user_convnet() -> nn.Module:
    """Every option of a convolution, and the layers whose training mode differs from their evaluation mode."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 3, (1, 2), padding="same"),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(27, CLASSES),
    )


def encoder() -> nn.Module:
    """PyTorch's own attention layer."""
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, dropout=0.3, activation="gelu", batch_first=True)
    return nn.Sequential(nn.Linear(3, 4), layer, nn.Flatten(), nn.Linear(4 * 4, CLASSES))


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module in training mode with random weights, and random statistics where it keeps some."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build().double()
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.normal_()
    return model


def token_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over all tokens but those with the label -1."""
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=-1)


class Quadratic(nn.Module):
    """``w^T A w / 2``, whatever the input: its Hessian is ``A``."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.w = nn.Parameter(normal(len(matrix), seed=5).to(matrix.dtype))
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        return self.w @ self.matrix @ self.w / 2 + 0 * x.sum()


def itself(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of a model that returns it."""
    return outputs


# --- the table of cases -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """A model with its loss and its batch; with ``members`` several networks side by side."""

    build: Callable[[], nn.Module]
    loss: Callable[[Any, Any], Tensor]
    inputs: Tensor
    targets: Tensor
    members: int | None = None

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        return self.inputs, self.targets

    def objective(self, model: nn.Module | None = None, batch: Any = None, **options: Any) -> Objective:
        """Of a new copy of the model and all of the batch, unless others are given."""
        model = self.build() if model is None else model
        return Objective(model, self.loss, self.batch if batch is None else batch, members=self.members, **options)


def tokens(*shape: int, seed: int = 0) -> Tensor:
    """Tokens out of five."""
    return torch.randint(5, shape, generator=generator(seed, "tokens", *shape))


def network_case(model: dict[str, Any], loss: str, parameterization: str = "NTP", members: int = MEMBERS) -> Case:
    """Networks of the package, every one with images and labels of its own."""
    x = normal(members, EXAMPLES, *IMAGE)
    y = torch.randint(CLASSES, (members, EXAMPLES), generator=generator(0, "labels"))

    def build() -> nn.Module:
        options = {"width": 3, "input_shape": IMAGE, "classes": CLASSES, "seeds": list(range(members))}
        return initialised(model, parameterization, **options)

    return Case(build, LOSSES[loss], x, y, members)


_LABELS = torch.randint(CLASSES, (EXAMPLES,), generator=generator(0, "labels"))
_IMAGES = normal(EXAMPLES, 2, 5, 5)
CASES: dict[str, Case] = {
    **{f"{name}, {loss}": network_case(model, loss) for name, model in NETWORKS.items() for loss in LOSSES},
    "members on tokens": Case(
        lambda: seeded(lambda: TokenMembers(MEMBERS)), LOSSES["cross_entropy"],
        tokens(MEMBERS, 4, 3), tokens(MEMBERS, 4, 3, seed=1), MEMBERS,
    ),
    "attention": Case(lambda: seeded(Attention), token_cross_entropy, tokens(4, 5), tokens(4, 5, seed=1)),
    "encoder layer": Case(lambda: seeded(encoder), functional.cross_entropy, normal(EXAMPLES, 4, 3), _LABELS),
    "user's ConvNet": Case(lambda: seeded(user_convnet), functional.cross_entropy, _IMAGES, _LABELS),
    "user's ConvNet, mse": Case(
        lambda: seeded(user_convnet), functional.mse_loss, _IMAGES, normal(EXAMPLES, CLASSES, seed=1)
    ),
}  # fmt: skip


# --- dense matrices ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Dense:
    """One network's second derivatives as matrices.

    ``hessian [P, P]``, ``jacobian [n, P]`` of all outputs, ``by_outputs [n, n]``: the loss by them, twice.
    """

    hessian: Tensor
    jacobian: Tensor
    by_outputs: Tensor

    @property
    def gauss_newton(self) -> Tensor:
        return self.jacobian.T @ self.by_outputs @ self.jacobian

    @property
    def residual(self) -> Tensor:
        return self.hessian - self.gauss_newton


def dense(name: str, member: int = 0) -> Dense:
    """The matrices of a case of the table."""
    return _dense(name, member)


@cache
def _dense(name: str, member: int) -> Dense:
    return dense_of(CASES[name], member)


def dense_of(case: Case, member: int = 0) -> Dense:
    """By forward over reverse differentiation with ``torch.func``, in evaluation mode; the package does without both.

    With LayerNorm column by column: its vectorised second derivative, ``torch.func.hessian``, is not even symmetric.
    """
    model = case.build().eval()
    names, values = zip(*((n, p.detach()) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    own = [v if case.members is None else v[member] for v in values]
    point = torch.cat([v.flatten() for v in own])

    def outputs(flat: Tensor) -> Tensor:
        parts = [p.view(v.shape) for p, v in zip(flat.split([v.numel() for v in own]), own, strict=True)]
        if case.members is not None:  # the other networks stay where they are
            parts = [torch.cat([v[:member], p[None], v[member + 1 :]]) for p, v in zip(parts, values, strict=True)]
        found = torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (case.inputs,))
        return found if case.members is None else found[member]

    def loss(out: Tensor) -> Tensor:
        if case.members is None:
            return case.loss(out, case.targets)
        return case.loss(out[None], case.targets[member : member + 1])[0]

    with sdpa_kernel(SDPBackend.MATH):
        out = outputs(point)
        jacobian = torch.func.jacrev(outputs)(point).reshape(out.numel(), -1)
        by_outputs = torch.func.hessian(loss)(out).reshape(out.numel(), out.numel())
        return Dense(_hessian(model, lambda flat: loss(outputs(flat)), point), jacobian, by_outputs)


def _hessian(model: nn.Module, function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    if not any(isinstance(module, nn.LayerNorm) for module in model.modules()):
        return torch.func.hessian(function)(point)
    gradient = torch.func.grad(function)
    columns = [torch.func.jvp(gradient, (point,), (v,))[1] for v in torch.eye(len(point), dtype=point.dtype)]
    return torch.stack(columns, dim=1)


# --- operators of known spectra ---------------------------------------------------------------------------------------


class Matrices(Operator):
    """Given symmetric matrices ``[E, n, n]``, one a member; keeps what it was multiplied with."""

    def __init__(self, matrices: Tensor):
        self.matrices = matrices if matrices.ndim == 3 else matrices[None]
        self.members, self.size = self.matrices.shape[:2]
        self.dtype, self.device = matrices.dtype, matrices.device
        self.seen: list[Tensor] = []

    def matvec(self, vectors: Tensor) -> Tensor:
        self.seen.append(vectors.clone())
        return torch.bmm(self.matrices, vectors.unsqueeze(2)).squeeze(2)


def rotation(size: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(normal(size, size, seed=seed))[0]


def symmetric(eigenvalues: Sequence[float] | Tensor, seed: int = 0) -> Tensor:
    """A dense matrix with these eigenvalues."""
    values = torch.as_tensor(eigenvalues, dtype=DOUBLE)
    q = rotation(len(values), seed)
    return q * values @ q.T


def with_bulk(*outliers: float, size: int = 400) -> Tensor:
    """Eigenvalues as of a network: the outliers, and a bulk on either side of 0."""
    return torch.cat([torch.tensor(outliers, dtype=DOUBLE), torch.linspace(-0.3, 0.5, size - len(outliers)).double()])


def largest(matrix: Tensor, k: int) -> Tensor:
    """Its ``k`` largest eigenvalues, largest first."""
    return torch.linalg.eigvalsh(matrix).flip(0)[:k]


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """The largest one of any entry."""
    return float(((found.double() - wanted).abs() / wanted.abs()).max())


def assert_same(found, wanted, rtol=1e-10, scale=None):
    """Equal up to ``rtol`` of the largest entry, or of a larger ``scale``."""
    assert found.shape == wanted.shape
    largest_entry = float(wanted.detach().abs().max()) if scale is None else scale
    assert float((found - wanted).detach().abs().max()) <= rtol * largest_entry
