"""What eigenvalues of Hessians cost, beside PyHessian, curvlinops with SciPy's eigsh, and hessian-eigenthings.

    python benchmarks/curvature.py                                  # on the GPU if there is one, else on the CPU
    python benchmarks/curvature.py --device cpu --seconds 540 --out curvature.json
    python benchmarks/curvature.py --device cuda --seconds 200 --out curvature.json
    python benchmarks/curvature.py --device cpu --only "one product"   # tables whose heading holds the words
    python benchmarks/curvature.py --smoke                          # tiny sizes, all tables: a check, not a measurement

On the CPU all contestants measure the same plain module, the same batch and the same weights, kept along a training
run. They take turns: at each checkpoint each of them once, in an order that moves on. A ratio is taken within a turn;
its median stands beside its smallest and largest value; `total` is the ratio of the sums. One thread; seconds are CPU
seconds and include all that a contestant builds. Threads and allocator are those that stages have, for everybody.

True errors are relative to eigenvalues in float64 with a tolerance of 1e-10; of ten values the worst counts. `missed`:
an error above 1e-3; `unflagged`: of these, those of which the contestant did not say itself that it had not converged;
`wrong`: an error above 0.1, such as the negative value that is largest in magnitude. A library that is not installed is
named and left out. On a GPU only this package is measured: ensembles, warm and cold, in TF32 and in full precision.

Products of transformers are those of the runs of three figures, beside gradients by the same code, and beside those of
training steps.
"""

from __future__ import annotations

import os
import sys

# One thread, also in the linear algebra that numpy brings; it reads this when it is first imported.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from statistics import mean, median
from types import MappingProxyType

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import curvature_gpu as gpu
import curvature_transformers as transformers
import reporting
from curvature_networks import (
    GRADIENT,
    Checkpoint,
    Context,
    Finding,
    Problem,
    Target,
    Way,
    gradient,
    images_of,
    make_network,
    plain_network,
)
from curvature_networks import trajectory as train
from curvature_peers import (
    COLD,
    MISSED,
    SAME_ERROR,
    WARM,
    WRONG,
    Call,
    Contestant,
    absent,
    call,
    ours,
    products,
    rivals,
)

from featurespeed.pipeline.stage import prepare_process

DIGITS, SYNTHETIC = Problem("convnet", 32, "digits"), Problem("convnet", 16, 16, rate=0.2)
TEN_AT = (0, 20, 60, 130, 250)  # where ten eigenvalues are compared: power iteration takes seconds for them
OFTEN = tuple(range(100, 161, 5))  # as often as a warm start likes it
TURN_SECONDS = 0.2  # one contestant's products in a turn
PRODUCTS = {("1", COLD): 11.0, ("1", WARM): 5.0, ("10", COLD): 43.0}
RATIOS = {
    1: {"PyHessian, tuned to 1e-3": 3.0, SAME_ERROR: 3.0, "curvlinops + eigsh, defaults": 4.0},
    10: {"PyHessian, tuned to 1e-3": 8.0, SAME_ERROR: 8.0, "curvlinops + eigsh, defaults": 3.0},
}
DIGITS_OF = {"calls": ".0f", "products": ".0f", "error": ".0e", "s": ".3f", "GB": ".2f", "CPU ms": ".1f", "ms": ".2f"}


@dataclass(frozen=True)
class Table:
    """A heading, and what measures it until a deadline of time.monotonic."""

    title: str
    case: str
    measure: Callable[[float], Iterator[Finding]]
    weight: float = 1.0  # of the time

    @property
    def name(self) -> str:
        """Heading."""
        return f"{self.title}: {self.case}"


@dataclass(frozen=True)
class Row:
    """A median over turns, its extremes, and the limit that it should keep."""

    table: str
    case: str
    what: str
    unit: str
    value: float
    least: float
    most: float
    turns: int
    target: float | None = None
    at_most: bool = True

    @property
    def verdict(self) -> str:
        """Met, or by how much not."""
        if self.target is None:
            return ""
        if self.value <= self.target if self.at_most else self.value >= self.target:
            return "met"
        return f"missed by {abs(self.value / self.target - 1):.0%}"


