"""The training job as a script: its table, its weights, and what it does when it is killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featurespeed.records import read_table
from featurespeed.training.spec import TrainingSpec
from tests.conftest import REPOSITORY, load_script

JOB = {
    "run": "kill_test",
    "data": {"name": "digits", "downscale": 2, "crop": 1, "flip": True},
    "model": {"kind": "convnet", "depth": 2},
    "width": 6,
    "parameterization": "MUP",
    "optimizer": {"name": "sgd", "momentum": 0.5},
    "learning_rates": [0.3, 1.0, 1e9],
    "seeds": 2,
    "batch_size": 32,
    "steps": 300,
    "probe_steps": [0, 100, 300],
    "seed": 5,
}
KILLS, FOLDERS = 4, 5


@pytest.fixture(scope="module")
def digits(smoke_run) -> Path:
    """The data set as the workflow has prepared it."""
    return smoke_run.directory / "resources/data/digits/digits.npz"


def command(folder: Path, digits: Path, job: dict = JOB) -> list[str]:
    spec = folder / "spec.json"
    spec.write_text(json.dumps(job))
    return [
        sys.executable, str(REPOSITORY / "scripts/train.py"),
        "--spec", str(spec), "--out", str(folder / "train.parquet"),
        "--input", f"data={digits}", "--output", f"weights={folder / 'weights'}",
    ]  # fmt: skip


def test_where_weights_go_is_asked_for_before_training(tmp_path, digits):
    *given, _, _ = command(tmp_path, digits)
    done = subprocess.run(
        given, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert (done.returncode, done.stderr) == (1, "train.py: --output weights=PATH is needed\n")
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]  # no checkpoint of a training


def start(folder: Path, digits: Path, job: dict = JOB) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True, parents=True)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "FEATURESPEED_CHECKPOINT_MINUTES": "0.0005"}
    return subprocess.Popen(
        command(folder, digits, job), cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(folder: Path, digits: Path, job: dict = JOB) -> None:
    done = start(folder, digits, job)
    _, messages = done.communicate(timeout=300)
    assert done.returncode == 0, messages


def content(folder: Path) -> dict[str, bytes]:
    """Every table and every file of weights."""
    files = [*folder.glob("*.parquet"), *(folder / "weights").rglob("*.safetensors")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stamp(path: Path) -> int:
    """When a file was written last; 0 without one."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory, digits) -> Path:
    """The job, run once without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder, digits)
    return folder


def test_the_table_has_losses_scores_and_what_became_of_each_member(whole):
    table = read_table(whole / "train.parquet")
    trained = table[table["quantity"] == "training_loss"]
    good = trained[trained["learning_rate"] < 2]
    assert (good.groupby(["learning_rate", "seed"])["step"].max() == JOB["steps"]).all()
    assert len(good) == 4 * JOB["steps"] / 10  # record_every
    first, last = (good[good["step"] == step]["value"].mean() for step in (10, JOB["steps"]))
    assert last < 0.9 * first
    accuracy = table[table["quantity"] == "test_accuracy"]
    assert set(accuracy["learning_rate"]) == {0.3, 1.0} and accuracy["value"].mean() > 0.2
    frozen = table[table["quantity"].isin(["diverged_step", "dead_step"])]
    assert sorted(frozen["seed"]) == [0, 1] and (frozen["learning_rate"] == 1e9).all()
    assert (frozen["value"] == frozen["step"]).all() and (frozen["step"] < 20).all()


def test_weights_are_kept_at_the_probe_steps_of_members_that_still_train(whole):
    found = {path.parent.name: set() for path in (whole / "weights").rglob("*.safetensors")}
    for path in (whole / "weights").rglob("*.safetensors"):
        found[path.parent.name].add(int(path.stem.removeprefix("step_")))
    trains_on, frozen = {0, 100, 300}, {0}
    expected = [trains_on, trains_on, frozen] * 2
    assert found == {f"member_{index:04d}": steps for index, steps in enumerate(expected)}


def test_checkpoints_are_removed_at_the_end(whole):
    assert not (whole / "checkpoints").exists()


def test_mean_losses_cover_every_step_once():
    records = load_script("train").mean_losses
    losses = np.array([4.0, 2.0, 3.0, 1.0, 5.0, np.nan, np.nan])
    assert list(records(losses, 2)) == [(2, 3.0), (4, 2.0), (5, 5.0)]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(FOLDERS))
def test_a_job_killed_at_random_moments_goes_on_to_the_same_bytes(tmp_path, digits, whole, number):
    moments = random.Random(number)
    clock = time.monotonic()
    finish(tmp_path / "timed", digits)
    seconds = time.monotonic() - clock
    state, resumed = tmp_path / "killed/checkpoints/kill_test/state.pt", 0
    for kill in range(KILLS):
        before = stamp(state)
        run = start(tmp_path / "killed", digits)
        if kill == 0:  # anywhere, the imports included
            time.sleep(moments.uniform(0.1, 0.95) * seconds)
        else:  # while it trains
            while run.poll() is None and stamp(state) == before:
                time.sleep(0.005)
            time.sleep(moments.uniform(0.0, 0.3) * seconds)
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        resumed += state.exists()
    finish(tmp_path / "killed", digits)
    assert resumed, "no kill left a checkpoint: the moments test nothing"
    assert content(tmp_path / "killed") == content(whole)
    assert not list((tmp_path / "killed").rglob(".part-*"))


def test_a_job_waits_for_one_that_is_still_at_work(tmp_path, digits, whole):
    first, second = start(tmp_path, digits), start(tmp_path, digits)
    assert [run.communicate(timeout=300)[1] and run.returncode for run in (first, second)] == [0, 0]
    assert content(tmp_path) == content(whole)


def test_a_full_disk_is_told_before_any_work(tmp_path, digits):
    too_large = JOB | {"width": 2000, "probe_steps": list(range(300)), "learning_rates": [10.0**-k for k in range(40)]}
    run = start(tmp_path, digits, too_large | {"seeds": 40})
    _, messages = run.communicate(timeout=120)
    assert run.returncode == 1 and "GiB are needed" in messages and "are free in" in messages
    assert "Traceback" not in messages and not (tmp_path / "train.parquet").exists()


def test_an_altered_data_file_is_told_in_one_line(tmp_path, digits):
    copy = tmp_path / "data/digits.npz"
    copy.parent.mkdir()
    copy.write_bytes(digits.read_bytes()[:-2000])
    copy.with_name("facts.json").write_bytes(digits.with_name("facts.json").read_bytes())
    run = start(tmp_path / "job", copy)
    _, messages = run.communicate(timeout=120)
    assert run.returncode == 1 and "digits.npz" in messages and "Traceback" not in messages


def test_a_full_batch_survives_the_way_to_the_job():
    spec = TrainingSpec.model_validate(JOB | {"batch_size": None, "data": {"name": "digits"}})
    assert TrainingSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec
