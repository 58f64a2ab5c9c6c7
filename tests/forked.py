"""Python processes that are forked from one which has imported heavy libraries: that takes longer than most calls.

A call is what `python -m MODULE`, `python SCRIPT` or `python -c CODE` is, in the same folder and with the same
arguments and environment, but for libraries that are loaded already. None of them is ours: nothing of the repository is
imported before the fork, so that each call sees the sources that it is pointed to, as they are at that moment. Settings
that libraries read when they are imported, such as OMP_NUM_THREADS, are those of the tests.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 900
#: What our scripts import.
SCIENTIFIC = ("torch", "pandas", "pyarrow.parquet", "scipy.stats", "matplotlib.figure", "pydantic", "yaml")
#: What Snakemake imports at its start and while it reads a workflow, and what ours needs for its settings.
WORKFLOW = (
    "snakemake.cli", "snakemake.profiles", "snakemake.storage", "snakemake.assets", "snakemake.report", "nbformat.v4",
    "requests", "pydantic.dataclasses", "pydantic.networks",
)  # fmt: skip


def run(
    what: Mapping[str, str], *arguments: str, libraries: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """One call of `{"module": name}`, `{"script": path}` or `{"code": text}`; both streams as text."""
    process = server(*libraries)
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        request = {
            "what": what, "arguments": arguments, "cwd": str(cwd), "environment": dict(environment),
            "streams": [str(path) for path in streams],
        }  # fmt: skip
        status = _answer(process, json.dumps(request))
        if status is None:  # too late, or the process that forks has ended: neither it nor its child is of use any more
            server.cache_clear()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired([*what.values(), *arguments], SECONDS)
        return subprocess.CompletedProcess(arguments, status, *(path.read_text(errors="replace") for path in streams))


def _answer(process: subprocess.Popen[str], request: str) -> int | None:
    """How the child of a request has ended, if it has in time."""
    try:
        process.stdin.write(request + "\n")
        process.stdin.flush()
        line = process.stdout.readline() if select.select([process.stdout], [], [], SECONDS)[0] else ""
    except BrokenPipeError:
        return None
    return int(line) if line else None


@cache
def server(*libraries: str) -> subprocess.Popen[str]:
    """The process that has imported these libraries and forks; it ends with the one that asks."""
    command = [sys.executable, "-m", "tests.forked", *libraries]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(BrokenPipeError):
        process.communicate()


# --- in the process that forks ----------------------------------------------------------------------------------------


def serve(libraries: Sequence[str]) -> None:
    """Fork for every line of the standard input, and print how the child has ended."""
    for name in libraries:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection of every child copies all that it shares
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return become(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def become(
    what: Mapping[str, str], arguments: list[str], cwd: str, environment: Mapping[str, str], streams: list[str]
) -> None:
    """Be the process that is asked for, from here on."""
    for number, path in enumerate((os.devnull, *streams)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    ((kind, name),) = what.items()
    first = {"module": cwd, "script": os.path.dirname(name), "code": ""}[kind]
    sys.path[:1] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [name if kind == "script" else "-c", *arguments]
    if kind == "module":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif kind == "script":
        runpy.run_path(name, run_name="__main__")
    else:
        exec(compile(name, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    serve(sys.argv[1:])
