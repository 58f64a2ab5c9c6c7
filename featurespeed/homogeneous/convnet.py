"""ConvNets of the second paper (arXiv:2402.17457, App. J.4) whose channels follow a width pattern, for scaled descent.

3x3 convolutions without bias, ReLU, 2x2 average pooling after every layer but the last, flat readout, under muP. Where
all widths are equal this is ``build_network(..., MUP)``. Unequal widths, and everything about scaled gradients, are
ours: a hidden layer's multiplier is that of its own fan-in, ``1/sqrt(m_{k-1})``; the readout's ``1/N`` and the factor
``gamma^2 = N`` that all layers have on the learning rate take the last width for ``N``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.homogeneous.losses import OutputLoss
from featurespeed.homogeneous.network import Evaluation
from featurespeed.homogeneous.scalings import scaling_factors, silent_layers
from featurespeed.homogeneous.spec import GradientScaling
from featurespeed.models.layers import Block, InputImages, MemberConv, MemberLinear, Readout, Weighted
from featurespeed.models.networks import Network
from featurespeed.models.pooling import average_pool
from featurespeed.models.spec import KERNEL_PLACES
from featurespeed.parameterization import LayerRole, Parameterization, ScalingRule, scaling_rule


def build_convnet(
    channels: Sequence[int], input_shape: tuple[int, int, int], classes: int, members: int = 1
) -> Network:
    """An uninitialised plain ConvNet with ``channels`` ``m_1 .. m_{l-1}`` under muP (see the module for its rules).

    Raises:
        ValueError: no layer, or a width below 1.
    """
    if not channels or min(channels) < 1:
        raise ValueError(f"channels = {list(channels)}: at least one layer, of at least 1 channel each")
    seen, height, width = input_shape
    entry = InputImages(MemberConv(members, seen, channels[0], *_role(LayerRole.INPUT, channels, seen * KERNEL_PLACES)))
    blocks: list[Block] = []
    for before, after in zip(channels, channels[1:], strict=False):
        pool = min(height, width) >= 2
        height, width = (height // 2, width // 2) if pool else (height, width)
        layer = MemberConv(members, before, after, *_role(LayerRole.HIDDEN, channels, before))
        blocks.append(Block([layer], "relu", pooling="average" if pool else None))
    flat = channels[-1] * height * width
    last = MemberLinear(members, flat, classes, *_role(LayerRole.READOUT, channels, channels[-1]))
    return Network([entry, *blocks, Readout(last, "relu")], lambda n: build_convnet(channels, input_shape, classes, n))


def _role(role: LayerRole, channels: Sequence[int], fan_in: int) -> tuple[LayerRole, ScalingRule]:
    """Multiplier and initialisation by the layer's own fan-in, learning rate by the last width."""
    common = scaling_rule(Parameterization.MUP, role, channels[-1], input_dim=fan_in)
    if role != LayerRole.HIDDEN:
        return role, common
    return role, replace(scaling_rule(Parameterization.MUP, role, fan_in), lr_scale=common.lr_scale)


@dataclass(frozen=True)
class Step:
    """One layer and the linear map that brings its input into shape: pooling, or images side by side as a row."""

    layer: Weighted
    enter: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Passes:
    """A minibatch forward and backward, in the layers' own layout; lists count layers from 1 to ``l``.

    Attributes:
        seen: what each layer sees, ``A_0 .. A_{l-1}``.
        outputs: ``Z_1 .. Z_l``.
        backward: ``B_1 .. B_l``, gradients of the loss by the outputs.
    """

    seen: list[Tensor]
    outputs: list[Tensor]
    backward: list[Tensor]


class ConvDescentNetwork(nn.Module):
    """``E`` such ConvNets side by side, with what a scaled gradient step needs; a ``DescentNetwork``.

    Layers count from the input convolution (1) to the readout (``l``). A norm or a scaling is that of the effective
    weight ``V_k = a_k W_k`` (``a_k`` the multiplier): with ``Z_k = V_k A_{k-1}``, ``B_k = dL/dZ_k`` and for a
    convolution the patches that its kernel sees as rows of ``A_{k-1}``, ``dL/dV_k = B_k^T A_{k-1}``. What is trained is
    ``W_k``: its gradient is ``a_k`` times that one, and the factor on its learning rate is that of muP times ``xi_k``.

    Args:
        channels: ``m_1 .. m_{l-1}``.
        input_shape: channels, height and width of an image.
        classes: outputs.
        members: ``E``.
    """

    def __init__(self, channels: Sequence[int], input_shape: tuple[int, int, int], classes: int, members: int = 1):
        super().__init__()
        self._sizes = tuple(channels), tuple(input_shape), classes
        self.network = build_convnet(*self._sizes, members)
        self._steps = [_step(module) for module in self.network]
        multipliers = [step.layer.rule.multiplier for step in self._steps]
        rates = [step.layer.rule.lr_scale for step in self._steps]
        for name, numbers in (("multipliers", multipliers), ("layer_rates", rates)):
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float64), persistent=False)

    @property
    def members(self) -> int:
        """Number of networks side by side."""
        return self.network.members

    @property
    def layers(self) -> int:
        """``l``, weights from the input to the readout."""
        return len(self._steps)

    @property
    def weights(self) -> list[nn.Parameter]:
        """``W_1 .. W_l``: ``[E, out, in, 3, 3]``, the readout's ``[E, classes, in]``."""
        return [step.layer.weight for step in self._steps]

    @property
    def rates(self) -> Tensor:
        """Factors of muP on the learning rate, ``[E, l]``: those of the scaling ``none``."""
        return self.layer_rates.to(self.weights[0].dtype).expand(self.members, -1)

    def initialise(self, seeds: Sequence[int]) -> ConvDescentNetwork:
        """Draw Gaussian weights, one seed a member, as :meth:`Network.initialise` does. Returns the network itself."""
        self.network.initialise(seeds)
        return self

    def take(self, members: Sequence[int] | Tensor) -> ConvDescentNetwork:
        """A network of some of the members, with copies of their weights."""
        like = self.weights[0]
        other = ConvDescentNetwork(*self._sizes, len(members)).to(device=like.device, dtype=like.dtype)
        index = torch.as_tensor(members, dtype=torch.long, device=like.device)
        for mine, copy in zip(self.weights, other.weights, strict=True):
            copy.data.copy_(mine.data[index])
        return other

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[E, n, classes]`` of images ``[E, n, C, H, W]`` or ``[1, n, C, H, W]``."""
        return self.network(x)

    def hidden_features(self, x: Tensor) -> list[Tensor]:
        """``A_1 .. A_{l-1}`` after the activation and before any pooling, ``[E, n, m_k * pixels]`` each."""
        with torch.no_grad():
            outputs = self._pass(x)[1]
        return [_by_member(functional.relu(z), self.members).transpose(0, 1).flatten(2) for z in outputs[:-1]]

    def evaluate(self, x: Tensor, y: Tensor, scaling: GradientScaling, loss: OutputLoss) -> Evaluation:
        """Losses, gradients, factors on the learning rate, and the coefficients c1 and c2 of a minibatch.

        Args:
            x: images ``[E, n, C, H, W]``, or ``[1, n, C, H, W]`` for all members.
            y: labels ``[E, n]`` or ``[1, n]``.
            scaling: of the gradient, layer by layer.
            loss: of the outputs.

        Returns:
            ``c1 = -sum_k factor_k |dL/dW_k|^2`` and ``c2 = 1/2 g' Xi H Xi g`` for ``Xi`` the factors: the change of the
            loss along ``W - s Xi g`` is ``c1 s + c2 s^2 + O(s^3)``.
        """
        losses, gradients, found = self._forward_backward(x, y, loss)
        with torch.no_grad():
            squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients], 1)
            forward, backward = self._forward_norms(found.seen), self._norms(found.backward)
            xi = scaling_factors(scaling, forward, backward, squares.sqrt() / self.multipliers.to(squares.dtype))
            factors = xi * self.rates
            c1 = -(factors * squares).sum(1)
            directions = [-f.view(-1, *[1] * (g.ndim - 1)) * g for f, g in zip(factors.T, gradients, strict=True)]
            feature_part, moved = self._second_order(found, directions)
            c2 = feature_part + 0.5 * loss.second(found.outputs[-1], y, moved, moved)
            largest = [_by_member(z, self.members).amax((0, 2, 3, 4)) for z in found.outputs[:-1]]
            dead = silent_layers([functional.relu(z).unsqueeze(1) for z in largest], factors)
        return Evaluation(losses, gradients, factors, c1, c2, dead)

    def _forward_backward(self, x: Tensor, y: Tensor, loss: OutputLoss) -> tuple[Tensor, list[Tensor], Passes]:
        """Losses ``[E]``, gradients by the weights, and what the layers saw and gave."""
        with torch.enable_grad():
            seen, outputs = self._pass(x)
            losses = loss.value(outputs[-1], y)
            found = torch.autograd.grad(losses.sum(), [*self.weights, *outputs])
        passes = Passes([a.detach() for a in seen], [z.detach() for z in outputs], list(found[self.layers :]))
        return losses.detach(), list(found[: self.layers]), passes

    def _pass(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What each layer sees, ``A_0 .. A_{l-1}``, and its outputs ``Z_1 .. Z_l``, in the layers' own layout."""
        seen, outputs = [], []
        x = x.expand(self.members, *x.shape[1:])
        for k, step in enumerate(self._steps):
            seen.append(step.enter(x if k == 0 else functional.relu(outputs[-1])))
            outputs.append(step.layer(seen[-1]))
        return seen, outputs

    def _second_order(self, found: Passes, directions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The part ``F [E]`` of ``c2 = F + N`` and ``Z_l'``, from which ``N = <Z_l', H Z_l'> / 2`` follows (ours).

        Along ``W_k + s d_k`` the outputs move by ``s Z_k' = s (W_k A_{k-1}' + d_k A_{k-1})``, and their second order,
        seen by the loss, is ``F = sum_k <B_k, d_k A_{k-1}'>``: exact in one linear region of the ReLUs, by one more
        forward pass, for a layer is linear in its weight and in its input.
        """
        moved = self._steps[0].layer.apply_weight(directions[0], found.seen[0])
        feature_part: Tensor | float = 0.0
        for k in range(1, self.layers):
            step, direction = self._steps[k], directions[k]
            slope_times_moved = torch.ops.aten.threshold_backward(moved, found.outputs[k - 1], 0.0)  # of the ReLU
            input_moved = step.enter(slope_times_moved)
            feature_part = feature_part + self._sum(found.backward[k] * step.layer.apply_weight(direction, input_moved))
            moved = step.layer(input_moved) + step.layer.apply_weight(direction, found.seen[k])
        return feature_part, moved

    def _forward_norms(self, seen: list[Tensor]) -> Tensor:
        """``|A_{k-1}|``, ``[E, l]``; for a convolution the norm of all patches that its kernel sees."""
        *images, rows = seen
        return self._norms([*(a * patches_of_pixels(a).sqrt() for a in images), rows])

    def _norms(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack([self._sum(t.square()).sqrt() for t in tensors], 1)

    def _sum(self, values: Tensor) -> Tensor:
        """Sum over all but the members, ``[E]``, of images ``[n, E * C, H, W]`` or of rows ``[E, n, m]``."""
        return values.sum((1, 2)) if values.ndim == 3 else _by_member(values, self.members).sum((0, 2, 3, 4))


def _by_member(images: Tensor, members: int) -> Tensor:
    """``[n, E * C, H, W] -> [n, E, C, H, W]``."""
    return images.unflatten(1, (members, -1))


def _step(module: nn.Module) -> Step:
    """A module of the chain as a layer and the linear map before it; its activation comes first."""
    if isinstance(module, InputImages):
        return Step(module.layer, lambda x: x.transpose(0, 1).flatten(1, 2))
    if isinstance(module, Readout):
        members = module.layer.members
        return Step(module.layer, lambda a: _by_member(a, members).transpose(0, 1).flatten(2))
    (layer,) = module.layers
    return Step(layer, average_pool if module.pooling else lambda a: a)


def patches_of_pixels(images: Tensor) -> Tensor:
    """How many 3x3 patches see each pixel of images ``[..., H, W]``, ``[1, 1, H, W]``: 9, at the rim fewer."""
    ones = images.new_ones(1, 1, *images.shape[-2:])
    return functional.conv2d(ones, ones.new_ones(1, 1, 3, 3), padding=1)
