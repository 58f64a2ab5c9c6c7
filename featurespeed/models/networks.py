"""Two-layer linear network, MLP, ConvNets and transformers of the second paper, as ensembles of members.

Depth is that of :class:`featurespeed.models.spec.ModelSpec`: weight layers before the readout of a plain network
(``depth = 2``: input convolution, one hidden convolution, then the readout), blocks of a residual one. The features cut
the network into a chain: ``list(network)`` are the modules between them, as ``measure_feature_speed`` takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

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
from featurespeed.models.plan import InputShape, LayerPlan, is_strided_chain, plan_network
from featurespeed.models.spec import ModelSpec, check_model
from featurespeed.models.strided import gathered_outputs, pixel_places
from featurespeed.models.transformers import make_vector, transformer_modules
from featurespeed.parameterization import (
    Form,
    LayerRates,
    OptimizerName,
    Parameterization,
    branch_multiplier,
    scaling_rule,
)
from featurespeed.randomness import generator


class Network(nn.Sequential):
    """``E`` networks of one architecture; ``[E, B, C, H, W] -> [E, B, classes]``, or those of a text
    ``[E, B, T] -> [E, B, T, classes]``.

    The loss summed over members has the gradients of all members at once, and its Hessian is block-diagonal.
    """

    def __init__(self, modules: Sequence[nn.Module], rebuild: Callable[[int], Network], places: Tensor | None = None):
        super().__init__(*modules)
        self._rebuild = rebuild
        self.register_buffer("_places", places, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs; on a GPU strided chains compute only what their later layers read, in one go."""
        if self._places is None or not x.is_cuda:
            return super().forward(x)
        return gathered_outputs(list(self), self._places, x)

    @property
    def weighted(self) -> dict[str, Weighted]:
        """Name -> layer with a weight, from input to readout."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Weighted)}

    @property
    def members(self) -> int:
        """Number of networks side by side."""
        return next(iter(self.weighted.values())).members

    def by_member(self, features: Tensor) -> Tensor:
        """Inputs or outputs of a layer or a module as ``[E, ...]``: images of a ConvNet lie side by side as channels.

        Sequences ``[E, B, T, n]`` have as many dimensions as images ``[B, E * C, H, W]``; the layers tell them apart.
        """
        if features.ndim == 4 and any(isinstance(layer, MemberConv) for layer in self.modules()):
            return features.unflatten(1, (self.members, -1)).transpose(0, 1)
        return features

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
                values = drawn.to(layer.weight.dtype).mul_(layer.rule.init_std).add_(layer.mean)
                layer.weight.data[mine] = values.to(layer.weight.device)
        return self


def build_network(
    model: ModelSpec,
    width: int,
    parameterization: Parameterization,
    *,
    input_shape: InputShape,
    classes: int,
    members: int = 1,
    optimizer: OptimizerName = OptimizerName.SGD,
    form: Form = Form.MULTIPLIERS,
    gamma0: float = 1.0,
    layer_rates: LayerRates = "table",
    depth_rates: bool | None = None,
) -> Network:
    """An uninitialised ensemble (see :meth:`Network.initialise`).

    Args:
        model: architecture, its depth included.
        width: ``N``, hidden units or channels.
        parameterization, optimizer, form, gamma0, layer_rates, depth_rates: choose multipliers, initialisation and
            learning rates from the table of :mod:`featurespeed.parameterization`.
        input_shape: channels, height and width of an image, which an MLP flattens; the length of a sequence of tokens.
        classes: outputs; of a text, the tokens of its vocabulary.
        members: networks side by side.

    Raises:
        ParameterizationError: the parameterization does not cover the model or the optimizer.
        ValueError: strides and pooling leave no pixel.

    Source: arXiv:2402.17457, Eq. 1, Sec. 2 and App. J.4.
    """
    check_model(parameterization, model)
    plan = plan_network(model, width, input_shape, classes)
    has_branches = any(layer.in_branch for layer in plan.layers)  # then L counts these, and else all hidden layers

    def layer(layer: LayerPlan) -> Weighted:
        rule = scaling_rule(
            parameterization, layer.role, width, model.counted_depth, input_dim=layer.fan_in,
            optimizer=optimizer, form=form, gamma0=gamma0, fan_in=layer.fan_in, gamma_fan_in=plan.gamma_fan_in,
            counted=layer.in_branch or not has_branches, vector=layer.vector is not None,
            layer_rates=layer_rates, depth_rates=depth_rates,
        )  # fmt: skip
        rule = replace(rule, multiplier=rule.multiplier * layer.gain)
        if layer.vector is not None:
            return make_vector(members, layer, rule)
        if layer.kernel:
            return MemberConv(members, layer.inputs, layer.outputs, layer.role, rule, layer.stride)
        return MemberLinear(members, layer.inputs, layer.outputs, layer.role, rule)

    def rebuild(count: int) -> Network:
        return build_network(
            model, width, parameterization, input_shape=input_shape, classes=classes, members=count,
            optimizer=optimizer, form=form, gamma0=gamma0, layer_rates=layer_rates, depth_rates=depth_rates,
        )  # fmt: skip

    if model.transformer is not None:
        branch = _branch(model, parameterization)
        return Network(transformer_modules(model, width, parameterization, plan, layer, branch), rebuild)
    first, *hidden, last = plan.modules
    entry = _entry(layer(first.layers[0]), any(module.pooling == "max" for module in plan.modules))
    blocks = [
        Block(
            [layer(one) for one in module.layers], module.activation, module.tau,
            _branch(model, parameterization) if module.layers[0].in_branch else 1.0, module.pooling,
        )
        for module in hidden
    ]  # fmt: skip
    readout = Readout(layer(last.layers[0]), last.activation, model.readout == "pooled", last.pooling)
    places = pixel_places(plan, input_shape[1:]) if is_strided_chain(plan) else None
    return Network([entry, *blocks, readout], rebuild, places)


def _entry(layer: Weighted, max_pooled: bool) -> nn.Module:
    if isinstance(layer, MemberConv):
        return InputImages(layer, channels_last=max_pooled)
    return InputVectors(layer)


def _branch(model: ModelSpec, parameterization: Parameterization) -> float:
    if not model.residual:
        return 1.0
    depth = model.counted_depth
    return branch_multiplier(parameterization, depth) if model.alpha is None else depth**-model.alpha
