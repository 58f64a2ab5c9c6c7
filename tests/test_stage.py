"""Scripts in their three ways of running, faults, locks, devices: the adapters around pure functions."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
import yaml

from featurespeed import device, stage
from featurespeed.device import acquire_device
from featurespeed.locks import try_lock
from featurespeed.records import read_table
from featurespeed.stage import progress

REPOSITORY = Path(__file__).resolve().parents[1]

STAGE = '''
"""A stage that tells what it was given."""
import sys
import torch
from pydantic import BaseModel
from featurespeed.records import frame
from featurespeed.stage import run_stage

class Spec(BaseModel, frozen=True, extra="forbid"):
    width: int
    value: float = 1.0
    seed: int = 0

def main(spec):
    print("width", spec.width, "threads", torch.get_num_threads(), file=sys.stderr)
    value = 1 / spec.value if spec.value else float("nan")
    row = {"branch_scale": 1.0, "width": spec.width, "depth": 3, "input_dim": 1, "output_dim": 1, "layer": 2}
    return frame([{**row, "seed": spec.seed, "estimator": "jvp", "quantity": "bfa", "value": value}])

if __name__ == "__main__":
    run_stage(main, Spec)
'''

TASK = '''
"""A task that joins its inputs."""
from featurespeed.stage import run_task

def main(task):
    parts = [path.read_text() for path in task.inputs["parts"]]
    task.outputs["joined"].write_text(task.params["between"].join(parts) + task.inputs["last"].read_text())
    if task.params.get("fail"):
        raise RuntimeError("half done")

if __name__ == "__main__":
    run_task(main)
'''

SNAKEFILE = """
rule stage:
    output: "out/table.parquet", "out/table.run.json"
    params: spec={"width": 5, "seed": 9}
    log: "logs/stage.log"
    threads: 1
    script: "stage.py"

