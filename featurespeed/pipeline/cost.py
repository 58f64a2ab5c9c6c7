"""What the training jobs of a scale cost, and what is measured along them: FLOP, hours on one H200, GB of disk.

    python -m featurespeed.pipeline.cost --scale paper             # the table, as Markdown
    python -m featurespeed.pipeline.cost --write docs/cost.md      # the tables of that page, made anew

Everything follows from the validated settings. Operations are counted layer by layer
(:mod:`featurespeed.training.operations`); what turns them into hours are the measured speeds below. Nothing diverges
here, so these are upper bounds of what the settings can cost.
"""

from __future__ import annotations

import argparse
import heapq
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurespeed.models.plan import is_strided_chain, plan_network
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import OptimizerName
from featurespeed.pipeline.asked import read_changes, read_config
from featurespeed.pipeline.config import BaseConfig, ConfigError
from featurespeed.pipeline.registry import ARTEFACTS
from featurespeed.training.curvature_operations import PRODUCT, gradient_flop_of, gradients_of
from featurespeed.training.curvature_spec import SharpnessSpec
from featurespeed.training.operations import gradient_flop, layers_of, layers_of_job
from featurespeed.training.spec import TrainingSpec

REPOSITORY = Path(__file__).resolve().parents[2]
GPUS = (1, 8, 64)  # clusters in the table

# --- measured: one NVIDIA H200, 3x32x32 (docs/benchmarks.md) ----------------------------------------------------------

MEASURED_SHAPE, MEASURED_CLASSES = (3, 32, 32), 10
#: Whether a network is a strided chain -> that of the measurements.
MEASURED_MODELS = {
    False: ModelSpec(kind="convnet", depth=2),
    True: ModelSpec(kind="simple_convnet", depth=2, convention="authors"),
}
#: Width -> images a second of all members together, training in TF32 with the CUDA graph: of 8, of chains of 40 and
#: without the preparation of their batches.
TRAINING_TF32 = {
    False: {32: 803_527, 128: 218_850, 512: 36_056},
    True: {64: 6_994_536, 128: 4_060_270, 256: 2_077_922, 512: 950_613, 1024: 382_661},
}
#: Width -> images times members, products, seconds of one warm measurement of the sharpness in TF32; of chains of a
#: product by itself.
WARM_TF32 = {
    False: {32: (32 * 128, 12, 0.11), 128: (8 * 128, 11, 0.16), 512: (8 * 128, 11, 1.08)},
    True: {64: (15 * 1024, 1, 0.0029), 512: (15 * 1024, 1, 0.0232), 1024: (15 * 1024, 1, 0.0566)},
}
#: The same of a cold one in float32. Chains, not measured in float32, are taken to be as fast.
COLD_FLOAT32 = {32: (32 * 128, 15, 0.21), 128: (8 * 128, 14, 0.54), 512: (8 * 128, 14, 4.14)}
#: Seconds of a step of one small network, batch 128: no step takes less.
SHORTEST_STEP = 128 / 353_404

# --- assumed ----------------------------------------------------------------------------------------------------------

#: Hours until a job computes: imports, data, choice of kernels, recording of graphs.
JOB_START = 30 / 3600
#: Size of a table: of the empty file, and of a row; every row stands in the table of its job and in an artefact's.
TABLE_BYTES, ROW_BYTES, ROW_COPIES = 13_000, 25, 2


# --- speeds -----------------------------------------------------------------------------------------------------------


def _measured_gradient(chain: bool, width: int) -> int:
    return gradient_flop(layers_of(MEASURED_MODELS[chain], width, MEASURED_SHAPE, MEASURED_CLASSES))


def _speeds(chain: bool, calls: Mapping[int, tuple[int, int, float]]) -> dict[int, float]:
    """Width -> FLOP a second of products."""
    return {
        width: images * products * PRODUCT * _measured_gradient(chain, width) / seconds
        for width, (images, products, seconds) in calls.items()
    }


