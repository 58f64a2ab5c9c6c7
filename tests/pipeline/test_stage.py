"""Scripts in their three ways of running, and their faults: the adapters around pure functions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from featurespeed.errors import UserError
from featurespeed.pipeline import stage
from featurespeed.pipeline.stage import Counter, Task, progress
from featurespeed.records import read_table
from tests import forked
from tests.conftest import REPOSITORY
from tests.pipeline.test_config import of_scale

STAGE = '''
"""A stage that tells what it was given."""
import sys
import torch
from pydantic import BaseModel
from featurespeed.records import frame
from featurespeed.pipeline.stage import run_stage

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
from featurespeed.pipeline.stage import run_task

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


def complaint(script: Path | str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A script that ends before it computes anything: forked, for it does no more than import and complain."""
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return forked.run(
        {"script": str(script)}, *arguments, libraries=forked.SCIENTIFIC, cwd=cwd, environment=environment
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
    done = complaint("stage.py", "--spec", "spec.json", "--out", "bad.parquet", cwd=scripts)
    assert done.returncode != 0 and "widht" in done.stderr


BAD_SPECS = {
    "repeated key": ("spec.yaml", b"width: 7\nseed: 1\nwidth: 8\n", "spec.yaml: line 3: width: written twice"),
    "Latin-1": ("spec.yaml", b"width: 7 # caf\xe9\n", "spec.yaml: line 1: byte 0xe9 is not UTF-8"),
    "no YAML": ("spec.json", b'{"width": 7', "spec.json: line 2: not YAML: "),
    "nothing": ("spec.yaml", b"", "settings = None: must be keys with values"),
    "a list": ("spec.yaml", b"- width\n", "settings = ['width']: must be keys with values"),
    "missing key": ("spec.yaml", b"value: 2\n", "width: Field required"),
    "wrong type": ("spec.yaml", b"width: wide\n", "width = 'wide': Input should be a valid integer"),
    "misspelt key": ("spec.yaml", b"widht: 7\n", "widht = 7: Extra inputs are not permitted"),
    "absent": ("spec.yaml", None, "spec.yaml: cannot be read (No such file or directory)"),
    "absent table": ("spec.parquet", None, "spec.parquet: cannot be read (No such file or directory)"),
}


@pytest.mark.parametrize("fault", BAD_SPECS)
def test_a_fault_in_a_spec_is_told_in_one_line(scripts, fault):
    name, content, words = BAD_SPECS[fault]
    if content is not None:
        (scripts / name).write_bytes(content)
    done = complaint("stage.py", "--spec", name, "--out", "bad.parquet", cwd=scripts)
    assert done.returncode == 1 and not (scripts / "bad.parquet").exists()
    assert done.stderr.startswith(f"stage.py: {words}") and len(done.stderr.splitlines()) == 1, done.stderr


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
    done = complaint("task.py", "--input", "a.txt", cwd=scripts)
    assert done.returncode == 2 and "expected NAME=PATH, got 'a.txt'" in done.stderr


BAD_TASKS = {
    "no input": (("--input", "last=c.txt", *TASK_ARGUMENTS[-2:]), "task.py: --input parts=PATH is needed"),
    "no other input": ((*TASK_ARGUMENTS[:4], *TASK_ARGUMENTS[-2:]), "task.py: --input last=PATH is needed"),
    "no output": (TASK_ARGUMENTS[:-2], "task.py: --output joined=PATH is needed"),
    "no file": (("--input", "parts=absent.txt"), "task.py: --input parts=absent.txt: no such file or folder"),
    "no parameters": (None, "task.py: --params with between is needed"),
    "repeated parameter": ("between: a\nbetween: b\n", "task.py: params.yaml: line 2: between: written twice"),
    "parameters that are none": ("- between\n", "task.py: --params params.yaml: must be keys with values"),
}


@pytest.mark.parametrize("fault", BAD_TASKS)
def test_what_a_task_lacks_is_told_in_one_line(scripts, fault):
    given, line = BAD_TASKS[fault]
    arguments = given if isinstance(given, tuple) else TASK_ARGUMENTS
    (scripts / "params.yaml").write_text(given if isinstance(given, str) else "between: '+'")
    params = () if given is None else ("--params", "params.yaml")
    done = complaint("task.py", *arguments, *params, cwd=scripts)
    assert done.returncode == 1 and done.stderr.startswith(line) and len(done.stderr.splitlines()) == 1, done.stderr
    assert not [path for path in scripts.iterdir() if "j.txt" in path.name]


@pytest.mark.parametrize(
    ("script", "needed"),
    [
        ("figure", "--input table=PATH"),
        ("claims", "--params with scale"),
        ("page", "--input claims=PATH"),
        ("data", "--params with dataset"),
        ("notebook", "--input source=PATH"),
        ("keep_reference", "--params with results"),
    ],
)
def test_every_task_says_what_it_needs(tmp_path, script, needed):
    (tmp_path / "params.yaml").write_text("artefact: fsf_fig1a\n")
    done = complaint(REPOSITORY / f"scripts/{script}.py", "--params", "params.yaml", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == f"{script}.py: {needed} is needed\n", done.stderr


@pytest.mark.parametrize(
    ("script", "artefact", "needed"),
    [
        ("gather", "sc_fig04", r"--input curvature=FOLDER/depth_mup_convnet_\w+\.parquet"),
        ("gather_descent", "beos_fig1", r"--input runs=FOLDER/mlp_\w+\.parquet"),
        ("along_training", "fsf_training", r"--input data=FOLDER/digits\.npz"),
        ("coordinate_check", "sc_fig28", r"--input data=FOLDER/digits\.npz"),
        ("parameterizations", "sc_table1", r"--input data=FOLDER/digits\.npz"),
        ("sharpness_methods", "sc_sharpness_methods", "--input data=PATH"),
        ("taylor_coefficients", "beos_fig6", "--input data=PATH"),
    ],
)
def test_every_stage_that_reads_files_says_what_it_needs(tmp_path, script, artefact, needed):
    """With settings alone, such as those of its own table."""
    (tmp_path / "spec.json").write_text(json.dumps(of_scale("smoke").params(artefact)))
    done = complaint(REPOSITORY / f"scripts/{script}.py", "--spec", "spec.json", "--out", "a.parquet", cwd=tmp_path)
    assert done.returncode == 1 and re.fullmatch(f"{script}.py: {needed} is needed\n", done.stderr), done.stderr
    assert not (tmp_path / "a.parquet").exists()


def test_files_by_name_are_those_of_the_jobs(tmp_path):
    paths = [tmp_path / "runs/a_1.5.parquet", tmp_path / "weights/a_1.5"]
    task = Task({"runs": paths[0], "weights": [paths[1]]}, {})
    assert task.by_name("runs") == {"a_1.5": paths[0]} and task.by_name("weights", suffix="") == {"a_1.5": paths[1]}
    with pytest.raises(UserError, match="^--input weights=FOLDER/b is needed$"):
        task.by_name("weights", suffix="")["b"]
    with pytest.raises(UserError, match=r"^--input others=FOLDER/a\.parquet is needed$"):
        task.by_name("others")["a"]


def test_progress_passes_all_items_and_is_quiet_in_a_log(capsys, monkeypatch):
    assert list(progress(range(5), "short")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(stage, "LOG_SECONDS", 0.0)
    assert list(progress(iter("ab"), "work", total=2)) == ["a", "b"]
    assert capsys.readouterr().err == "work: 1/2 after 0 s\nwork: 2/2 after 0 s\n"


def test_a_counter_takes_back_what_is_done_again(capsys, monkeypatch):
    monkeypatch.setattr(stage, "LOG_SECONDS", 0.0)
    with Counter("work", 5) as counter:
        for more in (3, -3, 2, 3):
            counter.count(more)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["3/5", "0/5", "2/5", "5/5"]
