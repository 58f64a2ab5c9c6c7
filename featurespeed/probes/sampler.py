"""Exact-law sampler: features, backward pass and feature velocity of a residual MLP in O(width) a layer.

For one input, the network's Gaussian weight matrices are only ever seen through a few products: ``W_l h_l`` in the
forward pass (``h_l = phi(f_{l-1})``), ``W_l^T b_l`` in the backward pass and ``W_l t_l`` in the tangent pass. Each
product is drawn from its law given the earlier ones, which is Gaussian with a mean in the span of what is known and a
covariance that is the identity off that span. So the joint law of ``(f, b, df/dt)`` is exact at any width, and no
matrix is built.

With ``z = W h``, ``q = W^T b``, hidden variance ``s^2`` and projections ``P``:

- forward    ``z ~ s |h| g``
- backward   ``q | z = h <z, b>/|h|^2 + s |b| P_{h,perp} g'``
- tangent    ``W t | z, q = z <h, t>/|h|^2 + (a multiple of b) + s |P_{h,perp} t| P_{b,perp} g''``

The multiple of ``b`` is fixed by the chain rule ``<u_l, b_l> = sum_{j <= l} eta_j |grad_j|^2`` for ``u = -df/dt``.
Ours; the setting is that of arXiv:2311.18718, Fig. 1 and 2 (embedding and readout frozen, one output).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featurespeed.models.mlp import ACTIVATIONS

#: Features and backward passes of one chunk of rows stay below this: the cache is what counts on a CPU, the number of
#: kernel launches on a GPU. The chunks order the random stream, so these are constants, not settings.
CHUNK_BYTES = 192 * 2**20
GPU_CHUNK_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Network:
    """One network to sample.

    Attributes:
        depth: L, embedding and readout included.
        branch_scale: beta.
        input_rms: standard deviation of the entries of ``f_1``, the embedding's std times ``|x|``.
        input_square: ``|x|^2``; enters only where the embedding is trained.
        readout_std: standard deviation of the readout's entries.
        target: of the quadratic loss ``(f_L - y)^2/2`` with one output.
        output_gradient: ``|dLoss/df_L|`` of a linear loss with any number of outputs; replaces the quadratic loss.
        learning_rates: ``(embedding, hidden)``; the default freezes the embedding and takes
            ``eta_l = 1/(L |grad_l|^2)`` in every hidden layer.
    """

    depth: int
    branch_scale: float
    input_rms: float = 1.0
    readout_std: float = 1.0
    target: float = 0.0
    output_gradient: float | None = None
    input_square: float = 1.0
    learning_rates: tuple[float, float] | None = None


@dataclass(frozen=True)
class Sample:
    """One sampled network, layers ``v = 1..L-1`` (tensors ``[L-1]``, float64 on the CPU; NaN where not asked for).

    A ReLU network with a layer without active units has no angles: its row is NaN, which happens at small widths only.

    Attributes:
        angle: backward-feature angle in radians; NaN at ``v = 1`` unless the embedding is trained, as it does not move.
        feature_sensitivity: ``rms(df_v/dt) / loss_decay_v``.
        forward_rms: ``rms(f_v)``.
        backward_norm: ``|b_v|``.
        loss_decay: ``sum_{l <= v} eta_l |grad_l|^2``.
        branch_input_norm: ``|phi(f_{v-1})|``, NaN at ``v = 1``; ``|grad_v| = beta |b_v| |phi(f_{v-1})|``.
    """

    angle: Tensor
    feature_sensitivity: Tensor
    forward_rms: Tensor
    backward_norm: Tensor
    loss_decay: Tensor
    branch_input_norm: Tensor

    def inverse_backward_norm(self, width: int) -> Tensor:
        """``1/(|b_v| sqrt(m))``."""
        return 1.0 / (self.backward_norm * width**0.5)


def sample_networks(
    networks: Sequence[Network],
    width: int,
    generator: torch.Generator,
    *,
    activation: str = "relu",
    layers: str = "last",
    dtype: torch.dtype = torch.float32,
) -> list[Sample]:
    """Draw independent networks; entry i of the result belongs to ``networks[i]``.

    Args:
        width: hidden width m.
        generator: fixes device and stream.
        layers: ``"last"`` measures ``v = L-1`` only, ``"all"`` every layer.

    Raises:
        ValueError: a depth below 3, a width below 2, a branch scale outside [0, 1], or an unknown option.
    """
    for option, value, allowed in (("activation", activation, tuple(ACTIVATIONS)), ("layers", layers, ("last", "all"))):
        if value not in allowed:
            raise ValueError(f"{option} = {value!r}: allowed: {', '.join(allowed)}")
    for net in networks:
        if net.depth < 3 or width < 2 or not 0.0 <= net.branch_scale <= 1.0:
            raise ValueError(f"{net}, width {width}: depth >= 3, width >= 2 and branch_scale in [0, 1] are needed")
    results: dict[int, Sample] = {}
    order = sorted(range(len(networks)), key=lambda i: -networks[i].depth)
    limit = GPU_CHUNK_BYTES if generator.device.type == "cuda" else CHUNK_BYTES
    chunks = list(_chunks(order, networks, limit // (2 * dtype.itemsize * width)))
    size = max((sum(networks[i].depth - 1 for i in chunk) for chunk in chunks), default=0) * width
    # One allocation for all chunks: touching fresh pages would cost as much as drawing the numbers.
    pool = torch.empty(2, size, dtype=dtype, device=generator.device)
    for chunk in chunks:
        sampler = _ChunkSampler([networks[i] for i in chunk], width, generator, activation, pool)
        for index, sample in zip(chunk, sampler.run(layers == "all"), strict=True):
            results[index] = sample
    return [results[index] for index in range(len(networks))]


def _chunks(order: list[int], networks: Sequence[Network], most: int) -> Iterator[list[int]]:
    """Consecutive runs of ``order`` (deepest first) with at most ``most`` rows times layers, one network at least."""
    chunk: list[int] = []
    for index in order:
        deepest = networks[(chunk or [index])[0]].depth
        if chunk and deepest * (len(chunk) + 1) > most:
            yield chunk
            chunk = []
        chunk.append(index)
    if chunk:
        yield chunk


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Row-wise inner products, ``[rows, 1]``; a single long row is three times faster through ``torch.dot``."""
    return torch.dot(x[0], y[0])[None, None] if len(x) == 1 else torch.linalg.vecdot(x, y)[:, None]


class _ChunkSampler:
    """Rows sorted by falling depth, so that the rows alive at a layer are a prefix; all buffers are reused.

    Layer ``l = 1..L-1`` lies at index ``l - 1``.
    """

    def __init__(self, networks: list[Network], width: int, generator: torch.Generator, activation: str, pool: Tensor):
        self.networks, self.width, self.generator = networks, width, generator
        self.relu = activation == "relu"
        self.std = (ACTIVATIONS[activation][1] / width) ** 0.5
        like: dict[str, Any] = {"dtype": pool.dtype, "device": pool.device}
        rows, self.layers = len(networks), networks[0].depth - 1
        self.alive = [sum(net.depth - 1 > index for net in networks) for index in range(self.layers)]
        self.beta = torch.tensor([[net.branch_scale] for net in networks], **like)
        self.skip = torch.tensor([[(1.0 - net.branch_scale**2) ** 0.5] for net in networks], **like)
        self.features, self.backwards = (
            [part.view(n, width) for part, n in zip(flat.split(self._sizes(flat)), self.alive, strict=False)]
            for flat in pool
        )
        self.input_square = [torch.empty(n, 1, **like) for n in self.alive]  # |h_l|^2 of the layer above index
        self.h, self.work, self.noise = (torch.empty(rows, width, **like) for _ in range(3))
        # readout of row r stands in row r: drawn at once, used where the row ends
        self.input_rms = torch.tensor([[net.input_rms] for net in networks], **like)
        self.readout_std = torch.tensor([[net.readout_std] for net in networks], **like)
        self.target = torch.tensor([[net.target] for net in networks], **like)
        gradients = [torch.nan if net.output_gradient is None else net.output_gradient for net in networks]
        self.output_gradient = torch.tensor(gradients, **like)[:, None]

    def _sizes(self, flat: Tensor) -> list[int]:
        used = [n * self.width for n in self.alive]
        return [*used, flat.numel() - sum(used)]

    def run(self, all_layers: bool) -> list[Sample]:
        self._forward()
        self._backward()
        return self._tangent(all_layers)

    def _gaussian(self, rows: int) -> Tensor:
        return self.noise[:rows].normal_(generator=self.generator)

    def _activate(self, index: int, rows: int) -> Tensor:
        """``h = phi(f)`` of the layer at ``index``, in the buffer ``h``."""
        f = self.features[index][:rows]
        return torch.clamp(f, min=0.0, out=self.h[:rows]) if self.relu else self.h[:rows].copy_(f)

    def _forward(self) -> None:
        torch.mul(self._gaussian(self.alive[0]), self.input_rms, out=self.features[0])
        for index in range(1, self.layers):
            n = self.alive[index]
            previous, h = self.features[index - 1][:n], self._activate(index - 1, n)
            square = _dot(h, h)
            self.input_square[index].copy_(square)
            scale = self.beta[:n] * self.std * square.sqrt()
            torch.mul(previous, self.skip[:n], out=self.features[index])
            self.features[index].addcmul_(self._gaussian(n), scale)

    def _start_backward(self, index: int) -> None:
        """Rows whose last feature is at ``index``: ``b = readout^T (f_L - y)`` with a readout drawn here."""
        first = self.alive[index + 1] if index + 1 < self.layers else 0
        last = self.alive[index]
        if first == last:
            return
        readout = self._gaussian(last - first).mul_(self.readout_std[first:last])
        error = _dot(readout, self.features[index][first:last]) - self.target[first:last]
        # A linear loss reads nothing from the network: its readout's product with a fixed vector is Gaussian.
        gradient = torch.where(self.output_gradient[first:last].isnan(), error, self.output_gradient[first:last])
        torch.mul(readout, gradient, out=self.backwards[index][first:last])

    def _backward(self) -> None:
        for index in range(self.layers - 1, -1, -1):
            self._start_backward(index)
            if index == 0:
                return
            n = self.alive[index]
            b, below = self.backwards[index], self.backwards[index - 1][:n]
            h, g = self._activate(index - 1, n), self._gaussian(n)
            branch_dot_b = self._branch_dot(index, b)
            scale = self.beta[:n] * self.std * torch.linalg.vector_norm(b, dim=1, keepdim=True)
            along = (branch_dot_b - scale * _dot(h, g)) / self.input_square[index]
            if self.relu:
                g.mul_(torch.sign(h, out=self.work[:n]))
            torch.mul(b, self.skip[:n], out=below)
            below.addcmul_(g, scale).addcmul_(h, along)

    def _branch_dot(self, index: int, b: Tensor) -> Tensor:
        """``<f_l - a f_{l-1}, b>``: the branch's output is not kept, it is the difference of two features."""
        n = len(b)
        return _dot(self.features[index], b) - self.skip[:n] * _dot(self.features[index - 1][:n], b)

    def _contributions(self) -> list[Tensor]:
        """``eta_l |grad_l|^2`` of each layer and row, ``[rows, 1]`` each."""
        like = self.beta
        balanced = like.new_tensor([[1.0 / net.depth] for net in self.networks])
        given = [net.learning_rates or (0.0, torch.nan) for net in self.networks]
        embedding, hidden = like.new_tensor(given).split(1, dim=1)
        input_square = like.new_tensor([[net.input_square] for net in self.networks])
        contributions = [embedding * input_square * _dot(self.backwards[0], self.backwards[0])]
        for index in range(1, self.layers):
            n, b = self.alive[index], self.backwards[index]
            gradient_square = self.beta[:n].square() * _dot(b, b) * self.input_square[index]
            contributions.append(torch.where(hidden[:n].isnan(), balanced[:n], hidden[:n] * gradient_square))
        return contributions

    def _tangent(self, all_layers: bool) -> list[Sample]:
        """``u_l = -df_l/dt`` upwards; measures rows where they end, or every row at every layer."""
        measured = torch.full((6, len(self.networks), self.layers), torch.nan, dtype=torch.float64)
        contributions = self._contributions()
        b = self.backwards[0]
        decay = contributions[0]
        u = b * (decay / _dot(b, b))
        if all_layers:
            measured[:, :, 0] = self._measure(0, u, b, decay, 0).cpu()
        for index in range(1, self.layers):
            n = self.alive[index]
            u = u[:n]
            f, previous, b = self.features[index], self.features[index - 1][:n], self.backwards[index]
            h, square = self._activate(index - 1, n), self.input_square[index]
            h_dot_u = _dot(h, u)
            masked = torch.mul(torch.sign(h, out=self.work[:n]), u, out=self.work[:n]) if self.relu else u
            off = (_dot(masked, masked) - h_dot_u.square() / square).clamp(min=0.0).sqrt()
            along = h_dot_u / square
            u.mul_(self.skip[:n]).addcmul_(f, along).addcmul_(previous, -along * self.skip[:n])
            u.addcmul_(self._gaussian(n), self.beta[:n] * self.std * off)
            decay = decay[:n] + contributions[index]
            u.addcmul_(b, (decay - _dot(u, b)) / _dot(b, b))
            first = 0 if all_layers or index + 1 == self.layers else self.alive[index + 1]
            if first < n:
                measured[:, first:n, index] = self._measure(index, u, b, decay, first).cpu()
        return [self._sample(values, net.depth) for values, net in zip(measured.unbind(1), self.networks, strict=True)]

    def _measure(self, index: int, u: Tensor, b: Tensor, decay: Tensor, first: int) -> Tensor:
        """The fields of :class:`Sample` at one layer for the rows from ``first`` on; ``[6, rows]``."""
        u, b, decay, f = u[first:], b[first:], decay[first:], self.features[index][first:]
        b_norm = torch.linalg.vector_norm(b, dim=1)
        across = torch.addcmul(u, b, -decay / b_norm.square()[:, None], out=self.work[: len(u)])
        # the component of u along b is decay/|b|; the arc tangent stays accurate at small angles
        angle = torch.atan2(torch.linalg.vector_norm(across, dim=1) * b_norm, decay[:, 0])
        angle = torch.where(decay[:, 0] > 0, angle, torch.nan)
        rms = self.width**-0.5
        sensitivity = torch.linalg.vector_norm(u, dim=1) * rms / decay[:, 0]
        branch_input = self.input_square[index][first:, 0].sqrt() if index else torch.full_like(b_norm, torch.nan)
        forward_rms = torch.linalg.vector_norm(f, dim=1) * rms
        return torch.stack([angle, sensitivity, forward_rms, b_norm, decay[:, 0], branch_input]).double()

    @staticmethod
    def _sample(values: Tensor, depth: int) -> Sample:
        return Sample(*(row[: depth - 1] for row in values))