def row_of(table: Table, found: Finding) -> Row:
    """Median and extremes of a finding."""
    spread = median(found.values), min(found.values), max(found.values)
    target = found.target or Target(None)
    return Row(
        table.title, table.case, found.what, found.unit, *spread, len(found.values), target.value, target.at_most
    )  # fmt: skip


# --- eigenvalues on the CPU -------------------------------------------------------------------------------------------


@lru_cache
def checkpoints(problem: Problem) -> tuple[Checkpoint, ...]:
    """The trajectory of a problem, trained once."""
    return tuple(train(problem))


def compete(
    contestants: Sequence[Contestant], points: Sequence[Checkpoint], k: int, deadline: float
) -> dict[str, dict[int, Call]]:
    """Name -> turn -> call; whole rounds over the trajectory, as many as end before the deadline, at least one.

    Only turns that count for a contestant are in its part. A call that chooses kernels comes first and does not count.
    """
    for contestant in contestants:
        call(contestant, contestant.start(1, 999), points[0], 1)
    calls: dict[str, dict[int, Call]] = {contestant.name: {} for contestant in contestants}
    started, rounds = time.monotonic(), 0
    while not rounds or (now := time.monotonic()) + (now - started) / rounds < deadline:
        measures = {contestant.name: contestant.start(k, rounds) for contestant in contestants}
        for index, point in enumerate(points):
            turn = rounds * len(points) + index
            shift = turn % len(contestants)
            for contestant in [*contestants[shift:], *contestants[:shift]]:
                done = call(contestant, measures[contestant.name], point, k)
                if index >= contestant.first:
                    calls[contestant.name][turn] = done
        rounds += 1
    return calls


def findings(calls: dict[str, dict[int, Call]], k: int, versus: str | None) -> Iterator[Finding]:
    """Every contestant's products, errors and misses; and, with a rival of all, its time in those of the rival."""
    for name, turns in calls.items():
        mine = list(turns.values())
        limit = PRODUCTS.get((str(k), name))
        yield Finding(name, "calls", [float(len(mine))])
        yield Finding(name, "products", [float(one.products) for one in mine], limit and Target(limit))
        yield Finding(name, "mean products", [mean(one.products for one in mine)])
        yield Finding(name, "error", [one.error for one in mine])
        missed = [one for one in mine if not one.error <= MISSED]
        yield Finding(name, "missed", [float(len(missed))])
        yield Finding(name, "unflagged", [float(sum(not one.flagged for one in missed))])
        yield Finding(name, "wrong", [float(sum(not one.error <= WRONG for one in mine))])
        if versus is None:
            continue
        yield Finding(name, "CPU ms", [1e3 * one.seconds for one in mine])
        if name != versus:
            ratios = [one.seconds / calls[versus][turn].seconds for turn, one in turns.items()]
            wanted = RATIOS[k].get(name)
            yield Finding(name, f"/ {versus}", ratios, wanted and Target(wanted, at_most=False))
            total = sum(one.seconds for one in mine) / sum(calls[versus][turn].seconds for turn in turns)
            yield Finding(name, f"total / {versus}", [total])


def own_products(problem: Problem, k: int, deadline: float) -> Iterator[Finding]:
    """This package alone, from many random starts."""
    yield from findings(compete(ours(), checkpoints(problem), k, deadline), k, None)


def comparison(problem: Problem, k: int, steps: Sequence[int] | None, deadline: float) -> Iterator[Finding]:
    """All contestants; at some of the steps only, where one call takes seconds."""
    points = [point for point in checkpoints(problem) if steps is None or point.step in steps]
    yield from findings(compete([*ours(), *rivals(k)], points, k, deadline), k, COLD)


# --- one product on the CPU -------------------------------------------------------------------------------------------


