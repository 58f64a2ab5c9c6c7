"""From the spec of a job to its networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from featurespeed.homogeneous.convnet import ConvDescentNetwork
from featurespeed.homogeneous.network import DescentNetwork, HomogeneousMLP
from featurespeed.homogeneous.spec import DescentSpec


def network_builder(
    spec: DescentSpec, shape: tuple[int, int, int], classes: int, device: torch.device, dtype: torch.dtype
) -> Callable[[int], DescentNetwork]:
    """Number of members -> uninitialised networks of a job.

    Args:
        shape: channels, height and width of an image.
    """

    def build(members: int) -> DescentNetwork:
        if spec.kind == "convnet":
            network = ConvDescentNetwork(spec.hidden, shape, classes, members)
        else:
            sizes = [math.prod(shape), *spec.hidden, classes]
            network = HomogeneousMLP(sizes, members, (spec.activation.a, spec.activation.b))
        return network.to(device=device, dtype=dtype)

    return build
