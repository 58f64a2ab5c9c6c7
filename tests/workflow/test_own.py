"""A user's own model through the workflow: the numbers of transfer_check, and nothing computed twice."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from featurespeed.data.prepare import obtain
from featurespeed.data.registry import DATASETS
from featurespeed.data.store import load_dataset, write_dataset
from featurespeed.own.kept import read_losses
from featurespeed.own.transfer import TransferCheck, transfer_check
from featurespeed.pipeline.asked import read_changes, read_config
from featurespeed.pipeline.stage import Task
from tests.conftest import REPOSITORY, load_script, run_snakemake
from tests.workflow.test_workflow import assert_one_line, jobs_of

HELPERS = """\
import torch


def task(examples, classes):
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(examples, 12, generator=stream, dtype=torch.float64)
    return inputs, (inputs @ torch.randn(12, classes, generator=stream, dtype=torch.float64)).argmax(1)
"""
MODEL = """\
from torch import nn

import helpers


def make_model(width):
    return nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 3)).double()


def make_data():
    return helpers.task(128, 3)
"""
BLOCK = {
    "factory": "my_model.py:make_model",
    "sizes": [6, 12],
    "learning_rates": [0.003, 0.01, 0.03, 0.1],
    "loss": "cross_entropy",
    "optimizer": {"name": "AdamW", "weight_decay": 0.05},
    "data": "my_model.py:make_data",
    "batch_size": 32,
    "steps": 30,
    "seeds": 2,
    "sharpness_at": 2,
    "side_by_side": False,  # which of both is faster may differ from run to run
}
Run = subprocess.CompletedProcess[str]


def write_files(folder: Path, **changes: object) -> Path:
    """A user's folder; the file of settings in it."""
    folder.mkdir(exist_ok=True)
    (folder / "my_model.py").write_text(MODEL)
    (folder / "helpers.py").write_text(HELPERS)
    settings = folder / "my.yaml"
    settings.write_text(yaml.safe_dump({"scale": "smoke", "own": BLOCK | changes}))
    return settings


@pytest.fixture(scope="session")
def own_run(run_once: Callable[..., tuple[Path, Run]]) -> Path:
    """The folder of a finished run of the target."""

    def run(folder: Path) -> Run:
        file = write_files(folder / "mine")
        return run_snakemake("--cores", "2", "own", "--configfile", str(file), directory=folder / "run")

    folder, done = run_once("own", run)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "run"


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> TransferCheck:
    """The same settings in one call."""
    folder = tmp_path_factory.mktemp("alone")
    write_files(folder)
    sys.path.insert(0, str(folder))
    try:
        location = importlib.util.spec_from_file_location("model_of_own_run", folder / "my_model.py")
        mine = importlib.util.module_from_spec(location)
        location.loader.exec_module(mine)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("helpers", None)

    def optimizer(model: torch.nn.Module, rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)

    return transfer_check(
        mine.make_model, BLOCK["sizes"], BLOCK["learning_rates"], torch.nn.functional.cross_entropy, mine.make_data(),
        optimizer, BLOCK["steps"], BLOCK["seeds"], batch_size=BLOCK["batch_size"], sharpness_at=2, side_by_side=False,
        progress=False,
    )  # fmt: skip


def planned(directory: Path, settings: Path) -> dict[str, int]:
    """Rule -> number of jobs that would run."""
    done = run_snakemake("-n", "own", "--configfile", str(settings), directory=directory)
    assert done.returncode == 0, done.stderr
    return jobs_of(done)


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "table"), [("transfer", "table"), ("best", "best"), ("sharpness", "sharpness")])
def test_tables_are_those_of_transfer_check(own_run, check, file, table):
    written = own_run / f"results/smoke/own/{file}.csv"
    found, expected = pd.read_csv(written), getattr(check, table)
    assert len(found) == len(expected) == {"transfer": 16, "best": 4, "sharpness": 4}[file]
    pd.testing.assert_frame_equal(found, expected.astype(found.dtypes), check_exact=True)


def test_losses_verdict_and_figure_are_there(own_run, check):
    folder = own_run / "results/smoke/own"
    losses = np.stack([read_losses(folder / f"training/size_{size}.npz") for size in BLOCK["sizes"]], axis=1)
    assert np.array_equal(losses, check.losses)
    assert (folder / "verdict.txt").read_text() == f"{check}\n"
    assert json.loads((folder / "rate.json").read_text()) == {"learning_rate": check.common_rate}
    assert all((folder / f"transfer.{kind}").stat().st_size > 1000 for kind in ("pdf", "svg", "png"))
    assert not (own_run / "results/smoke/checkpoints").exists()
    assert {path.name for path in own_run.iterdir()} <= {"results", "logs", ".snakemake"}


