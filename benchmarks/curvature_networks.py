"""The networks whose curvature `benchmarks/curvature.py` measures: plain modules, kept at some steps of a training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.objective import Objective
from featurespeed.curvature.operators import Hessian
from featurespeed.models.networks import Network, build_network
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import Parameterization
from featurespeed.randomness import generator

Batch = tuple[Tensor, Tensor]
Way = Callable[[], object]  # to a product or a gradient: what is timed
Context = Callable[[], AbstractContextManager[None]]
CLASSES = 10
MOST = 10  # eigenvalues that are compared
REFERENCE_TOL = 1e-10  # of the float64 eigenvalues that count as true
TRAINING_BATCH = 64
GRADIENT = "gradient"  # in tables: the unit of cost
NOISE = 8.0  # of synthetic images, beside class means of size 1: they take a hundred steps to learn


@dataclass(frozen=True)
class Problem:
    """A network in muP, and how long it is trained.

    Attributes:
        data: ``digits``, or the side of synthetic images with three channels.
        batch: images of the loss whose curvature is measured.
        rate: learning rate, times that of the parameterization.
        steps: after how many updates the weights are kept.
    """

    kind: str
    width: int
    data: str | int
    batch: int = 128
    depth: int = 2
    rate: float = 0.4
    steps: tuple[int, ...] = (0, 5, 10, 20, 40, 60, 80, 100, 130, 160, 200, 250)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return (1, 8, 8) if isinstance(self.data, str) else (3, self.data, self.data)

    @property
    def title(self) -> str:
        """In tables."""
        images = self.data if isinstance(self.data, str) else f"3x{self.data}x{self.data}"
        return f"{self.kind} {self.width}, {images}, batch {self.batch}"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights on the way, the batch, and the largest eigenvalues of the Hessian there, float64 ``[MOST]``."""

    step: int
    model: nn.Module
    batch: Batch
    exact: Tensor


@dataclass(frozen=True)
class Target:
    """A limit on a median, from above or from below."""

    value: float | None
    at_most: bool = True


@dataclass(frozen=True)
class Finding:
    """What was measured, in which unit, one value a turn."""

    what: str
    unit: str
    values: list[float]
    target: Target | None = None


class PlainLayer(nn.Module):
    """A bias-free linear map or 3x3 convolution, times the multiplier of its parameterization."""

    def __init__(self, weight: Tensor, multiplier: float):
        super().__init__()
        self.weight, self.multiplier = nn.Parameter(weight.clone()), multiplier

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.multiplier
        return functional.conv2d(x, weight, padding=1) if weight.ndim == 4 else functional.linear(x, weight)


def plain_network(network: Network) -> nn.Sequential:
    """The first member as one writes it with PyTorch's own modules: what every contestant measures."""
    layers = list(network.weighted.values())
    images = layers[0].weight.ndim == 5
    modules: list[nn.Module] = [] if images else [nn.Flatten()]
    for index, layer in enumerate(layers):
        if index:
            modules.append(nn.ReLU())
            if images:
                modules.append(nn.AvgPool2d(2) if index < len(layers) - 1 else nn.Flatten())
        modules.append(PlainLayer(layer.weight.detach()[0], layer.rule.multiplier))
    return nn.Sequential(*modules)


def make_network(
    kind: str, width: int, depth: int, shape: tuple[int, int, int], members: int = 1, seed: int = 0
) -> Network:
    """An initialised ensemble in muP; member ``i`` has the weights of seed ``seed + i``."""
    model = ModelSpec(kind=kind, depth=depth)
    network = build_network(
        model, width, Parameterization.MUP, input_shape=shape, classes=CLASSES, members=members
    )  # fmt: skip
    return network.initialise(range(seed, seed + members))


@lru_cache(maxsize=4)
def images_of(data: str | int, count: int = 1797) -> Batch:
    """Images ``[count, C, H, W]`` and classes: handwritten digits, or random class means with noise."""
    if data == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        pixels = torch.from_numpy(found.images).float().unsqueeze(1) / 16
        return (pixels - pixels.mean())[:count], torch.from_numpy(found.target)[:count]
    stream = generator(0, "benchmark")
    means = torch.randn(CLASSES, 3, 4, 4, generator=stream)
    means = functional.interpolate(means, size=(data, data), mode="bilinear", align_corners=False)
    classes = torch.randint(CLASSES, (count,), generator=stream)
    images = means[classes] + NOISE * torch.randn(count, 3, data, data, generator=stream)
    return images / images.std(), classes


def gradient(model: nn.Module, batch: Batch) -> Way:
    """One gradient evaluation, which is the unit of cost: forward and backward, plain."""
    inputs, classes = batch
    parameters = list(model.parameters())
    return lambda: torch.autograd.grad(functional.cross_entropy(model(inputs), classes), parameters)


def exact_eigenvalues(model: nn.Module, batch: Batch) -> Tensor:
    """The largest eigenvalues of the Hessian, ``[MOST]``, computed in float64 to REFERENCE_TOL."""
    inputs, classes = batch
    objective = Objective(copy.deepcopy(model).double(), functional.cross_entropy, (inputs.double(), classes))
    (found,) = largest_eigenvalues(Hessian(objective), MOST, tol=REFERENCE_TOL, max_products=1000)
    if not found.converged:
        raise RuntimeError("the float64 eigenvalues, which count as true, have not converged")
    return found.values


def trajectory(problem: Problem) -> Iterator[Checkpoint]:
    """Train with plain SGD, a step after the other, and give out the kept weights on the way."""
    network = make_network(problem.kind, problem.width, problem.depth, problem.shape)
    model, images, classes = plain_network(network), *images_of(problem.data)
    rates = [problem.rate * layer.rule.lr_scale for layer in network.weighted.values()]
    stream, batch = generator(0, "batches"), (images[: problem.batch], classes[: problem.batch])
    for step in range(problem.steps[-1] + 1):
        if step in problem.steps:
            kept = copy.deepcopy(model)
            yield Checkpoint(step, kept, batch, exact_eigenvalues(kept, batch))
        chosen = torch.randint(len(images), (TRAINING_BATCH,), generator=stream)
        with torch.no_grad():
            slopes = gradient_at(model, (images[chosen], classes[chosen]))
            for parameter, slope, rate in zip(model.parameters(), slopes, rates, strict=True):
                parameter -= rate * slope


@torch.enable_grad()
def gradient_at(model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    """Gradients of the mean loss, one a parameter."""
    return gradient(model, batch)()
