"""Images a second of the trainer, beside the plain loop that trains one network at a time.

    python benchmarks/training.py                               # on the GPU if there is one, else on the CPU
    python benchmarks/training.py --device cuda --seconds 240 --out training.json
    python benchmarks/training.py --device cpu --only tiny      # the tables whose title holds a word
    python benchmarks/training.py --smoke                       # tiny sizes, all tables: a check, not a measurement

Both sides train the same networks from the same weights on the same batches of random images, which are drawn, cropped,
flipped and standardised while the clock runs. `plain` is the loop that one writes for one network: `nn.Conv2d` or
`nn.Linear`, `torch.optim`, `loss.backward()`. The others are whole steps of the trainer: `one member`, or several side
by side. Contestants take turns until the time of their table is over. A ratio is taken within a turn; its median stands
beside its smallest and largest value. The CPU computes on one thread, and its seconds are CPU seconds. A GPU rounds to
TF32, on both sides, and replays the trainer's step as a CUDA graph unless the name says otherwise.

TFLOP/s count 6 operations for each weight of a convolution and pixel of its output (multiply and add; forward, backward
by the weights, backward by the inputs): ``6 sum_layers s^2 9 C_in C_out`` an image and network. The first layer has no
backward pass by its inputs, so that its count is too high by half: 0.8% of the sum at width 512, 3% at 128, 10% at 32.
"""

from __future__ import annotations

import argparse
import gc
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import reporting

from featurespeed.data.augment import Augmentation
from featurespeed.data.batches import BatchStream
from featurespeed.data.registry import DATASETS
from featurespeed.machine.device import tf32
from featurespeed.models.networks import Network
from featurespeed.pipeline.stage import prepare_process
from featurespeed.randomness import generator
from featurespeed.training import trainer
from featurespeed.training.job import Job, Probe
from featurespeed.training.setup import make_network
from featurespeed.training.spec import TrainingSpec

CLASSES = 10
SEEDS = {1: 1, 8: 1, 24: 4, 32: 4}  # members -> seeds; all others differ in the learning rate
LARGEST_RATE = {"sgd": 0.02, "adam": 1e-3}  # far below those at which a member diverges
WARM_UP = 3  # steps before the clock starts
TRIAL = {"cpu": 5, "cuda": 20}  # steps of the first turn, which says how many fill a turn
TURN_SECONDS = 1.0
LEAST_TURNS = 5  # shorter turns, where the time of a table is too short for so many


@dataclass(frozen=True)
class Case:
    """A network, an optimizer, and random images of the size of a data set."""

    kind: str
    width: int
    depth: int = 2
    data: str = "cifar10"
    batch: int = 128
    optimizer: str = "sgd"
    parameterization: str = "MUP"
    images: int = 12_800  # 100 batches an epoch, so that every turn has its share of permutations

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return DATASETS[self.data].shape

    @property
    def flops(self) -> int:
        """Operations of the convolutions an image and network; images are halved after every convolution."""
        channels, side, _ = self.shape
        pairs = [(channels, self.width), *[(self.width, self.width)] * (self.depth - 1)]
        return sum(6 * (side >> layer) ** 2 * 9 * c_in * c_out for layer, (c_in, c_out) in enumerate(pairs))

    @property
    def title(self) -> str:
        """In tables."""
        return f"{self.kind} {self.width}, batch {self.batch}, {self.optimizer}, {self.parameterization}"


@dataclass(frozen=True)
class Contestant:
    """A way to train: the plain loop, or the trainer with so many members."""

    name: str
    members: int = 1
    plain: bool = False
    graph: bool = True
    channels_last: bool = False


@dataclass(frozen=True)
class Table:
    """Contestants that take turns at one case, the ratios to report, and targets by (contestant, unit or rival)."""

    title: str
    case: Case
    contestants: tuple[Contestant, ...]
    ratios: tuple[tuple[str, str], ...]
    targets: tuple[tuple[tuple[str, str], float], ...] = ()
    weight: float = 1.0  # of the time
    count_flops: bool = False

    @property
    def name(self) -> str:
        """Heading."""
        return f"{self.title}: {self.case.title}"


