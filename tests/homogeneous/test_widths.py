"""Width patterns: hidden widths, numbers of weights, and the pattern that comes closest to a wanted number."""

from __future__ import annotations

import pytest

from featurespeed.data.spec import DataSpec
from featurespeed.homogeneous.convnet import ConvDescentNetwork
from featurespeed.homogeneous.network import HomogeneousMLP
from featurespeed.homogeneous.spec import NetworkSpec
from featurespeed.homogeneous.widths import base_width, convnet_weights, hidden_widths, mlp_weights

MNIST, CIFAR, DIGITS = (1, 28, 28), (3, 32, 32), (1, 8, 8)
PARAMETERS = 218_326


def closest(pattern: float, hidden: int, wanted: int, shape=MNIST, count=mlp_weights) -> list[int]:
    base = base_width(pattern, hidden, lambda widths: count(widths, shape, 10), wanted)
    return hidden_widths(pattern, base, hidden)


def test_quadratic_pattern_is_the_one_of_the_specification():
    widths = closest(2, 4, PARAMETERS)
    assert widths == [32, 128, 288, 511]
    assert mlp_weights(widths, MNIST, 10) == PARAMETERS


@pytest.mark.parametrize(("pattern", "widths"), [(0, [168] * 4), (1, [86, 172, 258, 344])])
def test_other_patterns_have_as_many_weights_as_whole_widths_allow(pattern, widths):
    found = closest(pattern, 4, PARAMETERS)
    assert found == widths or found[0] == widths[0]
    assert abs(mlp_weights(found, MNIST, 10) / PARAMETERS - 1) < 0.005


def test_large_setting_is_the_pattern_of_64_and_is_matched_by_a_constant_width():
    assert hidden_widths(2, 64, 5) == [64, 256, 576, 1024, 1600]
    assert mlp_weights(hidden_widths(2, 64, 5), MNIST, 10) == 2_458_240
    assert closest(0, 5, 2_458_240) == [691] * 5


def test_widths_are_rounded_half_up_and_at_least_one():
    assert hidden_widths(1, 2.5, 3) == [3, 5, 8]
    assert hidden_widths(2, 0.1, 4) == [1, 1, 1, 2]
    assert hidden_widths(0.5, 10, 4) == [10, 14, 17, 20]


@pytest.mark.parametrize("pattern", [0, 0.5, 1, 2, 3])
@pytest.mark.parametrize("wanted", [2_000, 21_212, PARAMETERS])
def test_no_other_base_width_comes_closer(pattern, wanted):
    base = base_width(pattern, 4, lambda widths: mlp_weights(widths, MNIST, 10), wanted)

    def distance(m: float) -> int:
        return abs(mlp_weights(hidden_widths(pattern, m, 4), MNIST, 10) - wanted)

    grid = [base * (1 + step / 2000) for step in range(-400, 401)]
    assert distance(base) <= min(distance(m) for m in grid)


@pytest.mark.parametrize("shape", [MNIST, CIFAR, DIGITS])
def test_counts_are_those_of_the_networks_themselves(shape):
    widths = [3, 12, 27]
    mlp = HomogeneousMLP([shape[0] * shape[1] * shape[2], *widths, 10])
    assert mlp_weights(widths, shape, 10) == sum(weight[0].numel() for weight in mlp.weights)
    convnet = ConvDescentNetwork(widths, shape, 10)
    assert convnet_weights(widths, shape, 10) == sum(weight[0].numel() for weight in convnet.weights)


def test_patterns_of_convnets_have_equal_numbers_of_weights():
    for pattern in (0, 1, 2):
        widths = closest(pattern, 3, 60_000, CIFAR, convnet_weights)
        assert abs(convnet_weights(widths, CIFAR, 10) / 60_000 - 1) < 0.03
        assert widths == hidden_widths(pattern, widths[0], 3) or pattern


def test_settings_give_widths_by_number_of_weights_or_by_base_width():
    mnist, small = DataSpec(name="mnist"), DataSpec(name="mnist", downscale=2)
    assert NetworkSpec(pattern=2, parameters=PARAMETERS).hidden(5, mnist) == [32, 128, 288, 511]
    assert NetworkSpec(pattern=0, base_width=32).hidden(5, mnist) == [32] * 4
    widths = NetworkSpec(pattern=2, parameters=50_000).hidden(5, small)
    assert abs(mlp_weights(widths, (1, 14, 14), 10) / 50_000 - 1) < 0.02