rule task:
    input: parts=["a.txt", "b.txt"], last="c.txt"
    output: joined="out/joined.txt"
    params: between="-", unused=1
    log: "logs/task.log"
    script: "task.py"
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    for name, text in (("stage.py", STAGE), ("task.py", TASK), ("Snakefile", SNAKEFILE)):
        (tmp_path / name).write_text(text)
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name.upper())
    return tmp_path


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_stage_on_the_command_line(scripts):
    (scripts / "spec.yaml").write_text(yaml.safe_dump({"width": 7, "seed": 2}))
    done = run("stage.py", "--spec", "spec.yaml", "--out", "new/table.parquet", cwd=scripts)
    assert done.returncode == 0, done.stderr
    assert "width 7 threads 1" in done.stderr
    table = read_table(scripts / "new/table.parquet")
    assert table["width"].tolist() == [7]
    provenance = table.attrs["provenance"]
    assert provenance["spec"] == {"width": 7, "value": 1.0, "seed": 2}
    assert provenance["script"] == "stage.py" and provenance["seeds"] == {"seed": 2}
    facts = json.loads((scripts / "new/table.run.json").read_text())
    assert facts["device"] in ("cpu", torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
    assert facts["threads"] == 1 and facts["wall_seconds"] >= 0 and facts["started"].endswith("+00:00")


def test_a_stage_repeats_a_table_from_the_table_itself_byte_for_byte(scripts):
    (scripts / "spec.json").write_text('{"width": 7, "value": 3}')
    assert run("stage.py", "--spec", "spec.json", "--out", "a.parquet", cwd=scripts).returncode == 0
    assert run("stage.py", "--spec", "a.parquet", "--out", "b.parquet", cwd=scripts).returncode == 0
    assert (scripts / "a.parquet").read_bytes() == (scripts / "b.parquet").read_bytes()


def test_stage_and_task_under_snakemake(scripts):
    done = run("-m", "snakemake", "--cores", 1, "out/table.parquet", "out/joined.txt", cwd=scripts)
    assert done.returncode == 0, done.stderr
    assert read_table(scripts / "out/table.parquet")["seed"].tolist() == [9]
    assert "width 5 threads 1" in (scripts / "logs/stage.log").read_text()
    assert json.loads((scripts / "out/table.run.json").read_text())["threads"] == 1
    assert (scripts / "out/joined.txt").read_text() == "A-BC"


def test_stage_on_import_does_nothing(scripts):
    done = run("-c", "import stage; print(stage.main.__name__)", cwd=scripts)
    assert (done.returncode, done.stdout) == (0, "main\n")


def test_a_result_that_is_not_finite_ends_in_one_line_with_its_spec(scripts):
    (scripts / "spec.json").write_text('{"width": 7, "value": 0, "seed": 41}')
    done = run("stage.py", "--spec", "spec.json", "--out", "bad.parquet", cwd=scripts)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert line.startswith("stage.py: not finite: 1 of 1 values") and '"seed": 41' in line
    assert line.endswith('spec: {"seed":41,"value":0.0,"width":7}')
    assert not list(scripts.glob("*.parquet")) and not list(scripts.glob("*.run.json"))


def test_a_wrong_spec_names_the_key(scripts):
    (scripts / "spec.json").write_text('{"widht": 7}')
    done = run("stage.py", "--spec", "spec.json", "--out", "bad.parquet", cwd=scripts)
    assert done.returncode != 0 and "widht" in done.stderr


TASK_ARGUMENTS = (
    "--input",
    "parts=a.txt",
    "--input",
    "parts=b.txt",
    "--input",
    "last=c.txt",
    "--output",
    "joined=j.txt",
)


def test_task_on_the_command_line(scripts):
    (scripts / "params.yaml").write_text("between: '+'")
    done = run("task.py", *TASK_ARGUMENTS, "--params", "params.yaml", cwd=scripts)
    assert done.returncode == 0, done.stderr
    assert (scripts / "j.txt").read_text() == "A+BC"


def test_a_task_that_fails_leaves_no_output(scripts):
    (scripts / "params.yaml").write_text("{between: '+', fail: true}")
    done = run("task.py", *TASK_ARGUMENTS, "--params", "params.yaml", cwd=scripts)
    assert done.returncode != 0 and "half done" in done.stderr
    assert not [path for path in scripts.iterdir() if "j.txt" in path.name]


def test_task_arguments_are_pairs(scripts):
    done = run("task.py", "--input", "a.txt", cwd=scripts)
    assert done.returncode == 2 and "expected NAME=PATH, got 'a.txt'" in done.stderr


def test_progress_passes_all_items_and_is_quiet_in_a_log(capsys, monkeypatch):
    assert list(progress(range(5), "short")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(stage, "LOG_SECONDS", 0.0)
    assert list(progress(iter("ab"), "work", total=2)) == ["a", "b"]
    assert "work: 1/2 after 0 s" in capsys.readouterr().err


# --- locks ------------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from featurespeed.locks import clear_stale_locks
print(clear_stale_locks(Path(sys.argv[1])), flush=True)
time.sleep(float(sys.argv[2]))
"""


def start_run(state: Path, seconds: float) -> tuple[subprocess.Popen[str], bool]:
    """A process that behaves like a main process of the workflow; True if it has removed stale lock files."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state), str(seconds)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip() == "True"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "locks").mkdir()
    return tmp_path


def leave_lock(state: Path) -> Path:
    (state / "locks").mkdir(exist_ok=True)
    lock = state / "locks" / "0.output.lock"
    lock.write_text("results/x\n")
    return lock


def test_locks_of_a_killed_run_are_removed(state):
    killed, _ = start_run(state, 60)
    lock = leave_lock(state)
    killed.kill()
    killed.wait()
    after, removed = start_run(state, 0)
    after.wait()
    assert removed and not lock.exists()


def test_locks_stay_while_any_run_lives(state):
    first, _ = start_run(state, 60)
    lock = leave_lock(state)
    second, removed = start_run(state, 60)
    assert not removed and lock.exists()
    first.kill()
    first.wait()
    third, removed = start_run(state, 0)  # the second run still lives
    third.wait()
    assert not removed and lock.exists()
    second.kill()
    second.wait()


@pytest.mark.parametrize("recorded", ["some-other-host", ""])
def test_locks_stay_when_the_last_run_may_live_on_another_host(state, recorded):
    (state / "main.lock").write_text(recorded)
    lock = leave_lock(state)
    process, removed = start_run(state, 0)
    process.wait()
    assert not removed and lock.exists()


# --- devices ----------------------------------------------------------------------------------------------------------


def test_without_cuda_the_cpu_is_the_device(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with acquire_device(tmp_path) as chosen:
        assert chosen == torch.device("cpu")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def two_gpus(monkeypatch):
    class Properties:
        def __init__(self, index: int) -> None:
            self.uuid = f"GPU-{index}"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", Properties)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(device, "WAIT_SECONDS", 0.01)


def test_jobs_side_by_side_get_different_gpus_and_give_them_back(two_gpus, tmp_path):
    with acquire_device(tmp_path) as first:
        with acquire_device(tmp_path) as second:
            assert {first.index, second.index} == {0, 1}
        with acquire_device(tmp_path) as third:
            assert third == second


def test_jobs_share_a_gpu_if_they_may(two_gpus, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATURESPEED_JOBS_PER_GPU", "2")
    with ExitStack() as held:
        taken = [held.enter_context(acquire_device(tmp_path)).index for _ in range(4)]
    assert taken == [0, 1, 0, 1]


def test_a_job_waits_for_a_gpu(two_gpus, tmp_path):
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from featurespeed.locks import try_lock
        held = [try_lock(Path(sys.argv[1]) / f"GPU-{index}.0.lock") for index in range(2)]
        print("held", flush=True)
        time.sleep(0.5)
        """
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    assert try_lock(tmp_path / "GPU-0.0.lock") is None
    start = time.monotonic()
    with acquire_device(tmp_path) as chosen:
        assert chosen.type == "cuda"
    assert time.monotonic() - start > 0.1
    other.wait()
