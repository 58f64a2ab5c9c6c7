"""The two sides of the benchmark of training: the loop that one writes for one network, and the trainer.

Both train the same networks from the same weights on the same batches of random images; a test compares their losses.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.data.augment import Augmentation
from featurespeed.data.batches import BatchStream
from featurespeed.data.registry import DATASETS
from featurespeed.models.layers import Weighted
from featurespeed.models.networks import Network
from featurespeed.models.spec import ModelSpec
from featurespeed.randomness import generator
from featurespeed.training import trainer
from featurespeed.training.ensemble import WARM_UP_RUNS, capture_stream
from featurespeed.training.job import Job, Probe
from featurespeed.training.operations import gradient_flop, layers_of
from featurespeed.training.setup import make_network
from featurespeed.training.spec import TrainingSpec

CLASSES = 10
# Members -> seeds; all others differ in the learning rate.
SEEDS = {1: 1, 8: 1, 10: 10, 16: 2, 24: 4, 32: 4, 40: 5, 50: 10}
LARGEST_RATE = {"sgd": 0.02, "adam": 1e-3}  # far below those at which a member diverges
WARM_UP = 3  # steps before the clock starts
POOLS: dict[str | None, Callable[[], nn.Module]] = {
    "average": lambda: nn.AvgPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
    None: nn.Identity,
}

Update = Callable[[Tensor, Tensor], list[Tensor]]  # x [S, B, C, H, W], y [S, B] -> a loss a network


@dataclass(frozen=True)
class Case:
    """A network, an optimizer, and random images of the size of a data set.

    ``convention`` and ``strides`` are those of :class:`featurespeed.models.spec.ModelSpec`; images are turned by up to
    ``rotation`` degrees.
    """

    kind: str
    width: int
    depth: int = 2
    convention: str = "ours"
    strides: tuple[int, ...] | None = None
    data: str = "cifar10"
    rotation: float = 0.0
    batch: int = 128
    optimizer: str = "sgd"
    parameterization: str = "MUP"
    images: int = 12_800  # 100 batches an epoch, so that every turn has its share of permutations

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return DATASETS[self.data].shape

    @property
    def augmentation(self) -> Augmentation:
        """What is done to every image."""
        return Augmentation(crop=4, flip=True, rotation=self.rotation)

    @property
    def model(self) -> ModelSpec:
        """The architecture."""
        strides = None if self.strides is None else list(self.strides)
        return ModelSpec(kind=self.kind, depth=self.depth, convention=self.convention, strides=strides)

    @property
    def flops(self) -> int:
        """Operations of a gradient of one network, an image."""
        return gradient_flop(layers_of(self.model, self.width, self.shape, CLASSES))

    @property
    def title(self) -> str:
        """In tables."""
        return f"{self.kind} {self.width}, batch {self.batch}, {self.optimizer}, {self.parameterization}"


@dataclass(frozen=True)
class Contestant:
    """A way to train so many members: side by side by the trainer, or by the plain loop, one after the other.

    With ``graph``, a GPU replays the step of all of them as one CUDA graph. Images lie in memory with their
    channels first or last, where the trainer is told so; it may choose last by itself, on a GPU.
    """

    name: str
    members: int = 1
    plain: bool = False
    graph: bool = True
    channels_last: bool = False
    channels_first: bool = False


# --- the same job for both --------------------------------------------------------------------------------------------


def make_spec(case: Case, members: int, steps: int) -> TrainingSpec:
    """The job of one contestant; the clock runs between its two probe steps."""
    seeds = SEEDS[members]
    rates = [LARGEST_RATE[case.optimizer] / 2**index for index in range(members // seeds)]
    return TrainingSpec.model_validate(
        {
            "run": "benchmark",
            "data": {"name": case.data, **vars(case.augmentation)},
            "model": case.model,
            "width": case.width,
            "parameterization": case.parameterization,
            "optimizer": {"name": case.optimizer},
            "learning_rates": rates,
            "seeds": seeds,
            "batch_size": case.batch,
            "steps": WARM_UP + steps,
            "probe_steps": [WARM_UP, WARM_UP + steps],
            "seed": 0,
        }
    )


@lru_cache(maxsize=1)
def make_stream(data: str, images: int, batch: int, augmentation: Augmentation, device: torch.device) -> BatchStream:
    """Random images and classes."""
    stream = generator(0, "benchmark")
    return BatchStream(
        torch.randint(256, (images, *DATASETS[data].shape), generator=stream, dtype=torch.uint8),
        torch.randint(CLASSES, (images,), generator=stream),
        seeds=[0],
        batch_size=batch,
        augmentation=augmentation,
        device=device,
    )


def make_job(case: Case, spec: TrainingSpec, device: torch.device, contestant: Contestant | None = None) -> Job:
    """The job of a spec on the random images; of a contestant with the memory layout that it asks for."""
    stream = make_stream(case.data, case.images, case.batch, case.augmentation, device)

    def network(members: int) -> Network:
        made = make_network(spec, case.shape, CLASSES, members).to(device)
        if contestant is not None and contestant.channels_first:
            return with_channels_first(made)
        return with_channels_last(made) if contestant is not None and contestant.channels_last else made

    return Job(spec, network, stream.for_seeds, case.batch, device)


def with_channels_last(network: Network) -> Network:
    """Store the kernels of convolutions with their channels last; what a convolution returns follows its kernel."""
    for layer in network.weighted.values():
        if layer.weight.ndim == 5:
            layer.weight.data = layer.weight.data.movedim(2, -1).contiguous().movedim(-1, 2)
    return network


def with_channels_first(network: Network) -> Network:
    """Take the choice from the trainer."""
    network[0].channels_last = False
    return network


# --- the plain loop ---------------------------------------------------------------------------------------------------


class PlainNetwork(nn.Module):
    """One network, plain layers without skips, as one writes it; weights and multipliers are those of a member."""

    def __init__(self, network: Network, member: int):
        super().__init__()
        _, *later = network
        layers = network.weighted.values()
        self.multipliers = [layer.rule.multiplier for layer in layers]
        self.layers = nn.ModuleList(_plain_layer(layer, member) for layer in layers)
        self.pools = nn.ModuleList(POOLS[module.pooling]() for module in later)

    def forward(self, x: Tensor) -> Tensor:
        h = self._scaled(0, x)
        for index, pool in enumerate(self.pools, start=1):
            h = self._scaled(index, pool(functional.relu(h)))
        return h

    def _scaled(self, index: int, x: Tensor) -> Tensor:
        layer, multiplier = self.layers[index], self.multipliers[index]
        y = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
        return y if multiplier == 1.0 else multiplier * y


def _plain_layer(layer: Weighted, member: int) -> nn.Module:
    weight = layer.weight.detach()[member]
    c_out, c_in = weight.shape[:2]
    if weight.ndim == 4:
        plain = nn.Conv2d(c_in, c_out, 3, stride=layer.stride, padding=1, bias=False)
    else:
        plain = nn.Linear(c_in, c_out, bias=False)
    plain.weight.data = weight.clone(memory_format=torch.contiguous_format)
    return plain


def plain_optimizer(plain: PlainNetwork, network: Network, spec: TrainingSpec, rate: float) -> torch.optim.Optimizer:
    """PyTorch's own, with the factors of each layer on learning rate and epsilon."""
    settings, parts = spec.optimizer, []
    for layer, mine in zip(plain.layers, network.weighted.values(), strict=True):
        part = {"params": [layer.weight], "lr": rate * mine.rule.lr_scale}
        parts.append(part | ({} if settings.name == "sgd" else {"eps": settings.epsilon * mine.rule.epsilon_scale}))
    return torch.optim.SGD(parts) if settings.name == "sgd" else torch.optim.Adam(parts, betas=settings.betas)


