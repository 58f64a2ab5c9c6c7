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

The tables of the authors' network are those of the SimpleConvNet of arXiv:2402.17457: strided convolutions and max
pooling, turned images. `plain, as a graph` is the plain loop for all members, one after the other, recorded as one CUDA
graph: it pays for no launches.

TFLOP/s count the operations of a gradient on the plain network (:mod:`featurespeed.training.operations`): two for each
multiply and add; forward, backward by the weights, and by the inputs but for those of the first layer. What a side
leaves out because nothing reads it counts all the same.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import reporting
from training_sides import Case, Contestant, plain_losses, trainer_losses

from featurespeed.machine.device import tf32
from featurespeed.pipeline.stage import prepare_process

TRIAL = {"cpu": 5, "cuda": 20}  # steps of the first turn, which says how many fill a turn
TURN_SECONDS = 1.0
LEAST_TURNS = 5  # shorter turns, where the time of a table is too short for so many


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

PLAIN, ONE, ALL = Contestant("plain", plain=True, graph=False), Contestant("one member"), Contestant("24 members", 24)
ONE_EAGER = Contestant("one member, no graph", graph=False)
AUTHORS = Case("simple_convnet", 64, convention="authors", rotation=10)


def cpu_tables() -> Iterator[Table]:
    """ConvNets, one at a time; tiny MLPs, side by side; up to which width that is faster; the authors' network."""
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
    for width in (8, 32):
        case = replace(AUTHORS, width=width, strides=(1, 2), data="digits", rotation=0, batch=32)
        ratios = ("50 members", "plain"), ("one member", "plain")
        yield Table("digits, authors' network", case, (PLAIN, ONE, Contestant("50 members", 50)), ratios)


def gpu_tables(channels_last: bool) -> Iterator[Table]:
    """The 2-layer ConvNet: tiny and many, middling, and wide; the authors' network."""
    for width, counts, over_plain, rate, tflops, weight in (
        (32, (8, 32), 10.0, 550_000.0, None, 2.0),
        (128, (8,), 3.0, None, None, 1.0),
        (512, (8,), None, None, 95.0, 1.0),
    ):
        most = f"{counts[-1]} members"
        eager = Contestant(f"{most}, no graph", counts[-1], graph=False)
        sides = [PLAIN, ONE, ONE_EAGER, *(Contestant(f"{count} members", count) for count in counts), eager]
        if channels_last:
            sides += [replace(side, name=f"{side.name}, NHWC", channels_last=True) for side in (PLAIN, ONE, sides[-2])]
        ratios = [(side.name, "plain") for side in sides if side != PLAIN]
        ratios += [(most, "one member"), (most, eager.name)]
        targets = {(most, "plain"): over_plain, (most, "img/s"): rate, (most, "TFLOP/s"): tflops}
        wanted = tuple((key, target) for key, target in targets.items() if target is not None)
        yield Table("GPU conv", Case("convnet", width), tuple(sides), tuple(ratios), wanted, weight, count_flops=True)
    yield from authors_gpu_tables()


def authors_gpu_tables() -> Iterator[Table]:
    """The authors' networks: the SimpleConvNet narrow, wide, and the widest of Figure 1 with its 5 seeds and 8 learning
    rates; the ConvNet with either layout of its images in memory.
    """
    for width, count, over_plain in ((64, 16, 5.0), (512, 8, 1.5), (1024, 40, None)):
        most = f"{count} members"
        rivals = [ONE, Contestant(f"{most}, no graph", count, graph=False)]
        if over_plain is not None:
            rivals = [PLAIN, Contestant("plain, as a graph", count, plain=True), *rivals]
        ratios = tuple((most, rival.name) for rival in rivals)
        targets = () if over_plain is None else (((most, "plain"), over_plain),)
        sides = (*rivals, Contestant(most, count))
        yield Table("GPU, authors' network", replace(AUTHORS, width=width), sides, ratios, targets, count_flops=True)
    for width, count in ((32, 40), (64, 40), (128, 10), (256, 10)):
        most = f"{count} members"
        sides = (ONE, Contestant(f"{most}, channels first", count, channels_first=True), Contestant(most, count))
        ratios = tuple((most, rival.name) for rival in sides[:-1])
        case = replace(AUTHORS, kind="convnet", depth=3, width=width)
        yield Table("GPU, authors' ConvNet", case, sides, ratios, count_flops=True)


def tiny(table: Table) -> Table:
    """The same table at a size at which nothing is measured."""
    return replace(table, case=replace(table.case, width=4, batch=4, images=64))


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
