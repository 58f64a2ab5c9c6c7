"""What the five panels of Figures 1 and 2 (arXiv:2311.18718) cost, beside the cost of their random numbers alone.

    python benchmarks/feature_speed.py            # one repeat, about a minute
    python benchmarks/feature_speed.py --repeats 3 --wide
    python benchmarks/feature_speed.py --smoke    # tiny sizes: a check that every row works, not a measurement

Rows, each measured in a process of its own on one thread, repeats taken in turns:

- dense: dense float32 networks with the paper's draws, exact tangent, weights of a draw shared by all branch scales;
  finite: the same with the paper's finite step;
- sampler: exact-law samples with the paper's draws;
- wide (``--wide``): one branch scale of Figure 1b at a million units.

Beside each stands the floor, the time in which torch draws as many float32 normals on one thread into memory that is
already there. Settings come from config.yaml; the targets are CPU-seconds for two cores, and machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PANEL_STAGES = ("init_bfa", "sensitivity")  # of Figures 1 and 2 of the first paper
WIDE = {"width": 1_000_000, "depths": range(10, 201, 10)}
WIDE_SMOKE = {"width": 2000, "depths": range(10, 31, 10)}
FLOOR_BLOCK = 2**24  # normals a call: 64 MiB, larger than any cache


@dataclass(frozen=True)
class Row:
    """One thing to measure: how it is called, what is limited, and by which target (None: reported only)."""

    job: str
    title: str
    value: str
    unit: str
    target: float | None = None


ROWS = (
    Row("dense", "dense float32, exact tangent", "cpu_seconds", "CPU s", 45.0),
    Row("dense", "dense float32, exact tangent: peak memory", "peak_gb", "GB"),
    Row("finite", "dense float32, finite step instead", "cpu_seconds", "CPU s"),
    Row("sampler", "exact-law sampler", "cpu_seconds", "CPU s", 6.0),
    Row("sampler", "exact-law sampler: peak memory", "peak_gb", "GB"),
)
WIDE_ROWS = (
    Row("wide", "sampler, one beta of Fig. 1b at a million units, 20 depths to 200", "wall_seconds", "s", 60.0),
    Row("wide", "sampler at a million units: peak memory", "peak_gb", "GB", 2.0),
)


# --- the jobs: each returns the number of normals that its random part draws ------------------------------------------


def load_specs(smoke: bool) -> dict[str, Any]:
    """Artefact -> spec of the five panels, at scale laptop (the paper's sizes) or smoke."""
    from featurespeed.pipeline.asked import read_config
    from featurespeed.pipeline.registry import ARTEFACTS

    config = read_config(ROOT, {"scale": "smoke" if smoke else "laptop"})
    return {name: config.block(name) for name, known in ARTEFACTS.items() if known.stage in PANEL_STAGES}


def panel_of(artefact: str, spec: Any) -> Any:
    """The panel as its own stage script describes it."""
    from featurespeed.pipeline.registry import ARTEFACTS

    location = spec_from_file_location(f"stage_{artefact}", ROOT / f"scripts/{ARTEFACTS[artefact].stage}.py")
    module = module_from_spec(location)
    location.loader.exec_module(module)
    return module.panel(spec)


def dense(smoke: bool, estimator: str = "jvp") -> int:
    """All dense panels with one estimator."""
    from featurespeed.papers.feature_speed.panels import dense_panel

    normals = 0
    for artefact, spec in load_specs(smoke).items():
        for _ in dense_panel(spec, panel_of(artefact, spec), estimators=[estimator]):
            pass
        weights = [(depth - 2) * spec.width**2 + (spec.input_dim + 1) * spec.width for depth in spec.depths]
        normals += spec.draws * sum(weights)
    return normals


def sampler(smoke: bool) -> int:
    """All sampled panels with the paper's number of draws, at the paper's depths."""
    from featurespeed.papers.feature_speed.panels import sampled_panel

    normals = 0
    for artefact, spec in load_specs(smoke).items():
        panel = panel_of(artefact, spec)
        # model_copy does not validate: one seed, the paper's number in Fig. 1b, gives a dot without an interval
        spec = spec.model_copy(update={"sampler_seeds": spec.draws, "sampler_depths": spec.depths})
        for _ in sampled_panel(spec, panel):
            pass
        networks = [depth for depth in spec.depths for _ in range(spec.draws * len(panel.series(depth)))]
        normals += sum(map(normals_of_a_sample, networks)) * spec.width
    return normals


def wide(smoke: bool) -> int:
    """One branch scale, 1/sqrt(L), of Figure 1b at a width that no dense network reaches."""
    from featurespeed.probes.sampler import Network, sample_networks
    from featurespeed.randomness import generator

    sizes = WIDE_SMOKE if smoke else WIDE
    networks = [Network(depth, depth**-0.5, readout_std=1 / sizes["width"]) for depth in sizes["depths"]]
    samples = sample_networks(networks, sizes["width"], generator(0, "wide"))
    assert all(sample.angle[-1].isfinite() for sample in samples)
    return sum(map(normals_of_a_sample, sizes["depths"])) * sizes["width"]


def normals_of_a_sample(depth: int) -> int:
    """Normals a unit of width: ``L-1`` forward, the readout and ``L-2`` backward, ``L-2`` tangent."""
    return 3 * depth - 4


JOBS: dict[str, Callable[[bool], int]] = {
    "dense": dense,
    "finite": lambda smoke: dense(smoke, "finite step"),
    "sampler": sampler,
    "wide": wide,
}


# --- measuring --------------------------------------------------------------------------------------------------------


def floor_seconds(normals: int) -> float:
    """CPU seconds in which torch draws ``normals`` float32 normals on one thread, into one block of memory."""
    import torch

    block = torch.empty(min(normals, FLOOR_BLOCK)).normal_()
    start = time.process_time()
    for drawn in range(0, normals, len(block)):
        block[: normals - drawn].normal_()
    return time.process_time() - start


def run_job(name: str, smoke: bool) -> dict[str, float]:
    """One job in this process: its seconds, its peak memory, and the floor measured right after it."""
    import resource

    import torch

    from featurespeed.pipeline.stage import prepare_process

    prepare_process(threads=1)  # threads and allocator as every stage has them
    torch.empty(1000).normal_()
    module = "probes.sampler" if name == "wide" else "papers.feature_speed.panels"
    import_module(f"featurespeed.{module}")  # imports do not count
    wall, cpu = time.perf_counter(), time.process_time()
    normals = JOBS[name](smoke)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    floor = floor_seconds(normals)
    return {"cpu_seconds": cpu, "wall_seconds": wall, "peak_gb": peak, "floor": floor, "normals": normals}


def measure(name: str, smoke: bool) -> dict[str, float]:
    """:func:`run_job` in a fresh process on one thread."""
    command = [sys.executable, __file__, "--job", name, *(["--smoke"] if smoke else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def table(rows: Sequence[Row], results: dict[str, list[dict[str, float]]], smoke: bool) -> Iterator[str]:
    """Markdown lines: the median over the repeats, the floor of the same runs, and the verdict (none for smoke)."""
    yield "| what | value | floor | ratio | target | verdict |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        value = median(result[row.value] for result in results[row.job])
        floor, ratio = "", ""
        if row.value.endswith("seconds"):
            floors = [result["floor"] for result in results[row.job]]
            floor = f"{median(floors):.2f} CPU s"
            ratio = f"{median(r[row.value] / r['floor'] for r in results[row.job]):.2f}"
        target = "" if row.target is None else f"<= {row.target:g} {row.unit}"
        verdict = "" if row.target is None or smoke else ("met" if value <= row.target else "missed")
        yield f"| {row.title} | {value:.2f} {row.unit} | {floor} | {ratio} | {target} | {verdict} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="repeats of every job; medians are printed")
    parser.add_argument("--wide", action="store_true", help="the million-unit row as well: up to a minute and 2 GB")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes and every row, no verdicts")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"argument --repeats: {options.repeats}, allowed: 1 or more")
    if options.job:
        print(json.dumps(run_job(options.job, options.smoke)))
        return
    rows = ROWS + (WIDE_ROWS if options.wide or options.smoke else ())
    results: dict[str, list[dict[str, float]]] = {row.job: [] for row in rows}
    for repeat in range(options.repeats):
        for job in results:
            print(f"repeat {repeat + 1}/{options.repeats}: {job}", file=sys.stderr, flush=True)
            results[job].append(measure(job, options.smoke))
    print("\n".join(table(rows, results, options.smoke)))
    print()
    for job, runs in results.items():
        seconds = ", ".join(f"{run['cpu_seconds']:.2f}" for run in runs)
        print(f"{job}: {runs[0]['normals']:,.0f} normals; CPU s of each repeat: {seconds}")


if __name__ == "__main__":
    main()