def one_product(problem: Problem, deadline: float) -> Iterator[Finding]:
    """Ways to one product of a plain module at initialisation."""
    model = plain_network(make_network(problem.kind, problem.width, problem.depth, problem.shape))
    images, classes = images_of(problem.data)
    batch = images[: problem.batch], classes[: problem.batch]
    yield from in_gradients({GRADIENT: gradient(model, batch)} | products(model, batch), {"ours": 2.1}, deadline)


def product_of_a_run(case: transformers.RunCase, deadline: float) -> Iterator[Finding]:
    """Products as a run makes them, in gradients of the same code, and in those of a training step."""
    ways, within = transformers.ways(case)
    yield from in_gradients(ways, {transformers.PRODUCT: 2.5}, deadline, (GRADIENT, transformers.IN_TRAINING), within)


def in_gradients(
    ways: Mapping[str, Way],
    limits: Mapping[str, float],
    deadline: float,
    units: Sequence[str] = (GRADIENT,),
    within: Mapping[str, Context] = MappingProxyType({}),
) -> Iterator[Finding]:
    """CPU seconds of all ways, in turns; a ratio is taken within a turn.

    Args:
        ways: name -> what is timed.
        limits: name -> how many of the first unit it should take at most.
        deadline: of time.monotonic; one turn is made in any case.
        units: names of the ways, gradients, in which the others are stated.
        within: name -> what holds around all of its calls in a turn; entering it is not timed.
    """

    def seconds(name: str, repeats: int) -> float:
        with within.get(name, nullcontext)():
            return seconds_of(ways[name], repeats)

    repeats = {name: max(1, round(TURN_SECONDS / max(seconds(name, 1), 1e-4))) for name in ways}
    turns: list[dict[str, float]] = []
    names, started = list(ways), time.monotonic()
    while not turns or (now := time.monotonic()) + (now - started) / len(turns) < deadline:
        shift = len(turns) % len(names)
        turns.append({name: seconds(name, repeats[name]) for name in [*names[shift:], *names[:shift]]})
    for name in names:
        yield Finding(name, "CPU ms", [1e3 * turn[name] for turn in turns])
        for unit in units if name not in units else ():
            target = Target(limits[name]) if name in limits and unit == units[0] else None
            yield Finding(name, f"/ {unit}", [turn[name] / turn[unit] for turn in turns], target)


def seconds_of(way: Way, repeats: int) -> float:
    """CPU seconds of one call, after one that is not timed: memory is taken, kernels are chosen."""
    way()
    started = time.process_time()
    for _ in range(repeats):
        way()
    return (time.process_time() - started) / repeats


# --- the tables -------------------------------------------------------------------------------------------------------


def cpu_tables(smoke: bool) -> Iterator[Table]:
    """One product, of plain modules and of transformers in runs; our own calls from many starts; everybody's calls."""

    def size(problem: Problem) -> Problem:
        small = "digits" if problem.data == "digits" else 8
        return replace(problem, width=4, batch=16, data=small, steps=(0, 3)) if smoke else problem

    for problem, weight in (
        (Problem("convnet", 16, 32), 0.5),
        (Problem("convnet", 64, 32), 1.2),
        (Problem("mlp", 512, 32, depth=3), 0.4),
    ):
        shown = size(problem)
        yield Table("one product", shown.title, partial(one_product, shown), weight)
    for case, weight in transformers.cases(smoke):
        yield Table("one product, transformer", case.title, partial(product_of_a_run, case), weight)
    for k in (1, 10):
        for problem in (replace(DIGITS, width=16), replace(DIGITS, width=16, steps=OFTEN), DIGITS, SYNTHETIC):
            shown = size(problem)
            case = f"{shown.title}, {len(shown.steps)} checkpoints to step {shown.steps[-1]}"
            yield Table(f"products, top {k}", case, partial(own_products, shown, k), 0.5)
    for k, weight in ((1, 1.5), (10, 5.0)):
        for problem in (DIGITS, SYNTHETIC):
            shown = size(problem)
            measure = partial(comparison, shown, k, TEN_AT if k == 10 and not smoke else None)
            yield Table(f"beside others, top {k}", shown.title, measure, weight)