def test_a_folder_that_has_moved_or_was_touched_changes_nothing(own_run, tmp_path):
    assert planned(own_run, write_files(tmp_path / "elsewhere")) == {}


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        ({"sizes": [6, 12, 24]}, {"own_train": 1, "own_rate": 1, "own": 1}),
        ({"sharpness_at": 3}, {"own_sharpness": 2, "own": 1}),
        ({"steps": 31}, {"own_train": 2, "own_rate": 1, "own": 1}),
        ({"data": "digits", "sizes": [6, 12, 24]}, {"data": 1, "own_train": 3, "own_rate": 1, "own": 1}),
    ],
)
def test_a_changed_setting_reruns_what_it_touches(own_run, tmp_path, changes, jobs):
    """Sharpness is planned once the best rate is known anew."""
    assert planned(own_run, write_files(tmp_path / "mine", **changes)) == jobs


def test_an_edit_of_a_users_module_reruns_and_that_of_another_file_does_not(own_run, tmp_path):
    file = write_files(tmp_path / "mine")
    (file.parent / "notes.py").write_text("import helpers\n")
    assert planned(own_run, file) == {}
    (file.parent / "helpers.py").write_text(HELPERS.replace("manual_seed(0)", "manual_seed(1)"))
    assert planned(own_run, file) == {"own_train": 2, "own_rate": 1, "own": 1}


def test_everything_else_does_not_depend_on_the_block(tmp_path):
    file = write_files(tmp_path / "mine")
    arguments = ("-n", "--config", "scale=smoke")
    without = run_snakemake(*arguments, directory=tmp_path / "run")
    with_block = run_snakemake(*arguments, "--configfile", str(file), directory=tmp_path / "run")
    assert jobs_of(with_block) == jobs_of(without) and "own" not in jobs_of(without)


@pytest.mark.slow
def test_a_size_more_trains_and_measures_that_size_alone(run_once, tmp_path):
    """Unless the best rate is another one with it."""
    first = run_snakemake(
        "--cores", "2", "own", "--configfile", str(write_files(tmp_path / "a")), directory=tmp_path / "r"
    )
    assert first.returncode == 0, first.stderr[-3000:]
    before = {path: path.read_bytes() for path in (tmp_path / "r/results/smoke/own").rglob("size_*")}
    more = write_files(tmp_path / "b", sizes=[6, 12, 24])
    second = run_snakemake("--cores", "2", "own", "--configfile", str(more), directory=tmp_path / "r")
    assert second.returncode == 0, second.stderr[-3000:]
    log = second.stdout + second.stderr
    rates = {path.name.split("_rate_")[1] for path in (tmp_path / "r/results/smoke/own/sharpness").iterdir()}
    assert len(rates) == 1 and log.count("rule own_sharpness:") == log.count("rule own_train:") == 1
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(pd.read_csv(tmp_path / "r/results/smoke/own/transfer.csv")) == 24


# --- faults -----------------------------------------------------------------------------------------------------------


def test_without_the_block_the_target_says_how_to_write_one(snakemake):
    for target in ("own", "results/smoke/own/transfer.csv"):
        done = snakemake("-n", target, "--config", "scale=smoke")
        assert_one_line(done, ["target = 'own'", "no block 'own'", "factory, sizes", "docs/running.md"])


def test_a_fault_in_the_block_ends_the_run_before_any_job(snakemake, tmp_path):
    file = write_files(tmp_path / "mine", factory="my_model.py:make_modle")
    assert_one_line(snakemake("--cores", "1", "own", "--configfile", str(file)), ["own.factory", "mean 'make_model'"])
    assert not (tmp_path / "logs").exists()


# --- one job ----------------------------------------------------------------------------------------------------------


def params_of(settings: Path, size: int, folder: Path) -> dict:
    """Parameters of the job that trains a size."""
    own = read_config(REPOSITORY, read_changes([settings])).own
    kept = {"files": own.files, "code": "", "checkpoints": str(folder / "checkpoints/job")}
    return {"spec": own.training(size), "paths": own.paths} | kept


def train(settings: Path, folder: Path, **inputs: Path) -> np.ndarray:
    """Losses of the smallest size, trained in this process."""
    out = folder / "losses.npz"
    load_script("own_train").main(Task(inputs, {"losses": out}, params_of(settings, 6, folder)))
    return read_losses(out)


