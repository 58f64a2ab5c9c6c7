"""Adapters that turn a pure function into a script which runs under Snakemake, from the command line and on import.

A stage computes one long table from one spec; a task turns named input files into named output files:

    if __name__ == "__main__":
        run_stage(main, InitSpec)      # main(spec: InitSpec) -> pd.DataFrame
        run_stage(main, TrainingSpec)  # main(spec: TrainingSpec, task: Task) -> pd.DataFrame, with files besides
        run_task(main)                 # main(task: Task) -> None

This is the only module that knows Snakemake's `snakemake` object. On import a script does nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import inspect
import json
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featurespeed.errors import UserError
from featurespeed.machine.files import atomic_path
from featurespeed.pipeline.provenance import canonical_json, source_commit, table_metadata
from featurespeed.records import read_table, write_table

# mallopt(3) parameters. Without them glibc gives large arrays back to the kernel after each operation and takes them
# again, zeroed page by page, for the next one: more than half of the time of a dense forward and backward pass.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LOG_SECONDS = 30.0  # at most one progress line in so many seconds when nobody watches


@dataclass(frozen=True)
class Task:
    """Named files in, named files out; outputs appear under their names only when the task has ended well."""

    inputs: Mapping[str, Path | list[Path]]
    outputs: Mapping[str, Path]
    params: Mapping[str, Any] = field(default_factory=dict)
    at_end: ExitStack = field(default_factory=ExitStack)  # unwound once the table of a stage is written

    def files(self, name: str) -> list[Path]:
        """The files of one input, whether it is one, several or none."""
        found = self.inputs.get(name, [])
        return list(found) if isinstance(found, list | tuple) else [Path(found)]

    def by_name(self, name: str, suffix: str = ".parquet") -> Mapping[str, Path]:
        """The files of one input by their names without the suffix, by which a stage knows those of its jobs.

        To ask for one that is not among them raises UserError, which tells how to give it.
        """
        found = {path.name.removesuffix(suffix): path for path in self.files(name)}
        return _Named(f"--input {name}=FOLDER/{{}}{suffix}", found)


def run_stage(main: Callable[..., Any], spec_type: Any, argv: Sequence[str] | None = None) -> None:
    """Run `main(spec) -> DataFrame` and write its table, with provenance inside and a sidecar `.run.json` beside.

    `spec_type` is a pydantic model, or a function that gives it for some settings. A `main` that takes two arguments
    gets its other files as a :class:`Task`; what it puts into `outputs` it writes itself. A result that is not finite
    ends the process with status 1 and one line that holds the spec; the table is then not written. So does any other
    failure that its text explains in one line: data that are missing or altered, a full disk, too little memory.
    """
    job = _snakemake_job()
    if job is None:
        arguments = _stage_arguments(argv)
        with _one_line():
            threads, stages = arguments.threads, [_stage_of_arguments(arguments)]
    else:
        threads, stages = job.threads, _stages_of_job(job)
    prepare_process(threads, job)
    for place, stage in enumerate(stages):
        if place:
            log_into(job, place)
        with _one_line():
            spec = _spec(spec_type, stage.settings)
        _run(main, spec, stage, threads)


@dataclass(frozen=True)
class _Stage:
    """One table to compute, and where it goes."""

    settings: Any
    task: Task
    out: Path
    sidecar: Path


def _run(main: Callable[..., Any], spec: Any, stage: _Stage, threads: int) -> None:
    started, clock, cpu, script = datetime.now(UTC), time.perf_counter(), time.process_time(), _script()
    with_files = len(inspect.signature(main).parameters) > 1
    try:
        with _one_line():
            table = main(spec, stage.task) if with_files else main(spec)
            write_table(table, stage.out, table_metadata(spec, script))
    except FloatingPointError as error:
        sys.exit(f"{script.name}: not finite: {error}; spec: {canonical_json(spec.model_dump(mode='json'))}")
    facts = _run_facts(started, time.perf_counter() - clock, time.process_time() - cpu, threads)
    with atomic_path(stage.sidecar) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    stage.task.at_end.close()


@contextmanager
def _one_line() -> Iterator[None]:
    """What a user can put right ends the process with status 1 and one line."""
    try:
        yield
    except UserError as error:
        sys.exit(f"{_script().name}: {error}")


def _spec(spec_type: Any, settings: Any) -> Any:
    """Settings as the type that they are of; UserError for the first fault in them."""
    if not isinstance(settings, Mapping):
        raise UserError(f"settings = {settings!r}: must be keys with values, as in a block of config.yaml")
    try:
        model = spec_type if isinstance(spec_type, type) else spec_type(settings)
        return model.model_validate(settings)
    except ValueError as error:  # of pydantic, or of who looks for the type
        raise UserError(_first_fault(error)) from None


def _first_fault(error: ValueError) -> str:
    """One fault that pydantic has found, or the text of another error."""
    if not hasattr(error, "errors"):
        return str(error)
    faults = error.errors()  # a misspelt key is an unknown one and a missing one: the first says more
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    key, value = ".".join(map(str, fault["loc"])), f" = {fault['input']!r}"
    message = fault["msg"].removeprefix("Value error, ")
    shown = fault["type"] != "missing" and len(value) < 80
    return f"{key}{value if shown else ''}: {message}" if key else message


def run_task(main: Callable[[Task], None], argv: Sequence[str] | None = None) -> None:
    """Run `main(task)` with the rule's named inputs, outputs and parameters, or with those of the command line.

    A rule with the parameter ``together`` (how many) has so many entries under each name, and `main` runs once for each
    of them; what is not a list is the same for all.
    """
    job = _snakemake_job()
    with _one_line():
        tasks, threads = ([_task_from_arguments(argv)], 1) if job is None else (_tasks_of_job(job), job.threads)
    prepare_process(threads, job)
    gc.disable()  # a task is short, and an eighth of the time of drawing goes into looking for circles
    for place, task in enumerate(tasks):
        if place:
            log_into(job, place)
        with ExitStack() as finish:
            parts = {name: finish.enter_context(atomic_path(path)) for name, path in task.outputs.items()}
            with _one_line():
                main(Task(task.inputs, _Named("--output {}=PATH", parts), task.params))


class Counter:
    """How far a task is: a tqdm bar on a terminal, a line every 30 s in a log file; a context manager.

    Args:
        desc: what is counted.
        total: how many there are; None where that is not known.
    """

    def __init__(self, desc: str, total: int | None = None):
        self.desc, self.total, self.done, self._bar = desc, total, 0, None
        self._start = self._last = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=desc, total=total)

    def count(self, more: int = 1) -> None:
        """So many more are done; fewer than none, if they are to be done again."""
        self.done += more
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(more)
        elif now - self._last >= LOG_SECONDS:
            text = (
                f"{self.desc}: {self.done}/{'?' if self.total is None else self.total} after {now - self._start:.0f} s"
            )
            print(text, file=sys.stderr, flush=True)
            self._last = now

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def progress(items: Iterable[Any], desc: str, total: int | None = None) -> Iterator[Any]:
    """Pass `items` through and show how far it is, as :class:`Counter` does."""
    total = len(items) if total is None and hasattr(items, "__len__") else total
    with Counter(desc, total) as counter:
        for item in items:
            yield item
            counter.count()


def _snakemake_job() -> Any | None:
    """The object that Snakemake puts into the script it runs; None on the command line."""
    return getattr(sys.modules["__main__"], "snakemake", None)


def _stages_of_job(job: Any) -> list[_Stage]:
    """What a rule computes: one table, or, if it has ``specs``, one table for each of them, one after the other.

    Named files and parameters of such a rule are then lists, an entry for each, but for what all of them read.
    """
    task = _job_task(job)
    if "specs" not in task.params:
        return [_Stage(job.params.spec, task, Path(job.output[0]), Path(job.output[1]))]
    parts = _parts(task, len(task.params["specs"]))
    settings = task.params["specs"]
    return [
        _Stage(own, part, part.outputs["table"], part.outputs["sidecar"])
        for own, part in zip(settings, parts, strict=True)
    ]


def _tasks_of_job(job: Any) -> list[Task]:
    task = _job_task(job)
    return _parts(task, task.params["together"]) if "together" in task.params else [task]


def _parts(task: Task, count: int) -> list[Task]:
    """One task for each entry of its lists; what is no list, or named in its parameter ``whole``, belongs to all."""
    whole = task.params.get("whole", ())

    def of(place: int, named: Mapping[str, Any]) -> dict[str, Any]:
        shared = {name: value for name, value in named.items() if name in whole or not isinstance(value, list)}
        return shared | {name: value[place] for name, value in named.items() if name not in shared}

    return [Task(of(place, task.inputs), of(place, task.outputs), of(place, task.params)) for place in range(count)]


def _stage_of_arguments(arguments: argparse.Namespace) -> _Stage:
    out = arguments.out
    return _Stage(_read_settings(arguments.spec), _stage_task(arguments), out, out.with_suffix(".run.json"))


def _job_task(job: Any) -> Task:
    """The named files and the parameters of the rule."""
    inputs = {name: _paths(value) for name, value in job.input.items()}
    outputs = {name: _paths(value) for name, value in job.output.items()}
    return Task(inputs, outputs, dict(job.params.items()))


def _script() -> Path:
    return Path(sys.modules["__main__"].__file__)


def log_into(job: Any | None, place: int) -> None:
    """All that is printed from now on goes into the log file of this part of the job, or into its only one."""
    if job is None or place >= len(job.log):
        return
    path = Path(job.log[place])
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout.reconfigure(line_buffering=True)


def prepare_process(threads: int, job: Any | None = None) -> None:
    """One process: its allocator, its number of threads, and the log file of its first job for all that it prints."""
    log_into(job, 0)
    with suppress(OSError, AttributeError):  # another C library: only slower
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 300_000_000)):
            mallopt(parameter, value)
    if "torch" in sys.modules:  # figures, claims and the page run without it
        sys.modules["torch"].set_num_threads(threads)


def _run_facts(started: datetime, wall_seconds: float, cpu_seconds: float, threads: int) -> dict[str, object]:
    """What differs between two equal runs, which therefore must not go into the table."""
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_seconds": round(wall_seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
        "started": started.isoformat(timespec="seconds"),
        "commit": source_commit(),
        "host": socket.gethostname(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "processor": _processor(),
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _processor() -> str:
    """Number of cores and, where Linux tells it, the model of the CPU."""
    model = platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores, {model}"


def _stage_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="settings: .yaml, .json, or a .parquet table's own")
    parser.add_argument("--out", type=Path, required=True, help="table to write, .parquet")
    parser.add_argument("--threads", type=int, default=1)
    _add_files(parser)
    return parser.parse_args(argv)


def _add_files(parser: argparse.ArgumentParser) -> None:
    several = "may be repeated for a list"
    parser.add_argument("--input", type=_pair, action="append", default=[], metavar="NAME=PATH", help=several)
    parser.add_argument("--output", type=_pair, action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--params", type=Path, help="parameters of the task: .yaml or .json")


class _Named(dict):
    """What is given by name; to ask for what is not tells how to give it."""

    def __init__(self, how: str, given: Any) -> None:
        super().__init__(given)
        self._how = how

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self._how.format(name)} is needed")


def _stage_task(arguments: argparse.Namespace) -> Task:
    outputs = _Named("--output {}=PATH", arguments.output)
    return Task(_inputs(arguments), outputs, _params(arguments))


def _inputs(arguments: argparse.Namespace) -> dict[str, Path | list[Path]]:
    inputs: dict[str, Path | list[Path]] = _Named("--input {}=PATH", {})
    for name, path in arguments.input:
        if not path.exists():
            raise UserError(f"--input {name}={path}: no such file or folder")
        known = inputs.get(name)
        inputs[name] = path if known is None else [*(known if isinstance(known, list) else [known]), path]
    return inputs


def _task_from_arguments(argv: Sequence[str] | None) -> Task:
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    _add_files(parser)
    arguments = parser.parse_args(argv)
    params = _Named("--params with {}", _params(arguments))
    return Task(_inputs(arguments), _Named("--output {}=PATH", arguments.output), params)


def _params(arguments: argparse.Namespace) -> Mapping[str, Any]:
    params = (_read_settings(arguments.params) if arguments.params else None) or {}
    if not isinstance(params, Mapping):
        raise UserError(f"--params {arguments.params}: must be keys with values")
    return params


def _pair(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, Path(path)


def _read_settings(path: Path) -> Any:
    """Settings from YAML or JSON, or those that made a stage table."""
    if path.suffix == ".parquet" and path.is_file():
        return read_table(path).attrs["provenance"]["spec"]
    from featurespeed.machine.yaml_files import read_yaml

    return read_yaml(path)


def _paths(value: Any) -> Path | list[Path]:
    return Path(value) if isinstance(value, str) else [Path(item) for item in value]