#: Whether a network is a strided chain -> what is computed, in TF32 or not -> width -> FLOP a second. Training in
#: float32 goes as fast as its products.
SPEEDS: dict[bool, dict[tuple[str, bool], dict[int, float]]] = {
    chain: {
        ("training", True): {width: images * _measured_gradient(chain, width) for width, images in trained.items()},
        ("products", True): _speeds(chain, WARM_TF32[chain]),
        **dict.fromkeys([("training", False), ("products", False)], _speeds(False, COLD_FLOAT32)),
    }
    for chain, trained in TRAINING_TF32.items()
}


def speed(points: Mapping[int, float], width: int) -> float:
    """FLOP a second at a width: a power law between measured widths and below them, constant above them."""
    widths = sorted(points)
    if width >= widths[-1]:
        return points[widths[-1]]
    right = next(index for index in range(1, len(widths)) if width < widths[index])
    low, high = widths[right - 1], widths[right]
    exponent = math.log(points[high] / points[low]) / math.log(high / low)
    return points[low] * (width / low) ** exponent


def hours(flop: float, what: str, tf32: bool, run: TrainingSpec) -> float:
    """Hours on one H200 for the networks of a job."""
    chain = is_strided_chain(plan_network(run.model, run.width, run.data.shape, classes=1))
    return flop / speed(SPEEDS[chain][what, tf32], run.width) / 3600


# --- jobs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One job of the workflow: what it costs, and the job whose weights it reads, if any."""

    name: str
    flop: float
    hours: float
    bytes: float
    after: str | None = None