FAULTS = {
    "model": (
        "nn.Linear(width, 3)",
        "nn.Linear(width + 1, 3)",
        r"model: called with a tensor \[32, 12\].*mat1 and mat2 shapes",
    ),
    "factory": (
        "return nn.Seq",
        "return [][width] or nn.Seq",
        r"make_model\(6\): it raised IndexError.*my_model\.py:7",
    ),
    "data": ("helpers.task(128, 3)", "helpers.task(0, [])", r"data: it raised TypeError.*\(my_model\.py:11\)"),
    "batch": ("helpers.task(128, 3)", "helpers.task(8, 3)", "batch_size: 32, allowed: 1 to 8"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_users_code_is_told_in_one_line(tmp_path, fault):
    from featurespeed.errors import UserError

    file = write_files(tmp_path / "mine")
    right, wrong, words = FAULTS[fault]
    (file.parent / "my_model.py").write_text(MODEL.replace(right, wrong))
    with pytest.raises(UserError, match=words) as raised:
        train(file, tmp_path)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set as the rule `data` writes it."""
    folder = tmp_path_factory.mktemp("digits")
    arrays, facts = obtain(DATASETS["digits"], folder / "downloads", None, None)
    return write_dataset(folder, DATASETS["digits"], arrays, facts)


IMAGES = """\
from torch import nn


def make_model(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
"""


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_a_data_set_of_the_project_is_that_of_its_arrays(tmp_path, digits, loss):
    file = write_files(tmp_path / "mine", data="digits", loss=loss, batch_size=128, optimizer="SGD", steps=5)
    (file.parent / "my_model.py").write_text(IMAGES)
    found = train(file, tmp_path, data=digits)
    arrays = load_dataset(digits)
    inputs = torch.from_numpy(arrays.x_train).double() / 16
    inputs = (inputs - inputs.mean((0, 2, 3), keepdim=True)).float()
    targets = torch.from_numpy(arrays.y_train).long()
    if loss == "mse":
        targets = torch.nn.functional.one_hot(targets, 10).float()
    namespace: dict = {}
    exec(IMAGES, namespace)
    losses = {"cross_entropy": torch.nn.functional.cross_entropy, "mse": torch.nn.functional.mse_loss}
    alone = transfer_check(
        namespace["make_model"], [6, 7], BLOCK["learning_rates"], losses[loss], (inputs, targets), torch.optim.SGD,
        5, 2, batch_size=128, sharpness_at=0, side_by_side=False, progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(found, alone.losses[:, 0], rtol=1e-5)


TEXT = """\
from torch import nn


def make_model(width):
    return nn.Sequential(nn.Embedding(200, width), nn.Linear(width, 200))
"""


def test_every_token_of_a_text_counts(tmp_path):
    arrays, facts = obtain(DATASETS["pydoc"], tmp_path / "downloads", None, None)
    npz = write_dataset(tmp_path, DATASETS["pydoc"], arrays, facts)
    data = {"name": "pydoc", "length": 16, "tokens": 2000}
    file = write_files(tmp_path / "mine", data=data, optimizer="Adam", batch_size=16, steps=5)
    (file.parent / "my_model.py").write_text(TEXT)
    losses = train(file, tmp_path, data=npz)
    assert np.isfinite(losses).all() and (abs(losses[..., 0] - np.log(200)) < 0.5).all()
    assert (losses[:, -1, -1] < losses[:, -1, 0] - 0.5).all()


@pytest.mark.slow
def test_a_killed_job_goes_on_to_the_same_numbers(tmp_path):
    file = write_files(tmp_path / "mine", steps=1500, seeds=2)
    params, out = tmp_path / "params.json", tmp_path / "losses.npz"
    params.write_text(json.dumps(params_of(file, 6, tmp_path)))
    script = str(REPOSITORY / "scripts/own_train.py")
    command = [sys.executable, script, "--params", str(params), "--output", f"losses={out}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "FEATURESPEED_CHECKPOINT_MINUTES": "0.002"}

    def started() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    first, kept = started(), tmp_path / "checkpoints/job"
    deadline = time.monotonic() + 120
    while not (
        list(kept.glob("*/*.npy")) and list(kept.glob("*/*.running.pt"))
    ):  # one network done, another on its way
        assert first.poll() is None and time.monotonic() < deadline, first.stderr.read()
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not out.exists()
    second = started()
    told = second.communicate(timeout=300)[1]
    assert second.returncode == 0, told
    assert "(from the folder)" in told
    resumed = read_losses(out)
    assert not kept.exists()
    assert np.array_equal(resumed, train(file, tmp_path))