class PlainLoop:
    """The networks of a job, each trained as if it were the only one; most often it is."""

    def __init__(self, job: Job, layout: torch.memory_format):
        spec = job.spec
        seeds = job.seeds(range(len(spec.members)))
        network = job.make_network(len(seeds)).initialise(seeds)
        streams = list(dict.fromkeys(seeds))
        self.batches, self.layout = job.make_batches(streams), layout
        self.streams = [streams.index(seed) for seed in seeds]
        self.networks = [PlainNetwork(network, member).to(memory_format=layout) for member in range(len(seeds))]
        self.optimizers = [
            plain_optimizer(plain, network, spec, rate)
            for plain, (rate, _) in zip(self.networks, spec.members, strict=True)
        ]

    def update(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """One update of each network on its stream of ``x [S, B, C, H, W], y [S, B]``; the losses before it."""
        losses = []
        for stream, plain, optimizer in zip(self.streams, self.networks, self.optimizers, strict=True):
            optimizer.zero_grad()
            outputs = plain(x[stream].contiguous(memory_format=self.layout))
            loss = functional.cross_entropy(outputs, y[stream])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses

    def captured(self, x: Tensor, y: Tensor) -> Update:
        """The update of all networks, by SGD, recorded as one CUDA graph; weights are left as they are."""
        static, weights = (x.clone(), y.clone()), [w for plain in self.networks for w in plain.parameters()]
        before = [weight.detach().clone() for weight in weights]
        stream = capture_stream(x.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                self.update(*static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            losses = torch.stack(self.update(*static))
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)

        def replay(*batch: Tensor) -> list[Tensor]:
            for mine, new in zip(static, batch, strict=True):
                mine.copy_(new)
            graph.replay()
            return list(losses.clone())

        return replay


def plain_losses(
    case: Case, contestant: Contestant, device: torch.device, steps: int, stamp: Callable[[], None]
) -> Tensor:
    """Train the members with the plain loop; losses ``[E, steps]``. ``stamp``: after the warm-up, and at the end."""
    spec = make_spec(case, contestant.members, steps)
    layout = torch.channels_last if contestant.channels_last else torch.contiguous_format
    loop = PlainLoop(make_job(case, spec, device), layout)
    on_graph = contestant.graph and device.type == "cuda"
    update, losses = loop.captured(*loop.batches.batch(0)) if on_graph else loop.update, []
    for step in range(spec.steps):
        if step == WARM_UP:
            stamp()
        losses += update(*loop.batches.batch(step))
    stamp()
    return torch.stack(losses).view(spec.steps, -1).T


# --- the trainer ------------------------------------------------------------------------------------------------------


def trainer_losses(
    case: Case, contestant: Contestant, device: torch.device, steps: int, stamp: Callable[[], None]
) -> Tensor:
    """Train the members side by side with the trainer; losses ``[E, steps]``. ``stamp`` as for the plain loop."""

    def on_probe(_: Probe) -> list:
        stamp()
        return []

    spec = make_spec(case, contestant.members, steps)
    job = make_job(case, spec, device, contestant)
    one_group = patch.object(trainer, "plan_groups", lambda *_: [list(range(contestant.members))])
    with one_group, redirect_stderr(io.StringIO()):
        done = trainer.Trainer(job, on_probe=on_probe, cuda_graph=contestant.graph).run()
    if done.frozen or len(done.final) != 1:
        raise RuntimeError(
            f"{case.title}, {contestant.name}: {len(done.frozen)} members were frozen, {len(done.final)} groups"
            " trained; a measurement needs all members in one group to the end"
        )
    return torch.from_numpy(done.losses)
