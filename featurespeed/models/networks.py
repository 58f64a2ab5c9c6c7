"""Two-layer linear network, MLP and ConvNet of the second paper, plain or residual, as ensembles of members.

Depth is that of :class:`featurespeed.models.spec.ModelSpec`: weight layers before the readout of a plain network
(``depth = 2``: input convolution, one hidden convolution, then the readout), blocks of a residual one. The features cut
the network into a chain: ``list(network)`` are the modules between them, as ``measure_feature_speed`` takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from featurespeed.models.layers import (
    Block,
    InputImages,
    InputVectors,
    MemberConv,
    MemberLinear,
    Readout,
    Weighted,
)
from featurespeed.models.spec import KERNEL_PLACES, ModelSpec, check_model
from featurespeed.parameterization import (
    Form,
    LayerRole,
    OptimizerName,
    Parameterization,
    ScalingRule,
    branch_multiplier,
    scaling_rule,
)
from featurespeed.randomness import generator

Rule = Callable[[LayerRole, bool], ScalingRule]  # role, in a residual branch


class Network(nn.Sequential):
    """``E`` networks of one architecture; ``[E, B, C, H, W] -> [E, B, classes]``.

    The loss summed over members has the gradients of all members at once, and its Hessian is block-diagonal.
    """

    def __init__(self, modules: Sequence[nn.Module], rebuild: Callable[[int], Network]):
        super().__init__(*modules)
        self._rebuild = rebuild

    @property
    def weighted(self) -> dict[str, Weighted]:
        """Name -> layer with a weight, from input to readout."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Weighted)}

    @property
    def members(self) -> int:
        """Number of networks side by side."""
        return next(iter(self.weighted.values())).members

    @property
    def trained(self) -> list[nn.Parameter]:
        """Weights that learn (all but those with a learning rate of 0)."""
        return [layer.weight for layer in self.weighted.values() if layer.weight.requires_grad]

    def take(self, members: Sequence[int] | Tensor) -> Network:
        """A network of some of the members, with copies of their weights."""
        index = torch.as_tensor(members, dtype=torch.long)
        like = next(self.parameters())
        other = self._rebuild(len(index)).to(device=like.device, dtype=like.dtype)
        for mine, copy in zip(self.weighted.values(), other.weighted.values(), strict=True):
            copy.weight.data.copy_(mine.weight.data[index.to(like.device)])
        return other

    def initialise(self, seeds: Sequence[int]) -> Network:
        """Draw Gaussian weights, one seed a member; members of one seed start equal. Returns the network itself.

        Drawn on the CPU in float32, so that every device and precision starts from the same numbers.
        """
        for name, layer in self.weighted.items():
            for seed in dict.fromkeys(seeds):
                drawn = torch.empty(layer.weight.shape[1:], dtype=torch.float32)
                drawn.normal_(0.0, 1.0, generator=generator(seed, "weights", name))
                mine = [index for index, other in enumerate(seeds) if other == seed]
                layer.weight.data[mine] = (drawn.to(layer.weight.dtype) * layer.rule.init_std).to(layer.weight.device)
        return self


def build_network(
    model: ModelSpec,
    width: int,
    parameterization: Parameterization,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    members: int = 1,
    optimizer: OptimizerName = OptimizerName.SGD,
    form: Form = Form.MULTIPLIERS,
    gamma0: float = 1.0,
) -> Network:
    """An uninitialised ensemble (see :meth:`Network.initialise`).

    Args:
        model: architecture, its depth included.
        width: ``N``, hidden units or channels.
        parameterization, optimizer, form, gamma0: choose multipliers, initialisation and learning rates from the table
            of :mod:`featurespeed.parameterization`.
        input_shape: channels, height and width of an image; an MLP flattens it.
        classes: outputs.
        members: networks side by side.

    Raises:
        ParameterizationError: the parameterization does not cover the model or the optimizer.

    Source: arXiv:2402.17457, Eq. 1, Sec. 2 and App. J.4.
    """
    check_model(parameterization, model)
    convolutional = model.kind == "convnet"
    # D of the first layer counts all that one unit sees; hidden convolutions have 1/sqrt(N), without the places.
    fan_in = input_shape[0] if convolutional else math.prod(input_shape)

    def rule(role: LayerRole, in_branch: bool = False) -> ScalingRule:
        return scaling_rule(
            parameterization,
            role,
            width,
            model.depth if in_branch else 1,
            input_dim=fan_in * KERNEL_PLACES if convolutional else fan_in,
            optimizer=optimizer,
            form=form,
            gamma0=gamma0,
        )

    def rebuild(count: int) -> Network:
        return build_network(
            model, width, parameterization, input_shape=input_shape, classes=classes, members=count,
            optimizer=optimizer, form=form, gamma0=gamma0,
        )  # fmt: skip

    kind = MemberConv if convolutional else MemberLinear
    first = kind(members, fan_in, width, LayerRole.INPUT, rule(LayerRole.INPUT))
    blocks, side = _blocks(model, width, members, rule, _branch(model, parameterization), min(input_shape[1:]))
    flat = width * _pixels(input_shape, side) if convolutional and model.readout == "flat" else width
    last = MemberLinear(members, flat, classes, LayerRole.READOUT, rule(LayerRole.READOUT))
    entry = InputImages(first) if convolutional else InputVectors(first)
    activation = "linear" if model.kind == "two_layer_linear" else model.activation
    return Network([entry, *blocks, Readout(last, activation, model.readout == "pooled")], rebuild)


def _branch(model: ModelSpec, parameterization: Parameterization) -> float:
    if not model.residual:
        return 1.0
    return branch_multiplier(parameterization, model.depth) if model.alpha is None else model.depth**-model.alpha


def _pixels(input_shape: tuple[int, int, int], side: int) -> int:
    """Pixels of the last image, whose shorter side is ``side``."""
    _, height, width = input_shape
    halvings = 0
    while min(height, width) >> halvings > side:
        halvings += 1
    return (height >> halvings) * (width >> halvings)


def _blocks(
    model: ModelSpec, width: int, members: int, rule: Rule, branch: float, side: int
) -> tuple[list[Block], int]:
    """The hidden blocks, and the side of the image after them (App. J.4 for the places of the pooling)."""
    kind = MemberConv if model.kind == "convnet" else MemberLinear
    every = _pool_every(model)

    def hidden(in_branch: bool) -> Weighted:
        return kind(members, width, width, LayerRole.HIDDEN, rule(LayerRole.HIDDEN, in_branch))

    def pools(after: int) -> bool:
        return bool(every) and after % every == 0 and side // 2 >= model.smallest_side

    blocks: list[Block] = []
    if not model.residual:
        for layer in range(1, model.depth):
            pool = pools(layer)
            side = side // 2 if pool else side
            blocks.append(Block([hidden(False)], model.activation, 0.0, 1.0, pool))
        return blocks, side
    for block in range(1, model.depth + 1):
        layers = [hidden(True) for _ in range(model.layers_per_block)]
        blocks.append(Block(layers, model.activation, model.tau, branch))
        if pools(block):
            side //= 2
            blocks.append(Block([hidden(False)], model.activation, 0.0, 1.0, pool=True))
    return blocks, side


def _pool_every(model: ModelSpec) -> int:
    if model.kind != "convnet":
        return 0
    if model.pool_every is not None:
        return model.pool_every
    return 3 if model.residual else 1
