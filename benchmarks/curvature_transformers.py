"""Transformers as runs measure their sharpness: the settings of figures, and what one product is compared with.

Networks are at initialisation, and examples made up in the sizes of the data: neither changes what a product takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from curvature_networks import GRADIENT, Batch, Context, Way

from featurespeed.curvature.lanczos import random_vectors
from featurespeed.curvature.operators import Hessian
from featurespeed.data.registry import DATASETS
from featurespeed.papers.super_consistency.transformers.spec import GptDepthSpec, PostLnWidthSpec, VitDepthSpec
from featurespeed.pipeline.asked import read_config
from featurespeed.pipeline.registry import ARTEFACTS
from featurespeed.randomness import generator
from featurespeed.training.curvature import Point
from featurespeed.training.curvature_operations import gradient_flop_of
from featurespeed.training.curvature_spec import SharpnessSpec
from featurespeed.training.ensemble import Ensemble
from featurespeed.training.groups import side_by_side
from featurespeed.training.setup import make_network
from featurespeed.training.spec import TrainingSpec

ROOT = Path(__file__).resolve().parents[1]
# A ViT, a decoder, and a transformer normalised after its branches.
FIGURES = [a.id for a in ARTEFACTS.values() if a.spec in (VitDepthSpec, GptDepthSpec, PostLnWidthSpec)]
# Scale, network, and weight in the time: of what a CPU measures that with most to do, of what a GPU does the smallest.
CHOSEN = (("laptop", max, 0.2), ("gpu", min, 1.0))
PRODUCT, FIRST, IN_TRAINING = "product", "first product, with its graph", "gradient in training"


@dataclass(frozen=True)
class RunCase:
    """Networks of a figure side by side, on as many examples as the figure measures them on."""

    spec: SharpnessSpec
    members: int

    @property
    def run(self) -> TrainingSpec:
        """The job whose networks they are."""
        return self.spec.training

    @property
    def title(self) -> str:
        """In tables."""
        model, shape = self.run.model, self.run.data.shape
        data = f"{shape[0]} tokens" if model.reads_tokens else "x".join(map(str, shape))
        members = "1 member" if self.members == 1 else f"{self.members} members"
        return (
            f"{model.kind} {self.run.width}, depth {model.depth}, {data}, batch {self.spec.curvature.images}, {members}"
        )


def cases(smoke: bool) -> Iterator[tuple[RunCase, float]]:
    """Members side by side, as many as a CPU measures at once, and one alone; and the weight of each in the time."""
    for scale, chosen, weight in CHOSEN:
        config = read_config(ROOT, {"scale": "smoke" if smoke else scale})
        for artefact in FIGURES:
            spec = chosen(config.block(artefact).measurements, key=gradient_flop_of)
            group, *_ = side_by_side(spec.training, spec.curvature.images, torch.device("cpu"), spec.members)
            yield from ((RunCase(spec, members), weight) for members in dict.fromkeys((len(group), 1)))


def examples_of(run: TrainingSpec, count: int) -> Batch:
    """Normal pixels ``[count, C, H, W]`` and classes, or tokens ``[count, T]`` and those that follow them."""
    stream, outputs = generator(0, "benchmark"), DATASETS[run.data.name].outputs
    if run.model.reads_tokens:
        tokens = torch.randint(outputs, (count, run.data.length + 1), generator=stream)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return torch.randn(count, *run.data.shape, generator=stream), torch.randint(outputs, (count,), generator=stream)


def point_of(case: RunCase) -> Point:
    """What a run measures at its first probe step."""
    run, members = case.run, list(range(case.members))
    network = make_network(run, run.data.shape, DATASETS[run.data.name].outputs, case.members).initialise(members)
    return Point(run, 0, members, network, examples_of(run, case.spec.curvature.images), None, None, Path())


def ways(case: RunCase) -> tuple[dict[str, Way], dict[str, Context]]:
    """What is timed at one point of a run, for all members at once, and inside of what.

    Products are those of the sharpness: in units of the layers' learning rates, with the random vectors from which a
    search starts, inside of what such a search enters once. The first one builds the graph that the others find. The
    gradient goes through the same code; one in training is that of a step, in which attention of long sequences is
    one fused operation.
    """
    point = point_of(case)
    operator = point.scaled(Hessian)
    vectors, (inputs, answers) = random_vectors(operator, 0), point.batch
    ensemble = Ensemble(point.network, case.run.optimizer, [1.0] * case.members, case.run.loss)
    measured: dict[str, Way] = {
        GRADIENT: point.objective.gradient,
        PRODUCT: partial(operator.matvec, vectors),
        FIRST: lambda: point.scaled(Hessian).matvec(vectors),
    }
    in_training = {IN_TRAINING: lambda: ensemble.gradients(inputs.unsqueeze(0), answers.unsqueeze(0))}
    return measured | in_training, dict.fromkeys(measured, operator.measuring)