@dataclass(frozen=True)
class Turn:
    """Images a second over all members; peak memory of the GPU in GB that tensors took, and that PyTorch took."""

    rate: float
    allocated: float = 0.0
    reserved: float = 0.0


@dataclass(frozen=True)
class Row:
    """A median over turns, its extremes, and what it should reach."""

    table: str
    case: str
    what: str
    value: float
    least: float
    most: float
    unit: str
    turns: int
    target: float | None

    @property
    def verdict(self) -> str:
        """Met, or by how much not."""
        if self.target is None:
            return ""
        return "met" if self.value >= self.target else f"missed by {1 - self.value / self.target:.0%}"


# --- what competes ----------------------------------------------------------------------------------------------------

PLAIN, ONE, ALL = Contestant("plain", plain=True), Contestant("one member"), Contestant("24 members", 24)


def cpu_tables() -> Iterator[Table]:
    """ConvNets, one at a time; tiny MLPs, side by side; and up to which width side by side is faster."""
    for width, changes in ((16, {}), (64, {}), (16, {"parameterization": "SP"}), (16, {"optimizer": "adam"})):
        case = Case("convnet", width, **changes)
        yield Table("conv", case, (PLAIN, ONE), (("one member", "plain"),), ((("one member", "plain"), 0.95),), 2.0)
    mlp = Case("mlp", 16, depth=3, data="digits")
    for case in (
        *(replace(mlp, width=w, batch=b) for w in (16, 32, 64) for b in (32, 128)),
        replace(mlp, optimizer="adam"),
    ):
        ratios = ("24 members", "plain"), ("one member", "plain")
        yield Table("tiny", case, (PLAIN, ONE, ALL), ratios, ((ratios[0], 2.0),))
    for data, widths in (("digits", (64, 128, 192, 256, 384)), ("cifar10", (16, 64, 256))):
        for width in widths:
            case = replace(mlp, width=width, data=data)
            yield Table(f"side by side, {data}", case, (ONE, ALL), (("24 members", "one member"),), weight=0.6)


def gpu_tables(channels_last: bool) -> Iterator[Table]:
    """The 2-layer ConvNet: tiny and many, middling, and wide."""
    one_eager = Contestant("one member, no graph", graph=False)
    for width, counts, over_plain, rate, tflops, weight in (
        (32, (8, 32), 10.0, 550_000.0, None, 2.0),
        (128, (8,), 3.0, None, None, 1.0),
        (512, (8,), None, None, 95.0, 1.0),
    ):
        most = f"{counts[-1]} members"
        eager = Contestant(f"{most}, no graph", counts[-1], graph=False)
        sides = [PLAIN, ONE, one_eager, *(Contestant(f"{count} members", count) for count in counts), eager]
        if channels_last:
            sides += [replace(side, name=f"{side.name}, NHWC", channels_last=True) for side in (PLAIN, ONE, sides[-2])]
        ratios = [(side.name, "plain") for side in sides if side != PLAIN]
        ratios += [(most, "one member"), (most, eager.name)]
        targets = {(most, "plain"): over_plain, (most, "img/s"): rate, (most, "TFLOP/s"): tflops}
        wanted = tuple((key, target) for key, target in targets.items() if target is not None)
        yield Table("GPU conv", Case("convnet", width), tuple(sides), tuple(ratios), wanted, weight, count_flops=True)


def tiny(table: Table) -> Table:
    """The same table at a size at which nothing is measured."""
    return replace(table, case=replace(table.case, width=4, batch=4, images=64))


# --- the two sides ----------------------------------------------------------------------------------------------------


