"""Second derivatives of convolutions: PyTorch's values at less cost."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed.curvature.convolution import ByInput, ByWeight, Geometry, Output, conv2d
from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import (
    Negative,
)
from featurespeed.measuring.context import Replacing
from tests.curvature.cases import (
    Matrices,
    assert_same,
    largest,
    relative_error,
    symmetric,
)
from tests.probes.cases import DOUBLE, normal

GEOMETRIES = {
    "plain": {},
    "stride": {"stride": 2, "padding": 1},
    "uneven stride": {"stride": (2, 3), "padding": (0, 1)},
    "dilation": {"dilation": 2, "padding": 2},
    "groups": {"groups": 2, "padding": 1},
    "all": {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2},
}
every_geometry = pytest.mark.parametrize("options", GEOMETRIES.values(), ids=GEOMETRIES)


@every_geometry
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_convolutions_have_the_values_and_all_derivatives_of_pytorchs(options, bias):
    x, w = normal(2, 4, 6, 5), normal(4, 4 // options.get("groups", 1), 3, 2)
    arguments = [a.requires_grad_() for a in (x, w, *([normal(4)] if bias else []))]
    assert_same(conv2d(*arguments, **options), torch.conv2d(*arguments, **options), rtol=1e-13)
    ours, theirs = (_second(f, arguments, options) for f in (conv2d, torch.conv2d))
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other, rtol=1e-12)


def _second(convolve, arguments, options):
    """Derivatives of the squared norm of the first derivatives of a curved function."""
    first = torch.autograd.grad(torch.tanh(convolve(*arguments, **options)).sum(), arguments, create_graph=True)
    return torch.autograd.grad(sum(g.square().sum() for g in first), arguments)


@every_geometry
def test_each_of_the_three_bilinear_maps_has_the_derivatives_of_finite_differences(options):
    x, w = normal(1, 2, 4, 4).requires_grad_(), normal(2, 2 // options.get("groups", 1), 2, 2).requires_grad_()
    pairs = {name: value if isinstance(value, tuple) else (value,) * 2 for name, value in options.items()}
    geometry = Geometry(
        x.shape, w.shape, pairs.get("stride", (1, 1)), pairs.get("padding", (0, 0)), pairs.get("dilation", (1, 1)),
        options.get("groups", 1),
    )  # fmt: skip
    gradient = normal(*geometry.output(x, w).shape).requires_grad_()
    for function, arguments in ((Output, (x, w)), (ByInput, (gradient, w)), (ByWeight, (gradient, x))):
        assert torch.autograd.gradcheck(lambda a, b, f=function: f.apply(a, b, geometry), arguments)
        assert torch.autograd.gradgradcheck(lambda a, b, f=function: f.apply(a, b, geometry), arguments)


def in_their_place():
    """What an objective does where it builds a graph."""
    return Replacing({torch.conv2d: conv2d})


def _graph(output):
    """Names of the functions behind an output."""
    names, queue = set(), [output.grad_fn]
    while queue:
        node = queue.pop()
        names.add(node.name())
        queue += [parent for parent, _ in node.next_functions if parent is not None]
    return names


def test_convolutions_are_replaced_inside_the_mode_only():
    layer, x = nn.Conv2d(2, 3, 3).double(), normal(1, 2, 4, 4)
    with in_their_place():
        inside = [layer(x), functional.conv2d(x, layer.weight), torch.conv2d(x, weight=layer.weight, stride=[1])]
    objective = Objective(layer, lambda outputs, targets: outputs.sum(), (x, x))
    with objective.replacing():
        inside.append(objective.outputs(objective.chunks[0]))
    assert all("OutputBackward" in _graph(output) for output in inside)
    assert "OutputBackward" not in _graph(layer(x))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 3, padding="same"), (2, 2, 5, 5)),
        (nn.Conv2d(2, 3, 3, padding="valid"), (2, 2, 5, 5)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 5, 5)),
        (nn.Conv2d(2, 3, 3), (2, 5, 5)),
        (nn.Conv1d(2, 3, 3), (2, 2, 5)),
        (nn.ConvTranspose2d(2, 3, 3, stride=2), (2, 2, 3, 3)),
    ],
    ids=["same", "valid", "circular", "no batch dimension", "1d", "transposed"],
)
def test_other_convolutions_work_inside_the_mode(layer, shape):
    layer, x = layer.double(), normal(*shape)
    wanted = _second(lambda w: layer(x), [layer.weight], {})[0]
    with in_their_place():
        found = _second(lambda w: layer(x), [layer.weight], {})[0]
    assert found.dtype == DOUBLE
    assert_same(found, wanted, rtol=1e-12)


def test_the_largest_eigenvalues_of_minus_a_matrix_are_minus_the_smallest():
    values = torch.linspace(-3, 2, 20).double()
    found = largest_eigenvalues(Negative(Matrices(symmetric(values))), 2, tol=1e-10)[0].values
    assert relative_error(-found, values[:2]) < 1e-10
    assert relative_error(largest(symmetric(values), 1), torch.tensor([2.0])) < 1e-10
