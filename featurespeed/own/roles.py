"""How each parameter grows with the size of a model: read off a smaller one of its kind (arXiv:2203.03466, App. B).

A dimension that differs between the two is one of the width. A matrix of which both differ is hidden, one of which only
the outputs differ an input layer, one of which only the inputs differ a readout; a vector of the width scales as an
input layer of which each unit sees one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from featurespeed.measuring.errors import MeasurementError
from featurespeed.own.forward import Block, Structure
from featurespeed.own.function import is_transposed_linear
from featurespeed.parameterization import LayerRole

KIND = "allowed: a smaller model of the same kind"


@dataclass(frozen=True, eq=False)
class Role:
    """What a parameter is.

    Attributes:
        role: of the layer; of a matrix that does not grow, hidden.
        vector: whether it is a bias, a gain or an embedding of places.
        fan_in, base_fan_in: what a unit sees; 1 for vectors.
        width, base_width: of the dimension that grows, the larger one of two.
        base: the parameter of the smaller model.
    """

    role: LayerRole
    vector: bool
    fan_in: int
    base_fan_in: int
    width: int
    base_width: int
    base: Tensor


def roles_of(model: nn.Module, base: nn.Module, structure: Structure, smaller: Structure) -> dict[str, Role]:
    """Name of a parameter -> its role, against a smaller model; tied ones by their first name.

    Raises:
        MeasurementError: models that differ in more than the sizes of their layers and the number of residual blocks.
    """
    own, others = dict(model.named_parameters()), dict(base.named_parameters())
    names = {name: name for name in own} if list(own) == list(others) else counterparts(structure, smaller)
    missing = [name for name in own if name not in names]
    if missing:
        raise MeasurementError(f"base: has no parameter {missing[0]}, {KIND}")
    return {name: _role(name, p, others[names[name]], _owner(model, name)) for name, p in own.items()}


def counterparts(structure: Structure, smaller: Structure) -> dict[str, str]:
    """Parameter of a model -> that of another one with fewer or more residual blocks, block by block, in order."""
    (first, middle, last), others = _parts(structure), _parts(smaller)
    if len(first) != len(others[0]) or len(last) != len(others[2]):
        counts = [len(part) for part in (others[0], others[2])]
        raise MeasurementError(
            f"base: {counts[0]} plain layers before and {counts[1]} after its residual blocks, allowed:"
            f" {len(first)} and {len(last)}, as in the model"
        )
    found: dict[str, str] = {}
    for block, other in (*zip(first, others[0], strict=True), *zip(last, others[2], strict=True)):
        found.update(_paired(block, [other]))
    for k, block in enumerate(middle):
        start = k % max(len(others[1]), 1)
        found.update(_paired(block, [*others[1][start:], *others[1][:start]]))
    return found


def _parts(structure: Structure) -> tuple[list[Block], list[Block], list[Block]]:
    """Blocks before the first residual one, from this to the last one, and after it; of a plain network, its first
    layer, those between, and its last one.
    """
    blocks = list(structure.blocks)
    places = [k for k, block in enumerate(blocks) if block.residual]
    start, end = (places[0], places[-1] + 1) if places else (1, max(len(blocks) - 1, 1))
    return blocks[:start], blocks[start:end], blocks[end:]


def _paired(block: Block, others: Sequence[Block]) -> dict[str, str]:
    """The parameters of a block with those of the first other one that is like it."""
    for other in others:
        if other.residual == block.residual and len(other.parameters) == len(block.parameters):
            return dict(zip(block.parameters, other.parameters, strict=True))
    raise MeasurementError(f"base: has no block like {block.node!r}, {KIND}")


def _role(name: str, parameter: Tensor, base: Tensor, owner: nn.Module) -> Role:
    if parameter.ndim != base.ndim:
        raise MeasurementError(f"base: {name} has {base.ndim} dimensions, allowed: {parameter.ndim}, as in the model")
    grown = [k for k in range(parameter.ndim) if parameter.shape[k] != base.shape[k]]
    if parameter.ndim < 2 or _is_place(owner):
        sizes = (parameter.shape[grown[0]], base.shape[grown[0]]) if grown else (1, 1)
        return Role(LayerRole.INPUT, True, 1, 1, *sizes, base)
    outputs, inputs = _dimensions(owner)
    fan_in, base_fan_in = _fan_in(parameter, outputs), _fan_in(base, outputs)
    roles = {(True, True): LayerRole.HIDDEN, (True, False): LayerRole.INPUT, (False, True): LayerRole.READOUT}
    role = roles.get((outputs in grown, inputs in grown), LayerRole.HIDDEN)
    own = outputs if role == LayerRole.INPUT else inputs
    return Role(role, False, fan_in, base_fan_in, parameter.shape[own], base.shape[own], base)


def _owner(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _is_place(owner: nn.Module) -> bool:
    """Whether a parameter is added to features, as embeddings of places are: that of a block, not of a layer."""
    return any(True for _ in owner.children()) and not isinstance(owner, nn.MultiheadAttention)


def _dimensions(owner: nn.Module) -> tuple[int, int]:
    """The dimensions of outputs and inputs of a layer's matrix."""
    return (1, 0) if isinstance(owner, nn.Embedding) or is_transposed_linear(owner) else (0, 1)


def _fan_in(matrix: Tensor, outputs: int) -> int:
    """What a unit sees: all entries but those of the other units; one of a table of embeddings."""
    return matrix.numel() // matrix.shape[outputs]