def gpu_tables(device: torch.device, smoke: bool) -> Iterator[Table]:
    """Ensembles of ConvNets: wide, middling, and tiny but many."""

    def measure(case: gpu.EnsembleCase, deadline: float) -> Iterator[Finding]:
        yield from gpu.findings(case, gpu.compete(case, device, deadline), device.type == "cuda")

    for width, members, target, weight in ((512, 8, 1.5, 5.0), (128, 8, None, 1.0), (32, 32, None, 1.0)):
        case = gpu.EnsembleCase(width, members, target=target)
        case = replace(case, width=4 + width // 128, members=2, batch=8, side=8) if smoke else case
        yield Table("ensemble", case.title, partial(measure, case), weight)


# --- the command ------------------------------------------------------------------------------------------------------


def lines_of(rows: Sequence[Row], verdicts: bool) -> Iterator[str]:
    """Markdown lines of one table: a line a contestant, a column a unit; extremes in brackets."""
    cells: dict[str, dict[str, str]] = {}
    limits: dict[str, list[Row]] = {}
    for row in rows:
        digits = DIGITS_OF.get(row.unit, ".0f" if row.turns == 1 and row.value == int(row.value) else ".2f")
        value, least, most = (format(number, digits) for number in (row.value, row.least, row.most))
        cells.setdefault(row.what, {})[row.unit] = value if least == most else f"{value} ({least} to {most})"
        limits.setdefault(row.what, []).extend([row] if row.target is not None else [])
    columns = list(dict.fromkeys(row.unit for row in rows))
    yield f"| {max(row.turns for row in rows)} turns | {' | '.join(columns)} | target | verdict |"
    yield "|" + "---|" * (len(columns) + 3)
    for name, mine in cells.items():
        wanted = "; ".join(f"{'<=' if row.at_most else '>='} {row.target:g} {row.unit}" for row in limits[name])
        judged = "; ".join(row.verdict for row in limits[name]) if verdicts else ""
        yield f"| {name} | {' | '.join(mine.get(column, '') for column in columns)} | {wanted} | {judged} |"


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reporting.add_options(parser, seconds=540.0)
    parser.add_argument("--search", action="store_true", help="on a GPU, cuDNN tries its algorithms")
    return reporting.read_options(parser, arguments)


def choose(options: argparse.Namespace) -> tuple[torch.device, list[Table]]:
    """Where to measure, and what."""
    on_gpu = not options.smoke and (options.device == "cuda" or options.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if on_gpu else "cpu")
    tables = [] if on_gpu else list(cpu_tables(options.smoke))
    if on_gpu or options.smoke:
        tables += gpu_tables(device, options.smoke)
    tables = list({table.name: table for table in tables}.values())  # tiny sizes make some of them equal
    return device, [table for table in tables if options.only in table.name]


def main(arguments: Sequence[str] | None = None) -> None:
    started = time.monotonic()
    options = read_options(arguments)
    prepare_process(threads=1)  # threads and allocator as every stage has them
    torch.backends.cudnn.benchmark = options.search
    device, tables = choose(options)
    facts, rows = reporting.facts_of(device, options), []
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    for library in absent() if device.type == "cpu" else []:
        print(f"{library}: not installed, left out")
    for index, table in enumerate(tables):
        now, weights = time.monotonic(), [left.weight for left in tables[index:]]
        left = started + options.seconds - now
        if left <= 0:
            print(f"\n{table.name}: not measured, the time is over", flush=True)
            continue
        share = 0.0 if options.smoke else left * weights[0] / sum(weights)  # without time: one turn
        found = [row_of(table, one) for one in table.measure(now + share)]
        rows += found
        print(f"\n{table.name}\n")
        print("\n".join(lines_of(found, not options.smoke)), flush=True)
        if options.out is not None:
            reporting.write(options.out, facts, rows)


if __name__ == "__main__":
    main()