def training_job(run: TrainingSpec, kept_rates: Sequence[float] | None = None) -> Job:
    """Training of all networks of a job, with the weights at the probe steps of those at kept rates, None is all."""
    layers, members = layers_of_job(run), len(run.members)
    flop = run.steps * (run.batch_size or run.data.available) * members * gradient_flop(layers)
    least = run.steps * SHORTEST_STEP / 3600
    adaptive = run.optimizer.name != OptimizerName.SGD  # the second moments are kept beside the weights, or all of them
    beside = adaptive * (1 + run.keep_state) + (run.keep_state and run.optimizer.momentum > 0)
    kept = sum(kept_rates is None or rate in kept_rates for rate, _ in run.members)
    numbers = sum(layer.weights for layer in layers) * (1 + beside) * len(run.probe_steps) * kept
    rows = members * (-(-run.steps // run.record_every) + 2)
    size = numbers * {"float32": 4, "float64": 8}[run.dtype] + _table_bytes(rows)
    time = max(hours(flop, "training", run.tf32 != "off", run), least)
    return Job(run.run, flop, JOB_START + time, size)


def measuring_job(spec: SharpnessSpec) -> Job:
    """Curvature along one training job."""
    run, one = spec.training, gradient_flop_of(spec)
    rounded, full = gradients_of(spec)
    time = hours(one * rounded, "products", run.tf32 == "all", run) + hours(one * full, "products", False, run)
    rows = len(spec.members) * len(spec.steps) * len(spec.curvature.quantities) * spec.curvature.eigenvalues
    return Job(spec.name, one * (rounded + full), JOB_START + time, _table_bytes(rows), after=run.run)


def _table_bytes(rows: int) -> float:
    return TABLE_BYTES + ROW_COPIES * ROW_BYTES * rows


def jobs_of(config: BaseConfig, artefact: str | None = None) -> list[Job]:
    """The jobs of one artefact or of all, each once, training first."""
    kept = config.kept_rates()
    trained = [training_job(run, kept[name]) for name, run in config.training_runs(artefact).items()]
    return trained + [measuring_job(spec) for spec in config.sharpness_runs(artefact).values()]


def makespan(jobs: Sequence[Job], gpus: int) -> float:
    """Hours until the last job ends on so many GPUs: a free one takes the job that, with what waits for it, is longest.

    A measurement starts when its training has ended.
    """
    names = {job.name for job in jobs}
    waiting: dict[str, list[Job]] = {}
    for job in (job for job in jobs if job.after in names):
        waiting.setdefault(job.after, []).append(job)

    def entry(job: Job) -> tuple[float, str, Job]:
        return -job.hours - max((other.hours for other in waiting.get(job.name, [])), default=0.0), job.name, job

    ready = [entry(job) for job in jobs if job.after not in names]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < gpus:
            job = heapq.heappop(ready)[2]
            heapq.heappush(running, (now + job.hours, job.name))
        now, ended = heapq.heappop(running)
        for job in waiting.get(ended, []):
            heapq.heappush(ready, entry(job))
    return now


# --- the table --------------------------------------------------------------------------------------------------------

HEADER = ("artefact", "jobs", "PFLOP, training", "PFLOP, measuring", "H200 hours", "of these shared", "longest job, h")


def markdown(config: BaseConfig) -> str:
    """The table of a scale: one row an artefact, and their sum, in which a shared job counts once."""
    costs = {name: jobs_of(config, name) for name in ARTEFACTS if config.training_runs(name)}
    users: dict[str, int] = {}
    for job in (job for jobs in costs.values() for job in jobs):
        users[job.name] = users.get(job.name, 0) + 1
    shared = {name for name, count in users.items() if count > 1}
    header = [*HEADER, *(f"h on {gpus} GPUs" for gpus in GPUS[1:]), "GB"]
    rows = [[f"`{name}`", *_cells(jobs, shared)] for name, jobs in costs.items()]
    rows.append(["all, each job once", *_cells(jobs_of(config), shared)])
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(jobs: Sequence[Job], shared: set[str]) -> list[str]:
    trained = sum(job.flop for job in jobs if job.after is None)
    measured = sum(job.flop for job in jobs if job.after is not None)
    numbers = [
        trained / 1e15,
        measured / 1e15,
        sum(job.hours for job in jobs),
        sum(job.hours for job in jobs if job.name in shared),
        max(job.hours for job in jobs),
        *(makespan(jobs, gpus) for gpus in GPUS[1:]),
        sum(job.bytes for job in jobs) / 1e9,
    ]
    return [str(len(jobs)), *map(_number, numbers)]


def _number(value: float) -> str:
    if 0 < value < 0.01:
        return "< 0.01"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


# --- command line -----------------------------------------------------------------------------------------------------


class CostError(ValueError):
    """A wrong argument; one line."""


def config_of(scale: str, base: Path = REPOSITORY, configfile: Path | None = None) -> BaseConfig:
    """The validated configuration of a scale, with a user's own file on top; faults raise one line."""
    return read_config(base, {**read_changes([configfile] if configfile else []), "scale": scale})


def rewrite(text: str, base: Path = REPOSITORY) -> str:
    """A page with the table between each pair of markers ``<!-- cost: SCALE -->`` and ``<!-- end -->`` made anew."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{markdown(config_of(match[2], base))}{match[3]}"

    made, count = re.subn(r"(<!-- cost: (\w+) -->)\n.*?(<!-- end -->)", table, text, flags=re.DOTALL)
    if not count:
        raise CostError("cost: no marker <!-- cost: SCALE --> with its <!-- end --> in the page")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of a scale, or make the tables of a page anew."""
    parser = argparse.ArgumentParser(prog="python -m featurespeed.pipeline.cost", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", help="a file of workflow/scales, without its ending")
    parser.add_argument("--configfile", type=Path, help="settings on top of it, as for the workflow")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a page with markers, whose tables are made anew")
    arguments = parser.parse_args(argv)
    try:
        if arguments.write:
            page = arguments.write.read_text(encoding="utf-8")
            arguments.write.write_text(rewrite(page), encoding="utf-8")
        elif arguments.scale:
            print(markdown(config_of(arguments.scale, configfile=arguments.configfile)), end="")
        else:
            raise CostError("cost: --scale or --write is needed")
    except (ConfigError, CostError) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cost: --write {error.filename}: cannot be read or written ({error.strerror})")


if __name__ == "__main__":
    main()