def make_spec(case: Case, members: int, steps: int) -> TrainingSpec:
    """The job of one contestant; the clock runs between its two probe steps."""
    seeds = SEEDS[members]
    rates = [LARGEST_RATE[case.optimizer] / 2**index for index in range(members // seeds)]
    return TrainingSpec.model_validate(
        {
            "run": "benchmark",
            "data": {"name": case.data, "crop": 4, "flip": True},
            "model": {"kind": case.kind, "depth": case.depth},
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
def make_stream(data: str, images: int, batch: int, device: torch.device) -> BatchStream:
    """Random images and classes."""
    stream = generator(0, "benchmark")
    return BatchStream(
        torch.randint(256, (images, *DATASETS[data].shape), generator=stream, dtype=torch.uint8),
        torch.randint(CLASSES, (images,), generator=stream),
        seeds=[0],
        batch_size=batch,
        augmentation=Augmentation(crop=4, flip=True),
        device=device,
    )


def make_job(case: Case, spec: TrainingSpec, device: torch.device, channels_last: bool = False) -> Job:
    """The job of a spec on the random images."""
    stream = make_stream(case.data, case.images, case.batch, device)

    def network(members: int) -> Network:
        made = make_network(spec, case.shape, CLASSES, members).to(device)
        return with_channels_last(made) if channels_last else made

    return Job(spec, network, stream.for_seeds, case.batch, device)


def with_channels_last(network: Network) -> Network:
    """Store the kernels of convolutions with their channels last; what a convolution returns follows its kernel."""
    for layer in network.weighted.values():
        if layer.weight.ndim == 5:
            layer.weight.data = layer.weight.data.movedim(2, -1).contiguous().movedim(-1, 2)
    return network


class PlainNetwork(nn.Module):
    """One network, plain layers without skips, as one writes it; weights and multipliers are those of a member."""

    def __init__(self, network: Network):
        super().__init__()
        layers = network.weighted.values()
        self.multipliers = [layer.rule.multiplier for layer in layers]
        self.layers = nn.ModuleList(_plain_layer(layer.weight.detach()[0]) for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        images = isinstance(self.layers[0], nn.Conv2d)
        h = self._scaled(0, x if images else x.flatten(1))
        for index in range(1, len(self.layers) - 1):
            h = functional.relu(h)
            h = self._scaled(index, functional.avg_pool2d(h, 2) if images else h)
        return self._scaled(-1, functional.relu(h).flatten(1))

    def _scaled(self, index: int, x: Tensor) -> Tensor:
        y = self.layers[index](x)
        return y if self.multipliers[index] == 1.0 else self.multipliers[index] * y


def _plain_layer(weight: Tensor) -> nn.Module:
    c_out, c_in = weight.shape[:2]
    layer = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False) if weight.ndim == 4 else nn.Linear(c_in, c_out, bias=False)
    layer.weight.data = weight.clone(memory_format=torch.contiguous_format)
    return layer


def plain_optimizer(plain: PlainNetwork, network: Network, spec: TrainingSpec) -> torch.optim.Optimizer:
    """PyTorch's own, with the factors of each layer on learning rate and epsilon."""
    settings, parts = spec.optimizer, []
    for layer, mine in zip(plain.layers, network.weighted.values(), strict=True):
        part = {"params": [layer.weight], "lr": spec.learning_rates[0] * mine.rule.lr_scale}
        parts.append(part | ({} if settings.name == "sgd" else {"eps": settings.epsilon * mine.rule.epsilon_scale}))
    return torch.optim.SGD(parts) if settings.name == "sgd" else torch.optim.Adam(parts, betas=settings.betas)


def plain_losses(
    case: Case, contestant: Contestant, device: torch.device, steps: int, stamp: Callable[[], None]
) -> Tensor:
    """Train one network with the plain loop; losses ``[1, steps]``. ``stamp``: after the warm-up, and at the end."""
    spec = make_spec(case, 1, steps)
    job = make_job(case, spec, device)
    network = job.make_network(1).initialise(job.seeds([0]))
    layout = torch.channels_last if contestant.channels_last else torch.contiguous_format
    plain, batches, losses = PlainNetwork(network).to(memory_format=layout), job.make_batches(job.seeds([0])), []
    optimizer = plain_optimizer(plain, network, spec)
    for step in range(spec.steps):
        if step == WARM_UP:
            stamp()
        x, y = batches.batch(step)
        optimizer.zero_grad()
        loss = functional.cross_entropy(plain(x[0].contiguous(memory_format=layout)), y[0])
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    stamp()
    return torch.stack(losses).unsqueeze(0)


def trainer_losses(
    case: Case, contestant: Contestant, device: torch.device, steps: int, stamp: Callable[[], None]
) -> Tensor:
    """Train the members side by side with the trainer; losses ``[E, steps]``. ``stamp`` as above."""

    def on_probe(_: Probe) -> list:
        stamp()
        return []

    spec = make_spec(case, contestant.members, steps)
    job = make_job(case, spec, device, contestant.channels_last)
    one_group = patch.object(trainer, "plan_groups", lambda *_: [list(range(contestant.members))])
    with one_group, redirect_stderr(io.StringIO()):
        done = trainer.Trainer(job, on_probe=on_probe, cuda_graph=contestant.graph).run()
    if done.frozen or len(done.final) != 1:
        raise RuntimeError(
            f"{case.title}, {contestant.name}: {len(done.frozen)} members were frozen, {len(done.final)} groups"
            " trained; a measurement needs all members in one group to the end"
        )
    return torch.from_numpy(done.losses)


# --- measuring --------------------------------------------------------------------------------------------------------


def take_turn(case: Case, contestant: Contestant, device: torch.device, steps: int) -> Turn:
    """Train for so many steps after the warm-up; a GPU has ended all its work whenever the clock is read.

    On the CPU the clock counts what this process, one thread, computes: others that use the machine stop it, too.
    """
    stamps: list[float] = []
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time

    def stamp() -> None:
        if on_gpu:
            torch.cuda.synchronize()
        stamps.append(clock())

    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with tf32(True):
        (plain_losses if contestant.plain else trainer_losses)(case, contestant, device, steps, stamp)
    rate = steps * case.batch * contestant.members / (stamps[1] - stamps[0])
    if not on_gpu:
        return Turn(rate)
    return Turn(rate, torch.cuda.max_memory_allocated() / 1e9, torch.cuda.max_memory_reserved() / 1e9)


def compete(table: Table, device: torch.device, deadline: float) -> dict[str, list[Turn]]:
    """Turns of each contestant, in rounds, until the next round would end after the deadline (of time.monotonic).

    Trial turns come first: kernels are chosen, memory is taken. They count only if there is time for nothing else.
    """
    seconds = min(TURN_SECONDS, max(deadline - time.monotonic(), 0.0) / (LEAST_TURNS + 1) / len(table.contestants))
    trials, steps = {}, {}
    for contestant in table.contestants:
        trials[contestant.name] = take_turn(table.case, contestant, device, TRIAL[device.type])
        updates = trials[contestant.name].rate / (table.case.batch * contestant.members)
        steps[contestant.name] = max(1, round(seconds * updates))
    turns: dict[str, list[Turn]] = {contestant.name: [] for contestant in table.contestants}
    started, rounds = time.monotonic(), 0
    while (now := time.monotonic()) + (now - started) / max(rounds, 1) < deadline:
        for contestant in table.contestants:
            turns[contestant.name].append(take_turn(table.case, contestant, device, steps[contestant.name]))
        rounds += 1
    return turns if rounds else {name: [turn] for name, turn in trials.items()}


def rows_of(table: Table, turns: dict[str, list[Turn]], on_gpu: bool) -> Iterator[Row]:
    """Images a second of each contestant, on a GPU TFLOP/s and memory; then the ratios."""
    targets = dict(table.targets)

    def row(what: str, values: list[float], unit: str, target: float | None) -> Row:
        spread = median(values), min(values), max(values)
        return Row(table.title, table.case.title, what, *spread, unit, len(values), target)

    for contestant in table.contestants:
        name, mine = contestant.name, turns[contestant.name]
        units = {"img/s": [turn.rate for turn in mine]}
        if table.count_flops:
            units["TFLOP/s"] = [turn.rate * table.case.flops / 1e12 for turn in mine]
        if on_gpu:
            units["GB in tensors"] = [turn.allocated for turn in mine]
            units["GB reserved"] = [turn.reserved for turn in mine]
        for unit, values in units.items():
            yield row(name, values, unit, targets.get((name, unit)))
    for name, rival in table.ratios:
        values = [mine.rate / other.rate for mine, other in zip(turns[name], turns[rival], strict=True)]
        yield row(f"{name} / {rival}", values, "x", targets.get((name, rival)))


# --- the command ------------------------------------------------------------------------------------------------------


def lines_of(rows: Sequence[Row], verdicts: bool) -> Iterator[str]:
    """Markdown lines of one table: a line a contestant, a column a unit or rival; extremes in brackets."""
    cells: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        name, _, rival = row.what.partition(" / ")
        digits = ",.0f" if row.unit == "img/s" else ".2f"
        value, least, most = (format(number, digits) for number in (row.value, row.least, row.most))
        mine = cells.setdefault(name, {"target": [], "verdict": []})
        mine[f"/ {rival}" if rival else row.unit] = [f"{value} ({least} to {most})"]
        if row.target is not None:
            mine["target"].append(f">= {row.target:,g} {row.unit}")
            mine["verdict"] += [row.verdict] if verdicts else []
    columns = dict.fromkeys(column for mine in cells.values() for column in mine)
    columns = [*(column for column in columns if column not in ("target", "verdict")), "target", "verdict"]
    yield f"| {rows[0].turns} turns | {' | '.join(columns)} |"
    yield "|" + "---|" * (len(columns) + 1)
    for name, mine in cells.items():
        yield f"| {name} | {' | '.join('; '.join(mine.get(column, [])) for column in columns)} |"


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reporting.add_options(parser, seconds=300.0)
    parser.add_argument("--channels-last", action="store_true", help="on a GPU also with channels last in memory")
    parser.add_argument("--no-search", action="store_true", help="cuDNN chooses by rule of thumb, without trying")
    return reporting.read_options(parser, arguments)


def choose(options: argparse.Namespace) -> tuple[torch.device, list[Table]]:
    """Where to measure, and what."""
    on_gpu = not options.smoke and (options.device == "cuda" or options.device == "auto" and torch.cuda.is_available())
    tables = [] if on_gpu else list(cpu_tables())
    if on_gpu or options.smoke:
        tables += gpu_tables(options.channels_last)
    if options.smoke:
        tables = list(dict.fromkeys(map(tiny, tables)))
    chosen = [table for table in tables if options.only in table.name]
    return torch.device("cuda" if on_gpu else "cpu"), chosen


def main(arguments: Sequence[str] | None = None) -> None:
    started = time.monotonic()
    options = read_options(arguments)
    prepare_process(threads=1)  # threads and allocator as every stage has them
    torch.backends.cudnn.benchmark = not options.no_search  # cuDNN remembers what it chose: one way a process
    device, tables = choose(options)
    facts, rows = reporting.facts_of(device, options), []
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    for index, table in enumerate(tables):
        now, weights = time.monotonic(), [left.weight for left in tables[index:]]
        left = started + options.seconds - now
        if left <= 0:
            print(f"\n{table.name}: not measured, the time is over", flush=True)
            continue
        turns = compete(table, device, now + left * weights[0] / sum(weights))
        found = list(rows_of(table, turns, device.type == "cuda"))
        rows += found
        print(f"\n{table.name}\n")
        print("\n".join(lines_of(found, not options.smoke)), flush=True)
        if options.out is not None:
            reporting.write(options.out, facts, rows)


if __name__ == "__main__":
    main()
